package attempt_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/attempt"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/retry"
)

// letters are of events "user/name", with the ids "e1", "e2", ….
func letters(events ...string) []deadletter.Letter {
	all := make([]deadletter.Letter, len(events))
	for i, e := range events {
		user, name, _ := strings.Cut(e, "/")
		id := fmt.Sprintf("e%d", i+1)
		all[i] = deadletter.Letter{ID: id, FirstSeen: time.Now(), Event: json.RawMessage(fmt.Sprintf(`{"id":%q,"name":%q,"user_id":%q}`, id, name, user))}
	}
	return all
}

// script answers the tries of an event one after the other, the last for ever.
// An event that is not in it is delivered.
type script map[string][]connector.Result

func (s script) answer(tries map[string]int) deliverytest.Answer {
	return func(_ context.Context, events []connector.Delivery) []connector.Result {
		out := make([]connector.Result, len(events))
		for i, e := range events {
			lines := s[e.Event.ID]
			n := tries[e.Event.ID]
			tries[e.Event.ID]++
			if len(lines) == 0 {
				out[i].Class = connector.Delivered
				continue
			}
			out[i] = lines[min(n, len(lines)-1)]
		}
		return out
	}
}

func is(classes ...connector.Class) []connector.Result {
	out := make([]connector.Result, len(classes))
	for i, c := range classes {
		out[i] = connector.Result{Class: c, Code: "E7", Message: "because", Status: 500}
	}
	return out
}

func after(c connector.Class, d time.Duration) connector.Result {
	return connector.Result{Class: c, RetryAfter: d}
}

const (
	ok        = connector.Delivered
	retryable = connector.Retryable
	ambiguous = connector.Ambiguous
	permanent = connector.Permanent
	auth      = connector.Auth
	throttled = connector.Throttled
	tooLarge  = connector.TooLarge
)

func fates(names string) (all []attempt.Fate) {
	for name := range strings.FieldsSeq(names) {
		all = append(all, map[string]attempt.Fate{"waits": attempt.Waits, "delivered": attempt.Delivered, "dropped": attempt.Dropped, "dead": attempt.Dead}[name])
	}
	return all
}

func TestWhatBecomesOfEvents(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		events string
		script script
		conn   *deliverytest.Connector
		cfg    attempt.Config
		want   string
		// wantAttempts are those of the letters, wantOrder is what the
		// destination has.
		wantAttempts []int
		wantOrder    string
		wantCalls    int
	}{
		{name: "all is well", events: "u1/a u1/b u2/c", want: "delivered delivered delivered", wantAttempts: []int{0, 0, 0}, wantOrder: "e1 e2 e3", wantCalls: 3},
		{name: "as many as the destination takes go in one call", events: "u1/a u1/b u2/c", conn: &deliverytest.Connector{Bounds: connector.Limits{MaxEvents: 2}},
			want: "delivered delivered delivered", wantAttempts: []int{0, 0, 0}, wantOrder: "e1 e2 e3", wantCalls: 2},
		{name: "what it had already, and what the mapping drops", events: "u1/a u2/b", script: script{"e1": is(connector.Duplicate), "e2": is(connector.Dropped)},
			want: "delivered dropped", wantAttempts: []int{0, 0}, wantOrder: "e1", wantCalls: 2},
		{name: "an event that can never be accepted lets the next of its key go on", events: "u1/a u1/b", script: script{"e1": is(permanent)},
			want: "dead delivered", wantAttempts: []int{1, 0}, wantOrder: "e2", wantCalls: 2},
		{name: "an event that is too large alone is dead", events: "u1/a u1/b", script: script{"e1": is(tooLarge)},
			want: "dead delivered", wantAttempts: []int{1, 0}, wantOrder: "e2", wantCalls: 2},
		{name: "events that are too large together go in halves", events: "u1/a u1/b u2/c u2/d", conn: &deliverytest.Connector{Bounds: connector.Limits{MaxEvents: 4}},
			script: script{"e1": is(tooLarge, ok), "e2": is(tooLarge, ok), "e3": is(tooLarge, tooLarge, ok), "e4": is(tooLarge, tooLarge, ok)},
			want:   "delivered delivered delivered delivered", wantAttempts: []int{0, 0, 0, 0}, wantOrder: "e1 e2 e3 e4", wantCalls: 5},
		{name: "a failure that passes is tried again here", events: "u1/a", script: script{"e1": is(retryable, throttled, ambiguous, ok)}, cfg: attempt.Config{Nap: 5 * time.Second, Ambiguous: "retry"},
			want: "delivered", wantAttempts: []int{3}, wantOrder: "e1", wantCalls: 4},
		{name: "later events of a key wait behind one that is tried again, others do not", events: "u1/a u1/b u2/c", script: script{"e1": is(retryable, ok)},
			want: "delivered delivered delivered", wantAttempts: []int{1, 0, 0}, wantOrder: "e3 e1 e2", wantCalls: 4},
		{name: "what must wait for long is given back, and what is behind it was not tried", events: "u1/a u1/b u2/c", script: script{"e1": {after(retryable, time.Minute)}},
			want: "waits waits delivered", wantAttempts: []int{1, 0, 0}, wantOrder: "e3", wantCalls: 2},
		{name: "after the last attempt it is dead", events: "u1/a u1/b", script: script{"e1": is(retryable)}, cfg: attempt.Config{Retry: retry.Policy{MaxAttempts: 3}},
			want: "dead delivered", wantAttempts: []int{3, 0}, wantOrder: "e2", wantCalls: 4},
		{name: "refused credentials stop the batch, and count for nobody", events: "u1/a u2/b u3/c", script: script{"e2": is(auth)},
			want: "delivered waits waits", wantAttempts: []int{0, 0, 0}, wantOrder: "e1", wantCalls: 2},
		{name: "of a call that was refused only what can never be accepted counts", events: "u1/a u2/b u3/c", conn: &deliverytest.Connector{Bounds: connector.Limits{MaxEvents: 3}},
			script: script{"e1": is(auth), "e2": is(retryable), "e3": is(permanent)}, want: "waits waits dead", wantAttempts: []int{0, 0, 1}, wantCalls: 1},
		{name: "an unknown fate is dead", events: "u1/a", script: script{"e1": is(ambiguous, ok)},
			want: "dead", wantAttempts: []int{1}, wantCalls: 1},
		{name: "an unknown fate is tried again where that was asked for", events: "u1/a", script: script{"e1": is(ambiguous, ok)}, cfg: attempt.Config{Ambiguous: "retry"},
			want: "delivered", wantAttempts: []int{1}, wantOrder: "e1", wantCalls: 2},
		{name: "an unknown fate is dead where it must not be tried again", events: "u1/a", script: script{"e1": is(ambiguous, ok)}, cfg: attempt.Config{Ambiguous: "dead"},
			want: "dead", wantAttempts: []int{1}, wantCalls: 1},
		{name: "a destination that knows duplicates gets it again all the same", events: "u1/a", script: script{"e1": is(ambiguous, ok)}, cfg: attempt.Config{Ambiguous: "dead"},
			conn: &deliverytest.Connector{Bounds: connector.Limits{Dedups: true}}, want: "delivered", wantAttempts: []int{1}, wantOrder: "e1", wantCalls: 2},
		{name: "an event that needs no call can be dead or dropped", events: "u1/never u2/drop u3/c",
			conn: &deliverytest.Connector{Refuse: func(d connector.Delivery) (connector.Result, bool) {
				class, refused := map[string]connector.Class{"never": permanent, "drop": connector.Dropped}[d.Event.Name]
				return connector.Result{Class: class}, refused
			}}, want: "dead dropped delivered", wantAttempts: []int{0, 0, 0}, wantOrder: "e3", wantCalls: 1},
		{name: "one event that makes whole calls fail ends up alone", events: "u1/a u2/b u3/c u4/d", conn: &deliverytest.Connector{Bounds: connector.Limits{MaxEvents: 4}},
			script: script{"e1": is(retryable, retryable, ok), "e2": is(retryable, retryable, ok), "e3": is(retryable, ok), "e4": is(retryable, ok)},
			want:   "delivered delivered delivered delivered", wantAttempts: []int{2, 2, 1, 1}, wantOrder: "e3 e4 e1 e2", wantCalls: 5},
		{name: "nothing", events: "", want: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				conn := c.conn
				if conn == nil {
					conn = &deliverytest.Connector{}
				}
				conn.Answer(c.script.answer(map[string]int{}))
				c.cfg.Destination = "crm"
				stage, err := attempt.New(conn, c.cfg, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				all := letters(strings.Fields(c.events)...)
				got := stage.Deliver(ctx, all, nil)
				if want := fates(c.want); !slices.Equal(got, want) {
					t.Errorf("fates %v, want %v", got, want)
				}
				var attempts []int
				for i := range all {
					attempts = append(attempts, all[i].Attempts)
				}
				if !slices.Equal(attempts, c.wantAttempts) {
					t.Errorf("attempts %v, want %v", attempts, c.wantAttempts)
				}
				if order := strings.Join(conn.Order(), " "); order != c.wantOrder {
					t.Errorf("order %q, want %q", order, c.wantOrder)
				}
				if conn.Calls() != c.wantCalls {
					t.Errorf("%d calls, want %d", conn.Calls(), c.wantCalls)
				}
				if err := stage.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// run delivers in a bubble, within a time.
func run(t *testing.T, s *attempt.Stage, within time.Duration, all []deadletter.Letter) []attempt.Fate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return s.Deliver(ctx, all, nil)
}

func newStage(t *testing.T, conn connector.Connector, cfg attempt.Config) *attempt.Stage {
	t.Helper()
	cfg.Destination = "crm"
	s, err := attempt.New(conn, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestALetterSaysAllThatIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{}
		conn.Answer(script{"e1": {
			{Class: retryable, Code: "busy", Message: "first", Status: 503},
			{Class: permanent, Code: "bad", Message: strings.Repeat("m", 2000), Status: 422, Request: "POST /", Response: strings.Repeat("r", 5000)},
		}}.answer(map[string]int{}))
		s := newStage(t, conn, attempt.Config{})
		seen := time.Now()
		all := letters("u1/bought", "u1/bought")
		all[0].Rule = "rules[0] crm"
		run(t, s, time.Minute, all)
		at := time.Now()
		first := all[0].Tries[0].At
		want := deadletter.Letter{
			ID: "e1", Destination: "crm", Event: all[0].Event, EventID: "e1", EventName: "bought", PartitionKey: "u1",
			Attempts: 2, FirstSeen: seen, LastTry: at, Class: "permanent", Code: "bad", Message: strings.Repeat("m", 1024), Status: 422,
			Request: "POST /", Response: strings.Repeat("r", 4096), Rule: "rules[0] crm", Connector: "double@1",
			Tries: []deadletter.Try{
				{At: seen, Class: "retryable", Code: "busy", Status: 503, Message: "first"},
				{At: at, Class: "permanent", Code: "bad", Status: 422, Message: strings.Repeat("m", 200)},
			},
		}
		if !reflect.DeepEqual(all[0], want) || first != seen {
			t.Errorf("\n got %+v\nwant %+v", all[0], want)
		}
	})
}

func TestWhatIsNoEventIsDeadWithItsBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{}
		all := []deadletter.Letter{{ID: "1", Event: json.RawMessage(`{"no":"name"}`)}, {ID: "2", Raw: []byte("\xff")}, {ID: "3"}}
		got := run(t, newStage(t, conn, attempt.Config{}), time.Minute, all)
		if !slices.Equal(got, fates("dead dead dead")) || conn.Calls() != 0 {
			t.Fatalf("%v, %d calls", got, conn.Calls())
		}
		if l := all[0]; string(l.Raw) != `{"no":"name"}` || l.Event != nil || l.Class != "permanent" || l.Code != "unreadable" || l.Attempts != 0 || l.Destination != "crm" {
			t.Errorf("%+v", l)
		}
	})
}

func TestAnEventWithoutAnIDHasThatOfItsLetter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{}
		all := []deadletter.Letter{{ID: "place.0", Event: json.RawMessage(`{"name":"a"}`)}, {ID: "other", EventID: "given", Event: json.RawMessage(`{"name":"b"}`)}}
		run(t, newStage(t, conn, attempt.Config{}), time.Minute, all)
		if got := conn.Order(); !slices.Equal(got, []string{"place.0", "given"}) || all[0].EventID != "place.0" {
			t.Errorf("%v, %+v", got, all[0])
		}
	})
}

// A wait is slept if it is no longer than a nap and there is time for the call
// after it.
func TestWhichWaitsAreSlept(t *testing.T) {
	t.Parallel()
	const nap = 3 * time.Second
	for _, c := range []struct {
		name         string
		wait, within time.Duration
		want         string
	}{
		{"a nap", nap, time.Minute, "delivered"},
		{"longer than a nap", nap + 1, time.Minute, "waits"},
		{"a nap, with time for the call", nap, nap + 250*time.Millisecond, "delivered"},
		{"a nap, without time for the call", nap, nap + 250*time.Millisecond - 1, "waits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				conn := &deliverytest.Connector{}
				s := newStage(t, conn, attempt.Config{Nap: nap})
				all := letters("u1/a", "u2/b")
				all[0].NotBefore = time.Now().Add(c.wait)
				start := time.Now()
				got := run(t, s, c.within, all)
				if !slices.Equal(got, fates(c.want+" delivered")) {
					t.Errorf("%v, want %s", got, c.want)
				}
				slept := time.Since(start)
				if c.want == "waits" && (slept != 0 || all[0].Attempts != 0 || all[0].NotBefore != start.Add(c.wait)) || c.want == "delivered" && slept != c.wait {
					t.Errorf("slept %v, letter %+v", slept, all[0])
				}
			})
		})
	}
}

func TestADestinationThatAsksForTimeIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{}
		conn.Answer(script{"e2": {after(throttled, time.Hour), {Class: ok}}}.answer(map[string]int{}))
		s := newStage(t, conn, attempt.Config{})
		start := time.Now()
		all := letters("u1/a", "u2/b", "u3/c")
		if got := run(t, s, time.Minute, all); !slices.Equal(got, fates("delivered waits waits")) {
			t.Fatalf("%v", got)
		}
		for i, attempts := range map[int]int{1: 1, 2: 0} {
			wait := all[i].NotBefore.Sub(start)
			if all[i].Attempts != attempts || wait < time.Hour || wait > time.Hour+6*time.Minute {
				t.Errorf("letter %d: %d attempts, waits %v", i, all[i].Attempts, wait)
			}
		}
		if all[2].Class != "held" {
			t.Errorf("class %q of a letter that was not tried", all[2].Class)
		}
		// The next batch of this environment is kept from it too.
		next := letters("u4/d")
		if got := run(t, s, time.Minute, next); !slices.Equal(got, fates("waits")) || conn.Calls() != 2 || next[0].NotBefore.Sub(start) < time.Hour {
			t.Errorf("%v after %d calls: %+v", got, conn.Calls(), next[0])
		}
		time.Sleep(time.Hour + 6*time.Minute)
		if got := run(t, s, time.Minute, letters("u4/d")); !slices.Equal(got, fates("delivered")) {
			t.Errorf("%v after the time it asked for", got)
		}
	})
}

// Five events in a row that fail say that the destination is away. From there on
// calls are probes, and the others wait without an attempt.
func TestADestinationThatIsAwayDoesNotUseUpAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{}
		conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			return connector.All(len(events), after(retryable, time.Minute))
		})
		s := newStage(t, conn, attempt.Config{Retry: retry.Policy{BaseDelay: time.Hour, MaxDelay: time.Hour}})
		all := letters("u1/a", "u2/b", "u3/c", "u4/d", "u5/e", "u6/f", "u7/g")
		if got := run(t, s, time.Minute, all); !slices.Equal(got, fates("waits waits waits waits waits waits waits")) {
			t.Fatalf("%v", got)
		}
		if all[4].Attempts != 1 || all[5].Attempts != 0 || conn.Calls() != 5 {
			t.Errorf("%d calls; %+v; %+v", conn.Calls(), all[4], all[5])
		}
		time.Sleep(time.Hour)
		conn.Answer(nil)
		if got := run(t, s, time.Minute, all); slices.Contains(got, attempt.Dead) || got[5] != attempt.Delivered {
			t.Errorf("%v once it is back", got)
		}
	})
}

// Events that keep failing keep nobody else waiting.
func TestPoisonedEventsDoNotCloseADestination(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{}
		poison := script{}
		all := letters("u1/a", "u2/b", "u3/c", "u4/d", "u5/e", "u6/f", "u7/g")
		for i := range all[:6] {
			all[i].Attempts = 3
			poison[all[i].ID] = []connector.Result{after(retryable, time.Minute)}
		}
		conn.Answer(poison.answer(map[string]int{}))
		got := run(t, newStage(t, conn, attempt.Config{Nap: 1}), time.Minute, all)
		if !slices.Equal(got, fates("waits waits waits waits waits waits delivered")) {
			t.Errorf("%v", got)
		}
	})
}

func TestRefusedCredentialsWaitWithoutAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{}
		conn.Answer(script{"e1": is(auth)}.answer(map[string]int{}))
		s := newStage(t, conn, attempt.Config{})
		start := time.Now()
		all := letters("u1/a", "u2/b")
		run(t, s, time.Minute, all)
		for i, class := range []string{"auth", "held"} {
			wait := all[i].NotBefore.Sub(start)
			if all[i].Class != class || all[i].Attempts != 0 || len(all[i].Tries) > 0 || wait < 5*time.Minute || wait > 10*time.Minute {
				t.Errorf("letter %d waits %v: %+v", i, wait, all[i])
			}
		}
		// The next batch finds out by itself.
		if got := run(t, s, time.Minute, letters("u3/c")); !slices.Equal(got, fates("waits")) || conn.Calls() != 2 {
			t.Errorf("%v after %d calls", got, conn.Calls())
		}
	})
}

func TestNewCredentialsAreTakenAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old, renewed := &deliverytest.Connector{}, &deliverytest.Connector{}
		old.Answer(script{"e1": is(auth), "e2": is(auth), "e3": is(auth)}.answer(map[string]int{}))
		asked := 0
		s := newStage(t, old, attempt.Config{Renew: func(context.Context) connector.Connector {
			if asked++; asked == 1 {
				return nil
			}
			return renewed
		}})
		all := letters("u1/a", "u1/b", "u2/c")
		if got := run(t, s, time.Minute, all); !slices.Equal(got, fates("waits waits waits")) {
			t.Fatalf("%v without new credentials", got)
		}
		got := run(t, s, time.Minute, letters("u1/a", "u1/b", "u2/c"))
		if !slices.Equal(got, fates("delivered delivered delivered")) || strings.Join(renewed.Order(), " ") != "e1 e2 e3" {
			t.Errorf("%v, %v", got, renewed.Order())
		}
	})
}

func TestAGroupTakesThePlaceOfTheKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{}
		conn.Answer(script{"e1": {after(retryable, time.Hour)}}.answer(map[string]int{}))
		all := letters("u1/a", "u2/b", "u1/c", "u1/d")
		got := newStage(t, conn, attempt.Config{}).Deliver(t.Context(), all, []string{"g", "g", "h", ""})
		if !slices.Equal(got, fates("waits waits delivered delivered")) || all[1].NotBefore != all[0].NotBefore || all[1].PartitionKey != "u2" {
			t.Errorf("%v, %+v", got, all[1])
		}
	})
}

// A call is begun while there is time for twice the slowest; what is left waits
// for no particular time.
func TestNoCallIsBegunThatCannotEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{}
		conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			time.Sleep(2 * time.Second)
			return connector.All(len(events), connector.Result{Class: ok})
		})
		all := letters("u1/a", "u2/b", "u3/c", "u4/d")
		got := run(t, newStage(t, conn, attempt.Config{}), 7*time.Second, all)
		if !slices.Equal(got, fates("delivered delivered waits waits")) || all[2].Attempts != 0 || !all[2].NotBefore.IsZero() {
			t.Errorf("%v, %+v", got, all[2])
		}
	})
}

// The first call is always begun, so that a batch that comes with little time
// gets somewhere. A connector that does not return is left behind.
func TestACallThatDoesNotReturnIsLeftBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{}
		free := make(chan struct{})
		conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			<-free
			return connector.All(len(events), connector.Result{Class: ok})
		})
		s := newStage(t, conn, attempt.Config{Concurrency: 1, Ambiguous: "retry"})
		for n := range 6 {
			start := time.Now()
			all := letters("u1/a", "u2/b")
			got := run(t, s, 100*time.Millisecond, all)
			wantAttempts := 1
			wantTook := 100*time.Millisecond + time.Second
			if n >= 4 { // there is no slot any more: no call, no attempt
				wantAttempts, wantTook = 0, 100*time.Millisecond
			}
			if took := time.Since(start); !slices.Equal(got, fates("waits waits")) || all[0].Attempts != wantAttempts || took != wantTook {
				t.Errorf("round %d: %v after %v, %d attempts", n, got, took, all[0].Attempts)
			}
			time.Sleep(time.Hour)
		}
		close(free)
		if err := s.Close(); err != nil { // waits for all of them
			t.Error(err)
		}
	})
}

// unruly is a connector that breaks its contract.
type unruly struct {
	deliverytest.Connector
	plan func([]connector.Delivery) connector.Plan
	send func() []connector.Result
}

func (u *unruly) Plan(d []connector.Delivery) connector.Plan {
	if u.plan != nil {
		return u.plan(d)
	}
	return u.Connector.Plan(d)
}

func (u *unruly) Send(ctx context.Context, c connector.Call) []connector.Result {
	if u.send != nil {
		return u.send()
	}
	return u.Connector.Send(ctx, c)
}

func TestAConnectorThatBreaksItsContractLosesNothing(t *testing.T) {
	t.Parallel()
	policy := retry.Policy{MaxAttempts: 2, BaseDelay: time.Millisecond, MaxDelay: time.Millisecond}
	for name, c := range map[string]struct {
		conn *unruly
		want string
	}{
		"a panic in plan":         {&unruly{plan: func([]connector.Delivery) connector.Plan { panic("plan") }}, "dead dead dead"},
		"a plan without an event": {&unruly{plan: func([]connector.Delivery) connector.Plan { return connector.Plan{} }}, "dead dead dead"},
		"an event twice in a plan": {&unruly{plan: func([]connector.Delivery) connector.Plan {
			return connector.Plan{Calls: []connector.Call{{Events: []int{0, 0}}}}
		}}, "dead dead dead"},
		"an event that is not there":      {&unruly{plan: func([]connector.Delivery) connector.Plan { return connector.Plan{Done: []connector.Done{{Event: 7}}} }}, "dead dead dead"},
		"a panic in send":                 {&unruly{send: func() []connector.Result { panic("send") }}, "dead dead dead"},
		"no results":                      {&unruly{send: func() []connector.Result { return nil }}, "dead dead dead"},
		"more results than events":        {&unruly{send: func() []connector.Result { return connector.All(9, connector.Result{Class: ok}) }}, "delivered delivered delivered"},
		"a plan that panics for one only": {&unruly{}, "delivered dead delivered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				conn := c.conn
				conn.Bounds.MaxEvents = 3
				if name == "a plan that panics for one only" {
					conn.plan = func(d []connector.Delivery) connector.Plan {
						if slices.ContainsFunc(d, func(d connector.Delivery) bool { return d.Event.ID == "e2" }) {
							panic("e2")
						}
						return conn.Connector.Plan(d)
					}
				}
				all := letters("u1/a", "u2/b", "u3/c")
				got := run(t, newStage(t, conn, attempt.Config{Retry: policy}), time.Minute, all)
				if !slices.Equal(got, fates(c.want)) {
					t.Errorf("%v, want %s", got, c.want)
				}
			})
		})
	}
}

func TestAConfigThatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]attempt.Config{
		"no destination":         {},
		"less than no attempts":  {Destination: "crm", Retry: retry.Policy{MaxAttempts: -1}},
		"neither retry nor dead": {Destination: "crm", Ambiguous: "twice"},
		"a bound below base":     {Destination: "crm", Retry: retry.Policy{BaseDelay: time.Hour, MaxDelay: time.Minute}},
	} {
		if _, err := attempt.New(&deliverytest.Connector{}, cfg, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCallsOfDifferentKeysAreMadeAtOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		events      []string
		concurrency int
		bounds      connector.Limits
		calls       time.Duration // one after another
	}{
		{"sixteen users", users(16), 0, connector.Limits{MaxEvents: 100}, 2},
		{"sixteen users, four at once", users(16), 4, connector.Limits{MaxEvents: 100}, 4},
		{"sixteen users, a destination that takes two", users(16), 4, connector.Limits{MaxEvents: 100, MaxConcurrency: 2}, 8},
		{"one user", []string{"u/a", "u/b", "u/c", "u/d"}, 0, connector.Limits{MaxEvents: 100}, 4},
		{"two users by turns", []string{"u/a", "v/b", "u/c", "v/d"}, 0, connector.Limits{MaxEvents: 100}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := &deliverytest.Connector{Bounds: c.bounds, PerCall: 1}
				const takes = 50 * time.Millisecond
				conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
					time.Sleep(takes)
					return connector.All(len(events), connector.Result{Class: ok})
				})
				s := newStage(t, conn, attempt.Config{Concurrency: c.concurrency})
				all := letters(c.events...)
				start := time.Now()
				for i, fate := range run(t, s, time.Minute, all) {
					if fate != attempt.Delivered {
						t.Errorf("%s %s", all[i].EventID, fate)
					}
				}
				if took := time.Since(start); took != c.calls*takes {
					t.Errorf("took %v, want %d calls one after another", took, c.calls)
				}
			})
		})
	}
}

// users are events of as many users.
func users(n int) (events []string) {
	for i := range n {
		events = append(events, fmt.Sprintf("u%d/a", i))
	}
	return events
}

// A destination that fails is not asked eight times at once.
func TestADestinationThatFailsGetsOneCallAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{Bounds: connector.Limits{MaxEvents: 100}, PerCall: 1}
		under, most := atomic.Int32{}, atomic.Int32{}
		conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			if n := under.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(10 * time.Millisecond)
			under.Add(-1)
			return connector.All(len(events), connector.Result{Class: connector.Retryable})
		})
		s := newStage(t, conn, attempt.Config{})
		run(t, s, 5*time.Second, letters(users(8)...)) // this is how it is found out
		most.Store(0)
		run(t, s, 5*time.Second, letters(users(8)...))
		if most.Load() > 1 {
			t.Errorf("%d calls at once", most.Load())
		}
	})
}

// A destination that takes two calls per second, and says nothing of how long to
// wait: within the batch the pace is found, and the next batch begins with it.
func TestThrottlingSetsThePaceOfThisBatchAndTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{Bounds: connector.Limits{MaxEvents: 100}, PerCall: 1}
		var mu sync.Mutex
		var last time.Time
		var calls []time.Time
		refused := 0
		conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			calls = append(calls, now)
			if now.Sub(last) < 500*time.Millisecond {
				refused++
				return connector.All(len(events), connector.Result{Class: throttled})
			}
			last = now
			return connector.All(len(events), connector.Result{Class: ok})
		})
		s := newStage(t, conn, attempt.Config{Nap: 10 * time.Second})
		got := run(t, s, 10*time.Minute, letters(users(100)...))
		if slices.ContainsFunc(got, func(f attempt.Fate) bool { return f != attempt.Delivered }) {
			t.Errorf("%v", got)
		}
		t.Logf("%d of %d calls throttled", refused, len(calls))
		if refused > 20 { // seven of them in the first eight, which are made at once
			t.Errorf("%d of %d calls were throttled", refused, len(calls))
		}
		calls = nil
		run(t, s, time.Minute, letters(users(3)...))
		for i := range calls[1:] {
			if gap := calls[i+1].Sub(calls[i]); gap < 100*time.Millisecond {
				t.Errorf("the next batch has a gap of %v", gap)
			}
		}
	})
}

// What the pace leaves no time for waits, and says until when.
func TestWhatThePaceLeavesNoTimeForWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{}
		conn.Answer(script{"e1": is(throttled)}.answer(map[string]int{}))
		s := newStage(t, conn, attempt.Config{Nap: time.Second, Retry: retry.Policy{BaseDelay: time.Hour, MaxDelay: time.Hour}})
		all := letters("u1/a", "u2/b", "u3/c")
		got := run(t, s, time.Minute, all)
		if !slices.Equal(got, fates("waits waits waits")) || conn.Calls() != 1 {
			t.Fatalf("%v after %d calls", got, conn.Calls())
		}
		for _, l := range all[1:] { // one call in a second was too much: one in two
			if wait := time.Until(l.NotBefore); l.Attempts != 0 || wait != 2*time.Second {
				t.Errorf("waits %v after %d attempts", wait, l.Attempts)
			}
		}
		time.Sleep(2 * time.Second)
		if got := run(t, s, time.Minute, all[1:]); got[0] != attempt.Delivered {
			t.Errorf("%v two seconds later", got)
		}
	})
}

// One event of a call that is throttled fails no other.
func TestOneThrottledEventOfACallFailsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := &deliverytest.Connector{Bounds: connector.Limits{MaxEvents: 10}}
		conn.Answer(script{"e2": is(throttled, ok)}.answer(map[string]int{}))
		all := letters("u1/a", "u2/b", "u3/c")
		got := run(t, newStage(t, conn, attempt.Config{}), time.Minute, all)
		if !slices.Equal(got, fates("delivered delivered delivered")) || strings.Join(conn.Order(), " ") != "e1 e3 e2" || conn.Calls() != 2 {
			t.Errorf("%v after %d calls, %v", got, conn.Calls(), conn.Order())
		}
	})
}
