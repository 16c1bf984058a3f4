package e2e

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// curlLine finds the command that a start prints.
var curlLine = regexp.MustCompile(`(?m)^\s*(curl .*)$`)

func TestTheFirstRunPrintsACurlLineThatWorks(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "data") // not there yet
	p := start(t, dir)

	out := p.out.String()
	for _, want := range []string{"gateway", p.gateway, "console", p.admin, "write key", "secret key", "data", dir} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in what was printed:\n%s", want, out)
		}
	}
	line := curlLine.FindStringSubmatch(out)
	if line == nil {
		t.Fatalf("no curl line:\n%s", out)
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	answer, err := exec.Command("sh", "-c", line[1]).CombinedOutput()
	if err != nil || !strings.Contains(string(answer), `"accepted":1`) {
		t.Fatalf("%s: %v\n%s", line[1], err, answer)
	}
	l := p.settle()
	if l.Stored != 1 || l.Destinations["warehouse"].Delivered != 1 {
		t.Errorf("%+v", l)
	}
	rows := warehouse(t, dir)
	if len(rows) != 1 || rows[0].name != "hello" || rows[0].data != `{"from":"curl"}` || rows[0].source != "web" || rows[0].kind != "track" {
		t.Errorf("the warehouse holds %+v", rows)
	}
	if !strings.Contains(string(answer), rows[0].id) {
		t.Errorf("the id %s is not in the answer %s", rows[0].id, answer)
	}
	p.stop()
	if _, err := os.Stat(runFile(dir)); !os.IsNotExist(err) {
		t.Errorf("run.json is left behind: %v", err)
	}
}

func TestASecondStartFindsEverything(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	first := start(t, dir)
	line := curlLine.FindStringSubmatch(first.out.String())
	if line == nil {
		t.Fatalf("no curl line:\n%s", &first.out)
	}
	key := regexp.MustCompile(`wk_[A-Za-z0-9_-]+`).FindString(line[1])
	if a := first.send("/v1/events", `[{"name":"one","id":"1"},{"name":"two","id":"2"}]`, map[string][]string{"Authorization": {"Bearer " + key}}); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	first.settle()
	files := read(t, dir, "keys.json", "rules.json", "destinations.json")
	first.stop()

	second := start(t, dir)
	if !strings.Contains(second.out.String(), key) {
		t.Errorf("the write key is not shown again:\n%s", &second.out)
	}
	if again := read(t, dir, "keys.json", "rules.json", "destinations.json"); again != files {
		t.Errorf("documents changed:\n%s\nwere\n%s", again, files)
	}
	if l := second.settle(); l.Stored != 2 || l.Accepted != 2 || l.Destinations["warehouse"].Delivered != 2 {
		t.Errorf("the ledger begins anew: %+v", l)
	}
	if a := second.send("/v1/events", `{"name":"three"}`, map[string][]string{"Authorization": {"Bearer " + key}}); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	second.settle()
	var names []string
	for _, r := range warehouse(t, dir) {
		names = append(names, r.name)
	}
	if got := strings.Join(names, " "); got != "one two three" {
		t.Errorf("the warehouse holds %s", got)
	}
	second.stop()
}

func read(t *testing.T, dir string, names ...string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

func TestTwoProcessesDoNotShareADataFolder(t *testing.T) {
	t.Parallel()
	p := start(t, dataFolder(t, everythingToWarehouse))
	second := exec.Command(binary, "up")
	second.Env = append(cleanEnv(), "SLUICE_ADDR=127.0.0.1:0", "SLUICE_ADMIN_ADDR=127.0.0.1:0", "SLUICE_DATA_DIR="+p.dir)
	out, err := second.CombinedOutput()
	if err == nil || second.ProcessState.ExitCode() != 1 {
		t.Errorf("the second process ended with %v:\n%s", err, out)
	}
	p.alive()
	if a := p.post(`{"name":"still here"}`); a.status != 202 {
		t.Errorf("%d %s", a.status, a.body)
	}
	p.settle()
	p.stop()
}

func TestAGatewayAloneStoresWhatUpDelivers(t *testing.T) {
	t.Parallel()
	dir := dataFolder(t, everythingToWarehouse)
	g := launchCommand(t, "gateway", dir)
	if !g.waitReady() {
		t.Fatalf("the gateway did not become ready: %v\n%s", g.err, &g.out)
	}
	if a := g.post(`[{"id":"1","name":"a"},{"id":"2","name":"b"}]`); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if l := g.ledger(); l.Stored != 2 || len(l.Destinations) != 0 {
		t.Errorf("the ledger of a gateway alone: %+v", l)
	}
	if out, _, status := g.run("dlq", "list"); status != 0 {
		t.Errorf("dlq list at a gateway alone: %d %s", status, out)
	}
	resp, err := http.Get(g.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), "sluice_events_stored_total 2") {
		t.Errorf("its metrics do not say what is stored: %v\n%s", err, text)
	}
	g.stop()

	p := start(t, dir)
	if l := p.settle(); l.Destinations["warehouse"].Delivered != 2 {
		t.Errorf("%+v", l)
	}
	if rows := warehouse(t, dir); len(rows) != 2 || rows[0].id != "1" {
		t.Errorf("%+v", rows)
	}
	p.stop()
}
