package redshift

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/fault"
)

// fake is a Bucket and a Database that do as they are told.
type fake struct {
	// begins are the errors of the calls of Begin to come; nil is none. What is
	// begun is begun all the same if lost.
	begins []error
	lost   bool
	// outcomes are those of the batches, in the order in which they are begun: of
	// each what it says when it is asked, the last one for ever. Without any a
	// batch is finished.
	outcomes [][]any // Outcome, or error
	// cancelled is what a batch says after it was cancelled; nil is what it said
	// before.
	cancelled *Outcome

	puts, deletes []error
	checked       error

	mu      sync.Mutex
	objects map[string][]byte
	deleted []string
	tokens  []string   // of all calls of Begin
	begun   [][]string // the statements of the batches
	asked   []int      // how often, by batch
	cancels []time.Time
}

func take(errs *[]error) (err error) {
	if len(*errs) > 0 {
		err, *errs = (*errs)[0], (*errs)[1:]
	}
	return err
}

func (f *fake) Put(_ context.Context, key string, body []byte, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := take(&f.puts); err != nil {
		return err
	}
	if f.objects == nil {
		f.objects = map[string][]byte{}
	}
	f.objects[key] = body
	return nil
}

func (f *fake) Delete(_ context.Context, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deleted = append(f.deleted, key)
	return take(&f.deletes)
}

func (f *fake) Check(context.Context, string) error { return f.checked }

func (f *fake) Begin(_ context.Context, token string, statements []string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	again := slices.Index(f.tokens, token)
	f.tokens = append(f.tokens, token)
	err := take(&f.begins)
	if err != nil && !f.lost {
		return "", err
	}
	if again < 0 || len(f.begun) == 0 {
		f.begun, f.asked = append(f.begun, statements), append(f.asked, 0)
	}
	return fmt.Sprint(len(f.begun) - 1), err
}

func (f *fake) Outcome(_ context.Context, id string) (Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var batch int
	if _, err := fmt.Sscan(id, &batch); err != nil {
		return Outcome{}, err
	}
	if len(f.cancels) > 0 && f.cancelled != nil {
		return *f.cancelled, nil
	}
	if batch >= len(f.outcomes) {
		return Outcome{Status: finished}, nil
	}
	said := f.outcomes[batch][min(f.asked[batch], len(f.outcomes[batch])-1)]
	f.asked[batch]++
	if err, ok := said.(error); ok {
		return Outcome{}, err
	}
	return said.(Outcome), nil
}

func (f *fake) Cancel(context.Context, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancels = append(f.cancels, time.Now())
	return nil
}

const good = `{"cluster_identifier":"analytics","database":"dev","db_user":"sluice","table":"raw.events",` +
	`"staging_bucket":"lake","iam_role":"arn:aws:iam::123456789012:role/redshift-copy"`

// open makes a connector of a fake, with the good settings and some others.
func open(t testing.TB, f *fake, others string) *Connector {
	t.Helper()
	settings := map[string]any{}
	for _, some := range []string{good + "}", "{" + others + "}"} {
		if err := json.Unmarshal([]byte(some), &settings); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Spec(func(context.Context, Target) (Bucket, Database, error) { return f, f, nil }).New(raw, connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return c.(*Connector)
}

// kind is an error of a kind.
func kind(k fault.Kind) error { return fault.New(k, "AWS says %s", k) }
