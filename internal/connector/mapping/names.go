package mapping

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// names are what the settings call events, by name or by prefix; nil leaves an
// event out.
type names struct {
	exact, prefixes map[string]*string
	lengths         []int // of the prefixes, the longest first, each once
}

func (n *names) add(pattern string, to *string) {
	if n.exact == nil {
		n.exact, n.prefixes = map[string]*string{}, map[string]*string{}
	}
	prefix, ok := strings.CutSuffix(pattern, "*")
	if !ok {
		n.exact[pattern] = to
		return
	}
	n.prefixes[prefix] = to
	if !slices.Contains(n.lengths, len(prefix)) {
		n.lengths = append(n.lengths, len(prefix))
		slices.SortFunc(n.lengths, func(a, b int) int { return b - a })
	}
}

// lookup returns what an event is called: by its name, else by the longest prefix
// of it.
func (n *names) lookup(name string) (to *string, ok bool) {
	if to, ok = n.exact[name]; ok {
		return to, true
	}
	for _, length := range n.lengths {
		if length <= len(name) {
			if to, ok = n.prefixes[name[:length]]; ok {
				return to, true
			}
		}
	}
	return nil, false
}

// sorted returns the keys of a setting, so that the same settings do the same.
func sorted(set map[string]*string) []string { return slices.Sorted(maps.Keys(set)) }

// place names a member of a setting in a message.
func place(key string) string {
	if key == "" {
		return `""`
	}
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c == '"' || c == '.' || c == ':' || c >= 0x7f {
			return strconv.Quote(CutRunes(key, 60))
		}
	}
	return CutRunes(key, 60)
}
