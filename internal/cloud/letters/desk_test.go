package letters_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/letters"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

func TestAListLeavesTheQueueAsItWas(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		var want []string
		for n := range 25 {
			want = append(want, r.bury(n))
		}
		d := r.desk(letters.Options{})
		if got := ids(r.all(d, r.sqs.QueueURL(dead))); !slices.Equal(got, want) {
			t.Errorf("got %v\nwant %v", got, want)
		}
		if waiting, held := r.waiting(dead); waiting != 0 || held != 25 {
			t.Errorf("%d waiting, %d held before the desk is closed", waiting, held)
		}
		r.close(d)
		r.wantLeft(dead, 25)
	})
}

func ids(all []deadletter.Letter) (ids []string) {
	for i := range all {
		ids = append(ids, all[i].ID)
	}
	return ids
}

func TestAQueueIsNamedInSeveralWays(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		r.bury(1)
		for _, name := range []string{r.sqs.QueueURL(dead), r.sqs.ARN(dead), "sqs:" + dead} {
			d := r.desk(letters.Options{})
			if got := r.all(d, name); !letters.IsName(name) || len(got) != 1 {
				t.Errorf("%s: %d letters", name, len(got))
			}
			if count, err := d.Count(r.Context(), name); err != nil || count.InFlight != 1 || count.Total() != 1 {
				t.Errorf("%s: %+v, %v", name, count, err)
			}
			if called, err := d.Name(r.Context(), name); err != nil || called != dead {
				t.Errorf("%s is called %q, %v", name, called, err)
			}
			r.close(d)
		}
		d := r.desk(letters.Options{})
		for name, kind := range map[string]fault.Kind{
			"sqs:nobody":                           fault.NotFound,
			r.sqs.ARN("nobody"):                    fault.NotFound,
			"arn:aws:sqs:us-west-2:123456789012:x": fault.Invalid,
			"arn:aws:sns:eu-west-1:123456789012:x": fault.Invalid,
			"https://":                             fault.Invalid,
			"s3://":                                fault.Invalid,
			"s3://nobody/x":                        fault.NotFound,
			"crm":                                  fault.Invalid,
		} {
			if _, err := d.List(r.Context(), name, deadletter.Filter{}, 0, 1); fault.KindOf(err) != kind {
				t.Errorf("%s: %v", name, err)
			}
		}
		if letters.IsName("crm") {
			t.Error("a destination on this machine is taken for a queue")
		}
	})
}

func TestOneLetterIsShownAndTheOthersArePutBack(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 30 {
			r.bury(n)
		}
		several := r.send(dead, fixture(t, "array.json"), lambda)
		d := r.desk(letters.Options{})
		l, err := d.Get(r.Context(), "sqs:"+dead, several+".1")
		if err != nil || l.EventID != second {
			t.Errorf("%+v, %v", l, err)
		}
		r.close(d)
		r.wantLeft(dead, 31)
		d = r.desk(letters.Options{})
		if _, err := d.Get(r.Context(), "sqs:"+dead, several+".7"); fault.KindOf(err) != fault.NotFound {
			t.Error(err)
		}
	})
}

func TestAClaimedEventIsShownIfItCanBeHad(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		claim, err := r.objects.Claim(r.Context(), bucket, "claims/1", number(1))
		if err != nil {
			t.Fatal(err)
		}
		several, err := r.objects.Claim(r.Context(), bucket, "claims/2", []byte("["+string(number(2))+"]"))
		if err != nil {
			t.Fatal(err)
		}
		gone := claim
		gone.Key = "claims/gone"
		for _, payload := range [][]byte{claim.Payload(), several.Payload(), gone.Payload()} {
			r.send(dead, payload, lambda)
		}
		d := r.desk(letters.Options{Redeem: true})
		got := r.all(d, "sqs:"+dead)
		if len(got) != 3 || got[0].EventID != "e1" || !bytes.Equal(got[0].Event, number(1)) || *got[0].Claim != claim {
			t.Fatalf("%+v", got)
		}
		if string(got[1].Event) != "["+string(number(2))+"]" {
			t.Errorf("%s", got[1].Event)
		}
		if len(got[2].Event) != 0 || got[2].Claim.Key != "claims/gone" || !strings.Contains(got[2].Message, "claims/gone") {
			t.Errorf("%+v", got[2])
		}
		r.close(d)
		d = r.desk(letters.Options{})
		if got := r.all(d, "sqs:"+dead); len(got[0].Event) != 0 || got[0].Claim == nil {
			t.Errorf("nobody asked for it: %+v", got[0])
		}
	})
}

// An operator looks at what was found, over lunch.
func TestMessagesStayAwayFromOthersWhileTheDeskIsOpen(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 3 {
			r.bury(n)
		}
		d := r.desk(letters.Options{Visibility: 30 * time.Second})
		r.all(d, "sqs:"+dead)
		for range 360 {
			time.Sleep(10 * time.Second)
			if got := r.sqs.Receive(dead, 10, time.Second); len(got) > 0 {
				t.Fatalf("somebody else got %d messages", len(got))
			}
		}
		p, err := d.Purge(r.Context(), "sqs:"+dead, deadletter.Order{}, nil)
		if err != nil || p.Done != 3 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		r.wantLeft(dead, 0)
	})
}

// A process that was killed holds its messages no longer than it said.
func TestWithoutADeskMessagesComeBackByThemselves(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		r.bury(1)
		d := r.desk(letters.Options{Visibility: time.Minute})
		r.all(d, "sqs:"+dead)
		r.world.kill()
		time.Sleep(61 * time.Second)
		if got := r.sqs.Receive(dead, 10, time.Second); len(got) != 1 {
			t.Errorf("%d messages", len(got))
		}
	})
}

// The answer of SQS to a receive is lost, and with it, for a time, the messages
// in it; another command has one more. Nobody shall take the queue for empty.
func TestMessagesThatOthersHoldAreCounted(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 23 {
			r.bury(n)
		}
		r.sqs.Receive(dead, 1, time.Hour)
		r.sqs.Fail(awstest.Disconnect(awstest.AfterStoring).On("ReceiveMessage").Times(1))
		d := r.desk(letters.Options{Visibility: time.Minute})
		if got := r.all(d, "sqs:"+dead); len(got) != 12 || d.Elsewhere() != 11 {
			t.Errorf("%d letters, %d messages elsewhere", len(got), d.Elsewhere())
		}
		time.Sleep(2 * time.Minute)
		r.close(d)
		d = r.desk(letters.Options{Visibility: time.Minute})
		if got := r.all(d, "sqs:"+dead); len(got) != 22 || d.Elsewhere() != 1 {
			t.Errorf("later %d letters, %d messages elsewhere", len(got), d.Elsewhere())
		}
		r.close(d)
	})
}

// SQS may deliver a message twice, also one that was deleted.
func TestAMessageThatComesTwiceIsOneLetter(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 12 {
			r.bury(n)
		}
		again := r.sqs.Fail(sqstest.Again().Times(4))
		d := r.desk(letters.Options{})
		p, err := d.Replay(r.Context(), "sqs:"+dead, deadletter.Order{}, nil)
		again.Off()
		if err != nil || p.Done != 12 || p.Matched != 12 || p.Total != 12 {
			t.Errorf("%+v, %v", p, err)
		}
		if got := r.sender.ids(); len(got) != 12 {
			t.Errorf("sent %v", got)
		}
		r.close(d)
		r.wantLeft(dead, 0)
	})
}

func TestTooManyMessagesInFlightIsAClearError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *sqstest.Config) { c.MaxInFlight = 20 })
		for n := range 30 {
			r.bury(n)
		}
		d := r.desk(letters.Options{})
		_, err := d.List(r.Context(), "sqs:"+dead, deadletter.Filter{}, 0, 100)
		if err == nil || !strings.Contains(err.Error(), "120,000") || !strings.Contains(err.Error(), "--delete") {
			t.Errorf("%v", err)
		}
		r.close(d)
		r.wantLeft(dead, 30)
		// What leaves the queue as it goes has no bound.
		p, err := r.desk(letters.Options{}).Purge(r.Context(), "sqs:"+dead, deadletter.Order{Rate: 10}, nil)
		if err != nil || p.Done != 30 {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

func TestAQueueThatKeepsOrderIsReadAsFarAsItGoes(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 25 {
			r.send(deadFIFO, number(n), lambda)
		}
		const there = "sqs:" + deadFIFO
		d := r.desk(letters.Options{})
		page, err := d.List(r.Context(), there, deadletter.Filter{}, 0, 100)
		if err != nil || len(page.Letters) != 10 || page.Next == 0 {
			t.Errorf("%d letters, next %d, %v", len(page.Letters), page.Next, err)
		}
		if _, err = d.List(r.Context(), there, deadletter.Filter{}, page.Next, 100); err == nil || !strings.Contains(err.Error(), "--delete") {
			t.Errorf("%v", err)
		}
		r.close(d)
		// What is dealt with makes room for the rest.
		d = r.desk(letters.Options{})
		p, err := d.Purge(r.Context(), there, deadletter.Order{Limit: 5}, nil)
		if err != nil || p.Done != 5 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		d = r.desk(letters.Options{})
		f := &disk{world: &world{}}
		saved, err := deadletter.Backup(r.Context(), d, there, f, deadletter.BackupOptions{Delete: true}, nil)
		if err != nil || saved.Written != 20 || saved.Deleted != 20 {
			t.Errorf("%+v, %v", saved, err)
		}
		r.close(d)
		for n := range 25 {
			r.send(deadFIFO, number(n), lambda)
		}
		d = r.desk(letters.Options{})
		p, err = d.Replay(r.Context(), there, deadletter.Order{To: crmFeed}, nil)
		if err != nil || p.Done != 25 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		r.wantLeft(deadFIFO, 0)
	})
}

func TestPurgeDeletesWhatTheFilterSelectsAndNothingElse(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 40 {
			r.bury(n, func(l *deadletter.Letter) {
				if n%4 == 0 {
					l.Class = "too_large"
				}
			})
		}
		r.send(dead, fixture(t, "text.txt"), nil)
		d := r.desk(letters.Options{})
		order := deadletter.Order{Filter: deadletter.Filter{Class: "too_large"}, DryRun: true}
		p, err := d.Purge(r.Context(), "sqs:"+dead, order, nil)
		if err != nil || p.Matched != 10 || p.Done != 0 || p.Total != 41 || len(p.Sample) != 10 {
			t.Errorf("dry run: %+v, %v", p, err)
		}
		r.close(d)
		r.wantLeft(dead, 41)
		order.DryRun = false
		d = r.desk(letters.Options{})
		p, err = d.Purge(r.Context(), "sqs:"+dead, order, nil)
		if err != nil || p.Matched != 10 || p.Done != 10 || p.Examined != 41 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		r.wantLeft(dead, 31)
		d = r.desk(letters.Options{})
		p, err = d.Purge(r.Context(), "sqs:"+dead, deadletter.Order{Filter: deadletter.Filter{Class: letters.ClassUnknown}}, nil)
		if err != nil || p.Done != 1 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		r.wantLeft(dead, 30)
		if n := r.sqs.Traffic().Calls["PurgeQueue"]; n > 0 {
			t.Errorf("PurgeQueue was called %d times", n)
		}
	})
}

func TestAMessageIsDeletedOnlyWhenAllItsLettersAreDealtWith(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		r.send(dead, []byte("["+string(number(1))+","+string(number(2))+","+string(number(3))+"]"), lambda)
		d := r.desk(letters.Options{})
		p, err := d.Purge(r.Context(), "sqs:"+dead, deadletter.Order{Filter: deadletter.Filter{EventID: "e2"}}, nil)
		if err != nil || p.Done != 1 || p.Kept != 1 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		r.wantLeft(dead, 1)
		d = r.desk(letters.Options{})
		p, err = d.Purge(r.Context(), "sqs:"+dead, deadletter.Order{}, nil)
		if err != nil || p.Done != 3 || p.Kept != 0 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		r.wantLeft(dead, 0)
	})
}

// If a limit ended in the middle of a message, the next order would begin with
// the same letters, again and again.
func TestALimitIsStretchedToTheEndOfAMessage(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 3 {
			r.send(dead, []byte("["+string(number(10*n))+","+string(number(10*n+1))+","+string(number(10*n+2))+"]"), lambda)
		}
		for left := 2; left >= 0; left-- {
			d := r.desk(letters.Options{})
			p, err := d.Purge(r.Context(), "sqs:"+dead, deadletter.Order{Limit: 2}, nil)
			if err != nil || p.Done != 3 || p.Kept != 0 {
				t.Errorf("%+v, %v", p, err)
			}
			r.close(d)
			r.wantLeft(dead, left)
		}
	})
}

func TestLettersThatAreNamedAreFoundInPassing(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		var all []string
		for n := range 35 {
			all = append(all, r.bury(n))
		}
		d := r.desk(letters.Options{})
		order := deadletter.Order{Filter: deadletter.Filter{IDs: []string{all[17], all[3], all[17], "nobody"}}}
		p, err := d.Purge(r.Context(), "sqs:"+dead, order, nil)
		if err != nil || p.Done != 2 || p.Matched != 2 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		r.wantLeft(dead, 33)
	})
}

func TestAtItsDeadlineADeskStopsAndSaysSo(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 50 {
			r.bury(n)
		}
		d := r.desk(letters.Options{Deadline: time.Now().Add(21 * time.Second)})
		p, err := d.Purge(r.Context(), "sqs:"+dead, deadletter.Order{Rate: 1}, nil)
		if err == nil || !strings.Contains(err.Error(), letters.ErrPaused.Error()) || p.Done != 21 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		r.wantLeft(dead, 29)
	})
}

func TestABackupHoldsEveryShape(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		r.bury(1)
		r.send(dead, fixture(t, "envelope-array.json"), nil)
		r.send(dead, fixture(t, "text.txt"), nil)
		claim, err := r.objects.Claim(r.Context(), bucket, "claims/1", number(5))
		if err != nil {
			t.Fatal(err)
		}
		r.send(dead, claim.Payload(), lambda)
		f := &disk{world: &world{}}
		d := r.desk(letters.Options{Redeem: true})
		p, err := deadletter.Backup(r.Context(), d, "sqs:"+dead, f, deadletter.BackupOptions{Delete: true}, nil)
		if err != nil || p.Written != 5 || p.Deleted != 5 || p.Batches != 1 {
			t.Errorf("%+v, %v", p, err)
		}
		if got := saved(t, f.content); !slices.Equal(got, []string{"e1", first, second, "", "e5"}) {
			t.Errorf("%q", got)
		}
		if !bytes.Contains(f.content, number(5)) {
			t.Error("the claimed event is not in the backup")
		}
		r.close(d)
		r.wantLeft(dead, 0)
	})
}

func TestABackupThatIsGivenAgainGoesOn(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 30 {
			r.bury(n)
		}
		f := &disk{world: &world{}}
		for i, want := range []deadletter.BackupProgress{{Written: 30, Batches: 1}, {Kept: 30, Batches: 1}, {Kept: 30, Deleted: 30, Batches: 1}} {
			d := r.desk(letters.Options{})
			p, err := deadletter.Backup(r.Context(), d, "sqs:"+dead, f, deadletter.BackupOptions{Delete: i == 2}, nil)
			if err != nil || p != want {
				t.Errorf("%+v, %v; want %+v", p, err, want)
			}
			r.close(d)
		}
		r.wantLeft(dead, 0)
		if got := saved(t, f.content); len(got) != 30 {
			t.Errorf("%q", got)
		}
	})
}

// troubles are all that a step outside can be.
var troubles = []trouble{refused, lost, interrupted, killed, died}

// A backup goes wrong at each of its steps in every way, and is given again.
func TestABackupLosesNothingAtAnyStep(t *testing.T) {
	t.Parallel()
	const n = 13
	for _, how := range troubles {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			for at := 1; ; at++ {
				over := false
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					var want []string
					for i := range n {
						r.bury(i)
						want = append(want, fmt.Sprintf("e%d", i))
					}
					f := &disk{world: r.world}
					backup := func() error {
						ctx, cancel := context.WithCancel(r.Context())
						defer cancel()
						r.world.cancel = cancel
						d := r.desk(letters.Options{})
						defer r.close(d)
						_, err := deadletter.Backup(ctx, d, "sqs:"+dead, f, deadletter.BackupOptions{Delete: true}, nil)
						return err
					}
					r.world.at, r.world.how = at, how
					_ = backup() // as far as it comes
					over = r.world.over()
					where := fmt.Sprintf("step %d of %v", at, r.world.names)
					if r.world.dead {
						f.content = f.content[:f.synced] // the power went with it
					}
					have := append(r.events(), saved(t, f.content[:bytes.LastIndexByte(f.content, '\n')+1])...)
					for _, id := range want {
						if !slices.Contains(have, id) {
							t.Fatalf("%s: %s is gone", where, id)
						}
					}
					if how == interrupted && !over {
						if _, held := r.waiting(dead); held > 0 {
							t.Errorf("%s: %d messages are held", where, held)
						}
					}
					r.world.heal()
					time.Sleep(6 * time.Minute) // what was held comes back
					if err := backup(); err != nil {
						t.Fatalf("%s: the second time: %v", where, err)
					}
					got := saved(t, f.content)
					slices.Sort(got)
					slices.Sort(want)
					if !slices.Equal(got, want) {
						t.Errorf("%s: the file holds %v", where, got)
					}
					r.wantLeft(dead, 0)
				})
				if t.Failed() || over {
					break
				}
			}
		})
	}
}

// events returns the ids of the events in the queue.
func (r *rig) events() (ids []string) {
	for _, m := range r.sqs.Messages(dead) {
		all, _ := letters.Parse(letters.Message{ID: m.ID, Body: []byte(m.Body)})
		for i := range all {
			ids = append(ids, all[i].EventID)
		}
	}
	return ids
}

// A replay goes wrong at each of its steps in every way, and is given again.
func TestAReplayLosesNothingAtAnyStep(t *testing.T) {
	t.Parallel()
	const n = 13
	for _, how := range troubles {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			for at := 1; ; at++ {
				over := false
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					var want []string
					for i := range n {
						r.bury(i)
						want = append(want, fmt.Sprintf("e%d", i))
					}
					replay := func() error {
						ctx, cancel := context.WithCancel(r.Context())
						defer cancel()
						r.world.cancel = cancel
						d := r.desk(letters.Options{})
						defer r.close(d)
						_, err := d.Replay(ctx, "sqs:"+dead, deadletter.Order{}, nil)
						return err
					}
					r.world.at, r.world.how = at, how
					_ = replay() // as far as it comes
					over = r.world.over()
					where := fmt.Sprintf("step %d of %v", at, r.world.names)
					have := append(r.events(), r.sender.ids()...)
					for _, id := range want {
						if !slices.Contains(have, id) {
							t.Fatalf("%s: %s is gone", where, id)
						}
					}
					r.world.heal()
					time.Sleep(6 * time.Minute) // what was held comes back
					if err := replay(); err != nil {
						t.Fatalf("%s: the second time: %v", where, err)
					}
					got := r.sender.ids()
					repeated := len(got) - n
					slices.Sort(got)
					slices.Sort(want)
					if got = slices.Compact(got); !slices.Equal(got, want) {
						t.Errorf("%s: %v were replayed", where, got)
					}
					if how == refused && repeated > 0 {
						t.Errorf("%s: %d were repeated", where, repeated)
					}
					r.wantLeft(dead, 0)
				})
				if t.Failed() || over {
					break
				}
			}
		})
	}
}
