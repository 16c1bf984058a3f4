package delivery_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
)

// sim is a destination with moods of its own, and what it saw.
type sim struct {
	mu     sync.Mutex
	rnd    *rand.Rand
	weight [9]int // of the classes, changed from time to time
	// excused events were dropped or refused, and are so after a crash only
	// if the destination is of the same mind.
	excused map[string]bool
	gone    bool // the process that calls is dead: it hears and tells nothing
	begun   int  // calls
}

func (m *sim) pick() connector.Class {
	total := 0
	for _, w := range m.weight {
		total += w
	}
	n := m.rnd.IntN(total)
	for c, w := range m.weight {
		if n -= w; n < 0 {
			return connector.Class(c)
		}
	}
	panic("unreachable")
}

func (m *sim) answer(ctx context.Context, events []connector.Delivery) []connector.Result {
	m.mu.Lock()
	m.begun++
	wait := time.Duration(m.rnd.IntN(int(50 * time.Millisecond)))
	if m.rnd.IntN(200) == 0 {
		wait = time.Minute // longer than the timeout
	}
	m.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return results(len(events), connector.Ambiguous)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return results(len(events), connector.Ambiguous)
	}
	whole := m.rnd.IntN(2) == 0
	class := m.pick()
	rs := results(len(events), class)
	failed := map[string]bool{}
	for i, e := range events {
		if !whole {
			class = m.pick()
		}
		key := e.Event.PartitionKey()
		if failed[key] {
			class = connector.Retryable
		}
		rs[i].Class = class
		switch class {
		case connector.Delivered, connector.Duplicate:
		case connector.Dropped, connector.Permanent:
			m.excused[e.Event.ID] = true
		case connector.Throttled:
			rs[i].RetryAfter = time.Duration(m.rnd.IntN(3)) * time.Second
			failed[key] = true
		default:
			failed[key] = true
		}
	}
	return rs
}

func (m *sim) set(weight [9]int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.weight = weight
}

// fair is a mood in which everything ends, the others make trouble.
var (
	fair  = [9]int{connector.Delivered: 1}
	moods = [][9]int{
		{connector.Delivered: 10, connector.Retryable: 1, connector.Permanent: 1, connector.Duplicate: 1, connector.Dropped: 1},
		{connector.Delivered: 5, connector.Retryable: 5, connector.Ambiguous: 2, connector.TooLarge: 2},
		{connector.Retryable: 1},
		{connector.Delivered: 3, connector.Throttled: 2},
		{connector.Throttled: 1},
		{connector.Auth: 1, connector.Delivered: 1},
		{connector.Permanent: 1, connector.Delivered: 2},
	}
)

var (
	simSeed  = flag.Uint64("seed", 0, "run the simulation with this seed only")
	simSeeds = flag.Int("seeds", 16, "run the simulation with so many seeds")
)

// TestSimulation prints its seeds as the names of its subtests. One of them is
// run again with -run TestSimulation -seed=…; what the seed decides is the same
// then, the order in which goroutines are scheduled is not.
func TestSimulation(t *testing.T) {
	t.Parallel()
	start, seeds := uint64(time.Now().UnixNano()), *simSeeds
	if testing.Short() {
		seeds = min(seeds, 5)
	}
	if *simSeed != 0 {
		start, seeds = *simSeed, 1
	}
	for i := range seeds {
		seed := start + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		})
	}
}

// rules are the rules of the destination, which change while it runs.
type rules struct {
	mu   sync.Mutex
	want map[string]bool
	// refused events were not wanted when they were read; read again after a
	// crash they may be.
	refused map[string]bool
}

func (r *rules) set(names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.want = map[string]bool{}
	for _, name := range names {
		r.want[name] = true
	}
}

func (r *rules) Apply(raw []byte) (out []byte, rule string, wanted bool, err error) {
	ev, err := event.ParseStored(raw)
	if err != nil {
		return nil, "", false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.want[ev.Name] {
		r.refused[ev.ID] = true
		return nil, "", false, nil
	}
	return raw, "rule-1", true, nil
}

// operator gives an order about dead letters and does not wait for the outcome
// for long; the process may end in the middle of it.
func (s *scene) operator(rnd *rand.Rand, group *sync.WaitGroup) {
	o := deadletter.Order{Limit: rnd.IntN(40)}
	switch rnd.IntN(4) {
	case 0:
		o.Filter.Class = "permanent"
	case 1:
		o.Filter.EventName = "a*"
	case 2:
		o.Rate = 1 + 20*rnd.Float64()
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Duration(1+rnd.IntN(int(10*time.Second))))
	r, what := s.runner, rnd.IntN(4)
	group.Go(func() {
		defer cancel()
		switch what { // an error is the end of its time or of the process
		case 0:
			_, _ = r.Purge(ctx, o, nil)
		case 1:
			o.To = deadletter.ToStream
			_, _ = r.Replay(ctx, o, s.resend, nil)
		default:
			_, _ = r.Replay(ctx, o, nil, nil)
		}
	})
}

func (s *scene) resend(_ context.Context, letters []deadletter.Letter) error {
	for _, l := range letters {
		if l.Event != nil {
			s.stream.Append(l.Event)
		}
	}
	return nil
}

// torn is a record of so many events of which nothing can be read.
func torn(events int) stream.Record {
	return stream.Record{PartitionKey: "bucket-0", Data: []byte("\xf3\x89\x9a\xc2 cut off"), Events: events}
}

func simulate(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	s := newScene(t)
	s.cfg = delivery.Config{
		Destination: "crm", Concurrency: 1 + rnd.IntN(4), MaxPendingEvents: 20 + rnd.IntN(200), MaxParked: 20 + rnd.IntN(100),
		Retry: retry.Policy{MaxAttempts: 2 + rnd.IntN(8), BaseDelay: 100 * time.Millisecond, MaxDelay: 10 * time.Second},
	}
	s.conn.Bounds = connector.Limits{MaxEvents: 1 + rnd.IntN(20), Timeout: 10 * time.Second, Dedups: rnd.IntN(2) == 0}
	if rnd.IntN(3) == 0 {
		s.conn.Bounds.Linger = time.Duration(1+rnd.IntN(20)) * time.Second
	}
	if rnd.IntN(3) == 0 {
		s.cfg.Rate = rate.Limit(5 + rnd.IntN(50))
	}
	if rnd.IntN(3) == 0 {
		s.cfg.Ambiguous = guard.AmbiguousRetry
	}
	s.conn.PerCall = rnd.IntN(8)
	m := &sim{rnd: rand.New(rand.NewPCG(seed, 2)), weight: fair, excused: map[string]bool{}}
	s.conn.Answer(m.answer)
	names := []string{"a", "b", "noise"}
	wants := &rules{refused: map[string]bool{}}
	wants.set("a", "b")
	s.route = wants
	var operators sync.WaitGroup

	failRnd, failMu := rand.New(rand.NewPCG(seed, 3)), sync.Mutex{}
	begin := func() {
		p := s.disk.Open()
		p.Fail = func(deliverytest.Op) deliverytest.Outcome {
			failMu.Lock()
			defer failMu.Unlock()
			if failRnd.IntN(10) == 0 {
				return deliverytest.Outcome(failRnd.IntN(3))
			}
			return deliverytest.OK
		}
		m.mu.Lock()
		m.gone = false
		m.mu.Unlock()
		s.startAs(p)
	}
	keys := map[string]string{} // of the events, by id
	var ids []string
	begin()
	// paused says that an operator has; begun is how many calls were made by then.
	paused, begun := false, 0
	switchPause := func() {
		if paused {
			s.resume()
			paused = false
			return
		}
		s.pause("simulated")
		time.Sleep(15 * time.Second) // what was in flight has ended
		m.mu.Lock()
		paused, begun = true, m.begun
		m.mu.Unlock()
	}
	checkPause := func() {
		if !paused {
			return
		}
		if s.runner.Status().State != delivery.Starting {
			s.wantPaused("simulated")
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.begun != begun {
			t.Errorf("%d calls in a pause", m.begun-begun)
		}
	}
	entries := 60
	biggest := 30
	for range entries {
		var batch [][]byte
		for range 1 + rnd.IntN(biggest) {
			id := fmt.Sprintf("e%05d", len(ids))
			user := fmt.Sprintf("u%d", rnd.IntN(12))
			name := names[rnd.IntN(len(names))]
			keys[id] = user
			ids = append(ids, id)
			batch = append(batch, deliverytest.Event(id, name, user))
		}
		s.stream.Append(batch...)
		if rnd.IntN(20) == 0 {
			s.stream.AppendRecord(torn(1 + rnd.IntN(9)))
		}
		time.Sleep(time.Duration(rnd.IntN(int(2 * time.Second))))
		synctest.Wait()
		s.checkEquations()
		checkPause()
		c := s.runner.Counts()
		if limit := s.cfg.MaxPendingEvents + biggest; c.Waiting > uint64(limit) {
			t.Errorf("%d events wait in memory, the bound is %d", c.Waiting, limit)
		}
		if limit := s.cfg.MaxParked + s.cfg.MaxPendingEvents + biggest; c.Retrying > uint64(limit) {
			t.Errorf("%d events are parked, the bound is %d", c.Retrying, limit)
		}
		s.checkRecoverable()
		switch rnd.IntN(16) {
		case 0:
			m.mu.Lock()
			m.gone = true
			m.mu.Unlock()
			s.crash()
			s.checkRecoverable()
			begin()
		case 1:
			s.cancel() // calls that take longer than the drain are given up
			<-s.ended
			begin()
		case 2, 3:
			m.set(moods[rnd.IntN(len(moods))])
		case 4:
			s.runner.Wake()
		case 5, 6, 7, 8:
			s.operator(rnd, &operators)
		case 10:
			switchPause()
		case 9:
			wants.set(names[:rnd.IntN(len(names)+1)]...)
		}
	}
	m.set(fair)
	if paused {
		switchPause()
	}
	operators.Wait()
	time.Sleep(3 * time.Hour)
	synctest.Wait()
	s.checkEquations()
	s.checkDisk()
	c := s.runner.Counts()
	if c.Waiting+c.Retrying != 0 || c.Seen != uint64(s.stream.Events()) {
		t.Errorf("the end: %+v, %+v", c, s.runner.Status())
	}
	parked, dead := s.disk.Letters()
	if len(parked) != 0 {
		t.Errorf("%d letters are parked at the end", len(parked))
	}
	if n := s.runner.Status().Residual; n != 0 {
		t.Errorf("residual %d", n)
	}
	for _, l := range dead {
		m.excused[l.EventID] = true
	}
	s.checkEnd(ids, keys, m.excused, wants.refused)
	s.stop()
	s.checkDisk()
}

// checkEnd looks at every event: it arrived, or the destination or the rules did
// not want it, or it is or was a dead letter. And at the order in which those of
// each key arrived for the first time, but for the ones that were dead letters
// in between or that a reading did not want.
func (s *scene) checkEnd(ids []string, keys map[string]string, excused, refused map[string]bool) {
	s.t.Helper()
	first := map[string]int{}
	for i, id := range s.conn.Order() {
		if _, again := first[id]; !again {
			first[id] = i
		}
	}
	last, lastID := map[string]int{}, map[string]string{}
	for _, id := range ids {
		at, taken := first[id]
		if excused[id] || refused[id] || s.disk.WasDead(id) {
			continue
		}
		key := keys[id]
		switch {
		case !taken:
			s.t.Errorf("%s of %s is lost", id, key)
			continue
		case at < last[key]:
			s.t.Errorf("%s of %s was taken before %s", id, key, lastID[key])
		}
		last[key], lastID[key] = at, id
	}
}
