package kinesistest

import "slices"

// Read returns up to most records of a shard that stand behind a sequence
// number, or behind its start if that is empty, and whether the shard ends with
// them: it is closed, and nothing follows. What was trimmed is passed over. It
// is GetRecords without the wire: no limit, no iterator and no fault is in its
// way. The caller does not change the data.
func (s *Server) Read(stream, shard, after string, most int) (records []Record, ended bool, err error) {
	err = s.with(stream, func(st *kstream) *Error {
		sh := st.shard(shard)
		if sh == nil {
			return noShard(shard, stream)
		}
		next := 0
		if after != "" {
			n, ok := sh.position(after)
			if !ok || n > sh.count {
				return badArgument("sequence number " + after + " is not of shard " + shard)
			}
			next = n
		}
		next = max(next, sh.trimmed()) - sh.trimmed()
		end := min(next+most, len(sh.records))
		records = slices.Clone(sh.records[next:end])
		ended = end == len(sh.records) && !sh.closed.IsZero()
		return nil
	})
	return records, ended, err
}

// Changed returns a channel that is closed when something is next stored in a
// stream, or trimmed, or a shard opened or closed, or the stream deleted. Who
// takes it before a look at the stream misses nothing. There is none, nil, if
// the stream does not exist.
func (s *Server) Changed(stream string) (changed <-chan struct{}) {
	_ = s.with(stream, func(st *kstream) *Error {
		if st.changed == nil {
			st.changed = make(chan struct{})
		}
		changed = st.changed
		return nil
	})
	return changed
}

// signal wakes those who wait for a change.
func (st *kstream) signal() {
	if st.changed != nil {
		close(st.changed)
		st.changed = nil
	}
}

// last returns the number of the last record that a shard took.
func (sh *shard) last() string {
	if n := len(sh.records); n > 0 {
		return sh.records[n-1].Sequence
	}
	return sh.sequence(sh.count, sh.opened)
}
