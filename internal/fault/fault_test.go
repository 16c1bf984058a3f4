package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTheFirstClassifiedErrorInTheChainDecides(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk on fire")
	err := fmt.Errorf("write batch: %w", &Error{Kind: Unavailable, Detail: "try later", RetryAfter: time.Second, Err: cause})
	if KindOf(err) != Unavailable || RetryAfter(err) != time.Second {
		t.Errorf("kind %v, retry after %v", KindOf(err), RetryAfter(err))
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if KindOf(cause) != Internal || RetryAfter(cause) != 0 {
		t.Error("an unclassified error is internal and asks for no wait")
	}
}

func TestEveryKindHasItsOwnName(t *testing.T) {
	t.Parallel()
	seen := map[string]Kind{}
	for k := Internal; k <= Conflict; k++ {
		name := k.String()
		if other, ok := seen[name]; ok || name == "" || strings.HasPrefix(name, "kind(") {
			t.Errorf("kind %d is called %q, like %d", k, name, other)
		}
		seen[name] = k
	}
}
