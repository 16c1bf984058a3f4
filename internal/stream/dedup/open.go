package dedup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/stream"
)

// Log is the stream where it can be read.
type Log interface {
	// First returns the position of the oldest entry; if there is none, the
	// position after the newest that there was.
	First(ctx context.Context) (uint64, error)
	// Last returns the position of the newest entry that there was, 0 if none.
	Last(ctx context.Context) (uint64, error)
	// Before returns the position before the oldest entry that was stored at or
	// after a time; that of the newest if there is none.
	Before(ctx context.Context, t time.Time) (uint64, error)
	// Open returns a reader of the entries after a position. A fault.NotFound,
	// here or from the reader, says that entries which should come next are not
	// there any more.
	Open(ctx context.Context, after uint64) (stream.Reader, error)
}

// found is what a journal holds, as its heads say.
type found struct {
	any  bool  // there is a block
	last block // the newest
	// resume is the position up to which no block is missing.
	resume uint64
	// gap says that blocks are missing after it; foreign, that there are blocks
	// of another stream; damaged, that some bytes are no block.
	gap, foreign, damaged bool
}

// Open reads what earlier processes have left: the journal and, where there is
// a Log, the events that are newer. It returns an error only if the stream
// cannot be read or ctx is done; a journal that is damaged, or that cannot be
// read or written, costs memory of the past at most, and is logged. It is
// called once, before the first Put.
func (f *Filter) Open(ctx context.Context) error {
	f.saving.Lock()
	defer f.saving.Unlock()
	if f.opened {
		return errors.New("dedup: Open called twice")
	}
	f.opened = true
	f.whole.Store(f.now())
	if f.cfg.Dir == "" {
		return nil
	}
	j, names, err := newJournal(f.cfg.Dir, f.memory.capacity(), int64(f.cfg.Window))
	if err != nil {
		f.log.Error("the journal of ids cannot be used: a restart will forget them", slog.Any("error", err))
		if f.cfg.Log == nil {
			return nil
		}
		return f.recall(ctx, nil, found{})
	}
	if f.cfg.write != nil {
		j.write = f.cfg.write
	}
	f.journal = j
	was, err := f.look(ctx, j, names)
	if err != nil {
		return err
	}
	if was.foreign {
		f.log.Warn("the journal of ids is that of another stream, and is not used", slog.String("folder", j.dir))
	}
	switch {
	case was.gap || was.damaged && !was.any:
		f.log.Warn("the journal of ids is damaged, and some are missing", slog.String("folder", j.dir))
	case was.damaged:
		f.log.Info("the journal of ids ends in a block that is torn, as a crash leaves it", slog.String("folder", j.dir))
	}
	if f.cfg.Log != nil {
		return f.recall(ctx, j, was)
	}
	f.recallAlone(j, was)
	return nil
}

// look reads the heads of all blocks.
func (f *Filter) look(ctx context.Context, j *journal, names []string) (was found, err error) {
	stream := f.streamHash()
	for _, name := range names {
		file := journalFile{name: name}
		err := f.blocks(j, name, func(b block, _ []byte) {
			if b.stream != stream {
				was.foreign = true
				return
			}
			switch {
			case was.any && b.serial > was.last.serial+1:
				was.gap = true
			case !was.any && was.damaged:
				was.gap = true // nobody knows which one comes first
			}
			if !was.gap {
				was.resume = b.position
			}
			was.any, was.last = true, b
			if file.count == 0 && file.from == 0 {
				file.from = b.at
			}
			file.count += b.count
			file.at = b.at
		})
		if err != nil {
			was.damaged = true
		}
		if ctx.Err() != nil {
			return was, ctx.Err()
		}
		if file.at != 0 {
			j.files = append(j.files, file)
		} else if err := j.remove([]string{name}); err != nil { // nothing of use in it
			f.log.Warn("a file of the journal of ids is not removed", slog.Any("error", err))
		}
	}
	if was.any && f.cfg.Log != nil {
		last, err := f.cfg.Log.Last(ctx)
		if err != nil {
			return was, fmt.Errorf("deduplication: %w", err)
		}
		if was.last.position > last {
			// As good as another stream: what the journal knows is not on it.
			was = found{foreign: true}
			f.discard(j)
		}
	}
	j.last = was.last
	return was, nil
}

// discard removes all files.
func (f *Filter) discard(j *journal) {
	for _, file := range j.files {
		if err := j.remove([]string{file.name}); err != nil {
			f.log.Warn("a file of the journal of ids is not removed", slog.Any("error", err))
		}
	}
	j.files = nil
}

// blocks calls yield with the blocks of a file, up to the first that is none.
func (f *Filter) blocks(j *journal, name string, yield func(block, []byte)) error {
	file, err := os.Open(filepath.Join(j.dir, name))
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	r := bufio.NewReaderSize(file, 64<<10)
	for {
		b, ids, err := readBlock(r, &j.ids)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		yield(b, ids)
	}
}

// take puts the ids of the journal into the memory, up to the first block that
// reaches further than a position of the stream.
func (f *Filter) take(j *journal, upTo uint64) {
	now, stream, enough := f.now(), f.streamHash(), false
	f.lost.Store(j.last.lost)
	for _, file := range j.files {
		// What look has not read is not here either.
		_ = f.blocks(j, file.name, func(b block, ids []byte) {
			if b.stream != stream || enough {
				return
			}
			for i := range b.count {
				f.memory.remember(keyAt(ids, i), min(b.at, now), now)
			}
			enough = b.position > upTo
		})
	}
	for i := range f.memory.shards {
		s := &f.memory.shards[i]
		s.drained(s.drain(func(key) {})) // they are in the journal
	}
}

// recallAlone takes what the journal holds, where nothing else is known.
func (f *Filter) recallAlone(j *journal, was found) {
	f.take(j, math.MaxUint64)
	if was.any && was.last.clean && !was.gap {
		f.whole.Store(was.known())
	} else if was.any {
		f.log.Warn("the last process was not stopped cleanly: ids that came shortly before its end are forgotten")
	}
	// From here on a crash leaves a journal that does not say it is all.
	if err := f.add(nil, 0, f.now(), false); err != nil {
		f.log.Warn("the journal of ids is not kept", slog.Any("error", err))
	}
}

// known is since when the journal knows every id.
func (was *found) known() int64 {
	if !was.any {
		return math.MaxInt64
	}
	return max(was.last.whole, was.last.at-was.last.window)
}

// recall takes what the journal holds, and reads from the stream what is newer,
// or missing. j is nil if there is no journal.
func (f *Filter) recall(ctx context.Context, j *journal, was found) error {
	begun, log := f.now(), f.cfg.Log
	oldest := begun - int64(f.cfg.Window)
	first, err := log.First(ctx)
	if err != nil {
		return fmt.Errorf("deduplication: %w", err)
	}
	last, err := log.Last(ctx)
	if err != nil {
		return fmt.Errorf("deduplication: %w", err)
	}
	from, err := log.Before(ctx, time.Unix(0, oldest))
	if err != nil {
		return fmt.Errorf("deduplication: %w", err)
	}
	// What the stream does not hold any more may have been of the window, if
	// all that it holds is.
	trimmed := from+1 == first && first > 1
	whole := was.known()
	switch {
	case whole <= oldest: // the usual start
		trimmed = trimmed && was.resume+1 < first
		from = max(from, was.resume)
		f.take(j, math.MaxUint64)
		if !trimmed {
			f.whole.Store(whole)
		}
	case trimmed && was.any && !was.gap && was.resume+1 >= first:
		// The journal is younger than the window, or the window was shorter, and
		// the stream knows no more than it does.
		trimmed = false
		f.take(j, from)
	default:
		// Everything that the stream still has comes from there.
		if whole = oldest; j != nil {
			f.take(j, from)
			f.lost.Store(0)
		}
	}
	read, oldestRead, err := f.read(ctx, j, from, last)
	if err != nil {
		return err
	}
	if trimmed {
		if whole = begun; oldestRead > 0 {
			whole = oldestRead
		}
	}
	f.whole.Store(whole)
	f.log.Info("deduplication knows the ids of the past", slog.Int("entries", f.memory.known(begun).entries),
		slog.Int("read_from_stream", read), slog.Duration("took", time.Duration(f.now()-begun)))
	if j == nil {
		return nil
	}
	if err := f.flush(last, f.now(), false); err != nil {
		f.log.Warn("the journal of ids is not kept", slog.Any("error", err))
		last = was.resume
	}
	f.covered.Store(last)
	return nil
}

// read takes the ids of the entries after a position, and up to another one.
// It returns how many events it saw and when the first of them was stored.
func (f *Filter) read(ctx context.Context, j *journal, after, last uint64) (events int, oldest int64, err error) {
	if after >= last {
		return 0, 0, nil
	}
	reader, err := f.cfg.Log.Open(ctx, after)
	if err != nil {
		return 0, 0, fmt.Errorf("deduplication: read the stream after %d: %w", after, err)
	}
	defer reader.Close() //nolint:errcheck // it was only read
	for unsaved := 0; after < last; {
		entry, err := reader.Next(ctx)
		if err != nil {
			return events, oldest, fmt.Errorf("deduplication: read the stream after %d: %w", after, err)
		}
		at, now := entry.StoredAt.UnixNano(), f.now()
		if oldest == 0 {
			oldest = at
		}
		for _, r := range entry.Records {
			for _, data := range stream.Deaggregate(r) {
				events++
				if id, ok := event.IdentityOf(data); ok {
					f.memory.remember(keyOf(id), min(at, now), now)
					unsaved++
				}
			}
		}
		after = entry.Position
		if j != nil && unsaved >= mostIDs {
			// So that each is kept with about its own time. Until the end the
			// journal says that it does not know all.
			unsaved = 0
			if err := f.flush(after, at, false); err != nil {
				f.log.Warn("the journal of ids is not kept", slog.Any("error", err))
			}
		}
	}
	return events, oldest, nil
}

// streamHash is what blocks say of the stream.
func (f *Filter) streamHash() uint64 {
	sum := sha256.Sum256([]byte(f.cfg.Stream))
	return binary.LittleEndian.Uint64(sum[:])
}
