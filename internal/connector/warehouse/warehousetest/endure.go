// Package warehousetest takes connectors to databases and buckets through what
// connectortest.Endure takes those to simulated vendors through, and asks the same
// of them. The destination is the caller's: a double in simulated time, or a real
// server, which has none.
package warehousetest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/testenv"
)

// Ordeal is a day of a destination, which the caller makes fail now and then.
type Ordeal struct {
	// Open makes the connector.
	Open func(log *slog.Logger) connector.Connector
	// Ambiguous configures the runner. With guard.AmbiguousRetry events may be
	// there twice, if the destination does not recognize them.
	Ambiguous guard.Ambiguous
	// Refuse makes an event one that is refused for good, as one in twenty is. Nil:
	// the destination takes everything.
	Refuse func(e *event.Event)
	// Away takes the destination away, and back brings it back.
	Away func() (back func())
	// RealTime says that the destination has a clock of its own. Then events come
	// all at once, the outage lasts until the runner has seen it, and waiting ends
	// with Runner.Wake. Otherwise Endure is called in a bubble of synctest: events
	// come over two hours, in the middle of which the destination is away for one.
	RealTime bool
	// Arrived returns the ids of what is there, in the order in which it came.
	Arrived func() []string
	// Unordered says that there is no such order.
	Unordered bool
	// Secrets must not be seen in a log, a dead letter or the status.
	Secrets []string
}

// The sizes of an Ordeal.
const (
	users      = 300
	span       = 2 * time.Hour
	outageAt   = 30 * time.Minute
	outageTime = time.Hour
)

// trial is an Ordeal that is going on.
type trial struct {
	*Ordeal
	t       *testing.T
	random  *rand.Rand
	stream  *deliverytest.Stream
	runner  *delivery.Runner
	sent    []event.Event
	refused map[string]bool // ids
}

// Endure takes a connector through an Ordeal of ten thousand events, fewer with the
// race detector, with the runner that delivers on one machine. At the end every event is there, once and in the order of its user, or
// is a dead letter that says why, and the account adds up.
func Endure(t *testing.T, o Ordeal) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	tr := &trial{Ordeal: &o, t: t, random: rand.New(rand.NewPCG(seed, 0)), stream: &deliverytest.Stream{}, refused: map[string]bool{}}
	disk, log := &deliverytest.Store{}, &testenv.Log{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	conn := o.Open(logger)
	runner, err := delivery.New(tr.stream, disk.Open(), conn, func() delivery.Route { return deliverytest.Route{} },
		delivery.Config{Destination: "ordeal", Ambiguous: o.Ambiguous}, logger)
	if err != nil {
		t.Fatal(err)
	}
	tr.runner = runner
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	if o.RealTime {
		tr.atOnce()
	} else {
		tr.overTime()
	}
	tr.settle(events)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	tr.check(disk, conn.Limits().Dedups)
	_, dead := disk.Letters()
	shown, err := json.Marshal([]any{dead, runner.Status()})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range o.Secrets {
		if strings.Contains(log.String(), secret) || strings.Contains(string(shown), secret) {
			t.Error("a secret can be read in the log, in a dead letter or in the status")
		}
	}
}

// feed appends events until there are so many.
func (tr *trial) feed(upTo, most int, after func(n int)) {
	for len(tr.sent) < upTo {
		n := min(1+tr.random.IntN(most), upTo-len(tr.sent))
		batch := make([][]byte, n)
		for i := range batch {
			now := time.Now().UTC().Format(time.RFC3339Nano)
			e := event.Event{
				ID: uuid.Must(uuid.NewV7()).String(), Type: event.TypeTrack, Name: "order_completed", Source: "web",
				UserID: fmt.Sprintf("user-%03d", tr.random.IntN(users)), Timestamp: now, ReceivedAt: now,
				Data: fmt.Appendf(nil, `{"nth":%d}`, len(tr.sent)), Context: []byte(`{"locale":"de-AT"}`),
			}
			if tr.Refuse != nil && tr.random.IntN(20) == 0 {
				tr.Refuse(&e)
				tr.refused[e.ID] = true
			}
			tr.sent = append(tr.sent, e)
			batch[i] = e.Append(nil)
		}
		tr.stream.Append(batch...)
		after(n)
	}
}

// overTime lets events come, and the destination go, in simulated time.
func (tr *trial) overTime() {
	time.AfterFunc(outageAt, func() { time.AfterFunc(outageTime, tr.Away()) })
	tr.feed(events, 40, func(n int) { time.Sleep(span * time.Duration(n) / time.Duration(events)) })
}

// atOnce does so in real time.
func (tr *trial) atOnce() {
	const most = 2000
	nothing := func(int) {}
	tr.feed(events/4, most, nothing)
	tr.settle(events / 4)
	back := tr.Away()
	tr.await("the runner to see the outage", func() bool {
		tr.feed(min(len(tr.sent)+events/100, events*3/4), most, nothing) // it takes some calls that fail
		return tr.runner.Status().State == delivery.Paused
	})
	tr.runner.Wake() // a probe of a destination that is still away
	tr.feed(events*3/4, most, nothing)
	back()
	tr.feed(events, most, nothing)
}

// settle waits until nothing waits any more of the first n events.
func (tr *trial) settle(n int) {
	tr.await("everything to be settled", func() bool {
		if tr.RealTime {
			tr.runner.Wake()
		}
		c := tr.runner.Counts()
		return c.Seen == uint64(n) && c.Retrying+c.Waiting == 0
	})
}

func (tr *trial) await(what string, done func() bool) {
	tr.t.Helper()
	pause, patience := time.Minute, 24*time.Hour
	if tr.RealTime {
		pause, patience = 5*time.Millisecond, 2*time.Minute
	}
	for limit := time.Now().Add(patience); !done(); <-time.After(pause) {
		if time.Now().After(limit) {
			tr.t.Fatalf("after %s, waiting for %s: %+v, %+v", patience, what, tr.runner.Counts(), tr.runner.Status())
		}
	}
}

func (tr *trial) check(disk *deliverytest.Store, dedups bool) {
	t := tr.t
	t.Helper()
	c := tr.runner.Counts()
	if n := uint64(events); c.Seen != n || c.Delivered+c.Dead != n || c.Filtered != 0 {
		t.Errorf("the account does not add up: %+v", c)
	}
	copies, place := map[string]int{}, map[string]int{}
	for i, id := range tr.Arrived() {
		if copies[id]++; copies[id] == 1 {
			place[id] = i
		}
	}
	classes := map[string]string{} // of dead letters by event id
	parked, dead := disk.Letters()
	for _, l := range dead {
		classes[l.EventID] = l.Class
		if l.Message == "" {
			t.Errorf("the dead letter of %s does not say why: %+v", l.EventID, l)
		}
	}
	if len(parked) > 0 || uint64(len(dead)) != c.Dead {
		t.Errorf("%d parked and %d dead letters, %+v", len(parked), len(dead), c)
	}
	wrong, unknown, twice := 0, 0, 0
	fail := func(format string, args ...any) {
		if wrong++; wrong <= 10 {
			t.Errorf(format, args...)
		}
	}
	last := map[string]int{}
	for i := range tr.sent {
		e := &tr.sent[i]
		n, class := copies[e.ID], classes[e.ID]
		delete(copies, e.ID)
		switch {
		case class == connector.Ambiguous.String() && !dedups:
			unknown++ // it may be there, and the letter says so
		case tr.refused[e.ID]:
			if n > 0 || class != connector.Permanent.String() {
				fail("event %d is refused: it is there %d times, dead letter %q", i, n, class)
			}
		case class != "" || n == 0:
			fail("event %d: it is there %d times, dead letter %q", i, n, class)
		}
		if n > 1 {
			if twice++; dedups || tr.Ambiguous != guard.AmbiguousRetry {
				fail("event %d is there %d times", i, n)
			}
		}
		if n == 0 || tr.Unordered {
			continue
		}
		if before, ok := last[e.UserID]; ok && place[e.ID] < before {
			fail("event %d of %s arrived before an earlier one", i, e.UserID)
		}
		last[e.UserID] = place[e.ID]
	}
	if len(copies) > 0 {
		fail("%d events are there that nobody has sent", len(copies))
	}
	if wrong > 10 {
		t.Errorf("and %d more", wrong-10)
	}
	if tr.Ambiguous == guard.AmbiguousRetry && unknown > 0 {
		t.Errorf("%d events of unknown fate", unknown)
	}
	t.Logf("%+v; %d of unknown fate, %d there twice", c, unknown, twice)
}
