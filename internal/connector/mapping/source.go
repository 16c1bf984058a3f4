package mapping

import (
	"errors"
	"fmt"
	"strings"

	"github.com/eventsluice/sluice/internal/router"
)

// A source is where a value comes from, compiled: a place in data or context
// (its slot), a field of the event, or an expression.
type source struct {
	slot    int // in work.values, if neither of the others is set
	field   *router.Pointer
	program *router.Expression
}

// value returns the value in JSON, nil if there is none.
func (s *source) value(r *Record) []byte {
	switch {
	case s.program != nil:
		return r.work.evaluate(s.program, r)
	case s.field != nil:
		if text, _ := s.field.Text(&r.Event); text != "" {
			return r.work.quote(text)
		}
		return nil
	}
	return r.work.values[s.slot]
}

// text returns a string or a number as text, "" for all others.
func (s *source) text(r *Record) string {
	if s.field != nil {
		text, _ := s.field.Text(&r.Event)
		return text
	}
	return plainText(s.value(r))
}

// plainText is Text for what may name somebody: strings and numbers.
func plainText(value []byte) string {
	if len(value) == 0 {
		return ""
	}
	if c := value[0]; c == '"' || c == '-' || c >= '0' && c <= '9' {
		text, _ := Text(value)
		return text
	}
	return ""
}

// first returns the first value that sources have, nil if there is none.
func first(sources []source, r *Record) []byte {
	for i := range sources {
		if value := sources[i].value(r); value != nil {
			return value
		}
	}
	return nil
}

// compiler makes a Mapper, and gathers what is wrong with the settings.
type compiler struct {
	m           *Mapper
	faults      []error
	sources     int
	expressions int // bytes
}

// maxSources bounds the sources of a mapping: more are a mistake, or a program
// that writes programs.
const maxSources = 1000

func (c *compiler) fault(at, format string, args ...any) {
	c.faults = append(c.faults, errors.New(at+": "+fmt.Sprintf(format, args...)))
}

// routerFaults names faults that the router found.
func (c *compiler) routerFaults(at string, faults router.Faults) {
	for _, f := range faults {
		text := f.Problem
		if f.Want != "" {
			text += "; " + f.Want
		}
		// Pointers of a transform: /drop/0 is drop[0].
		place := at
		if list, index, ok := strings.Cut(strings.TrimPrefix(f.Pointer, "/"), "/"); ok {
			place += "." + list + "[" + index + "]"
		}
		c.faults = append(c.faults, errors.New(place+": "+text))
	}
}

// source compiles one Source.
func (c *compiler) source(at, text string) (source, bool) {
	if c.sources++; c.sources == maxSources+1 {
		c.fault("mapping", "has more than %d sources", maxSources)
	}
	switch {
	case strings.HasPrefix(text, "/"):
		p, faults := router.ParsePointer(text)
		if faults != nil {
			c.routerFaults(at, faults)
			return source{}, false
		}
		if p.Field() != "data" && p.Field() != "context" {
			return source{field: &p}, true
		}
		return source{slot: c.slot(&p)}, true
	case strings.HasPrefix(text, "="):
		before := c.expressions
		c.expressions += len(text)
		if c.expressions > router.MaxExpressions {
			if before <= router.MaxExpressions {
				c.fault(at, "the expressions up to this one have more than %d bytes together; make them shorter, or fewer", router.MaxExpressions)
			}
			return source{}, false
		}
		// The space keeps the columns of faults what they are in the setting.
		program, faults := router.CompileValue(" " + text[1:])
		c.routerFaults(at, faults)
		return source{program: program}, faults == nil
	}
	c.fault(at, `is neither a JSON pointer such as "/data/plan" nor "= " and a CEL expression; a fixed text is "= 'text'"`)
	return source{}, false
}

// list compiles Sources; those that keep refuses are left out.
func (c *compiler) list(at string, texts []string) []source {
	sources := make([]source, 0, len(texts))
	for i, text := range texts {
		if s, ok := c.source(fmt.Sprintf("%s[%d]", at, i), text); ok {
			sources = append(sources, s)
		}
	}
	return sources
}

// slot returns where the value of a pointer into data or context is kept.
func (c *compiler) slot(p *router.Pointer) int {
	n := &c.m.data
	if p.Field() == "context" {
		n = &c.m.context
	}
	for _, key := range p.Keys() {
		n = n.child(key)
	}
	if n.slot == 0 {
		c.m.slots++
		n.slot = c.m.slots
	}
	return n.slot
}
