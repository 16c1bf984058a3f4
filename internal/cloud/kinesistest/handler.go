package kinesistest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// target is what stands before the operation in X-Amz-Target.
const target = "Kinesis_20131202."

// maxBody is the most that a request has: 10 MiB in base64, and the names of
// 500 entries.
const maxBody = maxCallBytes/3*4 + maxCallRecords*(maxKeyRunes*4+256)

// handler serves one session of a server.
type handler struct {
	*Server
	session *session
}

// call is one request while it is served.
type call struct {
	*Server
	session   *session
	request   *http.Request
	codec     *codec
	operation string
	plan      *plan
	body      []byte
}

// answer is what goes back.
type answer struct {
	status      int
	contentType string
	body        []byte
	date        time.Time
	cut         bool // in the middle of body
}

// bodies are buffers of requests.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target)
	serve := operations[operation]
	if !ok || serve == nil || r.Method != http.MethodPost {
		write(w, inJSON.refused(&Error{"UnknownOperationException", http.StatusNotFound, "POST of an operation of " + target + " is wanted"}))
		return
	}
	codec := codecOf(r)
	if codec == nil {
		write(w, inJSON.refused(&Error{"SerializationException", http.StatusBadRequest, "Content-Type is to be " + inJSON.contentType + " or " + inCBOR.contentType}))
		return
	}
	now := time.Now()
	h.stats.begin(operation, now)
	defer h.stats.end()
	c := &call{Server: h.Server, session: h.session, request: r, codec: codec, operation: operation}
	c.plan = h.faults.plan(operation, now)
	if c.plan.run(BeforeReading, c) != nil {
		panic(http.ErrAbortHandler)
	}
	buffer := bodies.Get().(*bytes.Buffer)
	buffer.Reset()
	defer bodies.Put(buffer)
	if _, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		var tooLarge *http.MaxBytesError
		if !errors.As(err, &tooLarge) {
			panic(http.ErrAbortHandler) // the sender is gone
		}
		write(w, codec.refused(&Error{"RequestEntityTooLarge", http.StatusRequestEntityTooLarge, "the request is too large"}))
		return
	}
	c.body = buffer.Bytes()
	if c.plan.run(BeforeStoring, c) != nil {
		panic(http.ErrAbortHandler)
	}
	a := c.answer(serve)
	if c.plan.run(AfterStoring, c) != nil {
		panic(http.ErrAbortHandler)
	}
	write(w, a)
}

// answer serves the call, unless something is wrong with it or the plan says
// so.
func (c *call) answer(serve operation) *answer {
	now := time.Now()
	if c.plan != nil {
		now = now.Add(c.plan.skew)
	}
	a := c.serve(serve, now)
	a.date = now
	if c.plan != nil {
		for _, spoil := range c.plan.answers {
			spoil(a)
		}
	}
	return a
}

func (c *call) serve(serve operation, now time.Time) *answer {
	if err := checkSigned(c.request, c.config.Region, now); err != nil {
		return c.codec.refused(err)
	}
	var no *refusal
	if c.plan != nil {
		no = c.plan.refusal
	}
	if no != nil && !no.stored {
		return c.refusal(no)
	}
	out, err := c.run(serve)
	switch {
	case no != nil:
		return c.refusal(no)
	case err != nil:
		return c.codec.refused(err)
	}
	return c.codec.accepted(out)
}

func (c *call) refusal(r *refusal) *answer {
	if r.err == nil {
		return c.codec.accepted(nil)
	}
	return c.codec.refused(r.err)
}

// run does the work, in a session that has not ended: otherwise the call is
// none any more.
func (c *call) run(serve operation) (any, *Error) {
	c.running.RLock()
	defer c.running.RUnlock()
	if c.Server.session != c.session {
		panic(http.ErrAbortHandler)
	}
	return serve(c)
}

func write(w http.ResponseWriter, a *answer) {
	h := w.Header()
	h["X-Amzn-Requestid"] = []string{requestID()}
	h["Content-Type"] = []string{a.contentType}
	h["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	if !a.date.IsZero() {
		h["Date"] = []string{a.date.UTC().Format(http.TimeFormat)}
	}
	w.WriteHeader(a.status)
	if !a.cut {
		_, _ = w.Write(a.body)
		return
	}
	_, _ = io.Copy(w, bytes.NewReader(a.body[:len(a.body)/2]))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// requestID makes one of the form of AWS.
func requestID() string {
	a, b := rand.Uint64(), rand.Uint64()
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48, b&0xffffffffffff)
}
