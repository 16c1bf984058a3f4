package connector_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
)

// weather is a destination whose answers are random.
type weather struct {
	rnd *rand.Rand
	// kind is how many of a thousand answers are what.
	retryable, throttled, ambiguous, permanent, dropped, auth int
	// taken is how many of a thousand ambiguous answers hide that the event was
	// taken.
	taken int
	r     *rig
}

func (w *weather) answer(_ context.Context, events []connector.Delivery) []connector.Result {
	time.Sleep(time.Duration(w.rnd.IntN(50)) * time.Millisecond)
	out := make([]connector.Result, len(events))
	held := map[string]bool{} // a connector that asks for an event again does so for those behind it
	for i, e := range events {
		key := e.Event.PartitionKey()
		res := connector.Result{Class: connector.Delivered}
		n := w.rnd.IntN(1000)
		for _, c := range []struct {
			class connector.Class
			share int
		}{
			{connector.Retryable, w.retryable}, {connector.Throttled, w.throttled}, {connector.Ambiguous, w.ambiguous},
			{connector.Permanent, w.permanent}, {connector.Dropped, w.dropped}, {connector.Auth, w.auth},
		} {
			if n >= 0 && n < c.share {
				res = result(c.class, 0)
			}
			n -= c.share
		}
		if held[key] {
			res = result(connector.Retryable, 0)
		}
		if res.Class == connector.Throttled && w.rnd.IntN(4) == 0 {
			res.RetryAfter = time.Duration(w.rnd.IntN(300)) * time.Second
		}
		if !res.Class.Settled() && res.Class != connector.Permanent {
			held[key] = true
		}
		if res.Class == connector.Ambiguous && w.rnd.IntN(1000) < w.taken {
			w.r.conn.Took(e.Event.ID)
		}
		out[i] = res
	}
	return out
}

// mail is all that is sent to a function, in every way there is.
type mail struct {
	r   *rig
	rnd *rand.Rand
	n   int
	// fifo are the events of the FIFO queue by key, in order.
	fifo map[string][]string
	all  []string
	// ordered: the destination takes the events of a call in order.
	ordered bool
	// users are the keys of all events.
	users map[string]string
	// again are the payloads of failed invocations, with the tries that Lambda
	// has left; lost are those that went to the dead letter queue of Lambda.
	again []failed
	lost  []string
}

type failed struct {
	payload string
	left    int
	at      time.Time
}

func (m *mail) event(user string) (id, body string) {
	m.n++
	id = fmt.Sprintf("e%05d", m.n)
	m.all = append(m.all, id)
	m.users[id] = user
	return id, one(id, user)
}

// post sends something.
func (m *mail) post() {
	switch user := fmt.Sprintf("u%d", m.rnd.IntN(40)); m.rnd.IntN(5) {
	case 0: // an invocation with one event
		_, body := m.event(user)
		m.invoke(body, 2)
	case 1: // with several
		m.invoke(m.several(), 2)
	case 2: // with a claim
		payload := m.several()
		key := fmt.Sprintf("claims/%d", m.n)
		m.r.put(key, []byte(payload))
		m.invoke(string(event.NewClaim(bucket, key, []byte(payload)).Payload()), 2)
	case 3: // a queue
		m.r.send(source, m.several(), "")
	case 4: // a queue that keeps order
		user = "f" + user
		id, body := m.event(user)
		m.fifo[user] = append(m.fifo[user], id)
		m.r.send(fifo, body, user)
	}
}

func (m *mail) several() string {
	bodies := make([]string, 1+m.rnd.IntN(8))
	for i := range bodies {
		_, bodies[i] = m.event(fmt.Sprintf("u%d", m.rnd.IntN(3)))
	}
	return many(bodies...)
}

// invoke is an asynchronous invocation, which Lambda tries three times.
func (m *mail) invoke(payload string, left int) {
	before := len(m.r.conn.Order())
	if _, err := m.r.invoke(payload); err != nil {
		if left == 0 {
			m.lost = append(m.lost, payload)
			return
		}
		m.again = append(m.again, failed{payload, left - 1, time.Now().Add(time.Duration(3-left) * time.Minute)})
	}
	// What was delivered of it was delivered in order.
	last := map[string]string{}
	if !m.ordered {
		return
	}
	for _, id := range m.r.conn.Order()[before:] {
		user := m.users[id]
		if id < last[user] {
			m.r.t.Errorf("%s of %s came after %s, in one invocation", id, user, last[user])
		}
		last[user] = id
	}
}

// drain goes on until all is delivered or dead.
func (m *mail) drain() {
	end := time.Now().Add(14 * 24 * time.Hour)
	for {
		left := len(m.again)
		for _, queue := range []string{source, fifo, retry} {
			left += len(m.r.sqs.Messages(queue))
			for n := len(m.r.sqs.Messages(queue)); n > 0; n -= 10 { // of what comes back at once no more
				m.r.poll(queue, 10)
			}
		}
		var later []failed
		again := m.again
		m.again = nil
		for _, f := range again {
			if time.Now().Before(f.at) {
				later = append(later, f)
			} else {
				m.invoke(f.payload, f.left)
			}
		}
		m.again = append(later, m.again...)
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			m.r.t.Fatalf("%d things still wait after two weeks", left)
		}
		time.Sleep(20 * time.Second)
	}
}

// check looks for each event where it may be, and returns how often it is there:
// delivered, dropped by chance (dropped events leave no trace of their own), or
// dead.
func (m *mail) check(exactly bool) {
	t := m.r.t
	found := map[string]int{}
	for _, id := range m.r.conn.Order() {
		found[id]++
	}
	for _, l := range m.r.letters(dead) {
		found[l.EventID]++
	}
	for _, payload := range m.lost {
		for _, id := range m.all {
			if strings.Contains(payload, id) {
				found[id]++
			}
		}
	}
	missing, twice := 0, 0
	for _, id := range m.all {
		switch found[id] {
		case 0:
			missing++
		case 1:
		default:
			twice++
		}
	}
	var sum struct{ Events, Delivered, Dropped, Waiting, DeadLetters, Failed, Residual int }
	for line := range strings.Lines(m.r.metrics.String()) {
		var one struct{ Events, Delivered, Dropped, Waiting, DeadLetters, Failed, Residual int }
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(err)
		}
		if one.Residual != 0 {
			t.Errorf("residual: %s", line)
		}
		sum.Events += one.Events
		sum.Delivered += one.Delivered
		sum.Dropped += one.Dropped
		sum.Waiting += one.Waiting
		sum.DeadLetters += one.DeadLetters
		sum.Failed += one.Failed
	}
	t.Logf("%d events; counted %+v; %d missing, %d twice, %d lost to Lambda's own queue", len(m.all), sum, missing, twice, len(m.lost))
	if missing != 0 {
		t.Errorf("%d events are nowhere", missing)
	}
	if exactly {
		if twice != 0 {
			t.Errorf("%d events are somewhere twice", twice)
		}
		if sum.Delivered+sum.DeadLetters != len(m.all) || sum.Failed != 0 {
			t.Errorf("the account of %d events: %+v", len(m.all), sum)
		}
	}
	if sum.Waiting == 0 || sum.DeadLetters == 0 {
		t.Errorf("the weather was too fair: %+v", sum)
	}
	// In the FIFO queue each key was delivered in order, dead letters left out.
	for user, ids := range m.fifo {
		var got []string
		for _, id := range m.r.conn.Order() {
			if slices.Contains(ids, id) && (len(got) == 0 || got[len(got)-1] != id) {
				got = append(got, id)
			}
		}
		if exactly && !slices.IsSorted(got) {
			t.Errorf("%s was delivered as %v", user, got)
		}
	}
}

func conformance(t *testing.T, rounds int, seed uint64, w weather, exactly bool, trouble func(r *rig, rnd *rand.Rand), between func(r *rig, rnd *rand.Rand)) {
	t.Helper()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		environ := env("RETRY_MAX_ATTEMPTS=6", "RETRY_BASE_DELAY=1s", "RETRY_MAX_DELAY=30m")
		r := openRig(t)
		r.conn.Bounds = connector.Limits{MaxEvents: 4}
		r.start(environ...)
		w.rnd, w.r = rnd, r
		r.conn.Answer(w.answer)
		trouble(r, rnd)
		m := &mail{r: r, rnd: rnd, fifo: map[string][]string{}, users: map[string]string{}, ordered: w.taken == 0}
		for i := range rounds {
			m.post()
			if i%7 == 0 {
				for _, queue := range []string{source, fifo, retry} {
					r.poll(queue, 1+rnd.IntN(10))
				}
			}
			if rnd.IntN(5) == 0 {
				time.Sleep(time.Duration(rnd.IntN(60)) * time.Second)
			}
			if between != nil && rnd.IntN(50) == 0 {
				between(r, rnd)
			}
		}
		m.drain()
		m.check(exactly)
	})
}

// seeds are new in each run: a failure prints the one to put here.
func seeds() []uint64 { return []uint64{1, rand.Uint64()} }

// With a destination and an SQS that fail in every way whose outcome is known,
// every event is delivered, or a dead letter, exactly once.
func TestEveryEventEndsExactlyOnce(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := weather{retryable: 120, throttled: 30, ambiguous: 20, permanent: 15, auth: 2}
			conformance(t, 450, seed, w, true, func(r *rig, rnd *rand.Rand) {
				some := func(share int) func(int) bool { return func(int) bool { return rnd.IntN(1000) < share } }
				r.sqs.Fail(awstest.Calls(awstest.Throttling).On("SendMessageBatch").When(some(150)))
				r.sqs.Fail(awstest.Disconnect(awstest.BeforeStoring).On("SendMessageBatch").When(some(50)))
				r.sqs.Fail(awstest.Calls(awstest.Internal).On("ChangeMessageVisibilityBatch").When(some(100)))
				r.sqs.Fail(sqstest.EntriesWhere(func(int, int, sqstest.Entry) bool { return rnd.IntN(10) == 0 }, awstest.Internal))
				// The waiting room refuses some for good.
				r.sqs.Fail(sqstest.EntriesWhere(func(_, _ int, e sqstest.Entry) bool {
					return strings.Contains(e.Message.Body, `"not_before"`) && rnd.IntN(100) == 0
				}, sqstest.BadReceipt))
			}, nil)
		})
	}
}

// With answers that are lost, invocations that fail and environments that end,
// every event is delivered, or dead, at least once.
func TestEveryEventEndsSomewhere(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := weather{retryable: 120, throttled: 30, ambiguous: 60, permanent: 20, auth: 2, taken: 500}
			conformance(t, 450, seed, w, false, func(r *rig, rnd *rand.Rand) {
				some := func(share int) func(int) bool { return func(int) bool { return rnd.IntN(1000) < share } }
				r.sqs.Fail(awstest.Disconnect(awstest.AfterStoring).On("SendMessageBatch").When(some(80)))
				r.sqs.Fail(awstest.CutAnswer().On("SendMessageBatch").When(some(50)))
				r.sqs.Fail(awstest.Calls(sqstest.NoQueue).On("SendMessageBatch").When(some(100)))
				r.sqs.Fail(awstest.Hang(awstest.BeforeStoring).On("SendMessageBatch").When(some(20)))
				r.sqs.Fail(sqstest.Unanswered(1).Stored().When(some(50)))
				r.sqs.Fail(sqstest.Unanswered(1).When(some(50)))
			}, func(r *rig, _ *rand.Rand) {
				r.start(env("RETRY_MAX_ATTEMPTS=6", "RETRY_BASE_DELAY=1s", "RETRY_MAX_DELAY=30m")...)
			})
		})
	}
}
