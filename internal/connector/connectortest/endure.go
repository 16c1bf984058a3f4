package connectortest

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
	"github.com/eventsluice/sluice/internal/testenv"
)

// Ordeal is a day of a destination, in simulated time: events come in over two
// hours, in the middle of which the vendor is away for one; the whole time it
// throttles some calls, loses some answers after it has done what they asked for,
// and refuses one event in twenty for what is in it.
type Ordeal struct {
	Simulated
	// Event, if it is set, changes the nth event, before Adapt does.
	Event func(n int, e *event.Event)
	// RetryAmbiguous configures the destination to send events again whose fate is
	// not known, though it does not recognize duplicates.
	RetryAmbiguous bool
	// Drops reports whether the mapping leaves an event out.
	Drops func(e *event.Event) bool
	// CannotRefuse says that the vendor never refuses a single event.
	CannotRefuse bool
	// Unordered says that the vendor keeps no order of events of a user, or that
	// the connector makes calls for it side by side.
	Unordered bool
	// Trouble, if it is set, changes what is wrong with the vendor.
	Trouble func(t *simulator.Trouble)
}

// The sizes of an Ordeal.
const (
	ordealUsers = 500
	ordealTime  = 2 * time.Hour
	outageAt    = 30 * time.Minute
	outageTime  = time.Hour
)

// Endure takes a connector through an Ordeal of ten thousand events, with the runner that delivers on
// one machine. At the end every event is delivered, left out by the mapping, or a
// dead letter that says why, and the account adds up; events that were delivered
// are at the vendor exactly once if it recognizes duplicates, and otherwise once,
// or with a dead letter that says that it may be there.
func Endure(t *testing.T, o Ordeal) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { endure(t, &o) })
}

func endure(t *testing.T, o *Ordeal) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// The clock of a bubble begins in the year 2000, where no vendor lives.
	time.Sleep(time.Until(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)))
	vendor, err := simulator.New(o.Vendor)
	if err != nil {
		t.Fatal(err)
	}
	trouble := simulator.Trouble{Seed: seed, Throttle: 0.05, Lose: 0.02}
	if !o.CannotRefuse {
		trouble.Refuse = refuses
	}
	if o.Trouble != nil {
		o.Trouble(&trouble)
	}
	vendor.Trouble(trouble)
	log := &testenv.Log{}
	settings := o.settings(t, vendor, "http://127.0.0.1:9")
	conn, err := o.New(settings, connector.Env{
		Destination: "ordeal", Log: slog.New(slog.NewTextHandler(log, nil)), Dial: simulator.Dial(ctx, vendor),
	})
	if err != nil {
		t.Fatal(err)
	}
	stream, disk := &deliverytest.Stream{}, &deliverytest.Store{}
	runner, err := delivery.New(stream, disk.Open(), conn, func() delivery.Route { return deliverytest.Route{} }, delivery.Config{
		Destination: "ordeal", Ambiguous: o.ambiguous(),
	}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { ended <- runner.Run(running) }()

	away := trouble
	away.Away = true
	time.AfterFunc(outageAt, func() { vendor.Trouble(away) })
	time.AfterFunc(outageAt+outageTime, func() { vendor.Trouble(trouble) })
	events := make([]event.Event, ordealEvents)
	for sent := 0; sent < len(events); {
		n := min(1+random.IntN(40), len(events)-sent)
		batch := make([][]byte, n)
		for i := range n {
			events[sent+i] = o.event(sent+i, random)
			batch[i] = events[sent+i].Append(nil)
		}
		stream.Append(batch...)
		sent += n
		time.Sleep(ordealTime * time.Duration(n) / time.Duration(len(events)))
	}
	// Whatever still waits is delivered within a day.
	for limit := time.Now().Add(24 * time.Hour); ; time.Sleep(time.Minute) {
		c := runner.Counts()
		if c.Seen == ordealEvents && c.Retrying+c.Waiting == 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("a day later: %+v, status %+v", c, runner.Status())
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	o.check(t, vendor, disk, runner, events)
	_, dead := disk.Letters()
	o.checkSecrets(t, settings, log.String(), dead, runner.Status())
	cancel()
	synctest.Wait()
}

func (o *Ordeal) event(n int, random *rand.Rand) event.Event {
	now := time.Now().UTC()
	user := random.IntN(ordealUsers)
	e := event.Event{
		ID: uuid.Must(uuid.NewV7()).String(), Type: event.TypeTrack, Name: "button_clicked", UserID: fmt.Sprintf("user-%05d", user),
		Timestamp: now.Format(time.RFC3339Nano), ReceivedAt: now.Format(time.RFC3339Nano), Source: "web",
		Data: fmt.Appendf(nil, `{"page":"/pricing","nth":%d}`, n), Context: fmt.Appendf(nil, `{"traits":{"email":"user-%05d@example.com"}}`, user),
	}
	if o.Event != nil {
		o.Event(n, &e)
	}
	if o.Adapt != nil {
		o.Adapt(&e)
	}
	return e
}

// refuses says which events the vendor does not want: one in twenty, by the id,
// so that it never wants them.
func refuses(id string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return h.Sum32()%20 == 0
}

func (o *Ordeal) check(t *testing.T, vendor *simulator.Vendor, disk *deliverytest.Store, runner *delivery.Runner, events []event.Event) {
	t.Helper()
	c := runner.Counts()
	if c.Seen != ordealEvents || c.Delivered+c.Filtered+c.Dead != ordealEvents {
		t.Errorf("the account does not add up: %+v", c)
	}
	copies, place := map[string]int{}, map[string]int{}
	for i, id := range o.ids(vendor.Received()) {
		copies[id]++
		if copies[id] == 1 {
			place[id] = i
		}
	}
	classes := map[string]string{} // of dead letters by event id
	_, dead := disk.Letters()
	for _, l := range dead {
		classes[l.EventID] = l.Class
		if l.Message == "" {
			t.Errorf("the dead letter of %s does not say why: %+v", l.EventID, l)
		}
	}
	last := map[string]int{}
	wrong, unknown := 0, 0
	fail := func(format string, args ...any) {
		if wrong++; wrong <= 10 {
			t.Errorf(format, args...)
		}
	}
	for i := range events {
		e := &events[i]
		n, class := copies[e.ID], classes[e.ID]
		switch {
		case o.Drops != nil && o.Drops(e):
			if n > 0 || class != "" {
				fail("event %d is to be left out: %d at the vendor, dead letter %q", i, n, class)
			}
			continue
		case class == connector.Ambiguous.String():
			unknown++ // it may be there, and the letter says so
		case !o.CannotRefuse && refuses(e.ID):
			if n > 0 || class != connector.Permanent.String() {
				fail("event %d is refused: %d at the vendor, dead letter %q", i, n, class)
			}
		case class != "" || n == 0:
			fail("event %d: %d at the vendor, dead letter %q", i, n, class)
		}
		if n > 1 && !o.RetryAmbiguous {
			fail("event %d is at the vendor %d times", i, n)
		}
		if n == 0 || o.Unordered {
			continue
		}
		if before, ok := last[e.UserID]; ok && place[e.ID] < before {
			fail("event %d of %s arrived before an earlier one", i, e.UserID)
		}
		last[e.UserID] = place[e.ID]
	}
	if wrong > 10 {
		t.Errorf("and %d more", wrong-10)
	}
	if unknown > ordealEvents/20 {
		t.Errorf("%d events of unknown fate", unknown)
	}
	t.Logf("%s: %+v; %d of unknown fate; the vendor counts %+v", o.Vendor, c, unknown, vendor.Counts())
}

// ambiguous is how the runner is configured.
func (o *Ordeal) ambiguous() guard.Ambiguous {
	if o.RetryAmbiguous {
		return guard.AmbiguousRetry
	}
	return ""
}

// checkSecrets fails the test if a secret can be seen in the log, in a dead
// letter or in the status.
func (o *Ordeal) checkSecrets(t *testing.T, settings json.RawMessage, log string, dead any, status delivery.Status) {
	t.Helper()
	shown, err := json.Marshal([]any{dead, status})
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range o.secrets(t, settings) {
		for place, text := range map[string]string{"the log": log, "dead letters or status": string(shown)} {
			if strings.Contains(text, secret) {
				t.Errorf("the setting %s can be read in %s", name, place)
			}
		}
	}
}
