package edge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/testenv"
)

type nullStream struct{}

func (nullStream) Put(context.Context, *stream.Batch) error { return nil }

// nullWriter is a response writer that costs next to nothing.
type nullWriter struct {
	header http.Header
	status int
}

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) WriteHeader(status int)      { w.status = status }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }

// A real one has deadlines.
func (w *nullWriter) SetReadDeadline(time.Time) error { return nil }

// event500 is an event of 500 bytes.
func event500(i int) string {
	head := fmt.Sprintf(`{"id":"01980000-0000-7000-8000-%012d","type":"track","name":"button_clicked","user_id":"user-%06d","timestamp":"2026-11-23T10:00:00.123Z",`+
		`"data":{"page":"/pricing","button":"buy","price":12.5,"currency":"EUR","tags":["a","b","c"],"logged_in":true,"note":"`, i, i)
	const tail = `"},"context":{"library":{"name":"bench","version":"1.0.0"},"locale":"en-US"}}`
	return head + strings.Repeat("x", 500-len(head)-len(tail)) + tail
}

func batch100() string {
	events := make([]string, 100)
	for i := range events {
		events[i] = event500(i)
	}
	return "[" + strings.Join(events, ",") + "]"
}

// segment100 is a batch of 100 events as an SDK sends it.
func segment100() string {
	events := make([]string, 100)
	for i := range events {
		events[i] = fmt.Sprintf(`{"timestamp":"2026-11-23T23:30:33.253Z","integrations":{},"event":"Order Completed","type":"track",`+
			`"properties":{"total":12.5,"name":"Müller","currency":"EUR","items":[1,2,3]},"context":{"library":{"name":"@segment/analytics-node","version":"3.1.0"}},`+
			`"userId":"user-%d","anonymousId":"anon-1","messageId":"node-next-1795476633253-%012d","_metadata":{"nodeVersion":"v20.20.2","jsRuntime":"node"}}`, i, i)
	}
	return `{"batch":[` + strings.Join(events, ",") + `],"writeKey":"wk_web","sentAt":"2026-11-23T23:30:33.266Z"}`
}

// bare is the least that a gateway on chi can do.
func bare() http.Handler {
	mux := chi.NewRouter()
	answer := []byte(`{"accepted":1,"rejected":0,"ids":["01980000-0000-7000-8000-000000000001"],"ack":"stream"}`)
	h := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(answer)
	}
	mux.Post("/v1/events", h)
	mux.Post("/v1/batch", h)
	return mux
}

func benchmarkRig(b *testing.B) *rig {
	r := newRig(b, Config{Log: slog.New(slog.DiscardHandler)})
	r.edge.stream = nullStream{}
	return r
}

func BenchmarkHandler(b *testing.B) {
	for _, load := range []struct{ name, path, body string }{
		{"single", "/v1/events", event500(1)},
		{"batch100", "/v1/events", batch100()},
		{"segment100", "/v1/batch", segment100()},
	} {
		for name, h := range map[string]http.Handler{"bare": bare(), "edge": benchmarkRig(b).edge.Handler()} {
			b.Run(load.name+"/"+name, func(b *testing.B) {
				body := bytes.NewReader(nil)
				req := httptest.NewRequest(http.MethodPost, load.path, io.NopCloser(body))
				req.ContentLength = int64(len(load.body))
				req.Header.Set("Authorization", "Bearer wk_web")
				req.Header.Set("Content-Type", "application/json")
				raw := []byte(load.body)
				w := &nullWriter{header: http.Header{}}
				b.SetBytes(int64(len(raw)))
				b.ReportAllocs()
				begin := testenv.CPUTime()
				for b.Loop() {
					body.Reset(raw)
					clear(w.header)
					h.ServeHTTP(w, req)
					if w.status >= 300 {
						b.Fatal(w.status)
					}
				}
				b.ReportMetric(float64(testenv.CPUTime()-begin)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// BenchmarkServer is the same over TCP on one connection, net/http included.
func BenchmarkServer(b *testing.B) {
	for _, load := range []struct{ name, path, body string }{
		{"single", "/v1/events", event500(1)},
		{"batch100", "/v1/events", batch100()},
	} {
		for name, h := range map[string]http.Handler{"bare": bare(), "edge": benchmarkRig(b).edge.Handler()} {
			b.Run(load.name+"/"+name, func(b *testing.B) {
				srv := httptest.NewServer(h)
				defer srv.Close()
				b.ReportAllocs()
				begin := testenv.CPUTime()
				for b.Loop() {
					req, _ := http.NewRequest(http.MethodPost, srv.URL+load.path, strings.NewReader(load.body))
					req.Header.Set("Authorization", "Bearer wk_web")
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode >= 300 {
						b.Fatal(resp.StatusCode)
					}
				}
				b.ReportMetric(float64(testenv.CPUTime()-begin)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}
