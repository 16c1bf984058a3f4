package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestEventsHaveTheirSize(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		e := buildEvent(rand.New(rand.NewPCG(seed, 1)), "{")
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
	m := loadOf(t, server, "-per-request", "3")
	if m.AllEvents == 0 || int64(m.AllEvents) != events.Load() || m.P50 <= 0 || m.P99 < m.P50 {
		t.Errorf("the server took %d events; reported %+v", events.Load(), m)
	}
}

func TestEachEventHasAnIDOfItsOwnIfWanted(t *testing.T) {
	t.Parallel()
	var seen sync.Map
	var events, twice atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var batch []struct{ ID, Name string }
		if err := json.NewDecoder(r.Body).Decode(&batch); err != nil || len(batch) != 3 {
			t.Errorf("%d events: %v", len(batch), err)
		}
		for _, e := range batch {
			if _, known := seen.LoadOrStore(e.ID, true); known || len(e.ID) != idBytes || e.Name == "" {
				twice.Add(1)
			}
			events.Add(1)
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte("{}"))
	}))
	defer server.Close()
	m := loadOf(t, server, "-per-request", "3", "-own-ids")
	if twice.Load() > 0 || m.AllEvents < 3*17 || int64(m.AllEvents) != events.Load() {
		t.Errorf("%d events, of which %d have an id that another has or that is none; reported %+v", events.Load(), twice.Load(), m)
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

func TestAPacedLoadCountsFromWhenRequestsWereDue(t *testing.T) {
	t.Parallel()
	const each = 20 * time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-time.After(each)
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte("{}"))
	}))
	defer server.Close()
	// One connection, and 20 requests due 10 ms apart: the last is due after
	// 190 ms and cannot be answered before 20 answers of 20 ms.
	m := loadOf(t, server, "-connections", "1", "-rate", "100")
	if m.Requests != 20 || m.AllEvents != 20 {
		t.Errorf("%d requests, want 20: %+v", m.Requests, m)
	}
	if m.P99 < 20*each-190*time.Millisecond || m.Elapsed < 20*each {
		t.Errorf("the server fell behind unnoticed: %+v", m)
	}
}

// answering is a gateway that makes ids and says where events are.
func answering(t *testing.T, ack string, perRequest int) (server *httptest.Server, made func() tally) {
	var mu sync.Mutex
	var all tally
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var ids []string
		for range perRequest {
			id := fmt.Sprintf("0198c000-0000-7000-8000-%012d", all.Events)
			ids = append(ids, `"`+id+`"`)
			all.add([]byte(id))
		}
		answer := fmt.Appendf(nil, `{"accepted":%d,"rejected":0,"ids":[%s],"ack":%q}`, perRequest, strings.Join(ids, ","), ack)
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(answer)
	}))
	t.Cleanup(server.Close)
	return server, func() tally {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

func TestTheLoadKnowsWhichEventsWereAnswered(t *testing.T) {
	t.Parallel()
	for _, perRequest := range []int{1, 100} {
		server, made := answering(t, "stream", perRequest)
		m := loadOf(t, server, "-ids", "-per-request", fmt.Sprint(perRequest))
		if m.Answered != made() || m.Answered.Events != m.AllEvents || m.AllEvents == 0 {
			t.Errorf("%d in a request: the server made %+v; reported %+v", perRequest, made(), m)
		}
	}
}

func TestAnAnswerWithoutTheStreamOrIDsEndsTheLoad(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ack      string
		answered int
	}{
		"in the spool": {"spool", 2},
		"too few ids":  {"stream", 1},
		"too many ids": {"stream", 3},
	} {
		server, _ := answering(t, tc.ack, tc.answered)
		err := load(t.Context(), loadArgs(server, "-ids", "-per-request", "2"), io.Discard)
		if err == nil || !strings.Contains(err.Error(), "without 2 ids") {
			t.Errorf("%s: the load ended with %v", name, err)
		}
	}
}

func TestATallyTellsEventsApartAndNotTheirOrder(t *testing.T) {
	t.Parallel()
	of := func(ids ...string) (t tally) {
		for _, id := range ids {
			t.add([]byte(id))
		}
		return t
	}
	joined := of("a")
	joined.join(of("c", "b"))
	if want := of("a", "b", "c"); joined != want {
		t.Errorf("%+v, want %+v", joined, want)
	}
	if twice := of("a", "b", "b"); twice == of("a", "b", "c") || twice == of("a", "b") {
		t.Errorf("an event twice instead of another one: %+v", twice)
	}
}

func TestPartsAreChosenWithWhatTheyAreComparedWith(t *testing.T) {
	t.Parallel()
	for only, want := range map[string]string{
		"":         "64: bare handler, sluice up, sluice up with deduplication, sluice up with 50 schemas; 256: bare handler, sluice up, gateway, Kinesis at once, gateway, Kinesis after 10 ms, gateway, Kinesis after 10 ms, half of that rate; 16: bare handler, sluice up, sluice up with deduplication, sluice up with 50 schemas, gateway, Kinesis at once, gateway, Kinesis after 10 ms",
		"batches":  "16: bare handler, sluice up, sluice up with deduplication, sluice up with 50 schemas, gateway, Kinesis at once, gateway, Kinesis after 10 ms",
		"at once":  "256: bare handler, gateway, Kinesis at once; 16: bare handler, gateway, Kinesis at once",
		"half":     "256: bare handler, gateway, Kinesis after 10 ms, gateway, Kinesis after 10 ms, half of that rate",
		"up":       "64: bare handler, sluice up, sluice up with deduplication, sluice up with 50 schemas; 256: bare handler, sluice up; 16: bare handler, sluice up, sluice up with deduplication, sluice up with 50 schemas",
		"dedup":    "64: bare handler, sluice up with deduplication; 16: bare handler, sluice up with deduplication",
		"no such":  "",
		"KINESIS ": "256: bare handler, gateway, Kinesis at once, gateway, Kinesis after 10 ms, gateway, Kinesis after 10 ms, half of that rate; 16: bare handler, gateway, Kinesis at once, gateway, Kinesis after 10 ms",
	} {
		var chosen []string
		for _, w := range choose(workloads, only) {
			var names []string
			for _, target := range w.targets {
				names = append(names, target.name)
			}
			chosen = append(chosen, fmt.Sprintf("%d: %s", w.connections, strings.Join(names, ", ")))
		}
		if got := strings.Join(chosen, "; "); got != want {
			t.Errorf("%q chooses %s\nwant %s", only, got, want)
		}
	}
}

func loadArgs(server *httptest.Server, more ...string) []string {
	return append([]string{"-addr", server.Listener.Addr().String(), "-key", "key", "-connections", "2", "-duration", "200ms"}, more...)
}

func loadOf(t *testing.T, server *httptest.Server, more ...string) (m measured) {
	t.Helper()
	var out bytes.Buffer
	if err := load(t.Context(), loadArgs(server, more...), &out); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTheMedianIsTheMiddle(t *testing.T) {
	t.Parallel()
	same := func(f float64) float64 { return f }
	if odd, even := median([]float64{9, 1, 5}, same), median([]float64{1, 2, 3, 10}, same); odd != 5 || even != 2.5 {
		t.Errorf("%v and %v", odd, even)
	}
}
