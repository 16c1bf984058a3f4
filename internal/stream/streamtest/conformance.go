package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

// Reader reads the entries of a stream in order; the same as delivery.Reader.
type Reader interface {
	Next(ctx context.Context) (stream.Entry, error)
	Close() error
}

// Host is the stream of a host, empty, as the suite needs it.
type Host struct {
	Stream
	// Open returns a reader of the entries after a position; see Opener.
	Open func(ctx context.Context, after uint64) (Reader, error)
	// Limits are what the host takes. Scenarios about a limit that is zero
	// are skipped.
	Limits Limits
	// Reopen, if not nil, closes the stream and opens it again with the data
	// that it had.
	Reopen func(t *testing.T) Host
}

// Opener turns a host's Open into one that Host takes.
func Opener[R Reader](open func(context.Context, uint64) (R, error)) func(context.Context, uint64) (Reader, error) {
	return func(ctx context.Context, after uint64) (Reader, error) { return open(ctx, after) }
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

func ownership(t *testing.T, h Host) {
	data := []byte("as it was written")
	records := []stream.Record{{PartitionKey: "b0", Data: data, Events: 1}}
	h.mustPut(t, records...)
	copy(data, "XXXXXXXXXXXXXXXXX")
	records[0] = stream.Record{}
	got, _ := h.read(t, 0, 1)
	if string(got[0].Data) != "as it was written" {
		t.Errorf("the stream kept the caller's memory: read %q", got[0].Data)
	}
	copy(got[0].Data, "YYYYYYYYYYYYYYYYY") // what is read is the reader's
	got, _ = h.read(t, 0, 1)
	if string(got[0].Data) != "as it was written" {
		t.Errorf("readers share memory: read %q", got[0].Data)
	}
}

func concurrent(t *testing.T, h Host) {
	const writers, calls = 8, 25
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for call := range calls {
				h.mustPutOrError(t, plain(producer.BucketKey(w), fmt.Sprintf("writer %d, call %d", w, call)))
			}
		})
	}
	group.Wait()
	records, _ := h.read(t, 0, writers*calls)
	for key, data := range byKey(records) {
		for call, d := range data {
			if !strings.HasSuffix(d, fmt.Sprintf("call %d", call)) || !strings.HasPrefix(d, "writer "+key[1:]) {
				t.Errorf("%s: record %d is %q", key, call, d)
			}
		}
	}
}

// mustPutOrError is mustPut for goroutines that are not the test's.
func (h Host) mustPutOrError(t *testing.T, records ...stream.Record) {
	results, err := h.PutRecords(deadline(t), records)
	if err == nil && len(results) == len(records) {
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
	}
	if err != nil || len(results) != len(records) {
		t.Errorf("PutRecords: %d results for %d records, error %v", len(results), len(records), err)
	}
}

func deadContext(t *testing.T, h Host) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	answers := newAnswers()
	answers.put(ctx, t, h, plain("b0", "too late"))
	answers.check(t, h)
}

func hurry(t *testing.T, h Host) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, seed))
	answers := newAnswers()
	for i := range 200 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(3000))*time.Microsecond)
		answers.put(ctx, t, h, plain("b0", fmt.Sprintf("b0 %d", i)), plain("b1", fmt.Sprintf("b1 %d", i)))
		cancel()
	}
	answers.check(t, h)
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

// answers is what a stream has said of records.
type answers struct {
	stored, refused map[string]bool // by data; in neither: unknown
}

func newAnswers() *answers {
	return &answers{stored: map[string]bool{}, refused: map[string]bool{}}
}

func (a *answers) put(ctx context.Context, t *testing.T, h Host, records ...stream.Record) {
	results, err := h.PutRecords(ctx, records)
	if err != nil {
		return
	}
	if len(results) != len(records) {
		t.Errorf("%d results for %d records", len(results), len(records))
		return
	}
	for i, r := range results {
		switch kind := fault.KindOf(r.Err); {
		case r.Err == nil:
			a.stored[string(records[i].Data)] = true
		case kind == fault.Throttled || kind == fault.Unavailable || kind == fault.TooLarge:
			a.refused[string(records[i].Data)] = true
		}
	}
}

// check compares the answers with what is on the stream, up to a last record
// that it writes.
func (a *answers) check(t *testing.T, h Host) {
	t.Helper()
	h.mustPut(t, plain("b0", "the end"))
	ctx := deadline(t)
	reader, err := h.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	found := map[string]bool{}
	for !found["the end"] {
		entry, err := reader.Next(ctx)
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		for _, r := range entry.Records {
			found[string(r.Data)] = true
		}
	}
	for data := range a.stored {
		if !found[data] {
			t.Errorf("%q was answered as stored and is not there", data)
		}
	}
	for data := range a.refused {
		if found[data] {
			t.Errorf("%q was answered as not stored and is there", data)
		}
	}
}

func limits(t *testing.T, h Host) {
	if h.Limits.MaxRecordBytes == 0 {
		t.Skip("the host names no limit of a record")
	}
	most := h.Limits.MaxRecordBytes - len("b0")
	largest := plain("b0", strings.Repeat("x", most))
	h.mustPut(t, largest)
	got, positions := h.read(t, 0, 1)
	if len(got[0].Data) != most {
		t.Errorf("read %d bytes, written %d", len(got[0].Data), most)
	}
	small := plain("b1", "small")
	tooLarge := plain("b0", strings.Repeat("x", most+1))
	results, err := h.PutRecords(deadline(t), []stream.Record{tooLarge, small})
	if err != nil {
		t.Fatalf("PutRecords: %v, want a result for each record", err)
	}
	if fault.KindOf(results[0].Err) != fault.TooLarge {
		t.Errorf("a record above the limit: %v, want fault.TooLarge", results[0].Err)
	}
	if results[1].Err != nil {
		t.Errorf("its neighbour: %v", results[1].Err)
	}
	if got, _ := h.read(t, positions[0], 1); string(got[0].Data) != "small" {
		t.Errorf("read %d bytes after it, want the neighbour", len(got[0].Data))
	}

	// As much as a call may carry.
	if h.Limits.MaxCallBytes == 0 || h.Limits.MaxCallRecords == 0 {
		return
	}
	var records []stream.Record
	for left := h.Limits.MaxCallBytes; len(records) < h.Limits.MaxCallRecords; {
		key := producer.BucketKey(len(records))
		size := min(left, h.Limits.MaxRecordBytes) - len(key)
		if size <= 0 {
			break
		}
		records = append(records, plain(key, strings.Repeat("y", size)))
		left -= size + len(key)
	}
	h.mustPut(t, records...)
	// As many records as it may carry.
	records = records[:0]
	for i := range h.Limits.MaxCallRecords {
		records = append(records, plain(producer.BucketKey(i), "z"))
	}
	h.mustPut(t, records...)
}

func restart(t *testing.T, h Host) {
	if h.Reopen == nil {
		t.Skip("the host cannot be opened again")
	}
	h.mustPut(t, plain("b0", "before 1"), plain("b1", "before 2"))
	before, positions := h.read(t, 0, 2)
	h = h.Reopen(t)
	again, same := h.read(t, 0, 2)
	if fmt.Sprint(again) != fmt.Sprint(before) || !slices.Equal(same, positions) {
		t.Errorf("after the restart: %v at %v, before it %v at %v", again, same, before, positions)
	}
	h.mustPut(t, plain("b0", "after"))
	got, later := h.read(t, positions[1], 1)
	if string(got[0].Data) != "after" || later[0] <= positions[1] {
		t.Errorf("read %q at %d after position %d", got[0].Data, later[0], positions[1])
	}
}

func withProducer(t *testing.T, h Host) {
	const senders, puts, events = 16, 20, 5
	p, err := producer.New(Watch(t, h.Stream, h.Limits), new(ledger.Intake), producer.Config{
		MaxCallRecords: h.Limits.MaxCallRecords, MaxCallBytes: h.Limits.MaxCallBytes, MaxRecordBytes: h.Limits.MaxRecordBytes,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	var group sync.WaitGroup
	for s := range senders {
		group.Go(func() {
			var b stream.Batch
			for n := range puts {
				b.Reset()
				for i := range events {
					b.Add(&event.Event{ID: fmt.Sprintf("%d.%d", s, n*events+i), Type: event.TypeTrack, Name: "order_placed", UserID: fmt.Sprintf("u%d", s)})
				}
				if err := p.Put(deadline(t), &b); err != nil {
					t.Errorf("Put: %v", err)
				}
			}
		})
	}
	group.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	figures := p.Stats()
	records, _ := h.read(t, 0, int(figures.Records))
	next := map[string]int{}
	for _, r := range records {
		for _, data := range stream.Deaggregate(r) {
			_, rest, _ := strings.Cut(string(data), `{"id":"`)
			id, _, _ := strings.Cut(rest, `"`)
			sender, n, _ := strings.Cut(id, ".")
			if n != fmt.Sprint(next[sender]) && figures.Repeated == 0 {
				t.Errorf("sender %s: event %s comes where %d should", sender, n, next[sender])
			}
			next[sender]++
		}
	}
	for s := range senders {
		if got := next[fmt.Sprint(s)]; got < puts*events {
			t.Errorf("sender %d: %d of %d events are on the stream", s, got, puts*events)
		}
	}
}
