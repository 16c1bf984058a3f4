package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/edge"
	"github.com/eventsluice/sluice/internal/engine"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/spool"
)

// spooled is the spool of a program: its log is the stream of a second engine,
// in a folder of its own.
type spooled struct {
	*spool.Spool
	engine *engine.Engine
}

func spoolConfig(s Settings) engine.Config {
	return engine.Config{
		Dir:             s.Spool,
		MaxBytes:        int64(s.SpoolLimit),
		MaxMessageBytes: maxMessageBytes,
		TailBytes:       int(s.MemoryLimit / 24),
	}
}

// openSpool opens the spool in front of a stream.
func (p *program) openSpool(ctx context.Context, k *cloud.Kinesis) (*spooled, error) {
	e, err := engine.Open(ctx, spoolConfig(p.settings), p.log)
	if err != nil {
		return nil, err
	}
	cfg := spool.Config{
		CallTimeout:    kinesisTimeout,
		MaxCallRecords: cloud.MaxCallRecords,
		MaxCallBytes:   jsonCall,
		MaxWindowBytes: int(p.settings.MemoryLimit / 32),
		Refused:        p.quarantineRecord,
	}
	if p.settings.Aggregation {
		cfg.MergedBytes = fullRecord
	}
	s, err := spool.New(ctx, k, e.Events(), cfg, p.log)
	if err != nil {
		return nil, errors.Join(err, e.Close(context.WithoutCancel(ctx)))
	}
	return &spooled{Spool: s, engine: e}, nil
}

func (s *spooled) close(ctx context.Context) error { return s.engine.Close(ctx) }

// quarantineRecord keeps the events of a record that the stream will never
// take, though the gateway has accepted them: it takes less than it did.
func (p *program) quarantineRecord(ctx context.Context, r stream.Record, cause error) error {
	now := time.Now().UTC()
	var letters []deadletter.Letter
	for _, raw := range stream.Deaggregate(r) {
		l := deadletter.Letter{
			ID: event.NewID(), Destination: edge.QuarantineName, PartitionKey: r.PartitionKey,
			Attempts: 1, FirstSeen: now, LastTry: now,
			Class: fault.TooLarge.String(), Code: edge.CodeStreamLimit, Message: cause.Error(),
		}
		if ev, err := event.ParseStored(raw); err == nil {
			l.EventID, l.EventName, l.Source, l.Event = ev.ID, ev.Name, ev.Source, bytes.Clone(raw)
		} else {
			l.Raw = bytes.Clone(raw)
		}
		letters = append(letters, l)
	}
	return p.engine.Quarantine().Put(ctx, letters)
}

func (s *spooled) metrics(g *gauges) func(metric.Observer) {
	events := g.gauge("sluice.spool.events", "Events that are durable in the spool and not on the stream yet.")
	size := g.gauge("sluice.spool.bytes", "Bytes of their records.")
	limit := g.gauge("sluice.spool.budget_bytes", "Bytes that the spool may take on disk; at the budget the gateway answers 503.")
	age := g.gauge("sluice.spool.age_seconds", "How long the oldest event in the spool has been there.")
	away := g.gauge("sluice.spool.stream_away", "1 while the stream answers no call, so that all events go to the spool.")
	buckets := g.gauge("sluice.spool.buckets", "Buckets whose events go to the spool.")
	stuck := g.gauge("sluice.spool.stuck_buckets", "Buckets that are held up by a record that the stream will never take.")
	written := g.counter("sluice.spool.events_written", "Events that became durable in the spool.")
	failed := g.counter("sluice.spool.write_failures", "Records that the spool did not take, by what is known of them.")
	calls := g.counter("sluice.spool.drain_calls", "Calls that put what is in the spool on the stream.")
	drained := g.counter("sluice.spool.events_drained", "Events that got from the spool to the stream.")
	refused := g.counter("sluice.spool.events_refused", "Events in the spool that the stream will never take; they are in the quarantine.")
	repeated := g.counter("sluice.spool.events_repeated", "More copies of events that may be on the stream, for attempts of unknown outcome.")
	failures := g.counter("sluice.spool.drain_failures", "Records that the stream did not take from the spool, by what is known of them.")
	return func(o metric.Observer) {
		st := s.Stats()
		o.ObserveInt64(events, int64(st.Events))
		o.ObserveInt64(size, int64(st.Bytes))
		o.ObserveInt64(limit, s.engine.Events().Budget())
		o.ObserveInt64(age, int64(st.Age/time.Second))
		o.ObserveInt64(away, int64(btoi(st.Away)))
		o.ObserveInt64(buckets, int64(st.Buckets))
		o.ObserveInt64(stuck, int64(st.Stuck))
		o.ObserveInt64(written, int64(st.Written))
		o.ObserveInt64(failed, int64(st.Refusals), labels("reason", "unavailable"))
		o.ObserveInt64(failed, int64(st.Doubts), labels("reason", "ambiguous"))
		o.ObserveInt64(calls, int64(st.Calls))
		o.ObserveInt64(drained, int64(st.DrainedEvents))
		o.ObserveInt64(refused, int64(st.Refused))
		o.ObserveInt64(repeated, int64(st.Repeated))
		o.ObserveInt64(failures, int64(st.FailedCalls), labels("reason", "call"))
		o.ObserveInt64(failures, int64(st.Throttled), labels("reason", "throttled"))
		o.ObserveInt64(failures, int64(st.Unavailable), labels("reason", "unavailable"))
		o.ObserveInt64(failures, int64(st.Ambiguous), labels("reason", "ambiguous"))
		o.ObserveInt64(failures, int64(st.TooLarge), labels("reason", "too_large"))
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// SpoolStatus is what GET /api/spool says.
type SpoolStatus struct {
	Folder string `json:"folder"`
	// Events wait for the stream, and take Bytes.
	Events uint64 `json:"events"`
	Bytes  uint64 `json:"bytes"`
	// LimitBytes is the budget on disk.
	LimitBytes int64 `json:"limit_bytes"`
	// Oldest is when the oldest of them was put there.
	Oldest time.Time `json:"oldest,omitzero"`
	// AwaySince is when the stream ceased to answer, zero if it answers; only a
	// running gateway knows.
	AwaySince time.Time `json:"away_since,omitzero"`
}

// Spool is the spool as its operator sees it: that of a running gateway, or a
// folder that no process uses.
type Spool interface {
	Status(ctx context.Context) (SpoolStatus, error)
	// Events calls yield for the events that wait for the stream, oldest first,
	// at most limit if that is not 0.
	Events(ctx context.Context, limit int, yield func(SpooledEvent) error) error
}

// SpooledEvent is one event in a spool. Its bucket is the partition key of its
// record.
type SpooledEvent = storedEvent

// spoolFolder is a Spool that is open in this process.
type spoolFolder struct {
	folder string
	engine *engine.Engine
	live   *spool.Spool // nil in a folder that is not drained
}

func (f spoolFolder) Status(ctx context.Context) (SpoolStatus, error) {
	log := f.engine.Events()
	st := SpoolStatus{Folder: f.folder, LimitBytes: log.Budget()}
	if f.live != nil {
		s := f.live.Stats()
		st.Events, st.Bytes, st.AwaySince = s.Events, s.Bytes, s.AwaySince
	} else {
		var err error
		if st.Events, st.Bytes, err = log.Backlog(ctx); err != nil {
			return st, err
		}
	}
	err := f.Events(ctx, 1, func(e SpooledEvent) error {
		st.Oldest = e.StoredAt
		return nil
	})
	return st, err
}

// errEnough ends a walk that has seen what it wanted.
var errEnough = errors.New("enough")

func (f spoolFolder) Events(ctx context.Context, limit int, yield func(SpooledEvent) error) error {
	log := f.engine.Events()
	last, err := log.Last(ctx)
	if err != nil {
		return err
	}
	for after := uint64(0); after < last; {
		// What is drained meanwhile is not there any more.
		first, err := log.First(ctx)
		if err != nil {
			return err
		}
		if after = max(after, first-1); after >= last {
			return nil
		}
		err = readSpool(ctx, log, &after, last, func(e SpooledEvent) error {
			if err := yield(e); err != nil {
				return err
			}
			if limit--; limit == 0 {
				return errEnough
			}
			return nil
		})
		switch {
		case errors.Is(err, errEnough):
			return nil
		case err != nil && fault.KindOf(err) != fault.NotFound:
			return err
		}
	}
	return nil
}

// readSpool reads the entries after a position, which it moves, up to last.
func readSpool(ctx context.Context, log *engine.Events, after *uint64, last uint64, yield func(SpooledEvent) error) error {
	reader, err := log.Open(ctx, *after)
	if err != nil {
		return err
	}
	defer reader.Close()
	for *after < last {
		entry, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range eventsOf(entry) {
			if err := yield(e); err != nil {
				return err
			}
		}
		*after = entry.Position
	}
	return nil
}

const (
	spoolPath       = "/api/spool"
	spoolEventsPath = "/api/spool/events"
)

// handleSpool serves the spool, where there is one.
func (p *program) handleSpool(mux *http.ServeMux) {
	mux.HandleFunc("GET "+spoolPath, func(w http.ResponseWriter, r *http.Request) {
		folder, err := p.host.spoolFolder()
		if err != nil {
			writeProblem(w, err)
			return
		}
		st, err := folder.Status(r.Context())
		if err != nil {
			writeProblem(w, err)
			return
		}
		writeJSON(w, st)
	})
	mux.HandleFunc("GET "+spoolEventsPath, func(w http.ResponseWriter, r *http.Request) {
		folder, err := p.host.spoolFolder()
		if err != nil {
			writeProblem(w, err)
			return
		}
		limit := 0
		if r.URL.Query().Has("limit") {
			if limit, err = queryInt(r, "limit", 0, mostEvents); err != nil {
				writeProblem(w, err)
				return
			}
		}
		w.Header().Set("Content-Type", jsonLines)
		lines := json.NewEncoder(w)
		lines.SetEscapeHTML(false)
		if err := folder.Events(r.Context(), limit, func(e SpooledEvent) error { return lines.Encode(e) }); err != nil {
			_ = lines.Encode(step{Problem: problemOf(err)}) // a client that has gone needs no answer
		}
	})
}

var errNoSpool = fault.New(fault.NotFound, "this process has no spool")

// remoteSpool is the Spool of a running gateway, through its admin API.
type remoteSpool struct{ *client }

func (r remoteSpool) Status(ctx context.Context) (st SpoolStatus, err error) {
	return st, r.get(ctx, spoolPath, nil, &st)
}

func (r remoteSpool) Events(ctx context.Context, limit int, yield func(SpooledEvent) error) error {
	path := spoolEventsPath
	if limit > 0 {
		path += "?" + url.Values{"limit": {strconv.Itoa(limit)}}.Encode()
	}
	response, err := r.open(ctx, http.MethodGet, path, nil, jsonLines)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := json.NewDecoder(response.Body)
	for {
		var line struct {
			SpooledEvent
			Problem *problem `json:"problem"`
		}
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return errors.Join(errNoAnswer, err)
		}
		if line.Problem != nil {
			return line.Problem.fault()
		}
		if err := yield(line.SpooledEvent); err != nil {
			return err
		}
	}
}

// OpenSpool returns the spool that the settings name: of the process that runs
// on the data folder, or the folder itself if none does. close frees what it
// holds.
func OpenSpool(ctx context.Context, s Settings) (_ Spool, close func() error, err error) {
	c, err := dial(ctx, s)
	if err == nil {
		return remoteSpool{c}, func() error { return nil }, nil
	}
	if !errors.Is(err, errNotRunning) {
		return nil, nil, err
	}
	if s.Spool == "" {
		return nil, nil, fmt.Errorf("SLUICE_SPOOL=%q: there is no spool to look at", spoolOff)
	}
	if _, err := os.Stat(s.Spool); err != nil {
		return nil, nil, fmt.Errorf("%w, and there is no spool: %w", errNotRunning, err)
	}
	e, err := engine.Open(ctx, spoolConfig(s), quietLogger())
	if err != nil {
		return nil, nil, err
	}
	return spoolFolder{folder: s.Spool, engine: e}, func() error { return e.Close(context.WithoutCancel(ctx)) }, nil
}

// PrintSpool prints how a spool is.
func PrintSpool(ctx context.Context, s Spool, asJSON bool, out io.Writer) error {
	st, err := s.Status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(st)
	}
	fmt.Fprintf(out, "%s: %d events, %s of %s", st.Folder, st.Events, Bytes(st.Bytes), Bytes(st.LimitBytes))
	if !st.Oldest.IsZero() {
		fmt.Fprintf(out, ", the oldest of %s", st.Oldest.UTC().Format(time.RFC3339))
	}
	if !st.AwaySince.IsZero() {
		fmt.Fprintf(out, "; the stream is away since %s", st.AwaySince.UTC().Format(time.RFC3339))
	}
	fmt.Fprintln(out)
	return nil
}

// ListSpool prints the oldest events of a spool, at most limit, as a table or as
// lines of JSON.
func ListSpool(ctx context.Context, s Spool, limit int, asJSON bool, out io.Writer) error {
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	if asJSON {
		return s.Events(ctx, limit, func(e SpooledEvent) error { return lines.Encode(e) })
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "POSITION\tSPOOLED\tEVENT\tNAME\tUSER")
	err := s.Events(ctx, limit, func(e SpooledEvent) error {
		var ev event.Event
		if parsed, err := event.ParseStored(e.Event); err == nil {
			ev = parsed
		}
		_, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", e.Place, e.StoredAt.UTC().Format(time.RFC3339),
			dash(printable(ev.ID)), dash(printable(ev.Name)), dash(printable(ev.UserID)))
		return err
	})
	return errors.Join(err, table.Flush())
}

// ExportSpool writes the events of a spool to a new file, a line of JSON each,
// and syncs it. The spool keeps them.
func ExportSpool(ctx context.Context, s Spool, path string, out, errs io.Writer) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	show := newProgress(errs, "written", -1)
	lines := json.NewEncoder(file)
	lines.SetEscapeHTML(false)
	n := 0
	err = s.Events(ctx, 0, func(e SpooledEvent) error {
		n++
		show.at(n)
		return lines.Encode(e)
	})
	show.end()
	if err = errors.Join(err, file.Sync()); err == nil {
		fmt.Fprintf(out, "%d events written to %s\n", n, path)
	}
	return err
}
