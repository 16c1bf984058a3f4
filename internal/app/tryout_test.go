package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/simulator"
)

// vendorDestination writes a destinations document that leads to a simulated
// vendor, and returns the settings of a program that has it.
func vendorDestination(t *testing.T, kind string) (Settings, *simulator.Vendor) {
	t.Helper()
	vendor, err := simulator.New(kind)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(vendor)
	t.Cleanup(server.Close)
	doc, err := json.Marshal([]map[string]any{{"destination_name": "there", "connector": kind, "settings": vendor.Settings(server.URL)}})
	if err != nil {
		t.Fatal(err)
	}
	s := Settings{DataDir: t.TempDir()}
	s.Destinations = filepath.Join(s.DataDir, "destinations.json")
	if err := os.WriteFile(s.Destinations, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	return s, vendor
}

func TestATestEventArrivesAndTheAnswerIsExplained(t *testing.T) {
	t.Parallel()
	s, vendor := vendorDestination(t, "mixpanel")
	var out bytes.Buffer
	if err := TryDestination(t.Context(), s, "there", nil, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if items := vendor.Received(); len(items) != 1 || items[0].Name != "sluice_test" || !bytes.Contains(items[0].Body, []byte("sluice destinations test")) {
		t.Errorf("received %+v", items)
	}
	for _, want := range []string{"sluice_test", "mixpanel@", "delivered: the destination has the event"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not said:\n%s", want, &out)
		}
	}
}

func TestWhatFailsATestIsExplainedWithoutSecrets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trouble simulator.Trouble
		want    []string
	}{
		"credentials": {simulator.Trouble{Denied: true}, []string{"auth: credentials, address or schema are wrong", "token", "request", "answer"}},
		"throttled":   {simulator.Trouble{Throttle: 1}, []string{"throttled: the destination asks for patience", "429"}},
		"away":        {simulator.Trouble{Away: true}, []string{"503"}},
		"lost":        {simulator.Trouble{Lose: 1}, []string{"ambiguous: the answer was lost"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, vendor := vendorDestination(t, "mixpanel")
			vendor.Trouble(c.trouble)
			var out bytes.Buffer
			if err := TryDestination(t.Context(), s, "there", nil, &out); !errors.Is(err, ErrSaid) {
				t.Fatalf("%v\n%s", err, &out)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is not said:\n%s", want, &out)
				}
			}
			var settings struct{ Token string }
			if err := json.Unmarshal(vendor.Settings(""), &settings); err != nil || len(settings.Token) < 8 {
				t.Fatalf("%v, token %q", err, settings.Token)
			}
			if strings.Contains(out.String(), settings.Token) {
				t.Errorf("the token is shown:\n%s", &out)
			}
		})
	}
}

func TestAnEventOfTheOperatorIsTested(t *testing.T) {
	t.Parallel()
	s, vendor := vendorDestination(t, "mixpanel")
	var out bytes.Buffer
	if err := TryDestination(t.Context(), s, "there", []byte(`{"id":"e1","name":"bought","user_id":"u1","data":{"total":5}}`), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if items := vendor.Received(); len(items) != 1 || items[0].ID != "e1" || items[0].Name != "bought" {
		t.Errorf("received %+v", items)
	}
	if err := TryDestination(t.Context(), s, "there", []byte(`{"data":{}}`), &out); err == nil || !strings.Contains(err.Error(), "name") {
		t.Errorf("an event without a name: %v", err)
	}
}

func TestDestinationsAreCheckedWithoutAnEvent(t *testing.T) {
	t.Parallel()
	s, vendor := vendorDestination(t, "mailchimp")
	var out bytes.Buffer
	if err := CheckDestinations(t.Context(), s, "", &out); err != nil || !strings.Contains(out.String(), "there (mailchimp): ok") {
		t.Errorf("%v\n%s", err, &out)
	}
	if items := vendor.Received(); len(items) != 0 {
		t.Errorf("the check has sent %+v", items)
	}
	vendor.Trouble(simulator.Trouble{Denied: true})
	out.Reset()
	if err := CheckDestinations(t.Context(), s, "there", &out); !errors.Is(err, ErrSaid) || !strings.Contains(out.String(), "auth: ") || !strings.Contains(out.String(), "api_key") {
		t.Errorf("%v\n%s", err, &out)
	}
	if err := CheckDestinations(t.Context(), s, "elsewhere", &out); err == nil || !strings.Contains(err.Error(), "the document has there") {
		t.Errorf("a destination that is not there: %v", err)
	}
	s, _ = vendorDestination(t, "slack")
	out.Reset()
	if err := CheckDestinations(t.Context(), s, "", &out); err != nil || !strings.Contains(out.String(), "sluice destinations test there") {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestEveryConnectorIsDescribed(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := ListConnectors("", false, &out); err != nil {
		t.Fatal(err)
	}
	for _, spec := range connectors().Specs() {
		if spec.Summary == "" || spec.Dedup == "" || spec.Order == "" || spec.Limits == "" || spec.New == nil {
			t.Errorf("%s does not say all of itself: %+v", spec.Kind, spec)
		}
		if !strings.Contains(out.String(), spec.Kind) || !strings.Contains(out.String(), spec.Summary) {
			t.Errorf("%s is not listed:\n%s", spec.Kind, &out)
		}
		var one bytes.Buffer
		if err := ListConnectors(spec.Kind, false, &one); err != nil {
			t.Fatal(err)
		}
		for _, s := range describeConnector(spec).Settings {
			if s.Doc == "" || !strings.Contains(one.String(), s.Name) || !strings.Contains(one.String(), s.Doc) {
				t.Errorf("%s: setting %s is not explained:\n%s", spec.Kind, s.Name, &one)
			}
		}
		var parsed describedConnector
		one.Reset()
		if err := ListConnectors(spec.Kind, true, &one); err != nil || json.Unmarshal(one.Bytes(), &parsed) != nil || parsed.Kind != spec.Kind {
			t.Errorf("%s as JSON: %v\n%s", spec.Kind, err, &one)
		}
	}
	if err := ListConnectors("fax", false, &out); err == nil || !strings.Contains(err.Error(), "there are amplitude") {
		t.Errorf("%v", err)
	}
}
