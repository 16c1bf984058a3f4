package schema

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// node is a compiled schema: what it asks of a value. Nil asks nothing.
type node struct {
	// never is the schema false: no value is right.
	never bool
	// types are the kinds that are right, zero for all; allTypes says so in words.
	types    jsonType
	allTypes string
	// equal, if not nil, is const or enum.
	equal *choice
	ref   *node

	// What is asked of values of one type; nil asks nothing.
	number *numbers
	text   *texts
	array  *arrays
	object *objects

	allOf, anyOf, oneOf     []*node
	not                     *node
	condition, then, orElse *node
}

// typeNames are the kinds by their names in schemas.
var typeNames = map[string]jsonType{
	"null": null, "boolean": boolean, "number": number, "integer": integer, "string": text, "array": array, "object": object,
}

func (k jsonType) String() string {
	for name, bit := range typeNames {
		if k == bit {
			return name
		}
	}
	return "value"
}

// bound is minimum, maximum, exclusiveMinimum or exclusiveMaximum.
type bound struct {
	rule, expected string
	limit          decimal
	// small is the limit if it is a small whole number.
	small   int64
	isSmall bool
	// sign and equal say what is wrong: a number of which cmp with the limit is
	// sign, or 0 if equal.
	sign  int
	equal bool
}

// breaks reports whether a number that compares to the limit like cmp is wrong.
func (b *bound) breaks(cmp int) bool { return cmp == b.sign || cmp == 0 && b.equal }

type numbers struct {
	bounds     []bound
	multipleOf divisor // coef is 0 if there is none
	multiple   string
}

type texts struct {
	min, max int // in characters; max is -1 for none
	pattern  *regexp.Regexp
	matching string // pattern, in words
	format   *format
}

type arrays struct {
	min, max int // max is -1 for none
	unique   bool
	prefix   []*node
	// items is for those behind prefix.
	items *node

	contains       *node
	hasContains    bool
	minContains    int
	maxContains    int // -1 for none
	containsMinSet bool
}

type objects struct {
	min, max int // max is -1 for none
	members  map[string]member
	patterns []patternMember
	// additional is for members that neither members nor patterns have.
	additional    *node
	hasAdditional bool
	names         *node // propertyNames
	hasNames      bool

	// required are the bits of members that have to be there, dependent what has
	// to be there as well if one is.
	required  []requirement
	dependent []dependency
	// words is how many words of 64 bits the names with bits take.
	words int
}

// member is what is known of a name.
type member struct {
	node *node
	// listed says that it is one of properties; names that are only required are
	// not.
	listed bool
	// bit is its bit, from 1; 0 if nobody asks whether it is there.
	bit int
}

type patternMember struct {
	name *regexp.Regexp
	node *node
}

type requirement struct {
	name string
	bit  int
}

type dependency struct {
	trigger requirement
	rule    string
	// required are names, schema is what is asked of the whole object.
	required []requirement
	schema   *node
}

// choice is const or enum.
type choice struct {
	rule, expected string
	texts          map[string]struct{}
	numbers        []decimal
	literals       jsonType // bits of their own, below
	others         []any
}

// The bits of choice.literals.
const (
	literalNull jsonType = 1 << iota
	literalTrue
	literalFalse
)

func newChoice(rule string, values []any) *choice {
	c := &choice{rule: rule}
	var words []string
	for _, v := range values {
		switch v := v.(type) {
		case string:
			if c.texts == nil {
				c.texts = map[string]struct{}{}
			}
			c.texts[v] = struct{}{}
		case json.Number:
			c.numbers = append(c.numbers, parseDecimal(nil, []byte(v)))
		case nil:
			c.literals |= literalNull
		case bool:
			if v {
				c.literals |= literalTrue
			} else {
				c.literals |= literalFalse
			}
		default:
			c.others = append(c.others, v)
		}
		word, _ := json.Marshal(v) // what came from JSON can go back
		words = append(words, string(word))
	}
	c.expected = someOf(words)
	return c
}

// mostExpected is the most bytes of what a rule expects, in words.
const mostExpected = 200

// someOf joins alternatives, as many as there is room for.
func someOf(words []string) string {
	if len(words) == 0 {
		return "nothing: no value is allowed"
	}
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(", ")
		}
		if b.Len()+len(w) > mostExpected {
			b.WriteString("… (" + strconv.Itoa(len(words)-i) + " more)")
			break
		}
		b.WriteString(w)
	}
	if len(words) > 1 {
		return "one of " + b.String()
	}
	return b.String()
}

// has reports whether the value at i is one of the choice.
func (c *choice) has(ck *checker, i int) bool {
	b := ck.b
	switch kindAt(b, i) {
	case text:
		if c.texts == nil {
			return false
		}
		value, _ := meaning(b, i)
		_, ok := c.texts[string(value)]
		return ok
	case number:
		if len(c.numbers) == 0 {
			return false
		}
		d := ck.decimal(b[i:numberEnd(b, i)])
		for _, n := range c.numbers {
			if n.equal(d) {
				return true
			}
		}
	case null:
		return c.literals&literalNull != 0
	case boolean:
		if b[i] == 't' {
			return c.literals&literalTrue != 0
		}
		return c.literals&literalFalse != 0
	default:
		for _, v := range c.others {
			if same(ck, i, v) {
				return true
			}
		}
	}
	return false
}

// same reports whether the value at i is v.
func same(ck *checker, i int, v any) bool {
	b := ck.b
	switch v := v.(type) {
	case map[string]any:
		if kindAt(b, i) != object {
			return false
		}
		n := 0
		for name, value := range ck.members(i) {
			want, ok := v[string(name)]
			if n++; !ok || n > len(v) || !same(ck, value, want) {
				return false
			}
		}
		return n == len(v)
	case []any:
		if kindAt(b, i) != array {
			return false
		}
		n := 0
		for value := range ck.elements(i) {
			if n == len(v) || !same(ck, value, v[n]) {
				return false
			}
			n++
		}
		return n == len(v)
	}
	return newChoice("", []any{v}).has(ck, i)
}
