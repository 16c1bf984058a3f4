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
	// Requests were answered within the measured time, all of them 2xx.
	Requests int           `json:"requests"`
	Elapsed  time.Duration `json:"elapsed"`
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
	// AllEvents were answered, those of the warm-up included.
	AllEvents int `json:"all_events"`
	// CPU is what the load itself used of its core, 1 being all of it.
	CPU float64 `json:"cpu"`
}

// load posts to an address until its time is over. Requests are made
// beforehand and answers are read without net/http, so that the load needs
// much less than the server.
func load(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	addr := flags.String("addr", "", "")
	key := flags.String("key", "", "")
	connections := flags.Int("connections", 1, "")
	perRequest := flags.Int("per-request", 1, "")
	warmup := flags.Duration("warmup", 0, "")
	duration := flags.Duration("duration", time.Second, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	from, until := began.Add(*warmup), began.Add(*warmup+*duration)

	var wg sync.WaitGroup
	var all atomic.Int64
	latencies := make([][]time.Duration, *connections)
	for i := range *connections {
		wg.Go(func() {
			c := client{addr: *addr, requests: buildRequests(*addr, *key, i, *perRequest)}
			n, err := c.run(ctx, from, until)
			latencies[i] = c.latencies
			all.Add(int64(n * *perRequest))
			if err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	sorted := slices.Concat(latencies...)
	slices.Sort(sorted)
	if len(sorted) == 0 {
		return errors.New("no request was answered in time")
	}
	return json.NewEncoder(out).Encode(measured{
		Requests:  len(sorted),
		Elapsed:   *duration,
		P50:       sorted[len(sorted)/2],
		P99:       sorted[len(sorted)*99/100],
		AllEvents: int(all.Load()),
		CPU:       ownCPU().Seconds() / time.Since(began).Seconds(),
	})
}

// client is one connection that sends a request when the one before is
// answered.
type client struct {
	addr      string
	requests  [][]byte
	latencies []time.Duration // of the requests that ended in the measured time
}

func (c *client) run(ctx context.Context, from, until time.Time) (answered int, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	c.latencies = make([]time.Duration, 0, 1<<14)
	answer := make([]byte, 32<<10)
	for i := 0; ; i++ {
		start := time.Now()
		if start.After(until) {
			return answered, nil
		}
		if _, err := conn.Write(c.requests[i%len(c.requests)]); err != nil {
			return answered, err
		}
		if err := readAnswer(conn, answer); err != nil {
			return answered, err
		}
		answered++
		if end := time.Now(); end.After(from) && end.Before(until) {
			c.latencies = append(c.latencies, end.Sub(start))
		}
	}
}

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
)

// readAnswer reads one answer into buf and returns an error if it is not 2xx.
func readAnswer(conn net.Conn, buf []byte) error {
	n := 0
	for {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		n += m
		end := bytes.Index(buf[:n], headEnd)
		if end < 0 {
			continue
		}
		head := buf[:end+2]
		at := bytes.Index(head, contentLength)
		if at < 0 {
			return fmt.Errorf("answer without Content-Length: %q", head)
		}
		digits := head[at+len(contentLength):]
		digits = digits[:bytes.IndexByte(digits, '\r')]
		length, err := strconv.Atoi(string(digits))
		if err != nil {
			return err
		}
		whole := end + len(headEnd) + length
		if whole > len(buf) {
			return fmt.Errorf("answer of %d bytes", whole)
		}
		if n < whole {
			if _, err := io.ReadFull(conn, buf[n:whole]); err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 202 ")) {
			return fmt.Errorf("answered %q", buf[:min(whole, 1024)])
		}
		return nil
	}
}

// buildRequests returns requests of different users, as bytes to be written.
func buildRequests(addr, key string, connection, perRequest int) [][]byte {
	const different = 16
	r := rand.New(rand.NewPCG(uint64(connection), 1))
	requests := make([][]byte, different)
	for i := range requests {
		var body []byte
		if perRequest == 1 {
			body = buildEvent(r)
		} else {
			body = []byte("[")
			for j := range perRequest {
				if j > 0 {
					body = append(body, ',')
				}
				body = append(body, buildEvent(r)...)
			}
			body = append(body, ']')
		}
		requests[i] = fmt.Appendf(nil, "POST /v1/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", addr, key, len(body), body)
	}
	return requests
}

// buildEvent returns an event of eventBytes as a shop would send it. It has no
// id: the gateway makes one.
func buildEvent(r *rand.Rand) []byte {
	e := fmt.Appendf(nil, `{"name":"product_viewed","user_id":"user-%08d","timestamp":"2026-11-23T10:%02d:%02d.%03dZ",`+
		`"data":{"product_id":"sku-%06d","name":"Waxed canvas backpack","category":"bags","price":%d.%02d,"currency":"EUR","position":%d,"in_stock":true,`+
		`"tags":["outdoor","new"]},"context":{"page":{"path":"/products/%06d","referrer":"https://search.example/?q=backpack"},"locale":"de-DE","note":"`,
		r.IntN(1e8), r.IntN(60), r.IntN(60), r.IntN(1000), r.IntN(1e6), r.IntN(900)+100, r.IntN(100), r.IntN(90)+10, r.IntN(1e6))
	for len(e) < eventBytes-len(`"}}`) {
		e = append(e, 'a'+byte(r.IntN(26)))
	}
	return append(e, `"}}`...)
}
