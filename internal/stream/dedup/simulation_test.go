package dedup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

// TestSimulation lets senders send events again and again, through a Filter and
// a producer, onto a stream that fails in every way one can, while processes
// crash, at any moment of a write to the journal too, or are stopped, and the
// stream is trimmed as far as the Filter allows. It checks the promises of the
// package comment. A seed decides the configuration, what is sent and what
// fails.
func TestSimulation(t *testing.T) {
	streamtest.Simulate(t, 100, func(t *testing.T, seed uint64) { newSimulation(t, seed).run() })
}

// simulation is one seed: a stream and a folder, and the processes that use them
// one after another.
type simulation struct {
	t    *testing.T
	rng  *rand.Rand
	dir  string
	cfg  Config
	pcfg producer.Config
	// readable says that the process can read the stream.
	readable bool

	mu     sync.Mutex
	faulty float64
	wind   *rand.Rand // of the stream's failures
	now    *process
	// forgetful says that the promise is over: a process has crashed before a
	// stream that it cannot read.
	forgetful bool
	// trimmed are the entries that were discarded.
	trimmed   []stream.Entry
	attempts  map[string]attempt  // by name
	history   map[string][]string // by id
	processes sync.WaitGroup
}

// attempt is an event as it was sent once.
type attempt struct {
	sent, told time.Time
	ok         bool // it was answered as durable
}

// process is one life of the gateway.
type process struct {
	f      *Filter
	p      *producer.Producer
	log    *streamtest.Log
	intake *ledger.Intake
	stop   func() // the producer
	ended  chan struct{}
	house  chan struct{} // closed to end the housekeeping
	quiet  sync.WaitGroup

	mu   sync.Mutex
	dead bool
	tear int // bytes of the next write that reach the disk before the end; -1 for all
	put  int // events handed to Put
}

func (s *simulation) pick(values ...int) int { return values[s.rng.IntN(len(values))] }

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{t: t, rng: rand.New(rand.NewPCG(seed, 1)), wind: rand.New(rand.NewPCG(seed, 2)), attempts: map[string]attempt{}, history: map[string][]string{}}
	s.readable = s.rng.IntN(3) > 0
	s.dir = filepath.Join(t.TempDir(), "dedup")
	s.cfg = Config{
		Window: time.Duration(s.pick(10, 60, 3600)) * time.Second, MemoryBytes: MinMemory, Dir: s.dir, Stream: "events",
	}
	s.pcfg = producer.Config{
		Buckets:          s.pick(1, 2, 7, 16),
		MaxRecordBytes:   s.pick(600, 2000, 20_000),
		MaxInFlightCalls: s.pick(1, 1, 2, 4),
		CallTimeout:      500 * time.Millisecond,
		DrainTimeout:     time.Duration(s.pick(1, 5, 60)) * time.Second,
		Retry:            retry.Policy{MaxDelay: time.Second, MaxAttempts: s.pick(0, 0, 2)},
	}
	s.pcfg.MaxCallBytes = s.pcfg.MaxRecordBytes * s.pick(1, 3, 20)
	s.pcfg.MaxBufferedBytes = max(s.pcfg.MaxRecordBytes, s.pick(50_000, 1<<20))
	s.faulty = []float64{0, 0.1, 0.4, 0.8}[s.rng.IntN(4)]
	return s
}

// onPut is how the stream fails.
func (s *simulation) onPut(call int, records []stream.Record) streamtest.LogOutcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		for _, data := range stream.Deaggregate(r) {
			_, name := attemptOf(s.t, data)
			s.note(name, "in call %d", call)
		}
	}
	o := streamtest.LogOutcome{Take: time.Duration(s.wind.IntN(20)) * time.Millisecond}
	if s.wind.Float64() >= s.faulty {
		return o
	}
	switch s.wind.IntN(4) {
	case 0:
		o.Refuse = fault.New(fault.Unavailable, "the disk is full")
	case 1:
		o.Lose = errors.New("no acknowledgement")
	case 2:
		o.Lose, o.Stored = fault.New(fault.Ambiguous, "no acknowledgement in time"), true
		o.Late = time.Duration(s.wind.IntN(2000)*s.wind.IntN(2)) * time.Millisecond
	case 3:
		o.Take = time.Duration(s.wind.IntN(3000)) * time.Millisecond
	}
	return o
}

// start begins a process on what the last one left.
func (s *simulation) start(log *streamtest.Log) *process {
	t := s.t
	pr := &process{log: log, intake: new(ledger.Intake), ended: make(chan struct{}), house: make(chan struct{}), tear: -1}
	var err error
	if pr.p, err = producer.New(log, pr.intake, s.pcfg); err != nil {
		t.Fatal(err)
	}
	cfg := s.cfg
	if s.readable {
		cfg.Log = log
	}
	cfg.write = pr.write
	if pr.f, err = New(pr.p, pr.intake, cfg); err != nil {
		t.Fatal(err)
	}
	if err := pr.f.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	pr.stop = stop
	s.processes.Go(func() {
		defer close(pr.ended)
		_ = pr.p.Run(ctx) // it may well end with events undecided
	})
	pr.quiet.Go(func() { s.keepHouse(pr) })
	return pr
}

// write is how a process writes its journal.
func (pr *process) write(w writer, data []byte) error {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	switch {
	case pr.dead:
		return errors.New("the process has crashed")
	case pr.tear >= 0:
		pr.dead = true
		if _, err := w.Write(data[:min(pr.tear, len(data))]); err != nil {
			return err
		}
		return errors.New("the process crashes")
	}
	return writeAndSync(w, data)
}

// keepHouse does what the program does every five seconds.
func (s *simulation) keepHouse(pr *process) {
	for {
		select {
		case <-pr.house:
			return
		case <-time.After(5 * time.Second):
		}
		if err := pr.f.Save(s.t.Context()); err != nil {
			s.t.Error(err)
		}
		s.trim(pr)
	}
}

// trim discards all that the Filter does not need.
func (s *simulation) trim(pr *process) {
	if !s.readable {
		return
	}
	upTo := pr.f.Covered()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range pr.log.Entries() {
		if e.Position <= upTo {
			s.trimmed = append(s.trimmed, e)
		}
	}
	if err := pr.log.Discard(s.t.Context(), upTo); err != nil {
		s.t.Error(err)
	}
}

func (s *simulation) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// crash ends the process at once, in one case of two while it writes its
// journal, and starts another.
func (s *simulation) crash() {
	pr := s.current()
	close(pr.house)
	pr.quiet.Wait()
	tear := -1
	if s.rng.IntN(2) == 0 {
		tear = s.rng.IntN(500)
	}
	s.mu.Lock()
	s.forgetful = s.forgetful || !s.readable
	s.note("process/", "crashes")
	s.mu.Unlock()
	pr.mu.Lock()
	pr.tear, pr.dead = tear, tear < 0
	pr.mu.Unlock()
	_ = pr.f.Save(s.t.Context())
	pr.mu.Lock()
	pr.dead = true
	pr.mu.Unlock()
	log := pr.log.Crash()
	pr.stop()
	s.begin(log)
}

// restart stops the process as an operator does, and starts another.
func (s *simulation) restart() {
	pr := s.current()
	s.mu.Lock()
	s.now = nil // senders find nobody
	s.note("process/", "is stopped")
	s.mu.Unlock()
	pr.stop()
	<-pr.ended
	close(pr.house)
	pr.quiet.Wait()
	if err := pr.f.Close(s.t.Context()); err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	s.forgetful = s.forgetful || !s.readable && pr.p.Stats().Undecided > 0
	s.mu.Unlock()
	s.begin(pr.log.Crash()) // what is late comes no more
}

const clock = "04:05.000"

// note adds to the history of an id, which is shown when something is wrong with
// it. mu is held.
func (s *simulation) note(name, format string, args ...any) {
	id := idOf(name)
	s.history[id] = append(s.history[id], time.Now().Format(clock)+" "+short(name)+": "+fmt.Sprintf(format, args...))
}

// idOf returns the id in the name of an attempt, with the user.
func idOf(name string) string {
	parts := strings.SplitN(name, "/", 3)
	return parts[0] + "/" + parts[1]
}

func (s *simulation) begin(log *streamtest.Log) {
	next := s.start(log)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = next
	s.note("process/", "starts")
}

// send sends some events for the so manieth time, and notes what it is told.
func (s *simulation) send(rng *rand.Rand, sender, try int, ids []int) (done bool) {
	pr := s.current()
	if pr == nil {
		return false
	}
	var b stream.Batch
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = fmt.Sprintf("u%d/%d/%d-%d-%d%s", id%5, id, sender, try, i, strings.Repeat("x", rng.IntN(200)*rng.IntN(2)))
		item := b.Add(streamtest.Sent(names[i]))
		if b.MarkOwnID(item); rng.IntN(50) == 0 {
			b.Add(streamtest.Sent(fmt.Sprintf("g/made-%d-%d-%d", sender, try, id)))
		}
	}
	patience := time.Duration(1+rng.IntN(3000)) * time.Millisecond
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	sent := time.Now()
	pr.mu.Lock()
	pr.put += b.Len()
	pr.mu.Unlock()
	err := pr.f.Put(ctx, &b)
	if took := time.Since(sent); took > patience {
		s.t.Errorf("Put took %v, its context %v", took, patience)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	heard := s.now == pr || s.now == nil
	done, item := true, 0
	for i := range names {
		for !b.OwnID(item) {
			item++
		}
		ok := heard && b.Err(item) == nil
		if err == nil && b.Err(item) != nil {
			s.t.Errorf("Put returned nil, and of %s %v", names[i], b.Err(item))
		}
		s.note(names[i], "sent at %s, told %v", sent.Format(clock), b.Err(item))
		s.attempts[short(names[i])] = attempt{sent: sent, told: time.Now(), ok: ok}
		done = done && ok
		item++
	}
	return done
}

// short is what tells one attempt from another.
func short(name string) string { return strings.TrimRight(name, "x") }

// attemptOf returns the name of a stored event, with its attempt.
func attemptOf(t *testing.T, data []byte) (id, name string) {
	id = streamtest.Name(t, data)
	_, rest, _ := bytes.Cut(data, []byte(`"note":"`))
	note, _, _ := bytes.Cut(rest, []byte(`"`))
	return id, short(id + "/" + string(note))
}

func (s *simulation) run() {
	t := s.t
	log := streamtest.NewLog(t, 0)
	log.OnPut = s.onPut
	s.now = s.start(log)
	var senders sync.WaitGroup
	seeds := s.rng.Uint64()
	for n := range s.pick(2, 5) {
		senders.Go(func() {
			rng := rand.New(rand.NewPCG(seeds, uint64(n)))
			for round := range 12 {
				ids := make([]int, 1+rng.IntN(1+rng.IntN(30)))
				for i := range ids {
					ids[i] = round*20 + rng.IntN(60) // those of other senders, and of the round before
				}
				// As SDKs do: until they are told that it is stored, and once in a
				// while again though they were.
				for try := range 6 {
					if s.send(rng, n, round*10+try, ids) && rng.IntN(3) > 0 {
						break
					}
					time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
				}
			}
		})
	}
	for range s.rng.IntN(6) {
		time.Sleep(time.Duration(s.pick(100, 3000, 9000)) * time.Millisecond)
		if s.pick(0, 1, 1) == 0 {
			s.restart()
		} else {
			s.crash()
		}
	}
	senders.Wait()
	s.mu.Lock()
	s.faulty = 0
	s.mu.Unlock()
	pr := s.current()
	time.Sleep(10 * time.Minute) // all that is left unknown becomes known
	s.account(pr)
	pr.stop()
	<-pr.ended
	close(pr.house)
	pr.quiet.Wait()
	pr.log.Settle()
	if err := pr.f.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s.processes.Wait()
	s.check(pr.log)
}

// account checks the ledger of a process at a quiet moment.
func (s *simulation) account(pr *process) {
	o := pr.intake.Balance()
	total := o.Accepted + o.Duplicates
	for _, n := range o.Rejected {
		total += n
	}
	if total != uint64(pr.put) || pr.f.Waiting() != 0 {
		s.t.Errorf("%d events were put, the ledger was told %+v; %d wait", pr.put, o, pr.f.Waiting())
	}
	if n := pr.f.calling[0].Load() + pr.f.calling[1].Load(); n != 0 {
		s.t.Errorf("%d calls are under way", n)
	}
	if n := pr.f.Stats().Duplicates; n != o.Duplicates {
		s.t.Errorf("%d duplicates, the ledger was told %d", n, o.Duplicates)
	}
	for i := range pr.f.memory.shards {
		if n := len(pr.f.memory.shards[i].waits); n > 0 {
			s.t.Errorf("%d waits are left behind", n)
		}
	}
}

// tell is the history of an id, with the lives of processes.
func (s *simulation) tell(id string) string {
	lines := append(slices.Clone(s.history["process/"]), s.history[id]...)
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// check looks at what is on the stream, and at what senders were told.
func (s *simulation) check(log *streamtest.Log) {
	type copy struct {
		name string
		at   time.Time
	}
	stored := map[string][]copy{} // by id
	written := map[string]int{}   // by attempt
	for _, e := range append(s.trimmed, log.Entries()...) {
		for _, r := range e.Records {
			for _, data := range stream.Deaggregate(r) {
				id, name := attemptOf(s.t, data)
				if strings.HasPrefix(id, "g/") {
					continue
				}
				// The same attempt may be there again where the producer did not
				// learn what had become of it.
				if written[name]++; written[name] > 1 {
					if written[name] > 1+log.Unknown(data) {
						s.t.Errorf("%s was written %d times", name, written[name])
					}
					continue
				}
				stored[id] = append(stored[id], copy{name, e.StoredAt})
			}
		}
	}
	window := s.cfg.Window
	for id, copies := range stored {
		for i, c := range copies[1:] {
			before := copies[i]
			if c.at.Before(s.attempts[before.name].sent.Add(window)) && !s.forgetful {
				s.t.Errorf("%s is stored twice: as %s, sent at %s, and as %s, stored %v later, in a window of %v:\n%s", id, before.name,
					s.attempts[before.name].sent.Format(clock), c.name, c.at.Sub(s.attempts[before.name].sent), window, s.tell(id))
			}
		}
	}
	for name, a := range s.attempts {
		if !a.ok {
			continue
		}
		id, durable := idOf(name), false
		for _, c := range stored[id] {
			// It, or an earlier one of the window, or what is left of one after it.
			durable = durable || !c.at.After(a.told) && c.at.After(a.sent.Add(-window*65/64-time.Minute))
		}
		if !durable {
			s.t.Errorf("%s was answered as durable at %s, and is not:\n%s", name, a.told.Format(clock), s.tell(id))
		}
	}
}
