package spool

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

var _ producer.Stream = (*Spool)(nil)

// PutRecords writes each record to the stream, or to the log behind those of
// its bucket. A record with Spooled is in the log.
func (s *Spool) PutRecords(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
	direct, toLog := s.divide(records)
	if len(toLog) == 0 {
		return s.try(ctx, records, direct, make([]stream.Result, len(records)))
	}
	results := make([]stream.Result, len(records))
	var group sync.WaitGroup
	if len(direct) > 0 {
		group.Go(func() { _, _ = s.try(ctx, records, direct, results) }) // errors are in its results too
	}
	s.write(ctx, records, toLog, results)
	group.Wait()
	return results, nil
}

// divide decides where each record goes. For those that go to the log, their
// bucket is noted as being written.
func (s *Spool) divide(records []stream.Record) (direct, toLog []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.barrier > 0 || s.away && s.waiting > 0
	for i := range records {
		b := s.buckets[records[i].PartitionKey]
		if !all && (b == nil || !b.spooled()) {
			direct = append(direct, i)
			continue
		}
		s.bucketOf(records[i].PartitionKey).writing++
		toLog = append(toLog, i)
	}
	return direct, toLog
}

// try writes records, given by their index, to the stream, and to the log what
// has failed there for long enough. If nothing is known of any, it returns an
// error as well.
func (s *Spool) try(ctx context.Context, records []stream.Record, direct []int, results []stream.Result) ([]stream.Result, error) {
	call := records
	if len(direct) < len(records) {
		call = make([]stream.Record, len(direct))
		for i, n := range direct {
			call[i] = records[n]
		}
	}
	callCtx, cancel := s.callContext(ctx)
	began := time.Now()
	got, err := callStream(callCtx, s.stream, call)
	cancel()
	for i, n := range direct {
		if err != nil {
			results[n] = stream.Result{Err: &fault.Error{Kind: fault.Ambiguous, Detail: "the stream did not say whether it stored the events", Err: err}}
		} else {
			results[n] = got[i]
		}
	}
	toLog := s.judge(records, direct, results, absence(err, got), began)
	if len(toLog) > 0 {
		s.write(ctx, records, toLog, results)
		return results, nil
	}
	if err != nil {
		return nil, err
	}
	return results, nil
}

// callContext bounds a call to the stream so that a caller with a deadline has
// time left for the log.
func (s *Spool) callContext(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := s.cfg.CallTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)*3/4)
	}
	return context.WithTimeout(ctx, timeout)
}

// callStream makes a call, and an error of results that are not one for each
// record.
func callStream(ctx context.Context, s producer.Stream, records []stream.Record) ([]stream.Result, error) {
	results, err := s.PutRecords(ctx, records)
	if err == nil && len(results) != len(records) {
		err = fmt.Errorf("stream returned %d results for %d records", len(results), len(records))
	}
	return results, err
}

// judge notes what became of records on the stream, and returns those that go
// to the log now: their bucket has been failing for long enough. It is noted
// as being written.
func (s *Spool) judge(records []stream.Record, direct []int, results []stream.Result, absent error, began time.Time) (toLog []int) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observe(absent, results, direct, began, now)
	for _, n := range direct {
		key, err := records[n].PartitionKey, results[n].Err
		if err == nil || fault.KindOf(err) == fault.TooLarge {
			if b := s.buckets[key]; b != nil {
				b.rested()
				s.tidy(b)
			}
			continue
		}
		b := s.bucketOf(key)
		if b.failing.IsZero() {
			b.failing = began
		}
		if s.away || now.Sub(b.failing) >= s.cfg.Patience {
			b.writing++
			toLog = append(toLog, n)
		}
	}
	return toLog
}

// absence returns why the outcome of a call is a sign that the stream is away,
// nil if it is none: the call failed as a whole, or every record of it was
// refused for no fault or limit of its own, as where nothing can be reached.
func absence(whole error, results []stream.Result) error {
	if whole != nil || len(results) == 0 {
		return whole
	}
	for i := range results {
		if err := results[i].Err; err == nil || fault.KindOf(err) != fault.Unavailable {
			return nil
		}
	}
	return results[0].Err
}

// observe looks for signs that the stream is away, or back.
func (s *Spool) observe(absent error, results []stream.Result, direct []int, began, now time.Time) {
	if absent != nil {
		if s.failing.IsZero() {
			s.failing = began
		}
		if !s.away && now.Sub(s.failing) >= s.cfg.Patience {
			s.away = true
			s.logger.Warn("the stream is away: events go to the spool", slog.Any("error", absent))
		}
		return
	}
	for _, n := range direct {
		if results[n].Err == nil {
			s.back(now)
			return
		}
	}
	if !s.away {
		s.failing = time.Time{}
	}
}

// back notes that the stream took a record.
func (s *Spool) back(now time.Time) {
	if s.away {
		s.logger.Info("the stream is back", slog.Duration("away", now.Sub(s.failing)))
	}
	s.away, s.failing = false, time.Time{}
}

// write writes records, given by their index, to the log. What is known of
// them so far is in results; a record that neither the stream nor the log is
// known to have not stored stays unknown.
func (s *Spool) write(ctx context.Context, records []stream.Record, toLog []int, results []stream.Result) {
	entry := make([]stream.Record, len(toLog))
	copies := make([]*copied, len(toLog))
	for i, n := range toLog {
		entry[i] = records[n]
		copies[i] = &copied{digest: sha256.Sum256(records[n].Data)}
	}
	s.register(entry, copies)
	// From here the records in entry may have another key: see wall.go.
	got, err := s.log.PutRecords(ctx, entry)
	if err == nil && len(got) != len(entry) {
		err = fmt.Errorf("log returned %d results for %d records", len(got), len(entry))
	}

	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Writes++
	var refused error
	for i, n := range toLog {
		r, before := &records[n], results[n].Err
		cause := err
		if err == nil {
			cause = got[i].Err
		}
		fate := fateOf(cause, err != nil)
		switch fate {
		case stored:
			results[n] = stream.Result{Spooled: true}
			s.stats.Written += uint64(eventsOf(r))
			if before != nil && fateOf(before, false) == unknown {
				s.stats.Repeated += uint64(eventsOf(r))
			}
		case notStored:
			s.stats.Refusals++
			refused = cause
			if before == nil || fateOf(before, false) != unknown {
				results[n].Err = &fault.Error{Kind: fault.Unavailable, Detail: "neither the stream nor the spool takes the event", Err: cause}
			}
		case unknown:
			s.stats.Doubts++
			refused = cause
			results[n].Err = &fault.Error{Kind: fault.Ambiguous, Detail: "the spool did not say whether it stored the event", Err: cause}
		}
		s.written(s.buckets[r.PartitionKey], r, copies[i], fate, now)
	}
	if refused != nil && !s.refusing {
		s.logger.Error("the spool does not take events", slog.Any("error", refused))
	}
	s.refusing = refused != nil
	wake(s.wakeReader)
}

// register makes copies known to the reader before they can be in the log, and
// puts the barrier into the records. One whose last write is in doubt is the
// same one again.
func (s *Spool) register(records []stream.Record, copies []*copied) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range records {
		b := s.buckets[records[i].PartitionKey]
		if s.barrier > 0 {
			records[i].PartitionKey = withWall(b.key, s.barrier)
		}
		if b.doubtful {
			if same := b.copyOf(copies[i].digest); same != nil {
				copies[i] = same
				continue
			}
		}
		b.copies = append(b.copies, copies[i])
	}
}

// written notes the outcome of a write of a record to the log.
func (s *Spool) written(b *bucket, r *stream.Record, c *copied, fate fate, now time.Time) {
	b.writing--
	switch fate {
	case stored:
		if b.waiting == 0 {
			b.failing = time.Time{} // from here on it is the drain that fails, or not
		}
		if !c.counted {
			c.counted = true
			s.count(b, r)
		}
		b.doubtful = false
		for _, older := range b.copies {
			if older.settled.IsZero() {
				older.settled = now
			}
		}
	case unknown:
		b.doubtful, c.doubted = true, true
		c.settled = time.Time{}
	case notStored:
	}
	if !c.doubted {
		b.drop(c)
	}
	b.forget(s.window.readAt)
	s.tidy(b)
}

// fate is what is known of a record after a write.
type fate uint8

const (
	stored fate = iota
	notStored
	unknown
)

// fateOf classifies the outcome of a write. whole says that the call failed as
// a whole: then nothing is known, whatever kind of error it was.
func fateOf(err error, whole bool) fate {
	if err == nil {
		return stored
	}
	switch fault.KindOf(err) {
	case fault.Throttled, fault.Unavailable, fault.TooLarge:
		if !whole {
			return notStored
		}
	}
	return unknown
}
