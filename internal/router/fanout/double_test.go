package fanout_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/router"
	"github.com/eventsluice/sluice/internal/router/fanout"
	"github.com/eventsluice/sluice/internal/stream"
)

const (
	crm  = "arn:aws:lambda:eu-west-1:123456789012:function:crm:prod"
	mail = "arn:aws:lambda:eu-west-1:123456789012:function:mail:prod"
	fifo = "arn:aws:sqs:eu-west-1:123456789012:mail.fifo"
)

// aws stands for destinations, the bucket for claims and the dead letter queue.
// It checks that no two messages with the same key are on their way to one
// destination at once.
type aws struct {
	t *testing.T
	// answer, if not nil, decides about an attempt: n counts those of the same
	// message, from 1. stored says that the destination has it all the same.
	answer func(arn string, m fanout.Message, n int) (err error, stored bool)
	// takes is how long an attempt takes.
	takes time.Duration
	bury  func(n int, l deadletter.Letter) error
	claim func(key string) error

	mu       sync.Mutex
	tries    map[string]int
	onTheWay map[string]bool
	got      map[string][]sent // by ARN
	messages map[string][]fanout.Message
	letters  []deadletter.Letter
	burials  int
	claims   map[string][]byte
	most     int
}

// sent is an event as a destination got it.
type sent struct {
	ID     string `json:"id"`
	UserID string `json:"user_id"`
	Name   string `json:"name"`
	Data   struct {
		N int `json:"n"`
	} `json:"data"`
}

func newAWS(t *testing.T) *aws {
	return &aws{t: t, tries: map[string]int{}, onTheWay: map[string]bool{}, got: map[string][]sent{}, messages: map[string][]fanout.Message{}, claims: map[string][]byte{}}
}

func (a *aws) Send(ctx context.Context, arn string, m fanout.Message) error {
	place := arn + " " + m.Key
	a.mu.Lock()
	if a.onTheWay[place] {
		a.t.Errorf("two messages of the key %q are on their way to %s", m.Key, arn)
	}
	a.onTheWay[place] = true
	a.most = max(a.most, len(a.onTheWay))
	a.tries[arn+" "+m.ID]++
	n := a.tries[arn+" "+m.ID]
	a.mu.Unlock()
	var over error
	if a.takes > 0 {
		select {
		case <-time.After(a.takes):
		case <-ctx.Done():
			over = fault.New(fault.Ambiguous, "no answer")
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.onTheWay, place)
	if over != nil {
		return over
	}
	var err error
	stored := true
	if a.answer != nil {
		err, stored = a.answer(arn, m, n)
	}
	if err == nil || stored {
		a.keep(arn, m)
	}
	return err
}

func (a *aws) keep(arn string, m fanout.Message) {
	a.messages[arn] = append(a.messages[arn], m)
	payload := m.Payload
	if c, ok := event.ParseClaim(payload); ok {
		payload = a.claims[c.Key]
		if err := c.Check(payload); err != nil {
			a.t.Error(err)
		}
	}
	var many []sent
	if err := json.Unmarshal(payload, &many); err != nil {
		var one sent
		if err := json.Unmarshal(payload, &one); err != nil {
			a.t.Errorf("%s got %.80s: %v", arn, payload, err)
		}
		many = []sent{one}
	}
	a.got[arn] = append(a.got[arn], many...)
}

func (a *aws) Claim(_ context.Context, key string, payload []byte) (event.Claim, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.claim != nil {
		if err := a.claim(key); err != nil {
			return event.Claim{}, err
		}
	}
	a.claims[key] = slices.Clone(payload)
	return event.NewClaim("claims", key, payload), nil
}

func (a *aws) Bury(_ context.Context, letters []deadletter.Letter) []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	errs := make([]error, len(letters))
	for i, l := range letters {
		a.burials++
		if a.bury != nil {
			errs[i] = a.bury(a.burials, l)
		}
		if errs[i] == nil {
			a.letters = append(a.letters, l)
		}
	}
	return errs
}

// names returns what a destination got, in order: the n of the data.
func (a *aws) numbers(arn string) (all []int) {
	for _, e := range a.got[arn] {
		all = append(all, e.Data.N)
	}
	return all
}

func parse(t testing.TB, doc string) *router.Table {
	t.Helper()
	table, err := router.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	if err := table.RequireARNs(); err != nil {
		t.Fatal(err)
	}
	return table
}

// both sends every event to two functions.
func both(t testing.TB) *router.Table {
	return parse(t, `[{"destination_name":"crm","destination_arn":"`+crm+`","enabled_events":["*"]},
		{"destination_name":"mail","destination_arn":"`+mail+`","enabled_events":["*"]}]`)
}

// toCRM is a document with one rule and more members for it.
func toCRM(t testing.TB, more string) *router.Table {
	return parse(t, `[{"destination_name":"crm","destination_arn":"`+crm+`","enabled_events":["*"]`+more+`}]`)
}

// stored is an event as the gateway stores it.
func stored(n int, user string) string {
	return fmt.Sprintf(`{"id":"e%d","type":"track","name":"clicked","user_id":%q,"data":{"n":%d},"context":{}}`, n, user, n)
}

// plain is a record with one event each.
func plain(events ...string) []fanout.Record {
	var all []fanout.Record
	for i, e := range events {
		all = append(all, record(i, "p", []byte(e)))
	}
	return all
}

func record(i int, key string, data []byte) fanout.Record {
	return fanout.Record{
		Shard: "shardId-000000000000", Sequence: fmt.Sprintf("495903382%03d", i), PartitionKey: key, Data: data,
		ArrivedAt: time.Date(2026, 11, 23, 10, 0, i, 0, time.UTC),
	}
}

// aggregated is a record with several events.
func aggregated(i int, events ...string) fanout.Record {
	var a stream.Aggregate
	a.Reset("bucket", stream.KPL)
	for _, e := range events {
		a.Add([]byte(e))
	}
	return record(i, "bucket", a.Seal())
}

func open(t testing.TB, a *aws, cfg fanout.Config) *fanout.Fanout {
	t.Helper()
	f, err := fanout.New(a, a, a, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// process runs a batch with a minute of time, as Lambda gives it, and checks
// that it ended in time and that the sums are right.
func process(t testing.TB, f *fanout.Fanout, table *router.Table, records []fanout.Record) fanout.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o := f.Process(ctx, table, records)
	if ctx.Err() != nil {
		t.Error("the time was over")
	}
	if o.Residual != 0 {
		t.Errorf("residual %d: %+v", o.Residual, o)
	}
	return o
}

func refuse(kind fault.Kind) error {
	return fault.New(kind, "refused: %s", strings.ToUpper(kind.String()))
}
