package letters_test

import (
	"slices"
	"testing"

	"github.com/eventsluice/sluice/internal/cloud/letters"
)

func TestAListLeavesTheQueueAsItWas(t *testing.T) {
	t.Parallel()
	inRig(t, func(r *rig) {
		var want []string
		for n := range 25 {
			want = append(want, r.bury(n))
		}
		d := r.desk(letters.Options{})
		var got []string
		for _, l := range r.all(d, r.sqs.QueueURL(dead)) {
			got = append(got, l.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v\nwant %v", got, want)
		}
		if waiting, held := r.waiting(dead); waiting != 0 || held != 25 {
			t.Errorf("%d waiting, %d held before the desk is closed", waiting, held)
		}
		r.close(d)
		r.wantLeft(dead, 25)
	})
}
