package sqstest_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// model is a queue as the developer guide describes it, with no thought of speed.
type model struct {
	fifo  bool
	all   []*modelMessage
	moved []string // dead letters
}

type modelMessage struct {
	body, group, receipt string
	sentAt, visibleAt    time.Time
	receivedAt           time.Time
	receives             int
	inFlight             bool     // or delayed, while visibleAt is ahead
	receipts             []string // all that it had
}

// What the queues of the model have.
const (
	modelReceives  = 3
	modelRetention = time.Minute
)

func (m *model) expire() {
	m.all = slices.DeleteFunc(m.all, func(msg *modelMessage) bool { return time.Since(msg.sentAt) >= modelRetention })
}

func (msg *modelMessage) state() sqstest.State {
	switch {
	case !msg.visibleAt.After(time.Now()):
		return sqstest.Waiting
	case msg.inFlight:
		return sqstest.InFlight
	}
	return sqstest.Delayed
}

// receive returns the messages that a receive gets.
func (m *model) receive(n int, visibility time.Duration) (taken []*modelMessage) {
	candidates := slices.DeleteFunc(slices.Clone(m.all), func(msg *modelMessage) bool { return msg.state() != sqstest.Waiting })
	if m.fifo {
		first := map[string]int{}
		locked := map[string]bool{}
		for i, msg := range candidates {
			if _, ok := first[msg.group]; !ok {
				first[msg.group] = i
			}
		}
		for _, msg := range m.all {
			locked[msg.group] = locked[msg.group] || msg.state() == sqstest.InFlight
		}
		candidates = slices.DeleteFunc(candidates, func(msg *modelMessage) bool { return locked[msg.group] })
		slices.SortStableFunc(candidates, func(a, b *modelMessage) int { return cmp.Compare(first[a.group], first[b.group]) })
	}
	for _, msg := range candidates {
		if len(taken) == n {
			break
		}
		if msg.receives == modelReceives {
			m.moved = append(m.moved, msg.body)
			m.all = slices.DeleteFunc(m.all, func(other *modelMessage) bool { return other == msg })
			continue
		}
		msg.receives++
		msg.inFlight, msg.receivedAt, msg.visibleAt = true, time.Now(), time.Now().Add(visibility)
		taken = append(taken, msg)
	}
	return taken
}

// delete deletes by a receipt, and reports whether a queue says that it is an old
// one.
func (m *model) delete(receipt string) (refused bool) {
	for i, msg := range m.all {
		if !slices.Contains(msg.receipts, receipt) {
			continue
		}
		if m.fifo && (msg.receipt != receipt || msg.state() != sqstest.InFlight) {
			return true
		}
		if msg.receipt == receipt {
			m.all = slices.Delete(m.all, i, i+1)
		}
		return false
	}
	return false // what is gone is gone
}

func (m *model) setVisibility(receipt string, d time.Duration) (refused bool) {
	for _, msg := range m.all {
		if msg.receipt == receipt && msg.state() == sqstest.InFlight {
			msg.visibleAt = time.Now().Add(d)
			return false
		}
	}
	return true
}

func (m *model) String() string {
	var b strings.Builder
	for _, msg := range m.all {
		fmt.Fprintf(&b, "%s %v %d\n", msg.body, msg.state(), msg.receives)
	}
	return b.String()
}

// FuzzQueuesDoWhatTheirModelDoes makes calls, two bytes each, of a queue and of
// its model.
func FuzzQueuesDoWhatTheirModelDoes(f *testing.F) {
	for seed := range 8 {
		var calls []byte
		x := uint32(seed)*2654435761 + 1
		for range 400 {
			x = x*1664525 + 1013904223
			calls = append(calls, byte(x>>24))
		}
		f.Add(calls, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, calls []byte, fifo bool) {
		synctest.Test(t, func(t *testing.T) { compareWithModel(t, calls, fifo) })
	})
}

func compareWithModel(t *testing.T, calls []byte, fifo bool) {
	suffix := ""
	if fifo {
		suffix = ".fifo"
	}
	queue, deadLetters := "q"+suffix, "dead"+suffix
	s := sqstest.New(t, sqstest.Config{InMemory: true, Queues: []sqstest.Queue{
		{Name: deadLetters, Retention: 14 * 24 * time.Hour},
		{Name: queue, Retention: modelRetention, MaxReceives: modelReceives, DeadLetterQueue: deadLetters},
	}})
	m := &model{fifo: fifo}
	var receipts []string
	for i := 0; i+1 < len(calls); i += 2 {
		what, with := calls[i]%8, int(calls[i+1])
		m.expire()
		switch {
		case what < 2: // send
			msg := &modelMessage{body: fmt.Sprint(i), sentAt: time.Now(), visibleAt: time.Now()}
			sent := sqstest.Message{Body: msg.body}
			if fifo {
				msg.group = fmt.Sprint("g", with%4)
				sent.GroupID, sent.DeduplicationID = msg.group, msg.body
			} else {
				sent.Delay = time.Duration(with%3) * time.Second
				msg.visibleAt = msg.sentAt.Add(sent.Delay)
			}
			if _, err := s.Send(queue, sent); err != nil {
				t.Fatal(err)
			}
			m.all = append(m.all, msg)
		case what < 5: // receive
			visibility := time.Duration(1+with%5) * time.Second
			want := m.receive(1+with%4, visibility)
			got := s.Receive(queue, 1+with%4, visibility)
			if len(got) != len(want) {
				t.Fatalf("call %d: received %q, want %d of\n%v", i, bodies(got), len(want), m)
			}
			for j, msg := range want {
				if got[j].Body != msg.body || got[j].ReceiveCount != msg.receives {
					t.Fatalf("call %d: received %q, want %s as number %d", i, bodies(got), msg.body, j)
				}
				msg.receipt = got[j].Receipt
				msg.receipts = append(msg.receipts, msg.receipt)
				receipts = append(receipts, msg.receipt)
			}
		case what < 7 && len(receipts) > 0: // delete, or change the visibility
			receipt := receipts[max(0, len(receipts)-1-with%16)]
			var err error
			var refused bool
			if what == 5 {
				err, refused = s.Delete(queue, receipt), m.delete(receipt)
			} else {
				d := time.Duration(with%4) * time.Second
				err, refused = s.SetVisibility(queue, receipt, d), m.setVisibility(receipt, d)
			}
			if (err != nil) != refused {
				t.Fatalf("call %d, %d: %v, refused by the model: %v", i, what, err, refused)
			}
		case what == 7:
			time.Sleep(time.Duration(with%50) * 100 * time.Millisecond)
			m.expire()
		}
		var got strings.Builder
		for _, msg := range s.Messages(queue) {
			fmt.Fprintf(&got, "%s %v %d\n", msg.Body, msg.State, msg.ReceiveCount)
		}
		if got.String() != m.String() {
			t.Fatalf("call %d, %d: there is\n%v\nwant\n%v", i, what, got.String(), m)
		}
		if moved := bodies(s.Messages(deadLetters)); moved != strings.Join(m.moved, " ") {
			t.Fatalf("call %d: dead letters %q, want %q", i, moved, m.moved)
		}
	}
}
