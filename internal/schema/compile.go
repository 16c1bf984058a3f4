package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/eventsluice/sluice/internal/event"
)

// dialect is the only version of JSON Schema that is known here.
const dialect = "https://json-schema.org/draft/2020-12/schema"

// place says what stands at a keyword.
type place uint8

const (
	annotation place = iota + 1 // nothing that is asked of a value
	plain                       // a value
	subschema                   // a schema
	schemaList                  // an array of schemas
	schemaMap                   // an object of schemas
)

// keywords are those of JSON Schema 2020-12. Source: JSON Schema Core and
// Validation, 2020-12, and the keywords that the metaschema keeps from earlier
// drafts.
var keywords = map[string]place{
	"$schema": plain, "$id": plain, "$anchor": plain, "$dynamicAnchor": plain, "$ref": plain, "$dynamicRef": plain,
	"$vocabulary": annotation, "$comment": annotation, "$defs": schemaMap, "definitions": schemaMap,
	"title": annotation, "description": annotation, "default": annotation, "deprecated": annotation, "readOnly": annotation,
	"writeOnly": annotation, "examples": annotation,
	"contentEncoding": annotation, "contentMediaType": annotation, "contentSchema": annotation,
	"type": plain, "enum": plain, "const": plain,
	"multipleOf": plain, "maximum": plain, "exclusiveMaximum": plain, "minimum": plain, "exclusiveMinimum": plain,
	"maxLength": plain, "minLength": plain, "pattern": plain, "format": plain,
	"maxItems": plain, "minItems": plain, "uniqueItems": plain, "maxContains": plain, "minContains": plain,
	"maxProperties": plain, "minProperties": plain, "required": plain, "dependentRequired": plain,
	"allOf": schemaList, "anyOf": schemaList, "oneOf": schemaList, "prefixItems": schemaList,
	"not": subschema, "if": subschema, "then": subschema, "else": subschema, "items": subschema, "contains": subschema,
	"additionalProperties": subschema, "propertyNames": subschema, "unevaluatedItems": subschema, "unevaluatedProperties": subschema,
	"properties": schemaMap, "patternProperties": schemaMap, "dependentSchemas": schemaMap,
}

// removed are keywords of earlier drafts, and what stands in their place. They
// would be ignored, which their author does not expect.
var removed = map[string]string{
	"$recursiveRef": "$dynamicRef", "$recursiveAnchor": "$dynamicAnchor", "dependencies": "dependentRequired and dependentSchemas",
	"additionalItems": "prefixItems and items", "id": "$id", "divisibleBy": "multipleOf", "extends": "allOf", "disallow": "not",
}

// beyond are the keywords that the library is needed for.
var beyond = []string{"unevaluatedItems", "unevaluatedProperties", "$dynamicRef"}

const (
	// mostSchemas bounds the schemas within a schema.
	mostSchemas = 20_000
	// mostWays bounds how often a schema that the library checks may compare one
	// value, counting every way that leads from the root to a schema.
	mostWays = 10_000
)

// compiler compiles one schema, and collects what is wrong with it.
type compiler struct {
	root any
	// note is called with every fault, hint with what its author should know.
	fault, hint func(pointer, text string)

	faults  int
	count   int
	library bool              // a keyword needs it
	anchors map[string]string // name to pointer
	dynamic map[string][]any  // schemas by $dynamicAnchor
	nodes   map[string]*node  // by pointer
	refs    []reference
	seen    map[string]bool // pointers of schemas that were inspected
}

type reference struct{ pointer, target string }

// compiled is a schema that is ready for use: node, or library if that is not
// nil.
type compiled struct {
	node    *node
	library *jsonschema.Schema
}

// compileSchema compiles a decoded schema (numbers are json.Number). If a fault
// was noted the result means nothing.
func compileSchema(root any, fault, hint func(pointer, text string)) compiled {
	c := &compiler{
		root: root, hint: hint, anchors: map[string]string{}, dynamic: map[string][]any{}, nodes: map[string]*node{},
		seen: map[string]bool{},
	}
	c.fault = func(pointer, text string) {
		c.faults++
		fault(pointer, text)
	}
	c.root = plainNumbers(root)
	root = c.root
	switch root.(type) {
	case map[string]any, bool:
	default:
		c.fault("", "a schema is an object, or true or false")
		return compiled{}
	}
	c.inspect(root, "")
	if c.count > mostSchemas {
		c.fault("", fmt.Sprintf("it has more than %d schemas in it", mostSchemas))
	}
	if c.faults > 0 {
		return compiled{}
	}
	for i := 0; i < len(c.refs); i++ { // there may come more
		schema, pointer, err := c.lookup(c.refs[i].target)
		if err != nil {
			c.fault(c.refs[i].pointer, err.Error())
		} else if !c.seen[pointer] {
			c.inspect(schema, pointer) // it stands where no keyword has a schema
		}
	}
	if c.faults > 0 {
		return compiled{}
	}
	lib, err := compileLibrary(root)
	if err != nil {
		c.libraryFaults(err)
		return compiled{}
	}
	if c.library {
		if ways := c.ways(root, "", map[string]int{}); ways < 0 {
			c.fault("", "a schema that refers to itself cannot use "+strings.Join(beyond, ", ")+": what checking an event takes would have no bound")
		} else if ways > mostWays {
			c.fault("", fmt.Sprintf("checking a value would take more than %d steps; reuse fewer schemas in each other, or do without %s", mostWays, strings.Join(beyond, ", ")))
		}
		return compiled{library: lib}
	}
	n := c.compile(root, "")
	c.endless()
	return compiled{node: n}
}

// inspect looks at a schema and those in it for what the metaschema does not
// know.
func (c *compiler) inspect(schema any, pointer string) {
	if c.count++; c.count > mostSchemas || c.seen[pointer] {
		return
	}
	c.seen[pointer] = true
	obj, ok := schema.(map[string]any)
	if !ok {
		return // the metaschema tells
	}
	for _, name := range slices.Sorted(maps.Keys(obj)) {
		value, here := obj[name], pointer+"/"+token(name)
		what, known := keywords[name]
		switch instead, gone := removed[name]; {
		case known:
		case gone:
			c.fault(here, "this keyword is not of JSON Schema 2020-12; use "+instead)
			continue
		default:
			if !strings.HasPrefix(name, "x-") {
				c.hint(here, "this is no keyword of JSON Schema 2020-12 and says nothing")
			}
			continue
		}
		if slices.Contains(beyond, name) {
			c.library = true
		}
		switch what {
		case subschema:
			c.inspect(value, here)
		case schemaList:
			list, _ := value.([]any)
			for i, s := range list {
				c.inspect(s, here+"/"+strconv.Itoa(i))
			}
		case schemaMap:
			members, _ := value.(map[string]any)
			for _, key := range slices.Sorted(maps.Keys(members)) {
				if name == "patternProperties" {
					c.pattern(key, here+"/"+token(key))
				}
				c.inspect(members[key], here+"/"+token(key))
			}
		case plain:
			c.inspectValue(name, value, pointer, here, obj)
		}
	}
}

func (c *compiler) inspectValue(name string, value any, pointer, here string, schema any) {
	s, isText := value.(string)
	switch name {
	case "$schema":
		if isText && strings.TrimSuffix(s, "#") != dialect {
			c.fault(here, "only JSON Schema 2020-12 is known: "+dialect)
		}
	case "$id":
		if pointer != "" {
			c.fault(here, "only the whole schema may have an $id; refer to its parts by JSON pointer, or by $anchor")
		}
	case "$anchor":
		if !isText {
			return
		}
		if _, twice := c.anchors[s]; twice {
			c.fault(here, "the schema has another anchor of this name")
		}
		c.anchors[s] = pointer
	case "$dynamicAnchor":
		if isText {
			c.library = true
			c.anchors[s] = pointer
			c.dynamic[s] = append(c.dynamic[s], schema)
		}
	case "$ref", "$dynamicRef":
		if !isText {
			return
		}
		if !strings.HasPrefix(s, "#") {
			c.fault(here, "a schema can refer to its own parts only, by # and a JSON pointer or an anchor; put what it needs under $defs")
			return
		}
		c.refs = append(c.refs, reference{pointer: here, target: fragmentOf(s)})
	case "pattern":
		if isText {
			c.pattern(s, here)
		}
	case "format":
		if isText && !isFormat(s) {
			c.fault(here, "the format "+strconv.Quote(s)+" is not known; these are: "+knownFormats())
		}
	}
}

// pattern checks a regular expression. Those of Go take time in proportion to
// the text, whatever a sender sends.
func (c *compiler) pattern(pattern, here string) {
	if _, err := regexp.Compile(pattern); err != nil {
		c.fault(here, "not a regular expression of Go (RE2: no lookaround, no backreferences): "+err.Error())
	}
}

// lookup returns the schema that a fragment names, and its JSON pointer.
func (c *compiler) lookup(fragment string) (schema any, pointer string, err error) {
	if fragment != "" && fragment[0] != '/' {
		anchor, ok := c.anchors[fragment]
		if !ok {
			return nil, "", errors.New("the schema has no anchor of this name")
		}
		fragment = anchor
	}
	at := c.root
	for tok := range strings.SplitSeq(strings.TrimPrefix(fragment, "/"), "/") {
		if fragment == "" {
			break
		}
		tok = strings.ReplaceAll(strings.ReplaceAll(tok, "~1", "/"), "~0", "~")
		pointer += "/" + token(tok)
		found := false
		switch inner := at.(type) {
		case map[string]any:
			at, found = inner[tok]
		case []any:
			i, err := strconv.Atoi(tok)
			if found = err == nil && i >= 0 && i < len(inner) && strconv.Itoa(i) == tok; found {
				at = inner[i]
			}
		}
		if !found {
			return nil, "", errors.New("the schema has nothing at this place")
		}
	}
	switch at.(type) {
	case map[string]any, bool:
		return at, pointer, nil
	}
	return nil, "", errors.New("there is no schema at this place")
}

// fragmentOf returns what a reference says behind its #.
func fragmentOf(ref string) string {
	fragment := strings.TrimPrefix(ref, "#")
	if unescaped, err := url.PathUnescape(fragment); err == nil {
		return unescaped
	}
	return fragment
}

func token(name string) string { return string(event.AppendPointerToken(nil, []byte(name))) }

// libraryFaults notes what the library finds wrong with the schema.
func (c *compiler) libraryFaults(err error) {
	bad, ok := errors.AsType[*jsonschema.SchemaValidationError](err)
	if !ok {
		c.fault("", strings.ReplaceAll(err.Error(), resource, ""))
		return
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](bad.Err)
	if !ok {
		c.fault("", bad.Err.Error())
		return
	}
	said := map[string]bool{}
	leaves(invalid, c.root, func(v Violation) {
		at := v.PointerIn("")
		if v.Rule == "anyOf" && strings.HasSuffix(at, "/type") {
			v.Expected = "null, boolean, object, array, number, integer, string, or an array of some of these"
		}
		text := "expected " + v.Expected + ", got " + v.Got
		if !said[at+text] {
			said[at+text] = true
			c.fault(at, text)
		}
	})
	if len(said) == 0 {
		c.fault("", "it is not a schema of JSON Schema 2020-12")
	}
}

// compile returns the node of a schema that stands at a pointer.
func (c *compiler) compile(schema any, pointer string) *node {
	if n, ok := c.nodes[pointer]; ok {
		return n
	}
	if allowed, ok := schema.(bool); ok {
		var n *node
		if !allowed {
			n = &node{never: true}
		}
		c.nodes[pointer] = n
		return n
	}
	obj := schema.(map[string]any)
	n := &node{}
	c.nodes[pointer] = n // before those in it: it may refer to itself
	c.types(n, obj)
	if v, ok := obj["const"]; ok {
		n.equal = newChoice("const", []any{v})
	}
	if v, ok := obj["enum"].([]any); ok {
		if n.equal == nil {
			n.equal = newChoice("enum", v)
		} else {
			n.allOf = append(n.allOf, &node{equal: newChoice("enum", v)})
		}
	}
	if v, ok := obj["$ref"].(string); ok {
		n.ref = c.target(v)
	}
	n.number = c.numbers(obj, pointer)
	n.text = c.texts(obj, pointer)
	n.array = c.arrays(obj, pointer)
	n.object = c.objects(obj, pointer)
	n.allOf = append(n.allOf, c.list(obj, pointer, "allOf")...)
	n.anyOf = c.list(obj, pointer, "anyOf")
	n.oneOf = c.list(obj, pointer, "oneOf")
	if v, ok := obj["not"]; ok {
		if n.not = c.compile(v, pointer+"/not"); n.not == nil {
			n.not = &node{} // true
		}
	}
	if v, ok := obj["if"]; ok {
		if n.condition = c.compile(v, pointer+"/if"); n.condition == nil {
			n.condition = &node{}
		}
		if v, ok := obj["then"]; ok {
			n.then = c.compile(v, pointer+"/then")
		}
		if v, ok := obj["else"]; ok {
			n.orElse = c.compile(v, pointer+"/else")
		}
	}
	return n
}

// target returns the node that a reference names.
func (c *compiler) target(ref string) *node {
	schema, pointer, err := c.lookup(fragmentOf(ref))
	if err != nil {
		panic("a reference that was checked leads nowhere: " + ref)
	}
	return c.compile(schema, pointer)
}

func (c *compiler) list(obj map[string]any, pointer, keyword string) []*node {
	list, _ := obj[keyword].([]any)
	var nodes []*node
	for i, s := range list {
		nodes = append(nodes, c.compile(s, pointer+"/"+keyword+"/"+strconv.Itoa(i)))
	}
	return nodes
}

func (c *compiler) types(n *node, obj map[string]any) {
	var names []string
	switch v := obj["type"].(type) {
	case string:
		names = []string{v}
	case []any:
		for _, name := range v {
			s, _ := name.(string)
			names = append(names, s)
		}
	}
	for _, name := range names {
		n.types |= typeNames[name]
	}
	n.allTypes = strings.Join(names, " or ")
}

// numeric returns the value of a keyword that is a number.
func numeric(obj map[string]any, keyword string) (d decimal, text string, ok bool) {
	v, ok := obj[keyword].(json.Number)
	if !ok {
		return decimal{}, "", false
	}
	return parseDecimal(nil, []byte(v)), string(v), true
}

// size returns the value of a keyword that is a size, otherwise if it is not
// there.
func (c *compiler) size(obj map[string]any, pointer, keyword string, otherwise int) int {
	d, text, ok := numeric(obj, keyword)
	if !ok {
		return otherwise
	}
	if d.exp > 9 {
		c.fault(pointer+"/"+keyword, "sizes may have nine digits; this is "+text)
		return otherwise
	}
	n := 0
	for i := range d.exp {
		n *= 10
		if i < len(d.digits) {
			n += int(d.digits[i] - '0')
		}
	}
	return n
}

func (c *compiler) numbers(obj map[string]any, pointer string) *numbers {
	n := &numbers{}
	for _, b := range []bound{
		{rule: "minimum", expected: "at least ", sign: -1},
		{rule: "maximum", expected: "at most ", sign: 1},
		{rule: "exclusiveMinimum", expected: "more than ", sign: -1, equal: true},
		{rule: "exclusiveMaximum", expected: "less than ", sign: 1, equal: true},
	} {
		limit, text, ok := numeric(obj, b.rule)
		if !ok {
			continue
		}
		b.limit = limit
		b.small, b.isSmall = small([]byte(text))
		b.expected += string(clip([]byte(text), mostGot))
		n.bounds = append(n.bounds, b)
	}
	if d, text, ok := numeric(obj, "multipleOf"); ok {
		divisor, ok := d.asDivisor()
		if !ok {
			c.fault(pointer+"/multipleOf", "it may have 19 digits; this is "+string(clip([]byte(text), mostGot)))
		}
		n.multipleOf, n.multiple = divisor, "a multiple of "+text
	}
	if len(n.bounds) == 0 && n.multipleOf.coef == 0 {
		return nil
	}
	return n
}

func matching(pattern string) string {
	return "a text that matches " + string(clip([]byte(pattern), mostExpected))
}

func (c *compiler) texts(obj map[string]any, pointer string) *texts {
	n := &texts{min: c.size(obj, pointer, "minLength", 0), max: c.size(obj, pointer, "maxLength", -1)}
	if v, ok := obj["pattern"].(string); ok {
		n.pattern, n.matching = regexp.MustCompile(v), matching(v)
	}
	if v, ok := obj["format"].(string); ok {
		n.format = formats()[v]
	}
	if n.min <= 0 && n.max < 0 && n.pattern == nil && n.format == nil {
		return nil
	}
	return n
}

func (c *compiler) arrays(obj map[string]any, pointer string) *arrays {
	n := &arrays{
		min: c.size(obj, pointer, "minItems", 0), max: c.size(obj, pointer, "maxItems", -1),
		prefix: c.list(obj, pointer, "prefixItems"), minContains: 1, maxContains: -1,
	}
	n.unique, _ = obj["uniqueItems"].(bool)
	if v, ok := obj["items"]; ok {
		n.items = c.compile(v, pointer+"/items")
	}
	if v, ok := obj["contains"]; ok {
		n.hasContains, n.contains = true, c.compile(v, pointer+"/contains")
		_, _, n.containsMinSet = numeric(obj, "minContains")
		n.minContains = c.size(obj, pointer, "minContains", 1)
		n.maxContains = c.size(obj, pointer, "maxContains", -1)
	}
	if n.min <= 0 && n.max < 0 && !n.unique && len(n.prefix) == 0 && n.items == nil && !n.hasContains {
		return nil
	}
	return n
}

func (c *compiler) objects(obj map[string]any, pointer string) *objects {
	n := &objects{
		min: c.size(obj, pointer, "minProperties", 0), max: c.size(obj, pointer, "maxProperties", -1),
		members: map[string]member{},
	}
	properties, _ := obj["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		n.members[name] = member{listed: true, node: c.compile(properties[name], pointer+"/properties/"+token(name))}
	}
	bits := 0
	require := func(name string) requirement {
		m := n.members[name]
		if m.bit == 0 {
			bits++
			m.bit = bits
			n.members[name] = m
		}
		return requirement{name: name, bit: m.bit}
	}
	requireAll := func(v any) (all []requirement) {
		names, _ := v.([]any)
		for _, name := range names {
			s, _ := name.(string)
			all = append(all, require(s))
		}
		return all
	}
	n.required = requireAll(obj["required"])
	if m, ok := obj["dependentRequired"].(map[string]any); ok {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			n.dependent = append(n.dependent, dependency{trigger: require(name), rule: "dependentRequired", required: requireAll(m[name])})
		}
	}
	if m, ok := obj["dependentSchemas"].(map[string]any); ok {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			n.dependent = append(n.dependent, dependency{trigger: require(name), schema: c.compile(m[name], pointer+"/dependentSchemas/"+token(name))})
		}
	}
	n.words = (bits + 63) / 64
	if m, ok := obj["patternProperties"].(map[string]any); ok {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			n.patterns = append(n.patterns, patternMember{
				name: regexp.MustCompile(name), node: c.compile(m[name], pointer+"/patternProperties/"+token(name)),
			})
		}
	}
	if v, ok := obj["additionalProperties"]; ok {
		n.additional = c.compile(v, pointer+"/additionalProperties")
		n.hasAdditional = n.additional != nil
	}
	if v, ok := obj["propertyNames"]; ok {
		n.names = c.compile(v, pointer+"/propertyNames")
		n.hasNames = n.names != nil
	}
	if n.min <= 0 && n.max < 0 && len(n.members) == 0 && len(n.patterns) == 0 && !n.hasAdditional && !n.hasNames {
		return nil
	}
	return n
}

// endless notes schemas that a value would be compared with again and again:
// those that refer to themselves other than through a member or an element.
func (c *compiler) endless() {
	const open, closed = 1, 2
	state := map[*node]int{}
	var visit func(*node) bool
	visit = func(n *node) bool {
		if n == nil || state[n] == closed {
			return true
		}
		if state[n] == open {
			return false
		}
		state[n] = open
		next := slices.Concat(n.allOf, n.anyOf, n.oneOf, []*node{n.ref, n.not, n.condition, n.then, n.orElse})
		if n.object != nil {
			for _, d := range n.object.dependent {
				next = append(next, d.schema)
			}
		}
		for _, other := range next {
			if !visit(other) {
				return false
			}
		}
		state[n] = closed
		return true
	}
	for _, pointer := range slices.Sorted(maps.Keys(c.nodes)) {
		if !visit(c.nodes[pointer]) {
			c.fault(pointer, "it refers to itself, so that checking a value would never end")
			return
		}
	}
}

// ways returns how many ways lead from a schema to those below it, itself
// included; -1 if one leads in a circle.
func (c *compiler) ways(schema any, pointer string, known map[string]int) int {
	obj, ok := schema.(map[string]any)
	if !ok {
		return 1
	}
	if n, ok := known[pointer]; ok {
		return n // -1 while it is being counted: a circle
	}
	known[pointer] = -1
	total := 1
	add := func(s any, at string) bool {
		n := c.ways(s, at, known)
		total = min(total+n, 2*mostWays)
		return n >= 0
	}
	for name, value := range obj {
		here := pointer + "/" + token(name)
		good := true
		switch keywords[name] {
		case subschema:
			good = add(value, here)
		case schemaList:
			list, _ := value.([]any)
			for i, s := range list {
				good = good && add(s, here+"/"+strconv.Itoa(i))
			}
		case schemaMap:
			if name == "$defs" || name == "definitions" {
				continue
			}
			members, _ := value.(map[string]any)
			for key, s := range members {
				good = good && add(s, here+"/"+token(key))
			}
		case plain:
			ref, isText := value.(string)
			if !isText || name != "$ref" && name != "$dynamicRef" {
				continue
			}
			fragment := fragmentOf(ref)
			if s, at, err := c.lookup(fragment); err == nil {
				good = add(s, at)
			}
			if name == "$dynamicRef" {
				for i, s := range c.dynamic[fragment] {
					good = good && add(s, "dynamic/"+fragment+"/"+strconv.Itoa(i))
				}
			}
		}
		if !good {
			return -1
		}
	}
	known[pointer] = total
	return total
}
