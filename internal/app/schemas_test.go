package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/api/schemas"
	"github.com/eventsluice/sluice/api/schemas/schemastest"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/router"
	"github.com/eventsluice/sluice/internal/schema"
)

// parsers read the documents that there are JSON Schemas of.
var parsers = map[string]func(*testing.T, []byte) error{
	"keys": func(_ *testing.T, doc []byte) error {
		_, err := source.Parse(doc, nil)
		return err
	},
	"rules": func(_ *testing.T, doc []byte) error {
		_, err := router.Parse(doc)
		return err
	},
	"destinations": func(t *testing.T, doc []byte) error {
		_, err := ParseDestinations(doc, t.TempDir())
		return err
	},
	"schemas": func(_ *testing.T, doc []byte) error {
		_, err := schema.Parse(doc)
		return err
	},
}

// TestTheJSONSchemasSayWhatTheProgramsSay reads each document with both: what
// the schema refuses the program does, and what the program takes the schema
// does.
func TestTheJSONSchemasSayWhatTheProgramsSay(t *testing.T) {
	t.Parallel()
	for _, c := range schemastest.Cases {
		t.Run(c.Name+"/"+strings.ReplaceAll(c.What, " ", "_"), func(t *testing.T) {
			t.Parallel()
			if err := parsers[c.Name](t, []byte(c.Document)); (err == nil) != c.Valid {
				t.Errorf("valid is %v, and the program says %v of %s", c.Valid, err, c.Document)
			}
		})
	}
}

func wantValid(t *testing.T, where, name string, doc []byte) {
	t.Helper()
	c, err := schemastest.New(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(doc); err != nil {
		t.Errorf("%s: %v\n%s", where, err, doc)
	}
}

func TestTheDocumentsOfAFirstRunAreValidUnderTheirSchemas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := Settings{DataDir: dir}
	paths := map[string]*string{"keys": &s.Keys, "rules": &s.Rules, "destinations": &s.Destinations, "schemas": &s.Schemas}
	for _, name := range schemas.Names {
		*paths[name] = filepath.Join(dir, name+".json")
	}
	if _, err := prepare(s); err != nil {
		t.Fatal(err)
	}
	for _, name := range schemas.Names {
		doc, err := os.ReadFile(*paths[name])
		if err != nil {
			t.Fatal(err)
		}
		wantValid(t, "the first run", name, doc)
	}
}

// nameOf tells a document of operators from other JSON.
func nameOf(doc []byte) string {
	var object map[string]json.RawMessage
	if json.Unmarshal(doc, &object) == nil {
		for _, name := range []string{"keys", "schemas"} {
			if strings.HasPrefix(string(object[name]), "[") {
				return name
			}
		}
		return ""
	}
	var list []map[string]json.RawMessage
	if json.Unmarshal(doc, &list) != nil || len(list) == 0 {
		return ""
	}
	switch {
	case list[0]["enabled_events"] != nil:
		return "rules"
	case list[0]["connector"] != nil:
		return "destinations"
	}
	return ""
}

// TestTheExamplesInTheTextsAreValid finds the documents in the README, the
// guides and the deployments.
func TestTheExamplesInTheTextsAreValid(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	block := regexp.MustCompile("(?s)```json\n(.*?)\n```")
	found := map[string]int{}
	check := func(where string, doc []byte) {
		// What an example leaves out of a hash is no part of it.
		doc = []byte(strings.ReplaceAll(string(doc), `"sha256":"…"`, `"sha256":"`+strings.Repeat("0", 64)+`"`))
		if name := nameOf(doc); name != "" {
			found[name]++
			wantValid(t, where, name, doc)
		}
	}
	texts, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(texts, filepath.Join(root, "README.md"), filepath.Join(root, "deployments", "README.md")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range block.FindAllSubmatch(text, -1) {
			check(path, doc[1])
		}
	}
	paths, err := filepath.Glob(filepath.Join(root, "deployments", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		doc, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		check(path, doc)
	}
	for _, name := range []string{"rules", "destinations", "schemas"} {
		if found[name] == 0 {
			t.Errorf("there is no example of %s: %v", name, found)
		}
	}
}

func TestTheSchemaOfDestinationsKnowsTheConnectors(t *testing.T) {
	t.Parallel()
	var doc struct {
		Defs struct {
			Destination struct {
				Properties struct{ Connector struct{ Enum []string } }
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(schemas.Of("destinations"), &doc); err != nil {
		t.Fatal(err)
	}
	want := connectors().Kinds()
	slices.Sort(want)
	if got := doc.Defs.Destination.Properties.Connector.Enum; !slices.Equal(got, want) {
		t.Errorf("the schema has %v, the program %v", got, want)
	}
}
