package letters

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
)

// ErrPaused says that an order was left before its end, because the time for it
// was over: given again, it goes on.
var ErrPaused = errors.New("the time is over, and not all is done")

// box is a queue as a session needs it.
type box interface {
	// name is what people call it.
	name() string
	// receive returns messages that others do not get meanwhile, after waiting
	// for them; none means that there are no more. holding says that the session
	// has messages that are not dealt with; if there are more behind them, the
	// error is deadletter.ErrBlocked.
	receive(ctx context.Context, holding bool) ([]received, error)
	// remove deletes messages, and returns an error for each that may be there
	// still.
	remove(ctx context.Context, messages []*held) []error
	// extend keeps messages from others for longer, putBack no longer.
	extend(ctx context.Context, messages []*held)
	putBack(ctx context.Context, messages []*held)
	// visibility is for how long messages are kept from others, 0 without end.
	visibility() time.Duration
	count(ctx context.Context) (Depth, error)
}

// received is a message with what it is deleted by.
type received struct {
	Message
	receipt string
}

// held is a message that a session has received. Its text is gone: only the
// letters that were not passed yet are kept.
type held struct {
	id, receipt string
	// left are the letters that are not dealt with, dealt those that are.
	left, dealt int
	deleted     bool
}

// session is the letters of a queue, numbered as they are received. It holds
// what it has received, against others, until it is closed: then what is left
// is put back. It serves one caller at a time.
type session struct {
	box box
	// open takes a message apart.
	open   func(context.Context, Message) ([]deadletter.Letter, error)
	paused func() bool

	stop    context.CancelFunc
	stopped chan struct{}

	mu sync.Mutex // guards what follows; open and calls are made without it
	// held are all messages by id: one that is received again is known, also
	// when it has been deleted.
	held map[string]*held
	// live is how many of them are not deleted.
	live int
	// elsewhere is how many messages others held at the end of the queue.
	elsewhere int
	// owner is the message of each letter that is not dealt with.
	owner map[string]*held
	// ahead are the letters that were not passed, in the order of their cursors.
	ahead []numbered
	last  uint64
}

type numbered struct {
	cursor uint64
	letter deadletter.Letter
	end    bool // of its message
}

var _ deadletter.OnePass = (*session)(nil)

// begin starts a session, and a goroutine that keeps its messages from others
// until close.
func begin(b box, open func(context.Context, Message) ([]deadletter.Letter, error), paused func() bool) *session {
	s := &session{box: b, open: open, paused: paused, stopped: make(chan struct{}), held: map[string]*held{}, owner: map[string]*held{}}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	go func() {
		defer close(s.stopped)
		for v := b.visibility(); v > 0 && retry.Sleep(ctx, v/3) == nil; {
			b.extend(ctx, s.holding())
		}
	}()
	return s
}

// putBackTime bounds what is done after an interruption: what cannot be put
// back in it comes back by itself.
const putBackTime = 20 * time.Second

// close puts back what is left. It does so also when ctx is done; a deadline
// that is still to come bounds it.
func (s *session) close(ctx context.Context) {
	s.stop()
	<-s.stopped
	until := time.Now().Add(putBackTime)
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && deadline.Before(until) {
		until = deadline
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	if messages := s.holding(); len(messages) > 0 {
		s.box.putBack(ctx, messages)
	}
}

// holding returns copies of the messages that are in the queue still, as far as
// is known.
func (s *session) holding() []*held {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*held
	for _, h := range s.held {
		if !h.deleted {
			all = append(all, &held{id: h.id, receipt: h.receipt})
		}
	}
	return all
}

func (s *session) holds() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live > 0
}

// kept returns how many letters are dealt with and in the queue still.
func (s *session) kept() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.held {
		if !h.deleted {
			n += h.dealt
		}
	}
	return n
}

// fetch receives messages until there is another letter; false means that there
// is none. If want is not empty, messages that cannot hold the letter with this
// id are not opened.
func (s *session) fetch(ctx context.Context, want string) (bool, error) {
	for {
		if s.paused() {
			return false, ErrPaused
		}
		messages, err := s.box.receive(ctx, s.holds())
		if err != nil {
			return false, err
		}
		if len(messages) == 0 {
			s.lookElsewhere(ctx)
			return false, nil
		}
		fresh, again := s.hold(messages)
		if len(again) > 0 { // what is deleted may be delivered once more
			s.box.remove(ctx, again)
		}
		found := false
		for _, m := range fresh {
			if want != "" && !strings.HasPrefix(want, m.ID) {
				continue
			}
			letters, err := s.open(ctx, m)
			if err != nil {
				return false, fmt.Errorf("message %s of %s: %w", m.ID, s.box.name(), err)
			}
			s.number(m.ID, letters)
			found = true
		}
		if found {
			return true, nil
		}
	}
}

// lookElsewhere asks how many messages of a queue others hold. It is a help, and
// no failure if nobody says.
func (s *session) lookElsewhere(ctx context.Context) {
	if s.box.visibility() == 0 {
		return
	}
	depth, err := s.box.count(ctx)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.elsewhere = max(0, int(depth.InFlight)-s.live)
}

// hold notes messages as received. It returns those that are new, and those
// that were deleted before.
func (s *session) hold(messages []received) (fresh []Message, again []*held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range messages {
		m := &messages[i]
		h := s.held[m.ID]
		if h == nil {
			s.held[m.ID] = &held{id: m.ID, receipt: m.receipt}
			s.live++
			fresh = append(fresh, m.Message)
			continue
		}
		h.receipt = m.receipt // the newest is the one that works
		if h.deleted {
			again = append(again, &held{id: h.id, receipt: h.receipt})
		}
	}
	return fresh, again
}

func (s *session) number(message string, letters []deadletter.Letter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[message]
	h.left = len(letters)
	for i := range letters {
		s.last++
		s.owner[letters[i].ID] = h
		s.ahead = append(s.ahead, numbered{cursor: s.last, letter: letters[i], end: i == len(letters)-1})
	}
}

// pass forgets the letters up to a cursor.
func (s *session) pass(cursor uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.find(cursor)
	if ok {
		n++
	}
	s.ahead = slices.Delete(s.ahead, 0, n)
}

// find returns where a cursor is, or would be, among the letters ahead. mu is
// held.
func (s *session) find(cursor uint64) (int, bool) {
	return slices.BinarySearchFunc(s.ahead, cursor, func(n numbered, cursor uint64) int {
		switch {
		case n.cursor < cursor:
			return -1
		case n.cursor > cursor:
			return 1
		}
		return 0
	})
}

// next returns the letter after a cursor that is not dealt with, of those that
// were received.
func (s *session) next(after uint64) (numbered, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := s.find(after + 1)
	for ; i < len(s.ahead); i++ {
		if n := s.ahead[i]; s.owner[n.letter.ID] != nil {
			return n, true
		}
	}
	return numbered{}, false
}

// Scan implements deadletter.OnePass.
func (s *session) Scan(ctx context.Context, after uint64, yield func(uint64, deadletter.Letter) bool) error {
	s.pass(after)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, ok := s.next(after)
		if !ok {
			more, err := s.fetch(ctx, "")
			if err != nil || !more {
				return err
			}
			continue
		}
		after = n.cursor
		if !yield(n.cursor, n.letter) {
			return nil
		}
	}
}

// Ends implements deadletter.OnePass.
func (s *session) Ends(cursor uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.find(cursor)
	return !ok || s.ahead[i].end
}

// Get passes the letters before the one that it looks for.
func (s *session) Get(ctx context.Context, id string) (deadletter.Letter, error) {
	var after uint64
	for {
		n, ok := s.next(after)
		if !ok {
			more, err := s.fetch(ctx, id)
			if err != nil {
				return deadletter.Letter{}, err
			}
			if !more {
				return deadletter.Letter{}, fault.New(fault.NotFound, "there is no letter %q in %s, or somebody else holds it now", id, s.box.name())
			}
			continue
		}
		if n.letter.ID == id {
			return n.letter, nil
		}
		after = n.cursor
		s.pass(after)
	}
}

// Put implements deadletter.Queue: nothing is put here.
func (s *session) Put(context.Context, []deadletter.Letter) error {
	return fault.New(fault.Invalid, "letters are not put into %s here", s.box.name())
}

// Count implements deadletter.Queue, in messages.
func (s *session) Count(ctx context.Context) (uint64, error) {
	d, err := s.box.count(ctx)
	return d.Total(), err
}

// patience is how often a call is made again that may work later.
var patience = retry.Policy{MaxAttempts: 8, BaseDelay: 100 * time.Millisecond, MaxDelay: 5 * time.Second}

// Delete notes letters as dealt with, and deletes the messages of which no
// letter is left. It does not stop when ctx is done: what is dealt with would
// come again.
func (s *session) Delete(ctx context.Context, ids []string) error {
	messages := s.deal(ids)
	if len(messages) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackTime)
	defer cancel()
	for attempt := 1; ; attempt++ {
		var left []*held
		var why error
		for i, err := range s.box.remove(ctx, s.renewed(messages)) {
			if err == nil {
				s.deleted(messages[i].id)
				continue
			}
			left, why = append(left, messages[i]), err
		}
		messages = left
		if len(messages) == 0 {
			return nil
		}
		if !passing(why) || patience.Exhausted(attempt) || retry.Sleep(ctx, patience.Delay(attempt, 0)) != nil {
			return fmt.Errorf("%d messages of %s are dealt with and could not be deleted, and come again: %w", len(messages), s.box.name(), why)
		}
	}
}

// deal notes letters as dealt with, and returns the messages that are done.
func (s *session) deal(ids []string) (done []*held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		h := s.owner[id]
		if h == nil {
			continue
		}
		delete(s.owner, id)
		h.left--
		h.dealt++
		if h.left == 0 {
			done = append(done, &held{id: h.id, receipt: h.receipt})
		}
	}
	return done
}

// renewed gives messages their newest receipts.
func (s *session) renewed(messages []*held) []*held {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range messages {
		m.receipt = s.held[m.id].receipt
	}
	return messages
}

func (s *session) deleted(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[message].deleted = true
	s.live--
}

// passing reports whether what failed may work later.
func passing(err error) bool {
	switch fault.KindOf(err) {
	case fault.Invalid, fault.TooLarge, fault.NotFound, fault.Forbidden:
		return false
	}
	return true
}
