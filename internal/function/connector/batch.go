package connector

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/lambdahost"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/connector/attempt"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/telemetry/emf"
)

// batch is one invocation: what came, and what has become of it so far.
type batch struct {
	f            *Function
	began        time.Time
	arn, request string
	isQueue      bool
	parcels      []*parcel
	entries      []*entry
	// keeping and burying are what deliver leaves to do.
	keeping, burying []*entry
	counts           counts
}

// counts are the account of an invocation. Events is counted as they come in, the
// others where the event ends up, so that the residual shows what got lost
// between.
type counts struct {
	Events    int `json:"events"`
	Delivered int `json:"delivered"`
	Dropped   int `json:"dropped"`
	Waiting   int `json:"waiting"`
	Dead      int `json:"dead"`
	Failed    int `json:"failed"`
}

func (c *counts) residual() int {
	return c.Events - c.Delivered - c.Dropped - c.Waiting - c.Dead - c.Failed
}

// receive takes apart what the function was invoked with.
func (b *batch) receive(payload []byte) {
	if lambdahost.IsMessages(payload) {
		// Other events with Records are no events of ours: dead letters.
		if messages, err := lambdahost.ParseMessages(payload); err == nil {
			b.isQueue = true
			for i := range messages {
				m := &messages[i]
				b.parcels = append(b.parcels, &parcel{
					id: m.ID, arn: m.QueueARN, body: []byte(m.Body), message: m, inPlace: m.Group != "" || b.f.room == nil,
				})
			}
			return
		}
	}
	b.parcels = []*parcel{{id: b.request, arn: b.arn, body: payload}}
}

// deliver delivers what came, and sorts it by what has to be done next.
func (b *batch) deliver(ctx context.Context) {
	b.open(ctx)
	var open []*entry
	var letters []deadletter.Letter
	var groups []string
	for _, e := range b.entries {
		if !e.decided {
			open, letters, groups = append(open, e), append(letters, e.letter), append(groups, e.parcel.group())
		}
	}
	for i, fate := range b.f.stage.Deliver(ctx, letters, groups) {
		open[i].letter, open[i].fate = letters[i], fate
	}
	now := time.Now()
	for _, e := range b.entries {
		if e.fate == attempt.Waits {
			b.wait(e, now)
		}
	}
	for _, e := range b.entries {
		switch e.fate {
		case attempt.Delivered:
			b.counts.Delivered++
		case attempt.Dropped:
			b.counts.Dropped++
		case attempt.Dead:
			if e.parcel.waits {
				b.counts.Waiting++ // it is buried once its message comes for the last time
			} else {
				b.burying = append(b.burying, e)
			}
		}
	}
}

// open finds the events of the parcels.
func (b *batch) open(ctx context.Context) {
	failed := map[string]error{} // by group
	for _, p := range b.parcels {
		entries, err := b.f.open(ctx, p)
		if before := failed[p.group()]; before != nil && p.group() != "" {
			err = before // its group is in order
		}
		if err != nil {
			p.failed = err
			failed[p.group()] = err
			b.counts.Events++ // at least
			b.counts.Failed++
			continue
		}
		b.counts.Events += len(entries)
		for i := range entries {
			b.entries = append(b.entries, &entries[i])
		}
	}
}

// wait decides where an event waits.
func (b *batch) wait(e *entry, now time.Time) {
	p := e.parcel
	untouched := !e.early.IsZero() && e.letter.NotBefore.Equal(e.early) && e.letter.Attempts == e.tries
	switch {
	case p.old(now):
		e.fate, e.letter.Code = attempt.Dead, "too_old"
		e.letter.Message = join(e.letter.Message, "the message is older than 13 days, and its queue would soon delete it")
	case p.inPlace, p.message != nil && untouched:
		b.counts.Waiting++
		if d := max(0, e.letter.NotBefore.Sub(now)); !p.waits || d < p.wait {
			p.waits, p.wait = true, d
		}
	case b.f.room != nil:
		b.keeping = append(b.keeping, e)
	default:
		e.fate = attempt.Dead
		e.letter.Message = join(e.letter.Message, "it would have to wait longer than there is time, and there is no RETRY_QUEUE")
	}
}

// join adds what we have to say to what the destination said.
func join(said, more string) string {
	if said == "" {
		return more
	}
	return said + "; " + more
}

func lettersOf(entries []*entry) []deadletter.Letter {
	letters := make([]deadletter.Letter, len(entries))
	for i, e := range entries {
		letters[i] = e.letter
	}
	return letters
}

// keep gives letters to the waiting room. What that does not take is given up.
func (b *batch) keep(ctx context.Context) {
	if len(b.keeping) == 0 {
		return
	}
	for i, err := range b.f.room.Keep(ctx, lettersOf(b.keeping)) {
		e := b.keeping[i]
		if err == nil {
			b.counts.Waiting++
			continue
		}
		e.fate = attempt.Dead
		e.letter.NotBefore = time.Time{}
		e.letter.Code = cmp.Or(e.letter.Code, "waiting_room")
		e.letter.Message = join(e.letter.Message, "it could not be kept waiting: "+err.Error())
		b.burying = append(b.burying, e)
	}
}

// bury makes dead letters durable. What cannot be buried comes again.
func (b *batch) bury(ctx context.Context) {
	if len(b.burying) == 0 {
		return
	}
	for i, err := range b.f.grave.Bury(ctx, lettersOf(b.burying)) {
		if err == nil {
			b.counts.Dead++
			continue
		}
		b.counts.Failed++
		p := b.burying[i].parcel
		p.failed = cmp.Or(p.failed, err)
	}
}

// longestWait is how long a message is put off at most. SQS counts the 12 hours
// of queue.MaxVisibility from its receipt, and an invocation takes up to 15
// minutes.
const longestWait = queue.MaxVisibility - 20*time.Minute

// postpone puts off the messages that wait in their queue. Where that fails they
// come when their visibility timeout ends, which may be early.
func (b *batch) postpone(ctx context.Context) {
	type when struct {
		arn  string
		wait time.Duration
	}
	receipts := map[when][]string{}
	for _, p := range b.parcels {
		if !p.waits || p.failed != nil {
			continue
		}
		wait := min(p.wait.Truncate(time.Second)+time.Second, longestWait)
		if p.wait == 0 {
			wait = 0
		}
		to := when{p.arn, wait}
		receipts[to] = append(receipts[to], p.message.Receipt)
	}
	for to, some := range receipts {
		ref, err := b.f.queues.Parse(to.arn)
		if err == nil {
			err = errors.Join(b.f.queues.Postpone(ctx, ref, some, to.wait)...)
		}
		if err != nil {
			b.f.log.Warn("messages could not be put off, and may come too early", slog.String("queue", to.arn), slog.Any("error", err))
		}
	}
}

// answer reports the invocation.
func (b *batch) answer() ([]byte, error) {
	var again []string
	var failure error
	for _, p := range b.parcels {
		failure = cmp.Or(failure, p.failed)
		if p.message != nil && (p.waits || p.failed != nil) {
			again = append(again, p.message.ID)
		}
	}
	b.report(failure)
	switch {
	case b.isQueue:
		return lambdahost.Failures(again...), nil
	case failure != nil:
		return nil, fmt.Errorf("%d of %d events are neither delivered nor kept: %w", b.counts.Failed, b.counts.Events, failure)
	}
	return json.Marshal(b.counts)
}

// report writes the line of the log and the metrics.
func (b *batch) report(failure error) {
	c := &b.counts
	level, attrs := slog.LevelInfo, []slog.Attr{
		slog.String("request_id", b.request), slog.Int("events", c.Events), slog.Int("delivered", c.Delivered), slog.Int("dropped", c.Dropped),
		slog.Int("waiting", c.Waiting), slog.Int("dead", c.Dead), slog.Int("failed", c.Failed), slog.Int("residual", c.residual()),
		slog.Float64("took_ms", float64(time.Since(b.began).Microseconds())/1000),
	}
	if b.isQueue {
		attrs = append(attrs, slog.Int("messages", len(b.parcels)))
	}
	if failure != nil {
		attrs = append(attrs, slog.Any("error", failure))
	}
	if failure != nil || c.residual() != 0 {
		level = slog.LevelError
	}
	b.f.log.LogAttrs(context.Background(), level, "invocation", attrs...)
	values := []emf.Value{
		{Name: "Events", Value: float64(c.Events)}, {Name: "Delivered", Value: float64(c.Delivered)}, {Name: "Dropped", Value: float64(c.Dropped)},
		{Name: "Waiting", Value: float64(c.Waiting)}, {Name: "DeadLetters", Value: float64(c.Dead)}, {Name: "Failed", Value: float64(c.Failed)},
		{Name: "Residual", Value: float64(c.residual())},
	}
	program := cmp.Or(lambdahost.FunctionName(), b.f.settings.Destination)
	if _, err := b.f.metrics.Write(emf.Line(emf.Namespace, []emf.Dimension{{Name: "Program", Value: program}}, values)); err != nil {
		b.f.log.Error("metrics cannot be written", slog.Any("error", err))
	}
}
