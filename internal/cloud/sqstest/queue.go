package sqstest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// account is the owner of all queues.
const account = awstest.Account

// Limits of the service. Source: API reference, CreateQueue, SendMessage,
// SendMessageBatch, ReceiveMessage, ChangeMessageVisibility.
const (
	maxBatch      = 10      // entries, and messages of a receive
	maxBytes      = 1 << 20 // of a message and of a batch: bodies and attributes
	minMaxBytes   = 1 << 10
	maxVisibility = 12 * time.Hour
	maxDelay      = 15 * time.Minute
	minRetention  = time.Minute
	maxRetention  = 14 * 24 * time.Hour
	maxWait       = 20 * time.Second
	maxReceives   = 1000
	dedupWindow   = 5 * time.Minute
	maxInFlight   = 120000

	defaultReceives = 10
	afterDelete     = time.Minute // before a queue of that name can be created, and between purges
	maxName         = 80
)

// Queue is what a queue is created with. A name that ends in ".fifo" makes it a
// FIFO queue.
type Queue struct {
	Name string
	// VisibilityTimeout is how long a received message is hidden from others.
	// Default 30 s.
	VisibilityTimeout time.Duration
	// Delay is how long a message waits before it can be received. Default 0.
	Delay time.Duration
	// Retention is how long a message is kept. Default 4 days.
	Retention time.Duration
	// ReceiveWait is how long a receive that does not say waits for a message.
	// Default 0.
	ReceiveWait time.Duration
	// MaxMessageBytes is the largest message. Default 1 MiB.
	MaxMessageBytes int
	// MaxReceives is how often a message is received before it goes to
	// DeadLetterQueue, which names a queue that exists. Default 10 with such a
	// queue.
	MaxReceives     int
	DeadLetterQueue string
	// ContentDeduplication gives messages of a FIFO queue the SHA-256 of their
	// body as the deduplication id, if they have none.
	ContentDeduplication bool
	// DeduplicationByGroup compares deduplication ids within a message group
	// only. Default within the queue.
	DeduplicationByGroup bool
}

// settings are what can be changed of a queue.
type settings struct {
	visibility, delay, retention, wait time.Duration
	maxBytes                           int
	maxReceives                        int
	deadLetters                        string // ARN; empty for none
	contentDedup, dedupByGroup         bool
	throughputByGroup                  bool              // has no effect
	others                             map[string]string // kept and not acted upon
}

var defaults = settings{visibility: 30 * time.Second, retention: 4 * 24 * time.Hour, maxBytes: maxBytes, others: map[string]string{"SqsManagedSseEnabled": "true"}}

func fifo(name string) bool { return strings.HasSuffix(name, ".fifo") }

func validName(name string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	base := strings.TrimSuffix(name, ".fifo")
	return base != "" && len(name) <= maxName && strings.Trim(base, allowed) == ""
}

// queue is a queue and what it holds. The server's mutex guards all of it.
type queue struct {
	settings
	name, arn         string
	id                uint64 // in receipts
	fifo              bool
	created, modified time.Time
	purged            time.Time // when the last purge began
	tags              map[string]string
	limit             int           // of messages in flight
	changed           chan struct{} // see watch; nil while nobody asks

	messages map[uint64]*message // all, by number
	last     uint64              // number that was given
	ages     pile[*message]      // all, oldest first
	ready    pile[*message]      // standard: those that can be received, in order
	due      pile[*message]      // delayed and in flight, those first that come (back) first
	inFlight int

	groups    map[string]*group // FIFO: those that have messages
	available pile[*group]      // those of them that a receive may take from
	dedup     map[string]*sent  // what was sent in the deduplication window
	dedupAges []*sent           // the same, oldest first
}

// group is the messages of a FIFO queue with the same MessageGroupId. While one
// of them is in flight none is received.
type group struct {
	ready    pile[*message] // in order
	inFlight int
	total    int // delayed ones too
	place    int // in available, or -1
}

// sent is what a FIFO queue remembers of a message to know its duplicates.
type sent struct {
	key          string
	at           time.Time
	id, sequence string
}

func byNumber() pile[*message] {
	return pile[*message]{
		before: func(a, b *message) bool { return a.number < b.number },
		place:  func(m *message) *int { return &m.place },
	}
}

func newQueue(name, arn string, s settings, limit int, now time.Time) *queue {
	return &queue{
		settings: s, name: name, arn: arn, id: rand.Uint64(), fifo: fifo(name), limit: limit,
		created: now, modified: now,
		messages: map[uint64]*message{},
		ready:    byNumber(),
		ages: pile[*message]{
			before: func(a, b *message) bool {
				return cmp.Or(a.sentAt.Compare(b.sentAt), cmp.Compare(a.number, b.number)) < 0
			},
			place: func(m *message) *int { return &m.placeByAge },
		},
		due: pile[*message]{
			before: func(a, b *message) bool {
				return cmp.Or(a.visibleAt.Compare(b.visibleAt), cmp.Compare(a.number, b.number)) < 0
			},
			place: func(m *message) *int { return &m.place },
		},
		groups: map[string]*group{},
		available: pile[*group]{
			before: func(a, b *group) bool { return a.ready.first().number < b.ready.first().number },
			place:  func(g *group) *int { return &g.place },
		},
		dedup: map[string]*sent{},
	}
}

// watch returns a channel that is closed when a message may be receivable sooner
// than it was.
func (q *queue) watch() <-chan struct{} {
	if q.changed == nil {
		q.changed = make(chan struct{})
	}
	return q.changed
}

// signal wakes those who wait for messages, to look again.
func (q *queue) signal() {
	if q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
}

// advance does what time has done since the last look: messages expire, delays
// and visibility timeouts end.
func (q *queue) advance(now time.Time) {
	for q.ages.Len() > 0 && !q.expiry(q.ages.first()).After(now) {
		q.remove(q.ages.first())
	}
	for q.due.Len() > 0 && !q.due.first().visibleAt.After(now) {
		m := q.due.first()
		q.leave(m)
		q.enter(m, Waiting)
	}
	for len(q.dedupAges) > 0 && now.Sub(q.dedupAges[0].at) >= dedupWindow {
		delete(q.dedup, q.dedupAges[0].key)
		q.dedupAges = q.dedupAges[1:]
	}
}

func (q *queue) expiry(m *message) time.Time { return m.sentAt.Add(q.retention) }

// next is when advance has something to do; zero if never, unless something
// else happens.
func (q *queue) next() time.Time {
	if q.ages.Len() == 0 {
		return time.Time{}
	}
	at := q.expiry(q.ages.first())
	if q.due.Len() > 0 && q.due.first().visibleAt.Before(at) {
		at = q.due.first().visibleAt
	}
	return at
}

// receivable reports whether a receive would find something.
func (q *queue) receivable() bool {
	return q.inFlight < q.limit && (q.ready.Len() > 0 || q.available.Len() > 0)
}

// add takes a message over, as the last of its queue.
func (q *queue) add(m *message, visibleAt, now time.Time) {
	q.last++
	m.number = q.last
	m.visibleAt = visibleAt
	q.messages[m.number] = m
	q.ages.add(m)
	if q.fifo {
		m.group = q.groups[m.GroupID]
		if m.group == nil {
			m.group = &group{ready: byNumber(), place: -1}
			q.groups[m.GroupID] = m.group
		}
		m.group.total++
	}
	if visibleAt.After(now) {
		q.enter(m, Delayed)
	} else {
		q.enter(m, Waiting)
	}
	q.signal()
}

// remove forgets a message.
func (q *queue) remove(m *message) {
	q.leave(m)
	delete(q.messages, m.number)
	q.ages.remove(m)
	if g := m.group; g != nil {
		if g.total--; g.total == 0 {
			delete(q.groups, m.GroupID)
		}
	}
}

// enter gives a message a state, when it is in none.
func (q *queue) enter(m *message, s State) {
	m.state = s
	switch {
	case s != Waiting:
		q.due.add(m)
	case q.fifo:
		q.regroup(m.group, func(g *group) { g.ready.add(m) })
	default:
		q.ready.add(m)
	}
	if s == InFlight {
		q.inFlight++
		if q.fifo {
			q.regroup(m.group, func(g *group) { g.inFlight++ })
		}
	}
}

// leave takes a message out of its state.
func (q *queue) leave(m *message) {
	switch {
	case m.state != Waiting:
		q.due.remove(m)
	case q.fifo:
		q.regroup(m.group, func(g *group) { g.ready.remove(m) })
	default:
		q.ready.remove(m)
	}
	if m.state == InFlight {
		q.inFlight--
		if q.fifo {
			q.regroup(m.group, func(g *group) { g.inFlight-- })
		}
	}
}

// regroup changes a group, and its place among those that can be received from.
func (q *queue) regroup(g *group, change func(*group)) {
	if g.place >= 0 {
		q.available.remove(g)
		g.place = -1
	}
	change(g)
	if g.inFlight == 0 && g.ready.Len() > 0 {
		q.available.add(g)
	}
}

// nextSequence returns the number of a message in a FIFO queue: 20 digits.
func (s *Server) nextSequence() string {
	s.sequence++
	return fmt.Sprintf("188%017d", 49496460467696128+s.sequence<<8)
}

// createQueue adds a queue. The caller holds s.mu.
func (s *Server) createQueue(c Queue) *Error {
	set := settings{
		visibility:   cmp.Or(c.VisibilityTimeout, defaults.visibility),
		delay:        c.Delay,
		retention:    cmp.Or(c.Retention, defaults.retention),
		wait:         c.ReceiveWait,
		maxBytes:     cmp.Or(c.MaxMessageBytes, defaults.maxBytes),
		contentDedup: c.ContentDeduplication,
		dedupByGroup: c.DeduplicationByGroup,
		others:       defaults.others,
	}
	if c.DeadLetterQueue != "" {
		set.deadLetters, set.maxReceives = s.ARN(c.DeadLetterQueue), cmp.Or(c.MaxReceives, defaultReceives)
	}
	return s.addQueue(c.Name, set, nil)
}

// addQueue adds a queue with settings, or finds one that has the same.
func (s *Server) addQueue(name string, set settings, tags map[string]string) *Error {
	now := time.Now()
	if !validName(name) {
		return badValue("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
	}
	if err := s.checkSettings(name, set); err != nil {
		return err
	}
	if old := s.queues[name]; old != nil {
		if differs := old.differs(&set); differs != "" {
			return refuse("QueueNameExists", "A queue already exists with the same name and a different value for attribute %s", differs)
		}
		return nil
	}
	if at, ok := s.deleted[name]; ok && now.Sub(at) < afterDelete {
		return refuse("QueueDeletedRecently", "You must wait 60 seconds after deleting a queue before you can create another with the same name.")
	}
	q := newQueue(name, s.ARN(name), set, cmp.Or(s.config.MaxInFlight, maxInFlight), now)
	q.tags = tags
	s.queues[name] = q
	return nil
}

// purge forgets all messages.
func (q *queue) purge() {
	for _, m := range slices.Clone(q.ages.items) {
		q.remove(m)
	}
}
