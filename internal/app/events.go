package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
)

const (
	defaultEvents = 50
	mostEvents    = 1000
	// traceDepth is how many of the newest events are searched for an id.
	traceDepth = 1_000_000
)

// errElsewhere is the answer where the stream is not read by this process.
var errElsewhere = fault.New(fault.NotFound, "the events of this gateway are on Kinesis: look at them with `sluice stream peek`")

// storedEvent is one event of the stream with its place there.
type storedEvent struct {
	Place    place           `json:"position"`
	StoredAt time.Time       `json:"stored_at"`
	Event    json.RawMessage `json:"event"`
}

// place is where an event stands on the stream: position, record, event.
type place struct {
	Position uint64
	Record   int
	Index    int
}

// String returns the id that a letter of this event has.
func (p place) String() string { return fmt.Sprintf("%d.%d.%d", p.Position, p.Record, p.Index) }

// MarshalText implements encoding.TextMarshaler.
func (p place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *place) UnmarshalText(text []byte) error {
	if _, err := fmt.Sscanf(string(text), "%d.%d.%d", &p.Position, &p.Record, &p.Index); err != nil {
		return fmt.Errorf("%q is not the place of an event: position.record.event", text)
	}
	return nil
}

// eventsOf returns the events of an entry in their order. Bytes that are not
// JSON become a JSON string, so that they can be shown.
func eventsOf(entry stream.Entry) []storedEvent {
	var events []storedEvent
	for i, record := range entry.Records {
		for j, raw := range stream.Deaggregate(record) {
			shown := json.RawMessage(raw)
			if !json.Valid(raw) {
				shown, _ = json.Marshal(string(raw)) // of a string: never fails
			}
			events = append(events, storedEvent{
				Place:    place{Position: entry.Position, Record: i, Index: j},
				StoredAt: entry.StoredAt,
				Event:    shown,
			})
		}
	}
	return events
}

// newest calls yield for the newest events, newest first, until it returns
// false.
func (p *program) newest(ctx context.Context, yield func(storedEvent) bool) error {
	events := p.host.events()
	if events == nil {
		return errElsewhere
	}
	return events.Recent(ctx, traceDepth, func(entry stream.Entry) bool {
		events := eventsOf(entry)
		for i := len(events) - 1; i >= 0; i-- {
			if !yield(events[i]) {
				return false
			}
		}
		return true
	})
}

func (p *program) recentEvents(w http.ResponseWriter, r *http.Request) {
	limit, err := queryInt(r, "limit", defaultEvents, mostEvents)
	if err != nil {
		writeProblem(w, err)
		return
	}
	events := make([]storedEvent, 0, limit)
	err = p.newest(r.Context(), func(e storedEvent) bool {
		events = append(events, e)
		return len(events) < limit
	})
	if err != nil {
		writeProblem(w, err)
		return
	}
	writeJSON(w, map[string]any{"events": events})
}

// tailEvents sends the events that are stored from now on, as server-sent
// events, until the client goes.
func (p *program) tailEvents(w http.ResponseWriter, r *http.Request) {
	ctx, events := r.Context(), p.host.events()
	if events == nil {
		writeProblem(w, errElsewhere)
		return
	}
	last, err := events.Last(ctx)
	if err != nil {
		writeProblem(w, err)
		return
	}
	reader, err := events.Open(ctx, last)
	if err != nil {
		writeProblem(w, err)
		return
	}
	defer reader.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	if _, err := io.WriteString(w, ": from here on\n\n"); err != nil || control.Flush() != nil {
		return
	}
	for {
		entry, err := reader.Next(ctx)
		if err != nil {
			return
		}
		for _, e := range eventsOf(entry) {
			text, err := json.Marshal(e)
			if err != nil {
				continue
			}
			if _, err := fmt.Fprintf(w, "id: %s\ndata: %s\n\n", e.Place, text); err != nil {
				return
			}
		}
		if control.Flush() != nil {
			return
		}
	}
}

// trace is the story of one event.
type trace struct {
	ID string `json:"id"`
	storedEvent
	Destinations map[string]traceStep `json:"destinations"`
}

// traceStep is what became of an event at one destination.
type traceStep struct {
	// Outcome is filtered, waiting, retrying, dead or delivered. It is settled
	// where an operator has purged or replayed dead letters, which cannot be
	// told from delivered events afterwards.
	Outcome  string `json:"outcome"`
	Rule     string `json:"rule,omitempty"`
	Attempts int    `json:"attempts,omitempty"`
	// Letter is what is known of the failed attempts.
	Letter *deadletter.Letter `json:"letter,omitempty"`
}

func (p *program) traceEvent(w http.ResponseWriter, r *http.Request) {
	ctx, id := r.Context(), r.PathValue("id")
	var found *storedEvent
	depth := 0
	err := p.newest(ctx, func(e storedEvent) bool {
		depth++
		if ev, err := event.ParseStored(e.Event); err == nil && ev.ID == id {
			found = &e
		}
		return found == nil && depth < traceDepth
	})
	switch {
	case err != nil:
		writeProblem(w, err)
		return
	case found == nil:
		writeProblem(w, fault.New(fault.NotFound, "no event %q among the newest %d on the stream", id, depth))
		return
	}
	story := trace{ID: id, storedEvent: *found, Destinations: map[string]traceStep{}}
	for name, runner := range p.runners.All {
		step, err := p.traceAt(ctx, name, runner, *found)
		if err != nil {
			writeProblem(w, err)
			return
		}
		story.Destinations[name] = step
	}
	writeJSON(w, story)
}

// traceAt finds out what became of an event at one destination, from what is
// kept durably: letters, the rules in force and the position.
func (p *program) traceAt(ctx context.Context, name string, runner *delivery.Runner, e storedEvent) (traceStep, error) {
	store := p.engine.Destination(name)
	for outcome, queue := range map[string]deadletter.Queue{"retrying": store.Parked(), "dead": store.Dead()} {
		letter, err := queue.Get(ctx, e.Place.String())
		switch {
		case err == nil:
			return traceStep{Outcome: outcome, Rule: letter.Rule, Attempts: letter.Attempts, Letter: &letter}, nil
		case fault.KindOf(err) != fault.NotFound:
			return traceStep{}, err
		}
	}
	_, rule, wanted, err := p.rules.Get().Route(name).Apply(e.Event)
	switch {
	case err != nil:
		return traceStep{}, errors.Join(errors.New("apply the rules"), err)
	case !wanted:
		return traceStep{Outcome: "filtered"}, nil
	case e.Place.Position <= runner.Position():
		if account := runner.Counts(); account.Purged+account.Replayed > 0 {
			return traceStep{Outcome: "settled", Rule: rule}, nil
		}
		return traceStep{Outcome: "delivered", Rule: rule}, nil
	}
	return traceStep{Outcome: "waiting", Rule: rule}, nil
}
