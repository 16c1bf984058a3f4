package limit

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// noon is when most of these tests happen, on the clock of a limiter.
func noon(l *Limiter) time.Time { return l.epoch.Add(time.Hour) }

func TestABatchOverTheBurstIsAdmittedWhenFullAndLeavesADebt(t *testing.T) {
	t.Parallel()
	l := New(Config{})
	b, noon := NewRule(Key, "k", Rate{PerSecond: 10, Burst: 20}, false).Own(), noon(l)
	if wait := l.Take(b, 100, noon); wait != 0 {
		t.Fatalf("a full bucket makes a batch wait %v", wait)
	}
	// 80 events of debt: 8 s until it is paid, and one event more.
	if wait := l.Wait(b, noon); wait != 8100*time.Millisecond {
		t.Errorf("the next event waits %v, want 8.1s", wait)
	}
	if wait := l.Take(b, 1, noon.Add(8*time.Second)); wait != 100*time.Millisecond {
		t.Errorf("after 8 s the next waits %v, want 100ms", wait)
	}
	if wait := l.Take(b, 1, noon.Add(8100*time.Millisecond)); wait != 0 {
		t.Errorf("after 8.1 s the next waits %v", wait)
	}
	// A bucket that is not full refuses it, and says when it will be.
	if wait := l.Take(b, 100, noon.Add(9100*time.Millisecond)); wait != time.Second {
		t.Errorf("a batch at a half-full bucket waits %v, want 1s", wait)
	}
	if l.Take(Bucket{}, 1e9, noon) != 0 || l.Wait(Bucket{}, noon) != 0 {
		t.Error("no limit limits")
	}
	if (*Rule)(nil).Own() != (Bucket{}) || (*Rule)(nil).Of("u") != (Bucket{}) {
		t.Error("no rule has a bucket")
	}
}

func TestBurstDefaultsToOneSecond(t *testing.T) {
	t.Parallel()
	for perSecond, want := range map[float64]int{0.1: 1, 1: 1, 2.5: 3, 200: 200} {
		if got := (Rate{PerSecond: perSecond}).burst(); got != want {
			t.Errorf("burst of %v a second is %d, want %d", perSecond, got, want)
		}
	}
}

// Whatever the rate, a full bucket admits its burst, event by event, and no
// more; and after the wait that it names it admits the next.
func TestEveryRateAdmitsItsBurstAndKeepsItsWord(t *testing.T) {
	t.Parallel()
	for _, r := range []Rate{
		{PerSecond: 0.001, Burst: 10}, {PerSecond: 1}, {PerSecond: 3}, {PerSecond: 7, Burst: 1000},
		{PerSecond: 1e6, Burst: 5}, {PerSecond: 1e9, Burst: 1000}, {PerSecond: 1e-300, Burst: 1}, {PerSecond: 0.5, Burst: 1e8},
	} {
		l := New(Config{})
		b, now := NewRule(Key, "k", r, false).Own(), noon(l)
		n := min(r.burst(), 1000)
		if wait := l.Take(b, r.burst()-n+1, now); wait != 0 {
			t.Errorf("%v: a full bucket makes %d wait %v", r, r.burst()-n+1, wait)
		}
		for i := 1; i < n; i++ {
			if wait := l.Take(b, 1, now); wait != 0 {
				t.Fatalf("%v: event %d of the burst waits %v", r, i+1, wait)
			}
		}
		wait := l.Take(b, 1, now)
		if wait <= 0 || wait > maxWait {
			t.Fatalf("%v: the event after the burst waits %v", r, wait)
		}
		if wait == maxWait {
			continue
		}
		if l.Take(b, 1, now.Add(wait-1)) == 0 {
			t.Errorf("%v: it is admitted before its wait of %v is over", r, wait)
		}
		if more := l.Take(b, 1, now.Add(wait)); more != 0 {
			t.Errorf("%v: after its wait it waits %v more", r, more)
		}
	}
}

func TestABucketIsKnownByOwnerRateAndWhatItIsFor(t *testing.T) {
	t.Parallel()
	l := New(Config{})
	at := noon(l)
	empty := func(b Bucket) {
		t.Helper()
		if wait := l.Take(b, 1, at); wait != 0 {
			t.Errorf("a bucket that nobody took from waits %v", wait)
		}
		if l.Take(b, 1, at) == 0 {
			t.Error("an empty bucket admits")
		}
	}
	rate := Rate{PerSecond: 1, Burst: 1}
	for _, kind := range []Kind{Key, Address, KeyAddress, User, Name} {
		empty(NewRule(kind, "web", rate, false).Of("u1"))
		empty(NewRule(kind, "web", rate, false).Of("u2"))
		empty(NewRule(kind, "app", rate, false).Of("u1"))
		empty(NewRule(kind, "web", Rate{PerSecond: 2, Burst: 1}, false).Of("u1"))
	}
	// The keys were read again and nothing has changed, except that the default
	// is written out.
	if l.Take(NewRule(User, "web", Rate{PerSecond: 1}, false).Of("u1"), 1, at) == 0 {
		t.Error("a reload fills the bucket")
	}
}

// judged lets a request be judged and describes the outcome: "refused: KIND",
// or a character for each event (. passes, u and n are over).
func judged(l *Limiter, r *Request, at time.Time) string {
	l.Judge(r, at)
	if rule := r.Refused(); rule != nil {
		return "refused: " + rule.Kind().String()
	}
	var b strings.Builder
	overs := 0
	for i := range r.events {
		switch rule := r.Over(i); {
		case rule == nil:
			b.WriteByte('.')
			continue
		case rule.Kind() == User:
			b.WriteByte('u')
		default:
			b.WriteByte('n')
		}
		overs++
	}
	if overs != r.Overs() {
		return fmt.Sprintf("%d events are over, counted are %d", overs, r.Overs())
	}
	return b.String()
}

func TestEachEventIsJudgedByItsUserAndItsName(t *testing.T) {
	t.Parallel()
	l := New(Config{})
	at := noon(l)
	users, names := NewRule(User, "web", Rate{PerSecond: 1, Burst: 2}, false), NewRule(Name, "web", Rate{PerSecond: 2, Burst: 3}, false)
	ask := func(at time.Time, events ...string) (string, time.Duration) {
		var r Request
		for _, e := range events {
			user, name, _ := strings.Cut(e, " ")
			var by, of Bucket
			if user != "-" {
				by = users.Of(user)
			}
			if name != "-" {
				of = names.Of(name)
			}
			r.Event(by, of)
		}
		return judged(l, &r, at), r.Wait()
	}
	for i, tt := range []struct {
		after  time.Duration
		events []string
		want   string
		wait   time.Duration
	}{
		// The third of ann is over, and takes nothing of the name: bob passes.
		{0, []string{"ann a", "ann a", "ann a", "bob a", "bob b"}, "..u..", time.Second},
		// Name a is empty; ann is too. Who has no user is judged by the name.
		{0, []string{"cid a", "ann b", "- b", "- b", "- -", "cid -", "cid -", "cid -"}, "nu.....u", time.Second},
		// Name b grows back two a second; four that are over need its whole
		// burst, three events, to be back.
		{0, []string{"d1 b", "d2 b", "d3 b", "d4 b"}, "nnnn", 1500 * time.Millisecond},
		{500 * time.Millisecond, []string{"d1 b", "d2 b"}, ".n", 500 * time.Millisecond},
	} {
		at = at.Add(tt.after)
		if got, wait := ask(at, tt.events...); got != tt.want || wait != tt.wait {
			t.Errorf("%d: %s, wait %v; want %s, %v", i, got, wait, tt.want, tt.wait)
		}
	}
}

func TestARefusedRequestTakesNothing(t *testing.T) {
	t.Parallel()
	l := New(Config{})
	at := noon(l)
	key, address := NewRule(Key, "web", Rate{PerSecond: 1, Burst: 10}, false), NewRule(KeyAddress, "web", Rate{PerSecond: 1, Burst: 2}, false)
	users := NewRule(User, "web", Rate{PerSecond: 1, Burst: 1}, false)
	ask := func(n int) (string, time.Duration) {
		var r Request
		r.Gate(key.Own(), n)
		r.Gate(address.Of("192.0.2.1"), n)
		r.Event(users.Of("ann"), Bucket{})
		return judged(l, &r, at), r.Wait()
	}
	if got, _ := ask(2); got != "." {
		t.Fatal(got)
	}
	for range 3 {
		if got, wait := ask(1); got != "refused: key_address" || wait != time.Second {
			t.Fatal(got, wait)
		}
	}
	if wait := l.Take(key.Own(), 8, at); wait != 0 {
		t.Errorf("refused requests have taken from the key: it waits %v", wait)
	}
	// Two lack something: the first is named, the longer wait is said.
	if got, wait := ask(10); got != "refused: key" || wait != 10*time.Second {
		t.Error(got, wait)
	}
	at = at.Add(time.Second)
	l.Take(users.Of("ann"), 1, at) // whose bucket is full again, for no refused event took of it
	var r Request
	r.Event(users.Of("ann"), Bucket{})
	if got := judged(l, &r, at); got != "u" {
		t.Error(got)
	}
}

func TestARuleThatObservesRefusesNothingAndCounts(t *testing.T) {
	t.Parallel()
	l := New(Config{})
	at := noon(l)
	key := NewRule(Key, "web", Rate{PerSecond: 1, Burst: 2}, true)
	users := NewRule(User, "web", Rate{PerSecond: 1, Burst: 1}, true)
	names := NewRule(Name, "web", Rate{PerSecond: 1, Burst: 3}, false)
	var r Request
	ask := func() string {
		r.Reset()
		r.Gate(key.Own(), 2)
		r.Event(users.Of("ann"), names.Of("a"))
		r.Event(users.Of("ann"), names.Of("a"))
		return judged(l, &r, at)
	}
	if got := ask(); got != ".." || r.Observed(Key) != 0 || r.Observed(User) != 1 || r.Observed(Name) != 0 {
		t.Error(got, r.observed)
	}
	// Of the name's three, two are gone, though one was of a user over the rate.
	if got := ask(); got != ".n" || r.Observed(Key) != 2 || r.Observed(User) != 2 {
		t.Error(got, r.observed)
	}
	if l.Wait(key.Own(), at) != 0 {
		t.Error("a rule that observes makes wait")
	}
}

func TestTheTableIsBoundedAndKeepsTheBusy(t *testing.T) {
	t.Parallel()
	l := New(Config{MaxBuckets: 100})
	users, at := NewRule(User, "web", Rate{PerSecond: 0.001, Burst: 1000}, false), noon(l)
	busy := users.Of("busy")
	for i := range 100_000 {
		l.Take(users.Of(strconv.Itoa(i)), 1, at)
		if i%10 == 0 {
			l.Take(busy, 1, at)
		}
		if n := l.tables[User].len(); n > 100 {
			t.Fatalf("%d buckets", n)
		}
	}
	if l.Take(busy, 1, at) == 0 {
		t.Error("a bucket in use was forgotten")
	}
	if l.Take(users.Of("0"), 1000, at) != 0 {
		t.Error("a forgotten bucket is not full")
	}
	if got := l.Stats().Buckets; got["user"] < 50 || got["user"] > 100 || got["key"] != 0 || len(got) != int(kinds) {
		t.Errorf("buckets %v", got)
	}
}

// The memory that Config says a table takes.
func TestATableOfAHundredThousandTakesTenMegabytes(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	l := New(Config{})
	users, at := NewRule(User, "web", Rate{PerSecond: 1}, false), noon(l)
	before := heap()
	for i := range 500_000 {
		l.Take(users.Of(strconv.Itoa(i)), 1, at)
	}
	if took := heap() - before; took > 10<<20 {
		t.Errorf("%d buckets take %d bytes", l.tables[User].len(), took)
	} else {
		t.Logf("%d buckets take %d bytes", l.tables[User].len(), took)
	}
	runtime.KeepAlive(l)
}

func TestLimitsAreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	l := New(Config{})
	at := noon(l)
	key := NewRule(Key, "k", Rate{PerSecond: 1, Burst: 150}, false)
	users, names := NewRule(User, "k", Rate{PerSecond: 1, Burst: 100}, false), NewRule(Name, "k", Rate{PerSecond: 1, Burst: 50}, false)
	var wg sync.WaitGroup
	admitted := make([]int, 8)
	for i := range admitted {
		wg.Go(func() {
			var r Request
			for j := range 50 {
				r.Reset()
				r.Gate(key.Own(), 1)
				r.Event(users.Of("u"), names.Of(strconv.Itoa(j%2)))
				l.Judge(&r, at)
				if r.Refused() == nil && r.Over(0) == nil {
					admitted[i]++
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range admitted {
		sum += n
	}
	if sum != 100 {
		t.Errorf("%d events admitted at one moment, the user's burst is 100", sum)
	}
}

func TestJudgingAllocatesNothing(t *testing.T) {
	l := New(Config{})
	at := noon(l)
	key := NewRule(Key, "k", Rate{PerSecond: 1e6}, false)
	users, names := NewRule(User, "k", Rate{PerSecond: 1e6}, false), NewRule(Name, "k", Rate{PerSecond: 1e6}, false)
	var r Request
	ask := func() {
		r.Reset()
		r.Gate(key.Own(), 10)
		for range 10 {
			r.Event(users.Of("01980000-0000-7000-8000-000000000001"), names.Of("button_clicked"))
		}
		l.Judge(&r, at)
	}
	ask()
	if n := testing.AllocsPerRun(100, ask); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkJudge(b *testing.B) {
	l := New(Config{})
	key := NewRule(Key, "k", Rate{PerSecond: 1e9}, false)
	users, names := NewRule(User, "k", Rate{PerSecond: 1e9}, false), NewRule(Name, "k", Rate{PerSecond: 1e9}, false)
	ids := make([]string, 100_000)
	for i := range ids {
		ids[i] = "user-" + strconv.Itoa(rand.Int())
	}
	for _, n := range []int{0, 1, 100} {
		b.Run(fmt.Sprintf("%d-events", n), func(b *testing.B) {
			var r Request
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Reset()
				r.Gate(key.Own(), max(n, 1))
				for j := range n {
					r.Event(users.Of(ids[(i*n+j)%len(ids)]), names.Of("button_clicked"))
				}
				l.Judge(&r, time.Now())
			}
		})
	}
}
