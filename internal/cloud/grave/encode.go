package grave

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
)

// Attributes of messages, for people.
const (
	attrDestination = "Destination"
	attrClass       = "Class"
	attrEventName   = "EventName"
	attrEventID     = "EventID"
	attrError       = "ErrorMessage"
)

// Sizes of attributes, in bytes.
const (
	maxText = 1 << 10
	maxName = 256
)

// Encode makes a letter a message: its JSON, with the bytes of the event as they
// are, and attributes for people and filters. Group and Dedup are set, for
// queues that need them. A letter that is too large for a message is a
// fault.TooLarge.
func Encode(l deadletter.Letter) (queue.Message, error) {
	if len(l.Event) > 0 && !(utf8.Valid(l.Event) && json.Valid(l.Event)) {
		l.Event, l.Raw = nil, l.Event
	}
	e := l.Event
	l.Event = nil
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(l); err != nil {
		return queue.Message{}, fmt.Errorf("letter %s: %w", l.ID, err)
	}
	body := bytes.TrimSpace(b.Bytes())
	if len(e) > 0 {
		body = append(body[:len(body)-1], `,"event":`...)
		body = append(append(body, e...), '}')
	}
	m := queue.Message{
		Body: queue.Body(body),
		Attributes: map[string]string{
			attrDestination: text(l.Destination, maxName),
			attrClass:       text(l.Class, maxName),
			attrEventName:   text(l.EventName, maxName),
			attrEventID:     text(l.EventID, maxName),
			attrError:       text(l.Message, maxText),
		},
		Group: group(l.PartitionKey),
		Dedup: digest(l.ID, l.Destination, strconv.FormatInt(l.LastTry.UnixNano(), 10), strconv.Itoa(l.Attempts)),
	}
	size := len(m.Body)
	for name, value := range m.Attributes {
		size += len(name) + len("String") + len(value)
	}
	if size > queue.MaxBytes {
		return queue.Message{}, fault.New(fault.TooLarge, "letter %s: a message of %d bytes, and SQS takes %d", l.ID, size, queue.MaxBytes)
	}
	return m, nil
}

// text makes a text the value of an attribute: at most n bytes, of characters
// that SQS takes.
func text(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\uFFFE' || r == '\uFFFF' {
			return utf8.RuneError
		}
		return r // of invalid bytes: utf8.RuneError
	}, s)
	return deadletter.Clip(s, n)
}

// group returns the message group of a partition key: that of package invoke.
func group(partitionKey string) string {
	return hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, event.Hash(partitionKey)))
}

// digest makes parts one text of 64 characters that FIFO queues compare.
func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		_, _ = h.Write(append([]byte(part), 0)) // never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}
