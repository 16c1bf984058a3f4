package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/eventsluice/sluice/internal/fault"
)

const (
	censusSubject = statePrefix + "census"
	// saveEvery is how often the census is saved while events come in, and so
	// how much of the stream is counted again after a crash.
	saveEvery = 5 * time.Second
	// marksPerBudget is into how many parts the marks divide a full stream.
	// A part is the unit of trimming, and what countBefore may have to read.
	marksPerBudget = 1024
	// marksPerRetention is the same for the time that entries are kept.
	marksPerRetention = 64
	// maxPast is how many positions where the stream was trimmed are kept, for
	// readers that asked for the first position just before.
	maxPast = 64
	// suspectRounds is how often the stream is searched for an entry whose
	// acknowledgement was lost.
	suspectRounds = 3
)

// tally is what the census keeps of one entry.
type tally struct {
	events uint64
	bytes  uint64
	at     time.Time
}

// entrySize is about what an entry takes on the disk: its payload and the
// server's record around it, subject and header included.
func entrySize(payload int) uint64 { return uint64(payload) + 128 }

// mark is the running total at one position.
type mark struct {
	Position uint64 `json:"p"`
	Events   uint64 `json:"e"` // stored at or before Position since the stream began
	Bytes    uint64 `json:"b"` // the same in bytes on disk
	Unix     int64  `json:"t"` // when Position was stored, seconds since 1970
}

// census counts the events of the stream: all that were ever stored, and how
// many stand before a position. Entries are counted as the stream acknowledges
// them; what nobody saw acknowledged is read from the stream.
//
// It is saved from time to time; after a crash, what follows the saved head is
// counted again.
type census struct {
	engine *Engine
	stream jetstream.Stream
	log    *slog.Logger
	// step and age are how far marks lie apart, in bytes and in time.
	step uint64
	age  int64 // seconds

	mu sync.Mutex
	// head is the total up to which every entry is counted.
	head mark
	// ahead are entries behind head that were acknowledged before one between
	// was. aheadEvents is the sum of their events.
	ahead       map[uint64]tally
	aheadEvents uint64
	// marks ascend to head at most. The first is where the stream was trimmed:
	// what is retained comes after it. past are the ones before.
	marks []mark
	past  []mark
	// cut is the position up to which entries are being discarded, or were. A
	// crash meanwhile leaves any of them on the stream, with holes between.
	cut uint64

	// dirty says that head moved since the last save.
	dirty bool
	// suspect is in how many rounds more the stream is searched for an entry
	// that nobody counted; it may be still on its way at the first.
	suspect int
	// stuck is where head stood at the last round.
	stuck uint64

	wake   chan struct{} // there is something to save
	urgent chan struct{} // there may be something to count

	saveMu sync.Mutex // one save at a time: an older one must not win
}

// savedCensus is the JSON that is kept in the state stream.
type savedCensus struct {
	Head  mark   `json:"head"`
	Marks []mark `json:"marks"`
	Past  []mark `json:"past,omitempty"`
	Cut   uint64 `json:"cut,omitempty"`
}

// openCensus reads the census saved last and counts what came after it.
func openCensus(ctx context.Context, e *Engine, s jetstream.Stream) (*census, error) {
	c := &census{
		engine: e, stream: s, log: e.log,
		step:   uint64(e.cfg.MaxBytes / marksPerBudget),
		age:    int64(e.cfg.Retention/time.Second) / marksPerRetention,
		ahead:  make(map[uint64]tally),
		wake:   make(chan struct{}, 1),
		urgent: make(chan struct{}, 1),
	}
	var saved savedCensus
	m, err := e.state.GetLastMsgForSubject(ctx, censusSubject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(m.Data, &saved); err != nil {
			return nil, fmt.Errorf("saved census: %w", err)
		}
	}
	info, err := s.Info(ctx)
	if err != nil {
		return nil, err
	}
	if upTo := min(saved.Cut, info.State.LastSeq); info.State.Msgs > 0 && info.State.FirstSeq <= upTo {
		if err := s.Purge(ctx, jetstream.WithPurgeSequence(upTo+1)); err != nil {
			return nil, fmt.Errorf("discard what a crash has left: %w", err)
		}
		if info, err = s.Info(ctx); err != nil {
			return nil, err
		}
	}
	c.cut = saved.Cut
	if err := c.restore(ctx, saved, firstPosition(info), info.State.LastSeq); err != nil {
		return nil, err
	}
	return c, c.fill(ctx)
}

// restore continues a saved census on a stream with these positions.
func (c *census) restore(ctx context.Context, saved savedCensus, first, last uint64) error {
	c.head, c.marks, c.past = saved.Head, saved.Marks, saved.Past
	switch {
	case c.head.Position > last:
		// The stream is not the one that was counted.
		c.log.Error("the event stream ends before what was counted: counting it from its beginning",
			slog.Uint64("last", last), slog.Uint64("counted", c.head.Position))
		c.head, c.marks, c.past = mark{Position: first - 1}, nil, nil
	case c.head.Position < first-1:
		c.log.Error("entries left the event stream uncounted: the totals miss them",
			slog.Uint64("first", first), slog.Uint64("counted", c.head.Position))
		c.head.Position, c.marks = first-1, nil
	}
	// The stream may have been trimmed after the census was saved.
	i, ok := slices.BinarySearchFunc(c.marks, first-1, byPosition)
	c.past = append(c.past, c.marks[:i]...)
	c.marks = c.marks[i:]
	if ok {
		return nil
	}
	next := c.head
	if len(c.marks) > 0 {
		next = c.marks[0]
	}
	begin, err := c.countBack(ctx, next, first)
	c.marks = slices.Insert(c.marks, 0, begin)
	return err
}

// countBack returns the mark before the position first, from one further on.
func (c *census) countBack(ctx context.Context, from mark, first uint64) (mark, error) {
	begin := mark{Position: first - 1, Events: from.Events, Bytes: from.Bytes}
	if from.Position < first {
		return begin, nil
	}
	err := c.engine.scan(ctx, c.stream, first, true, func(m jetstream.Msg, position uint64, at time.Time) bool {
		if position <= from.Position {
			begin.Events -= headerEvents(m.Headers())
			begin.Bytes -= entrySize(payloadSize(m.Headers()))
			begin.Unix = cmp.Or(begin.Unix, at.Unix())
		}
		return position < from.Position
	})
	return begin, err
}

// add counts an entry that the stream acknowledged.
func (c *census) add(position uint64, t tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if position <= c.head.Position {
		return // counted from the stream already
	}
	if position != c.head.Position+1 {
		if _, twice := c.ahead[position]; !twice {
			c.ahead[position] = t
			c.aheadEvents += t.events
		}
	} else {
		c.advance(position, t)
		for len(c.ahead) > 0 {
			t, ok := c.ahead[c.head.Position+1]
			if !ok {
				break
			}
			delete(c.ahead, c.head.Position+1)
			c.aheadEvents -= t.events
			c.advance(c.head.Position+1, t)
		}
	}
	c.touch()
}

// advance moves head over an entry. mu is held.
func (c *census) advance(position uint64, t tally) {
	c.head = mark{
		Position: position,
		Events:   c.head.Events + t.events,
		Bytes:    c.head.Bytes + t.bytes,
		Unix:     t.at.Unix(),
	}
	newest := &c.marks[len(c.marks)-1]
	if c.head.Bytes-newest.Bytes >= c.step || c.head.Unix-newest.Unix >= c.age {
		c.marks = append(c.marks, c.head)
	}
}

// touch wakes run if there is something to save. mu is held.
func (c *census) touch() {
	if !c.dirty {
		c.dirty = true
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// recount says that an entry may be on the stream whose acknowledgement nobody
// saw.
func (c *census) recount() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspect = suspectRounds
	c.touch()
	select {
	case c.urgent <- struct{}{}:
	default:
	}
}

// stored returns the events of all entries known.
func (c *census) stored() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head.Events + c.aheadEvents
}

// fill counts what stands on the stream behind head, by reading it.
func (c *census) fill(ctx context.Context) error {
	c.mu.Lock()
	from := c.head.Position + 1
	c.mu.Unlock()
	return c.engine.scan(ctx, c.stream, from, true, func(m jetstream.Msg, position uint64, at time.Time) bool {
		c.found(position, tally{events: headerEvents(m.Headers()), bytes: entrySize(payloadSize(m.Headers())), at: at})
		return true
	})
}

// found counts an entry that was read. Positions between head and it hold
// nothing, for the stream gives entries in order.
func (c *census) found(position uint64, t tally) {
	c.mu.Lock()
	if position > c.head.Position+1 {
		c.head.Position = position - 1
	}
	c.mu.Unlock()
	c.add(position, t)
}

// sizeHeader is what the server puts in place of a payload that it leaves out
// (server.JSMsgSize).
const sizeHeader = "Nats-Msg-Size"

// payloadSize returns the size of a payload that was left out.
func payloadSize(header nats.Header) int {
	n, err := strconv.Atoi(header.Get(sizeHeader))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// countBefore returns the events at positions below the given one.
func (c *census) countBefore(ctx context.Context, position uint64) (uint64, error) {
	if position <= 1 {
		return 0, nil
	}
	m, err := c.at(ctx, position-1)
	return m.Events, err
}

// at returns the mark at a position, which it may have to count.
func (c *census) at(ctx context.Context, position uint64) (mark, error) {
	c.mu.Lock()
	head, from, known := c.head, c.below(position), c.exactly(position)
	c.mu.Unlock()
	switch {
	case known != nil:
		return *known, nil
	case position >= head.Position:
		// Entries ahead of head are in flight; what is not counted yet stands
		// on the stream.
		from = &head
	case from == nil:
		return mark{}, fault.New(fault.NotFound, "position %d has been trimmed, and its count is not kept", position+1)
	}
	m := mark{Position: position, Events: from.Events, Bytes: from.Bytes, Unix: from.Unix}
	err := c.engine.scan(ctx, c.stream, from.Position+1, true, func(msg jetstream.Msg, at uint64, stored time.Time) bool {
		if at <= position {
			m.Events += headerEvents(msg.Headers())
			m.Bytes += entrySize(payloadSize(msg.Headers()))
			m.Unix = stored.Unix()
		}
		return at < position
	})
	if err != nil {
		return mark{}, unavailable(err, "count the events before position %d", position+1)
	}
	return m, nil
}

// exactly returns the mark at a position, nil if there is none. mu is held.
func (c *census) exactly(position uint64) *mark {
	for _, list := range [][]mark{c.marks, c.past, {c.head}} {
		if i, ok := slices.BinarySearchFunc(list, position, byPosition); ok {
			return new(list[i])
		}
	}
	return nil
}

// below returns the newest mark at or before a position whose followers are
// all retained, nil if there is none. mu is held.
func (c *census) below(position uint64) *mark {
	i, ok := slices.BinarySearchFunc(c.marks, position, byPosition)
	if ok {
		i++
	}
	if i == 0 {
		return nil
	}
	return new(c.marks[i-1])
}

func byPosition(m mark, position uint64) int {
	switch {
	case m.Position < position:
		return -1
	case m.Position > position:
		return 1
	}
	return 0
}

// trimTo returns the mark up to which entries may go, all of them at or before
// upTo: those stored before a time, and the oldest as long as more than keep
// bytes remain. ok is false if there is nothing to trim.
func (c *census) trimTo(upTo uint64, before time.Time, keep uint64) (_ mark, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	best := 0
	for i := 1; i < len(c.marks) && c.marks[i].Position <= upTo; i++ {
		tooMuch := c.head.Bytes-c.marks[best].Bytes > keep
		tooOld := c.marks[i].Unix < before.Unix()
		if !tooMuch && !tooOld {
			break
		}
		best = i
	}
	return c.marks[best], best > 0
}

// mark makes sure that there is a mark at a position, which must be on the
// stream, and returns it.
func (c *census) mark(ctx context.Context, position uint64) (mark, error) {
	c.mu.Lock()
	counted := c.head.Position
	c.mu.Unlock()
	if position > counted { // its acknowledgement was lost, or one before it is late
		if err := c.fill(ctx); err != nil {
			return mark{}, unavailable(err, "count the events up to position %d", position)
		}
	}
	m, err := c.at(ctx, position)
	if err != nil {
		return m, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, ok := slices.BinarySearchFunc(c.marks, position, byPosition); !ok {
		c.marks = slices.Insert(c.marks, i, m)
	}
	return m, nil
}

// cutting notes that entries up to a position are about to be discarded.
func (c *census) cutting(position uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = max(c.cut, position)
}

// trimmed notes that the stream now begins after a mark.
func (c *census) trimmed(to mark) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := slices.BinarySearchFunc(c.marks, to.Position, byPosition)
	if !ok {
		return
	}
	c.past = append(c.past, c.marks[:i]...)
	c.past = slices.Clone(c.past[max(0, len(c.past)-maxPast):])
	c.marks = slices.Clone(c.marks[i:])
}

// retained returns the events that the stream holds, and about what they take.
func (c *census) retained() (events, bytes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	begin := c.marks[0]
	return c.head.Events + c.aheadEvents - begin.Events, c.head.Bytes - begin.Bytes
}

// save keeps the census in the state stream.
func (c *census) save(ctx context.Context) error {
	c.saveMu.Lock()
	defer c.saveMu.Unlock()
	c.mu.Lock()
	data, err := json.Marshal(savedCensus{Head: c.head, Marks: c.marks, Past: c.past, Cut: c.cut})
	c.dirty = false
	c.mu.Unlock()
	if err != nil {
		return err
	}
	_, err = c.engine.small.send(ctx, &nats.Msg{Subject: censusSubject, Data: data}, ackTimeout)
	if err != nil {
		c.mu.Lock()
		c.touch()
		c.mu.Unlock()
	}
	return err
}

// run saves the census some time after it changed, and counts from the stream
// what was not acknowledged. An idle stream costs nothing.
func (c *census) run(ctx context.Context) {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		timer := time.NewTimer(saveEvery)
		select {
		case <-timer.C:
		case <-c.urgent:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if err := c.settle(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("census not saved, trying again", slog.Any("error", err))
		}
	}
}

// settle counts what nobody saw acknowledged, if there may be such entries,
// and saves the census. It asks for another round if one is needed.
func (c *census) settle(ctx context.Context) error {
	c.mu.Lock()
	if len(c.ahead) > 0 && c.head.Position == c.stuck {
		// What stands between is no write in flight: its acknowledgement was
		// lost, or another process wrote it.
		c.suspect = max(c.suspect, 1)
	}
	c.stuck = c.head.Position
	look := c.suspect > 0
	c.mu.Unlock()

	var err error
	if look {
		if err = c.fill(ctx); err == nil {
			c.mu.Lock()
			c.suspect--
			c.mu.Unlock()
		}
	}
	err = errors.Join(err, c.save(ctx))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.suspect > 0 || len(c.ahead) > 0 {
		c.dirty = false
		c.touch()
	}
	return err
}
