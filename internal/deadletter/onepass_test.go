package deadletter_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
)

// messages is a queue of messages of three letters each, which are read once.
type messages struct {
	*queue
	counted uint64 // what Count says
	passed  uint64
	t       *testing.T
}

var _ deadletter.OnePass = (*messages)(nil)

func (m *messages) Scan(ctx context.Context, after uint64, yield func(uint64, deadletter.Letter) bool) error {
	m.passed = max(m.passed, after)
	return m.queue.Scan(ctx, m.passed, yield)
}

func (m *messages) Get(context.Context, string) (deadletter.Letter, error) {
	m.t.Error("letters are not looked up in a queue that is read once")
	return deadletter.Letter{}, errBroken
}

func (m *messages) Ends(cursor uint64) bool { return cursor/3%3 == 0 }

func (m *messages) Count(context.Context) (uint64, error) { return m.counted, nil }

func TestAQueueOfMessagesIsWalkedOverWithoutKnowingItsLength(t *testing.T) {
	t.Parallel()
	for _, counted := range []uint64{0, 2, 117} {
		q := &messages{queue: queueOf(t, 351), counted: counted, t: t}
		var sizes []int
		p, err := deadletter.Walk(t.Context(), q, deadletter.Order{}, nil, func(ctx context.Context, l []deadletter.Letter) (int, error) {
			sizes = append(sizes, len(l))
			return len(l), q.Delete(ctx, ids(l))
		})
		if err != nil || !slices.Equal(sizes, []int{100, 100, 100, 51}) {
			t.Errorf("batches of %v, %v", sizes, err)
		}
		wantProgress(t, p, deadletter.Progress{Total: 351, Examined: 351, Matched: 351, Done: 351})
	}
}

func TestALimitDoesNotEndInTheMiddleOfAMessage(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{1: 3, 2: 3, 3: 3, 4: 6, 100: 102, 101: 102, 102: 102, 300: 300, 301: 300} {
		q := &messages{queue: queueOf(t, 300), t: t}
		p, err := deadletter.Walk(t.Context(), q, deadletter.Order{Limit: limit}, nil, func(_ context.Context, l []deadletter.Letter) (int, error) {
			return len(l), nil
		})
		if err != nil || p.Matched != want || p.Done != want {
			t.Errorf("limit %d: %+v, %v; want %d", limit, p, err, want)
		}
	}
	// What the filter leaves out ends a message too.
	q := &messages{queue: queueOf(t, 9), t: t}
	order := deadletter.Order{Limit: 1, Filter: deadletter.Filter{Until: letter(2).LastTry}}
	p, err := deadletter.Walk(t.Context(), q, order, nil, func(_ context.Context, l []deadletter.Letter) (int, error) { return len(l), nil })
	if err != nil || p.Done != 1 || p.Examined != 3 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestNamedLettersAreMetInPassingAlsoThoseOfTheFuture(t *testing.T) {
	t.Parallel()
	q := &messages{queue: queueOf(t, 30), t: t}
	q.letters[16].LastTry = time.Now().Add(time.Hour)
	order := deadletter.Order{Filter: deadletter.Filter{IDs: []string{"17.0.0", "2.0.0", "17.0.0"}}}
	var got []string
	p, err := deadletter.Walk(t.Context(), q, order, nil, func(_ context.Context, l []deadletter.Letter) (int, error) {
		got = append(got, ids(l)...)
		return len(l), nil
	})
	if err != nil || p.Examined != 18 || !slices.Equal(got, []string{"2.0.0", "17.0.0"}) {
		t.Errorf("%+v, %v: %v", p, err, got)
	}
}

// Large letters make short pages and batches: both are held in memory.
func TestPagesAndBatchesAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	q := queueOf(t, 40)
	for i := range q.letters {
		q.letters[i].Raw = make([]byte, 1<<20)
	}
	page, err := deadletter.List(t.Context(), q, deadletter.Filter{}, 0, 40)
	if err != nil || len(page.Letters) != 15 || page.Next == 0 {
		t.Errorf("%d letters, next %d, %v", len(page.Letters), page.Next, err)
	}
	p, _, sizes := walked(t, q, deadletter.Order{})
	if p.Done != 40 || slices.Max(sizes) != 16 {
		t.Errorf("%+v in batches of %v", p, sizes)
	}
	q = queueOf(t, 2)
	q.letters[0].Raw = make([]byte, 20<<20)
	if page, err := deadletter.List(t.Context(), q, deadletter.Filter{}, 0, 40); err != nil || len(page.Letters) != 1 {
		t.Errorf("one that is larger than a page: %d letters, %v", len(page.Letters), err)
	}
}

// It ends at once, and not at the deadline.
func TestAWalkDoesNotWaitForWhatComesAfterItsDeadline(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	p, err := deadletter.Walk(ctx, queueOf(t, 3), deadletter.Order{Rate: 1.0 / 36000}, nil, func(_ context.Context, l []deadletter.Letter) (int, error) {
		return len(l), nil
	})
	if err != context.DeadlineExceeded || p.Done != 1 { //nolint:errorlint // exactly that
		t.Errorf("%+v, %v", p, err)
	}
}

func TestATargetCanBeAnARN(t *testing.T) {
	t.Parallel()
	for to, want := range map[deadletter.Target]bool{
		"": true, deadletter.ToStream: true, deadletter.ToDestination: true, "arn:aws:lambda:eu-west-1:123456789012:function:crm:prod": true,
		"moon": false, "ARN": false,
	} {
		if o := (deadletter.Order{To: to}); (o.Validate() == nil) != want {
			t.Errorf("%q: %v", to, o.Validate())
		}
	}
}

func TestALetterThatClaimsItsEventIsALineToo(t *testing.T) {
	t.Parallel()
	l := letter(1)
	claim := event.NewClaim("claims", "a/1", []byte("{}"))
	l.Event, l.Claim = nil, &claim
	line, err := deadletter.AppendLine(nil, l)
	if err != nil {
		t.Fatal(err)
	}
	got, err := deadletter.ParseLine(line)
	if err != nil || got.Claim == nil || *got.Claim != claim || len(got.Event) != 0 || len(got.Raw) != 0 {
		t.Errorf("%s: %+v, %v", line, got, err)
	}
}

func TestAnEmptyFilterIsKnown(t *testing.T) {
	t.Parallel()
	if f := (deadletter.Filter{}); !f.IsZero() {
		t.Error("an empty one")
	}
	for _, f := range []deadletter.Filter{
		{Class: "x"}, {EventName: "x"}, {EventID: "x"}, {Since: died}, {Until: died}, {IDs: []string{"x"}},
	} {
		if f.IsZero() {
			t.Errorf("%+v", f)
		}
	}
}
