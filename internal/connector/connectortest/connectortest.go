// Package connectortest is the conformance suite of connectors. Every
// connector passes it:
//
//	func TestConforms(t *testing.T) {
//		connectortest.Run(t, connectortest.Harness{Open: open, Cannot: ...})
//	}
//
// The suite knows nothing of HTTP or SQL. A Harness puts a destination into
// the states in which things go wrong, and reads back what arrived there. The
// suite then holds the connector to its contract: what the classes of outcome
// promise is compared with what the destination really has.
//
// What is special about a destination (its statuses, its mapping) belongs into
// the connector's own tests.
package connectortest

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/testenv"
)

// State is a way in which a destination fails.
type State string

// The states. A Harness can put its destination into each of them, or says why
// such a destination cannot be in it.
const (
	// Away: nothing answers where the destination should be, or it says that
	// it is out of service. It takes nothing.
	Away State = "away"
	// Denied: the destination is there and refuses the credentials, or there is
	// something else in its place. It takes nothing.
	Denied State = "denied"
	// Throttling: the destination is there and asks for patience.
	Throttling State = "throttling"
	// Hanging: the destination accepts the call and does not answer.
	Hanging State = "hanging"
	// LostAnswer: the destination takes the events, and the connection ends
	// before it can say so.
	LostAnswer State = "lost answer"
	// Fussy: the destination refuses the event with the id of BadID and takes
	// all others.
	Fussy State = "fussy"
)

// states in the order of their tests, with the classes that a call may have.
var states = []struct {
	state State
	want  []connector.Class
}{
	{Away, []connector.Class{connector.Retryable, connector.Throttled}},
	{Denied, []connector.Class{connector.Auth}},
	{Throttling, []connector.Class{connector.Throttled}},
	{Hanging, []connector.Class{connector.Ambiguous, connector.Retryable}},
	{LostAnswer, []connector.Class{connector.Ambiguous}},
}

// BadID is the id of the event that a Fussy destination refuses.
const BadID = "bad-event"

// Harness makes destinations for one kind of connector.
type Harness struct {
	// Open makes a destination: fresh, empty and working. It is stopped by
	// t.Cleanup.
	Open func(t *testing.T) *Destination
	// Adapt, if it is set, gives the suite's events what this kind of destination
	// needs of an event, such as an address of the user. It must change events
	// alike that are alike.
	Adapt func(e *event.Event)
	// Cannot says, for each state that Open's destinations have no way into,
	// why this kind of destination cannot be in it.
	Cannot map[State]string
}

// Destination is one destination under test.
type Destination struct {
	// Factory is the connector's, perhaps taught to trust the destination.
	Factory connector.Factory
	// Settings lead the connector there. They must be such that a call to a
	// Hanging destination is bounded by the context of Send.
	Settings json.RawMessage
	// DataDir is given to the connector as connector.Env.DataDir.
	DataDir string
	// Secrets must never be seen in a Result, an error or a log: passwords,
	// keys, tokens, signatures' keys.
	Secrets []string
	// Credentials are the names of settings, one of which the message of an Auth
	// result must name, so that the operator knows where to look.
	Credentials []string
	// Enter puts the destination into a state; leave makes it work again.
	// States that the Harness Cannot are not in it.
	Enter map[State]func(t *testing.T) (leave func())
	// Arrived returns the ids of the events that the destination has, in the
	// order in which it took them, one that it took twice twice.
	Arrived func(t *testing.T) []string
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	t.Run("plans are pure, complete, ordered and within limits", func(t *testing.T) {
		t.Parallel()
		testPlan(t, h)
	})
	t.Run("send", func(t *testing.T) { testSend(t, h) })
	t.Run("states", func(t *testing.T) { testStates(t, h) })
	t.Run("settings", func(t *testing.T) { testSettings(t, h) })
}

// bench is a connector and its destination, set up for one test.
type bench struct {
	*Destination
	t    *testing.T
	h    Harness
	conn connector.Connector
	log  *testenv.Log
}

func setUp(t *testing.T, h Harness) *bench {
	t.Helper()
	d := h.Open(t)
	b := &bench{Destination: d, t: t, h: h, log: &testenv.Log{}}
	b.conn = b.connect()
	t.Cleanup(func() { b.noSecret("log", b.log.String()) })
	return b
}

// connect makes another connector to the same destination.
func (b *bench) connect() connector.Connector {
	b.t.Helper()
	conn, err := b.Factory(b.Settings, b.env())
	if err != nil {
		b.t.Fatalf("factory: %v", err)
	}
	b.t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			b.t.Errorf("close: %v", err)
		}
	})
	return conn
}

func (b *bench) env() connector.Env {
	return connector.Env{
		Destination: "conformance", DataDir: b.DataDir,
		Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// plain, odd and random return events that suit the destination.
func (b *bench) plain(n int) []connector.Delivery { return b.h.adapt(Plain(n)) }
func (b *bench) odd() []connector.Delivery        { return b.h.adapt(Odd()) }
func (b *bench) random(n int) []connector.Delivery {
	return b.h.adapt(random(b.t, n))
}

func (h Harness) adapt(deliveries []connector.Delivery) []connector.Delivery {
	if h.Adapt != nil {
		for i := range deliveries {
			h.Adapt(&deliveries[i].Event)
			deliveries[i] = deliveryOf(deliveries[i].Event)
		}
	}
	return deliveries
}

// plan plans deliveries and checks the form of the plan.
func (b *bench) plan(deliveries []connector.Delivery) connector.Plan {
	b.t.Helper()
	plan := b.conn.Plan(deliveries)
	b.checkPlan(deliveries, plan)
	return plan
}

// deliver plans deliveries and sends the plan.
func (b *bench) deliver(deliveries []connector.Delivery) []connector.Result {
	b.t.Helper()
	return b.send(deliveries, b.plan(deliveries))
}

// send makes all calls of a plan, one after another, and returns the results by
// event. A call that is too large is split, as the delivery loop does it, before
// the next one.
func (b *bench) send(deliveries []connector.Delivery, plan connector.Plan) []connector.Result {
	b.t.Helper()
	results := make([]connector.Result, len(deliveries))
	for _, done := range plan.Done {
		results[done.Event] = done.Result
	}
	for _, call := range plan.Calls {
		var split []int
		for i, result := range b.sendCall(b.t.Context(), call) {
			results[call.Events[i]] = result
			if result.Class == connector.TooLarge && len(call.Events) > 1 {
				split = append(split, call.Events[i])
			}
		}
		for half := range slices.Chunk(split, max(1, (len(split)+1)/2)) {
			some := make([]connector.Delivery, len(half))
			for i, e := range half {
				some[i] = deliveries[e]
			}
			for i, result := range b.deliver(some) {
				results[half[i]] = result
			}
		}
	}
	return results
}

// checkResults holds results to the bounds of connector.Result.
func (b *bench) checkResults(call connector.Call, results []connector.Result) {
	b.t.Helper()
	if len(results) != len(call.Events) {
		b.t.Fatalf("%d results for a call of %d events", len(results), len(call.Events))
	}
	for i, r := range results {
		for _, text := range []struct {
			name, text string
			limit      int
		}{
			{"code", r.Code, httpcall.MaxMessage}, {"message", r.Message, httpcall.MaxMessage},
			{"request", r.Request, httpcall.MaxExcerpt}, {"response", r.Response, httpcall.MaxExcerpt},
		} {
			if len(text.text) > text.limit {
				b.t.Errorf("result %d: %s has %d bytes, at most %d", i, text.name, len(text.text), text.limit)
			}
			b.noSecret(fmt.Sprintf("result %d (%s): %s", i, r.Class, text.name), text.text)
		}
		if r.Class != connector.Delivered && r.Class != connector.Duplicate && r.Code == "" && r.Message == "" {
			b.t.Errorf("result %d is %s and does not say why", i, r.Class)
		}
		if r.Class == connector.Auth && len(b.Credentials) > 0 && !slices.ContainsFunc(b.Credentials, func(name string) bool { return strings.Contains(r.Message, name) }) {
			b.t.Errorf("result %d does not say which of the settings %v to correct: %s", i, b.Credentials, r.Message)
		}
		if r.RetryAfter < 0 || r.RetryAfter > httpcall.MaxRetryAfter {
			b.t.Errorf("result %d: wait of %s", i, r.RetryAfter)
		}
	}
}

func (b *bench) noSecret(where, text string) {
	b.t.Helper()
	for _, secret := range b.Secrets {
		if secret != "" && strings.Contains(text, secret) {
			b.t.Errorf("%s shows a secret: %s", where, strings.ReplaceAll(text, secret, "<<<"+secret+">>>"))
		}
	}
}

// wantClass checks that each result has one of some classes.
func (b *bench) wantClass(results []connector.Result, want ...connector.Class) {
	b.t.Helper()
	for i, r := range results {
		if !slices.Contains(want, r.Class) {
			b.t.Errorf("result %d is %s (%s: %s), want %v", i, r.Class, r.Code, r.Message, want)
		}
	}
}

// wantArrived checks that exactly the settled events of some deliveries are at
// the destination, once each, and in order per partition key. Nothing else may
// have been sent to it.
func (b *bench) wantArrived(deliveries []connector.Delivery, results []connector.Result) {
	b.t.Helper()
	arrived := b.Arrived(b.t)
	place := make(map[string]int, len(arrived))
	for i, id := range arrived {
		if _, again := place[id]; again {
			b.t.Errorf("%q arrived more than once", id)
		}
		place[id] = i
	}
	last := make(map[string]int)
	for i := range deliveries {
		e := &deliveries[i].Event
		at, there := place[e.ID]
		switch class := results[i].Class; {
		case class == connector.Dropped:
			continue
		case class.Settled() && !there:
			b.t.Errorf("%q is %s and did not arrive", e.ID, class)
			continue
		case !class.Settled() && there && class != connector.Ambiguous:
			b.t.Errorf("%q is %s and arrived", e.ID, class)
		}
		if !there {
			continue
		}
		if before, ok := last[e.PartitionKey()]; ok && at < before {
			b.t.Errorf("%q arrived before an earlier event of its key", e.ID)
		}
		last[e.PartitionKey()] = at
	}
}

// enter puts the destination into a state.
func (b *bench) enter(s State) (leave func()) {
	b.t.Helper()
	enter, ok := b.Enter[s]
	if !ok {
		b.t.Fatalf("the harness has no way into state %q and does not say that it cannot", s)
	}
	return enter(b.t)
}

// cannot reports whether a destination of this kind has no such state.
func (h Harness) cannot(t *testing.T, s State) bool {
	reason, ok := h.Cannot[s]
	if ok {
		t.Logf("a destination of this kind cannot be in state %q: %s", s, reason)
	}
	return ok
}

// deliveryOf returns an event as the delivery loop hands it over.
func deliveryOf(e event.Event) connector.Delivery {
	return connector.Delivery{Event: e, Raw: e.Append(nil), Rule: "conformance", Attempt: 1}
}
