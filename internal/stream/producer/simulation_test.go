package producer_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

var (
	simSeeds = flag.Uint64("sim.seeds", 100, "how many seeds the simulation runs")
	simSeed  = flag.Uint64("sim.seed", 0, "the only seed that the simulation runs")
)

// TestSimulation lets senders put events through a producer onto a stream that
// fails in every way a stream can, and checks the promises of the package
// comment. A seed decides the configuration, what is sent and what fails; how
// goroutines interleave and how long retries wait differs from run to run, so
// that a failing seed may need -count to fail again.
func TestSimulation(t *testing.T) {
	t.Parallel()
	first, last := uint64(1), *simSeeds
	if *simSeed != 0 {
		first, last = *simSeed, *simSeed
	}
	if testing.Short() {
		last = min(last, first+49)
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
			if t.Failed() {
				t.Logf("to replay: go test -race -run TestSimulation -count 20 ./internal/stream/producer -sim.seed=%d", seed)
			}
		})
	}
}

// weather is a stream that fails at random. It knows what it did to each
// event.
type weather struct {
	t      *testing.T
	inner  *streamtest.Memory
	limit  int // of one record, the stream's own
	faulty float64
	down   func(time.Time) bool
	late   *sync.WaitGroup

	mu        sync.Mutex
	rng       *rand.Rand
	ambiguous map[string]int // event: attempts whose fate was not told
}

func (w *weather) chance(p float64) bool { return w.rng.Float64() < p }

// hide notes that the fate of records is not told.
func (w *weather) hide(records ...stream.Record) {
	for _, r := range records {
		for _, data := range stream.Deaggregate(r) {
			w.ambiguous[name(w.t, data)]++
		}
	}
}

func (w *weather) PutRecords(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
	w.mu.Lock()
	took := time.Duration(w.rng.IntN(20)) * time.Millisecond
	trouble := w.chance(w.faulty)
	whole := w.rng.IntN(8)
	w.mu.Unlock()
	if err := retry.Sleep(ctx, took); err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.hide(records...)
		return nil, err
	}
	if w.down(time.Now()) {
		return each(records, fault.New(fault.Unavailable, "down")), nil
	}
	if trouble {
		switch whole {
		case 0: // the reply is lost
			w.mu.Lock()
			w.hide(records...)
			w.mu.Unlock()
			w.store(ctx, records)
			return nil, errors.New("connection reset")
		case 1: // the request is lost
			w.mu.Lock()
			w.hide(records...)
			w.mu.Unlock()
			return nil, fault.New(fault.Throttled, "whatever it says")
		case 2: // it hangs, and is stored after the caller has given up
			copies := slices.Clone(records)
			for i := range copies {
				copies[i].Data = slices.Clone(copies[i].Data)
			}
			w.mu.Lock()
			w.hide(records...)
			delay := time.Duration(w.rng.IntN(300)) * time.Millisecond
			w.mu.Unlock()
			<-ctx.Done()
			w.late.Go(func() {
				time.Sleep(delay)
				w.store(context.WithoutCancel(ctx), copies)
			})
			return nil, ctx.Err()
		case 3: // everything is throttled
			return each(records, &fault.Error{Kind: fault.Throttled, RetryAfter: 200 * time.Millisecond}), nil
		}
	}
	return w.partly(ctx, records, trouble)
}

// store stores what the stream can take and tells nobody.
func (w *weather) store(ctx context.Context, records []stream.Record) {
	records = slices.DeleteFunc(slices.Clone(records), func(r stream.Record) bool { return len(r.Data) > w.limit })
	if len(records) > 0 {
		_, _ = w.inner.PutRecords(ctx, records)
	}
}

// partly stores some records and refuses others.
func (w *weather) partly(ctx context.Context, records []stream.Record, trouble bool) ([]stream.Result, error) {
	results := make([]stream.Result, len(records))
	var keep []stream.Record
	w.mu.Lock()
	for i, r := range records {
		if len(r.Data) > w.limit {
			results[i].Err = fault.New(fault.TooLarge, "limit %d", w.limit)
			continue
		}
		if !trouble || w.chance(0.5) {
			keep = append(keep, r)
			continue
		}
		switch w.rng.IntN(4) {
		case 0:
			results[i].Err = fault.New(fault.Throttled, "shard at capacity")
		case 1:
			results[i].Err = fault.New(fault.Unavailable, "no leader")
		case 2:
			results[i].Err = errors.New("internal failure") // not stored, nobody knows
			w.hide(r)
		case 3:
			results[i].Err = fault.New(fault.Ambiguous, "no quorum in time") // stored, nobody knows
			w.hide(r)
			keep = append(keep, r)
		}
	}
	w.mu.Unlock()
	if len(keep) > 0 {
		if _, err := w.inner.PutRecords(ctx, keep); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.hide(records...)
			return nil, err
		}
	}
	return results, nil
}

func each(records []stream.Record, err error) []stream.Result {
	results := make([]stream.Result, len(records))
	for i := range results {
		results[i].Err = err
	}
	return results
}

func simulate(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	pick := func(values ...int) int { return values[rng.IntN(len(values))] }
	cfg := producer.Config{
		Buckets:           pick(1, 2, 7, 16, 40),
		Format:            stream.Format(rng.IntN(2)),
		OneEventPerRecord: rng.IntN(6) == 0,
		MaxCallRecords:    pick(1, 3, 500),
		MaxRecordBytes:    pick(600, 2000, 20_000),
		MaxInFlightCalls:  pick(1, 1, 2, 4),
		CallTimeout:       500 * time.Millisecond,
		DrainTimeout:      time.Duration(pick(1, 5, 60)) * time.Second,
		Retry:             retry.Policy{MaxAttempts: pick(0, 0, 3), MaxDelay: time.Second},
	}
	cfg.MaxCallBytes = cfg.MaxRecordBytes * pick(1, 3, 20)
	cfg.MaxBufferedBytes = max(cfg.MaxRecordBytes, pick(50_000, 200_000, 1<<20))

	outage := time.Now().Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
	outageEnd := outage.Add(time.Duration(pick(0, 0, 1, 5, 1000)) * time.Second)
	memory := streamtest.NewMemory(t, streamtest.Limits{
		MaxCallRecords: cfg.MaxCallRecords, MaxCallBytes: cfg.MaxCallBytes, MaxRecordBytes: cfg.MaxRecordBytes,
	})
	sky := &weather{
		t: t, inner: memory, late: new(sync.WaitGroup),
		limit:     max(450, cfg.MaxRecordBytes/pick(1, 1, 1, 3)),
		faulty:    []float64{0, 0.1, 0.5, 0.9}[rng.IntN(4)],
		down:      func(now time.Time) bool { return !now.Before(outage) && now.Before(outageEnd) },
		rng:       rand.New(rand.NewPCG(seed, 2)),
		ambiguous: map[string]int{},
	}
	intake := new(ledger.Intake)
	p, err := producer.New(streamtest.Watch(t, sky, memory.Limits()), intake, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.Run(ctx) // it may well end with events undecided
	}()

	account := func() {
		s := p.Stats()
		if s.Events != s.Accepted+s.Rejected+s.Undecided+uint64(s.WaitingEvents+s.FlyingEvents) {
			t.Errorf("the account does not add up: %+v", s)
		}
		if held := s.BufferedBytes + s.FreeBytes; held > cfg.MaxBufferedBytes*4/3+cfg.MaxRecordBytes {
			t.Errorf("%d bytes are held, the bound is %d", held, cfg.MaxBufferedBytes)
		}
	}
	senders := make([]*simSender, pick(1, 4, 12))
	var group sync.WaitGroup
	for i := range senders {
		s := &simSender{t: t, id: i, p: p, rng: rand.New(rand.NewPCG(seed, uint64(100+i))), answers: map[string]error{}}
		senders[i] = s
		group.Go(func() {
			for range 20 {
				s.put()
				account()
			}
		})
	}
	if rng.IntN(3) > 0 { // else stop in the middle
		group.Wait()
	} else {
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
	}
	stop()
	group.Wait()
	<-ended
	sky.late.Wait()
	account()

	s := p.Stats()
	if s.WaitingEvents != 0 || s.FlyingEvents != 0 || s.FlyingCalls != 0 || s.Resting != 0 || s.BufferedBytes != 0 {
		t.Errorf("something is left after Run: %+v", s)
	}
	checkIntake(t, s, intake)
	times, position := map[string]int{}, map[string]int{}
	for i, data := range memory.Events() {
		n := name(t, data)
		if times[n]++; times[n] == 1 {
			position[n] = i
		}
	}
	if n := uint64(len(times)); n < s.Accepted || n > s.Accepted+s.Undecided {
		t.Errorf("%d events on the stream, accepted %d, undecided %d", n, s.Accepted, s.Undecided)
	}
	for n, count := range times {
		if count > 1+sky.ambiguous[n] {
			t.Errorf("%s was written %d times after %d unknown outcomes", n, count, sky.ambiguous[n])
		}
	}
	if copies := uint64(len(memory.Events())); s.Undecided == 0 && copies > s.Accepted+s.Repeated {
		t.Errorf("%d copies on the stream, accepted %d and at most %d repeated", copies, s.Accepted, s.Repeated)
	}
	total := uint64(0)
	for _, s := range senders {
		total += uint64(len(s.sent))
		before := map[string]string{} // by key: the last event of it on the stream
		for _, n := range s.sent {
			err, stored := s.answers[n], times[n] > 0
			switch {
			case err == nil && !stored:
				t.Errorf("%s was answered with nil and is not on the stream", n)
			case err != nil && fault.KindOf(err) != fault.Ambiguous && stored:
				t.Errorf("%s was answered with %v and is on the stream", n, err)
			}
			if !stored {
				continue
			}
			key, _, _ := strings.Cut(n, "/")
			if last, ok := before[key]; ok && position[last] > position[n] {
				t.Errorf("%s was put before %s and is behind it on the stream", last, n)
			}
			before[key] = n
		}
	}
	if s.Events != total {
		t.Errorf("%d events were put, %d counted", total, s.Events)
	}
}

// simSender puts batches, one after another, with keys of its own.
type simSender struct {
	t       *testing.T
	id      int
	p       *producer.Producer
	rng     *rand.Rand
	batch   stream.Batch // used again and again, as the edge does
	sent    []string     // in order
	answers map[string]error
}

func (s *simSender) put() {
	s.batch.Reset()
	first := len(s.sent)
	for range 1 + s.rng.IntN(1+s.rng.IntN(40)) {
		n := fmt.Sprintf("u%d-%d/%d", s.id, s.rng.IntN(4), len(s.sent))
		s.batch.Add(sent(n + "/" + strings.Repeat("x", s.rng.IntN(300)*s.rng.IntN(3))))
		s.sent = append(s.sent, n)
	}
	patience := time.Duration(1+s.rng.IntN(2000)) * time.Millisecond
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	began := time.Now()
	err := s.p.Put(ctx, &s.batch)
	if took := time.Since(began); took > patience {
		s.t.Errorf("Put took %v, its context %v", took, patience)
	}
	for i, n := range s.sent[first:] {
		s.answers[n] = s.batch.Err(i)
		if err == nil && s.batch.Err(i) != nil {
			s.t.Errorf("Put returned nil, %s failed: %v", n, s.batch.Err(i))
		}
	}
	if s.rng.IntN(3) == 0 {
		time.Sleep(time.Duration(s.rng.IntN(200)) * time.Millisecond)
	}
}
