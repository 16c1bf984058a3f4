package router

import (
	"fmt"
	"strings"
)

// Fault is one thing that is wrong, or doubtful, in a rules document.
type Fault struct {
	// Rule is the index of the rule; -1 if the fault is the document's.
	Rule int
	// Destination is the rule's destination_name, if it has one.
	Destination string
	// Pointer leads from the rule to what is wrong (RFC 6901); "" is the rule
	// itself, or the document if Rule is -1.
	Pointer string
	// Problem is what is wrong, Want what would be right; Want may be empty.
	Problem string
	Want    string
}

// Error gives the fault as one line: rule, pointer, what is wrong; what would
// be right.
func (f Fault) Error() string {
	var b strings.Builder
	if f.Rule >= 0 {
		b.WriteString(ruleName(f.Rule, f.Destination))
	} else {
		b.WriteString("rules")
	}
	if f.Pointer != "" {
		b.WriteString(" " + f.Pointer)
	}
	b.WriteString(": " + f.Problem)
	if f.Want != "" {
		b.WriteString("; " + f.Want)
	}
	return b.String()
}

// Faults is the error of Parse: everything that is wrong with a document.
type Faults []Fault

// Error gives one line per fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// ruleName is how a rule is named in dead letters, faults and explanations:
// "rules[2] crm". The form is stable.
func ruleName(index int, destination string) string {
	if destination == "" {
		return fmt.Sprintf("rules[%d]", index)
	}
	return fmt.Sprintf("rules[%d] %s", index, destination)
}

// maxFaults bounds the faults that are kept of one document: who has made so
// many has one mistake, often repeated.
const maxFaults = 100

// collector gathers the faults of a document while it is read.
type collector struct {
	faults      Faults
	omitted     int
	rule        int
	destination string
	expressions int // bytes of the expressions so far
}

func (c *collector) add(pointer, problem, want string) {
	if len(c.faults) == maxFaults {
		c.omitted++
		return
	}
	c.faults = append(c.faults, Fault{
		Rule: c.rule, Destination: c.destination, Pointer: pointer, Problem: problem, Want: want,
	})
}

func (c *collector) addf(pointer, want, format string, args ...any) {
	c.add(pointer, fmt.Sprintf(format, args...), want)
}

func (c *collector) err() error {
	if len(c.faults) == 0 {
		return nil
	}
	if c.omitted > 0 {
		return append(c.faults, Fault{Rule: -1, Problem: fmt.Sprintf("%d more faults are not listed", c.omitted)})
	}
	return c.faults
}

// quote shows a piece of a document in a message: quoted, and cut if it is
// long.
func quote(s string) string { return fmt.Sprintf("%q", clip(s, 60)) }

// clip cuts s to about n bytes, at the boundary of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
