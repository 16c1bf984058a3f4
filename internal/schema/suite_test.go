package schema

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// suiteGroup is one schema of the JSON Schema Test Suite with its cases.
type suiteGroup struct {
	Description string
	Schema      json.RawMessage
	Tests       []struct {
		Description string
		Data        json.RawMessage
		Valid       bool
	}
}

func readSuite(t testing.TB, pattern string) map[string][]suiteGroup {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "suite", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	all := map[string][]suiteGroup{}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var groups []suiteGroup
		if err := json.Unmarshal(body, &groups); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = groups
	}
	return all
}

// asEntry parses a document with one schema.
func asEntry(schema []byte) (*Entry, error) {
	set, err := Parse(fmt.Appendf(nil, `{"schemas":[{"name":"e","mode":"reject","schema":%s}]}`, schema))
	if err != nil {
		return nil, err
	}
	return set.Entries()[0], nil
}

// The schemas of the suite that are refused say why with one of these.
var refusals = []string{
	"only the whole schema may have an $id",
	"a schema can refer to its own parts only",
	"a schema that refers to itself cannot use",
	"is not known; these are: date,",
}

func TestTheSuiteOfJSONSchemaPasses(t *testing.T) {
	t.Parallel()
	compiled, byLibrary, refused, cases := 0, 0, 0, 0
	for name, groups := range readSuite(t, "*.json") {
		for _, g := range groups {
			e, err := asEntry(g.Schema)
			if err != nil {
				for _, f := range err.(Faults) {
					if !slices.ContainsFunc(refusals, func(why string) bool { return strings.Contains(f.Text, why) }) &&
						!strings.HasSuffix(f.Text, "another anchor of this name") {
						t.Errorf("%s: %s: refused: %v", name, g.Description, f)
					}
				}
				refused++
				continue
			}
			if e.library != nil {
				byLibrary++
			} else {
				compiled++
			}
			for _, c := range g.Tests {
				cases++
				var r Report
				if got := e.Check(c.Data, &r); got != c.Valid {
					t.Errorf("%s: %s: %s: right is %v, want %v: %v", name, g.Description, c.Description, got, c.Valid, r.Violations)
				}
				if len(r.Violations) > 0 == c.Valid {
					t.Errorf("%s: %s: %s: right is %v with %d violations", name, g.Description, c.Description, c.Valid, len(r.Violations))
				}
			}
		}
	}
	t.Logf("%d schemas compiled, %d by the library, %d refused, %d cases", compiled, byLibrary, refused, cases)
	if compiled < 220 || byLibrary < 70 || refused > 60 || cases < 1000 {
		t.Error("the suite was not looked at as it should be")
	}
}

func TestFormatsAreWhatTheLibrarySays(t *testing.T) {
	t.Parallel()
	for name, groups := range readSuite(t, "format/*.json") {
		e, err := asEntry(fmt.Appendf(nil, `{"format":%q}`, name))
		if err != nil {
			t.Fatal(err)
		}
		lib, err := compileLibrary(map[string]any{"format": name})
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			for _, c := range g.Tests {
				var value any
				if err := json.Unmarshal(c.Data, &value); err != nil {
					t.Fatal(err)
				}
				var r Report
				if got, want := e.Check(c.Data, &r), lib.Validate(value) == nil; got != want {
					t.Errorf("%s: %s: right is %v, the library says %v", name, c.Data, got, want)
				}
			}
		}
	}
}
