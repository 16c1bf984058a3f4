package streamtest

import (
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
// of each key that it writes.
func (a *answers) check(t *testing.T, h Host) {
	t.Helper()
	h.mustPut(t, plain("b0", "the end of b0"), plain("b1", "the end of b1"))
	ctx := deadline(t)
	reader, err := h.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	found := map[string]bool{}
	for !found["the end of b0"] || !found["the end of b1"] {
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
