package spool_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/spool"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

var (
	throttled   = fault.New(fault.Throttled, "shard at capacity")
	unavailable = fault.New(fault.Unavailable, "no leader")
	tooLarge    = fault.New(fault.TooLarge, "over the limit")
	full        = &fault.Error{Kind: fault.Unavailable, Detail: "the log is full", RetryAfter: time.Minute}
	errLost     = errors.New("connection reset")
)

// weather is what a test wants the stream to do now.
type weather struct {
	mu    sync.Mutex
	whole error            // of every call, nothing stored
	fails map[string]error // by bucket
	most  int              // bytes of a record, 0 for no limit
	take  time.Duration    // what every call takes
	calls []time.Time
	sizes []int // records in each
}

func (w *weather) set(change func(*weather)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *weather) heal() {
	w.set(func(w *weather) { w.whole, w.fails, w.most, w.take = nil, nil, 0, 0 })
}

func (w *weather) around(s streamtest.Stream) streamtest.Stream {
	s = streamtest.FailRecords(s, func(_, _ int, r stream.Record) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.most > 0 && len(r.Data) > w.most {
			return tooLarge
		}
		return w.fails[r.PartitionKey]
	})
	return streamtest.Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
		w.mu.Lock()
		w.calls, w.sizes = append(w.calls, time.Now()), append(w.sizes, len(records))
		whole, take := w.whole, w.take
		w.mu.Unlock()
		if err := retry.Sleep(ctx, take); err != nil {
			return nil, err
		}
		if whole != nil {
			return nil, whole
		}
		return s.PutRecords(ctx, records)
	})
}

// spooled makes a record be in the spool, and the stream well again.
func (r *rig) spooled(names ...string) {
	r.t.Helper()
	fails := map[string]error{}
	for _, name := range names {
		fails[plain(name).PartitionKey] = throttled
	}
	r.sky.set(func(w *weather) { w.fails = fails })
	r.put(names...)
	time.Sleep(time.Second)
	r.want("spooled", names...)
	r.sky.heal()
}

// rig is a spool over a stream and a log in memory, inside a synctest bubble.
type rig struct {
	t      *testing.T
	s      *spool.Spool
	log    *streamtest.Log
	memory *streamtest.Memory
	sky    *weather
	stop   func()
}

// newRig makes a spool that does not drain yet.
func newRig(t *testing.T, cfg spool.Config, log *streamtest.Log) *rig {
	t.Helper()
	r := &rig{t: t, log: log, memory: streamtest.NewMemory(t, streamtest.Limits{}), sky: &weather{}}
	r.open(cfg)
	return r
}

// open begins a process on what the rig's log holds.
func (r *rig) open(cfg spool.Config) {
	r.t.Helper()
	s, err := spool.New(r.t.Context(), streamtest.Watch(r.t, r.sky.around(r.memory), streamtest.Limits{}), r.log, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	r.s = s
}

// run drains until stop, or the end of the test.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	s := r.s
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	r.stop = func() { cancel(); <-done }
	r.t.Cleanup(r.stop)
}

// restart ends the process at once and begins another, which drains.
func (r *rig) restart(cfg spool.Config) {
	log := r.log.Crash()
	if r.stop != nil {
		r.stop()
	}
	r.log = log
	r.open(cfg)
	r.run()
}

// plain makes a record of one event from bucket/data.
func plain(name string) stream.Record {
	key, data, _ := strings.Cut(name, "/")
	return stream.Record{PartitionKey: key, Data: []byte(data), Events: 1}
}

// put writes records in one call and says what became of each.
func (r *rig) put(names ...string) []string {
	r.t.Helper()
	records := make([]stream.Record, len(names))
	for i, name := range names {
		records[i] = plain(name)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	results, err := r.s.PutRecords(ctx, records)
	if err != nil {
		return slices.Repeat([]string{"lost"}, len(names))
	}
	answers := make([]string, len(names))
	for i, result := range results {
		switch {
		case result.Err != nil:
			answers[i] = fault.KindOf(result.Err).String()
		case result.Spooled:
			answers[i] = "spooled"
		default:
			answers[i] = "stored"
		}
	}
	return answers
}

// want puts records in one call and compares the answers.
func (r *rig) want(answer string, names ...string) {
	r.t.Helper()
	if got := r.put(names...); !slices.Equal(got, slices.Repeat([]string{answer}, len(names))) {
		r.t.Errorf("%v: answers %v, want %s", names, got, answer)
	}
}

// stored returns what is on the stream as bucket/data, in its order.
func (r *rig) stored() []string {
	var names []string
	for _, e := range r.memory.Entries() {
		for _, rec := range e.Records {
			for _, data := range stream.Deaggregate(rec) {
				names = append(names, rec.PartitionKey+"/"+string(data))
			}
		}
	}
	return names
}

// wantStored compares what is on the stream of each bucket with what should be.
func (r *rig) wantStored(names ...string) {
	r.t.Helper()
	if got := byBucket(r.stored()); !equal(got, byBucket(names)) {
		r.t.Errorf("stored %v, want %v", got, byBucket(names))
	}
}

func byBucket(names []string) map[string][]string {
	m := map[string][]string{}
	for _, name := range names {
		key, data, _ := strings.Cut(name, "/")
		m[key] = append(m[key], data)
	}
	return m
}

func equal(a, b map[string][]string) bool {
	if len(a) != len(b) {
		return false
	}
	for key := range a {
		if !slices.Equal(a[key], b[key]) {
			return false
		}
	}
	return true
}

// drained waits until the log is empty, and checks that the spool knows.
func (r *rig) drained(within time.Duration) {
	r.t.Helper()
	for began := time.Now(); len(r.log.Entries()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > within {
			r.t.Fatalf("%d entries are in the log after %v: %+v", len(r.log.Entries()), within, r.s.Stats())
		}
	}
	synctest.Wait()
	if st := r.s.Stats(); st.Events != 0 || st.Bytes != 0 || st.Buckets != 0 || st.Age != 0 || r.s.Spooled() != 0 {
		r.t.Errorf("the log is empty, the spool says %+v", st)
	}
}
