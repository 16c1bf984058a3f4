package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/router"
)

func settingsIn(t *testing.T, dir string) Settings {
	t.Helper()
	s, err := load(t, map[string]string{"SLUICE_DATA_DIR": dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAFirstRunMakesDocumentsThatAreGood(t *testing.T) {
	t.Parallel()
	s := settingsIn(t, filepath.Join(t.TempDir(), "data"))
	made, err := prepare(s)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := source.Parse(read(t, s.Keys), nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, kind := range map[string]source.Kind{made.writeKey: source.Write, made.secretKey: source.Secret} {
		found := keys.Find([]byte(key))
		if found == nil || found.Kind != kind || found.State(time.Now()) != source.Active {
			t.Errorf("the %s key that was shown is %+v in the document", kind, found)
		}
		if strings.Contains(string(read(t, s.Keys)), key) {
			t.Errorf("the %s key stands in the document in clear", kind)
		}
	}
	table, err := router.Parse(read(t, s.Rules))
	if err != nil {
		t.Fatal(err)
	}
	destinations, err := ParseDestinations(read(t, s.Destinations), s.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(destinations) != 1 || destinations[0].Name != table.Destinations()[0] {
		t.Errorf("rules send to %v, destinations are %+v", table.Destinations(), destinations)
	}
}

func TestASecondRunChangesNothing(t *testing.T) {
	t.Parallel()
	s := settingsIn(t, t.TempDir())
	first, err := prepare(s)
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]string{}
	for _, name := range []string{s.Keys, s.Rules, s.Destinations} {
		before[name] = string(read(t, name))
	}
	second, err := prepare(s)
	if err != nil {
		t.Fatal(err)
	}
	if second.writeKey != first.writeKey || second.secretKey != "" {
		t.Errorf("the second run shows %+v after %+v", second, first)
	}
	for name, text := range before {
		if string(read(t, name)) != text {
			t.Errorf("%s has changed", name)
		}
	}
}

func TestAFirstRunThatWasCutShortGoesOn(t *testing.T) {
	t.Parallel()
	s := settingsIn(t, t.TempDir())
	for _, left := range []string{s.Keys + ".next", filepath.Join(s.DataDir, writeKeyFile)} {
		if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	made, err := prepare(s)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := source.Parse(read(t, s.Keys), nil)
	if err != nil {
		t.Fatal(err)
	}
	if keys.Find([]byte(made.writeKey)) == nil {
		t.Error("the key that was shown is not in the document")
	}
}

func TestADocumentOutsideTheDataFolderIsTheOperators(t *testing.T) {
	t.Parallel()
	elsewhere := filepath.Join(t.TempDir(), "absent.json")
	for _, variable := range []string{"SLUICE_KEYS", "SLUICE_RULES", "SLUICE_DESTINATIONS"} {
		s, err := load(t, map[string]string{"SLUICE_DATA_DIR": t.TempDir(), variable: elsewhere})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := prepare(s); err == nil || !strings.Contains(err.Error(), elsewhere) {
			t.Errorf("%s=%s: %v", variable, elsewhere, err)
		}
		if _, err := os.Stat(elsewhere); err == nil {
			t.Errorf("%s: a document was made where the operator keeps them", variable)
		}
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestFaultsOfADestinationsDocumentAreAllNamed(t *testing.T) {
	t.Parallel()
	doc := `[
	  {"destination_name":"a","connector":"fax"},
	  {"destination_name":"b c","connector":"sqlite"},
	  {"destination_name":"d","connector":"sqlite","retry":{"max_attempts":-1}},
	  {"destination_name":"e","connector":"sqlite","retry":{"base_delay":"soon"}},
	  {"destination_name":"f","connector":"webhook","settings":{"url":"gopher://x"}},
	  {"destination_name":"g","connector":"sqlite","colour":"red"},
	  {"destination_name":"h","connector":"sqlite"},
	  {"destination_name":"h","connector":"sqlite"},
	  {"connector":"sqlite"},
	  {"destination_name":"i","connector":"sqlite","start":"yesterday"}
	]`
	_, err := ParseDestinations([]byte(doc), t.TempDir())
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, want := range []string{
		`[0] "a": /connector is "fax"; the connectors are amplitude, clickhouse, ga4, gtm, hubspot, mailchimp, mixpanel, postgres, redshift, s3, slack, sqlite, webhook`,
		`[1] "b c": /destination_name`,
		`[2] "d": /retry/max_attempts is -1`,
		`[3]: "soon" is not a duration`,
		`[4] "f"`,
		`colour`,
		`[7] "h": the name is taken`,
		`/destination_name is required`,
		`[9] "i": /start is "yesterday"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
	for _, doc := range []string{``, `{}`, `[`, `[] []`} {
		if _, err := ParseDestinations([]byte(doc), t.TempDir()); err == nil {
			t.Errorf("%q was taken", doc)
		}
	}
}
