package fanout

// memo remembers what destinations have taken of records that will be read
// again, so that one destination that fails does not multiply the events of
// the others. It lives as long as the process; without it they get events
// twice, which their ids make harmless.
type memo struct {
	taken map[taken]state
}

// taken is one event at one destination; target is empty for an event that
// could not be read.
type taken struct {
	shard, sequence string
	sub             uint32
	target          string
}

// maxMemo is when a memo starts anew, in entries of about 150 bytes: those of
// batches that another process has settled stay in it.
const maxMemo = 100_000

// recall marks what was settled by an earlier reading of the same records.
func (b *batch) recall() {
	m := &b.f.memo
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	if len(m.taken) == 0 {
		return
	}
	for i := range b.events {
		if e := &b.events[i]; e.letter != nil {
			e.state = m.taken[b.place(e, "")]
		}
	}
	for t := range b.items {
		for i := range b.items[t] {
			it := &b.items[t][i]
			it.state = m.taken[b.place(&b.events[it.event], b.targets[t].name)]
		}
	}
}

func (b *batch) place(e *read, target string) taken {
	rec := &b.records[e.record]
	return taken{shard: rec.Shard, sequence: rec.Sequence, sub: e.sub, target: target}
}

// remember keeps what is settled from the record on that will be read again,
// and forgets what will not.
func (b *batch) remember(first int) {
	m := &b.f.memo
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	if first == len(b.records) && len(m.taken) == 0 {
		return
	}
	if m.taken == nil || len(m.taken) > maxMemo {
		m.taken = map[taken]state{}
	}
	keep := func(e *read, target string, s state) {
		if s != unsettled && int(e.record) >= first {
			m.taken[b.place(e, target)] = s
		} else {
			delete(m.taken, b.place(e, target))
		}
	}
	for i := range b.events {
		if e := &b.events[i]; e.letter != nil {
			keep(e, "", e.state)
		}
	}
	for t := range b.items {
		for i := range b.items[t] {
			it := &b.items[t][i]
			keep(&b.events[it.event], b.targets[t].name, it.state)
		}
	}
}
