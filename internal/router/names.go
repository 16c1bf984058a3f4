package router

import (
	"slices"
	"strings"
)

// patterns selects events by name: exact names and prefixes. The prefix "" is
// the pattern "*".
type patterns struct {
	exact    map[string]bool
	prefixes []string
}

func newPatterns(list []string) patterns {
	p := patterns{exact: make(map[string]bool, len(list))}
	for _, s := range list {
		if prefix, ok := strings.CutSuffix(s, "*"); ok {
			p.prefixes = append(p.prefixes, prefix)
		} else {
			p.exact[s] = true
		}
	}
	return p
}

// match returns the pattern that selects name.
func (p patterns) match(name string) (pattern string, ok bool) {
	if p.exact[name] {
		return name, true
	}
	return p.matchPrefix(name)
}

// matchPrefix is match for a name that no exact pattern selects.
func (p patterns) matchPrefix(name string) (pattern string, ok bool) {
	for _, prefix := range p.prefixes {
		if strings.HasPrefix(name, prefix) {
			return prefix + "*", true
		}
	}
	return "", false
}

// nameIndex answers which rules of a destination can want an event of a name,
// in one map lookup and, for a name that stands in no rule, one binary search.
//
// Names in the rules are resolved when the index is made: each has its list.
// Any other name can be selected or excluded by prefixes only, and all
// prefixes that it has are prefixes of the longest one; so each prefix has its
// list too.
type nameIndex struct {
	exact    map[string][]*rule
	prefixes []prefixEntry // sorted; never empty: the first is ""
}

type prefixEntry struct {
	prefix string
	// parent is the index of the longest other prefix that prefix begins
	// with, -1 if there is none.
	parent int
	rules  []*rule
}

// newNameIndex makes the index of rules, which keep their order.
func newNameIndex(rules []*rule) nameIndex {
	names, prefixes := map[string]bool{}, []string{""}
	for _, r := range rules {
		for _, p := range [...]patterns{r.names, r.except} {
			for name := range p.exact {
				names[name] = true
			}
			prefixes = append(prefixes, p.prefixes...)
		}
	}
	lists := listPool{}
	x := nameIndex{exact: make(map[string][]*rule, len(names))}
	for name := range names {
		x.exact[name] = lists.get(rules, func(r *rule) bool { return r.selects(name) })
	}
	slices.Sort(prefixes)
	for _, prefix := range slices.Compact(prefixes) {
		parent := len(x.prefixes) - 1
		for parent >= 0 && !strings.HasPrefix(prefix, x.prefixes[parent].prefix) {
			parent = x.prefixes[parent].parent
		}
		x.prefixes = append(x.prefixes, prefixEntry{
			prefix: prefix,
			parent: parent,
			rules: lists.get(rules, func(r *rule) bool {
				_, wanted := r.names.matchPrefix(prefix)
				_, excluded := r.except.matchPrefix(prefix)
				return r.enabled && wanted && !excluded
			}),
		})
	}
	return x
}

// lookup returns the rules that select a name, in order.
func (x *nameIndex) lookup(name string) []*rule {
	if rules, ok := x.exact[name]; ok {
		return rules
	}
	// Every prefix of name is at or before the place of name, and whatever
	// stands between the two begins with it: it is there or an ancestor.
	low, high := 0, len(x.prefixes)
	for low+1 < high {
		if mid := int(uint(low+high) / 2); x.prefixes[mid].prefix <= name {
			low = mid
		} else {
			high = mid
		}
	}
	for !strings.HasPrefix(name, x.prefixes[low].prefix) {
		low = x.prefixes[low].parent
	}
	return x.prefixes[low].rules
}

// listPool shares equal lists of rules: thousands of names have few of them.
type listPool map[string][]*rule

// get returns the rules that keep approves. A rule that matches whatever it is
// asked about ends the list: none after it is ever reached.
func (p listPool) get(rules []*rule, keep func(*rule) bool) []*rule {
	var list []*rule
	var key []byte
	for _, r := range rules {
		if !keep(r) {
			continue
		}
		list = append(list, r)
		key = append(key, byte(r.index), byte(r.index>>8))
		if r.unconditional() {
			break
		}
	}
	if shared, ok := p[string(key)]; ok {
		return shared
	}
	p[string(key)] = list
	return list
}
