package sqstest

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Message is what is sent.
type Message struct {
	Body       string
	Attributes map[string]Attribute
	// Delay is how long it waits before it can be received, in whole seconds.
	// Zero takes the queue's. FIFO queues do not allow it.
	Delay time.Duration
	// GroupID and DeduplicationID are for FIFO queues. A GroupID on a standard
	// queue is kept and has no effect.
	GroupID, DeduplicationID string
	// TraceHeader is the AWSTraceHeader, the one system attribute that senders
	// can set.
	TraceHeader string
}

// Attribute is a message attribute. Its DataType is String, Number or Binary,
// and perhaps a dot and a label.
type Attribute struct {
	DataType    string
	StringValue string
	BinaryValue []byte
}

func (a Attribute) binary() bool {
	return a.DataType == "Binary" || strings.HasPrefix(a.DataType, "Binary.")
}

// State is where a message is in its queue.
type State int

// The states of a message.
const (
	// Waiting messages can be received, in a FIFO queue unless one of their
	// group is in flight.
	Waiting State = iota
	// Delayed messages cannot be received yet.
	Delayed
	// InFlight messages are received, not deleted, and not visible again.
	InFlight
)

// String names it.
func (s State) String() string { return [...]string{"waiting", "delayed", "in flight"}[s] }

// Received is a message with what a receive says of it.
type Received struct {
	Message
	ID string
	// Receipt is that of the last receive; empty if there was none.
	Receipt string
	// SequenceNumber has 20 digits; empty in a standard queue.
	SequenceNumber string
	// MD5OfBody and MD5OfAttributes are in hexadecimal; the latter is empty
	// without attributes.
	MD5OfBody, MD5OfAttributes string
	// SentAt and FirstReceivedAt are rounded to milliseconds on the wire; the
	// latter is zero before the first receive.
	SentAt, FirstReceivedAt time.Time
	// ReceiveCount counts receives in all queues that the message was in.
	ReceiveCount int
	// Source is the ARN of the queue from which a dead letter was moved.
	Source string
	// State and VisibleAt are those of now; VisibleAt is when a delayed message
	// or one in flight can be received (again).
	State     State
	VisibleAt time.Time
}

// senderID is that of all senders: the ID of a user.
const senderID = "AIDAEXAMPLE"

// SystemAttributes returns what MessageSystemAttributeNames can ask for, as it
// travels: in answers to ReceiveMessage and in the events of Lambda.
func (r Received) SystemAttributes() map[string]string {
	all := map[string]string{
		"SenderId":                senderID,
		"SentTimestamp":           strconv.FormatInt(r.SentAt.UnixMilli(), 10),
		"ApproximateReceiveCount": strconv.Itoa(r.ReceiveCount),
	}
	for name, value := range map[string]string{
		"SequenceNumber":           r.SequenceNumber,
		"MessageGroupId":           r.GroupID,
		"MessageDeduplicationId":   r.DeduplicationID,
		"AWSTraceHeader":           r.TraceHeader,
		"DeadLetterQueueSourceArn": r.Source,
	} {
		if value != "" {
			all[name] = value
		}
	}
	if !r.FirstReceivedAt.IsZero() {
		all["ApproximateFirstReceiveTimestamp"] = strconv.FormatInt(r.FirstReceivedAt.UnixMilli(), 10)
	}
	return all
}

// message is one that a queue holds.
type message struct {
	Message
	id, sequence            string
	bodyMD5, attributesMD5  string
	sentAt, firstReceivedAt time.Time
	receives                int
	source                  string
	number                  uint64 // in its queue, in the order of arrival
	state                   State
	receivedAt              time.Time // the last receive
	receipt                 string    // of the last receive
	visibleAt               time.Time // unless waiting
	group                   *group    // FIFO only
	place, placeByAge       int
}

func (m *message) received() Received {
	r := Received{
		Message: m.Message, ID: m.id, Receipt: m.receipt, SequenceNumber: m.sequence,
		MD5OfBody: m.bodyMD5, MD5OfAttributes: m.attributesMD5,
		SentAt: m.sentAt, FirstReceivedAt: m.firstReceivedAt, ReceiveCount: m.receives,
		Source: m.source, State: m.state,
	}
	if m.state != Waiting {
		r.VisibleAt = m.visibleAt
	}
	return r
}

func md5OfBody(body string) string {
	sum := md5.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

// md5OfAttributes is a digest of all, sorted by name:
//
//	length of name u32 | name | length of type u32 | type | 1 String, 2 Binary | length of value u32 | value
//
// with lengths in bytes, big-endian. Empty without attributes. Source: SQS
// developer guide, "Calculating the MD5 message digest for message attributes".
func md5OfAttributes(attributes map[string]Attribute) string {
	if len(attributes) == 0 {
		return ""
	}
	h := md5.New()
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a := attributes[name]
		digest(h, []byte(name))
		digest(h, []byte(a.DataType))
		if a.binary() {
			h.Write([]byte{2})
			digest(h, a.BinaryValue)
		} else {
			h.Write([]byte{1})
			digest(h, []byte(a.StringValue))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func digest(h hash.Hash, text []byte) {
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
	h.Write(text)
}
