package letters_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/invoke"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/cloud/letters"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/router/fanout"
	"github.com/eventsluice/sluice/internal/stream"
)

// replayed carries out an order in a session of its own.
func (r *rig) replayed(o deadletter.Order) (deadletter.Progress, error) {
	r.Helper()
	d := r.desk(letters.Options{})
	defer r.close(d)
	return d.Replay(r.Context(), "sqs:"+dead, o, nil)
}

func TestALetterGoesToWhereItFailed(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		r.arns["crm"] = "arn:aws:lambda:eu-west-1:123456789012:function:crm:dev"
		r.bury(1)                                                 // its own ARN
		r.bury(2, func(l *deadletter.Letter) { l.ARN = "" })      // that of the rules
		r.send(dead, fixture(t, "envelope-event.json"), nil)      // that of the function
		r.send(dead, fixture(t, "envelope-strange.json"), nil)    // JSON of somebody else
		claimed := r.send(dead, fixture(t, "claim.json"), lambda) // nobody says
		p, err := r.replayed(deadletter.Order{})
		if err != nil || p.Done != 4 || p.Refused != 1 || !strings.Contains(p.Reason, claimed) || !strings.Contains(p.Reason, "--to ARN") {
			t.Errorf("%+v, %v", p, err)
		}
		var got []string
		for _, m := range r.sender.got {
			got = append(got, fmt.Sprintf("%s %.40s", m.arn, m.Payload))
		}
		slices.Sort(got)
		want := []string{
			r.arns["crm"] + ` {"id":"e2","type":"track","name":"order_`,
			crm + ` {"detail":"an event of somebody else"}`,
			crm + ` {"id":"0198c2a4-0000-7000-8000-000000000`,
			crm + ` {"id":"e1","type":"track","name":"order_`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		r.wantLeft(dead, 1)
		// Told where to, it goes too: the claim, and not what is claimed.
		r.sender.got = nil
		p, err = r.replayed(deadletter.Order{To: crmFeed})
		if err != nil || p.Done != 1 || len(r.sender.got) != 1 {
			t.Fatalf("%+v, %v", p, err)
		}
		if m := r.sender.got[0]; m.arn != crmFeed || !bytes.Equal(m.Payload, bytes.TrimSpace(fixture(t, "claim.json"))) {
			t.Errorf("%s %s", m.arn, m.Payload)
		}
		r.wantLeft(dead, 0)
	})
}

func TestWhatCannotBeSentStaysAndHoldsUpNothing(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		r.send(dead, fixture(t, "text.txt"), nil)
		for n := range 5 {
			r.bury(n)
		}
		r.sender.fail = func(_ string, m fanout.Message) error {
			if bytes.Contains(m.Payload, []byte(`"e3"`)) {
				return fault.New(fault.TooLarge, "too large")
			}
			return nil
		}
		p, err := r.replayed(deadletter.Order{To: crm})
		if err != nil || p.Done != 4 || p.Refused != 2 || !strings.Contains(p.Reason, "no JSON") {
			t.Errorf("%+v, %v", p, err)
		}
		r.wantLeft(dead, 2)
	})
}

func TestADestinationThatDoesNotTakeLettersEndsTheReplay(t *testing.T) {
	t.Parallel()
	for _, kind := range []fault.Kind{fault.NotFound, fault.Forbidden, fault.Throttled, fault.Unavailable, fault.Ambiguous, fault.Internal} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			inRig(t, func(r *rig) {
				for n := range 40 {
					r.bury(n)
				}
				r.sender.fail = func(string, fanout.Message) error { return fault.New(kind, "no") }
				p, err := r.replayed(deadletter.Order{})
				if fault.KindOf(err) != kind || p.Done != 0 || p.Refused != 0 {
					t.Errorf("%+v, %v", p, err)
				}
				r.wantLeft(dead, 40)
			})
		})
	}
}

func TestALetterThatCouldNotBeSentAtOnceIsSentLater(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		r.bury(1)
		tries := 0
		r.sender.fail = func(string, fanout.Message) error {
			if tries++; tries < 4 {
				return fault.New(fault.Throttled, "slow down")
			}
			return nil
		}
		if p, err := r.replayed(deadletter.Order{}); err != nil || p.Done != 1 {
			t.Errorf("%+v, %v", p, err)
		}
		r.wantLeft(dead, 0)
	})
}

// Events of one user reach the destination in the order in which they died, also
// when one of them has to be sent again.
func TestLettersOfAKeyAreReplayedInOrder(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 70 {
			r.bury(n)
		}
		failed := map[string]bool{}
		r.sender.fail = func(_ string, m fanout.Message) error {
			if id := string(m.Payload[:12]); !failed[id] && len(failed) < 20 {
				failed[id] = true
				return fault.New(fault.Unavailable, "not now")
			}
			return nil
		}
		if p, err := r.replayed(deadletter.Order{}); err != nil || p.Done != 70 {
			t.Fatalf("%+v, %v", p, err)
		}
		last := map[string]int{}
		for i, id := range r.sender.ids() {
			var n int
			if _, err := fmt.Sscanf(id, "e%d", &n); err != nil {
				t.Fatal(err)
			}
			key := r.sender.got[i].Key
			if before, ok := last[key]; ok && n < before {
				t.Errorf("%s: e%d after e%d", key, n, before)
			}
			last[key] = n
		}
	})
}

// SQS drops what has the id of a message of the last five minutes: a second
// replay is not a repetition of the first.
func TestEachReplayIsAnotherOneForAQueueThatDropsRepetitions(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for range 2 {
			r.bury(1)
			if p, err := r.replayed(deadletter.Order{To: crmFeed}); err != nil || p.Done != 1 {
				t.Fatalf("%+v, %v", p, err)
			}
		}
		if a, b := r.sender.got[0], r.sender.got[1]; a.ID == b.ID || a.Key != "u1" || b.Key != "u1" {
			t.Errorf("%+v, %+v", a.Message, b.Message)
		}
	})
}

// The cause is not mended: the letters die again while they are replayed.
func TestLettersThatDieAgainAreReplayedOnce(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 30 {
			r.bury(n)
		}
		n := 100
		r.sender.fail = func(string, fanout.Message) error {
			n++
			r.bury(n, func(l *deadletter.Letter) { l.LastTry = time.Now().Add(time.Millisecond).UTC() })
			return nil
		}
		p, err := r.replayed(deadletter.Order{})
		if err != nil || p.Done != 30 {
			t.Errorf("%+v, %v", p, err)
		}
		r.wantLeft(dead, 30)
	})
}

func TestADryRunSendsNothing(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 15 {
			r.bury(n)
		}
		p, err := r.replayed(deadletter.Order{DryRun: true})
		if err != nil || p.Matched != 15 || p.Done != 0 || len(p.Sample) != 10 || len(r.sender.got) != 0 {
			t.Errorf("%+v, %v", p, err)
		}
		r.wantLeft(dead, 15)
	})
}

// onStream returns the ids of the events on the stream, in its order.
func (r *rig) onStream() (ids []string) {
	for _, rec := range r.kinesis.Records("events") {
		for _, data := range stream.Deaggregate(stream.Record{Data: rec.Data}) {
			e, err := event.ParseStored(data)
			if err != nil {
				r.Errorf("%s: %v", data, err)
			}
			ids = append(ids, e.ID)
		}
	}
	return ids
}

func TestLettersAreReplayedToTheStream(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 40 {
			r.bury(n)
		}
		r.send(dead, []byte(`{"name":"of_a_person","data":{}}`), lambda)
		claim, err := r.objects.Claim(r.Context(), bucket, "claims/1", []byte("["+string(number(50))+","+string(number(51))+"]"))
		if err != nil {
			t.Fatal(err)
		}
		r.send(dead, claim.Payload(), lambda)
		gone := claim
		gone.Key = "claims/2"
		r.send(dead, gone.Payload(), lambda)
		r.send(dead, fixture(t, "text.txt"), nil)
		r.send(dead, []byte(`{"id":"e60","name":"long","user_id":"`+strings.Repeat("x", 500)+`"}`), lambda)
		// Some entries of the first calls fail, and one answer is lost.
		r.kinesis.Fail(kinesistest.Records(3, kinesistest.Throughput).On("PutRecords").Times(2))
		r.kinesis.Fail(kinesistest.Disconnect(kinesistest.AfterStoring).On("PutRecords").After(2).Times(1))
		p, err := r.replayed(deadletter.Order{To: deadletter.ToStream})
		if err != nil || p.Done != 43 || p.Refused != 2 {
			t.Errorf("%+v, %v", p, err)
		}
		r.wantLeft(dead, 2)
		got := r.onStream()
		if len(got) < 44 || len(got) > 60 {
			t.Errorf("%d events on the stream: %v", len(got), got)
		}
		last := -1
		for _, id := range slices.Compact(got) {
			var n int
			if _, err := fmt.Sscanf(id, "e%d", &n); err == nil && n%7 == 3 && n < 40 {
				if n < last-7 {
					t.Errorf("e%d after e%d", n, last)
				}
				last = n
			}
		}
		for _, n := range []int{0, 39, 50, 51, 60} {
			if !slices.Contains(got, fmt.Sprintf("e%d", n)) {
				t.Errorf("e%d is not on the stream", n)
			}
		}
		for _, rec := range r.kinesis.Records("events") {
			if strings.Contains(string(rec.Data), `"long"`) && rec.PartitionKey != invoke.Group(strings.Repeat("x", 500)) {
				t.Errorf("key %q", rec.PartitionKey)
			}
		}
	})
}

func TestAStreamThatTakesNothingLeavesTheLettersInTheQueue(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 5 {
			r.bury(n)
		}
		trouble := r.kinesis.Fail(kinesistest.Calls(kinesistest.Throughput).On("PutRecords"))
		p, err := r.replayed(deadletter.Order{To: deadletter.ToStream})
		if err == nil || p.Done != 0 {
			t.Errorf("%+v, %v", p, err)
		}
		r.wantLeft(dead, 5)
		trouble.Off()
		if p, err := r.replayed(deadletter.Order{To: deadletter.ToStream}); err != nil || p.Done != 5 {
			t.Errorf("%+v, %v", p, err)
		}
		if got := r.onStream(); len(got) != 5 {
			t.Errorf("%v", got)
		}
	})
}

func TestAnEventTooLargeForTheStreamStays(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		large := []byte(`{"id":"large","name":"n","data":{"x":"` + strings.Repeat("x", 1<<20) + `"}}`)
		claim, err := r.objects.Claim(r.Context(), bucket, "claims/1", large)
		if err != nil {
			t.Fatal(err)
		}
		r.send(dead, claim.Payload(), lambda)
		r.bury(1)
		p, err := r.replayed(deadletter.Order{To: deadletter.ToStream})
		if err != nil || p.Done != 1 || p.Refused != 1 {
			t.Errorf("%+v, %v", p, err)
		}
		r.wantLeft(dead, 1)
	})
}

func TestABackupBeforeAReplayIsThereBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 3 {
			r.bury(n)
		}
		var kept []string
		d := r.desk(letters.Options{Before: func(_ context.Context, all []deadletter.Letter) error {
			if len(r.sender.got) > 0 {
				t.Error("something was sent before")
			}
			for _, l := range all {
				kept = append(kept, l.EventID)
			}
			return nil
		}})
		if p, err := d.Replay(r.Context(), "sqs:"+dead, deadletter.Order{}, nil); err != nil || p.Done != 3 || len(kept) != 3 {
			t.Errorf("%+v, %v, kept %v", p, err, kept)
		}
		r.close(d)
		r.bury(4)
		d = r.desk(letters.Options{Before: func(context.Context, []deadletter.Letter) error { return fault.New(fault.Unavailable, "no place") }})
		r.sender.got = nil
		if p, err := d.Replay(r.Context(), "sqs:"+dead, deadletter.Order{}, nil); err == nil || p.Done != 0 || len(r.sender.got) != 0 {
			t.Errorf("%+v, %v", p, err)
		}
	})
}
