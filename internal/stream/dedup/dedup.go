// Package dedup stores an event once that is sent several times under one id.
//
// It stands between the gateway and the producer. Before an event is put on the
// stream it claims its id (that of the sender, within its source; an id that
// the gateway has made comes once and is not looked at):
//
//   - The id is new: the event goes to the stream, and what becomes of it there
//     is remembered. Not stored: the id is free again.
//   - An event with this id is stored: this one is as durable as that one, and
//     is not written. It is a duplicate.
//   - An event with this id is on its way: this one waits for its fate, and is
//     then a duplicate, or claims the id itself. An event may be on its way for
//     longer than its sender waits; until its fate is known, whoever sends it
//     again is told that it is not known.
//
// # What is promised
//
// Within the window, counted from when an event was claimed, no other event
// with its id is written to the stream, whoever sends it and however often. An
// answer stays true: a duplicate is reported as such only when the event is
// durable. This holds
//
//   - in one process, at all times;
//   - on one machine, where the process reads the stream it writes (Config.Log),
//     also across restarts, kill -9 at any moment included: Open has read the
//     journal, and from the stream what is newer, before it returns;
//   - elsewhere (Kinesis) across restarts that are clean. A crash forgets the
//     ids that came since the last Save, and those whose fate was unknown when
//     the process ended. Each gateway has a memory of its own: an event that is
//     sent again to another gateway is stored again. What the stream behind
//     repeats by itself, since a call had an unknown outcome, it repeats still.
//
// while the memory has room for the ids of a window. If it has not, the oldest
// leave early, and Stats says how far back it reaches. An id is never taken for
// a duplicate that was not stored; it may be for a segment (a 64th) of the
// window after its end, and after a restart for as long as was between two
// calls of Save.
//
// Order: events of one partition key reach the stream in the order in which Put
// took them, but for one that waited for another with its id, in vain.
//
// # What an id can be used for
//
// Write keys are public. Who has one can claim ids of its source, and so keep
// out an event whose id he knows before it is sent, and he can fill the memory.
// So ids that can be guessed belong to sources of their own, which is what a key
// has unless it says otherwise. He cannot make one id pass for another, nor
// make others wait by choosing ids: see memory.
package dedup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
)

// Stream is where events go that were not stored before.
type Stream interface {
	// PutAndTell stores the events of a batch but for those that Batch.Skip
	// names, and returns nil when all are durable. Otherwise Batch.Err says of
	// each whether it is: fault.Throttled, Unavailable, TooLarge and Invalid,
	// that it is not and will not be; any other kind, that this is not known.
	// later is called once for each of the latter, when it is known after all
	// (err as above, nil if the event is durable, spooled if that is in a
	// spool) or never will be: perhaps before PutAndTell returns, perhaps
	// after. When it returns, by the end of ctx at the latest, the batch is
	// the caller's again.
	PutAndTell(ctx context.Context, b *stream.Batch, later func(event int, spooled bool, err error)) error
}

// Config of a Filter.
type Config struct {
	// Window is how long an id is remembered, at least MinWindow.
	Window time.Duration
	// MemoryBytes bounds the memory: 22.4 bytes for each id. At least MinMemory;
	// default 64 MiB, which is for 3.0 million ids.
	MemoryBytes int
	// Dir is the folder of the journal, which is made if it is not there. It
	// holds at most as many ids as the memory, and a quarter more. Empty: a
	// restart forgets everything.
	Dir string
	// Stream names the stream that events go to. A journal of another one is of
	// no use.
	Stream string
	// Log is the stream, where this process can read it. It must keep what is
	// newer than Filter.Covered.
	Log Log
	// Logger is told what happens to the journal. Default: nobody.
	Logger *slog.Logger

	// write is for tests: it writes to files of the journal.
	write func(file writer, data []byte) error
}

const (
	// MinWindow is the shortest window.
	MinWindow = time.Second
	// MinMemory is the smallest memory, in bytes.
	MinMemory     = 1 << 20
	defaultMemory = 64 << 20
)

// Validate reports every setting that cannot be used.
func (c Config) Validate() error {
	var faults []error
	if c.Window < MinWindow {
		faults = append(faults, fmt.Errorf("Window is %v: want %v or more", c.Window, MinWindow))
	}
	if c.MemoryBytes != 0 && c.MemoryBytes < MinMemory {
		faults = append(faults, fmt.Errorf("MemoryBytes is %d: want %d or more", c.MemoryBytes, MinMemory))
	}
	if c.Log != nil && c.Dir == "" {
		faults = append(faults, errors.New("a Log is of use only with a Dir"))
	}
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	if c.MemoryBytes == 0 {
		c.MemoryBytes = defaultMemory
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Filter is a stream that keeps duplicates from another. Its methods are safe
// for concurrent use.
type Filter struct {
	next   Stream
	intake *ledger.Intake
	cfg    Config
	log    *slog.Logger
	memory *memory
	begun  time.Time // see now

	calls sync.Pool // of *call
	// epoch and calling count the calls under way, see settledPosition.
	epoch   atomic.Uint64
	calling [2]atomic.Int64

	duplicates atomic.Uint64
	waiting    atomic.Int64

	// saving is held by Open, Save and Close. The fields below are theirs.
	saving  sync.Mutex
	journal *journal // nil: there is none
	opened  bool
	tide    tide
	ids     []byte // memory that flush uses again
	covered atomic.Uint64
	// whole is the time since which every id is known, but for those that had to
	// leave the memory of an earlier process before the time lost.
	whole, lost atomic.Int64
}

// New returns a Filter in front of a stream, which counts duplicates in intake;
// what it hands on is counted there. Open comes before the first Put.
func New(next Stream, intake *ledger.Intake, cfg Config) (*Filter, error) {
	if next == nil || intake == nil {
		return nil, errors.New("dedup: a stream and an intake are needed")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	f := &Filter{
		next: next, intake: intake, cfg: cfg, log: cfg.Logger,
		memory: newMemory(int64(cfg.Window), cfg.MemoryBytes),
		begun:  time.Now(),
	}
	f.calls.New = func() any {
		c := &call{filter: f}
		c.later = c.settleLate
		return c
	}
	return f, nil
}

// now is the time in nanoseconds since 1970. While the process runs it does not
// follow a clock that is set.
func (f *Filter) now() int64 { return f.begun.UnixNano() + int64(time.Since(f.begun)) }

// Capacity returns how many ids the memory has room for.
func (f *Filter) Capacity() int { return f.memory.capacity() }

// call is one call of the stream, and the claims of its events. It lives until
// the fate of all is known.
type call struct {
	filter *Filter
	epoch  uint64
	claims []claim // ascending by event
	waits  []waiting
	// refs counts the events whose fate is not known, with and without a claim,
	// and the call itself.
	refs atomic.Int64
	// spooled says that some event in it is, or that of a duplicate.
	spooled bool
	later   func(event int, spooled bool, err error) // settleLate
}

// waiting is an event that waits for the fate of another.
type waiting struct {
	event int32
	key   key
	wait  *wait
}

// errWaited is the error of an event that waited in vain.
var errWaited = fault.New(fault.Ambiguous, "an event with the same id is on its way, and it was not known in time whether it is stored")

// Put stores the events of a batch that were not stored before, and returns nil
// when all are durable. Otherwise it returns the first error, and Batch.Err
// says of each event why it is not, as that of the stream does. Batch.Duplicates
// says how many were stored before. Put waits as long as ctx allows.
func (f *Filter) Put(ctx context.Context, b *stream.Batch) error {
	if b.OwnIDs() == 0 {
		return f.next.PutAndTell(ctx, b, nil)
	}
	c := f.begin()
	for i := range b.Len() {
		if b.OwnID(i) {
			c.name(b, i)
		}
	}
	c.claim(b)
	failed, spooled, waits := c.put(ctx, b)
	for len(waits) > 0 {
		// What waits now goes on alone: the rest has its answer.
		again := f.await(ctx, b, waits)
		failed = failed || again.n < again.of
		if again.n == 0 {
			break
		}
		c = f.begin()
		for i := range b.Len() {
			if !b.Skipped(i) {
				c.name(b, i)
			}
		}
		c.claim(b)
		var failedNow, spooledNow bool
		failedNow, spooledNow, waits = c.put(ctx, b)
		failed, spooled = failed || failedNow, spooled || spooledNow
	}
	b.SetSpooled(spooled)
	if !failed {
		return nil
	}
	for i := range b.Len() {
		if err := b.Err(i); err != nil {
			return err
		}
	}
	return nil
}

// begin returns a call without claims.
func (f *Filter) begin() *call {
	c := f.calls.Get().(*call)
	for {
		c.epoch = f.epoch.Load()
		f.calling[c.epoch%2].Add(1)
		if f.epoch.Load() == c.epoch {
			return c
		}
		f.calling[c.epoch%2].Add(-1) // settledPosition was faster
	}
}

// name notes an event whose id is to be claimed, if it has one.
func (c *call) name(b *stream.Batch, i int) {
	identity, ok := b.Identity(i)
	if !ok {
		return
	}
	k := keyOf(identity)
	c.claims = append(c.claims, claim{key: k, hash: c.filter.memory.hash(k), event: int32(i)})
}

// claim claims the ids of the events that were named. Those that cannot have
// theirs are skipped: they are duplicates, or have to wait.
func (c *call) claim(b *stream.Batch) {
	f, m := c.filter, c.filter.memory
	for i := range c.claims {
		m.touch(c.claims[i].hash)
	}
	named, now, duplicates := c.claims, f.now(), 0
	c.claims = c.claims[:0]
	for _, n := range named {
		number, st, w := m.claim(n.key, n.hash, now)
		switch {
		case w != nil:
			b.Skip(int(n.event), true)
			c.waits = append(c.waits, waiting{event: n.event, key: n.key, wait: w})
		case st.isStored():
			b.Skip(int(n.event), true)
			b.Fail(int(n.event), nil)
			b.MarkDuplicate(int(n.event))
			c.spooled = c.spooled || st == spooled
			duplicates++
		default:
			n.number = number
			c.claims = append(c.claims, n)
		}
	}
	if duplicates > 0 {
		f.duplicates.Add(uint64(duplicates))
		f.intake.Duplicate(duplicates)
	}
}

// put puts the events of a batch on the stream that are not skipped, and
// settles the claims. It returns the events that have to wait for others.
func (c *call) put(ctx context.Context, b *stream.Batch) (failed, spool bool, waits []waiting) {
	f := c.filter
	spool = c.spooled
	if len(c.waits) > 0 {
		waits = slices.Clone(c.waits)
		f.waiting.Add(int64(len(waits)))
	}
	events, _ := b.Load()
	c.refs.Store(int64(events) + 1)
	known := int64(1)
	if events > 0 {
		failed = f.next.PutAndTell(ctx, b, c.later) != nil
		spool = spool || b.Spooled()
		known += int64(c.settle(b))
	}
	c.release(known)
	return failed, spool, waits
}

// settle settles the claims of a batch that was put, as far as the fate of its
// events is known, and returns of how many events it is.
func (c *call) settle(b *stream.Batch) (known int) {
	f := c.filter
	st, now := storedState(b.Spooled()), f.now()
	next := 0 // of the claims
	for i := range b.Len() {
		if b.Skipped(i) {
			continue
		}
		err := b.Err(i)
		isKnown := err == nil || notStored(err)
		if isKnown {
			known++
		}
		if next == len(c.claims) || c.claims[next].event != int32(i) {
			continue // the gateway has made its id
		}
		switch {
		case err == nil:
			f.memory.settle(&c.claims[next], st, now)
		case isKnown:
			f.memory.settle(&c.claims[next], released, now)
		default: // settleLate
		}
		next++
	}
	return known
}

// notStored tells the errors of an event that was not stored and will not
// be.
func notStored(err error) bool {
	switch fault.KindOf(err) {
	case fault.Throttled, fault.Unavailable, fault.TooLarge, fault.Invalid:
		return true
	}
	return false
}

// settleLate is told what became of an event that Put had to leave unknown.
func (c *call) settleLate(event int, spool bool, err error) {
	f := c.filter
	if err != nil && !notStored(err) {
		// Nobody will know before the stream is read again. The id stays
		// claimed, and the call stays under way: the journal does not pass it.
		return
	}
	st := released
	if err == nil {
		st = storedState(spool)
	}
	if i, ok := slices.BinarySearchFunc(c.claims, int32(event), func(cl claim, event int32) int { return int(cl.event - event) }); ok {
		f.memory.settle(&c.claims[i], st, f.now())
	}
	c.release(1)
}

// release gives up references. The last one gives up the call.
func (c *call) release(n int64) {
	if c.refs.Add(-n) > 0 {
		return
	}
	f := c.filter
	f.calling[c.epoch%2].Add(-1)
	if cap(c.claims)+cap(c.waits) > keepClaims {
		c.claims, c.waits = nil, nil
	}
	clear(c.waits)
	c.claims, c.waits, c.spooled = c.claims[:0], c.waits[:0], false
	f.calls.Put(c)
}

// keepClaims is the most claims that a call keeps memory for.
const keepClaims = 4096

// awaited says how many events of those that waited go on.
type awaited struct{ n, of int }

// await waits for the fates that events wait for, and makes the batch skip all
// others. Events whose time is over fail.
func (f *Filter) await(ctx context.Context, b *stream.Batch, waits []waiting) awaited {
	for i := range b.Len() {
		b.Skip(i, true)
	}
	over := 0
	for _, w := range waits {
		select {
		case <-w.wait.done:
		default:
			select {
			case <-w.wait.done:
			case <-ctx.Done():
				f.memory.leave(w.key, w.wait)
				b.Fail(int(w.event), errWaited)
				f.intake.Rejected(ledger.Unavailable, 1)
				over++
				continue
			}
		}
		b.Skip(int(w.event), false)
	}
	f.waiting.Add(-int64(len(waits)))
	return awaited{n: len(waits) - over, of: len(waits)}
}

// Waiting returns how many events wait for the fate of others.
func (f *Filter) Waiting() int { return int(f.waiting.Load()) }

// Stats are the figures of a Filter.
type Stats struct {
	// Entries are the ids in memory, of Capacity at most. EvictedEarly is how
	// many had to leave before their window was over.
	Entries, Capacity int
	EvictedEarly      uint64
	// Window is how far back the memory reaches, at most Config.Window: an event
	// that is sent again later than this may be stored again.
	Window time.Duration
	// Duplicates were not stored again.
	Duplicates uint64
	// Waiting is what the method of that name returns.
	Waiting int
	// Covered is what the method of that name returns.
	Covered uint64
}

// Stats returns the figures of this moment.
func (f *Filter) Stats() Stats {
	now := f.now()
	k := f.memory.known(now)
	return Stats{
		Entries: k.entries, Capacity: f.memory.capacity(), EvictedEarly: k.early,
		Window:     time.Duration(min(int64(f.cfg.Window), max(0, now-max(k.lost, f.lost.Load(), f.whole.Load())))),
		Duplicates: f.duplicates.Load(),
		Waiting:    f.Waiting(),
		Covered:    f.Covered(),
	}
}
