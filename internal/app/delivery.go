package app

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/metric"

	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/fault"
)

// destinationStatus is one destination in GET /api/destinations.
type destinationStatus struct {
	Name      string `json:"destination_name"`
	Connector string `json:"connector"`
	delivery.Status
}

func (p *program) listDestinations(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]any{"destinations": p.runners.Statuses()})
}

// Statuses returns how each destination is, by name.
func (r *runners) Statuses() []destinationStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	statuses := make([]destinationStatus, 0, len(r.running))
	for name, run := range r.running {
		statuses = append(statuses, destinationStatus{Name: name, Connector: run.destination.Connector, Status: run.runner.Status()})
	}
	slices.SortFunc(statuses, func(a, b destinationStatus) int { return strings.Compare(a.Name, b.Name) })
	return statuses
}

// pauseOrder is the body of a pause.
type pauseOrder struct {
	Reason string `json:"reason"`
}

func (p *program) pauseDestination(w http.ResponseWriter, r *http.Request) {
	var order pauseOrder
	if err := readJSON(r, &order); err != nil {
		writeProblem(w, err)
		return
	}
	p.switchDestination(w, r, func(ctx context.Context, runner *delivery.Runner) error { return runner.Pause(ctx, order.Reason) })
}

func (p *program) resumeDestination(w http.ResponseWriter, r *http.Request) {
	p.switchDestination(w, r, func(ctx context.Context, runner *delivery.Runner) error { return runner.Resume(ctx) })
}

// switchDestination pauses or resumes a destination and answers with how it is
// then.
func (p *program) switchDestination(w http.ResponseWriter, r *http.Request, act func(context.Context, *delivery.Runner) error) {
	name := r.PathValue("destination")
	runner, err := p.runner(name)
	if err == nil {
		err = act(r.Context(), runner)
	}
	if err != nil {
		writeProblem(w, err)
		return
	}
	for _, status := range p.runners.Statuses() {
		if status.Name == name {
			writeJSON(w, status)
			return
		}
	}
	writeProblem(w, fault.New(fault.NotFound, "destination %q has just been removed", name))
}

func (p *program) deliveryMetrics(g *gauges) func(metric.Observer) {
	calls := g.counter("sluice.destination.calls", "Calls made to a destination.")
	attempts := g.counter("sluice.destination.attempts", "Events in the calls made to a destination, by what became of them.")
	state := g.gauge("sluice.destination.state", "1 for the state that a destination is in: starting, running, paused or stopped.")
	stuck := g.gauge("sluice.destination.stuck_calls", "Calls that did not return when their time was over.")
	allowed := g.gauge("sluice.destination.calls_allowed", "Calls that a destination may get at the same time now; throttling lowers it, success raises it slowly.")
	throttled := g.counter("sluice.destination.throttled_calls", "Calls that a destination has throttled.")
	unsettled := g.gauge("sluice.destination.oldest_unsettled_timestamp_seconds", "When the oldest event that waits was stored, tried before or not.")
	oldest := g.gauge("sluice.destination.oldest_waiting_timestamp_seconds", "When the oldest event that waits for its first attempt was stored.")
	return func(o metric.Observer) {
		for _, s := range p.runners.Statuses() {
			destination := labels("destination", s.Name)
			o.ObserveInt64(calls, int64(s.Calls), destination)
			o.ObserveInt64(stuck, int64(s.Stuck), destination)
			o.ObserveInt64(allowed, int64(s.Budget.Calls), destination)
			o.ObserveInt64(throttled, int64(s.Budget.ThrottledCalls), destination)
			if !s.OldestUnsettled.IsZero() {
				o.ObserveInt64(unsettled, s.OldestUnsettled.Unix(), destination)
			}
			for class, n := range s.Results {
				o.ObserveInt64(attempts, int64(n), labels("destination", s.Name, "class", class))
			}
			for _, known := range []string{delivery.Starting, delivery.Running, delivery.Paused, delivery.Stopped} {
				o.ObserveInt64(state, oneIf(s.State == known), labels("destination", s.Name, "state", known))
			}
			if !s.OldestWaiting.IsZero() {
				o.ObserveInt64(oldest, s.OldestWaiting.Unix(), destination)
			}
		}
	}
}
