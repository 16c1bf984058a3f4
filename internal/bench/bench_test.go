package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestEventsHaveTheirSize(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		e := buildEvent(rand.New(rand.NewPCG(seed, 1)))
		if len(e) != eventBytes || !json.Valid(e) {
			t.Fatalf("%d bytes: %s", len(e), e)
		}
	}
}

func TestTheLoadCountsWhatTheServerAnswered(t *testing.T) {
	t.Parallel()
	var events atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var batch []json.RawMessage
		if err == nil {
			err = json.Unmarshal(body, &batch)
		}
		if err != nil || r.Header.Get("Authorization") != "Bearer key" {
			t.Errorf("%v, %q: %s", err, r.Header.Get("Authorization"), body)
		}
		events.Add(int64(len(batch)))
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte("{}"))
	}))
	defer server.Close()
	var out bytes.Buffer
	if err := load(t.Context(), loadArgs(server, "-per-request", "3"), &out); err != nil {
		t.Fatal(err)
	}
	var m measured
	if err := json.Unmarshal(out.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	if m.AllEvents == 0 || int64(m.AllEvents) != events.Load() || m.P50 <= 0 || m.P99 < m.P50 {
		t.Errorf("the server took %d events; reported %+v", events.Load(), m)
	}
}

func TestAnAnswerThatIsNot202EndsTheLoad(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "over the limit", http.StatusTooManyRequests)
	}))
	defer server.Close()
	err := load(context.Background(), loadArgs(server), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "429") {
		t.Errorf("the load ended with %v", err)
	}
}

func loadArgs(server *httptest.Server, more ...string) []string {
	return append([]string{"-addr", server.Listener.Addr().String(), "-key", "key", "-connections", "2", "-duration", "200ms"}, more...)
}

func TestTheMedianIsTheMiddle(t *testing.T) {
	t.Parallel()
	same := func(f float64) float64 { return f }
	if odd, even := median([]float64{9, 1, 5}, same), median([]float64{1, 2, 3, 10}, same); odd != 5 || even != 2.5 {
		t.Errorf("%v and %v", odd, even)
	}
}
