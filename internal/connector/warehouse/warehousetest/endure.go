// Package warehousetest takes connectors to databases through what a real server
// can go through within a test. connectortest.Endure does so with simulated
// vendors and in simulated time, of which a real server has none.
package warehousetest

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
)

// RefusedPrefix begins the ids of the events that the table refuses.
const RefusedPrefix = "refused-"

// Ordeal is a destination and what happens to it.
type Ordeal struct {
	// Connector delivers to a table that refuses ids with RefusedPrefix.
	Connector connector.Connector
	Events    int
	// Enter puts the destination into states in which it is for some of the
	// calls; leave makes it work again.
	Enter map[connectortest.State]func(t *testing.T) (leave func())
	// Arrived returns the ids of the rows of the table.
	Arrived func(t *testing.T) []string
}

// Endure delivers events in batches of any size, and again those whose outcome is
// not final, in another order and other company, until all outcomes are. A third
// of the batches finds the destination in trouble, and one event in twenty is
// refused. At the end those, and no others, are dead letters, and each of the
// others is there exactly once.
func Endure(t *testing.T, o Ordeal) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	waiting := connectortest.Plain(o.Events)
	want := make(map[string]bool)
	for i := range waiting {
		e := &waiting[i].Event
		if random.IntN(20) == 0 {
			e.ID = RefusedPrefix + e.ID
		} else {
			want[e.ID] = true
		}
	}
	var states []connectortest.State
	for _, state := range []connectortest.State{connectortest.Away, connectortest.LostAnswer, connectortest.Throttling} {
		if o.Enter[state] != nil {
			states = append(states, state)
		}
	}
	seen := make(map[connector.Class]int)
	for batches := 0; len(waiting) > 0; batches++ {
		if batches > o.Events {
			t.Fatalf("%d events are not settled: %v", len(waiting), seen)
		}
		leave := func() {}
		if random.IntN(3) == 0 {
			leave = o.Enter[states[random.IntN(len(states))]](t)
		}
		n := min(len(waiting), 1+random.IntN(1+random.IntN(o.Events/10))) // most are small
		batch := waiting[:n:n]
		waiting = waiting[n:]
		for i, r := range deliver(t, o.Connector, batch) {
			seen[r.Class]++
			refused := strings.HasPrefix(batch[i].Event.ID, RefusedPrefix)
			switch {
			case r.Class == connector.Permanent:
				if !refused {
					t.Errorf("%s is a dead letter: %s", batch[i].Event.ID, r.Message)
				}
			case !r.Class.Settled():
				waiting = append(waiting, batch[i])
			case refused:
				t.Errorf("%s is %s", batch[i].Event.ID, r.Class)
			}
		}
		leave()
		random.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
	}
	t.Logf("outcomes %v", seen)
	for _, id := range o.Arrived(t) {
		if !want[id] {
			t.Errorf("%s is there twice, or was refused", id)
		}
		delete(want, id)
	}
	if len(want) > 0 {
		t.Errorf("%d events are not there", len(want))
	}
}

// deliver returns the results of events in order.
func deliver(t *testing.T, conn connector.Connector, deliveries []connector.Delivery) []connector.Result {
	t.Helper()
	results := make([]connector.Result, len(deliveries))
	plan := conn.Plan(deliveries)
	for _, done := range plan.Done {
		results[done.Event] = done.Result
	}
	for _, call := range plan.Calls {
		for i, r := range conn.Send(t.Context(), call) {
			results[call.Events[i]] = r
		}
	}
	return results
}
