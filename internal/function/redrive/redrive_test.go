package redrive_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/grave"
	"github.com/eventsluice/sluice/internal/cloud/invoke"
	"github.com/eventsluice/sluice/internal/cloud/letters"
	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/function/redrive"
	"github.com/eventsluice/sluice/internal/stream"
)

const (
	dead    = "crm-dead"
	feed    = "crm"
	backups = "backups"
)

type rig struct {
	*testing.T
	aws      *cloudtest.AWS
	clients  letters.Clients
	function *redrive.Function
}

// target is the stream, as a list.
type target struct{ got []string }

func (s *target) PutRecords(_ context.Context, records []stream.Record) ([]stream.Result, error) {
	results := make([]stream.Result, len(records))
	for i := range records {
		s.got = append(s.got, string(records[i].Data))
		results[i].Sequence = "1"
	}
	return results, nil
}

func newRig(t *testing.T, bucket string) *rig {
	t.Helper()
	r := &rig{T: t, aws: cloudtest.New(t, cloudtest.Config{
		Queues: []sqstest.Queue{{Name: dead}, {Name: feed}}, Buckets: []string{backups},
	})}
	cfg := r.aws.SDK()
	objects := object.New(cfg)
	r.clients = letters.Clients{
		Queues: queue.New(cfg), Objects: objects, Sender: invoke.New(cfg),
		Stream: func(context.Context, string) (letters.Stream, error) { return (*cloud.Kinesis)(nil), nil },
		ARNs:   func(context.Context) (map[string]string, error) { return nil, nil },
	}
	// The waits of looks at the queue are real ones here.
	r.function = redrive.New(r.clients, bucket, letters.Options{Wait: time.Nanosecond}, nil)
	return r
}

func (r *rig) bury(from, to int) {
	r.Helper()
	for n := from; n < to; n++ {
		m, err := grave.Encode(deadletter.Letter{
			ID: fmt.Sprintf("s:1:%d:crm", n), Destination: "crm", ARN: r.aws.Queues.ARN(feed), EventID: fmt.Sprintf("e%d", n), EventName: "order_placed",
			Event: fmt.Appendf(nil, `{"id":"e%d","name":"order_placed","data":{}}`, n), PartitionKey: "u1", Attempts: 1, LastTry: time.Now().Add(-time.Minute).UTC(), Class: "permanent",
		})
		if err != nil {
			r.Fatal(err)
		}
		if _, err := r.aws.Queues.Send(dead, sqstest.Message{Body: m.Body}); err != nil {
			r.Fatal(err)
		}
	}
}

// invoke invokes the function, with a time limit as Lambda has one.
func (r *rig) invoke(request string, limit time.Duration) (a redrive.Answer, err error) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	answer, err := r.function.Handle(ctx, []byte(request))
	if err == nil {
		if err := json.Unmarshal(answer, &a); err != nil {
			r.Fatalf("%s: %v", answer, err)
		}
	}
	return a, err
}

func (r *rig) ids(queue string) (ids []string) {
	for _, m := range r.aws.Queues.Messages(queue) {
		var e struct {
			ID      string
			EventID string `json:"event_id"`
		}
		if err := json.Unmarshal([]byte(m.Body), &e); err != nil {
			r.Error(err)
		}
		if e.EventID != "" {
			e.ID = e.EventID
		}
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	return ids
}

// backedUp returns the ids of the letters in the objects of an answer.
func (r *rig) backedUp(a redrive.Answer) (ids []string) {
	r.Helper()
	for _, name := range a.Objects {
		key, ok := strings.CutPrefix(name, "s3://"+backups+"/")
		if !ok || !strings.HasPrefix(key, "dead-letters/"+dead+"/") {
			r.Errorf("an object called %s", name)
		}
		body, err := r.aws.Buckets.Get(backups, key)
		if err != nil {
			r.Fatal(err)
		}
		for line := range strings.Lines(string(body)) {
			l, err := deadletter.ParseLine([]byte(line))
			if err != nil {
				r.Fatal(err)
			}
			ids = append(ids, l.EventID)
		}
	}
	slices.Sort(ids)
	return ids
}

const plenty = time.Minute

func TestEachActionIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t, backups)
	r.bury(0, 25)
	a, err := r.invoke(`{"queue":"`+dead+`","action":"count"}`, plenty)
	if err != nil || !a.Done || a.Messages == nil || a.Messages.Waiting != 25 {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = r.invoke(`{"queue":"`+r.aws.Queues.ARN(dead)+`","action":"list","limit":3,"filter":{"event_name":"order_*"}}`, plenty)
	if err != nil || !a.Done || len(a.Letters) != 3 || a.Letters[0].EventID != "e0" {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = r.invoke(`{"queue":"`+r.aws.Queues.QueueURL(dead)+`","action":"backup","filter":{"event_id":"e7"}}`, plenty)
	if err != nil || !a.Done || a.Backup.Written != 1 || a.Backup.Deleted != 0 || !slices.Equal(r.backedUp(a), []string{"e7"}) {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = r.invoke(`{"queue":"`+dead+`","action":"purge","filter":{"event_id":"e7"},"yes":true}`, plenty)
	if err != nil || !a.Done || a.Progress.Done != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = r.invoke(`{"queue":"`+dead+`","action":"purge","dry_run":true}`, plenty)
	if err != nil || !a.Done || a.Progress.Done != 0 || a.Progress.Matched != 24 || len(a.Progress.Sample) != 10 {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = r.invoke(`{"queue":"`+dead+`","action":"backup","delete":true}`, plenty)
	if err != nil || !a.Done || a.Backup.Deleted != 24 || len(r.backedUp(a)) != 24 {
		t.Errorf("%+v, %v", a, err)
	}
	if left := r.ids(dead); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAReplayEmptiesTheQueueIntoABackupAndSendsIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, backups)
	r.bury(0, 120)
	a, err := r.invoke(`{"queue":"`+dead+`","action":"replay"}`, plenty)
	if err != nil || !a.Done || a.Progress.Done != 120 || len(a.Objects) < 2 {
		t.Fatalf("%+v, %v", a, err)
	}
	if got := r.ids(feed); len(got) != 120 || !slices.Equal(got, r.backedUp(a)) {
		t.Errorf("sent %d, backed up %d", len(got), len(r.backedUp(a)))
	}
	if left := r.ids(dead); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWithoutABucketAReplayKeepsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.bury(0, 3)
	if a, err := r.invoke(`{"queue":"`+dead+`","action":"replay","to":"`+r.aws.Queues.ARN(feed)+`"}`, plenty); err != nil || !a.Done || a.Progress.Done != 3 || len(a.Objects) != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := r.invoke(`{"queue":"`+dead+`","action":"backup"}`, plenty); err == nil || !strings.Contains(err.Error(), "BACKUP_BUCKET") {
		t.Error(err)
	}
}

func TestAReplayGoesToTheStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	stream := &target{}
	r.clients.Target = func(context.Context) (letters.Target, error) { return stream, nil }
	r.function = redrive.New(r.clients, "", letters.Options{Wait: time.Nanosecond}, nil)
	r.bury(0, 3)
	if a, err := r.invoke(`{"queue":"`+dead+`","action":"replay","to":"stream"}`, plenty); err != nil || !a.Done || a.Progress.Done != 3 || len(stream.got) != 3 {
		t.Errorf("%+v, %v", a, err)
	}
}

// Nothing is sent and nothing deleted that is not in the backup.
func TestWithoutItsBackupNothingIsReplayed(t *testing.T) {
	t.Parallel()
	r := newRig(t, backups)
	r.bury(0, 3)
	r.aws.Buckets.Fail(func(q *http.Request) int {
		if q.Method == http.MethodPut {
			return http.StatusForbidden
		}
		return 0
	})
	for _, request := range []string{`"action":"replay"`, `"action":"backup","delete":true`} {
		if a, err := r.invoke(`{"queue":"`+dead+`",`+request+`}`, plenty); err == nil {
			t.Errorf("%s: %+v", request, a)
		}
	}
	if left, sent := r.ids(dead), r.ids(feed); len(left) != 3 || len(sent) != 0 {
		t.Errorf("left %v, sent %v", left, sent)
	}
}

// The time is over before the queue is empty: the function answers in time, and
// goes on when it is invoked again.
func TestAnInvocationThatIsTooShortIsGoneOnWith(t *testing.T) {
	t.Parallel()
	r := newRig(t, backups)
	r.bury(0, 40)
	done := 0
	for invocations := 1; ; invocations++ {
		began := time.Now()
		a, err := r.invoke(`{"queue":"`+dead+`","action":"replay","rate":10}`, 2*time.Second)
		if err != nil || time.Since(began) >= 2*time.Second {
			t.Fatalf("%+v, %v after %v", a, err, time.Since(began))
		}
		done += a.Progress.Done
		if a.Done {
			if invocations < 2 {
				t.Error("it had time enough")
			}
			break
		}
		if a.Reason == "" || a.Progress.Done == 0 || invocations > 20 {
			t.Fatalf("%+v", a)
		}
	}
	if got := slices.Compact(r.ids(feed)); done != 40 || len(got) != 40 || len(r.ids(dead)) != 0 {
		t.Errorf("%d done, sent %d, left %v", done, len(got), r.ids(dead))
	}
}

func TestWhatIsWrongWithARequestIsSaidAtOnceAndNothingIsDone(t *testing.T) {
	t.Parallel()
	r := newRig(t, backups)
	r.bury(0, 1)
	for request, want := range map[string][]string{
		``:                                {"not a JSON object"},
		`[]`:                              {"not a JSON object"},
		`null`:                            {"not a JSON object"},
		`{"queue":"q","action":"count"}x`: {"not a JSON object"},
		`{}`:                              {`action is ""`, `queue is ""`},
		`{"queue":"crm-dead","action":"empty","rat":5,"filter":{"name":"x","ids":"y","since":"yesterday"}}`: {
			`action is "empty"`, "rat is no member", "filter.name is no member", "filter.ids is", "filter.since is",
		},
		`{"queue":7,"action":"replay","to":"moon","rate":-1,"limit":-2}`: {"queue is 7", `to is "moon"`, "rate is -1", "limit is -2"},
		`{"queue":"crm-dead","action":"purge"}`:                          {`"yes":true`},
		`{"queue":"crm-dead","action":"count","filter":{"class":"x"},"to":"stream","rate":1,"limit":1,"dry_run":true,"delete":true,"yes":true}`: {
			"filter means nothing to count", "to means nothing", "rate means nothing", "limit means nothing", "dry_run means nothing", "delete means nothing", "yes means nothing",
		},
		`{"queue":"crm-dead","action":"replay","delete":true,"yes":true}`: {"delete means nothing to replay", "yes means nothing"},
		`{"queue":"crm-dead","action":"list","limit":5000}`:               {"limit is 5000"},
		`{"queue":"crm-dead","action":"purge","yes":true,"filter":[]}`:    {"filter is not a JSON object"},
	} {
		a, err := r.invoke(request, plenty)
		if err == nil {
			t.Errorf("%s: %+v", request, a)
			continue
		}
		for _, text := range want {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v; want %q in it", request, err, text)
			}
		}
	}
	if left := r.ids(dead); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

func TestALongListSaysThatItIsCut(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	for n := range 6 {
		body := fmt.Sprintf(`{"id":"e%d","name":"n","data":{"x":%q}}`, n, strings.Repeat("x", 900_000))
		if _, err := r.aws.Queues.Send(dead, sqstest.Message{Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := r.invoke(`{"queue":"`+dead+`","action":"list"}`, plenty)
	if err != nil || a.Done || len(a.Letters) != 4 || a.Reason == "" {
		t.Errorf("%d letters, done %t, %q, %v", len(a.Letters), a.Done, a.Reason, err)
	}
}

func TestTheEnvironmentIsChecked(t *testing.T) {
	t.Parallel()
	lookup := func(environ map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { value, ok := environ[name]; return value, ok }
	}
	setup, bucket, err := redrive.Setup(lookup(map[string]string{
		"BACKUP_BUCKET": "b", "SLUICE_STREAM": "kinesis://events", "RULES_BUCKET": "r", "RULES_KEY": "rules.json",
	}))
	if err != nil || bucket != "b" || setup.Stream != "events" || setup.Rules != "s3://r/rules.json" {
		t.Errorf("%+v, %q, %v", setup, bucket, err)
	}
	if setup, bucket, err := redrive.Setup(lookup(nil)); err != nil || bucket != "" || setup.Stream != "" || setup.Rules != "" {
		t.Errorf("%+v, %q, %v", setup, bucket, err)
	}
	_, _, err = redrive.Setup(lookup(map[string]string{"SLUICE_STREAM": "events", "RULES_KEY": "rules.json"}))
	if err == nil || !strings.Contains(err.Error(), `SLUICE_STREAM="events"`) || !strings.Contains(err.Error(), `RULES_BUCKET=""`) {
		t.Error(err)
	}
}
