package spool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
)

// The window is the part of the log that is in memory.
//
//	discarded      b.next                  read            newest
//	────┼────────────┼──────────────────────┼─────────────────┤
//	    │ on the     │ of the bucket b that │ not read yet    │
//	    │ stream, or │ is behind nothing is │                 │
//	    │ in memory  │ in memory            │                 │
//	                        ▲ cursor
//
// Normally all buckets are read up to the same position, read, in one pass:
// when the window is full the reader waits until the stream has taken some. A
// bucket that fails would stop all others so, and therefore gets but a share
// of the window: the reader passes over what exceeds it, and the bucket is
// behind. Of a bucket that is behind only the first position that it misses is
// known, which costs no memory however much there is. When it has nothing in
// memory and may be tried again, the reader goes back there and reads in a new
// pass, for it and for all that are behind and begin later. A pass that arrives
// at read has caught up those that missed nothing in it.
//
// A healthy bucket that fills more than its share while another has nothing in
// memory is treated likewise. The price is reading again: what is left behind
// is read twice, at worst once for each such bucket.
type window struct {
	size int // bytes of the records in memory
	// present are the buckets that have records in memory.
	present []*bucket
	// read is the last position that the reader has passed.
	read   uint64
	readAt time.Time // when the entry at read was stored
	// cursor is the position that the reader passed last in this pass, which
	// began at start.
	cursor, start uint64
	pass          uint64
	// wall is the position up to which everything must be on the stream before
	// the entry after read may be taken; 0 if that is not known to be so.
	wall uint64
}

// shares is how many buckets may fill the window while others need room,
// sharesOfFailing how many of those that fail.
const shares, sharesOfFailing = 4, 16

// order is what the reader does next.
type order struct {
	do    action
	after uint64        // goTo: the position to open the log after
	wait  time.Duration // pause: at most so long; negative: until woken
}

type action uint8

const (
	readOn action = iota // read the entry after the cursor
	goTo                 // begin a new pass
	pause
)

// plan decides what the reader does next.
func (s *Spool) plan(now time.Time) order {
	w := &s.window
	room := w.size < s.cfg.MaxWindowBytes
	catchingUp := w.cursor < w.read && s.anyInPass()
	hungry, wait := s.hungry(now)
	if w.wall > 0 && s.clear() >= w.wall {
		w.wall = 0
	}
	ahead := w.wall == 0
	starving := ahead && s.starving(now)
	switch {
	case catchingUp && room:
		return order{do: readOn}
	case !catchingUp && hungry > 0 && room:
		return order{do: goTo, after: hungry - 1}
	case !catchingUp && ahead && room && (starving || !s.anyBehind()):
		if w.cursor == w.read {
			return order{do: readOn}
		}
		return order{do: goTo, after: w.read}
	case (catchingUp || hungry > 0 || starving) && s.makeRoom(now):
		return s.plan(now)
	}
	return order{do: pause, wait: wait}
}

// begin begins a new pass after a position.
func (w *window) begin(after uint64) {
	w.pass++
	w.cursor, w.start = after, after+1
}

// inPass reports whether the current pass reads for a bucket that is behind.
func (s *Spool) inPass(b *bucket) bool {
	return b.behind && b.missed != s.window.pass && s.window.start <= b.next
}

func (s *Spool) anyInPass() bool {
	for _, b := range s.buckets {
		if s.inPass(b) {
			return true
		}
	}
	return false
}

func (s *Spool) anyBehind() bool {
	for _, b := range s.buckets {
		if b.behind {
			return true
		}
	}
	return false
}

// hungry returns the first position that is missed by a bucket which could go
// on and has nothing in memory, 0 if there is none, and how long until there
// may be another, negative if not by waiting.
func (s *Spool) hungry(now time.Time) (next uint64, wait time.Duration) {
	wait = -1
	for _, b := range s.buckets {
		if !b.behind || len(b.queue) > 0 {
			continue
		}
		if b.resting(now) {
			if d := b.until.Sub(now); wait < 0 || d < wait {
				wait = d
			}
			continue
		}
		if next == 0 || b.next < next {
			next = b.next
		}
	}
	return next, wait
}

// starving reports whether there are records not read yet of a bucket that
// could go on and has nothing in memory. Whose records an earlier process
// left nobody knows.
func (s *Spool) starving(now time.Time) bool {
	if s.window.read < s.barrier {
		return true
	}
	for _, b := range s.buckets {
		if !b.behind && len(b.queue) == 0 && b.unread > 0 && !b.resting(now) {
			return true
		}
	}
	return false
}

// makeRoom drops records from the window that buckets have there beyond their
// share, and, if what is left cannot go now, all of those that rest longest,
// until half of the window is free. They are read again. It returns false if
// there are none.
func (s *Spool) makeRoom(now time.Time) bool {
	if s.away || s.sender.whole > 0 {
		return false // nobody can go
	}
	before, stopped := s.window.size, true
	for _, b := range slices.Clone(s.window.present) {
		stopped = stopped && b.resting(now) && b.flying == 0
		keep, size := 0, 0
		for keep < len(b.queue) && (keep == 0 || size+sizeOf(&b.queue[keep].record) <= s.share(b)) {
			size += sizeOf(&b.queue[keep].record)
			keep++
		}
		s.cut(b, max(keep, b.flying))
	}
	if s.window.size < before {
		return true
	}
	if !stopped {
		return false
	}
	longest := slices.SortedFunc(slices.Values(s.window.present), func(a, b *bucket) int { return b.until.Compare(a.until) })
	for _, b := range longest {
		if s.window.size <= s.cfg.MaxWindowBytes/2 {
			break
		}
		s.cut(b, 0)
	}
	return s.window.size < before
}

// share is what a bucket may have in memory when others need room, and one
// record if that is more.
func (s *Spool) share(b *bucket) int {
	if b.failing.IsZero() {
		return s.cfg.MaxWindowBytes / shares
	}
	return s.cfg.MaxWindowBytes / sharesOfFailing
}

// cut drops the records of a bucket from the window but for the first few.
func (s *Spool) cut(b *bucket, keep int) {
	if keep >= len(b.queue) {
		return
	}
	s.fallBehind(b, b.queue[keep].position, b.queue[keep].storedAt)
	for _, it := range b.queue[keep:] {
		b.size -= sizeOf(&it.record)
		s.window.size -= sizeOf(&it.record)
		if !it.old {
			b.unread++
		}
	}
	clear(b.queue[keep:])
	b.queue = b.queue[:keep]
	if keep == 0 {
		s.leave(b)
	}
}

// fallBehind notes that a bucket misses its records from a position on.
func (s *Spool) fallBehind(b *bucket, position uint64, at time.Time) {
	b.behind, b.next, b.nextAt, b.missed = true, position, at, s.window.pass
}

// leave takes a bucket without records in memory out of present.
func (s *Spool) leave(b *bucket) {
	s.window.present = slices.DeleteFunc(s.window.present, func(other *bucket) bool { return other == b })
}

// take brings the records of an entry into the window, as far as their buckets
// miss them and have room. digests are of those whose bucket has copies. It
// returns false if there is a wall before the entry.
func (s *Spool) take(e stream.Entry, digests map[int][sha256.Size]byte, now time.Time) bool {
	w := &s.window
	again := e.Position <= w.read
	if wall := wallOf(e); !again && wall > 0 && s.clear() < wall {
		w.wall = wall
		return false
	}
	for i := range e.Records {
		r := e.Records[i]
		r.PartitionKey = Key(r)
		b := s.buckets[r.PartitionKey]
		switch {
		case again && (b == nil || !s.inPass(b) || e.Position < b.next), !again && b != nil && b.behind:
			continue // there already, or later
		case b == nil:
			b = s.bucketOf(r.PartitionKey)
		case s.refuses(b, &r, e.Position, again, now):
			s.fallBehind(b, e.Position, e.StoredAt)
			continue
		}
		b.forget(e.StoredAt)
		if b.behind {
			b.next, b.nextAt = e.Position+1, e.StoredAt
		}
		old := e.Position <= s.barrier
		if !old && !s.isFirst(b, &r, digests[i], e.Position) {
			s.tidy(b)
			continue
		}
		if !old {
			b.unread--
		}
		if len(b.queue) == 0 {
			w.present = append(w.present, b)
		}
		b.queue = append(b.queue, item{
			record:   stream.Record{PartitionKey: b.key, Data: bytes.Clone(r.Data), Events: r.Events},
			position: e.Position, storedAt: e.StoredAt, old: old,
		})
		b.size += sizeOf(&r)
		w.size += sizeOf(&r)
	}
	w.cursor = e.Position
	if !again {
		w.read, w.readAt = e.Position, e.StoredAt
	}
	if w.cursor == w.read {
		s.catchUp()
	}
	s.lift()
	return true
}

// refuses reports whether a record is to be passed over: its bucket has its
// share, if it fails or is behind, or had to make room.
func (s *Spool) refuses(b *bucket, r *stream.Record, position uint64, again bool, now time.Time) bool {
	if n := len(b.queue); n > 0 && b.queue[n-1].position == position {
		return false // the records of an entry stay together
	}
	if b.size == 0 {
		return b.resting(now)
	}
	return (again || !b.failing.IsZero()) && b.size+sizeOf(r) > s.share(b)
}

// isFirst decides whether a record of this process is the first copy of it,
// and counts it if its writer has not.
func (s *Spool) isFirst(b *bucket, r *stream.Record, digest [sha256.Size]byte, position uint64) bool {
	c := b.copyOf(digest)
	switch {
	case c == nil:
		if b.unread <= 0 { // a copy that came too late to be known as one
			s.count(b, r)
		}
		return true
	case c.found > 0 && c.found != position:
		return false
	}
	c.found = position
	if !c.counted {
		c.counted = true
		s.count(b, r)
	}
	return true
}

// catchUp ends a pass that has arrived where the others are.
func (s *Spool) catchUp() {
	for _, b := range s.buckets {
		if s.inPass(b) {
			b.behind = false
			s.tidy(b)
		}
	}
}

// lift ends the barrier when all that an earlier process left is on the stream.
func (s *Spool) lift() {
	if s.barrier == 0 || s.clear() < s.barrier {
		return
	}
	s.logger.Info("what an earlier run left in the spool is on the stream")
	s.bytes -= s.oldSize // what the log takes beside the records
	s.barrier, s.oldSize = 0, 0
	wake(s.wakeReader)
}

// clear returns the position up to which everything is on the stream.
func (s *Spool) clear() uint64 {
	upTo := s.window.read
	for _, b := range s.buckets {
		if position, _ := b.oldest(); position > 0 {
			upTo = min(upTo, position-1)
		}
	}
	return upTo
}

// lookAgain is how often the reader looks whether somebody has fallen behind
// while it waits for an entry that should be there.
const lookAgain = time.Second

// read reads the log into the window until ctx is done.
func (s *Spool) read(ctx context.Context) {
	var reader stream.Reader
	closeReader := func() {
		if reader != nil {
			_ = reader.Close() // nothing was written through it
			reader = nil
		}
	}
	defer closeReader()
	failures := 0
	for ctx.Err() == nil {
		s.mu.Lock()
		next := s.plan(time.Now())
		if next.do == goTo {
			s.window.begin(next.after)
		}
		cursor, patient := s.window.cursor, !s.anyBehind()
		s.mu.Unlock()

		var err error
		switch next.do {
		case pause:
			sleep(ctx, s.wakeReader, next.wait)
			continue
		case goTo:
			closeReader()
		}
		if reader == nil {
			reader, err = s.log.Open(ctx, cursor)
		}
		taken := false
		if err == nil {
			taken, err = s.readOne(ctx, reader, patient)
		}
		if !taken {
			closeReader() // the entry that it read last comes again
		}
		if err == nil || ctx.Err() != nil {
			failures = 0
			continue
		}
		if failures++; failures == 1 {
			s.logger.Error("the spool cannot be read, trying again", slog.Uint64("after", cursor), slog.Any("error", err))
		}
		if fault.KindOf(err) == fault.NotFound {
			s.passOver(ctx)
		}
		_ = retry.Sleep(ctx, s.cfg.Retry.Delay(failures, 0)) // the loop looks at ctx
	}
}

// readOne reads an entry into the window. If it is not patient it waits only
// for a while.
func (s *Spool) readOne(ctx context.Context, reader stream.Reader, patient bool) (taken bool, err error) {
	next := ctx
	if !patient {
		var cancel context.CancelFunc
		next, cancel = context.WithTimeout(ctx, lookAgain)
		defer cancel()
	}
	e, err := reader.Next(next)
	if err != nil {
		if next.Err() != nil && errors.Is(err, next.Err()) {
			return false, nil
		}
		return false, err
	}
	digests := s.digests(e)
	s.mu.Lock()
	taken = s.take(e, digests, time.Now())
	s.mu.Unlock()
	wake(s.wakeSender)
	wake(s.wakeSweeper)
	return taken, nil
}

// digests returns those of the records whose bucket has copies. A record that
// is in the log was registered before it was written.
func (s *Spool) digests(e stream.Entry) map[int][sha256.Size]byte {
	var which []int
	s.mu.Lock()
	for i := range e.Records {
		if b := s.buckets[Key(e.Records[i])]; b != nil && len(b.copies) > 0 {
			which = append(which, i)
		}
	}
	s.mu.Unlock()
	digests := make(map[int][sha256.Size]byte, len(which))
	for _, i := range which {
		digests[i] = sha256.Sum256(e.Records[i].Data)
	}
	return digests
}

// passOver goes on where the log does, after entries were lost from it. Their
// events stay in Spooled, for they have not arrived.
func (s *Spool) passOver(ctx context.Context) {
	first, err := s.log.First(ctx)
	if err != nil || first == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.window
	for _, b := range s.buckets {
		if b.behind {
			b.next = max(b.next, first)
		}
	}
	w.read = max(w.read, first-1)
	w.begin(w.read)
	s.logger.Error("entries are missing from the spool", slog.Uint64("first", first))
}

// sleep waits until woken or ctx is done, or for a time if that is not negative.
func sleep(ctx context.Context, woken <-chan struct{}, d time.Duration) {
	var timeout <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-woken:
	case <-timeout:
	case <-ctx.Done():
	}
}
