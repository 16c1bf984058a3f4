package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

// Host is the stream of a host, empty, as the suite needs it.
type Host struct {
	Stream
	// Open returns a reader of the entries after a position.
	Open func(ctx context.Context, after uint64) (stream.Reader, error)
	// Limits are what the host takes. Scenarios about a limit that is zero
	// are skipped.
	Limits Limits
	// Reopen, if not nil, closes the stream and opens it again with the data
	// that it had.
	Reopen func(t *testing.T) Host
}

// patience bounds what must happen soon; it is real time, and only a failing
// test waits for it.
const patience = 20 * time.Second

// Run proves that a host's stream keeps the contract of producer.Stream and
// that what is written can be read back. newHost makes an empty stream.
func Run(t *testing.T, newHost func(t *testing.T) Host) {
	for _, scenario := range []struct {
		name string
		run  func(t *testing.T, h Host)
	}{
		{"what is written is read back byte for byte", readBack},
		{"every record has a sequence of its own", sequences},
		{"records of a key keep their order from call to call", order},
		{"reading resumes after any position", resume},
		{"a reader waits for what comes", wait},
		{"a reader that waits stops with its context", stopWaiting},
		{"memory handed over stays the caller's", ownership},
		{"calls at the same time do not mix", concurrent},
		{"a context that is done is no success", deadContext},
		{"an answer given in a hurry is still true", hurry},
		{"records at the limit are taken and one above it fails alone", limits},
		{"everything is there after a restart", restart},
		{"the producer keeps its promise on it", withProducer},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			t.Parallel()
			scenario.run(t, newHost(t))
		})
	}
}

// deadline returns a context that a scenario does not outlive.
func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// plain makes a record of one event.
func plain(key, data string) stream.Record {
	return stream.Record{PartitionKey: key, Data: []byte(data), Events: 1}
}

// aggregate makes a record of several.
func aggregate(key string, f stream.Format, events ...string) stream.Record {
	var a stream.Aggregate
	a.Reset(key, f)
	for _, e := range events {
		a.Add([]byte(e))
	}
	return stream.Record{PartitionKey: key, Data: a.Seal(), Events: a.Len()}
}

// mustPut writes records that must all become durable.
func (h Host) mustPut(t *testing.T, records ...stream.Record) []stream.Result {
	t.Helper()
	results, err := h.PutRecords(deadline(t), records)
	if err != nil {
		t.Fatalf("PutRecords: %v", err)
	}
	if len(results) != len(records) {
		t.Fatalf("%d results for %d records", len(results), len(records))
	}
	for i, r := range results {
		if r.Err != nil {
			t.Fatalf("record %d (%s): %v", i, records[i].PartitionKey, r.Err)
		}
	}
	return results
}

// read returns the next n records after a position and the position of each.
func (h Host) read(t *testing.T, after uint64, n int) (records []stream.Record, positions []uint64) {
	t.Helper()
	ctx := deadline(t)
	reader, err := h.Open(ctx, after)
	if err != nil {
		t.Fatalf("Open after %d: %v", after, err)
	}
	defer func() {
		if err := reader.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	last := after
	for len(records) < n {
		entry, err := reader.Next(ctx)
		if err != nil {
			t.Fatalf("Next after %d of %d records: %v", len(records), n, err)
		}
		if entry.Position <= last {
			t.Errorf("position %d after %d", entry.Position, last)
		}
		if len(entry.Records) == 0 {
			t.Errorf("entry %d has no records", entry.Position)
		}
		if since := time.Since(entry.StoredAt); since < -time.Minute || since > time.Hour {
			t.Errorf("entry %d was stored at %v", entry.Position, entry.StoredAt)
		}
		last = entry.Position
		for _, r := range entry.Records {
			records = append(records, r)
			positions = append(positions, entry.Position)
		}
	}
	return records, positions
}

// byKey returns the data of records by partition key, in order.
func byKey(records []stream.Record) map[string][]string {
	data := map[string][]string{}
	for _, r := range records {
		data[r.PartitionKey] = append(data[r.PartitionKey], string(r.Data))
	}
	return data
}

func readBack(t *testing.T, h Host) {
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	want := []stream.Record{
		plain("b0", `{"id":"1","name":"order_placed","data":{"total":12.50}}`),
		plain("b11", string(binary)),
		plain("a key with spaces, ümlauts and 日本", "x"),
		plain(strings.Repeat("k", 256), "{}"),
		plain("newlines", "one\ntwo\r\n\x00"),
		aggregate("kpl", stream.KPL, `{"id":"2"}`, `{"id":"3"}`),
		aggregate("framed", stream.Framed, `{"id":"4"}`, `{"id":"5"}`, `{"id":"6"}`),
	}
	h.mustPut(t, want...)
	got, _ := h.read(t, 0, len(want))
	if len(got) != len(want) {
		t.Fatalf("%d records read, %d written", len(got), len(want))
	}
	for _, w := range want {
		i := slices.IndexFunc(got, func(r stream.Record) bool { return r.PartitionKey == w.PartitionKey })
		if i < 0 {
			t.Errorf("%q is missing", w.PartitionKey)
			continue
		}
		if !bytes.Equal(got[i].Data, w.Data) {
			t.Errorf("%q: read %q, written %q", w.PartitionKey, got[i].Data, w.Data)
		}
		if got[i].Events != 0 && got[i].Events != w.Events {
			t.Errorf("%q: read %d events, written %d", w.PartitionKey, got[i].Events, w.Events)
		}
	}
}

func sequences(t *testing.T, h Host) {
	seen := map[string]bool{}
	for call := range 3 {
		for i, r := range h.mustPut(t, plain("b0", fmt.Sprint(call)), plain("b1", fmt.Sprint(call))) {
			if r.Sequence == "" || seen[r.Sequence] {
				t.Errorf("call %d, record %d: sequence %q is empty or not unique", call, i, r.Sequence)
			}
			seen[r.Sequence] = true
		}
	}
}

func order(t *testing.T, h Host) {
	want := map[string][]string{}
	n := 0
	for call := range 20 {
		var records []stream.Record
		for key := range 1 + call%4 {
			r := plain(producer.BucketKey(key), fmt.Sprintf("call %d", call))
			records = append(records, r)
			want[r.PartitionKey] = append(want[r.PartitionKey], string(r.Data))
		}
		h.mustPut(t, records...)
		n += len(records)
	}
	records, _ := h.read(t, 0, n)
	for key, data := range byKey(records) {
		if !slices.Equal(data, want[key]) {
			t.Errorf("%s: read %q, written %q", key, data, want[key])
		}
	}
}

func resume(t *testing.T, h Host) {
	const calls = 5
	for call := range calls {
		h.mustPut(t, plain("b0", fmt.Sprintf("first of %d", call)), plain("b1", fmt.Sprintf("second of %d", call)))
	}
	all, positions := h.read(t, 0, 2*calls)
	for i, after := range positions {
		rest := slices.IndexFunc(positions, func(p uint64) bool { return p > after })
		if rest < 0 {
			continue // the newest: there is nothing after it
		}
		got, _ := h.read(t, after, len(all)-rest)
		if fmt.Sprint(got) != fmt.Sprint(all[rest:]) {
			t.Errorf("after position %d (record %d): read %v, want %v", after, i, got, all[rest:])
		}
	}
}

func wait(t *testing.T, h Host) {
	ctx := deadline(t)
	reader, err := h.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for i := range 3 {
		got := make(chan string, 1)
		go func() {
			entry, err := reader.Next(ctx)
			if err != nil {
				got <- err.Error()
				return
			}
			got <- string(entry.Records[0].Data)
		}()
		want := fmt.Sprintf("event %d", i)
		h.mustPut(t, plain("b0", want))
		if g := <-got; g != want {
			t.Errorf("read %q, want %q", g, want)
		}
	}
}

func stopWaiting(t *testing.T, h Host) {
	h.mustPut(t, plain("b0", "one"))
	_, positions := h.read(t, 0, 1)
	reader, err := h.Open(deadline(t), positions[0])
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if entry, err := reader.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Next returned entry %d and error %v, want that of its context", entry.Position, err)
	}
	// And it can go on.
	h.mustPut(t, plain("b0", "two"))
	entry, err := reader.Next(deadline(t))
	if err != nil || string(entry.Records[0].Data) != "two" {
		t.Errorf("after the wait: %v, %v", entry, err)
	}
}
