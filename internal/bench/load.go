package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// eventBytes is the size of an event in JSON.
const eventBytes = 500

// measured is what the load process reports: one line of JSON.
type measured struct {
	// Requests were answered within the measured time, all of them 2xx; of a
	// paced load those that were due in it, and Elapsed is then the time until
	// the last of them was answered.
	Requests int           `json:"requests"`
	Elapsed  time.Duration `json:"elapsed"`
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
	// AllEvents were answered, those of the warm-up included.
	AllEvents int `json:"all_events"`
	// Answered are the events by the ids in their answers, with -ids.
	Answered tally `json:"answered"`
	// CPU is what the load itself used of its core, 1 being all of it.
	CPU float64 `json:"cpu"`
}

// load posts to an address until its time is over: each connection as soon as
// the request before is answered, or all together at a rate. Requests are made
// beforehand and answers are read without net/http, so that the load needs much
// less than the server.
func load(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	addr := flags.String("addr", "", "")
	key := flags.String("key", "", "")
	connections := flags.Int("connections", 1, "")
	perRequest := flags.Int("per-request", 1, "")
	warmup := flags.Duration("warmup", 0, "")
	duration := flags.Duration("duration", time.Second, "")
	rate := flags.Int("rate", 0, "")
	ids := flags.Bool("ids", false, "")
	ownIDs := flags.Bool("own-ids", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	clients := make([]*client, 0, *connections)
	defer func() {
		for _, c := range clients {
			_ = c.conn.Close()
		}
	}()
	for i := range *connections {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", *addr)
		if err != nil {
			return err
		}
		clients = append(clients, &client{conn: conn, requests: buildRequests(*addr, *key, i, *perRequest, *ownIDs), perRequest: *perRequest, ids: *ids})
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began, used := time.Now(), ownCPU()
	from, until := began.Add(*warmup), began.Add(*warmup+*duration)
	var due *schedule
	if *rate > 0 {
		due = &schedule{began: began, rate: *rate}
	}
	var wg sync.WaitGroup
	for _, c := range clients {
		c.due = due
		wg.Go(func() {
			if err := c.run(ctx, from, until); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	m := measured{Elapsed: *duration, CPU: (ownCPU() - used).Seconds() / time.Since(began).Seconds()}
	var latencies []time.Duration
	for _, c := range clients {
		latencies = append(latencies, c.latencies...)
		m.AllEvents += c.requestsDone * *perRequest
		m.Answered.join(c.answered)
		if due != nil {
			m.Elapsed = max(m.Elapsed, c.last.Sub(from))
		}
	}
	slices.Sort(latencies)
	if len(latencies) == 0 {
		return errors.New("no request was answered in time")
	}
	m.Requests = len(latencies)
	m.P50, m.P99 = latencies[len(latencies)/2], latencies[len(latencies)*99/100]
	return json.NewEncoder(out).Encode(m)
}

// schedule says when the requests of a paced load are due. They are due
// whatever became of those before: a server that falls behind does not get
// fewer, and its answers count from when their request was due.
type schedule struct {
	began time.Time
	rate  int // per second
	next  atomic.Int64
}

// take returns when the next request is due.
func (s *schedule) take() time.Time {
	n := s.next.Add(1) - 1
	return s.began.Add(time.Duration(float64(n) / float64(s.rate) * float64(time.Second)))
}

// client is one connection. It sends a request when the one before is answered
// and the next is due.
type client struct {
	conn       net.Conn
	requests   []request
	perRequest int
	due        *schedule // nil: always
	// ids: every answer must name an id for each event and say that they are
	// on the stream.
	ids bool

	requestsDone int
	numbered     uint64 // events that were given an id
	answered     tally
	latencies    []time.Duration // of the measured requests
	last         time.Time       // when the last one was answered
}

func (c *client) run(ctx context.Context, from, until time.Time) error {
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Now()) })()
	c.latencies = make([]time.Duration, 0, 1<<10)
	buf := make([]byte, 32<<10)
	for {
		start, ok := c.wait(ctx, until)
		if !ok {
			return nil
		}
		request := c.requests[c.requestsDone%len(c.requests)]
		for _, at := range request.ids {
			putDigits(request.text[at:], c.numbered)
			c.numbered++
		}
		if _, err := c.conn.Write(request.text); err != nil {
			return err
		}
		body, err := readAnswer(c.conn, buf)
		if err != nil {
			return err
		}
		c.last = time.Now()
		c.requestsDone++
		if c.ids {
			if err := c.count(body); err != nil {
				return err
			}
		}
		if c.due != nil && !start.Before(from) || c.due == nil && c.last.After(from) && c.last.Before(until) {
			c.latencies = append(c.latencies, c.last.Sub(start))
		}
	}
}

// wait waits until a request is to be sent, and returns when it should have
// been; ok is false if the load is over.
func (c *client) wait(ctx context.Context, until time.Time) (start time.Time, ok bool) {
	if c.due == nil {
		start = time.Now()
		return start, start.Before(until)
	}
	start = c.due.take()
	if !start.Before(until) {
		return start, false
	}
	select {
	case <-ctx.Done():
		return start, false
	case <-time.After(time.Until(start)):
		return start, true
	}
}

var (
	idsBegin = []byte(`"ids":[`)
	onStream = []byte(`"ack":"stream"`)
)

// count adds the ids of an answer.
func (c *client) count(answer []byte) error {
	_, ids, _ := bytes.Cut(answer, idsBegin)
	const each = len(`"",`) + idBytes
	if len(ids) < c.perRequest*each || ids[c.perRequest*each-1] != ']' || !bytes.Contains(ids[c.perRequest*each:], onStream) {
		return fmt.Errorf("answered without %d ids of events on the stream: %q", c.perRequest, answer[:min(len(answer), 1024)])
	}
	for i := range c.perRequest {
		id := ids[i*each:]
		if id[0] != '"' || id[1+idBytes] != '"' {
			return fmt.Errorf("answered with ids that are no UUIDs: %q", answer[:min(len(answer), 1024)])
		}
		c.answered.add(id[1 : 1+idBytes])
	}
	return nil
}

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
)

// readAnswer reads one answer into buf and returns its body, or an error if it
// is not 202.
func readAnswer(conn net.Conn, buf []byte) ([]byte, error) {
	n := 0
	for {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return nil, fmt.Errorf("read answer: %w", err)
		}
		n += m
		end := bytes.Index(buf[:n], headEnd)
		if end < 0 {
			continue
		}
		head := buf[:end+2]
		at := bytes.Index(head, contentLength)
		if at < 0 {
			return nil, fmt.Errorf("answer without Content-Length: %q", head)
		}
		digits := head[at+len(contentLength):]
		digits = digits[:bytes.IndexByte(digits, '\r')]
		length, err := strconv.Atoi(string(digits))
		if err != nil {
			return nil, err
		}
		whole := end + len(headEnd) + length
		if whole > len(buf) {
			return nil, fmt.Errorf("answer of %d bytes", whole)
		}
		if n < whole {
			if _, err := io.ReadFull(conn, buf[n:whole]); err != nil {
				return nil, fmt.Errorf("read answer: %w", err)
			}
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 202 ")) {
			return nil, fmt.Errorf("answered %q", buf[:min(whole, 1024)])
		}
		return buf[end+len(headEnd) : whole], nil
	}
}

// request is what is written for one, and where the digits of the ids of its
// events begin; there are none if the gateway makes the ids.
type request struct {
	text []byte
	ids  []int
}

// ownIDBegin are the first bytes of an event that has an id: a UUID, of which
// the first group is the connection's.
const (
	ownIDBegin = `{"id":"%08x-0000-7000-8000-`
	ownIDTail  = 12 // digits of the number that follow
)

// putDigits writes a number over the digits of an id.
func putDigits(b []byte, n uint64) {
	for i := ownIDTail - 1; i >= 0; i-- {
		b[i] = '0' + byte(n%10)
		n /= 10
	}
}

// buildRequests returns requests of different users.
func buildRequests(addr, key string, connection, perRequest int, ownIDs bool) []request {
	const different = 16
	r := rand.New(rand.NewPCG(uint64(connection), 1))
	requests := make([]request, different)
	for i := range requests {
		var body []byte
		var ids []int
		begin := "{"
		if ownIDs {
			begin = fmt.Sprintf(ownIDBegin+`%0*d",`, connection, ownIDTail, 0)
		}
		for j := range perRequest {
			if j > 0 {
				body = append(body, ',')
			} else if perRequest > 1 {
				body = append(body, '[')
			}
			if ownIDs {
				ids = append(ids, len(body)+len(begin)-len(`",`)-ownIDTail)
			}
			body = append(body, buildEvent(r, begin)...)
		}
		if perRequest > 1 {
			body = append(body, ']')
		}
		text := fmt.Appendf(nil, "POST /v1/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", addr, key, len(body), body)
		for k := range ids {
			ids[k] += len(text) - len(body)
		}
		requests[i] = request{text: text, ids: ids}
	}
	return requests
}

// buildEvent returns an event of eventBytes as a shop would send it; begin opens
// it.
func buildEvent(r *rand.Rand, begin string) []byte {
	e := fmt.Appendf([]byte(begin), `"name":"product_viewed","user_id":"user-%08d","timestamp":"2026-11-23T10:%02d:%02d.%03dZ",`+
		`"data":{"product_id":"sku-%06d","name":"Waxed canvas backpack","category":"bags","price":%d.%02d,"currency":"EUR","position":%d,"in_stock":true,`+
		`"tags":["outdoor","new"]},"context":{"page":{"path":"/products/%06d","referrer":"https://search.example/?q=backpack"},"locale":"de-DE","note":"`,
		r.IntN(1e8), r.IntN(60), r.IntN(60), r.IntN(1000), r.IntN(1e6), r.IntN(900)+100, r.IntN(100), r.IntN(90)+10, r.IntN(1e6))
	for len(e) < eventBytes-len(`"}}`) {
		e = append(e, 'a'+byte(r.IntN(26)))
	}
	return append(e, `"}}`...)
}
