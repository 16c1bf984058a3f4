package lambdatest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

// Position is where a mapping starts to read a stream.
type Position string

// The positions. Shards that are opened later are read from their start.
const (
	TrimHorizon Position = "TRIM_HORIZON"
	Latest      Position = "LATEST" // what is put after MapKinesis returned
	AtTimestamp Position = "AT_TIMESTAMP"
)

// KinesisSource is a mapping from a stream to a function. Its settings are those
// of CreateEventSourceMapping.
type KinesisSource struct {
	// Function is its name, with a qualifier if there is one, or its ARN.
	Function string
	// Server and Stream are what is read, without the wire: faults of the server
	// and its limits of reading do not count.
	Server *kinesistest.Server
	Stream string

	// BatchSize is the most records of an invocation. Default 100, at most
	// 10,000; the event has at most 6 MiB, whatever it says.
	BatchSize int
	// MaximumBatchingWindow is how long the first record of a batch waits for
	// others. Default 0, at most 5 minutes. A stream is read when something was
	// put there, and not once a second as by AWS.
	MaximumBatchingWindow time.Duration
	// ParallelizationFactor is how many batches of a shard are under way at
	// once, each of other partition keys. Default 1, at most 10.
	ParallelizationFactor int
	// StartingPosition is where the shards that there are now are read from, at
	// StartingTimestamp or later if it is AtTimestamp. Default TrimHorizon.
	StartingPosition  Position
	StartingTimestamp time.Time
	// MaximumRetryAttempts is how often a batch is tried again that failed. Nil
	// is without end.
	MaximumRetryAttempts *int
	// MaximumRecordAge is how old a record may be when it is tried. Default
	// without end.
	MaximumRecordAge time.Duration
	// BisectBatchOnFunctionError cuts a batch that failed in two, without use of
	// its retries: where the function says, or in the middle.
	BisectBatchOnFunctionError bool
	// ReportBatchItemFailures reads the function's answer: what stands before
	// the first item that failed is done.
	ReportBatchItemFailures bool
	// OnFailure is the name or ARN of a standard queue for records of batches
	// that were given up: where they are in the stream, not what is in them.
	OnFailure string
	// OnFailureObject takes such a record as S3 does, with the event.
	OnFailureObject func(key string, body []byte) error
}

func (c *KinesisSource) settle(s *Server) error {
	c.BatchSize = cmp.Or(c.BatchSize, 100)
	c.ParallelizationFactor = cmp.Or(c.ParallelizationFactor, 1)
	c.StartingPosition = cmp.Or(c.StartingPosition, TrimHorizon)
	switch {
	case c.Server == nil || c.Server.Changed(c.Stream) == nil:
		return fmt.Errorf("there is no stream %q", c.Stream)
	case c.BatchSize < 1 || c.BatchSize > maxKinesisBatch:
		return fmt.Errorf("a batch size of %d is not 1 to %d", c.BatchSize, maxKinesisBatch)
	case c.ParallelizationFactor < 1 || c.ParallelizationFactor > maxParallel:
		return fmt.Errorf("a parallelization factor of %d is not 1 to %d", c.ParallelizationFactor, maxParallel)
	case c.MaximumBatchingWindow < 0 || c.MaximumBatchingWindow > maxWindow:
		return fmt.Errorf("a batching window of %s is not within %s", c.MaximumBatchingWindow, maxWindow)
	case c.MaximumRetryAttempts != nil && (*c.MaximumRetryAttempts < 0 || *c.MaximumRetryAttempts > 10000):
		return fmt.Errorf("%d retries are not 0 to 10000", *c.MaximumRetryAttempts)
	case c.OnFailure != "" && (s.config.Queues == nil || strings.HasSuffix(c.OnFailure, ".fifo")):
		return fmt.Errorf("there is no standard queue %q", c.OnFailure)
	case c.StartingPosition != TrimHorizon && c.StartingPosition != Latest && c.StartingPosition != AtTimestamp:
		return fmt.Errorf("%q is no starting position", c.StartingPosition)
	}
	return nil
}

// MapKinesis starts to invoke a function with the records of a stream.
func (s *Server) MapKinesis(c KinesisSource) (*Mapping, error) {
	if err := c.settle(s); err != nil {
		return nil, err
	}
	m, err := s.newMapping(c.Function)
	if err != nil {
		return nil, err
	}
	k := &reader{
		Mapping: m, target: m.target, KinesisSource: c, arn: "arn:aws:kinesis:" + s.Region() + ":" + awstest.Account + ":stream/" + c.Stream,
		lanes: map[string][]*lane{}, finished: map[string]bool{}, after: map[string]string{}, look: make(chan struct{}, 1),
	}
	if c.StartingPosition == Latest {
		for _, sh := range c.Server.Shards(c.Stream) {
			k.after[sh.ID] = sh.LastSequence
		}
	}
	return m, m.start(k.idle, k.run)
}

// reader reads a stream.
type reader struct {
	*Mapping
	target
	KinesisSource
	arn   string
	after map[string]string // where shards are read from, if not at their start
	look  chan struct{}     // says that a shard is finished

	mu       sync.Mutex // guards what follows
	lanes    map[string][]*lane
	finished map[string]bool // shards that were read to their end
}

// run reads shards, each when those before it are finished.
func (k *reader) run() {
	var running sync.WaitGroup
	defer running.Wait()
	for k.ctx.Err() == nil {
		changed := k.Server.Changed(k.Stream)
		for _, sh := range k.Server.Shards(k.Stream) {
			k.begin(sh, &running)
		}
		k.server.note(0)
		select {
		case <-changed:
		case <-k.look:
		case <-k.ctx.Done():
		}
	}
}

// begin starts to read a shard, if that has not begun and may.
func (k *reader) begin(sh kinesistest.Shard, running *sync.WaitGroup) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lanes[sh.ID] != nil || slices.ContainsFunc(sh.Parents, func(id string) bool { return !k.finished[id] }) {
		return
	}
	left := k.ParallelizationFactor
	for i := range k.ParallelizationFactor {
		l := &lane{reader: k, shard: sh.ID, number: i, cursor: k.after[sh.ID]}
		k.lanes[sh.ID] = append(k.lanes[sh.ID], l)
		running.Go(func() {
			if !l.run() {
				return
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			if left--; left == 0 {
				k.finished[sh.ID] = true
				select {
				case k.look <- struct{}{}:
				default: // it will look anyway
				}
			}
		})
	}
}

func (k *reader) idle() bool {
	shards := k.Server.Shards(k.Stream)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, sh := range shards {
		if k.finished[sh.ID] {
			continue
		}
		if k.lanes[sh.ID] == nil || slices.ContainsFunc(k.lanes[sh.ID], func(l *lane) bool { return !l.idle() }) {
			return false
		}
	}
	return true
}

// lane is the records of a shard of which one batch at a time is under way: a
// partition key is always in the same.
type lane struct {
	*reader
	shard  string
	number int

	mu     sync.Mutex // guards what follows
	cursor string     // the last that was read
	parked bool       // it waits, and has read nothing that is not done

	pending []entry // read and not tried; only run uses it
	bytes   int     // of pending
}

// entry is a record as it stands in an event.
type entry struct {
	kinesistest.Record
	json []byte
}

// What stands around the records of an event.
const (
	eventHead = `{"Records":[`
	eventTail = `]}`
)

func (l *lane) idle() bool {
	l.mu.Lock()
	parked, cursor := l.parked, l.cursor
	l.mu.Unlock()
	if !parked {
		return false
	}
	records, ended, err := l.Server.Read(l.Stream, l.shard, cursor, 1)
	return err != nil || len(records) == 0 && !ended
}

func (l *lane) park(parked bool) {
	l.mu.Lock()
	l.parked = parked
	l.mu.Unlock()
	if parked {
		l.server.note(0)
	}
}

// run reads and delivers. It returns true at the end of the shard.
func (l *lane) run() bool {
	for {
		batch, ended := l.gather()
		if batch == nil {
			return ended
		}
		if l.deliver(batch) != nil {
			return false
		}
	}
}

// gather waits for a batch. There is none at the end of the shard, and when the
// mapping is stopped.
func (l *lane) gather() (batch []entry, ended bool) {
	var over <-chan time.Time // the end of the window, since the first record
	for l.ctx.Err() == nil {
		changed := l.Server.Changed(l.Stream)
		ended := l.read()
		switch {
		case len(l.pending) == 0 && ended:
			return nil, true
		case l.full(), len(l.pending) > 0 && (ended || l.MaximumBatchingWindow == 0):
			return l.cut(), false
		}
		switch {
		case len(l.pending) == 0:
			l.park(true)
		case over == nil:
			over = time.After(l.MaximumBatchingWindow)
		}
		select {
		case <-changed:
		case <-over:
			return l.cut(), false
		case <-l.ctx.Done():
		}
		l.park(false)
	}
	return nil, false
}

func (l *lane) full() bool {
	return len(l.pending) >= l.BatchSize || l.bytes >= maxSyncBytes
}

// read reads until there is a batch, or nothing more. It reports the end of the
// shard.
func (l *lane) read() (ended bool) {
	for !l.full() {
		records, end, err := l.Server.Read(l.Stream, l.shard, l.cursor, l.BatchSize)
		if err != nil || len(records) == 0 {
			return end // or the stream is gone: then nothing will change
		}
		for _, r := range records {
			if l.mine(r) {
				e := entry{r, l.encode(r)}
				l.pending = append(l.pending, e)
				l.bytes += len(e.json) + 1
			}
		}
		l.mu.Lock()
		l.cursor = records[len(records)-1].Sequence
		l.mu.Unlock()
	}
	return false
}

// mine reports whether the partition key of a record is of this lane.
func (l *lane) mine(r kinesistest.Record) bool {
	if r.ArrivedAt.Before(l.StartingTimestamp) && l.StartingPosition == AtTimestamp {
		return false
	}
	if l.ParallelizationFactor == 1 {
		return true
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(r.PartitionKey))
	return int(h.Sum32()%uint32(l.ParallelizationFactor)) == l.number
}

// cut takes the next batch: at least one record, however large it is.
func (l *lane) cut() []entry {
	n, bytes := 0, len(eventHead)+len(eventTail)
	for n < min(len(l.pending), l.BatchSize) {
		bytes += len(l.pending[n].json) + 1
		if n > 0 && bytes > maxSyncBytes {
			break
		}
		l.bytes -= len(l.pending[n].json) + 1
		n++
	}
	batch := slices.Clone(l.pending[:n])
	l.pending = slices.Delete(l.pending, 0, n)
	return batch
}

// piece is a batch, or what is left of it.
type piece struct {
	records []entry
	// failures count against the retries, invokes are all; refusals are since
	// the last of these.
	failures, invokes, refusals int
	// What is known of the last try.
	requestID     string
	functionError string
	refusal       *Error // if it did not run
}

// deliver invokes the function until all records are done or given up. It fails
// when the mapping is stopped.
func (l *lane) deliver(batch []entry) error {
	pieces := []piece{{records: batch}} // the last is next
	for len(pieces) > 0 && l.ctx.Err() == nil {
		last := len(pieces) - 1
		p := &pieces[last]
		if l.expire(p); len(p.records) == 0 {
			pieces = pieces[:last]
			continue
		}
		done := l.try(p)
		p.records = p.records[done:]
		var err error
		switch {
		case p.refusal == closing:
			return closing
		case len(p.records) == 0:
			pieces = pieces[:last]
			continue
		case p.refusal != nil && p.refusal.Status == http.StatusRequestEntityTooLarge:
			// What Lambda does with a record that does not fit into an event is
			// not said: we give it up, so that it does not stop the shard.
			l.discard(p, len(p.records), "RetryAttemptsExhausted")
		case p.refusal != nil:
			err = l.pause(backoff(minBackoff, maxBackoff, p.refusals))
		case l.BisectBatchOnFunctionError && done > 0: // cut where the function said
			err = l.pause(minBackoff)
		case l.BisectBatchOnFunctionError && len(p.records) > 1:
			middle := len(p.records) / 2
			second := *p
			second.records = p.records[middle:]
			first := *p
			first.records = p.records[:middle]
			pieces = append(pieces[:last], second, first)
		default:
			p.failures++
			if l.MaximumRetryAttempts != nil && p.failures > *l.MaximumRetryAttempts {
				l.discard(p, len(p.records), "RetryAttemptsExhausted")
				continue
			}
			err = l.pause(backoff(minBackoff, maxBackoff, p.failures))
		}
		if err != nil {
			return err
		}
	}
	return l.ctx.Err()
}

// try invokes the function once, and returns how many of the first records are
// done.
func (l *lane) try(p *piece) (done int) {
	payload := eventOf(p.records)
	p.requestID, p.functionError = uuid(), ""
	if p.refusal = checkSize(len(payload), maxSyncBytes); p.refusal != nil {
		return 0
	}
	age := time.Since(p.records[len(p.records)-1].ArrivedAt)
	l.count(func(s *Stats) { s.IteratorAge = max(s.IteratorAge, age) })
	var r Response
	if r, p.refusal = l.invoke(l.qualifier, p.requestID, payload); p.refusal != nil {
		p.refusals++
		return 0
	}
	p.invokes++
	p.refusals = 0
	p.functionError = r.FunctionError
	switch {
	case r.FunctionError != "":
		return 0
	case !l.ReportBatchItemFailures:
		return len(p.records)
	}
	return firstFailure(r.Payload, p.records)
}

// firstFailure returns how many records stand before the first that the function
// names. An identifier that is of none of them fails all.
func firstFailure(answer []byte, records []entry) int {
	ids, err := itemFailures(answer)
	if err != nil {
		return 0
	}
	first := len(records)
	for _, id := range ids {
		at, ok := slices.BinarySearchFunc(records, id, func(e entry, id string) int { return strings.Compare(e.Sequence, id) })
		if !ok {
			return 0
		}
		first = min(first, at)
	}
	return first
}

// expire gives up the first records if they are too old.
func (l *lane) expire(p *piece) {
	if l.MaximumRecordAge == 0 {
		return
	}
	now, n := time.Now(), 0
	for n < len(p.records) && now.Sub(p.records[n].ArrivedAt) > l.MaximumRecordAge {
		n++
	}
	if n > 0 {
		l.discard(p, n, "RecordAgeExceeded")
	}
}

// discard gives the first n records of a piece up.
func (l *lane) discard(p *piece, n int, condition string) {
	given := p.records[:n]
	p.records = p.records[n:]
	l.Mapping.mu.Lock()
	l.discarded += n
	l.Mapping.mu.Unlock()
	now := time.Now()
	if p.requestID == "" {
		p.requestID = uuid()
	}
	record := batchRecord{
		RequestContext:  requestContext{p.requestID, l.qualified(l.qualifier), condition, p.invokes},
		ResponseContext: responseContext{200, l.version(l.qualifier), p.functionError},
		Version:         "1.0", Timestamp: stamp(now),
		Batch: batchInfo{
			Shard: l.shard, Start: given[0].Sequence, End: given[n-1].Sequence,
			Arrived: stamp(given[0].ArrivedAt), Last: stamp(given[n-1].ArrivedAt),
			BatchSize: n, Stream: l.arn,
		},
	}
	if p.refusal != nil {
		record.ResponseContext.Status = p.refusal.Status
	}
	if l.OnFailure != "" {
		if err := l.server.send(l.OnFailure, record); err != nil {
			l.count(func(s *Stats) { s.DestinationDeliveryFailures++ })
		}
	}
	if l.OnFailureObject == nil {
		return
	}
	payload := string(eventOf(given))
	record.Payload = &payload
	// Made of strings and numbers: it can be marshaled.
	body, _ := json.Marshal(record)
	if err := l.OnFailureObject(objectKey(l.UUID, l.shard, now), body); err != nil {
		l.count(func(s *Stats) { s.DestinationDeliveryFailures++ })
	}
}

// objectKey is where a record of a failure is in S3:
// aws/lambda/<mapping>/<shard>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<random>.
func objectKey(mapping, shard string, now time.Time) string {
	now = now.UTC()
	return "aws/lambda/" + mapping + "/" + shard + now.Format("/2006/01/02/2006-01-02T15.04.05-") + uuid()
}

// eventOf is what the function is invoked with. Source: developer guide, "Using
// Lambda to process records from Amazon Kinesis Data Streams".
func eventOf(records []entry) []byte {
	size := len(eventHead) + len(eventTail)
	for _, e := range records {
		size += len(e.json) + 1
	}
	b := append(make([]byte, 0, size), eventHead...)
	for i, e := range records {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e.json...)
	}
	return append(b, eventTail...)
}

// encode writes a record as it stands in an event.
func (l *lane) encode(r kinesistest.Record) []byte {
	key, _ := json.Marshal(r.PartitionKey)
	b := make([]byte, 0, 512+len(key)+base64.StdEncoding.EncodedLen(len(r.Data)))
	b = append(append(b, `{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":`...), key...)
	b = append(append(b, `,"sequenceNumber":"`...), r.Sequence...)
	b = base64.StdEncoding.AppendEncode(append(b, `","data":"`...), r.Data)
	b = append(b, `","approximateArrivalTimestamp":`...)
	b = strconv.AppendFloat(b, float64(r.ArrivedAt.UnixMilli())/1000, 'f', 3, 64)
	b = append(append(b, `},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"`...), l.shard...)
	b = append(append(b, ':'), r.Sequence...)
	b = append(b, `","eventName":"aws:kinesis:record","invokeIdentityArn":"arn:aws:iam::`+awstest.Account+`:role/`...)
	b = append(append(b, l.Name...), `","awsRegion":"`...)
	b = append(append(b, l.server.Region()...), `","eventSourceARN":"`...)
	return append(append(b, l.arn...), `"}`...)
}
