package app

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/fault"
)

// maxAdminBody bounds the body of an admin request.
const maxAdminBody = 1 << 20

// adminHandler is the admin API: metrics, ledger, events, dead letters.
func (p *program) adminHandler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /{$}", p.console)
	mux.HandleFunc("GET /console.js", p.console)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]string{"status": "ok"}) })
	mux.HandleFunc("GET /api/ledger", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, p.books.Statement()) })
	mux.HandleFunc("GET /api/documents", p.documents)
	mux.HandleFunc("GET /api/destinations", p.listDestinations)
	mux.HandleFunc("POST /api/destinations/{destination}/pause", p.pauseDestination)
	mux.HandleFunc("POST /api/destinations/{destination}/resume", p.resumeDestination)
	mux.HandleFunc("GET /api/events", p.recentEvents)
	mux.HandleFunc("GET /api/events/tail", p.tailEvents)
	mux.HandleFunc("GET /api/events/{id}", p.traceEvent)
	mux.HandleFunc("GET /api/violations", p.violations)
	p.handleLetters(mux)
	p.handleSpool(mux)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return protect(p.settings.AdminToken, mux)
}

// protect lets in who has the token. Without a token the address is on loopback,
// where any program of this machine may come; a web page in a browser of this
// machine may not: its requests carry a foreign Host (DNS rebinding) or a
// foreign Origin.
func protect(token string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)
		if token != "" {
			given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if !ok || subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
				w.Header().Set("WWW-Authenticate", `Bearer realm="sluice admin"`)
				writeProblem(w, fault.New(fault.Unauthenticated, "the admin token is missing or wrong"))
				return
			}
			next.ServeHTTP(w, r)
			return
		}
		if !localHost(r.Host) {
			writeProblem(w, fault.New(fault.Forbidden, "the admin API is asked for under the name %q, which is not this machine", r.Host))
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
			writeProblem(w, fault.New(fault.Forbidden, "the admin API does not answer pages of other origins"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func localHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	return isLoopback(net.JoinHostPort(host, "0"))
}

func (p *program) documents(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, p.documentStatus())
}

func (p *program) documentStatus() map[string]document.Status {
	return map[string]document.Status{
		"keys":         p.keys.Status(),
		"rules":        p.rules.Status(),
		"destinations": p.destinations.Status(),
		"schemas":      p.schemas.Status(),
	}
}

// statusOf is the HTTP status of a kind of fault on the admin API.
var statusOf = map[fault.Kind]int{
	fault.Invalid:         http.StatusBadRequest,
	fault.TooLarge:        http.StatusRequestEntityTooLarge,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Forbidden:       http.StatusForbidden,
	fault.NotFound:        http.StatusNotFound,
	fault.Conflict:        http.StatusConflict,
	fault.Throttled:       http.StatusTooManyRequests,
	fault.Unavailable:     http.StatusServiceUnavailable,
}

// problem is an RFC 9457 problem document.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// problemOf makes a problem document of an error. The admin API speaks to the
// operator, so that causes are shown.
func problemOf(err error) *problem {
	kind := fault.KindOf(err)
	status, ok := statusOf[kind]
	if !ok {
		status = http.StatusInternalServerError
	}
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: err.Error(), Code: kind.String()}
}

func writeProblem(w http.ResponseWriter, err error) {
	p := problemOf(err)
	if after := fault.RetryAfter(err); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that has gone needs no answer
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // a client that has gone needs no answer
}

// readJSON decodes a body. Only application/json is taken: a page of another
// origin cannot send that without asking first.
func readJSON(r *http.Request, into any) error {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		return fault.New(fault.Invalid, "the body must be application/json")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fault.New(fault.Invalid, "the body is not what this request takes: %v", err)
	}
	return nil
}

// queryInt reads a whole number from the query.
//
//nolint:unparam // that all of them are called limit so far says nothing
func queryInt(r *http.Request, name string, otherwise, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fault.New(fault.Invalid, "%s", fmt.Sprintf("query %s=%q: right would be a number from 1 to %d", name, text, most))
	}
	return n, nil
}
