package schema

import (
	"hash/maphash"
	"iter"
	"strconv"
	"unicode/utf8"
)

// checker checks one value, over its bytes. It keeps its memory from one to the
// next.
//
// It works in two ways. Aloud it notes every violation and goes on; each check
// then returns where its value ends. Quietly, below not, anyOf, oneOf, if and
// contains, the first violation ends the check, and the caller finds the end
// itself. With the report full it goes on quietly.
type checker struct {
	b      []byte
	report *Report
	quiet  int
	// budget is how many schemas may still be compared with values: one that
	// refers to itself in several ways can ask for more than anybody can wait
	// for.
	budget int

	path   []step
	bits   []uint64 // of the open objects: which names are there
	digits []byte
	hashes [][2]uint64
}

// step is one step of the way from the data to a value.
type step struct {
	name  []byte // of a member
	index int    // of an element, if name is nil
}

// budgetOf is how many schemas may be compared with the values of an event of n
// bytes. A value has two bytes at least ("0,"), and schemas in use have about
// three for each value; what needs 64 is no contract but an accident.
func budgetOf(n int) int { return 1000 + 32*n }

// check checks the value at i and returns where it ends, and whether it is
// right. If it is not, and quiet or the report is full, the end means nothing.
func (c *checker) check(n *node, i int) (end int, ok bool) {
	if n == nil {
		return valueEnd(c.b, i), true
	}
	if c.budget--; c.budget < 0 {
		c.wrong("complexity", "an event that its schema can be compared with in reasonable time", "one that needs too many comparisons")
		return valueEnd(c.b, i), false
	}
	k := kindAt(c.b, i)
	if n.never {
		c.wrongValue("false", "nothing: the schema allows no value here", i)
		return valueEnd(c.b, i), false
	}
	if n.types != 0 && !c.isOf(n.types, k, i) {
		c.wrong("type", n.allTypes, k.String())
		return valueEnd(c.b, i), false
	}
	if n.equal != nil && !n.equal.has(c, i) {
		c.wrongValue(n.equal.rule, n.equal.expected, i)
		return valueEnd(c.b, i), false
	}
	ok = true
	if n.ref != nil {
		if end, ok = c.check(n.ref, i); !ok && c.done() {
			return end, false
		}
	}
	own := true
	switch {
	case k == object && n.object != nil:
		end, own = c.object(n.object, i)
	case k == array && n.array != nil:
		end, own = c.array(n.array, i)
	case k == text && n.text != nil:
		end, own = c.text(n.text, i)
	case k == number && n.number != nil:
		end, own = c.number(n.number, i)
	case n.ref == nil:
		end = valueEnd(c.b, i)
	}
	if ok = ok && own; !ok && c.done() {
		return end, false
	}
	if n.allOf != nil || n.anyOf != nil || n.oneOf != nil || n.not != nil || n.condition != nil {
		if !c.applicators(n, k, i) {
			ok = false
		}
	}
	return end, ok
}

// done reports whether a violation ends the check.
func (c *checker) done() bool { return c.quiet > 0 || c.report.full() || c.budget < 0 }

// isOf reports whether the value at i, which is of the type k, is of one of
// these types.
func (c *checker) isOf(types, k jsonType, i int) bool {
	if types&k != 0 {
		return true
	}
	if k != number || types&integer == 0 {
		return false
	}
	digits := c.b[i:numberEnd(c.b, i)]
	if _, ok := small(digits); ok {
		return true
	}
	return c.decimal(digits).isInteger()
}

// decimal reads a number. It is valid until the next call.
func (c *checker) decimal(text []byte) decimal {
	d := parseDecimal(c.digits[:0], text)
	if cap(d.digits) > cap(c.digits) {
		c.digits = d.digits[:0]
	}
	return d
}

func (c *checker) number(n *numbers, i int) (end int, ok bool) {
	end, ok = numberEnd(c.b, i), true
	digits := c.b[i:end]
	whole, isSmall := small(digits)
	var d decimal
	if !isSmall || n.multipleOf.coef != 0 {
		d = c.decimal(digits)
	}
	for j := range n.bounds {
		b := &n.bounds[j]
		var cmp int
		switch {
		case isSmall && b.isSmall:
			cmp = compare(whole, b.small)
		case isSmall:
			cmp = c.decimal(digits).cmp(b.limit)
		default:
			cmp = d.cmp(b.limit)
		}
		if b.breaks(cmp) {
			ok = false
			if c.wrongValue(b.rule, b.expected, i); c.done() {
				return end, false
			}
		}
	}
	if n.multipleOf.coef != 0 && !n.multipleOf.divides(c.decimal(digits)) {
		ok = false
		c.wrongValue("multipleOf", n.multiple, i)
	}
	return end, ok
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (c *checker) text(n *texts, i int) (end int, ok bool) {
	value, end := meaning(c.b, i)
	ok = true
	if n.min > 0 || n.max >= 0 {
		length := utf8.RuneCount(value)
		if length < n.min {
			ok = false
			c.wrongCount("minLength", "at least ", n.min, length, " characters")
		}
		if n.max >= 0 && length > n.max {
			ok = false
			c.wrongCount("maxLength", "at most ", n.max, length, " characters")
		}
		if !ok && c.done() {
			return end, false
		}
	}
	if n.pattern != nil && !n.pattern.Match(value) {
		ok = false
		if c.wrongValue("pattern", n.matching, i); c.done() {
			return end, false
		}
	}
	if n.format != nil && !n.format.is(value) {
		ok = false
		c.wrongValue("format", n.format.expected, i)
	}
	return end, ok
}

func (c *checker) array(n *arrays, i int) (end int, ok bool) {
	ok = true
	count, found := 0, 0
	depth := len(c.path)
	c.path = append(c.path, step{})
	for j := space(c.b, i+1); ; {
		if ch := at(c.b, j); ch == ']' || ch == 0 {
			end = min(j+1, len(c.b))
			break
		}
		c.path[depth].index = count
		item := n.items
		if count < len(n.prefix) {
			item = n.prefix[count]
		}
		next, good := c.check(item, j) // of nil: its end
		if !good {
			if ok = false; c.done() {
				return -1, false
			}
		}
		if n.hasContains && c.quietly(n.contains, j) {
			found++
		}
		count++
		j = space(c.b, next)
		if at(c.b, j) != ',' {
			end = min(j+1, len(c.b))
			break
		}
		j = space(c.b, j+1)
	}
	c.path = c.path[:depth]
	if count < n.min {
		ok = false
		c.wrongCount("minItems", "at least ", n.min, count, " items")
	}
	if n.max >= 0 && count > n.max {
		ok = false
		c.wrongCount("maxItems", "at most ", n.max, count, " items")
	}
	if n.hasContains {
		if found < n.minContains {
			ok = false
			rule := "contains"
			if n.containsMinSet {
				rule = "minContains"
			}
			c.wrongCount(rule, "at least ", n.minContains, found, " items of the kind that contains describes")
		}
		if n.maxContains >= 0 && found > n.maxContains {
			ok = false
			c.wrongCount("maxContains", "at most ", n.maxContains, found, " items of the kind that contains describes")
		}
	}
	if !ok && c.done() {
		return end, false
	}
	if n.unique && count > 1 && !c.unique(i) {
		ok = false
		c.wrong("uniqueItems", "items that all differ", "two that are equal")
	}
	return end, ok
}

func (c *checker) object(n *objects, i int) (end int, ok bool) {
	ok = true
	count, depth, base := 0, len(c.path), len(c.bits)
	for range n.words {
		c.bits = append(c.bits, 0)
	}
	c.path = append(c.path, step{})
	for j := space(c.b, i+1); ; {
		if at(c.b, j) != '"' {
			end = min(j+1, len(c.b))
			break
		}
		name, behind := meaning(c.b, j)
		value := space(c.b, space(c.b, behind)+1)
		known, listed := n.members[string(name)]
		if known.bit != 0 {
			c.bits[base+(known.bit-1)/64] |= 1 << ((known.bit - 1) % 64)
		}
		count++
		c.path[depth].name = name
		next, covered := -1, known.listed && listed
		if covered {
			var good bool
			if next, good = c.check(known.node, value); !good {
				if ok = false; c.done() {
					return -1, false
				}
			}
		}
		for p := range n.patterns {
			if !n.patterns[p].name.Match(name) {
				continue
			}
			covered = true
			var good bool
			if next, good = c.check(n.patterns[p].node, value); !good {
				if ok = false; c.done() {
					return -1, false
				}
			}
		}
		if !covered && n.hasAdditional {
			var good bool
			if n.additional.never {
				c.wrong("additionalProperties", "no members but those that the schema names", kindAt(c.b, value).String())
			} else {
				next, good = c.check(n.additional, value)
			}
			if !good {
				if ok = false; c.done() {
					return -1, false
				}
			}
		}
		if n.hasNames && !c.quietly(n.names, j) {
			ok = false
			if c.wrong("propertyNames", "a name that propertyNames allows", quoted(name)); c.done() {
				return -1, false
			}
		}
		if next < 0 {
			next = valueEnd(c.b, value)
		}
		j = space(c.b, next)
		if at(c.b, j) != ',' {
			end = min(j+1, len(c.b))
			break
		}
		j = space(c.b, j+1)
	}
	c.path = c.path[:depth]
	if count < n.min {
		ok = false
		c.wrongCount("minProperties", "at least ", n.min, count, " members")
	}
	if n.max >= 0 && count > n.max {
		ok = false
		c.wrongCount("maxProperties", "at most ", n.max, count, " members")
	}
	for _, r := range n.required {
		if !c.has(base, r.bit) {
			ok = false
			if c.missing("required", r.name); c.done() {
				return end, false
			}
		}
	}
	if !c.depend(n.dependent, base, i) {
		ok = false
	}
	c.bits = c.bits[:base]
	return end, ok
}

// has reports whether the object whose bits begin at base has a name.
func (c *checker) has(base, bit int) bool { return c.bits[base+(bit-1)/64]>>((bit-1)%64)&1 == 1 }

// depend checks what an object has to have because of what it has.
func (c *checker) depend(all []dependency, base, i int) (ok bool) {
	ok = true
	for d := range all {
		dep := &all[d]
		if !c.has(base, dep.trigger.bit) {
			continue
		}
		for _, r := range dep.required {
			if !c.has(base, r.bit) {
				ok = false
				if c.missing(dep.rule, r.name); c.done() {
					return false
				}
			}
		}
		if dep.schema != nil {
			if _, good := c.check(dep.schema, i); !good {
				if ok = false; c.done() {
					return false
				}
			}
		}
	}
	return ok
}

// applicators checks the value at i against other schemas.
func (c *checker) applicators(n *node, k jsonType, i int) (ok bool) {
	ok = true
	for _, other := range n.allOf {
		if _, good := c.check(other, i); !good {
			if ok = false; c.done() {
				return false
			}
		}
	}
	if n.anyOf != nil && c.matching(n.anyOf, i, 1) == 0 {
		ok = false
		c.none("anyOf", n.anyOf, k, i)
	}
	if !ok && c.done() {
		return false
	}
	if n.oneOf != nil {
		switch c.matching(n.oneOf, i, 2) {
		case 0:
			ok = false
			c.none("oneOf", n.oneOf, k, i)
		case 2:
			ok = false
			c.wrong("oneOf", "exactly one of "+strconv.Itoa(len(n.oneOf))+" alternatives", "two that match")
		}
	}
	if !ok && c.done() {
		return false
	}
	if n.not != nil && c.quietly(n.not, i) {
		ok = false
		if c.wrongValue("not", "none of the values that the schema excludes", i); c.done() {
			return false
		}
	}
	if n.condition != nil {
		branch := n.orElse
		if c.quietly(n.condition, i) {
			branch = n.then
		}
		if branch != nil {
			if _, good := c.check(branch, i); !good {
				ok = false
			}
		}
	}
	return ok
}

// matching returns how many alternatives the value at i is right for, at most
// most.
func (c *checker) matching(alternatives []*node, i, most int) (n int) {
	for _, a := range alternatives {
		if c.quietly(a, i) {
			if n++; n == most {
				break
			}
		}
	}
	return n
}

// none notes that the value at i is right for no alternative. If only one of
// them is for values of its type (null or an object, say), what that one finds
// wrong is what people want to know.
func (c *checker) none(rule string, alternatives []*node, k jsonType, i int) {
	if c.quiet > 0 {
		return
	}
	var only *node
	n := 0
	for _, a := range alternatives {
		types := a.typesOf()
		if types == 0 || c.isOf(types, k, i) {
			only = a
			n++
		}
	}
	if n == 1 && only != nil && !only.never {
		c.check(only, i)
		return
	}
	c.wrongValue(rule, "one of "+strconv.Itoa(len(alternatives))+" alternatives", i)
}

// typesOf returns the kinds that a schema is for, its references included; zero
// for all.
func (n *node) typesOf() jsonType {
	for range 8 {
		if n == nil || n.types != 0 || n.ref == nil {
			break
		}
		n = n.ref
	}
	if n == nil {
		return 0
	}
	return n.types
}

// quietly reports whether the value at i is right, and notes nothing.
func (c *checker) quietly(n *node, i int) bool {
	depth, bits := len(c.path), len(c.bits)
	c.quiet++
	_, ok := c.check(n, i)
	c.quiet--
	c.path, c.bits = c.path[:depth], c.bits[:bits]
	return ok
}

// seeds make the hashes of values unpredictable.
var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// fewItems is how many items are compared one by one.
const fewItems = 32

// unique reports whether the items of the array at i all differ: whether their
// hashes of 128 bits do.
func (c *checker) unique(i int) bool {
	base := len(c.hashes)
	defer func() { c.hashes = c.hashes[:base] }()
	var seen map[[2]uint64]struct{}
	for value := range c.elements(i) {
		h := c.hash(value)
		if seen != nil {
			if _, twice := seen[h]; twice {
				return false
			}
			seen[h] = struct{}{}
			continue
		}
		for _, other := range c.hashes[base:] {
			if other == h {
				return false
			}
		}
		if c.hashes = append(c.hashes, h); len(c.hashes)-base == fewItems {
			seen = map[[2]uint64]struct{}{}
			for _, other := range c.hashes[base:] {
				seen[other] = struct{}{}
			}
		}
	}
	return true
}

// hash returns the same for values that are equal, however they are written.
func (c *checker) hash(i int) (sum [2]uint64) {
	k := kindAt(c.b, i)
	switch k {
	case text:
		value, _ := meaning(c.b, i)
		return mix(k, value, [2]uint64{})
	case number:
		d := c.decimal(c.b[i:numberEnd(c.b, i)])
		var rest [2]uint64
		rest[0] = uint64(d.exp)
		if d.neg {
			rest[1] = 1
		}
		return mix(k, d.digits, rest)
	case object:
		for name, value := range c.members(i) { // in any order
			h := mix(k, name, c.hash(value))
			sum[0] += h[0]
			sum[1] += h[1]
		}
	case array:
		for value := range c.elements(i) {
			h := c.hash(value)
			sum = mix(k, nil, [2]uint64{sum[0]*31 + h[0], sum[1]*37 + h[1]})
		}
	default:
		return mix(k, c.b[i:i+1], [2]uint64{})
	}
	return mix(k, nil, sum)
}

func mix(k jsonType, value []byte, rest [2]uint64) (sum [2]uint64) {
	for i, seed := range seeds {
		var h maphash.Hash
		h.SetSeed(seed)
		_ = h.WriteByte(byte(k))
		for _, word := range rest {
			var buf [8]byte
			for j := range buf {
				buf[j] = byte(word >> (8 * j))
			}
			_, _ = h.Write(buf[:])
		}
		_, _ = h.Write(value)
		sum[i] = h.Sum64()
	}
	return sum
}

// members returns the names of the object at i and where their values are.
func (c *checker) members(i int) iter.Seq2[[]byte, int] {
	return func(yield func([]byte, int) bool) {
		j := space(c.b, i+1)
		for at(c.b, j) == '"' {
			name, behind := meaning(c.b, j)
			value := space(c.b, space(c.b, behind)+1)
			if !yield(name, value) {
				return
			}
			if j = space(c.b, valueEnd(c.b, value)); at(c.b, j) != ',' {
				return
			}
			j = space(c.b, j+1)
		}
	}
}

// elements returns where the elements of the array at i are.
func (c *checker) elements(i int) iter.Seq[int] {
	return func(yield func(int) bool) {
		j := space(c.b, i+1)
		for ch := at(c.b, j); ch != ']' && ch != 0; {
			if !yield(j) {
				return
			}
			if j = space(c.b, valueEnd(c.b, j)); at(c.b, j) != ',' {
				return
			}
			j = space(c.b, j+1)
		}
	}
}
