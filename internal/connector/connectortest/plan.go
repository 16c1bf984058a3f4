package connectortest

import (
	"bytes"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
)

func testPlan(t *testing.T, h Harness) {
	// Planning leaves nothing behind: one connector does for all.
	b := setUp(t, h)
	limits := b.conn.Limits()
	if limits.MaxEvents < 1 || limits.MaxConcurrency < 0 || limits.Timeout < 0 {
		t.Errorf("limits make no sense: %+v", limits)
	}
	if b.conn.Kind() == "" || b.conn.Version() == "" {
		t.Error("kind or version is empty")
	}
	if plan := b.plan(nil); len(plan.Calls) != 0 || len(plan.Done) != 0 {
		t.Errorf("nothing gives %d calls, %d done", len(plan.Calls), len(plan.Done))
	}

	deliveries := b.random(limits.MaxEvents)
	before := clone(deliveries)
	plan := b.plan(deliveries)
	if !reflect.DeepEqual(before, deliveries) {
		t.Error("planning has changed the events")
	}
	if again := b.plan(deliveries); !reflect.DeepEqual(plan, again) {
		t.Error("the second plan of the same events differs")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got := b.conn.Plan(deliveries); !reflect.DeepEqual(got, plan) {
				t.Error("a plan made concurrently differs")
			}
		})
	}
	wg.Wait()

	leave := b.enter(Away)
	other := b.connect()
	if got := other.Plan(clone(deliveries)); !reflect.DeepEqual(got, plan) {
		t.Error("the plan of another connector, without the destination, differs")
	}
	leave()
	if plain := b.plan(b.plain(min(20, limits.MaxEvents))); len(plain.Calls) == 0 {
		t.Error("plain events give no call")
	}
	if arrived := b.Arrived(t); len(arrived) != 0 {
		t.Errorf("planning has sent %d events", len(arrived))
	}
}

// checkPlan checks that every event is in exactly one call or done, that calls
// are within limits and that they keep the order of each key.
func (b *bench) checkPlan(deliveries []connector.Delivery, plan connector.Plan) {
	b.t.Helper()
	planned := make([]int, len(deliveries))
	last := make(map[string]int)
	seen := func(i int) bool {
		if i < 0 || i >= len(deliveries) {
			b.t.Errorf("plan has event %d of %d", i, len(deliveries))
			return false
		}
		planned[i]++
		return true
	}
	maxEvents := b.conn.Limits().MaxEvents
	for _, call := range plan.Calls {
		if len(call.Events) == 0 || len(call.Events) > maxEvents {
			b.t.Errorf("call of %d events, want 1 to %d", len(call.Events), maxEvents)
		}
		for _, i := range call.Events {
			if !seen(i) {
				continue
			}
			key := deliveries[i].Event.PartitionKey()
			if before, ok := last[key]; ok && i < before {
				b.t.Errorf("event %d is sent after event %d of the same key", i, before)
			}
			last[key] = i
		}
	}
	for _, done := range plan.Done {
		seen(done.Event)
		switch done.Result.Class {
		case connector.Dropped, connector.Permanent, connector.TooLarge:
		default:
			b.t.Errorf("event %d is done without a call as %s", done.Event, done.Result.Class)
		}
		b.checkResults(connector.Call{Events: []int{done.Event}}, []connector.Result{done.Result})
	}
	for i, n := range planned {
		if n != 1 {
			b.t.Errorf("event %d is planned %d times", i, n)
		}
	}
}

func clone(deliveries []connector.Delivery) []connector.Delivery {
	copies := slices.Clone(deliveries)
	for i := range copies {
		d := &copies[i]
		d.Raw = bytes.Clone(d.Raw)
		d.Event.Data = bytes.Clone(d.Event.Data)
		d.Event.Context = bytes.Clone(d.Event.Context)
		d.Event.Extra = bytes.Clone(d.Event.Extra)
	}
	return copies
}
