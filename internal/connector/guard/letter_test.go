package guard_test

import (
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/retry"
)

func TestWhichOutcomesGiveAnEventUp(t *testing.T) {
	t.Parallel()
	policy := retry.Policy{MaxAttempts: 3}
	for _, c := range []struct {
		class    connector.Class
		attempts int
		dedups   bool
		a        guard.Ambiguous
		want     bool
	}{
		{connector.Retryable, 2, false, "", false},
		{connector.Retryable, 3, true, guard.AmbiguousRetry, true},
		{connector.Throttled, 2, false, "", false},
		{connector.Permanent, 1, true, guard.AmbiguousRetry, true},
		{connector.TooLarge, 1, true, guard.AmbiguousRetry, true},
		{connector.Ambiguous, 1, false, "", true},
		{connector.Ambiguous, 1, false, guard.AmbiguousDead, true},
		{connector.Ambiguous, 2, false, guard.AmbiguousRetry, false},
		{connector.Ambiguous, 3, false, guard.AmbiguousRetry, true},
		{connector.Ambiguous, 2, true, "", false},
		{connector.Ambiguous, 2, true, guard.AmbiguousDead, false},
	} {
		if got := guard.GivesUp(c.class, c.attempts, policy, c.dedups, c.a); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

func TestADeadLetterOfAnUnknownFateSaysWhatReplayingItMeans(t *testing.T) {
	t.Parallel()
	const doubt = "the destination may have this event, and replaying it may make a duplicate"
	for _, c := range []struct {
		res       connector.Result
		notBefore time.Time
		want      string
	}{
		{connector.Result{Class: connector.Ambiguous, Message: "connection reset"}, time.Time{}, doubt + ": connection reset"},
		{connector.Result{Class: connector.Ambiguous}, time.Time{}, doubt},
		{connector.Result{Class: connector.Ambiguous, Message: "connection reset"}, time.Now(), "connection reset"},
		{connector.Result{Class: connector.Permanent, Message: "no such field"}, time.Time{}, "no such field"},
	} {
		var l deadletter.Letter
		guard.Record(&l, c.res, true, c.notBefore)
		if l.Message != c.want || l.Tries[0].Message != c.res.Message {
			t.Errorf("%q, and of the try %q; want %q", l.Message, l.Tries[0].Message, c.want)
		}
	}
	var l deadletter.Letter
	guard.Record(&l, connector.Result{Class: connector.Ambiguous, Message: strings.Repeat("x", 1<<10)}, true, time.Time{})
	if !strings.HasPrefix(l.Message, doubt) || len(l.Message) > 1<<10 {
		t.Errorf("a message of %d bytes: %s", len(l.Message), l.Message)
	}
}
