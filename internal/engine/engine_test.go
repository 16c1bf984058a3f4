package engine

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
)

// small is a configuration whose streams fit into a test.
func small(dir string) Config {
	return Config{Dir: dir, MaxBytes: 16 << 20, MaxMessageBytes: 1 << 20}
}

func open(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { shut(t, e) })
	return e
}

func shut(t testing.TB, e *Engine) {
	t.Helper()
	if err := e.Close(context.Background()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// records are n records of one event each, telling what and which they are.
func records(what string, n int) []stream.Record {
	rs := make([]stream.Record, n)
	for i := range rs {
		rs[i] = stream.Record{PartitionKey: fmt.Sprint("bucket-", i), Data: fmt.Appendf(nil, "%s/%d", what, i), Events: 1}
	}
	return rs
}

// put stores records and returns their position.
func put(t testing.TB, ev *Events, rs []stream.Record) string {
	t.Helper()
	results, err := ev.PutRecords(t.Context(), rs)
	if err != nil {
		t.Fatalf("PutRecords: %v", err)
	}
	for i, r := range results {
		if r.Err != nil {
			t.Fatalf("record %d: %v", i, r.Err)
		}
	}
	return results[0].Sequence
}

func TestAReopenedFolderHasEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := open(t, small(dir))
	for i := range 10 {
		put(t, e.Events(), records(fmt.Sprint("entry ", i), 3))
	}
	shut(t, e)

	e = open(t, small(dir))
	if got := e.Events().Stored(); got != 30 {
		t.Errorf("Stored() = %d after reopening, want 30", got)
	}
	got := read(t, e.Events(), 0, 10)
	for i, entry := range got {
		if want := fmt.Sprintf("entry %d/0", i); string(entry.Records[0].Data) != want || entry.Position != uint64(i+1) {
			t.Errorf("entry %d: position %d holds %q, want %q", i, entry.Position, entry.Records[0].Data, want)
		}
	}
}

// read takes n entries after a position.
func read(t testing.TB, ev *Events, after uint64, n int) []stream.Entry {
	t.Helper()
	r, err := ev.Open(t.Context(), after)
	if err != nil {
		t.Fatalf("Open(%d): %v", after, err)
	}
	defer r.Close()
	entries := make([]stream.Entry, n)
	for i := range entries {
		if entries[i], err = r.Next(t.Context()); err != nil {
			t.Fatalf("entry %d after position %d: %v", i, after, err)
		}
	}
	return entries
}

func TestASecondProcessIsRefusedAndToldWhoHoldsTheFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := open(t, small(dir))
	_, err := Open(t.Context(), small(dir), slog.New(slog.DiscardHandler))
	if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "in use by process ") {
		t.Fatalf("Open of a folder in use: %v, want a conflict that names the process", err)
	}
	shut(t, e)
	open(t, small(dir)) // free again
}
