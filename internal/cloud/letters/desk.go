package letters

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/router/fanout"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

// Target is a stream that letters are replayed to.
type Target = producer.Stream

// Clients are what a Desk calls.
type Clients struct {
	Queues  Queues
	Objects Objects
	// Stream opens the stream with an ARN, to read records back from it.
	Stream func(ctx context.Context, arn string) (Stream, error)
	// Sender is where letters are replayed to: functions and queues.
	Sender fanout.Sender
	// Target opens the stream that letters are replayed to.
	Target func(ctx context.Context) (Target, error)
	// ARNs returns the destination_arn of each destination_name in the rules of
	// now.
	ARNs func(ctx context.Context) (map[string]string, error)
}

// Options of a Desk. The zero value of a field stands for its default.
type Options struct {
	// Visibility is for how long messages are kept from other receivers. While
	// the desk works they are kept for longer; after a crash it is how long they
	// stay away. Default 5 minutes, at most 12 hours.
	Visibility time.Duration
	// Wait is how long one look at a queue waits for messages, at most 20
	// seconds; of a second only whole ones count. Default 1 second.
	Wait time.Duration
	// Redeem puts the events of claims into the letters: for a backup, and to be
	// looked at.
	Redeem bool
	// Deadline is when no more messages are received and no more letters are
	// begun with: orders end with ErrPaused. Default: never.
	Deadline time.Time
	// Before is called with the letters of a replay before they are sent. An
	// error ends the order.
	Before func(ctx context.Context, letters []deadletter.Letter) error
}

// Limits of Options.Visibility.
const (
	MinVisibility = 10 * time.Second
	MaxVisibility = queue.MaxVisibility
)

// Validate reports every option that cannot be used.
func (o Options) Validate() error {
	var faults []error
	if o.Visibility != 0 && (o.Visibility < MinVisibility || o.Visibility > MaxVisibility) {
		faults = append(faults, fmt.Errorf("visibility is %v; right would be %v to %v", o.Visibility, MinVisibility, MaxVisibility))
	}
	if o.Wait < 0 || o.Wait > queue.MaxWait {
		faults = append(faults, fmt.Errorf("wait is %v; right would be 0 to %v", o.Wait, queue.MaxWait))
	}
	return errors.Join(faults...)
}

// Desk is the deadletter.Desk of AWS. A destination is the URL or the ARN of a
// dead letter queue, sqs:NAME for a queue of the account, or s3://bucket/prefix
// for the objects of on-failure destinations. It has a session with each queue
// that it is asked about, until Close; it does one thing at a time.
type Desk struct {
	clients Clients
	options Options
	// nonce makes a replay another one than those before it.
	nonce string

	mu       sync.Mutex
	sessions map[string]*session
	streams  map[string]Stream
}

var _ deadletter.Desk = (*Desk)(nil)

// NewDesk returns a Desk. It makes no call.
func NewDesk(c Clients, o Options) (*Desk, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Visibility == 0 {
		o.Visibility = 5 * time.Minute
	}
	if o.Wait == 0 {
		o.Wait = time.Second
	}
	return &Desk{clients: c, options: o, nonce: newNonce(), sessions: map[string]*session{}, streams: map[string]Stream{}}, nil
}

// named is how a queue on AWS is named by its name alone.
const named = "sqs:"

// IsName reports whether a destination is one of this desk, and not the name of
// a destination elsewhere.
func IsName(destination string) bool {
	for _, prefix := range []string{named, object.Scheme, "arn:", "https://", "http://"} {
		if strings.HasPrefix(destination, prefix) {
			return true
		}
	}
	return false
}

// Elsewhere returns how many messages of the queues that were read to their ends
// were held by others then, as SQS says: another command has received them, or
// the answer to one of our receives was lost. They come back when their
// visibility timeout ends.
func (d *Desk) Elsewhere() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.sessions {
		s.mu.Lock()
		n += s.elsewhere
		s.mu.Unlock()
	}
	return n
}

// Close ends the sessions: what is left in the queues can be received by others.
func (d *Desk) Close(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.sessions {
		s.close(ctx)
	}
	clear(d.sessions)
	return nil
}

// session returns that with a queue.
func (d *Desk) session(ctx context.Context, destination string) (*session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.sessions[destination]; s != nil {
		return s, nil
	}
	b, err := d.box(ctx, destination)
	if err != nil {
		return nil, err
	}
	s := begin(b, d.open, d.paused)
	d.sessions[destination] = s
	return s, nil
}

// box finds a queue.
func (d *Desk) box(ctx context.Context, destination string) (box, error) {
	if rest, ok := strings.CutPrefix(destination, object.Scheme); ok {
		bucket, prefix, _ := strings.Cut(rest, "/")
		if bucket == "" {
			return nil, fault.New(fault.Invalid, "%q names no bucket; right would be \"s3://bucket/prefix\"", destination)
		}
		return &s3Box{objects: d.clients.Objects, bucket: bucket, prefix: prefix}, nil
	}
	var ref queue.Ref
	var err error
	if name, ok := strings.CutPrefix(destination, named); ok {
		ref, err = d.clients.Queues.Find(ctx, name)
	} else if ref, err = d.clients.Queues.Parse(destination); err != nil {
		err = &fault.Error{Kind: fault.Invalid, Err: err}
	}
	if err != nil {
		return nil, err
	}
	return &sqsBox{queues: d.clients.Queues, ref: ref, wait: d.options.Wait.Truncate(time.Second), hide: d.options.Visibility}, nil
}

func (d *Desk) paused() bool {
	return !d.options.Deadline.IsZero() && !time.Now().Before(d.options.Deadline)
}

// open takes a message apart.
func (d *Desk) open(ctx context.Context, m Message) ([]deadletter.Letter, error) {
	letters, batch := Parse(m)
	if batch != nil {
		s, err := d.stream(ctx, batch.Stream)
		if err != nil {
			return nil, err
		}
		if letters, err = batch.read(ctx, s); err != nil {
			return nil, err
		}
	}
	if d.options.Redeem {
		return letters, d.redeem(ctx, letters)
	}
	return letters, nil
}

func (d *Desk) stream(ctx context.Context, arn string) (Stream, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.streams[arn]; s != nil {
		return s, nil
	}
	s, err := d.clients.Stream(ctx, arn)
	if err != nil {
		return nil, err
	}
	d.streams[arn] = s
	return s, nil
}

// redeem puts the events of claims into letters. A claim that cannot be redeemed
// stays one, and the letter says so.
func (d *Desk) redeem(ctx context.Context, letters []deadletter.Letter) error {
	for i := range letters {
		l := &letters[i]
		if l.Claim == nil || len(l.Event) > 0 || len(l.Raw) > 0 {
			continue
		}
		payload, err := d.clients.Objects.Redeem(ctx, *l.Claim)
		switch {
		case unredeemable(payload, err):
			l.Message = deadletter.Clip(fmt.Sprintf("%s (the event cannot be had any more: %v)", l.Message, err), maxText)
		case err != nil:
			return fmt.Errorf("letter %s: %w", l.ID, err)
		default:
			fill(l, payload)
		}
	}
	return nil
}

// unredeemable reports whether a claim will never be redeemed: its object is gone,
// or another one than was put there.
func unredeemable(payload []byte, err error) bool {
	return err != nil && (payload != nil || fault.KindOf(err) == fault.NotFound)
}

// Redeem returns letters with the events of their claims in them.
func (d *Desk) Redeem(ctx context.Context, letters []deadletter.Letter) ([]deadletter.Letter, error) {
	redeemed := append([]deadletter.Letter(nil), letters...)
	return redeemed, d.redeem(ctx, redeemed)
}

// fill puts what was claimed into a letter.
func fill(l *deadletter.Letter, payload []byte) {
	if event, ok := eventLetter(*l, payload); ok {
		*l = event
		return
	}
	if isJSON(payload) {
		l.Event = payload // several events
	} else {
		l.Raw = payload
	}
}

// List implements deadletter.Desk.
func (d *Desk) List(ctx context.Context, destination string, f deadletter.Filter, after uint64, limit int) (deadletter.Page, error) {
	s, err := d.session(ctx, destination)
	if err != nil {
		return deadletter.Page{}, err
	}
	return deadletter.List(ctx, s, f, after, limit)
}

// Get implements deadletter.Desk.
func (d *Desk) Get(ctx context.Context, destination, id string) (deadletter.Letter, error) {
	s, err := d.session(ctx, destination)
	if err != nil {
		return deadletter.Letter{}, err
	}
	return s.Get(ctx, id)
}

// Purge implements deadletter.Desk. It deletes message by message what it has
// looked at, and nothing that comes meanwhile.
func (d *Desk) Purge(ctx context.Context, destination string, o deadletter.Order, report func(deadletter.Progress)) (deadletter.Progress, error) {
	s, err := d.session(ctx, destination)
	if err != nil {
		return deadletter.Progress{}, err
	}
	p, err := deadletter.Walk(ctx, s, o, report, func(ctx context.Context, letters []deadletter.Letter) (int, error) {
		if d.paused() {
			return 0, ErrPaused
		}
		ids := make([]string, len(letters))
		for i := range letters {
			ids[i] = letters[i].ID
		}
		return len(ids), s.Delete(ctx, ids)
	})
	p.Kept = s.kept()
	return p, err
}

// Replay implements deadletter.Desk: letters go to the target of the order, and
// leave the queue when they were accepted there. Those that cannot go are
// refused, and stay.
func (d *Desk) Replay(ctx context.Context, destination string, o deadletter.Order, report func(deadletter.Progress)) (deadletter.Progress, error) {
	s, err := d.session(ctx, destination)
	if err != nil {
		return deadletter.Progress{}, err
	}
	r := &replay{desk: d, to: o.To}
	var said func(deadletter.Progress)
	if report != nil {
		said = func(p deadletter.Progress) { report(r.account(p)) }
	}
	p, err := deadletter.Walk(ctx, s, o, said, func(ctx context.Context, letters []deadletter.Letter) (int, error) {
		if d.paused() {
			return 0, ErrPaused
		}
		if d.options.Before != nil {
			if err := d.options.Before(ctx, letters); err != nil {
				return 0, err
			}
		}
		accepted, err := r.send(ctx, letters)
		// From here the events are where they should be. A crash before the
		// messages are deleted leaves them to be replayed again, under the same
		// event ids.
		return len(accepted), errors.Join(err, s.Delete(ctx, accepted))
	})
	p = r.account(p)
	p.Kept = s.kept()
	return p, err
}

// Count returns how many messages a queue holds.
func (d *Desk) Count(ctx context.Context, destination string) (Depth, error) {
	s, err := d.session(ctx, destination)
	if err != nil {
		return Depth{}, err
	}
	return s.box.count(ctx)
}

// Name returns what a queue is called, without what its URL or ARN says of where
// it is.
func (d *Desk) Name(ctx context.Context, destination string) (string, error) {
	s, err := d.session(ctx, destination)
	if err != nil {
		return "", err
	}
	return s.box.name(), nil
}
