package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

func TestAFilterSelects(t *testing.T) {
	t.Parallel()
	l := letter(1) // "1.0.0", bought, e1, permanent
	for name, c := range map[string]struct {
		filter deadletter.Filter
		want   bool
	}{
		"nothing asked":          {deadletter.Filter{}, true},
		"the class":              {deadletter.Filter{Class: "permanent"}, true},
		"another class":          {deadletter.Filter{Class: "perm"}, false},
		"the event":              {deadletter.Filter{EventID: "e1"}, true},
		"another event":          {deadletter.Filter{EventID: "e"}, false},
		"the name":               {deadletter.Filter{EventName: "bought"}, true},
		"the beginning":          {deadletter.Filter{EventName: "bou"}, false},
		"the beginning and *":    {deadletter.Filter{EventName: "bou*"}, true},
		"the whole name and *":   {deadletter.Filter{EventName: "bought*"}, true},
		"any name":               {deadletter.Filter{EventName: "*"}, true},
		"another name and *":     {deadletter.Filter{EventName: "sold*"}, false},
		"since then":             {deadletter.Filter{Since: l.LastTry}, true},
		"since later":            {deadletter.Filter{Since: l.LastTry.Add(1)}, false},
		"until then":             {deadletter.Filter{Until: l.LastTry}, false},
		"until later":            {deadletter.Filter{Until: l.LastTry.Add(1)}, true},
		"its id":                 {deadletter.Filter{IDs: []string{"2.0.0", "1.0.0"}}, true},
		"other ids":              {deadletter.Filter{IDs: []string{"2.0.0"}}, false},
		"all of it":              {deadletter.Filter{Class: "permanent", EventName: "b*", IDs: []string{"1.0.0"}, Since: l.LastTry}, true},
		"all of it but the id":   {deadletter.Filter{Class: "permanent", EventName: "b*", IDs: []string{"1"}}, false},
		"all of it, the wrong *": {deadletter.Filter{Class: "permanent", EventName: "c*", IDs: []string{"1.0.0"}}, false},
	} {
		if got := c.filter.Match(&l); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestPagesFollowOneAnother(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 2, 3, 6, 7, 100} {
		q := queueOf(t, 13)
		f := deadletter.Filter{Until: letter(7).LastTry} // 1 to 6
		var got []string
		var after uint64
		for {
			p, err := deadletter.List(t.Context(), q, f, after, limit)
			if err != nil || len(p.Letters) > limit || p.Letters == nil {
				t.Fatalf("limit %d: %+v, %v", limit, p, err)
			}
			got = append(got, ids(p.Letters)...)
			if p.Next == 0 {
				break
			}
			if len(p.Letters) < limit || p.Next <= after {
				t.Fatalf("limit %d: %d letters, and more after %d", limit, len(p.Letters), p.Next)
			}
			after = p.Next
			if err := q.Delete(t.Context(), ids(p.Letters)); err != nil { // a cursor outlives its letter
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, ids(letters(6))) {
			t.Errorf("limit %d: %v", limit, got)
		}
	}
	if _, err := deadletter.List(t.Context(), queueOf(t, 1), deadletter.Filter{}, 0, 0); fault.KindOf(err) != fault.Invalid {
		t.Errorf("limit 0: %v", err)
	}
	if _, err := deadletter.List(t.Context(), &queue{fail: errBroken}, deadletter.Filter{}, 0, 1); !errors.Is(err, errBroken) {
		t.Errorf("a queue that fails: %v", err)
	}
}

// walked carries out an order by deleting, and returns the letters in order
// and the sizes of the batches.
func walked(t *testing.T, q *queue, o deadletter.Order) (p deadletter.Progress, all []string, sizes []int) {
	t.Helper()
	p, err := deadletter.Walk(t.Context(), q, o, nil, func(ctx context.Context, letters []deadletter.Letter) (int, error) {
		all, sizes = append(all, ids(letters)...), append(sizes, len(letters))
		return len(letters), q.Delete(ctx, ids(letters))
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, all, sizes
}

// wantProgress compares the figures.
func wantProgress(t *testing.T, got, want deadletter.Progress) {
	t.Helper()
	got.Sample = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("progress\n got %+v\nwant %+v", got, want)
	}
}

func TestAWalkHandsOverWhatTheFilterSelectsInBatches(t *testing.T) {
	t.Parallel()
	q := queueOf(t, 350)
	f := deadletter.Filter{Since: letter(101).LastTry}
	p, all, sizes := walked(t, q, deadletter.Order{Filter: f})
	wantProgress(t, p, deadletter.Progress{Total: 350, Examined: 350, Matched: 250, Done: 250})
	if !slices.Equal(all, ids(letters(350))[100:]) || !slices.Equal(sizes, []int{100, 100, 50}) {
		t.Errorf("batches of %v: %v", sizes, all)
	}
	if len(q.letters) != 100 {
		t.Errorf("%d are left", len(q.letters))
	}
}

func TestALimitIsKept(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 99, 100, 101, 149, 150, 151} {
		p, all, _ := walked(t, queueOf(t, 150), deadletter.Order{Limit: limit})
		if want := min(limit, 150); p.Matched != want || p.Done != want || len(all) != want {
			t.Errorf("limit %d: %+v, %d letters", limit, p, len(all))
		}
	}
	order := deadletter.Order{Limit: 2, Filter: deadletter.Filter{IDs: []string{"9.0.0", "3.0.0", "5.0.0", "4.0.0"}}}
	if _, all, _ := walked(t, queueOf(t, 5), order); !slices.Equal(all, []string{"3.0.0", "5.0.0"}) {
		t.Errorf("by id: %v", all)
	}
}

func TestLettersThatAreNamedAreLookedUpOnce(t *testing.T) {
	t.Parallel()
	named := []string{"5.0.0", "2.0.0", "77.0.0", "5.0.0", "5.0.0", "1.0.0"}
	p, all, _ := walked(t, queueOf(t, 5), deadletter.Order{Filter: deadletter.Filter{IDs: named, Since: letter(2).LastTry}})
	wantProgress(t, p, deadletter.Progress{Total: 5, Examined: 4, Matched: 2, Done: 2})
	if !slices.Equal(all, []string{"5.0.0", "2.0.0"}) {
		t.Errorf("walked over %v", all)
	}
}

func TestADryRunCountsShowsASampleAndChangesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		order                     deadletter.Order
		examined, matched, sample int
	}{
		"all":        {deadletter.Order{}, 250, 250, 10},
		"some":       {deadletter.Order{Filter: deadletter.Filter{Until: letter(5).LastTry}}, 250, 4, 4},
		"limited":    {deadletter.Order{Limit: 120}, 120, 120, 10},
		"by id":      {deadletter.Order{Filter: deadletter.Filter{IDs: []string{"7.0.0", "8.0.0"}}}, 2, 2, 2},
		"in a hurry": {deadletter.Order{Rate: 0.001}, 250, 250, 10}, // counting takes no time
	} {
		q := queueOf(t, 250)
		c.order.DryRun = true
		p, all, _ := walked(t, q, c.order)
		wantProgress(t, p, deadletter.Progress{Total: 250, Examined: c.examined, Matched: c.matched})
		if len(p.Sample) != c.sample || len(all) != 0 || len(q.letters) != 250 {
			t.Errorf("%s: a sample of %d, %d letters touched", name, len(p.Sample), len(all))
		}
	}
}

func TestTheRateOfAnOrderIsKept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate  float64
		n     int
		batch int
		takes time.Duration
	}{
		{rate: 0, n: 1000, batch: 100, takes: 0},
		{rate: 0.5, n: 4, batch: 1, takes: 6 * time.Second}, // the first at once
		{rate: 10, n: 100, batch: 10, takes: 9 * time.Second},
		{rate: 1000, n: 1100, batch: 100, takes: time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			_, all, sizes := walked(t, queueOf(t, c.n), deadletter.Order{Rate: c.rate})
			took := time.Since(began)
			if len(all) != c.n || slices.Max(sizes) != c.batch || took < c.takes || took > c.takes+time.Millisecond {
				t.Errorf("rate %v: %d letters, at most %d at once, took %v; %v is right", c.rate, len(all), slices.Max(sizes), took, c.takes)
			}
		})
	}
}

func TestAWalkThatWaitsForItsRateCanBeStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		q := queueOf(t, 100)
		p, err := deadletter.Walk(ctx, q, deadletter.Order{Rate: 0.1}, nil, func(_ context.Context, l []deadletter.Letter) (int, error) {
			return len(l), nil
		})
		if err == nil || p.Done < 8 || p.Done > 10 {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

// Letters that are replayed die again at once, and stand at the end of the
// queue under the same id.
func TestLettersThatDieAgainAreNotWalkedOverTwice(t *testing.T) {
	t.Parallel()
	for _, byID := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			q := queueOf(t, 250)
			order := deadletter.Order{Rate: 100}
			if byID {
				order.Filter.IDs = q.ids()
			}
			seen := map[string]int{}
			p, err := deadletter.Walk(t.Context(), q, order, nil, func(ctx context.Context, letters []deadletter.Letter) (int, error) {
				time.Sleep(time.Millisecond)
				for i := range letters {
					seen[letters[i].ID]++
					letters[i].LastTry = time.Now()
				}
				return len(letters), q.Put(ctx, letters)
			})
			if err != nil {
				t.Fatal(err)
			}
			wantProgress(t, p, deadletter.Progress{Total: 250, Examined: 250, Matched: 250, Done: 250})
			for id, n := range seen {
				if n != 1 {
					t.Errorf("%s was handed over %d times", id, n)
				}
			}
		})
	}
}

// The clock was wrong, ahead of today, when one letter died.
func TestALetterFromTheFutureDoesNotHideThoseBehindIt(t *testing.T) {
	t.Parallel()
	q := queueOf(t, 1)
	future := letter(2)
	future.LastTry = time.Now().Add(1000 * time.Hour)
	if err := q.Put(t.Context(), []deadletter.Letter{future, letter(3)}); err != nil {
		t.Fatal(err)
	}
	if _, all, _ := walked(t, q, deadletter.Order{}); !slices.Equal(all, []string{"1.0.0", "3.0.0"}) {
		t.Errorf("walked over %v", all)
	}
}

func TestProgressIsReportedAfterEachBatchAndWhatWasDoneBeforeAFailureCounts(t *testing.T) {
	t.Parallel()
	q := queueOf(t, 350)
	var reports []string
	batches := 0
	p, err := deadletter.Walk(t.Context(), q, deadletter.Order{}, func(p deadletter.Progress) {
		reports = append(reports, fmt.Sprintf("%d/%d matched %d done %d", p.Examined, p.Total, p.Matched, p.Done))
	}, func(_ context.Context, letters []deadletter.Letter) (int, error) {
		if batches++; batches == 3 {
			return 40, errBroken
		}
		return len(letters), nil
	})
	if !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
	wantProgress(t, p, deadletter.Progress{Total: 350, Examined: 300, Matched: 300, Done: 240})
	if want := []string{"100/350 matched 100 done 100", "200/350 matched 200 done 200"}; !slices.Equal(reports, want) {
		t.Errorf("reports %q", reports)
	}
}

func TestAWalkReportsWhatItCannotDo(t *testing.T) {
	t.Parallel()
	act := func(context.Context, []deadletter.Letter) (int, error) {
		t.Error("something was done")
		return 0, nil
	}
	for _, o := range []deadletter.Order{{To: "mars"}, {Rate: -1}, {Limit: -1}} {
		if _, err := deadletter.Walk(t.Context(), queueOf(t, 1), o, nil, act); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []deadletter.Order{{}, {Filter: deadletter.Filter{IDs: []string{"1.0.0"}}}} {
		if _, err := deadletter.Walk(t.Context(), &queue{fail: errBroken}, o, nil, act); !errors.Is(err, errBroken) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
