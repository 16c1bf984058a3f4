package dedup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/eventsluice/sluice/internal/retry"
)

// tide is a position of the stream that is to be passed: when the calls are over
// that were under way when it was the newest, everything up to it is settled.
type tide struct {
	position uint64
	epoch    uint64
	rising   bool // there is one
}

// tideWait is how long Save waits for the calls under way, which take as long as
// a write: those that take longer are left to the next Save.
const tideWait = 200 * time.Millisecond

// Save writes to the journal what has come since the last time. It is to be
// called every few seconds: that is what a start reads from the stream, or what
// a crash forgets.
func (f *Filter) Save(ctx context.Context) error {
	f.saving.Lock()
	defer f.saving.Unlock()
	return f.save(ctx, false)
}

// Close is the last Save, when nothing is put any more and the stream behind
// has ended.
func (f *Filter) Close(ctx context.Context) error {
	f.saving.Lock()
	defer f.saving.Unlock()
	return f.save(ctx, true)
}

func (f *Filter) save(ctx context.Context, last bool) error {
	if f.journal == nil {
		return f.give(ctx)
	}
	position := uint64(0)
	if f.cfg.Log != nil {
		var err error
		if position, err = f.settledPosition(ctx); err != nil {
			return errors.Join(fmt.Errorf("deduplication: %w", err), f.give(ctx))
		}
	}
	clean := false
	if last {
		var err error
		if clean, err = quiet(ctx, func() bool { return f.calling[0].Load()+f.calling[1].Load() == 0 }); err != nil {
			return fmt.Errorf("deduplication: %w", err)
		}
	}
	now := f.now()
	if err := f.flush(position, now, clean); err != nil {
		return errors.Join(fmt.Errorf("deduplication: %w", err), f.give(ctx))
	}
	f.covered.Store(position)
	err := f.journal.prune(now, int64(f.cfg.Window), f.memory.capacity())
	if last {
		err = errors.Join(err, f.journal.close())
	}
	return err
}

// give covers what is older than the window, where the journal is not to be had:
// the stream must not grow without end for it.
func (f *Filter) give(ctx context.Context) error {
	if f.cfg.Log == nil {
		return nil
	}
	before, err := f.cfg.Log.Before(ctx, time.Unix(0, f.now()-int64(f.cfg.Window)))
	if err != nil {
		return err
	}
	f.covered.Store(max(f.covered.Load(), before))
	return nil
}

// Covered returns the position of the stream up to which a start needs nothing
// of it: entries after it are to be kept. Where there is no Log it is the
// largest number.
func (f *Filter) Covered() uint64 {
	if f.cfg.Log == nil {
		return math.MaxUint64
	}
	return f.covered.Load()
}

// settledPosition returns a position of the stream that no event which is under
// way can stand at or before: the fate of all up to it is in the memory.
//
// Events claim their ids before they are put. So what stands at or before the
// newest position was claimed before we asked for it, by calls of the epoch of
// then or before, and when those are over it is settled.
func (f *Filter) settledPosition(ctx context.Context) (uint64, error) {
	passed := f.covered.Load()
	if f.tide.rising {
		if over, err := f.turned(ctx); !over {
			return passed, err
		}
		passed = f.tide.position
	}
	newest, err := f.cfg.Log.Last(ctx)
	if err != nil {
		return passed, err
	}
	f.tide = tide{position: newest, epoch: f.epoch.Load(), rising: true}
	f.epoch.Store(f.tide.epoch + 1)
	over, err := f.turned(ctx)
	if over {
		passed = newest
	}
	return passed, err
}

// turned waits a moment for the calls of the tide's epoch, and returns whether
// they are over.
func (f *Filter) turned(ctx context.Context) (bool, error) {
	over, err := quiet(ctx, func() bool { return f.calling[f.tide.epoch%2].Load() == 0 })
	if over {
		f.tide.rising = false
	}
	return over, err
}

// quiet waits a moment for something to become true, and returns whether it is.
func quiet(ctx context.Context, is func() bool) (bool, error) {
	for waited := time.Duration(0); !is(); waited += time.Millisecond {
		if waited >= tideWait {
			return false, nil
		}
		if err := retry.Sleep(ctx, time.Millisecond); err != nil {
			return false, err
		}
	}
	return true, nil
}

// flush writes the ids that are not in the journal yet. Those of all events up
// to a position are in the memory, and none is of an event that came after at.
func (f *Filter) flush(position uint64, at int64, clean bool) error {
	fresh := make([]uint32, len(f.memory.shards))
	ids := f.ids[:0]
	defer func() { f.ids = ids[:0] }()
	for i := range f.memory.shards {
		fresh[i] = f.memory.shards[i].drain(func(k key) { ids = k.append(ids) })
		for len(ids) > mostIDs*idBytes {
			rest := len(ids) - mostIDs*idBytes
			if err := f.add(ids[rest:], f.journal.last.position, at, false); err != nil {
				return err
			}
			ids = ids[:rest]
		}
	}
	if last := f.journal.last; len(ids) > 0 || last.serial == 0 || position != last.position || clean != last.clean {
		if err := f.add(ids, position, at, clean); err != nil {
			return err
		}
	}
	for i := range fresh {
		f.memory.shards[i].drained(fresh[i])
	}
	return nil
}

// add writes a block.
func (f *Filter) add(ids []byte, position uint64, at int64, clean bool) error {
	return f.journal.add(block{
		position: position, at: at, whole: f.whole.Load(), lost: max(f.lost.Load(), f.memory.known(f.now()).lost),
		window: int64(f.cfg.Window), stream: f.streamHash(), clean: clean,
	}, ids)
}
