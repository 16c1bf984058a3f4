package delivery_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/retry"
)

// scene is a runner between doubles. Its zero fields are made by start.
type scene struct {
	t      *testing.T
	stream *deliverytest.Stream
	disk   *deliverytest.Store
	conn   *deliverytest.Connector
	route  delivery.Route
	cfg    delivery.Config
	log    *slog.Logger

	process *deliverytest.Process
	runner  *delivery.Runner
	cancel  context.CancelFunc
	ended   chan error
}

func newScene(t *testing.T) *scene {
	return &scene{
		t: t, stream: &deliverytest.Stream{}, disk: &deliverytest.Store{}, conn: &deliverytest.Connector{},
		route: deliverytest.Route{}, cfg: delivery.Config{Destination: "crm"}, log: slog.New(slog.DiscardHandler),
	}
}

// start begins a new process.
func (s *scene) start() *scene {
	s.t.Helper()
	s.process = s.disk.Open()
	return s.startAs(s.process)
}

func (s *scene) startAs(p *deliverytest.Process) *scene {
	s.t.Helper()
	s.process = p
	r, err := delivery.New(s.stream, p, s.conn, func() delivery.Route { return s.route }, s.cfg, s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	s.runner, s.cancel, s.ended = r, cancel, make(chan error, 1)
	go func() { s.ended <- r.Run(ctx) }()
	return s
}

// stop ends the process in order.
func (s *scene) stop() {
	s.t.Helper()
	s.cancel()
	if err := <-s.ended; err != nil {
		s.t.Errorf("Run: %v", err)
	}
}

// crash ends the process at once: what it does from now on has no effect.
func (s *scene) crash() {
	s.process.Kill()
	s.cancel()
	<-s.ended
}

// send stores one entry per event: "user/name" of a new id "e1", "e2", ….
func (s *scene) send(events ...string) {
	for _, e := range events {
		user, name, _ := strings.Cut(e, "/")
		s.stream.Append(deliverytest.Event(fmt.Sprintf("e%d", s.stream.Events()+1), name, user))
	}
}

func (s *scene) sendMany(n, users int) {
	for i := range n {
		s.send(fmt.Sprintf("u%d/bought", i%users))
	}
}

// checkEquations fails the test unless the account adds up, live and on disk.
func (s *scene) checkEquations() {
	s.t.Helper()
	if c := s.runner.Counts(); c.Seen != sum(c) {
		s.t.Errorf("the live account does not add up: %+v", c)
	}
}

func sum(c delivery.Counts) uint64 {
	return c.Skipped + c.Filtered + c.Delivered + c.Retrying + c.Waiting + c.Dead + c.Purged + c.Replayed
}

// checkDisk fails the test unless the State on disk adds up with the queues.
func (s *scene) checkDisk() {
	s.t.Helper()
	st, ok := s.disk.State()
	if !ok {
		return
	}
	parked, dead := s.disk.Letters()
	count := func(letters []deadletter.Letter, settled []string) (n uint64) {
		for _, l := range letters {
			if l.Position <= st.Position && !slices.Contains(settled, l.ID) {
				n++
			}
		}
		return n
	}
	p, d := count(parked, st.Settled.Parked), count(dead, st.Settled.Dead)
	if st.Seen != st.Skipped+st.Filtered+st.Delivered+st.Purged+st.Replayed+p+d {
		s.t.Errorf("the State does not add up with %d parked and %d dead: %+v", p, d, st)
	}
}

func (s *scene) wantCounts(want delivery.Counts) {
	s.t.Helper()
	if got := s.runner.Counts(); got != want {
		s.t.Errorf("counts\n got %+v\nwant %+v", got, want)
	}
}

func (s *scene) wantOrder(want ...string) {
	s.t.Helper()
	if got := s.conn.Order(); !slices.Equal(got, want) {
		s.t.Errorf("the destination took\n %v\nwant\n %v", got, want)
	}
}

func results(n int, c connector.Class) []connector.Result {
	return connector.All(n, connector.Result{Class: c, Message: "because"})
}

// failing answers with a class while the name of the first event is among
// those given.
func failing(c connector.Class, names ...string) deliverytest.Answer {
	return func(_ context.Context, events []connector.Delivery) []connector.Result {
		rs := results(len(events), connector.Delivered)
		for i := range events {
			if slices.Contains(names, events[i].Event.Name) {
				rs[i] = connector.Result{Class: c, Message: "because"}
			}
		}
		return rs
	}
}

func TestEventsArriveInOrderAndAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.route = deliverytest.Route{Wants: func(name string) bool { return name != "noise" }}
		s.send("u1/bought", "u1/noise", "u1/paid")
		s.start()
		synctest.Wait()
		s.send("u1/noise", "u1/left")
		synctest.Wait()
		s.wantOrder("e1", "e3", "e5")
		s.wantCounts(delivery.Counts{Seen: 5, Filtered: 2, Delivered: 3})
		time.Sleep(time.Second)
		if got := s.runner.Position(); got != 5 {
			t.Errorf("position %d was saved, want 5", got)
		}
		s.checkDisk()
		s.stop()
	})
}

func TestAStopSavesWhatIsDoneAndTheNextStartGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.send("u1/a", "u1/b")
		s.start()
		synctest.Wait()
		s.stop()
		s.send("u1/c")
		s.start()
		synctest.Wait()
		s.wantOrder("e1", "e2", "e3")
		s.wantCounts(delivery.Counts{Seen: 3, Delivered: 3})
		s.stop()
		s.checkDisk()
	})
}

func TestAFailedEventHoldsItsKeyAndNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Concurrency = 1
		s.conn.Answer(failing(connector.Retryable, "bad"))
		s.send("u1/bad", "u1/later", "u2/free")
		s.start()
		synctest.Wait()
		s.wantOrder("e3")
		s.wantCounts(delivery.Counts{Seen: 3, Delivered: 1, Retrying: 2})
		s.conn.Answer(nil)
		time.Sleep(2 * time.Second)
		s.wantOrder("e3", "e1", "e2")
		s.wantCounts(delivery.Counts{Seen: 3, Delivered: 3})
		s.stop()
		s.checkDisk()
		if parked, _ := s.disk.Letters(); len(parked) != 0 {
			t.Errorf("%d letters are still parked", len(parked))
		}
	})
}

func TestTheLastAttemptLeavesADeadLetterWithAllThatIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Retry = retry.Policy{MaxAttempts: 3, BaseDelay: 10 * time.Millisecond}
		s.conn.Answer(func(context.Context, []connector.Delivery) []connector.Result {
			return []connector.Result{{
				Class: connector.Retryable, Code: "E7", Message: "try later", Status: 503, Request: "POST /", Response: "busy",
			}}
		})
		began := time.Now()
		s.send("u1/bought")
		s.start()
		time.Sleep(time.Second)
		_, dead := s.disk.Letters()
		if len(dead) != 1 {
			t.Fatalf("%d dead letters, want 1", len(dead))
		}
		l := dead[0]
		if l.LastTry.Before(began) || !l.FirstSeen.Equal(began) {
			t.Errorf("first seen %v, last try %v", l.FirstSeen, l.LastTry)
		}
		for i, try := range l.Tries {
			if try.At.Before(began) || try.Class != "retryable" || try.Code != "E7" || try.Status != 503 || try.Message != "try later" {
				t.Errorf("try %d: %+v", i+1, try)
			}
		}
		if len(l.Tries) != 3 || !l.Tries[2].At.Equal(l.LastTry) {
			t.Errorf("the tries are %+v", l.Tries)
		}
		l.LastTry, l.FirstSeen, l.Tries, l.Event = time.Time{}, time.Time{}, nil, nil
		want := deadletter.Letter{
			ID: "1.0.0", Destination: "crm", EventID: "e1", EventName: "bought", PartitionKey: "u1", Position: 1,
			Attempts: 3, Class: "retryable", Code: "E7", Message: "try later", Status: 503,
			Request: "POST /", Response: "busy", Rule: "rule-1", Connector: "double@1",
		}
		if fmt.Sprintf("%+v", l) != fmt.Sprintf("%+v", want) {
			t.Errorf("letter\n got %+v\nwant %+v", l, want)
		}
		if string(dead[0].Event) != string(deliverytest.Event("e1", "bought", "u1")) {
			t.Errorf("the letter holds %s", dead[0].Event)
		}
		s.wantCounts(delivery.Counts{Seen: 1, Dead: 1})
		s.stop()
		s.checkDisk()
	})
}
