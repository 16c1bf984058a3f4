package awstest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Route is what a request is about, and how it is answered.
type Route struct {
	Operation string
	// Run does the work, with Call.Work where it touches what is stored.
	Run func(c *Call) *Answer
	// Refused answers with an error; nil is an empty answer.
	Refused func(err *Error) *Answer
}

// Call is one request while it is served.
type Call struct {
	Request   *http.Request
	Operation string
	Body      []byte // until the answer is there
	Plan      *Plan  // nil if nothing is to go wrong

	host    *Host
	session *session
	route   *Route
}

// Answer is what goes back.
type Answer struct {
	Status      int // default 200
	ContentType string
	Body        []byte
	// Header has what else is to be said. It is canonical.
	Header http.Header

	date time.Time
	cut  bool // in the middle of Body
}

// bodies are buffers of requests.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// serve answers one request of a session.
func (h *Host) serve(w http.ResponseWriter, r *http.Request, ss *session) {
	route, no := h.config.Route(r)
	if no != nil {
		write(w, no)
		return
	}
	now := time.Now()
	h.traffic.begin(route.Operation, AccessKey(r), now)
	defer h.traffic.end()
	c := &Call{Request: r, Operation: route.Operation, host: h, session: ss, route: route}
	c.Plan = h.faults.Plan(route.Operation, now)
	if c.Plan.run(BeforeReading, c) != nil {
		panic(http.ErrAbortHandler)
	}
	buffer := bodies.Get().(*bytes.Buffer)
	buffer.Reset()
	defer bodies.Put(buffer)
	if _, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, h.config.MaxBody)); err != nil {
		var tooLarge *http.MaxBytesError
		if !errors.As(err, &tooLarge) {
			panic(http.ErrAbortHandler) // the sender is gone
		}
		write(w, route.Refused(&Error{"RequestEntityTooLarge", http.StatusRequestEntityTooLarge, "the request is too large"}))
		return
	}
	c.Body = buffer.Bytes()
	if c.Plan.run(BeforeStoring, c) != nil {
		panic(http.ErrAbortHandler)
	}
	a := c.answer()
	if c.Plan.run(AfterStoring, c) != nil {
		panic(http.ErrAbortHandler)
	}
	write(w, a)
}

// answer serves the call, unless something is wrong with it or the plan says
// so.
func (c *Call) answer() *Answer {
	now := time.Now()
	if c.Plan != nil {
		now = now.Add(c.Plan.skew)
	}
	a := c.run(now)
	a.date = now
	if c.Plan != nil {
		for _, spoil := range c.Plan.answers {
			spoil(a)
		}
	}
	return a
}

func (c *Call) run(now time.Time) *Answer {
	if err := checkSigned(c.Request, c.host.config.Service, c.host.config.Region, now); err != nil {
		return c.route.Refused(err)
	}
	var no *refusal
	if c.Plan != nil {
		no = c.Plan.refusal
	}
	if no == nil {
		return c.route.Run(c)
	}
	if no.stored {
		c.route.Run(c)
	}
	return c.route.Refused(no.err)
}

// Work does something to what is stored, in a session that has not ended:
// otherwise the call is none any more.
func (c *Call) Work(do func()) {
	c.host.running.RLock()
	defer c.host.running.RUnlock()
	if c.host.session != c.session {
		panic(http.ErrAbortHandler)
	}
	do()
}

// Ended returns a channel that is closed when the host stops.
func (c *Call) Ended() <-chan struct{} { return c.session.ended }

func write(w http.ResponseWriter, a *Answer) {
	h := w.Header()
	h["X-Amzn-Requestid"] = []string{UUID()}
	for name, values := range a.Header {
		h[name] = values
	}
	h["Content-Type"] = []string{a.ContentType}
	h["Content-Length"] = []string{strconv.Itoa(len(a.Body))}
	if !a.date.IsZero() {
		h["Date"] = []string{a.date.UTC().Format(http.TimeFormat)}
	}
	w.WriteHeader(cmp.Or(a.Status, http.StatusOK))
	if !a.cut {
		_, _ = w.Write(a.Body)
		return
	}
	_, _ = io.Copy(w, bytes.NewReader(a.Body[:len(a.Body)/2]))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// UUID makes one of version 4, as AWS names requests and messages.
func UUID() string {
	a, b := rand.Uint64(), rand.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
}
