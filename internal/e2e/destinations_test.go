package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/simulator"
)

// destinationState is what the admin API says of a destination.
type destinationState struct {
	Name             string `json:"destination_name"`
	State, Reason    string
	PausedByOperator bool `json:"paused_by_operator"`
	Budget           struct{ Calls int }
	LastError        string `json:"last_error"`
}

// destination asks how a destination is.
func (p *process) destination(name string) (found destinationState) {
	p.t.Helper()
	var answer struct{ Destinations []destinationState }
	p.get("/api/destinations", &answer)
	for _, d := range answer.Destinations {
		if d.Name == name {
			return d
		}
	}
	return found
}

// text returns what the admin API answers.
func (p *process) text(path string) string {
	p.t.Helper()
	resp, err := http.Get(p.admin + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// vendors are simulated vendors and a data folder whose destinations lead to them.
type vendors struct {
	vendors map[string]*simulator.Vendor
	folder  string
	// secrets are what the settings of the destinations hold and nobody may see.
	secrets map[string]string
}

// toVendors makes a data folder with a destination for each kind of vendor.
func toVendors(t *testing.T, kinds ...string) *vendors {
	t.Helper()
	v := &vendors{vendors: map[string]*simulator.Vendor{}, secrets: map[string]string{}}
	var destinations, rules []map[string]any
	for _, kind := range kinds {
		vendor, err := simulator.New(kind)
		if err != nil {
			t.Fatal(err)
		}
		vendor.Unlimited()
		server := httptest.NewServer(vendor)
		t.Cleanup(server.Close)
		t.Cleanup(server.CloseClientConnections)
		v.vendors[kind] = vendor
		var settings map[string]any
		if err := json.Unmarshal(vendor.Settings(server.URL), &settings); err != nil {
			t.Fatal(err)
		}
		for name, value := range settings {
			secret, isText := value.(string)
			if name == "url" {
				if secret = strings.TrimPrefix(secret, server.URL); len(secret) < 20 {
					continue // an address without a secret in it
				}
			}
			switch name {
			case "token", "secret", "access_token", "api_key", "api_secret", "password", "url":
				if !isText || len(secret) < 8 {
					t.Fatalf("%s: setting %s holds no secret", kind, name)
				}
				v.secrets[kind+"."+name] = secret
			}
		}
		destinations = append(destinations, map[string]any{
			"destination_name": kind, "connector": kind, "settings": settings,
			"retry": map[string]any{"max_attempts": 3, "base_delay": "10ms", "max_delay": "50ms"},
		})
		rules = append(rules, map[string]any{"destination_name": kind, "enabled_events": []string{"*"}})
	}
	docs := documents{keys: everythingToWarehouse.keys}
	for _, doc := range []struct {
		from any
		to   *string
	}{{destinations, &docs.destinations}, {rules, &docs.rules}} {
		text, err := json.Marshal(doc.from)
		if err != nil {
			t.Fatal(err)
		}
		*doc.to = string(text)
	}
	v.folder = dataFolder(t, docs)
	return v
}

// event is one that every vendor can take.
func vendorEvent(n int) string {
	return fmt.Sprintf(`{"name":"bought","user_id":"u%d","data":{"total":%d},"context":{"traits":{"email":"u%d@example.com"}}}`, n, n, n)
}

// A pause is the operator's, and survives the process.
func TestADestinationThatIsPausedStaysSoOverARestart(t *testing.T) {
	t.Parallel()
	v := toVendors(t, "mixpanel", "webhook")
	p := start(t, v.folder)
	if out := p.must("destinations", "pause", "mixpanel", "--reason", "migration"); !strings.Contains(out, "mixpanel is paused") || !strings.Contains(out, "migration") {
		t.Errorf("pause said %q", out)
	}
	for n := range 5 {
		p.post(vendorEvent(n))
	}
	p.await("the webhook to have everything", func(l ledger) bool { return l.Destinations["webhook"].Delivered == 5 })
	p.stop()
	p = start(t, v.folder)
	p.post(vendorEvent(5))
	p.await("the webhook to have everything", func(l ledger) bool { return l.Destinations["webhook"].Delivered == 6 })
	if d := p.destination("mixpanel"); d.State != "paused" || !d.PausedByOperator || !strings.Contains(d.Reason, "migration") {
		t.Errorf("after the restart: %+v", d)
	}
	if items := v.vendors["mixpanel"].Received(); len(items) != 0 {
		t.Errorf("a paused destination got %d events", len(items))
	}
	if _, stderr, status := p.run("destinations", "pause", "nobody"); status != 1 || !strings.Contains(stderr, `"nobody"`) {
		t.Errorf("a destination that is not there: %d, %q", status, stderr)
	}
	p.must("destinations", "resume", "mixpanel")
	if l := p.settle(); l.Residual != 0 || l.Destinations["mixpanel"].Delivered != 6 {
		t.Errorf("%+v", l)
	}
	if items := v.vendors["mixpanel"].Received(); len(items) != 6 {
		t.Errorf("%d events arrived, want 6", len(items))
	}
	p.stop()
}

// Wrong credentials pause the destination, keep its events and say which setting
// to look at; the right ones deliver them.
func TestWrongCredentialsKeepEventsAndNameTheSetting(t *testing.T) {
	t.Parallel()
	settings := map[string]string{
		"mixpanel": "token", "hubspot": "access_token", "mailchimp": "api_key", "amplitude": "api_key", "slack": "url", "webhook": "secret",
		"clickhouse": "password",
	}
	var kinds []string
	for kind := range settings {
		kinds = append(kinds, kind)
	}
	v := toVendors(t, kinds...)
	for _, vendor := range v.vendors {
		vendor.Trouble(simulator.Trouble{Denied: true})
	}
	p := start(t, v.folder)
	for n := range 3 {
		p.post(vendorEvent(n))
	}
	for kind, setting := range settings {
		p.until(kind+" to pause", func() bool { return p.destination(kind).State == "paused" })
		if d := p.destination(kind); !strings.Contains(d.Reason, setting) {
			t.Errorf("%s does not name the setting %s: %s", kind, setting, d.Reason)
		}
	}
	l := p.ledger()
	for kind := range settings {
		if d := l.Destinations[kind]; d.Dead != 0 || d.Delivered != 0 {
			t.Errorf("%s: %+v", kind, d)
		}
	}
	for kind, vendor := range v.vendors {
		vendor.Trouble(simulator.Trouble{})
		p.must("destinations", "resume", kind)
	}
	l = p.settle()
	for kind := range settings {
		if d := l.Destinations[kind]; d.Delivered != 3 || d.Dead != 0 {
			t.Errorf("%s: %+v", kind, d)
		}
	}
	p.stop()
}

// No secret of a destination is seen in what the program prints, in a dead
// letter, in the admin API or in what a command says, whatever goes wrong.
func TestNoSecretIsSeenAnywhere(t *testing.T) {
	t.Parallel()
	v := toVendors(t, simulator.Kinds()...)
	if len(v.secrets) < len(simulator.Kinds())-1 { // a container of Google Tag Manager has none
		t.Fatalf("only %d secrets to look for", len(v.secrets))
	}
	p := start(t, v.folder, "SLUICE_LOG_LEVEL=debug")
	var seen strings.Builder
	note := func(text string) { seen.WriteString(text + "\n") }
	n := 0
	for _, trouble := range []simulator.Trouble{
		{Denied: true}, {Throttle: 1}, {Away: true}, {Lose: 1}, {Status: 400}, {Status: 418}, {Refuse: func(string) bool { return true }},
	} {
		for _, vendor := range v.vendors {
			vendor.Trouble(trouble)
		}
		for range 3 {
			p.post(vendorEvent(n))
			n++
		}
		for kind := range v.vendors {
			stdout, stderr, _ := p.run("destinations", "test", kind)
			note(stdout + stderr)
			stdout, stderr, _ = p.run("destinations", "check", kind)
			note(stdout + stderr)
			p.must("destinations", "resume", kind)
		}
		note(p.must("destinations", "list"))
	}
	for _, vendor := range v.vendors {
		vendor.Trouble(simulator.Trouble{Status: 400})
	}
	p.until("dead letters", func() bool {
		for kind := range v.vendors {
			p.must("destinations", "resume", kind)
		}
		dead := 0
		for _, d := range p.ledger().Destinations {
			if d.Dead > 0 {
				dead++
			}
		}
		return dead >= len(v.vendors)-2 // Google takes everything
	})
	for kind := range v.vendors {
		note(p.must("dlq", "list", kind, "--json"))
	}
	for _, path := range []string{"/api/destinations", "/api/ledger", "/api/documents", "/api/events", "/metrics", "/"} {
		note(p.text(path))
	}
	p.stop()
	note(p.out.String())
	// The journals of the data folder too, but for the document that holds them.
	err := filepath.WalkDir(v.folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == "destinations.json" {
			return err
		}
		text, err := os.ReadFile(path)
		note(string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text := seen.String()
	for name, secret := range v.secrets {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%s can be read: …%q…", name, text[max(0, at-200):min(len(text), at+len(secret)+50)])
		}
	}
	if !strings.Contains(text, "permanent") || len(text) < 100_000 {
		t.Errorf("only %d bytes were looked at", len(text))
	}
}
