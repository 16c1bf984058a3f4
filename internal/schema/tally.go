package schema

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/event"
)

const (
	// MostGroups bounds the groups of a Tally, and mostGroupsOfSchema those of
	// one name and version: a sender that makes up names of members pushes out
	// what was seen of its own schema and of no other. A group takes about 1 KiB,
	// 6 KiB at most: all together 6 MiB at most.
	MostGroups         = 1000
	mostGroupsOfSchema = 100
	// mostSources and mostSDKs bound what a group lists, and mostLabel the bytes
	// of one such name.
	mostSources = 16
	mostSDKs    = 16
	mostLabel   = 64
)

// Group is violations that have the same fingerprint: schema, version, place
// (whatever the index in an array) and rule.
type Group struct {
	// Fingerprint is 16 hexadecimal digits, the same for the same group always.
	Fingerprint string `json:"fingerprint"`
	Name        string `json:"name"`
	Version     string `json:"version,omitempty"`
	// Mode is that of the schema when the violation was last seen.
	Mode string `json:"mode"`
	// Pointer is the place, with * for indexes of arrays.
	Pointer  string `json:"pointer"`
	Rule     string `json:"rule"`
	Expected string `json:"expected"`
	// Count is how many events had it, FirstSeen and LastSeen when.
	Count     uint64    `json:"count"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	// Sources are those of the keys, and SDKs the libraries by context.library,
	// that sent it: the first 16 of each.
	Sources []string `json:"sources"`
	SDKs    []SDK    `json:"sdks"`
	// Example is the event that had it last.
	Example Example `json:"example"`
}

// SDK is a library that sends events.
type SDK struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// Example is one event with a violation.
type Example struct {
	EventID string `json:"event_id"`
	Pointer string `json:"pointer"`
	Got     string `json:"got"`
}

// Tally groups violations. Its memory is bounded: the groups that have not been
// seen for longest leave, see MostGroups. It is safe for concurrent use; events
// without violations never come here.
type Tally struct {
	mu       sync.Mutex
	groups   map[string]*group
	bySchema map[string]*list.List // of *group, the last seen in front
	all      *list.List            // likewise
	changed  bool                  // since it was kept
	key      []byte
}

// group is a Group in the lists.
type group struct {
	Group
	key, schema string
	inAll       *list.Element
	inSchema    *list.Element
}

// NewTally returns a tally without groups.
func NewTally() *Tally {
	return &Tally{groups: map[string]*group{}, bySchema: map[string]*list.List{}, all: list.New()}
}

// note counts the violations of an event.
func (t *Tally) note(e *Entry, ev *event.Event, at time.Time, r *Report) {
	sdk := sdkOf(ev.Context)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed = true
	for i := range r.Violations {
		v := &r.Violations[i]
		if slices.ContainsFunc(r.Violations[:i], func(o Violation) bool { return o.Group == v.Group && o.Rule == v.Rule }) {
			continue // another element of the same array: the event counts once
		}
		g := t.find(e, v)
		g.Mode, g.Expected = e.Mode.String(), v.Expected
		if g.Count == 0 {
			g.FirstSeen = at
		}
		g.Count++
		g.LastSeen = at
		if source := label64(ev.Source); len(g.Sources) < mostSources && !slices.Contains(g.Sources, source) {
			g.Sources = append(g.Sources, strings.Clone(source))
		}
		if sdk.Name != "" && len(g.SDKs) < mostSDKs && !slices.Contains(g.SDKs, sdk) {
			g.SDKs = append(g.SDKs, SDK{Name: strings.Clone(sdk.Name), Version: strings.Clone(sdk.Version)})
		}
		if g.Example.EventID != ev.ID {
			g.Example.EventID = strings.Clone(ev.ID)
		}
		g.Example.Pointer, g.Example.Got = v.Pointer, v.Got
	}
}

// find returns the group of a violation, in front of the lists.
func (t *Tally) find(e *Entry, v *Violation) *group {
	t.key = appendKey(t.key[:0], e.Name, e.Version, v.Group, v.Rule)
	if g, ok := t.groups[string(t.key)]; ok {
		t.all.MoveToFront(g.inAll)
		t.bySchema[g.schema].MoveToFront(g.inSchema)
		return g
	}
	g := &group{Group: Group{Name: e.Name, Version: e.Version, Pointer: v.Group, Rule: v.Rule, Sources: []string{}, SDKs: []SDK{}}}
	t.add(g)
	return g
}

func appendKey(dst []byte, name, version, pointer, rule string) []byte {
	for _, part := range []string{name, version, pointer, rule} {
		dst = append(append(dst, part...), 0)
	}
	return dst
}

// add puts a new group in front of the lists, and lets go of another if there
// are too many.
func (t *Tally) add(g *group) {
	g.key = string(appendKey(nil, g.Name, g.Version, g.Pointer, g.Rule))
	g.schema = g.Name + "\x00" + g.Version
	sum := sha256.Sum256([]byte(g.key))
	g.Fingerprint = hex.EncodeToString(sum[:8])
	same := t.bySchema[g.schema]
	if same == nil {
		same = list.New()
		t.bySchema[g.schema] = same
	}
	switch {
	case same.Len() >= mostGroupsOfSchema:
		t.remove(same.Back().Value.(*group))
	case t.all.Len() >= MostGroups:
		t.remove(t.all.Back().Value.(*group))
		t.bySchema[g.schema] = same // it may have been the last
	}
	g.inAll, g.inSchema = t.all.PushFront(g), same.PushFront(g)
	t.groups[g.key] = g
}

func (t *Tally) remove(g *group) {
	delete(t.groups, g.key)
	t.all.Remove(g.inAll)
	same := t.bySchema[g.schema]
	if same.Remove(g.inSchema); same.Len() == 0 {
		delete(t.bySchema, g.schema)
	}
}

// Groups returns the groups of a name ("" for all), at most limit, the last seen
// first, and how many there are.
func (t *Tally) Groups(name string, limit int) (groups []Group, total int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	groups = []Group{}
	for e := t.all.Front(); e != nil; e = e.Next() {
		g := e.Value.(*group)
		if name != "" && g.Name != name {
			continue
		}
		if total++; len(groups) < limit {
			c := g.Group
			c.Sources, c.SDKs = slices.Clone(c.Sources), slices.Clone(c.SDKs)
			groups = append(groups, c)
		}
	}
	return groups, total
}

// kept is the form in which a tally is kept.
type kept struct {
	Violations []Group `json:"violations"`
}

// Keep calls write with the tally as JSON, if it has changed since it was last
// kept. An error of write leaves it to be kept again.
func (t *Tally) Keep(write func([]byte) error) error {
	t.mu.Lock()
	changed := t.changed
	t.changed = false
	t.mu.Unlock()
	if !changed {
		return nil
	}
	groups, _ := t.Groups("", MostGroups)
	text, err := json.Marshal(kept{groups})
	if err == nil {
		err = write(append(text, '\n'))
	}
	if err != nil {
		t.mu.Lock()
		t.changed = true
		t.mu.Unlock()
	}
	return err
}

// Load adds what Keep has written.
func (t *Tally) Load(text []byte) error {
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return fmt.Errorf("violations: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(k.Violations) - 1; i >= 0; i-- { // the last seen comes to the front
		g := &group{Group: k.Violations[i]}
		if _, twice := t.groups[string(appendKey(nil, g.Name, g.Version, g.Pointer, g.Rule))]; !twice {
			t.add(g)
		}
	}
	return nil
}

// sdkOf returns the library that the context of an event names. It shares the
// memory of context.
func sdkOf(context []byte) (sdk SDK) {
	c := checker{b: context}
	if len(context) == 0 {
		return sdk
	}
	for name, library := range c.members(space(context, 0)) {
		if string(name) != "library" || kindAt(context, library) != object {
			continue
		}
		for name, value := range c.members(library) {
			if kindAt(context, value) != text {
				continue
			}
			said, _ := meaning(context, value)
			switch string(name) {
			case "name":
				sdk.Name = label64(view(said))
			case "version":
				sdk.Version = label64(view(said))
			}
		}
	}
	return sdk
}

// label64 bounds what a sender or an operator calls something.
func label64(s string) string { return s[:clipped(s, mostLabel)] }
