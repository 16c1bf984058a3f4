package router

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a rules document. They are far above what documents need, and low
// enough that no document makes compiling or routing slow.
const (
	// MaxDocument bounds a document, in bytes.
	MaxDocument = 1 << 20
	// MaxRules bounds the rules of a document.
	MaxRules = 500
	// MaxPatterns bounds the names and patterns of all rules together.
	MaxPatterns = 10_000
	// MaxExpression bounds a when, in bytes.
	MaxExpression = 4096
	// MaxExpressions bounds the when of all rules together, in bytes: a byte
	// takes about 5 µs to compile.
	MaxExpressions = 64 << 10
	// MaxOperations bounds the pointers of a transform.
	MaxOperations = 100
	// MaxSetValue bounds a value of set, in bytes of JSON.
	MaxSetValue = 16 << 10
	// MaxBatch bounds max_batch. Source: Lambda event source mappings for SQS
	// hand over 10,000 messages at most (read 2026-11).
	MaxBatch = 10_000
	// maxName bounds a pattern, in bytes.
	maxName = 1024
)

// destinationName is what may name a destination: it stands in metrics, in
// subjects and in names of files.
var destinationName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// Parse compiles a rules document. The error is of type Faults and lists
// everything that is wrong at once; the Table is nil then.
func Parse(doc []byte) (*Table, error) {
	c := &collector{rule: -1}
	rules := parseRules(c, doc)
	if err := c.err(); err != nil {
		return nil, err
	}
	return newTable(rules), nil
}

// parseRules reads a document. Rules with faults are in the result too, as far
// as they could be read.
func parseRules(c *collector, doc []byte) []*rule {
	if len(doc) > MaxDocument {
		c.addf("", fmt.Sprintf("the most is %d", MaxDocument), "the document has %d bytes", len(doc))
		return nil
	}
	if problem, want := checkSyntax(doc); problem != "" {
		c.add("", problem, want)
		return nil
	}
	elements, ok := elementsOf(doc)
	if !ok {
		c.add("", "the document is "+kindOf(doc), "want a JSON array of rules")
		return nil
	}
	if len(elements) > MaxRules {
		c.addf("", fmt.Sprintf("the most is %d", MaxRules), "the document has %d rules", len(elements))
		return nil
	}
	rules := make([]*rule, len(elements))
	count := 0
	for i, raw := range elements {
		c.rule, c.destination = i, ""
		rules[i] = parseRule(c, i, raw)
		count += rules[i].patternCount
	}
	c.rule, c.destination = -1, ""
	if count > MaxPatterns {
		c.addf("", fmt.Sprintf("the most is %d", MaxPatterns), "the rules have %d names and patterns", count)
	}
	return rules
}

// checkSyntax returns what makes doc no JSON text.
func checkSyntax(doc []byte) (problem, want string) {
	if len(bytes.TrimSpace(doc)) == 0 {
		return "the document is empty", "want a JSON array of rules; [] is no rules"
	}
	if bytes.HasPrefix(doc, []byte("\xef\xbb\xbf")) {
		return "the document begins with a byte order mark", "save it as UTF-8 without one"
	}
	if !utf8.Valid(doc) {
		for i := 0; ; {
			r, size := utf8.DecodeRune(doc[i:])
			if r == utf8.RuneError && size == 1 {
				return "the text is not UTF-8 at " + position(doc, int64(i)), "save it as UTF-8"
			}
			i += size
		}
	}
	var raw json.RawMessage
	if err := json.Unmarshal(doc, &raw); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return fmt.Sprintf("the document is not JSON: %v at %s", err, position(doc, syntax.Offset-1)), ""
		}
		return fmt.Sprintf("the document is not JSON: %v", err), ""
	}
	return "", ""
}

// position says where an offset is, as editors count.
func position(doc []byte, offset int64) string {
	before := doc[:max(0, min(offset, int64(len(doc))))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Sprintf("line %d, column %d", line, column)
}

// parseRule reads one rule. It never returns nil.
func parseRule(c *collector, index int, raw json.RawMessage) *rule {
	r := &rule{index: index, enabled: true, sample: 1, maxBatch: 1}
	defer func() { r.name = ruleName(index, r.destination) }()
	members, ok := membersOf(raw)
	if !ok {
		c.add("", "the rule is "+kindOf(raw), "want an object")
		return r
	}
	// The name comes first, so that all other faults show it.
	for _, m := range members {
		if s, ok := stringOf(m.value); ok && m.key == "destination_name" {
			c.destination = clip(s, 64)
		}
	}
	seen := map[string]bool{}
	for _, m := range members {
		at := "/" + escapeToken(m.key)
		if seen[m.key] {
			c.add(at, "the member stands twice in the rule", "keep one")
			continue
		}
		seen[m.key] = true
		switch m.key {
		case "destination_name":
			r.destination = parseDestination(c, at, m.value)
		case "destination_arn":
			r.arn, r.placeholder = parseARN(c, at, m.value)
		case "enabled":
			r.enabled = parseBool(c, at, m.value)
		case "enabled_events":
			r.enabledEvents = parsePatterns(c, at, m.value)
		case "disabled_events":
			r.disabledEvents = parsePatterns(c, at, m.value)
		case "when":
			c.expressions += len(m.value)
			r.when = parseWhen(c, at, m.value)
		case "sample":
			r.sample = parseSample(c, at, m.value)
		case "transform":
			r.transform = parseTransform(c, at, m.value)
		case "max_batch":
			r.maxBatch = parseBatch(c, at, m.value)
		default:
			c.add(at, "there is no such member", "a rule has destination_name, destination_arn, enabled_events, "+
				"enabled, disabled_events, when, sample, transform, max_batch")
		}
	}
	if !seen["destination_name"] {
		c.add("/destination_name", "is missing", "name the destination")
	}
	if !seen["enabled_events"] {
		c.add("/enabled_events", "is missing", `list the names of the events; ["*"] is all of them`)
	}
	r.patternCount = len(r.enabledEvents) + len(r.disabledEvents)
	r.names, r.except = newPatterns(r.enabledEvents), newPatterns(r.disabledEvents)
	return r
}

func parseDestination(c *collector, at string, raw json.RawMessage) string {
	s, ok := stringOf(raw)
	if !ok {
		c.add(at, "is "+kindOf(raw), "want a string")
	} else if !destinationName.MatchString(s) {
		c.add(at, quote(s)+" cannot name a destination",
			"want 1 to 64 letters, digits, '_', '.' and '-', the first a letter or digit")
	}
	return s
}

func parseARN(c *collector, at string, raw json.RawMessage) (arn string, placeholder bool) {
	s, ok := stringOf(raw)
	if !ok {
		c.add(at, "is "+kindOf(raw), "want a string")
		return "", false
	}
	if s == "" {
		return "", false
	}
	problem, want, placeholder := checkARN(s)
	if problem != "" {
		c.add(at, problem, want)
	}
	return s, placeholder
}

func parseBool(c *collector, at string, raw json.RawMessage) bool {
	switch string(raw) {
	case "true":
		return true
	case "false":
		return false
	}
	c.add(at, "is "+kindOf(raw), "want true or false")
	return false
}

func parsePatterns(c *collector, at string, raw json.RawMessage) []string {
	elements, ok := elementsOf(raw)
	if !ok {
		c.add(at, "is "+kindOf(raw), "want an array of names of events")
		return nil
	}
	list := make([]string, 0, len(elements))
	for i, e := range elements {
		at := at + "/" + strconv.Itoa(i)
		s, ok := stringOf(e)
		if !ok {
			c.add(at, "is "+kindOf(e), "want a string")
		} else if checkPattern(c, at, s) {
			list = append(list, s)
		}
	}
	return list
}

// checkPattern reports whether s is the name of an event or a prefix of names.
func checkPattern(c *collector, at, s string) bool {
	switch {
	case s == "":
		c.add(at, "is empty", `want the name of an event, a prefix such as "order_*", or "*"`)
	case len(s) > maxName:
		c.addf(at, fmt.Sprintf("the most is %d", maxName), "has %d bytes", len(s))
	case strings.Contains(s[:len(s)-1], "*"):
		c.add(at, quote(s)+" has a * that is not at its end", `want a prefix such as "order_*"`)
	case strings.TrimSpace(s) != s:
		c.add(at, quote(s)+" begins or ends with a space", "names are compared exactly: remove it")
	case strings.ContainsFunc(s, unicode.IsControl):
		c.add(at, quote(s)+" has a control character", "remove it")
	default:
		return true
	}
	return false
}

func parseWhen(c *collector, at string, raw json.RawMessage) *condition {
	s, ok := stringOf(raw)
	if !ok {
		c.add(at, "is "+kindOf(raw), "want a CEL expression in a string")
		return nil
	}
	if c.expressions > MaxExpressions {
		c.addf(at, "make them shorter, or fewer", "the expressions up to this one have more than %d bytes together", MaxExpressions)
		return nil
	}
	return compileCondition(c, at, s)
}

func parseSample(c *collector, at string, raw json.RawMessage) float64 {
	const want = "want a number from 0 (no event) to 1 (all events)"
	if kindOf(raw) != "a number" {
		c.add(at, "is "+kindOf(raw), want)
		return 1
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 1 {
		c.add(at, "is "+clip(string(raw), 40), want)
		return 1
	}
	return f
}

func parseBatch(c *collector, at string, raw json.RawMessage) int {
	n, err := strconv.Atoi(string(raw))
	if err != nil || n < 1 || n > MaxBatch {
		got := kindOf(raw)
		if got == "a number" {
			got = clip(string(raw), 40)
		}
		c.add(at, "is "+got, fmt.Sprintf("want a whole number from 1 to %d", MaxBatch))
		return 1
	}
	return n
}
