package spool_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/spool"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

// TestSimulation lets senders put events through a producer and a spool onto a
// stream that fails in every way a stream can, with a log that does too, and
// with processes that crash and are followed by others on the same log. It
// checks the promises of the package comment. A seed decides the configuration,
// what is sent and what fails.
//
// The default is for every change; make simulate runs ten thousand seeds.
func TestSimulation(t *testing.T) {
	streamtest.Simulate(t, 100, func(t *testing.T, seed uint64) { newSimulation(t, seed).run() })
}

// simulation is one seed: a stream and a log, and the processes that use them
// one after another.
type simulation struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	memory *streamtest.Memory
	sky    streamtest.WeatherConfig
	ground logWeather
	pcfg   producer.Config
	scfg   spool.Config
	// most is what the window may hold: its bound and an entry.
	most int

	mu        sync.Mutex
	now       *process
	skies     []*streamtest.Weather
	crashes   int
	refusals  int
	refused   map[string]bool // events that the stream will never take
	processes sync.WaitGroup
}

// process is one life of the gateway.
type process struct {
	p        *producer.Producer
	s        *spool.Spool
	intake   *ledger.Intake
	weather  *streamtest.Weather
	log      *streamtest.Log
	opening  uint64 // events that the spool held at the start
	stopPut  func()
	stopAll  func()
	putEnded chan struct{}
	ended    chan struct{}
}

// logWeather is how a log fails at random.
type logWeather struct {
	mu     sync.Mutex
	rng    *rand.Rand
	faulty float64
}

func (w *logWeather) onPut(int, []stream.Record) streamtest.LogOutcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := streamtest.LogOutcome{Take: time.Duration(w.rng.IntN(5)) * time.Millisecond}
	if w.rng.Float64() >= w.faulty {
		return o
	}
	switch w.rng.IntN(3) {
	case 0:
		o.Refuse = fault.New(fault.Unavailable, "the disk is full")
	case 1:
		o.Lose = errors.New("no acknowledgement")
	case 2:
		o.Lose, o.Stored = fault.New(fault.Ambiguous, "no acknowledgement in time"), true
		o.Late = time.Duration(w.rng.IntN(300)*w.rng.IntN(2)) * time.Millisecond
	}
	return o
}

func (w *logWeather) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faulty = 0
}

func (s *simulation) pick(values ...int) int { return values[s.rng.IntN(len(values))] }

// spells returns whether it is one of some random times.
func (s *simulation) spells(n int, seconds ...int) func(time.Time) bool {
	type spell struct{ from, to time.Time }
	spells := make([]spell, n)
	for i := range spells {
		from := time.Now().Add(time.Duration(s.rng.IntN(5000)) * time.Millisecond)
		spells[i] = spell{from, from.Add(time.Duration(s.pick(seconds...)) * time.Second)}
	}
	return func(now time.Time) bool {
		for _, sp := range spells {
			if !now.Before(sp.from) && now.Before(sp.to) {
				return true
			}
		}
		return false
	}
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), refused: map[string]bool{}}
	s.pcfg = producer.Config{
		Buckets:           s.pick(1, 2, 7, 16, 40),
		OneEventPerRecord: s.rng.IntN(6) == 0,
		MaxCallRecords:    s.pick(1, 3, 500),
		MaxRecordBytes:    s.pick(600, 2000, 20_000),
		MaxInFlightCalls:  s.pick(1, 1, 2, 4),
		CallTimeout:       500 * time.Millisecond,
		DrainTimeout:      time.Duration(s.pick(1, 5, 60)) * time.Second,
		Retry:             retry.Policy{MaxDelay: time.Second},
	}
	s.pcfg.MaxCallBytes = s.pcfg.MaxRecordBytes * s.pick(1, 3, 20)
	s.pcfg.MaxBufferedBytes = max(s.pcfg.MaxRecordBytes, s.pick(50_000, 200_000, 1<<20))
	s.scfg = spool.Config{
		Patience:         time.Duration(s.pick(1, 50, 500)) * time.Millisecond,
		CallTimeout:      300 * time.Millisecond,
		MaxCallRecords:   s.pcfg.MaxCallRecords,
		MaxCallBytes:     s.pcfg.MaxCallBytes,
		MaxWindowBytes:   s.pick(1000, 20_000, 1<<20),
		MergedBytes:      s.pick(0, s.pcfg.MaxRecordBytes),
		RetriesPerSecond: float64(s.pick(5, 50)),
		Refused:          s.refuse,
	}
	s.most = s.scfg.MaxWindowBytes + s.pcfg.MaxCallBytes
	s.memory = streamtest.NewMemory(t, streamtest.Limits{
		MaxCallRecords: s.pcfg.MaxCallRecords, MaxCallBytes: s.pcfg.MaxCallBytes, MaxRecordBytes: s.pcfg.MaxRecordBytes,
	})
	s.sky = streamtest.WeatherConfig{
		Limit:  max(450, s.pcfg.MaxRecordBytes/s.pick(1, 1, 1, 3)),
		Faulty: []float64{0, 0, 0.1, 0.5, 0.9}[s.rng.IntN(5)],
		Down:   s.spells(s.pick(0, 0, 1), 1, 5, 100),
		Away:   s.spells(s.pick(0, 1, 2), 1, 5, 300),
	}
	shard, throttled := s.rng.IntN(4), s.spells(s.pick(0, 1, 2), 1, 20, 200)
	s.sky.Throttled = func(now time.Time, r stream.Record) bool {
		return throttled(now) && int(r.PartitionKey[len(r.PartitionKey)-1])%4 == shard
	}
	s.ground = logWeather{rng: rand.New(rand.NewPCG(seed, 3)), faulty: []float64{0, 0, 0.2, 0.6}[s.rng.IntN(4)]}
	return s
}

// refuse keeps what the stream will never take; it too may fail.
func (s *simulation) refuse(_ context.Context, r stream.Record, cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fault.KindOf(cause) != fault.TooLarge {
		s.t.Errorf("a record was refused for %v", cause)
	}
	if s.refusals++; s.refusals%3 == 1 {
		return errors.New("try later")
	}
	for _, data := range stream.Deaggregate(r) {
		s.refused[streamtest.Name(s.t, data)] = true
	}
	return nil
}

// start begins a process on what the last one left.
func (s *simulation) start(log *streamtest.Log) *process {
	t := s.t
	pr := &process{intake: new(ledger.Intake), log: log, putEnded: make(chan struct{}), ended: make(chan struct{})}
	pr.opening, _, _ = log.Backlog(t.Context())
	pr.weather = streamtest.NewWeather(s.memory, rand.New(rand.NewPCG(s.seed, uint64(10+len(s.skies)))), s.sky)
	s.skies = append(s.skies, pr.weather)
	var err error
	pr.s, err = spool.New(t.Context(), streamtest.Watch(t, pr.weather, s.memory.Limits()), log, s.scfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.pcfg
	cfg.RetryAfter = pr.s.Wait
	if pr.p, err = producer.New(pr.s, pr.intake, cfg); err != nil {
		t.Fatal(err)
	}
	put, stopPut := context.WithCancel(t.Context())
	all, stopAll := context.WithCancel(t.Context())
	pr.stopPut, pr.stopAll = stopPut, stopAll
	s.processes.Go(func() {
		defer close(pr.putEnded)
		_ = pr.p.Run(put) // it may well end with events undecided
	})
	s.processes.Go(func() {
		defer close(pr.ended)
		if err := pr.s.Run(all); err != nil {
			t.Error(err)
		}
	})
	return pr
}

// current returns the process that senders reach.
func (s *simulation) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// put is what a sender does. What a process says that crashes in between, its
// sender may not have heard.
func (s *simulation) put(ctx context.Context, b *stream.Batch) error {
	pr := s.current()
	err := pr.p.Put(ctx, b)
	if s.current() == pr {
		return err
	}
	lost := fault.New(fault.Ambiguous, "the connection was lost")
	for i := range b.Len() {
		b.Fail(i, lost)
	}
	return lost
}

// crash ends the process at once and starts another, with other buckets.
func (s *simulation) crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashes++
	s.now.weather.Crash()
	log := s.now.log.Crash()
	s.now.stopPut()
	s.now.stopAll()
	s.pcfg.Buckets = s.pick(1, 2, 7, 16, 40)
	s.now = s.start(log)
}

// look checks what holds at any moment.
func (s *simulation) look() {
	pr := s.current()
	if held := pr.s.Stats().WindowBytes; held > s.most {
		s.t.Errorf("%d bytes are in the window, the bound is %d", held, s.most)
	}
	if p := pr.p.Stats(); p.BufferedBytes+p.FreeBytes > s.pcfg.MaxBufferedBytes*4/3+s.pcfg.MaxRecordBytes {
		s.t.Errorf("%d bytes are held by the producer, the bound is %d", p.BufferedBytes+p.FreeBytes, s.pcfg.MaxBufferedBytes)
	}
}

func (s *simulation) run() {
	t := s.t
	log := streamtest.NewLog(t, s.pick(0, 0, 10_000, 100_000))
	log.OnPut = s.ground.onPut
	s.now = s.start(log)

	senders := make([]*streamtest.Sender, s.pick(1, 4, 12))
	var group sync.WaitGroup
	for i := range senders {
		sender := streamtest.NewSender(t, i, rand.New(rand.NewPCG(s.seed, uint64(100+i))), s.put)
		senders[i] = sender
		group.Go(func() {
			for range 20 {
				sender.Put()
				s.look()
			}
		})
	}
	for range s.pick(0, 0, 1, 3) {
		time.Sleep(time.Duration(s.rng.IntN(5000)) * time.Millisecond)
		s.crash()
	}
	group.Wait()
	pr := s.current()
	pr.stopPut()
	<-pr.putEnded

	// Everything is well again: what is in the spool arrives.
	s.ground.clear()
	pr.weather.Clear()
	for began := time.Now(); len(log.Entries()) > 0 || pr.s.Spooled() > 0; {
		if time.Since(began) > time.Hour {
			t.Fatalf("%d entries are in the log and do not get on the stream: %+v", len(log.Entries()), pr.s.Stats())
		}
		time.Sleep(time.Second)
		s.look()
	}
	log.Settle()
	s.balance(pr)
	pr.stopAll()
	for _, w := range s.skies {
		w.Clear()
	}
	s.processes.Wait()
	s.check(log, senders)
}

// balance checks the account of a process at a quiet moment.
func (s *simulation) balance(pr *process) {
	p, sp := pr.p.Stats(), pr.s.Stats()
	if p.Accepted != pr.intake.Balance().Accepted {
		s.t.Errorf("the producer accepted %d, the ledger was told %d", p.Accepted, pr.intake.Balance().Accepted)
	}
	in, out := pr.opening+p.Accepted, uint64(pr.weather.Stored())+pr.s.Spooled()+sp.Refused
	if out < in || out > in+p.Undecided {
		s.t.Errorf("%d in the spool at the start, %d accepted, %d undecided; but %d stored, %d spooled, %d refused",
			pr.opening, p.Accepted, p.Undecided, pr.weather.Stored(), pr.s.Spooled(), sp.Refused)
	}
	if sp.Events != 0 || sp.Bytes != 0 || sp.Buckets != 0 && p.Undecided == 0 || sp.WindowBytes != 0 || sp.Earlier || sp.Stuck != 0 || sp.Age != 0 {
		s.t.Errorf("the log is empty, and the spool says %+v", sp)
	}
}

// check looks at what has arrived.
func (s *simulation) check(log *streamtest.Log, senders []*streamtest.Sender) {
	events := s.memory.Events()
	for data, n := range streamtest.Copies(events) {
		most := 1 + s.crashes*(1+log.Unknown([]byte(data)))
		for _, w := range s.skies {
			most += w.Unknown([]byte(data))
		}
		if n > most {
			s.t.Errorf("%s was written %d times, at most %d are explained", streamtest.Name(s.t, []byte(data)), n, most)
		}
	}
	positions := streamtest.Positions(s.t, events)
	for _, sender := range senders {
		sender.Check(positions, s.refused)
	}
}
