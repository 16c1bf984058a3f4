package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/edge"
	"github.com/eventsluice/sluice/internal/edge/limit"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
)

const (
	shop = "https://shop.example"
	web  = "wk_web"
)

// gateway is a real one, which must store nothing.
type gateway struct {
	*edge.Edge
	keys   *source.Keys
	intake *ledger.Intake
	ready  []string
	puts   atomic.Int64
}

func (g *gateway) Put(context.Context, *stream.Batch) error { g.puts.Add(1); return nil }

type quarantine struct{ g *gateway }

func (q quarantine) Put(context.Context, []deadletter.Letter) error { q.g.puts.Add(1); return nil }

func document(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

func key(id, fields string) string {
	if fields != "" {
		fields = "," + fields
	}
	return fmt.Sprintf(`{"id":%q,"kind":"write","sha256":%q%s}`, id, source.Hash("wk_"+id), fields)
}

func parse(t *testing.T, doc string) *source.Keys {
	t.Helper()
	keys, err := source.Load([]byte(doc), nil, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func newGateway(t *testing.T, doc string) *gateway {
	t.Helper()
	g := &gateway{intake: new(ledger.Intake)}
	if doc != "" {
		g.keys = parse(t, doc)
	}
	var err error
	g.Edge, err = edge.New(g, quarantine{g}, func() *source.Keys { return g.keys }, g.intake, edge.Config{
		Log: slog.New(slog.DiscardHandler), Ready: func(context.Context) []string { return g.ready },
		AddressRate: limit.Rate{PerSecond: 1000},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// look runs the doctor and returns what it found, by check.
func look(t *testing.T, c Config) map[string]Finding {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	found := map[string]Finding{}
	Run(t.Context(), c, func(f Finding) {
		for _, text := range []string{f.Text, f.Browser, f.Why, f.Change} {
			if strings.Contains(text, c.Key) || strings.Contains(text, "\n") {
				t.Errorf("%s: %q", f.Check, text)
			}
		}
		if f.Level == Failure && (f.Browser == "" && f.Check != "kind of key" || f.Why == "" || f.Change == "" && f.Why != "as above") && f.Text != "the other checks are left out" {
			t.Errorf("a failure that leaves something out: %+v", f)
		}
		name := f.Check
		for i := 2; found[name].Check != ""; i++ {
			name = fmt.Sprintf("%s %d", f.Check, i)
		}
		found[name] = f
	})
	return found
}

// want is a finding: its level, and what its lines hold.
type want struct {
	level Level
	text  []string
}

func says(l Level, text ...string) want { return want{l, text} }

// judge compares findings: those that are not named must be ok.
func judge(t *testing.T, found map[string]Finding, wanted map[string]want) {
	t.Helper()
	for name, f := range found {
		if w, ok := wanted[name]; !ok && f.Level != OK {
			t.Errorf("unexpected: %v %s: %+v", f.Level, name, f)
		} else if ok && f.Level != w.level {
			t.Errorf("%s is %v, want %v: %+v", name, f.Level, w.level, f)
		}
	}
	for name, w := range wanted {
		f, ok := found[name]
		if !ok {
			t.Errorf("%s was not checked", name)
			continue
		}
		all := strings.Join([]string{f.Text, f.Browser, f.Why, f.Change}, "\n")
		for _, text := range w.text {
			if !strings.Contains(all, text) {
				t.Errorf("%s does not say %q:\n%s", name, text, all)
			}
		}
	}
}

// local is what is always said of a gateway on this machine that is asked for
// as from elsewhere.
var local = says(Warning, "is the machine of whoever has opened the page")

func with(m map[string]want, more map[string]want) map[string]want {
	all := map[string]want{"address": local}
	for _, part := range []map[string]want{m, more} {
		for k, v := range part {
			all[k] = v
		}
	}
	return all
}

// failing are all preflights, with what each of them says.
func failing(text ...string) map[string]want {
	all := map[string]want{}
	seen := map[string]int{}
	for _, p := range pages {
		name := "preflight: " + p.name
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s %d", name, seen[name])
		}
		all[name] = says(Failure, text...)
	}
	return all
}

func only(names ...string) func(map[string]want) map[string]want {
	return func(all map[string]want) map[string]want {
		for name := range all {
			if !slices.Contains(names, strings.TrimPrefix(name, "preflight: ")) {
				delete(all, name)
			}
		}
		return all
	}
}

// rewrite changes the header of every answer of h before it is sent.
func rewrite(h http.Handler, change func(r *http.Request, status int, header http.Header)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		change(r, answer.Code, answer.Header())
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

// options answers OPTIONS itself and passes the rest on.
func options(h http.Handler, answer http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			answer(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func TestAGatewayThatIsRight(t *testing.T) {
	t.Parallel()
	g := newGateway(t, document(key("web", `"origins":["`+shop+`"]`)))
	server := httptest.NewServer(g)
	defer server.Close()
	found := look(t, Config{Gateway: server.URL, Origin: shop, Key: web})
	judge(t, found, map[string]want{
		"address": local,
		"key":     says(OK, "nothing was stored"),
	})
	if len(found) < 18 {
		t.Errorf("only %d checks", len(found))
	}
	if n := g.puts.Load(); n != 0 || (ledger.Books{Intake: g.intake}).Statement().Received != 0 {
		t.Errorf("%d writes, %+v", n, (ledger.Books{Intake: g.intake}).Statement())
	}
	// A page of this machine has nothing to be warned of.
	local := newGateway(t, document(key("web", "")))
	other := httptest.NewServer(local)
	defer other.Close()
	judge(t, look(t, Config{Gateway: other.URL + "/", Origin: "http://localhost:3000", Key: web}), nil)
}

func TestWhatIsWrongWithTheKey(t *testing.T) {
	t.Parallel()
	origins := `"origins":["https://other.example"]`
	noOrigin := failing("'Access-Control-Allow-Origin' header", `"`+shop+`"`)
	for _, tt := range []struct {
		name     string
		doc      string // of the gateway
		local    string // at hand; "" for none, "same" for the same
		key      string
		origin   string
		expected map[string]want
	}{
		{
			// Every preflight passes, for another key allows the origin.
			"of another origin, no document", document(key("web", origins), key("open", "")), "", web, shop, with(nil, map[string]want{
				"preflight: sendBeacon of JSON, with cookies": says(Failure, "blocked by CORS policy", "no key that is in force allows the origin"),
				"key": says(Failure, "the key web may not be used from "+shop,
					"Access to fetch at", "/v1/events' from origin '"+shop+"' has been blocked by CORS policy: No 'Access-Control-Allow-Origin' header is present on the requested resource.",
					`add "`+shop+`" to the "origins" of the key "web"`),
			}),
		},
		{
			"of another origin, with the document", document(key("web", origins)), "same", web, shop, with(only()(noOrigin), func() map[string]want {
				all := failing("blocked by CORS policy: Response to preflight request doesn't pass access control check: No 'Access-Control-Allow-Origin' header is present on the requested resource.")
				all["preflight: Segment's Analytics.js"] = says(Failure, "no key that is in force allows the origin "+shop,
					`in keys.json, give the key "web" "origins":["https://other.example","`+shop+`"]`)
				all["key"] = says(Failure, `"origins":["https://other.example","`+shop+`"]`)
				return all
			}()),
		},
		{
			"the gateway has another document", document(key("web", origins)), document(key("web", "")), web, shop, with(nil, func() map[string]want {
				all := failing("blocked by CORS policy")
				all["preflight: Segment's Analytics.js"] = says(Failure, "though in keys.json the key web does", "the gateway reads another document")
				all["key"] = says(Failure, "in keys.json it may", "the gateway reads another document")
				return all
			}()),
		},
		{
			"unknown", document(key("open", "")), "", web, shop, with(nil, map[string]want{
				"key": says(Failure, "there is no such key", "POST ", " 401 (Unauthorized)", "sluice keys list"),
			}),
		},
		{
			"unknown to the document too", document(key("open", "")), "same", web, shop, with(nil, map[string]want{
				"key": says(Failure, "nor of keys.json"),
			}),
		},
		{
			"unknown to the gateway alone", document(key("open", "")), document(key("web", "")), web, shop, with(nil, map[string]want{
				"key": says(Failure, "in keys.json it is the key web, which the gateway does not know"),
			}),
		},
		{
			"disabled", document(key("open", ""), key("web", `"disabled":true`)), "same", web, shop, with(nil, map[string]want{
				"key": says(Failure, "the key web is disabled", `take "disabled" out of the key "web"`),
			}),
		},
		{
			"the only one, and disabled", document(key("web", `"disabled":true`)), "same", web, shop, with(nil, func() map[string]want {
				all := failing("blocked by CORS policy")
				all["preflight: Segment's Analytics.js"] = says(Failure, "and this one is disabled", `take "disabled" out`)
				all["key"] = says(Failure, "disabled")
				return all
			}()),
		},
		{
			"expired", document(key("open", ""), key("web", `"expires_at":"2020-01-01T00:00:00Z"`)), "", web, shop, with(nil, map[string]want{
				"key": says(Failure, "expired at 2020-01-01T00:00:00Z", "sluice keys new --id NAME --origin "+shop),
			}),
		},
		{
			"ends soon", document(key("web", fmt.Sprintf(`"expires_at":%q`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))), "same", web, shop, with(nil, map[string]want{
				"end of key": says(Warning, "the key web ends at"),
			}),
		},
		{
			"an older value", document(key("web", fmt.Sprintf(`"previous":[{"sha256":%q,"expires_at":%q}]`, source.Hash("wk_old"), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))), "same", "wk_old", shop, with(nil, map[string]want{
				"end of key": says(Warning, "this value of the key web was replaced", "use the new value"),
			}),
		},
		{
			"secret", document(key("open", ""), strings.Replace(key("back", ""), `"write"`, `"secret"`, 1)), "same", "wk_back", shop, with(nil, map[string]want{
				"preflight: sendBeacon of JSON, with cookies": says(Failure, "blocked"),
				"key":         says(Failure, "a secret key in a page is a secret no more", "sluice keys new"),
				"kind of key": says(Failure, "it must not stand in a page"),
			}),
		},
		{
			// Somebody has given it the origin, which makes it work, and worse.
			"secret and allowed", document(strings.Replace(key("back", `"origins":["`+shop+`"]`), `"write"`, `"secret"`, 1)), "same", "wk_back", shop, with(nil, map[string]want{
				"key":         says(OK, "known"),
				"kind of key": says(Failure, "whoever opens the page can read it"),
			}),
		},
		{
			"signed", document(key("web", `"signature":{"secret":"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}`)), "", web, shop, with(nil, map[string]want{
				"key": says(Failure, "a page cannot sign"),
			}),
		},
		{
			"for some addresses", document(key("web", `"ips":["192.0.2.0/24"]`)), "", web, shop, with(nil, map[string]want{
				"key": says(Warning, "ask from where the page is opened"),
			}),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, tt.doc)
			server := httptest.NewServer(g)
			defer server.Close()
			c := Config{Gateway: server.URL, Origin: tt.origin, Key: tt.key, KeysName: "keys.json"}
			switch tt.local {
			case "":
			case "same":
				c.Keys = parse(t, tt.doc)
			default:
				c.Keys = parse(t, tt.local)
			}
			judge(t, look(t, c), tt.expected)
			if g.puts.Load() != 0 {
				t.Error("something was stored")
			}
		})
	}
}

// fixed is what people put before a gateway: a list of their own.
func fixed(headers string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Allow-Methods", "POST")
		h.Set("Access-Control-Allow-Headers", headers)
		h.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
	}
}

func TestWhatStandsBeforeTheGateway(t *testing.T) {
	t.Parallel()
	const denied = "blocked by CORS policy: Response to preflight request doesn't pass access control check: "
	for _, tt := range []struct {
		name     string
		proxy    func(http.Handler) http.Handler
		expected map[string]want
	}{
		{
			"answers OPTIONS with 405", func(h http.Handler) http.Handler {
				return options(h, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Server", "nginx")
					w.WriteHeader(http.StatusMethodNotAllowed)
				})
			},
			with(failing(denied+"No 'Access-Control-Allow-Origin' header"), map[string]want{
				"preflight: Segment's Analytics.js": says(Failure, "something else than the gateway: 405 Method Not Allowed; Server: nginx", "pass OPTIONS on", "the gateway itself answers right"),
			}),
		},
		{
			"answers OPTIONS with 200 and nothing", func(h http.Handler) http.Handler {
				return options(h, func(http.ResponseWriter, *http.Request) {})
			},
			with(failing(denied+"No 'Access-Control-Allow-Origin' header"), map[string]want{
				"preflight: Segment's Analytics.js": says(Failure, "which knows nothing of CORS", "pass OPTIONS on"),
			}),
		},
		{
			"answers OPTIONS with the headers and an error", func(h http.Handler) http.Handler {
				return options(h, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
					w.Header().Set("Access-Control-Allow-Credentials", "true")
					w.WriteHeader(http.StatusForbidden)
				})
			},
			with(failing(denied+"It does not have HTTP ok status."), nil),
		},
		{
			"redirects OPTIONS", func(h http.Handler) http.Handler {
				return options(h, func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, "https://events.example"+r.URL.Path, http.StatusMovedPermanently)
				})
			},
			with(failing(denied+"Redirect is not allowed for a preflight request."), map[string]want{
				"preflight: Segment's Analytics.js": says(Failure, "OPTIONS is sent on to https://events.example/v1/t"),
			}),
		},
		{
			"has a list without the headers of a second try", func(h http.Handler) http.Handler {
				return options(h, fixed("authorization, content-type, content-encoding, x-write-key, anonymousid, sentat"))
			},
			with(nil, map[string]want{
				"preflight: its second try":   says(Failure, "Request header field x-retry-count is not allowed by Access-Control-Allow-Headers in preflight response.", "a list of its own", "have it allow: anonymousid, authorization,"),
				"preflight: its second try 2": says(Failure, "Access to XMLHttpRequest at", "Request header field rsa-recovered is not allowed"),
				"any header":                  says(Warning, "the next version of an SDK"),
			}),
		},
		{
			"allows every header by an asterisk", func(h http.Handler) http.Handler {
				return options(h, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Access-Control-Allow-Origin", "*")
					w.Header().Set("Access-Control-Allow-Headers", "*")
				})
			},
			with(only("Segment's Analytics.js", "its second try", "RudderStack's SDK", "its second try 2", "its configuration", "fetch of JSON", "fetch of JSON, compressed",
				"Snowplow's tracker, with cookies", "sendBeacon of JSON, with cookies")(failing("blocked")), map[string]want{
				"preflight: Segment's Analytics.js":           says(Failure, "except by Chromium", "Cross-Origin Request Blocked", "does not stand for Authorization"),
				"preflight: its second try":                   says(Failure, "except by Chromium"),
				"preflight: its second try 2":                 says(Failure, "except by Chromium"),
				"preflight: RudderStack's SDK":                says(Failure, "except by Chromium"),
				"preflight: its configuration":                says(Failure, "except by Chromium"),
				"preflight: fetch of JSON":                    says(Failure, "except by Chromium"),
				"preflight: fetch of JSON, compressed":        says(Failure, "except by Chromium"),
				"preflight: Snowplow's tracker, with cookies": says(Failure, "must not be the wildcard '*' when the request's credentials mode is 'include'"),
				"preflights are cached":                       says(Warning, "for 5s only", "Access-Control-Max-Age"),
				"preflight: sendBeacon of JSON, with cookies": says(Failure, "must not be the wildcard"),
			}),
		},
		{
			"adds the headers once more", func(h http.Handler) http.Handler {
				return rewrite(h, func(r *http.Request, _ int, header http.Header) {
					header.Add("Access-Control-Allow-Origin", r.Header.Get("Origin"))
				})
			},
			with(failing("contains multiple values '"+shop+", "+shop+"', but only one is allowed."), map[string]want{
				"preflight: Segment's Analytics.js": says(Failure, "both add the header", "the gateway itself answers right"),
				"key":                               says(Failure, "it is right, but the page cannot read the answer", "multiple values"),
				"SDKs":                              says(Failure, "the page cannot read it"),
				"Segment's settings":                says(Failure, "Analytics.js sends nothing without this document"),
				"RudderStack's settings":            says(Failure, "the page cannot read it"),
			}),
		},
		{
			"names another origin", func(h http.Handler) http.Handler {
				return rewrite(h, func(_ *http.Request, _ int, header http.Header) {
					header.Set("Access-Control-Allow-Origin", "https://www.shop.example")
				})
			},
			with(failing("has a value 'https://www.shop.example' that is not equal to the supplied origin."), map[string]want{
				"preflight: Segment's Analytics.js": says(Failure, "a fixed value for the origin"),
				"key":                               says(Failure, "not equal"), "SDKs": says(Failure), "Segment's settings": says(Failure), "RudderStack's settings": says(Failure),
			}),
		},
		{
			"takes the headers of CORS out", func(h http.Handler) http.Handler {
				return rewrite(h, func(_ *http.Request, _ int, header http.Header) {
					for name := range header {
						if strings.HasPrefix(name, "Access-Control-") || name == "Vary" {
							header.Del(name)
						}
					}
				})
			},
			with(failing(denied+"No 'Access-Control-Allow-Origin'"), map[string]want{
				"preflight: Segment's Analytics.js": says(Failure, "the answer is the gateway's, without its CORS headers"),
				"key":                               says(Failure, "it is right, but the page cannot read the answer"), "SDKs": says(Failure), "Segment's settings": says(Failure), "RudderStack's settings": says(Failure),
			}),
		},
		{
			"takes them out of errors", func(h http.Handler) http.Handler {
				return rewrite(h, func(_ *http.Request, status int, header http.Header) {
					if status >= 400 {
						header.Del("Access-Control-Allow-Origin")
					}
				})
			},
			with(nil, map[string]want{
				"key":                says(Failure, "it is right, but", "add_header … always"),
				"errors can be read": says(Failure, "with the status 401", "a network that is away"),
			}),
		},
		{
			"does not allow credentials", func(h http.Handler) http.Handler {
				return rewrite(h, func(_ *http.Request, _ int, header http.Header) {
					header.Set("Access-Control-Allow-Credentials", "false")
				})
			},
			with(nil, map[string]want{
				"preflight: Snowplow's tracker, with cookies": says(Failure, "The value of the 'Access-Control-Allow-Credentials' header in the response is 'false' which must be 'true'"),
				"preflight: sendBeacon of JSON, with cookies": says(Failure, "which must be 'true'"),
				"errors can be read":                          says(Failure, "which must be 'true'"),
			}),
		},
		{
			"takes Retry-After from the page", func(h http.Handler) http.Handler {
				return rewrite(h, func(_ *http.Request, _ int, header http.Header) { header.Del("Access-Control-Expose-Headers") })
			},
			with(nil, map[string]want{"errors can be read": says(Warning, "but not Retry-After", "after half a second")}),
		},
		{
			"takes Vary away", func(h http.Handler) http.Handler {
				return rewrite(h, func(_ *http.Request, _ int, header http.Header) { header.Del("Vary") })
			},
			with(nil, map[string]want{"errors can be read": says(Warning, "Vary does not name Origin")}),
		},
		{
			"sends a list that is none", func(h http.Handler) http.Handler {
				return rewrite(h, func(r *http.Request, _ int, header http.Header) {
					if r.Method == http.MethodOptions {
						header.Set("Access-Control-Allow-Headers", "authorization; content-type")
					}
				})
			},
			with(failing("Cannot parse Access-Control-Allow-Headers response header field in preflight response."), nil),
		},
		{
			"takes Authorization away", func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					r.Header.Del("Authorization")
					h.ServeHTTP(w, r)
				})
			},
			with(nil, map[string]want{
				"key": says(Failure, "the key does not arrive", "takes the header Authorization away", "the header X-Write-Key and the query (?write_key=) arrive"),
			}),
		},
		{
			"takes Origin away", func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					r.Header.Del("Origin")
					h.ServeHTTP(w, r)
				})
			},
			with(failing("No 'Access-Control-Allow-Origin'"), map[string]want{
				"key": says(Failure, "takes it away", "let it pass Origin on"),
			}),
		},
		{
			"passes only some paths on", func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodOptions || strings.HasPrefix(r.URL.Path, "/v1/") && !strings.Contains(r.URL.Path, "settings") {
						h.ServeHTTP(w, r)
						return
					}
					w.Header().Set("Content-Type", "text/html")
					http.Error(w, "<html>", http.StatusNotFound)
				})
			},
			with(nil, map[string]want{
				"alive":                  says(Warning, "not answered by a gateway: 404 Not Found"),
				"Segment's settings":     says(Failure, "404", "pass this path on"),
				"RudderStack's settings": says(Failure, "404"),
			}),
		},
		{
			"changes the path", func(h http.Handler) http.Handler { return http.StripPrefix("/v1", h) },
			with(nil, map[string]want{
				"alive": says(Warning), "key": says(Failure, "the path that arrives at the gateway is another"),
				"preflight: its configuration":                says(Failure), // StripPrefix answers 404 to what has no prefix
				"preflight: Jitsu's SDK":                      says(Failure),
				"preflight: Snowplow's tracker, with cookies": says(Failure),
			}),
		},
		{
			"is another server", func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "<html>it works</html>") })
			},
			with(failing("which knows nothing of CORS"), func() map[string]want {
				all := map[string]want{"alive": says(Warning, "200 OK"), "key": says(Failure, "something else answers: 200 OK")}
				for name := range failing() {
					all[name] = says(Failure, "No 'Access-Control-Allow-Origin'")
				}
				return all
			}()),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, document(key("web", `"origins":["`+shop+`"]`)))
			direct, server := httptest.NewServer(g), httptest.NewServer(tt.proxy(g))
			defer direct.Close()
			defer server.Close()
			judge(t, look(t, Config{Gateway: server.URL, Origin: shop, Key: web, Direct: direct.URL}), tt.expected)
			if g.puts.Load() != 0 {
				t.Error("something was stored")
			}
		})
	}
}

func TestAGatewayThatCannotStore(t *testing.T) {
	t.Parallel()
	g := newGateway(t, document(key("web", "")))
	g.ready = []string{"the stream does not answer"}
	server := httptest.NewServer(g)
	defer server.Close()
	judge(t, look(t, Config{Gateway: server.URL, Origin: shop, Key: web}), with(nil, map[string]want{
		"ready": says(Failure, "the stream does not answer", "503 (Service Unavailable)"),
	}))
	without := newGateway(t, "")
	other := httptest.NewServer(without)
	defer other.Close()
	judge(t, look(t, Config{Gateway: other.URL, Origin: shop, Key: web}), with(failing("blocked"), map[string]want{
		"ready": says(Failure, "keys: no document was loaded yet"),
		"key":   says(Failure, "has not read its keys yet"),
	}))
}

func TestTheClocksAreCompared(t *testing.T) {
	t.Parallel()
	g := newGateway(t, document(key("web", "")))
	for offset, wanted := range map[time.Duration]want{
		0:                 says(OK, "within a minute"),
		-30 * time.Second: says(OK),
		-2 * time.Hour:    says(Warning, "2h0m", "behind that of this machine", "signatures"),
		10 * time.Minute:  says(Warning, "ahead of that of this machine"),
	} {
		server := httptest.NewServer(rewrite(g, func(_ *http.Request, _ int, header http.Header) {
			header.Set("Date", time.Now().Add(offset).UTC().Format(http.TimeFormat))
		}))
		f := look(t, Config{Gateway: server.URL, Origin: shop, Key: web})["clock"]
		server.Close()
		judge(t, map[string]Finding{"clock": f}, map[string]want{"clock": wanted})
	}
}

// certificateFor makes a certificate of this machine, or of another name.
func certificateFor(t *testing.T, name string, end time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, pool
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	const host = "127.0.0.1"
	later := time.Now().Add(90 * 24 * time.Hour)
	for _, tt := range []struct {
		name     string
		host     string
		end      time.Time
		known    bool
		key      string
		expected map[string]want
	}{
		{"right", host, later, true, web, map[string]want{"certificate": says(OK, "accepted, until ")}},
		{"ends soon", host, time.Now().Add(48 * time.Hour), true, web, map[string]want{"certificate": says(Warning, "it ends at", "SLUICE_TLS_CERT")}},
		{"expired", host, time.Now().Add(-time.Hour), true, web, map[string]want{"certificate": says(Failure, "net::ERR_CERT_DATE_INVALID", "renew it")}},
		{"of another name", "events.example", later, true, web, map[string]want{"certificate": says(Failure, "net::ERR_CERT_COMMON_NAME_INVALID")}},
		{"signed by nobody", host, later, false, web, map[string]want{"certificate": says(Failure, "net::ERR_CERT_AUTHORITY_INVALID", "signed by nobody whom browsers know")}},
		{"signed by nobody, and a secret key", host, later, false, "sk_back", map[string]want{"certificate": says(Failure), "reachable": says(Warning, "a secret key is not sent")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, document(key("web", "")))
			server := httptest.NewUnstartedServer(g)
			server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
			certificate, pool := certificateFor(t, tt.host, tt.end)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
			server.StartTLS()
			defer server.Close()
			if !tt.known {
				pool = x509.NewCertPool()
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
			judge(t, look(t, Config{Gateway: server.URL, Origin: shop, Key: tt.key, Client: client}), with(nil, tt.expected))
		})
	}
}

func TestWhereNoGatewayIs(t *testing.T) {
	t.Parallel()
	g := newGateway(t, document(key("web", "")))
	plain := httptest.NewServer(g)
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(g)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	gone := httptest.NewServer(g)
	gone.Close()
	moved := httptest.NewServer(http.RedirectHandler(plain.URL+"/livez", http.StatusFound))
	t.Cleanup(moved.Close)
	mute := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}))
	t.Cleanup(mute.Close)
	for name, tt := range map[string]struct {
		gateway string
		text    []string
	}{
		"nobody listens":  {gone.URL, []string{"net::ERR_CONNECTION_REFUSED", "start the gateway"}},
		"no such name":    {"http://gateway.invalid", []string{"net::ERR_NAME_NOT_RESOLVED"}},
		"https to http":   {strings.Replace(plain.URL, "http:", "https:", 1), []string{"net::ERR_SSL_PROTOCOL_ERROR", "speaks no TLS"}},
		"http to https":   {strings.Replace(secure.URL, "https:", "http:", 1), []string{"speaks TLS", "use " + secure.URL}},
		"it has moved":    {moved.URL, []string{"302: it sends everybody on to", "Redirect is not allowed", "where it ends: " + plain.URL}},
		"it says nothing": {mute.URL, []string{"net::ERR_EMPTY_RESPONSE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := look(t, Config{Gateway: tt.gateway, Origin: "http://localhost", Key: web})
			f := found["reachable"]
			text := tt.text
			if name == "no such name" && strings.Contains(f.Browser, "RESOLUTION_FAILED") {
				// This machine has no DNS that knows what does not exist.
				text = []string{"net::ERR_NAME_RESOLUTION_FAILED", "ask again when the DNS answers"}
			}
			judge(t, map[string]Finding{"reachable": f}, map[string]want{"reachable": says(Failure, text...)})
			if len(found) != 2 { // the address, and this
				t.Errorf("more was said: %v", found)
			}
		})
	}
}

func TestAddressesAndOrigins(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		gateway, origin string
		level           Level
		text            string
	}{
		{"http://events.example", "https://shop.example", Failure, "Mixed Content: The page at 'https://shop.example/' was loaded over HTTPS, but requested an insecure resource 'http://events.example/v1/events'."},
		{"http://events.example", "http://shop.example", Warning, "can be read on the way"},
		{"http://localhost:8080", "https://shop.example", Warning, "is the machine of whoever has opened the page"},
		{"http://127.0.0.2:8080", "http://localhost:3000", OK, ""},
		{"https://events.example/sluice", "https://shop.example", OK, ""},
		{"https://events.example", "null", OK, ""},
		{"https://events.example", "capacitor://localhost", OK, ""},
	} {
		var got Finding
		e := &exam{Config: Config{Gateway: tt.gateway, Origin: tt.origin}, say: func(f Finding) { got = f }}
		if err := (Config{Gateway: tt.gateway, Origin: tt.origin, Key: web}).Validate(); err != nil {
			t.Errorf("%s for %s: %v", tt.gateway, tt.origin, err)
		}
		e.address()
		if got.Level != tt.level || !strings.Contains(got.Text+got.Browser, tt.text) {
			t.Errorf("%s for %s: %+v", tt.gateway, tt.origin, got)
		}
	}
	for _, tt := range []struct{ gateway, origin, key, want string }{
		{"events.example", shop, web, "not the address of a gateway"},
		{"ftp://events.example", shop, web, "not the address of a gateway"},
		{"https://events.example?x=1", shop, web, "not the address of a gateway"},
		{"https://events.example", "shop.example", web, "not a web origin"},
		{"https://events.example", "", web, "not a web origin"},
		{"https://events.example", "https://shop.example/", web, "a browser would send https://shop.example"},
		{"https://events.example", "https://Shop.example/cart?x", web, "a browser would send https://shop.example"},
		{"https://events.example", "https://shop.example:443", web, "a browser would send https://shop.example"},
		{"https://events.example", "http://shop.example:80", web, "a browser would send http://shop.example"},
		{"https://events.example", "https://bücher.example", web, "in ASCII"},
		{"https://events.example", shop, "", "--key is missing"},
	} {
		err := Config{Gateway: tt.gateway, Origin: tt.origin, Key: tt.key}.Validate()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %s: %v", tt.gateway, tt.origin, err)
		}
	}
}
