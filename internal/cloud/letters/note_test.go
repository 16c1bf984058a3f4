package letters_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/cloud/letters"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
)

// put writes records, each of some events, and returns them as the stream holds
// them.
func (r *rig) put(records ...[]string) []kinesistest.Record {
	r.Helper()
	k, err := r.stream(r.Context(), "events")
	if err != nil {
		r.Fatal(err)
	}
	for i, events := range records {
		var a stream.Aggregate
		a.Reset(fmt.Sprintf("b%d", i), stream.KPL)
		for _, e := range events {
			a.Add([]byte(e))
		}
		results, err := k.PutRecords(r.Context(), []stream.Record{{PartitionKey: fmt.Sprintf("b%d", i), Data: a.Seal()}})
		if err != nil || results[0].Err != nil {
			r.Fatal(err, results)
		}
	}
	return r.kinesis.Records("events")
}

// note sends what an event source sends of a batch of records.
func (r *rig) note(records []kinesistest.Record, size int) string {
	r.Helper()
	var note map[string]any
	if err := json.Unmarshal(fixture(r, "note.json"), &note); err != nil {
		r.Fatal(err)
	}
	info := note["KinesisBatchInfo"].(map[string]any)
	info["shardId"], info["batchSize"] = records[0].Shard, size
	info["startSequenceNumber"], info["endSequenceNumber"] = records[0].Sequence, records[len(records)-1].Sequence
	info["streamArn"] = "arn:aws:kinesis:" + region + ":123456789012:stream/events"
	body, err := json.Marshal(note)
	if err != nil {
		r.Fatal(err)
	}
	return r.send(dead, body, nil)
}

var five = [][]string{
	{string(number(0))},
	{string(number(1)), `{"name":"without_id"}`},
	{string(number(2))},
	{"not json"},
	{string(number(3))},
}

func TestTheRecordsOfANoteAreReadBackFromTheStream(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		records := r.put(five...)
		id := r.note(records[1:4], 3)
		want := []string{
			id + ".0.0 | router |  | invocation | RetryAttemptsExhausted | 200 | 4 | 10:38:06 | event order_placed e1 of u1",
			id + ".0.1 | router |  | invocation | RetryAttemptsExhausted | 200 | 4 | 10:38:06 | event without_id " + event.DeriveID(records[1].Shard, records[1].Sequence, 1) + " of " + event.DeriveID(records[1].Shard, records[1].Sequence, 1),
			id + ".1.0 | router |  | invocation | RetryAttemptsExhausted | 200 | 4 | 10:38:06 | event order_placed e2 of u2",
			id + `.2.0 | router |  | invocation | unreadable | 200 | 4 | 10:38:06 | raw "not json"`,
		}
		d := r.desk(letters.Options{})
		var got []string
		for _, l := range r.all(d, "sqs:"+dead) {
			got = append(got, describe(&l))
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	})
}

// A batch of records is replayed to the stream. To invoke the function with one
// of its events would be something else than what has failed.
func TestTheEventsOfANoteAreReplayedToTheStreamAlone(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		records := r.put(five...)
		r.note(records[:3], 3)
		p, err := r.replayed(deadletter.Order{})
		if err != nil || p.Done != 0 || p.Refused != 4 || !strings.Contains(p.Reason, "stream") {
			t.Errorf("%+v, %v", p, err)
		}
		p, err = r.replayed(deadletter.Order{To: deadletter.ToStream})
		if err != nil || p.Done != 4 {
			t.Errorf("%+v, %v", p, err)
		}
		r.wantLeft(dead, 0)
		got := r.kinesis.Records("events")[5:]
		if len(got) != 4 || !strings.Contains(string(got[2].Data)+string(got[1].Data)+string(got[3].Data)+string(got[0].Data), event.DeriveID(records[1].Shard, records[1].Sequence, 1)) {
			t.Errorf("%d records, the event without an id under another one", len(got))
		}
	})
}

// Retention has ended before somebody looked.
func TestWhatIsNotOnTheStreamAnyMoreIsSaidAndCanBePurged(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		first := r.put(five...)
		if err := r.kinesis.Trim("events"); err != nil {
			t.Fatal(err)
		}
		second := r.put(five[0], five[2])
		whole := r.note(first[:3], 3)
		part := r.note(append(first[3:5:5], second...), 4)
		d := r.desk(letters.Options{})
		var got []string
		for _, l := range r.all(d, "sqs:"+dead) {
			got = append(got, l.ID+" "+l.Class+" "+l.EventID)
		}
		want := []string{whole + ".lost expired ", part + ".2.0 invocation e0", part + ".3.0 invocation e2", part + ".lost expired "}
		if !slices.Equal(got, want) {
			t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
		l, err := d.Get(r.Context(), "sqs:"+dead, part+".lost")
		if err != nil || !strings.Contains(l.Message, "2 records") || !strings.Contains(string(l.Raw), "KinesisBatchInfo") {
			t.Errorf("%+v, %v", l, err)
		}
		r.close(d)
		p, err := r.replayed(deadletter.Order{To: deadletter.ToStream})
		if err != nil || p.Done != 2 || p.Refused != 2 || p.Kept != 2 {
			t.Errorf("%+v, %v", p, err)
		}
		d = r.desk(letters.Options{})
		p, err = d.Purge(r.Context(), "sqs:"+dead, deadletter.Order{Filter: deadletter.Filter{IDs: []string{whole + ".lost"}}}, nil)
		if err != nil || p.Done != 1 || p.Kept != 0 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		r.wantLeft(dead, 1)
	})
}

func TestRecordsOfAStreamThatIsNoMoreAreLost(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		records := r.put(five...)
		records[0].Shard = "shardId-000000000077"
		r.note(records[:3], 3)
		body := strings.ReplaceAll(string(fixture(t, "note.json")), "stream/events", "stream/gone")
		r.send(dead, []byte(body), nil)
		for _, l := range r.all(r.desk(letters.Options{}), "sqs:"+dead) {
			if l.Class != letters.ClassExpired {
				t.Errorf("%+v", l)
			}
		}
	})
}

// That the stream cannot be read now must not look as if its records were gone:
// a backup would delete the note of them.
func TestRecordsThatCannotBeReadNowAreAnError(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"ListShards", "GetShardIterator", "GetRecords"} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			inRig(t, func(r *rig) {
				r.note(r.put(five...), 5)
				trouble := r.kinesis.Fail(kinesistest.Calls(kinesistest.Internal).On(operation))
				d := r.desk(letters.Options{})
				f := &disk{world: &world{}}
				p, err := deadletter.Backup(r.Context(), d, "sqs:"+dead, f, deadletter.BackupOptions{Delete: true}, nil)
				if err == nil || p.Written != 0 || fault.KindOf(err) == fault.NotFound {
					t.Errorf("%+v, %v", p, err)
				}
				r.close(d)
				r.wantLeft(dead, 1)
				trouble.Off()
				p, err = deadletter.Backup(r.Context(), r.desk(letters.Options{}), "sqs:"+dead, f, deadletter.BackupOptions{Delete: true}, nil)
				if err != nil || p.Written != 6 || p.Deleted != 6 {
					t.Errorf("%+v, %v", p, err)
				}
			})
		})
	}
}
