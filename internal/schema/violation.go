package schema

import (
	"strconv"
	"strings"

	"github.com/eventsluice/sluice/internal/event"
)

const (
	// MostViolations is how many violations of one event are told.
	MostViolations = 10
	// mostPointer is the most bytes of a pointer: it goes into answers.
	mostPointer = 512
)

// Violation is one thing in which an event is not what its schema says.
type Violation struct {
	// Pointer is the place, an RFC 6901 JSON pointer into the event in our own
	// form: "/data/products/0/price". Of a member that is missing it is the
	// place where that should be. A pointer of more than 512 bytes is cut to the
	// nearest enclosing value.
	Pointer string `json:"pointer"`
	// Group is Pointer with * for every index of an array: what it is in is the
	// same in all events that have this fault.
	Group string `json:"-"`
	// Rule is the keyword of the schema that the value breaks, such as "type";
	// "version" if the schema has no such version, "complexity" if the event
	// cannot be compared with it in reasonable time.
	Rule string `json:"rule"`
	// Expected and Got say what the rule wants and what is there instead: kinds,
	// numbers, and of a value at most its first 64 bytes.
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

// PointerIn returns the pointer into an event of another form, of which data
// stands at base, such as "/properties".
func (v *Violation) PointerIn(base string) string {
	if rest, ok := strings.CutPrefix(v.Pointer, dataPointer); ok {
		return base + rest
	}
	return v.Pointer
}

// Detail says in words what is wrong, without the place.
func (v *Violation) Detail() string {
	return v.Rule + ": expected " + v.Expected + ", got " + v.Got
}

// dataPointer is where the data of an event stands.
const dataPointer = "/data"

// Report is what a check has found. Its memory is used again by the next: what
// it holds is valid until then, but the violations are their own. The zero value
// is ready for use.
type Report struct {
	// Violations are those found, the first MostViolations of them.
	Violations []Violation
	// Entry is the schema that is broken, after Contracts.Check.
	Entry *Entry

	checker checker
	library library
}

func (r *Report) full() bool { return len(r.Violations) >= MostViolations }

// Text lists the violations, of an event whose data stands at base, in at most
// most bytes.
func (r *Report) Text(base string, most int) string {
	var b strings.Builder
	for i := range r.Violations {
		v := &r.Violations[i]
		line := v.PointerIn(base) + " " + v.Detail()
		if i > 0 {
			line = "; " + line
		}
		if b.Len()+len(line) > most {
			b.WriteString("; and " + strconv.Itoa(len(r.Violations)-i) + " more")
			break
		}
		b.WriteString(line)
	}
	return b.String()
}

// wrong notes a violation at the value that is being checked.
func (c *checker) wrong(rule, expected, got string) {
	if c.quiet > 0 || c.report.full() {
		return
	}
	c.note(nil, rule, expected, got)
}

// wrongValue is wrong with the value at i as what was got.
func (c *checker) wrongValue(rule, expected string, i int) {
	if c.quiet > 0 || c.report.full() {
		return
	}
	c.note(nil, rule, expected, short(c.b, i))
}

// wrongCount is wrong for a number of things.
func (c *checker) wrongCount(rule, expected string, want, got int, of string) {
	if c.quiet > 0 || c.report.full() {
		return
	}
	c.note(nil, rule, expected+strconv.Itoa(want)+of, strconv.Itoa(got)+of)
}

// missing notes that the object that is being checked lacks a member.
func (c *checker) missing(rule, name string) {
	if c.quiet > 0 || c.report.full() {
		return
	}
	c.note([]byte(name), rule, "this member", "nothing")
}

func (c *checker) note(member []byte, rule, expected, got string) {
	steps := c.path
	if member != nil {
		steps = append(c.path, step{name: member})
	}
	pointer := pointerOf(steps, false)
	group := pointer
	for _, s := range steps {
		if s.name == nil {
			group = pointerOf(steps, true)
			break
		}
	}
	c.report.Violations = append(c.report.Violations, Violation{
		Pointer: pointer, Group: group, Rule: rule, Expected: expected, Got: got,
	})
}

// pointerOf returns the JSON pointer of a way, with stars for indexes if asked
// to.
func pointerOf(steps []step, stars bool) string {
	path := []byte(dataPointer)
	for _, s := range steps {
		before := len(path)
		path = append(path, '/')
		switch {
		case s.name != nil:
			path = event.AppendPointerToken(path, s.name)
		case stars:
			path = append(path, '*')
		default:
			path = strconv.AppendInt(path, int64(s.index), 10)
		}
		if len(path) > mostPointer {
			path = path[:before]
			break
		}
	}
	return string(path)
}
