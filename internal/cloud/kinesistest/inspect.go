package kinesistest

import (
	"slices"
	"time"
)

// Shard is a shard as tests look at it.
type Shard struct {
	ID      string
	Open    bool
	Parents []string
	// StartingHashKey and EndingHashKey are what it takes, both included, in
	// decimal.
	StartingHashKey, EndingHashKey string
	// LastSequence is the number of the last record that it took, for Read to
	// start behind; if there was none, that of the place before the first.
	LastSequence string
}

// Shards returns all shards of a stream, open and closed, in the order in which
// they were opened; none if there is no such stream.
func (s *Server) Shards(stream string) []Shard {
	var out []Shard
	_ = s.with(stream, func(st *kstream) *Error {
		for _, sh := range st.shards {
			out = append(out, Shard{
				ID:              sh.id,
				Open:            sh.closed.IsZero(),
				Parents:         sh.asChild().ParentShards,
				StartingHashKey: sh.start.String(),
				EndingHashKey:   sh.end.String(),
				LastSequence:    sh.last(),
			})
		}
		return nil
	})
	return out
}

// Records returns what a stream holds: shard after shard, in the order in which
// those were opened, and within a shard in the order of the sequence numbers.
// The caller does not change their data.
func (s *Server) Records(stream string) []Record {
	var out []Record
	_ = s.with(stream, func(st *kstream) *Error {
		for _, sh := range st.shards {
			out = append(out, sh.records...)
		}
		return nil
	})
	return out
}

// Split splits an open shard in the middle of its hash range.
func (s *Server) Split(stream, shard string) error {
	return s.with(stream, func(st *kstream) *Error {
		sh := st.shard(shard)
		if sh == nil {
			return noShard(shard, stream)
		}
		return st.split(sh, sh.middle(), time.Now())
	})
}

// Merge merges two open shards that are neighbours.
func (s *Server) Merge(stream, shard, adjacent string) error {
	return s.with(stream, func(st *kstream) *Error {
		a, b := st.shard(shard), st.shard(adjacent)
		switch {
		case a == nil:
			return noShard(shard, stream)
		case b == nil:
			return noShard(adjacent, stream)
		}
		_, err := st.merge(a, b, time.Now())
		return err
	})
}

// Resize makes a number of shards of even width, as UpdateShardCount does.
func (s *Server) Resize(stream string, shards int) error {
	return s.with(stream, func(st *kstream) *Error { return st.resize(shards, time.Now()) })
}

// Trim forgets all records of a stream, as the end of their retention does.
func (s *Server) Trim(stream string) error {
	return s.with(stream, func(st *kstream) *Error {
		for _, sh := range st.shards {
			sh.records = nil
		}
		st.signal()
		return nil
	})
}

// SetStatus puts a stream into a state, such as "CREATING", "DELETING" or
// "ACTIVE", and keeps it there.
func (s *Server) SetStatus(stream, name string) error {
	return s.with(stream, func(st *kstream) *Error {
		if !slices.Contains([]status{creating, active, updating, deleting}, status(name)) {
			return badArgument("a stream has no status " + name)
		}
		st.change, st.until = status(name), time.Now().AddDate(100, 0, 0)
		return nil
	})
}

// with does something to a stream while nothing else does.
func (s *Server) with(stream string, do func(*kstream) *Error) error {
	st := s.lookup(stream)
	if st == nil {
		return noStream(stream)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := do(st); err != nil {
		return err
	}
	return nil
}
