package router

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/eventsluice/sluice/internal/event"
)

// transform changes events. It is safe for concurrent use.
type transform struct {
	operations []operation
	// verify is set if an operation can make an event that is not valid, by
	// what the event itself holds: then every result is checked.
	verify bool
}

type verb uint8

const (
	drop verb = iota
	rename
	set
	hash
)

var verbs = [...]string{drop: "drop", rename: "rename", set: "set", hash: "hash"}

type operation struct {
	verb  verb
	place place
	to    place  // of rename
	value []byte // of set: JSON without spaces around it
	salt  string // of hash
}

// place is where a pointer leads: a field of the event, or a member of data or
// context.
type place struct {
	pointer string
	field   string
	path    []token // below data or context
}

func (p *place) isString() bool { return p.field != "data" && p.field != "context" }

// container returns data or context.
func (p *place) container(e *event.Event) *json.RawMessage {
	if p.field == "data" {
		return &e.Data
	}
	return &e.Context
}

// get returns the JSON text at a place.
func (p *place) get(e *event.Event) ([]byte, bool) {
	if p.isString() {
		s := *stringField(e, p.field)
		return quoteJSON(s), s != ""
	}
	c := *p.container(e)
	if len(c) == 0 {
		c = json.RawMessage("{}")
	}
	return find(c, p.path)
}

// remove removes what is at a place.
func (p *place) remove(e *event.Event) {
	if p.isString() {
		*stringField(e, p.field) = ""
		return
	}
	c := p.container(e)
	if len(p.path) == 0 {
		*c = nil
	} else if _, ok := find(*c, p.path); ok {
		*c = rewrite(make([]byte, 0, len(*c)), *c, p.path, func(dst, _ []byte) ([]byte, bool) { return dst, false })
	}
}

// put replaces what is at a place by JSON text.
func (p *place) put(e *event.Event, value []byte) error {
	if p.isString() {
		if string(value) == "null" {
			*stringField(e, p.field) = ""
			return nil
		}
		if value[0] != '"' {
			return fmt.Errorf("%s is a string and cannot become %s", p.pointer, kindOf(value))
		}
		s, err := event.Unquote(value)
		*stringField(e, p.field) = s
		return err
	}
	if len(p.path) == 0 && value[0] != '{' {
		return fmt.Errorf("%s is an object and cannot become %s", p.pointer, kindOf(value))
	}
	c := p.container(e)
	if len(*c) == 0 {
		*c = json.RawMessage("{}")
	}
	changed, err := put(make([]byte, 0, len(*c)+len(value)+64), *c, p.path, value)
	if err != nil {
		return err
	}
	*c = changed
	return nil
}

// hash replaces what is at a place by its hash.
func (p *place) hash(e *event.Event, salt string) {
	if p.isString() {
		if s := stringField(e, p.field); *s != "" {
			*s = hashOf(salt, *s)
		}
		return
	}
	c := p.container(e)
	if _, ok := find(*c, p.path); !ok {
		return
	}
	*c = rewrite(make([]byte, 0, len(*c)+80), *c, p.path, func(dst, old []byte) ([]byte, bool) {
		text := string(old)
		switch old[0] {
		case 'n':
			return append(dst, old...), true
		case '"':
			if s, err := event.Unquote(old); err == nil {
				text = s
			}
		}
		return append(append(append(dst, '"'), hashOf(salt, text)...), '"'), true
	})
}

func hashOf(salt, text string) string {
	sum := sha256.Sum256([]byte(salt + text))
	return hex.EncodeToString(sum[:])
}

// apply appends the changed event to dst. It changes e, but not the memory
// that e shares.
func (t *transform) apply(dst []byte, e *event.Event) ([]byte, error) {
	if err := t.change(e); err != nil {
		return nil, err
	}
	dst = e.Append(dst)
	if t.verify {
		if _, err := event.ParseStored(dst); err != nil {
			return nil, fmt.Errorf("transform: the result is not a valid event: %w", err)
		}
	}
	return dst, nil
}

// change does the operations. It changes e, but not the memory that e shares.
func (t *transform) change(e *event.Event) error {
	for i := range t.operations {
		if err := t.operations[i].apply(e); err != nil {
			op := &t.operations[i]
			return fmt.Errorf("transform: %s %s: %w", verbs[op.verb], op.place.pointer, err)
		}
	}
	return nil
}

func (op *operation) apply(e *event.Event) error {
	switch op.verb {
	case drop:
		op.place.remove(e)
	case hash:
		op.place.hash(e, op.salt)
	case set:
		return op.place.put(e, op.value)
	case rename:
		value, ok := op.place.get(e)
		if !ok {
			return nil
		}
		op.place.remove(e)
		return op.to.put(e, value)
	}
	return nil
}

// parseTransform reads a transform: a list of steps, or one step.
func parseTransform(c *collector, at string, raw json.RawMessage) *transform {
	t := &transform{}
	if steps, ok := elementsOf(raw); ok {
		for i, step := range steps {
			t.parseStep(c, at+"/"+strconv.Itoa(i), step)
		}
	} else {
		t.parseStep(c, at, raw)
	}
	t.bound(c, at)
	if len(t.operations) == 0 {
		return nil
	}
	return t
}

func (t *transform) bound(c *collector, at string) {
	if len(t.operations) > MaxOperations {
		c.addf(at, fmt.Sprintf("the most is %d", MaxOperations), "has %d operations", len(t.operations))
	}
}

func (t *transform) parseStep(c *collector, at string, raw json.RawMessage) {
	const want = "want an object with drop, rename, set or hash"
	members, ok := membersOf(raw)
	if !ok {
		c.add(at, "is "+kindOf(raw), want)
		return
	}
	if len(members) == 0 {
		c.add(at, "does nothing", want)
	}
	var operations []operation
	seen := map[string]bool{}
	salt := ""
	for _, m := range members {
		at := at + "/" + escapeToken(m.key)
		if seen[m.key] {
			c.add(at, "the member stands twice in the step", "keep one, or make a step of each")
			continue
		}
		seen[m.key] = true
		switch m.key {
		case "drop", "hash":
			operations = append(operations, parsePointers(c, at, m)...)
		case "rename":
			operations = append(operations, parseRenames(c, at, m.value)...)
		case "set":
			operations = append(operations, parseSets(c, at, m.value)...)
		case "salt":
			if salt, ok = stringOf(m.value); !ok {
				c.add(at, "is "+kindOf(m.value), "want a string")
			}
		default:
			c.add(at, "there is no such operation", "a step has drop, rename, set, hash, and salt with hash")
		}
	}
	if seen["salt"] && !seen["hash"] {
		c.add(at+"/salt", "the step has no hash", "put the salt where the hash is")
	}
	slices.SortStableFunc(operations, func(a, b operation) int { return int(a.verb) - int(b.verb) })
	for i := range operations {
		if operations[i].verb == hash {
			operations[i].salt = salt
		}
		t.verify = t.verify || operations[i].verb == rename || operations[i].verb == set
	}
	t.operations = append(t.operations, operations...)
}

// parsePointers reads the list of a drop or a hash.
func parsePointers(c *collector, at string, m rawMember) []operation {
	list, ok := elementsOf(m.value)
	if !ok {
		c.add(at, "is "+kindOf(m.value), `want an array of JSON pointers such as ["/data/password"]`)
		return nil
	}
	op := operation{verb: drop}
	if m.key == "hash" {
		op.verb = hash
	}
	var operations []operation
	for i, raw := range list {
		at := at + "/" + strconv.Itoa(i)
		if op.place, ok = parsePlace(c, at, raw); ok && op.possible(c, at) {
			operations = append(operations, op)
		}
	}
	return operations
}

// parseRenames reads one rename or a list of them.
func parseRenames(c *collector, at string, raw json.RawMessage) []operation {
	list, ok := elementsOf(raw)
	if !ok {
		op, ok := parseRename(c, at, raw)
		if !ok {
			return nil
		}
		return []operation{op}
	}
	var operations []operation
	for i, raw := range list {
		if op, ok := parseRename(c, at+"/"+strconv.Itoa(i), raw); ok {
			operations = append(operations, op)
		}
	}
	return operations
}

func parseRename(c *collector, at string, raw json.RawMessage) (operation, bool) {
	const want = `want {"from": POINTER, "to": POINTER}`
	op := operation{verb: rename}
	members, ok := membersOf(raw)
	if !ok {
		c.add(at, "is "+kindOf(raw), want)
		return op, false
	}
	seen := map[string]bool{}
	for _, m := range members {
		at := at + "/" + escapeToken(m.key)
		if seen[m.key] {
			c.add(at, "the member stands twice", want)
			ok = false
		}
		seen[m.key] = true
		var good bool
		switch m.key {
		case "from":
			op.place, good = parsePlace(c, at, m.value)
		case "to":
			op.to, good = parsePlace(c, at, m.value)
		default:
			c.add(at, "there is no such member", want)
		}
		ok = ok && good
	}
	for _, key := range []string{"from", "to"} {
		if !seen[key] {
			c.add(at+"/"+key, "is missing", want)
			ok = false
		}
	}
	if !ok || !op.possible(c, at+"/from") {
		return op, false
	}
	if op.to.pointer == op.place.pointer || strings.HasPrefix(op.to.pointer, op.place.pointer+"/") {
		c.addf(at+"/to", "want another place", "%s lies in what is moved", quote(op.to.pointer))
		return op, false
	}
	return op, true
}

// parseSets reads the object of a set. The values keep their bytes.
func parseSets(c *collector, at string, raw json.RawMessage) []operation {
	members, ok := membersOf(raw)
	if !ok {
		c.add(at, "is "+kindOf(raw), `want an object of pointers and values such as {"/data/currency": "EUR"}`)
		return nil
	}
	var operations []operation
	seen := map[string]bool{}
	for _, m := range members {
		at := at + "/" + escapeToken(m.key)
		if seen[m.key] {
			c.add(at, "the pointer stands twice in the set", "keep one")
			continue
		}
		seen[m.key] = true
		op := operation{verb: set, value: bytes.TrimSpace(m.value)}
		if len(op.value) > MaxSetValue {
			c.addf(at, fmt.Sprintf("the most is %d", MaxSetValue), "the value has %d bytes", len(op.value))
			continue
		}
		if err := event.Check(op.value, event.Limits{}); err != nil {
			c.add(at, "the value cannot stand in an event: "+err.Error(), "")
			continue
		}
		if op.place, ok = parsePlace(c, at, quoteJSON(m.key)); ok && op.possible(c, at) {
			operations = append(operations, op)
		}
	}
	return operations
}

// maxPointerTokens bounds how deep a pointer leads.
const maxPointerTokens = 32

// parsePlace reads a pointer to what can be changed.
func parsePlace(c *collector, at string, raw json.RawMessage) (place, bool) {
	s, ok := stringOf(raw)
	if !ok {
		c.add(at, "is "+kindOf(raw), "want a JSON pointer in a string")
		return place{}, false
	}
	return changeablePlace(c, at, s)
}

func changeablePlace(c *collector, at, s string) (place, bool) {
	p, ok := newPlace(c, at, s)
	if ok && p.field == "id" {
		c.add(at, "the id cannot be changed", "it is the idempotency key; rename and hash other fields")
		return place{}, false
	}
	return p, ok
}

// newPlace reads a pointer to what can be read.
func newPlace(c *collector, at, s string) (place, bool) {
	tokens, ok := pointerTokens(s)
	switch {
	case !ok:
		c.add(at, quote(s)+" is not a JSON pointer", `want one such as "/data/password" (RFC 6901)`)
		return place{}, false
	case !slices.Contains(fields, tokens[0]):
		c.addf(at, "an event has "+strings.Join(fields, ", ")+"; its own members are below /data",
			"%s does not lead into an event", quote(s))
		return place{}, false
	case len(tokens) > maxPointerTokens:
		c.addf(at, fmt.Sprintf("the most is %d", maxPointerTokens), "leads %d levels deep", len(tokens))
		return place{}, false
	}
	p := place{pointer: s, field: tokens[0]}
	if p.isString() && len(tokens) > 1 {
		c.addf(at, fmt.Sprintf("want %q", "/"+p.field), "%s is a string and has no members", p.field)
		return place{}, false
	}
	for _, t := range tokens[1:] {
		p.path = append(p.path, newToken(t))
	}
	return p, true
}

// possible reports whether an operation can ever leave a valid event: it is
// tried on an event that has all fields.
func (op *operation) possible(c *collector, at string) bool {
	e := event.Event{
		ID: "1", Type: event.TypeTrack, Name: "n", UserID: "u", AnonymousID: "a", Source: "s", IP: "192.0.2.1",
		Timestamp: "2026-11-23T10:00:00Z", ReceivedAt: "2026-11-23T10:00:00Z",
		Data: json.RawMessage("{}"), Context: json.RawMessage("{}"),
	}
	verb := verbs[op.verb]
	switch op.verb {
	case drop, rename:
		if op.place.field == "name" || op.place.field == "type" {
			c.addf(at, "an event needs it; set it instead", "%s cannot be moved or dropped", op.place.field)
			return false
		}
		if op.verb == rename {
			return true // what moves is known when an event comes
		}
	case hash:
		if !op.place.isString() && len(op.place.path) == 0 {
			c.addf(at, "name a member of it", "%s must stay an object", op.place.field)
			return false
		}
	}
	if op.place.isString() || len(op.place.path) == 0 {
		err := op.apply(&e)
		if err == nil {
			_, err = event.ParseStored(e.Append(nil))
		}
		if err != nil {
			c.addf(at, "", "%s cannot be done: %v", verb, err)
			return false
		}
	}
	return true
}
