package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ordersContract is a document that wants orders to have a total, a number.
func ordersContract(mode string) string {
	return `{"schemas":[{"name":"order_completed","version":"2","mode":"` + mode + `","schema":{"type":"object","required":["total"],` +
		`"properties":{"total":{"type":"number","minimum":0},"products":{"type":"array","items":{"type":"object","required":["sku"]}}}}}]}`
}

// write replaces a file of the data folder.
func (p *process) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// loaded waits until a document is in force that was not, or its fault is told.
func (p *process) loaded(document string, change func()) (fault string) {
	p.t.Helper()
	type status struct {
		LoadedAt string `json:"loaded_at"`
		ErrorAt  string `json:"error_at"`
		Error    string `json:"error"`
	}
	read := func() status {
		var all map[string]status
		p.get("/api/documents", &all)
		return all[document]
	}
	before := read()
	change()
	p.until("the document "+document, func() bool {
		now := read()
		fault = now.Error
		return now.LoadedAt != before.LoadedAt || now.ErrorAt != before.ErrorAt
	})
	return fault
}

type violations struct {
	Total      int
	Violations []struct {
		Fingerprint, Name, Version, Mode, Pointer, Rule, Expected string
		Count                                                     int
		Sources                                                   []string
		SDKs                                                      []struct{ Name, Version string }
		Example                                                   struct {
			EventID string `json:"event_id"`
			Got     string
		}
	}
}

// TestAContractThatIsBrokenIsMendedWithOneCommand is the whole circle: events
// break a schema, are put aside or refused, the document is mended, and a replay
// stores them as they were sent.
func TestAContractThatIsBrokenIsMendedWithOneCommand(t *testing.T) {
	t.Parallel()
	p := start(t, dataFolder(t, everythingToWarehouse))
	if text, err := os.ReadFile(filepath.Join(p.dir, "schemas.json")); err != nil || strings.TrimSpace(string(text)) != `{"schemas":[]}` {
		t.Fatalf("the first run leaves %q, %v", text, err)
	}
	if fault := p.loaded("schemas", func() { p.write("schemas.json", ordersContract("quarantine")) }); fault != "" {
		t.Fatal(fault)
	}

	// One that is right, one that is put aside, one of a version that is not known.
	a := p.post(`[{"id":"o-1","name":"order_completed","data":{"total":1},"context":{"schema_version":2}},` +
		`{"id":"o-2","name":"order_completed","user_id":"u-2","timestamp":"2026-11-23T10:00:00Z","data":{"total": "12.50" },"context":{"schema_version":"2"}},` +
		`{"name":"order_completed","data":{"total":3},"context":{"schema_version":"3"}},{"id":"p-1","name":"page_viewed"}]`)
	if a.status != 202 || a.Accepted != 4 || a.Rejected != 0 || !strings.Contains(a.body, `"quarantined":2,"ack":"stream"`) || *a.IDs[1] != "o-2" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	made := *a.IDs[2]
	batch := p.send("/v1/batch", `{"sentAt":"2026-11-23T10:00:05Z","context":{"library":{"name":"analytics-ruby","version":"2.5.0"}},"batch":[`+
		`{"type":"track","event":"order_completed","messageId":"m-1","userId":"u-3","timestamp":"2026-11-23T10:00:04Z","properties":{"total":-1,"products":[{"sku":"a"},{}]}}]}`, nil)
	if batch.status != 200 || batch.body != `{"success":true}` {
		t.Fatalf("%d %s", batch.status, batch.body)
	}

	// refused in mode reject.
	if fault := p.loaded("schemas", func() { p.write("schemas.json", ordersContract("reject")) }); fault != "" {
		t.Fatal(fault)
	}
	refused := p.post(`{"id":"o-4","name":"order_completed","data":{}}`)
	if refused.status != 422 || len(refused.Errors) != 1 || refused.Errors[0].Code != "schema" || refused.Errors[0].Pointer != "/data/total" ||
		!strings.Contains(refused.body, `"rule":"required","expected":"this member","got":"nothing","schema":"order_completed@2"`) {
		t.Errorf("%d %s", refused.status, refused.body)
	}
	l := p.settle()
	if l.Received != 6 || l.Rejected != 4 || l.Stored != 2 {
		t.Errorf("%+v", l)
	}

	// What is wrong is grouped, and said in metrics.
	var v violations
	if status := p.get("/api/violations?name="+url.QueryEscape("order_completed"), &v); status != http.StatusOK || v.Total != 5 || len(v.Violations) != 5 {
		t.Errorf("%d: %+v", status, v)
	}
	byPlace := map[string]int{}
	for _, g := range v.Violations {
		byPlace[g.Version+" "+g.Pointer+" "+g.Rule] = g.Count
		if g.Rule == "minimum" && (g.SDKs[0].Name != "analytics-ruby" || g.Example.EventID != "m-1" || g.Example.Got != "-1" || g.Sources[0] != "web" || g.Mode != "quarantine") {
			t.Errorf("%+v", g)
		}
	}
	for _, want := range []string{"2 /data/total type", "2 /data/total required", "2 /data/total minimum", "2 /data/products/*/sku required", " /context/schema_version version"} {
		if byPlace[want] != 1 {
			t.Errorf("%s: %d of %v", want, byPlace[want], byPlace)
		}
	}
	if out := p.must("schemas", "violations", "--name", "order_completed"); !strings.Contains(out, "/data/products/*/sku") || !strings.Contains(out, "analytics-ruby 2.5.0") {
		t.Errorf("violations says\n%s", out)
	}
	metrics := p.text("/metrics")
	for _, want := range []string{`sluice_schema_violations_total{mode="quarantine"} 3`, `sluice_schema_violations_total{mode="reject"} 1`, `reason="schema"`} {
		if !strings.Contains(strings.ReplaceAll(metrics, `otel_scope_name="sluice",otel_scope_schema_url="",otel_scope_version="",`, ""), want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}

	// Before the fix a replay moves nothing; a document that is bad changes nothing.
	if _, stderr, status := p.run("quarantine", "replay", "--class", "schema"); status != 1 || !strings.Contains(stderr, "4 letters stay") {
		t.Errorf("replay before the fix: %d %s", status, stderr)
	}
	bad := strings.Replace(ordersContract("observe"), `"number"`, `"numeral"`, 1)
	if fault := p.loaded("schemas", func() { p.write("schemas.json", bad) }); !strings.Contains(fault, "schemas[0] order_completed@2: /properties/total/type: expected") {
		t.Errorf("the bad document is said to be %q", fault)
	}
	if a := p.post(`{"name":"order_completed"}`); a.status != 422 {
		t.Errorf("the last good document is not in force: %d", a.status)
	}

	// The fix, over a restart.
	p.stop()
	p.write("schemas.json", ordersContract("observe"))
	p = start(t, p.dir)
	if out := p.must("quarantine", "replay", "--class", "schema"); !strings.Contains(out, "5 replayed") {
		t.Errorf("replay after the fix: %s", out)
	}
	l = p.settle()
	if l.Received != 12 || l.Rejected != 5 || l.Stored != 7 || l.Destinations["warehouse"].Delivered != 7 {
		t.Errorf("%+v", l)
	}
	if out := p.must("quarantine", "list"); strings.Contains(out, "order_completed") {
		t.Errorf("letters are left:\n%s", out)
	}
	rows := map[string]row{}
	for _, r := range warehouse(t, p.dir) {
		rows[r.id] = r
	}
	if r := rows["o-2"]; r.data != `{"total": "12.50" }` || r.userID != "u-2" || r.timestamp != "2026-11-23T10:00:00Z" || r.source != "web" || r.receivedAt >= rows["p-1"].receivedAt+"~" || r.receivedAt != rows["p-1"].receivedAt {
		t.Errorf("o-2 became %+v, with p-1 %+v", r, rows["p-1"])
	}
	if r := rows[made]; r.name != "order_completed" || r.receivedAt != rows["p-1"].receivedAt {
		t.Errorf("%s became %+v", made, r)
	}
	if r := rows["m-1"]; !strings.Contains(r.context, "analytics-ruby") || r.timestamp == "2026-11-23T10:00:04Z" || !strings.Contains(r.context, "sentAt") {
		t.Errorf("m-1 became %+v", r)
	}
	// The violations have outlived the restart, and the replay is not one.
	var after violations
	if p.get("/api/violations", &after); after.Total != 5 {
		t.Errorf("%+v", after)
	}
	p.stop()
}

func TestSchemasInferredFromARunningProcessAreKeptByItsEvents(t *testing.T) {
	t.Parallel()
	p := start(t, dataFolder(t, everythingToWarehouse))
	var events []string
	for i := range 60 {
		e, _ := json.Marshal(map[string]any{
			"name": "signup", "user_id": "u", "data": map[string]any{"plan": []string{"free", "team"}[i%2], "seats": i, "at": "2026-11-23T10:00:00Z"},
		})
		events = append(events, string(e))
	}
	if a := p.post("[" + strings.Join(events, ",") + `,{"name":"other"}]`); a.status != 202 {
		t.Fatal(a.body)
	}
	p.settle()
	for _, from := range [][]string{nil, {"--from", "warehouse"}} {
		doc := p.must(append([]string{"schemas", "infer", "--name", "signup"}, from...)...)
		for _, want := range []string{`"name": "signup"`, `"mode": "observe"`, `"enum": [`, `"format": "date-time"`, `"type": "integer"`, `inferred from 60 events`} {
			if !strings.Contains(doc, want) {
				t.Errorf("%v: no %s in\n%s", from, want, doc)
			}
		}
		file := filepath.Join(t.TempDir(), "proposal.json")
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		lines := filepath.Join(t.TempDir(), "events.ndjson")
		if err := os.WriteFile(lines, []byte(strings.Join(events, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := p.must("schemas", "check", file, lines, "--schemas", file); !strings.Contains(out, "1 schemas, no faults") || !strings.Contains(out, "60 events: 60 as their schema says") {
			t.Errorf("%s", out)
		}
	}
	p.stop()
}
