package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/eventsluice/sluice/internal/event"
)

// Empty is a document without schemas.
const Empty = `{"schemas":[]}` + "\n"

const (
	mostName    = 512 // bytes of a name, as of an event
	mostVersion = 64  // bytes of a version
	mostDepth   = 500 // levels of a document
	mostBytes   = 16 << 20
	// mostFaults is how many faults of a document are listed.
	mostFaults = 100
)

// Fault is one thing that is wrong with a document.
type Fault struct {
	// Index is the place of the entry among the schemas, -1 for the document as a
	// whole.
	Index int
	// Name and Version are those of the entry, as far as they could be read.
	Name, Version string
	// Pointer is the place, a JSON pointer into the schema of the entry, or into
	// the document.
	Pointer string
	// Text says what is wrong, and what would be right.
	Text string
}

// Error is one line: schemas[3] order_completed@2: /properties/total: …
func (f Fault) Error() string {
	var b strings.Builder
	if f.Index >= 0 {
		b.WriteString("schemas[" + strconv.Itoa(f.Index) + "] ")
		if f.Name != "" {
			b.WriteString(Label(f.Name, f.Version))
			b.WriteString(": ")
		}
	}
	if f.Pointer != "" {
		b.WriteString(f.Pointer + ": ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// Faults are all that is wrong with a document: an error of one line for each,
// the first 100 of them.
type Faults []Fault

func (f Faults) Error() string {
	var lines []string
	for i := range f {
		if i == mostFaults {
			lines = append(lines, fmt.Sprintf("and %d more", len(f)-i))
			break
		}
		lines = append(lines, f[i].Error())
	}
	return strings.Join(lines, "\n")
}

// Label names a schema: name, or name@version if there is a version.
func Label(name, version string) string {
	if version == "" {
		return name
	}
	return name + "@" + version
}

// Parse reads a document:
//
//	{"schemas":[{
//	  "name":    the exact name of the events that it is for,
//	  "version": a string or a number; without it the schema is for events that say none,
//	  "mode":    "observe", "quarantine" or "reject",
//	  "schema":  the JSON Schema (2020-12) of their data,
//	  "description": for people; ignored
//	}]}
//
// A schema may refer to its own parts only ($ref with #), patterns are regular
// expressions of Go, and formats are asserted, so that it may name only those
// that are known. The error is Faults, which name everything that is wrong.
func Parse(doc []byte) (*Set, error) {
	set, faults, _ := parse(doc)
	if len(faults) > 0 {
		return nil, faults
	}
	return set, nil
}

// Check is Parse for people: besides it returns hints, which are no faults, such
// as keywords that say nothing because they are misspelled.
func Check(doc []byte) (set *Set, faults, hints Faults) { return parse(doc) }

func parse(doc []byte) (set *Set, faults, hints Faults) {
	whole := func(pointer, text string) { faults = append(faults, Fault{Index: -1, Pointer: pointer, Text: text}) }
	root, err := decode(doc)
	if err != nil {
		invalid, _ := errors.AsType[*event.Invalid](err)
		if invalid != nil {
			whole(invalid.Pointer, invalid.Detail)
		} else {
			whole("", err.Error())
		}
		return nil, faults, nil
	}
	obj, ok := root.(map[string]any)
	if !ok {
		whole("", `the document is an object: {"schemas":[…]}`)
		return nil, faults, nil
	}
	for _, name := range slices.Sorted(maps.Keys(obj)) {
		if name != "schemas" && name != "$schema" && name != "description" {
			whole("/"+token(name), `this member is not known; the document has "schemas"`)
		}
	}
	list, ok := obj["schemas"].([]any)
	if !ok {
		whole("/schemas", "it must be an array of schemas")
		return nil, faults, nil
	}
	set = &Set{byName: map[string]*contract{}}
	seen := map[[2]string]int{}
	for i, item := range list {
		e := parseEntry(item, i, &faults, &hints)
		if e == nil {
			continue
		}
		key := [2]string{e.Name, e.Version}
		if first, twice := seen[key]; twice {
			faults = append(faults, Fault{Index: i, Name: e.Name, Version: e.Version, Text: fmt.Sprintf("schemas[%d] is for the same name and version", first)})
			continue
		}
		seen[key] = i
		set.add(e)
	}
	if len(faults) > 0 {
		return nil, faults, hints
	}
	set.finish()
	return set, nil, hints
}

// decode reads JSON of which no object has a name twice, with numbers as
// json.Number.
func decode(doc []byte) (any, error) {
	doc = bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf"))
	if len(bytes.TrimSpace(doc)) == 0 {
		return nil, errors.New(`the document is empty; without schemas it is {"schemas":[]}`)
	}
	if err := event.Check(doc, event.Limits{MaxBytes: mostBytes, MaxDepth: mostDepth}); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

func parseEntry(item any, index int, faults, hints *Faults) *Entry {
	e := &Entry{}
	before := len(*faults)
	fault := func(pointer, text string) {
		*faults = append(*faults, Fault{Index: index, Name: e.Name, Version: e.Version, Pointer: pointer, Text: text})
	}
	obj, ok := item.(map[string]any)
	if !ok {
		fault("", "an entry is an object with name, mode and schema")
		return nil
	}
	e.Name, _ = obj["name"].(string)
	switch v := obj["version"].(type) {
	case string:
		e.Version = v
		if v == "" {
			fault("", "version is empty; leave it out for events that say no version")
		}
	case json.Number:
		e.Version = string(v)
	case nil:
	default:
		fault("", "version is a string or a number")
	}
	switch {
	case e.Name == "":
		fault("", "name is missing: the exact name of the events that the schema is for")
	case len(e.Name) > mostName:
		fault("", fmt.Sprintf("name has %d bytes, at most %d are allowed", len(e.Name), mostName))
	}
	if len(e.Version) > mostVersion {
		fault("", fmt.Sprintf("version has %d bytes, at most %d are allowed", len(e.Version), mostVersion))
	}
	mode, _ := obj["mode"].(string)
	if e.Mode, ok = modeOf(mode); !ok {
		fault("", fmt.Sprintf("mode is %s; right would be observe, quarantine or reject", jsonText(obj["mode"])))
	}
	for _, name := range slices.Sorted(maps.Keys(obj)) {
		switch name {
		case "name", "version", "mode", "schema", "description":
		default:
			fault("", "the member "+strconv.Quote(name)+" is not known; an entry has name, version, mode, schema and description")
		}
	}
	schema, ok := obj["schema"]
	if !ok {
		fault("", "schema is missing: the JSON Schema of the data of the events")
		return nil
	}
	e.label = Label(e.Name, e.Version)
	e.compiled = compileSchema(schema, fault, func(pointer, text string) {
		*hints = append(*hints, Fault{Index: index, Name: e.Name, Version: e.Version, Pointer: pointer, Text: text})
	})
	if len(*faults) > before {
		return nil
	}
	return e
}
