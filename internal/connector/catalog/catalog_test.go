package catalog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/catalog"
	"github.com/eventsluice/sluice/internal/connector/settings"
	"github.com/eventsluice/sluice/internal/event"
)

// row is a line of a table that explains a setting, or several of them.
var row = regexp.MustCompile("^\\| ((?:`[a-z0-9_.]+`(?:, | and | / )?)+) \\|")

// documented returns the settings in the section "Settings" of a README.
func documented(t *testing.T, file string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Settings\n")
	if !found {
		t.Fatalf("%s has no section Settings", file)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if m := row.FindStringSubmatch(line); m != nil {
			for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(m[1], -1) {
				if !strings.HasPrefix(name[1], "mapping.") { // they are the mapping's to explain
					names = append(names, name[1])
				}
			}
		}
	}
	return names
}

// What an operator reads of a connector is what the program takes.
func TestTheREADMEOfAConnectorHasItsSettings(t *testing.T) {
	t.Parallel()
	for _, spec := range catalog.New(catalog.AWS{}).Specs() {
		t.Run(spec.Kind, func(t *testing.T) {
			t.Parallel()
			written := documented(t, filepath.Join("..", spec.Kind, "README.md"))
			for _, f := range settings.Describe(spec.Settings) {
				if !slices.Contains(written, f.Name) {
					t.Errorf("the README does not explain the setting %s", f.Name)
				}
				written = slices.DeleteFunc(written, func(name string) bool { return name == f.Name })
			}
			if len(written) > 0 {
				t.Errorf("the README explains %v, which are no settings", written)
			}
		})
	}
}

func TestEveryConnectorIsListedOnceInTheGuide(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "connectors.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range append(catalog.New(catalog.AWS{}).Kinds(), "sqlite") {
		if n := strings.Count(string(guide), "| ["+kind+"]("); n != 1 {
			t.Errorf("docs/connectors.md lists %s %d times", kind, n)
		}
	}
}

// Connectors that hand events over as they are have the setting privacy, and keep
// to it.
func TestWhatPrivacyDropsIsInNoCall(t *testing.T) {
	t.Parallel()
	e := event.Event{
		ID: "e1", Type: event.TypeTrack, Name: "n", UserID: "u1", Timestamp: "2026-11-23T10:00:00Z", ReceivedAt: "2026-11-23T10:00:00Z",
		Data: []byte(`{"password":"hunter2","plan":"pro"}`),
	}
	deliveries := []connector.Delivery{{Event: e, Raw: e.Append(nil)}}
	for kind, settings := range map[string]string{
		"webhook":    `{"url":"https://crm.example/"`,
		"postgres":   `{"url":"postgres://user@db.example/events"`,
		"clickhouse": `{"url":"https://db.example:8443"`,
		"redshift":   `{"workgroup_name":"w","database":"d","staging_bucket":"staging","iam_role":"arn:aws:iam::123456789012:role/copy"`,
		"s3":         `{"bucket":"events"`,
	} {
		payload := func(settings string) string {
			conn, err := catalog.New(catalog.AWS{})[kind].New([]byte(settings), connector.Env{})
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			plan := conn.Plan(deliveries)
			if len(plan.Calls) != 1 {
				t.Fatalf("%s: %+v", kind, plan)
			}
			return fmt.Sprintf("%s", plan.Calls[0].Payload)
		}
		if got := payload(settings + "}"); !strings.Contains(got, "hunter2") {
			t.Errorf("%s: nothing to look for in %s", kind, got)
		}
		if got := payload(settings + `,"privacy":{"drop":["/data/password"]}}`); strings.Contains(got, "hunter2") || !strings.Contains(got, "pro") {
			t.Errorf("%s: %s", kind, got)
		}
	}
}
