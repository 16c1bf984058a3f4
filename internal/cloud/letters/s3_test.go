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

	"github.com/eventsluice/sluice/internal/cloud/letters"
	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

// key is that of an object as an event source calls it.
func key(n int) string {
	return fmt.Sprintf("aws/lambda/5c6e1b77/%s/2026/11/23/2026-11-23T10.38.%02d-ee7c1d9e", shard, n)
}

func (r *rig) object(key string, body []byte) {
	r.Helper()
	if err := r.objects.Put(r.Context(), bucket, key, body, ""); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) keys() []string {
	r.Helper()
	keys, _, err := r.objects.List(r.Context(), bucket, "", "")
	if err != nil {
		r.Fatal(err)
	}
	return keys
}

func TestTheObjectsOfAnEventSourceAreADeadLetterQueue(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 20 {
			r.object(key(n), fixture(t, "note-payload.json"))
		}
		r.object("aws/lambda/", nil) // a folder, as consoles make them
		r.object("rules.json", []byte("[]"))
		const there = "s3://" + bucket + "/aws/lambda/"
		d := r.desk(letters.Options{})
		all := r.all(d, there)
		if len(all) != 60 || all[0].ID != key(0)+".0.0" || all[59].ID != key(19)+".1.0" || all[1].EventID != derived {
			t.Errorf("%d letters", len(all))
		}
		if count, err := d.Count(r.Context(), there); err != nil || count.Waiting != 21 {
			t.Errorf("%+v, %v", count, err)
		}
		l, err := d.Get(r.Context(), there, key(19)+".1.0")
		if err != nil || string(l.Raw) != "not json" {
			t.Errorf("%+v, %v", l, err)
		}
		r.close(d)
		d = r.desk(letters.Options{})
		p, err := d.Replay(r.Context(), there, deadletter.Order{To: deadletter.ToStream}, nil)
		if err != nil || p.Done != 40 || p.Refused != 20 || p.Kept != 40 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		if got := r.onStream(); len(got) != 40 || got[0] != first {
			t.Errorf("%d events on the stream: %.3q", len(got), got)
		}
		d = r.desk(letters.Options{})
		p, err = d.Purge(r.Context(), there, deadletter.Order{}, nil)
		if err != nil || p.Done != 60 {
			t.Errorf("%+v, %v", p, err)
		}
		if got := r.keys(); !slices.Equal(got, []string{"aws/lambda/", "rules.json"}) {
			t.Errorf("left: %v", got)
		}
	})
}

func TestABackupInABucketIsAQueueAgain(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		for n := range 250 {
			r.bury(n)
		}
		r.send(dead, fixture(t, "text.txt"), nil)
		archive, other := letters.NewArchive(r.clients.Objects, bucket, dead), letters.NewArchive(r.clients.Objects, bucket, dead)
		d := r.desk(letters.Options{})
		p, err := deadletter.BackupTo(r.Context(), d, "sqs:"+dead, archive, deadletter.BackupOptions{Delete: true}, nil)
		if err != nil || p.Written != 251 || p.Deleted != 251 || p.Batches != 3 {
			t.Errorf("%+v, %v", p, err)
		}
		r.close(d)
		r.wantLeft(dead, 0)
		want := []string{
			"s3://events/dead-letters/crm-dead/2026/11/24/20261124T080000.000Z-000001.jsonl",
			"s3://events/dead-letters/crm-dead/2026/11/24/20261124T080000.000Z-000002.jsonl",
			"s3://events/dead-letters/crm-dead/2026/11/24/20261124T080000.000Z-000003.jsonl",
		}
		if got := archive.Objects(); !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
		// Another one, begun in the same moment, does not write over it.
		if err := other.Add(r.Context(), []byte("{}\n")); err != nil || !strings.HasSuffix(other.Objects()[0], "-000004.jsonl") {
			t.Errorf("%v, %v", other.Objects(), err)
		}
		if err := r.objects.Delete(r.Context(), bucket, strings.TrimPrefix(other.Objects()[0], "s3://"+bucket+"/")); err != nil {
			t.Fatal(err)
		}
		d = r.desk(letters.Options{})
		progress, err := d.Replay(r.Context(), "s3://"+bucket+"/dead-letters/crm-dead/", deadletter.Order{}, nil)
		if err != nil || progress.Done != 250 || progress.Refused != 1 || progress.Kept != 50 {
			t.Errorf("%+v, %v", progress, err)
		}
		for _, m := range r.sender.got {
			if m.arn != crm {
				t.Errorf("sent to %s", m.arn)
			}
		}
		if got := r.sender.ids(); len(got) != 250 {
			t.Errorf("%d were sent", len(got))
		}
	})
}

// A backup into a bucket goes wrong at each of its steps in every way.
func TestABackupInABucketLosesNothingAtAnyStep(t *testing.T) {
	t.Parallel()
	const n = 13
	for _, how := range troubles {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			for at := 1; ; at++ {
				over := false
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					for i := range n {
						r.bury(i)
					}
					backup := func() error {
						ctx, cancel := context.WithCancel(r.Context())
						defer cancel()
						r.world.cancel = cancel
						d := r.desk(letters.Options{})
						defer r.close(d)
						_, err := deadletter.BackupTo(ctx, d, "sqs:"+dead, letters.NewArchive(r.clients.Objects, bucket, dead), deadletter.BackupOptions{Delete: true}, nil)
						return err
					}
					safe := func() (ids []string) {
						for _, key := range r.keys() {
							body, _, err := r.objects.Get(r.Context(), bucket, key, "", 1<<20)
							if err != nil {
								t.Fatal(err)
							}
							ids = append(ids, saved(t, body)...)
						}
						return ids
					}
					r.world.at, r.world.how = at, how
					_ = backup() // as far as it comes
					over = r.world.over()
					where := fmt.Sprintf("step %d of %v", at, r.world.names)
					have := append(r.events(), safe()...)
					for i := range n {
						if !slices.Contains(have, fmt.Sprintf("e%d", i)) {
							t.Fatalf("%s: e%d is gone", where, i)
						}
					}
					r.world.heal()
					time.Sleep(6 * time.Minute)
					if err := backup(); err != nil {
						t.Fatalf("%s: the second time: %v", where, err)
					}
					have = safe()
					for i := range n {
						if !slices.Contains(have, fmt.Sprintf("e%d", i)) {
							t.Fatalf("%s: e%d is not in the backup", where, i)
						}
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

func TestAQueueInABucketIsPartOfTheNameOfItsBackup(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		archive := letters.NewArchive(r.clients.Objects, bucket, "s3://failed/aws/lambda/")
		if err := archive.Keep(r.Context(), nil); err != nil || len(archive.Objects()) != 0 {
			t.Errorf("%v, %v", archive.Objects(), err)
		}
		if err := archive.Keep(r.Context(), []deadletter.Letter{{ID: "1", Event: number(1)}}); err != nil || !strings.HasPrefix(archive.Objects()[0], "s3://events/dead-letters/failed-aws-lambda/2026/") {
			t.Errorf("%v, %v", archive.Objects(), err)
		}
	})
}

func TestAnObjectThatIsTooLargeIsNotPassedOver(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		r.clients.Objects = small{r.objects}
		r.object("x/1", bytes.Repeat([]byte("x"), 2000))
		if _, err := r.desk(letters.Options{}).List(r.Context(), "s3://"+bucket+"/x/", deadletter.Filter{}, 0, 1); fault.KindOf(err) != fault.TooLarge {
			t.Error(err)
		}
	})
}

// small takes objects of up to 1 KiB.
type small struct{ *object.Client }

func (s small) Get(ctx context.Context, bucket, key, have string, _ int64) ([]byte, string, error) {
	return s.Client.Get(ctx, bucket, key, have, 1<<10)
}
