package event

import (
	"bytes"
	"encoding/json"
	"math"
)

// Form is how the events of a request body stand next to each other.
type Form uint8

const (
	// JSON is one document: an event, an array of events, or an object that
	// holds them in its member "events".
	JSON Form = iota
	// NDJSON is one event on each line. Empty lines are passed over.
	NDJSON
)

// FormOf guesses the form of a body: it is NDJSON if it has more than one line,
// of which the first is a document of its own.
func FormOf(body []byte) Form {
	line, rest, _ := bytes.Cut(body, []byte("\n"))
	if len(bytes.TrimSpace(rest)) > 0 && json.Valid(line) {
		return NDJSON
	}
	return JSON
}

// SentReader takes a request body apart into events, each read as by ParseSent,
// in one pass: validating an event is what finds its end.
//
//	r.Reset(body, event.JSON, lim)
//	for {
//		ok, invalid, raw := r.Next(&e)
//		if !ok {
//			break
//		}
//		if invalid != nil {
//			… // this event is refused; raw is what was sent
//			continue
//		}
//		… // use e
//	}
//	if err := r.Err(); err != nil {
//		… // nothing of the body may be accepted
//	}
//
// A JSON document is a batch if it is an array, or an object in which a member
// "events" that is an array comes before any member "name". The other members
// of such an object are ignored, only their grammar is checked; but if one of
// them is a name that is not null, the object is an event just as well, and
// because neither reading may lose what the other keeps, the document is
// refused as CodeAmbiguous. Any other document is one event.
//
// The zero value is ready for Reset; a reader keeps its memory, about 16 KiB,
// from one body to the next. It is not safe for concurrent use.
type SentReader struct {
	s    scanner
	lim  Limits
	form Form
	body []byte
	err  *Invalid

	state readerState
	shape shape
	next  int // offset in body of what Next looks at
	line  int // the line of next, counted from 0; NDJSON only
}

type readerState uint8

const (
	atStart   readerState = iota // before the document
	atElement                    // before an event
	behind                       // behind an event
	atLine                       // before a line
	done
)

// shape is what a JSON document turned out to be.
type shape uint8

const (
	single   shape = iota // one event
	array                 // of events
	envelope              // an object with an array of events
)

// Reset makes r read body, which must not change until the last event read
// from it is out of use. A byte order mark at its start is passed over.
func (r *SentReader) Reset(body []byte, form Form, lim Limits) {
	r.body, r.form, r.lim = body, form, lim.withDefaults()
	r.s.b, r.s.flaw = body, flaw{}
	r.s.trim()
	r.err, r.state, r.shape, r.next, r.line = nil, atStart, single, 0, 0
	if form == NDJSON {
		r.state = atLine
	}
	if bytes.HasPrefix(body, bom) {
		r.next = len(bom)
	}
	if len(body) > math.MaxUint32 {
		r.fail(&Invalid{Code: CodeTooLarge, Detail: "the body has more than 4 GiB"})
	}
}

// Next reads the next event, good or bad. It returns false behind the last one
// and when the rest cannot be read: Err tells the one from the other. If
// invalid is nil the event is in e; otherwise e means nothing and invalid says
// what is wrong with this event alone. raw is the event as sent.
//
// The strings of e and raw share memory with the body.
func (r *SentReader) Next(e *Event) (ok bool, invalid *Invalid, raw []byte) {
	for {
		switch r.state {
		case atStart:
			r.start()
		case atElement:
			return r.element(e)
		case behind:
			r.delimiter()
		case atLine:
			if line, ok := r.cutLine(); ok {
				invalid, raw = r.readLine(e, line)
				return true, invalid, raw
			}
		case done:
			return false, nil, nil
		}
	}
}

// Err returns why the body as a whole is refused, or nil: a JSON document that
// is malformed anywhere, behind events that were good as well, or ambiguous.
// It is known only when Next has returned false. A line of NDJSON that is
// malformed is an event that is invalid.
func (r *SentReader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

func (r *SentReader) fail(invalid *Invalid) {
	r.err, r.state = invalid, done
}

// malformed ends the document with the flaw that the scanner has found.
func (r *SentReader) malformed() { r.fail(r.s.flaw.invalid(r.body, 0, 0, 0)) }

// start finds out what the document is and goes to its first event.
func (r *SentReader) start() {
	s := &r.s
	i, c := s.token(r.next)
	r.next, r.state = i, atElement
	switch c {
	case '[':
		r.shape = array
	case '{':
		events := s.eventsIn(i)
		if events < 0 {
			return
		}
		r.shape, i = envelope, events
	default:
		return
	}
	if r.next, c = s.token(i + 1); c == ']' {
		r.end()
	}
}

// eventsIn returns where the array "events" of the object at i begins, -1 if
// the object is no batch. It reads no further than to the array or the name.
func (s *scanner) eventsIn(i int) int {
	i, c := s.token(i + 1)
	for c == '"' {
		name, value := s.nameLeniently(i)
		if value < 0 {
			return -1
		}
		i, c = s.token(value)
		if string(name) == "name" && c != 'n' {
			return -1
		}
		if string(name) == "events" {
			if c == '[' {
				return i
			}
			return -1
		}
		if i = s.skip(i); i < 0 {
			return -1
		}
		if i, c = s.token(i); c != ',' {
			return -1
		}
		i, c = s.token(i + 1)
	}
	return -1
}

// nameLeniently reads the name of a member and the colon, checking the grammar
// only.
func (s *scanner) nameLeniently(i int) (name []byte, next int) {
	i, c := s.token(i)
	if c != '"' {
		return nil, s.syntax(i, whyName)
	}
	s.lenient = true
	end, escaped := s.str(i + 1)
	s.lenient = false
	if end < 0 {
		return nil, -1
	}
	name = s.b[i+1 : end-1]
	if escaped {
		name = unquoted(nil, name)
	}
	return name, s.colon(end)
}

// element reads the event at r.next.
func (r *SentReader) element(e *Event) (ok bool, invalid *Invalid, raw []byte) {
	begin := r.next
	end, invalid := r.s.read(e, begin, r.lim, false)
	if end < 0 {
		r.malformed()
		return false, nil, nil
	}
	r.next, r.state = end, behind
	return true, invalid, r.body[begin:end:end]
}

// delimiter reads what stands behind an event of a document.
func (r *SentReader) delimiter() {
	if r.shape == single {
		r.nothing(r.next)
		return
	}
	i, c := r.s.token(r.next)
	switch c {
	case ',':
		r.next, _ = r.s.token(i + 1)
		r.state = atElement
	case ']':
		r.next = i
		r.end()
	default:
		r.s.syntax(i, whyArray)
		r.malformed()
	}
}

// end reads from the bracket that closes the array to the end of the document.
func (r *SentReader) end() {
	s := &r.s
	i, c := s.token(r.next + 1)
	if r.shape == array {
		r.nothing(i)
		return
	}
	for c == ',' {
		name, value := s.nameLeniently(i + 1)
		if value < 0 {
			r.malformed()
			return
		}
		i, c = s.token(value)
		if string(name) == "events" {
			r.fail(&Invalid{Pointer: "/events", Code: CodeDuplicateKey, Detail: "two members of the object have this name"})
			return
		}
		if string(name) == "name" && c != 'n' {
			r.fail(&Invalid{Pointer: "/name", Code: CodeAmbiguous,
				Detail: "an object with events is a batch and one with a name an event; this one has both"})
			return
		}
		if i = s.skip(i); i < 0 {
			r.malformed()
			return
		}
		i, c = s.token(i)
	}
	if c != '}' {
		s.syntax(i, whyObject)
		r.malformed()
		return
	}
	r.nothing(i + 1)
}

// nothing checks that the document ends at i.
func (r *SentReader) nothing(i int) {
	r.state = done
	if i, _ = r.s.token(i); i < len(r.body) {
		r.s.syntax(i, whyAfter)
		r.malformed()
	}
}

// line is one line of the body, without its end, and where it stands.
type line struct {
	text   []byte
	offset int
	number int // from 0
}

// cutLine takes the next line that is not empty. Without one r is done.
func (r *SentReader) cutLine() (line, bool) {
	for r.next < len(r.body) {
		l := line{text: r.body[r.next:], offset: r.next, number: r.line}
		if n := bytes.IndexByte(l.text, '\n'); n >= 0 {
			l.text = l.text[:n]
			r.next++
		}
		r.next += len(l.text)
		r.line++
		if skipSpace(l.text, 0) < len(l.text) {
			return l, true
		}
	}
	r.state = done
	return line{}, false
}

// readLine reads the event of a line.
func (r *SentReader) readLine(e *Event, l line) (invalid *Invalid, raw []byte) {
	s := &r.s
	s.b = l.text
	begin, _ := s.token(0)
	end, invalid := s.read(e, begin, r.lim, false)
	if end >= 0 {
		after, _ := s.token(end)
		if after == len(s.b) {
			return invalid, l.text[begin:end:end]
		}
		s.syntax(after, whyAfter)
	}
	return s.flaw.invalid(s.b, 0, l.offset, l.number), bytes.TrimRight(l.text[begin:], " \t\r")
}
