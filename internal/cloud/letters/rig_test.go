package letters_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/grave"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/cloud/letters"
	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/router/fanout"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

// now is when a rig is opened.
var now = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

// region is where the rig is.
const region = "eu-west-1"

// The queues and the bucket of a rig.
const (
	dead     = "crm-dead"
	deadFIFO = "crm-dead.fifo"
	bucket   = "events"
)

// rig is AWS in memory, in a synctest bubble.
type rig struct {
	*testing.T
	sqs     *sqstest.Server
	kinesis *kinesistest.Server
	sender  *sender
	world   *world
	arns    map[string]string
	clients letters.Clients
	objects *object.Client
}

// inRig runs a test whose time is synctest's.
func inRig(t *testing.T, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newRig(t)) })
}

func newRig(t *testing.T, change ...func(*sqstest.Config)) *rig {
	t.Helper()
	time.Sleep(time.Until(now)) // letters of the future would be taken for ones that die again
	twoWeeks := 14 * 24 * time.Hour
	queuesOf := sqstest.Config{InMemory: true, Region: region, Queues: []sqstest.Queue{
		{Name: dead, Retention: twoWeeks}, {Name: deadFIFO, Retention: twoWeeks},
	}}
	for _, f := range change {
		f(&queuesOf)
	}
	r := &rig{
		T: t, world: &world{}, sender: &sender{}, arns: map[string]string{},
		sqs:     sqstest.New(t, queuesOf),
		kinesis: kinesistest.New(t, kinesistest.Config{InMemory: true, Region: region, Streams: []kinesistest.Stream{{Name: "events", Shards: 1}}}),
	}
	sqs := r.config(r.sqs.URL(), nil)
	sqs.HTTPClient = r.sqs.Client()
	queues := queue.New(sqs)
	backend := s3mem.New()
	if err := backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	s3 := r.config("http://s3.test", nil)
	s3.HTTPClient = &http.Client{Transport: direct{gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()}}
	r.objects = object.New(s3)
	r.sender.world = r.world
	r.clients = letters.Clients{
		Queues:  brittleQueues{r.world, queues},
		Objects: brittleObjects{r.world, r.objects},
		Sender:  r.sender,
		Stream:  func(ctx context.Context, arn string) (letters.Stream, error) { return r.stream(ctx, arn) },
		Target:  func(ctx context.Context) (producer.Stream, error) { return r.stream(ctx, "events") },
		ARNs:    func(context.Context) (map[string]string, error) { return r.arns, nil },
	}
	return r
}

// options lead the SDK to a server in memory.
func options(endpoint string, client *http.Client) []sdk.Option {
	all := []sdk.Option{
		config.WithRegion(region), config.WithBaseEndpoint(endpoint),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "SECRET", "")),
		config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}),
	}
	if client != nil {
		dial := client.Transport.(*http.Transport).DialContext
		all = append(all, config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.DialContext = dial
		})))
	}
	return all
}

func (r *rig) config(endpoint string, client *http.Client) aws.Config {
	r.Helper()
	cfg, err := sdk.Load(r.Context(), nil, options(endpoint, client)...)
	if err != nil {
		r.Fatal(err)
	}
	return cfg
}

func (r *rig) stream(ctx context.Context, name string) (*cloud.Kinesis, error) {
	return cloud.Open(ctx, cloud.Config{Stream: name, SDK: options(r.kinesis.URL(), r.kinesis.Client())})
}

// direct hands requests to a handler.
type direct struct{ http.Handler }

func (d direct) RoundTrip(q *http.Request) (*http.Response, error) {
	if err := q.Context().Err(); err != nil {
		return nil, err
	}
	var body []byte
	if q.Body != nil {
		body, _ = io.ReadAll(q.Body)
		_ = q.Body.Close()
	}
	w := httptest.NewRecorder()
	q = q.Clone(q.Context())
	q.Header.Set("Content-Length", strconv.Itoa(len(body)))
	q.Body, q.RequestURI = io.NopCloser(bytes.NewReader(body)), q.URL.RequestURI()
	d.ServeHTTP(w, q)
	return w.Result(), nil
}

// desk opens a desk that is closed with the test if nobody does before.
func (r *rig) desk(o letters.Options) *letters.Desk {
	r.Helper()
	d, err := letters.NewDesk(r.clients, o)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = d.Close(context.Background()) })
	return d
}

func (r *rig) close(d *letters.Desk) {
	r.Helper()
	if err := d.Close(r.Context()); err != nil {
		r.Error(err)
	}
}

// send puts a message into a queue and returns its id.
func (r *rig) send(queue string, body []byte, attributes map[string]string) string {
	r.Helper()
	m := sqstest.Message{Body: string(body)}
	for name, value := range attributes {
		if m.Attributes == nil {
			m.Attributes = map[string]sqstest.Attribute{}
		}
		m.Attributes[name] = sqstest.Attribute{DataType: "String", StringValue: value}
	}
	if queue == deadFIFO {
		m.GroupID, m.DeduplicationID = "g", rand.Text()
	}
	id, err := r.sqs.Send(queue, m)
	if err != nil {
		r.Fatal(err)
	}
	return id
}

// number is event n.
func number(n int) []byte {
	return fmt.Appendf(nil, `{"id":"e%d","type":"track","name":"order_placed","user_id":"u%d","data":{"n":%d},"context":{}}`, n, n%7, n)
}

// bury sends letter n as a function of ours does, and returns the id of its
// message.
func (r *rig) bury(n int, change ...func(*deadletter.Letter)) string {
	r.Helper()
	l := deadletter.Letter{
		ID: fmt.Sprintf("shard:1:%d:crm", n), Destination: "crm", ARN: crm, Event: number(n), EventID: fmt.Sprintf("e%d", n), EventName: "order_placed",
		PartitionKey: fmt.Sprintf("u%d", n%7), Attempts: 3, LastTry: time.Now().Add(-time.Hour).UTC(), Class: "permanent", Message: "no",
	}
	for _, f := range change {
		f(&l)
	}
	m, err := grave.Encode(l)
	if err != nil {
		r.Fatal(err)
	}
	return r.send(dead, []byte(m.Body), m.Attributes)
}

// waiting returns how many messages can be received, and how many are held.
func (r *rig) waiting(queue string) (waiting, held int) {
	for _, m := range r.sqs.Messages(queue) {
		if m.State == sqstest.InFlight {
			held++
		} else {
			waiting++
		}
	}
	return waiting, held
}

// wantLeft wants so many messages in a queue, and none held.
func (r *rig) wantLeft(queue string, n int) {
	r.Helper()
	if waiting, held := r.waiting(queue); waiting != n || held != 0 {
		r.Errorf("%s: %d messages are waiting and %d held; want %d and 0", queue, waiting, held, n)
	}
}

// all lists a queue to its end.
func (r *rig) all(d deadletter.Desk, destination string) (all []deadletter.Letter) {
	r.Helper()
	var after uint64
	for {
		page, err := d.List(r.Context(), destination, deadletter.Filter{}, after, 3)
		if err != nil {
			r.Fatal(err)
		}
		all = append(all, page.Letters...)
		if after = page.Next; after == 0 {
			return all
		}
	}
}

// sender is where letters are replayed to.
type sender struct {
	world *world
	mu    sync.Mutex
	got   []sentMessage
	// fail says what becomes of a message, if it is not nil.
	fail func(arn string, m fanout.Message) error
}

type sentMessage struct {
	arn string
	fanout.Message
}

func (s *sender) Send(ctx context.Context, arn string, m fanout.Message) error {
	return s.world.do("send", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.fail != nil {
			if err := s.fail(arn, m); err != nil {
				return err
			}
		}
		m.Payload = bytes.Clone(m.Payload)
		s.got = append(s.got, sentMessage{arn, m})
		return nil
	})
}

// ids returns the ids of the events that were accepted, in order.
func (s *sender) ids() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.got {
		var e struct{ ID string }
		_ = json.Unmarshal(m.Payload, &e)
		ids = append(ids, e.ID)
	}
	return ids
}

// Ways in which a step outside can go wrong.
type trouble string

const (
	refused     trouble = "it was refused"
	lost        trouble = "its answer was lost"
	interrupted trouble = "Ctrl-C came after it"
	killed      trouble = "the process died before it"
	died        trouble = "the process died after it"
)

// world counts what is done outside of the process, and one of the steps goes
// wrong.
type world struct {
	mu     sync.Mutex
	steps  int
	names  []string
	at     int // which step, counting from 1; 0 is none
	how    trouble
	cancel context.CancelFunc
	dead   bool
}

// errDead is what a process that is no more would get.
var errDead = fault.New(fault.Forbidden, "the process is dead")

func (w *world) do(name string, act func() error) error {
	w.mu.Lock()
	w.steps++
	w.names = append(w.names, name)
	how := trouble("")
	if w.steps == w.at {
		how = w.how
	}
	if w.dead {
		w.mu.Unlock()
		return errDead
	}
	if how == killed || how == died {
		w.dead = true
	}
	w.mu.Unlock()
	switch how {
	case refused:
		return fault.New(fault.Unavailable, "refused")
	case lost:
		return errors.Join(act(), fault.New(fault.Ambiguous, "no answer"))
	case interrupted:
		err := act()
		w.cancel()
		return err
	case killed:
		return errDead
	case died:
		return errors.Join(act(), errDead)
	}
	return act()
}

// over reports whether the step that goes wrong was reached.
func (w *world) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.steps < w.at
}

// kill ends the process.
func (w *world) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
}

// heal makes a new process of it.
func (w *world) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps, w.at, w.how, w.dead = 0, 0, "", false
}

// brittleQueues are queues whose calls are steps.
type brittleQueues struct {
	*world
	*queue.Client
}

func (q brittleQueues) Receive(ctx context.Context, from queue.Ref, most int, wait, visibility time.Duration) (got []queue.Received, err error) {
	err = q.do("receive", func() (err error) { got, err = q.Client.Receive(ctx, from, most, wait, visibility); return err })
	return got, err
}

func (q brittleQueues) each(name string, n int, act func() []error) (errs []error) {
	if err := q.do(name, func() error { errs = act(); return nil }); err != nil {
		errs = slices.Repeat([]error{err}, n)
	}
	return errs
}

func (q brittleQueues) Delete(ctx context.Context, from queue.Ref, receipts []string) []error {
	return q.each("delete", len(receipts), func() []error { return q.Client.Delete(ctx, from, receipts) })
}

func (q brittleQueues) Postpone(ctx context.Context, in queue.Ref, receipts []string, d time.Duration) []error {
	return q.each("postpone", len(receipts), func() []error { return q.Client.Postpone(ctx, in, receipts, d) })
}

func (q brittleQueues) Depth(ctx context.Context, of queue.Ref) (d queue.Depth, err error) {
	err = q.do("depth", func() (err error) { d, err = q.Client.Depth(ctx, of); return err })
	return d, err
}

// brittleObjects are objects whose calls are steps.
type brittleObjects struct {
	*world
	*object.Client
}

func (o brittleObjects) Put(ctx context.Context, bucket, key string, body []byte, version string) error {
	return o.do("put", func() error { return o.Client.Put(ctx, bucket, key, body, version) })
}

func (o brittleObjects) Delete(ctx context.Context, bucket, key string) error {
	return o.do("remove", func() error { return o.Client.Delete(ctx, bucket, key) })
}

func (o brittleObjects) Redeem(ctx context.Context, claim event.Claim) (payload []byte, err error) {
	err = o.do("redeem", func() (err error) { payload, err = o.Client.Redeem(ctx, claim); return err })
	return payload, err
}

// disk is a file of which a loss of power takes what was not synced.
type disk struct {
	*world
	content    []byte
	at, synced int
}

func (d *disk) Read(b []byte) (int, error) {
	n := copy(b, d.content[d.at:])
	d.at += n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (d *disk) Write(b []byte) (int, error) {
	err := d.do("write", func() error {
		d.content = append(d.content[:d.at], b...)
		d.at += len(b)
		return nil
	})
	return len(b), err
}

func (d *disk) Seek(offset int64, _ int) (int64, error) { d.at = int(offset); return offset, nil }

func (d *disk) Truncate(size int64) error {
	d.content, d.synced = d.content[:size], min(d.synced, int(size))
	return nil
}

func (d *disk) Sync() error {
	return d.do("sync", func() error { d.synced = len(d.content); return nil })
}

// saved returns the ids of the events in the lines of a backup.
func saved(t testing.TB, content []byte) (ids []string) {
	t.Helper()
	for line := range bytes.Lines(content) {
		l, err := deadletter.ParseLine(line)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		ids = append(ids, l.EventID)
	}
	return ids
}
