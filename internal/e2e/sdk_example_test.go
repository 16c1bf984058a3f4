package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/testenv"
)

// testSDKExample uses examples/sdk as a person does: the page with each SDK,
// and the script of the back end.
func testSDKExample(t *testing.T, g *sdkGateway, c *chromium) {
	folder := filepath.Join("..", "..", "examples", "sdk")
	testenv.NodeModules(t, folder)
	key, source := g.take(false)
	w := newWire(t, g.gateway)
	settings := append(cleanEnv(), "SLUICE_URL="+w.URL, "SLUICE_WRITE_KEY="+key, "PORT=0")

	backend := exec.CommandContext(t.Context(), "node", "backend.mjs")
	backend.Dir, backend.Env = folder, settings
	out, err := backend.CombinedOutput()
	if err != nil {
		t.Fatalf("backend.mjs: %v\n%s", err, out)
	}
	for _, sdk := range []string{"segment", "rudder", "jitsu", "cloudevents", "fetch"} {
		if !strings.Contains(string(out), sdk+": delivered\n") {
			t.Errorf("%s is not said to be delivered:\n%s", sdk, out)
		}
	}

	server := exec.CommandContext(t.Context(), "node", "serve.mjs")
	server.Dir, server.Env = folder, settings
	lines, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	line, err := bufio.NewReader(lines).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "open ")
	if err != nil || !ok {
		t.Fatalf("serve.mjs said %q: %v", line, err)
	}
	for _, path := range []string{"segment/../../../package.json", "segment/%2e%2e/%2e%2e/%2e%2e/package.json", "node_modules/x", "serve.mjs"} {
		if resp, err := http.Get(address + path); err != nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s is served: %v %v", path, resp, err)
		} else {
			resp.Body.Close()
		}
	}
	// Of back ends: five that track, and four that identify. Of each SDK in the
	// page: four calls, and the last event of a page.
	want := 9
	for _, sdk := range []string{"snippet", "segment", "rudder", "jitsu", "fetch"} {
		tb := c.visitor(t).open(address)
		said := func() (text string) {
			tb.eval("document.getElementById('said').textContent", &text)
			return text
		}
		until(t, said, func() bool { return strings.Contains(said(), "ready") })
		before := len(w.taken(t))
		tb.eval(fmt.Sprintf("document.getElementById('sdk').value = %q; for (const b of document.querySelectorAll('button')) if (b.dataset.call !== 'leave') b.click(); 0", sdk), nil)
		until(t, func() string {
			return fmt.Sprintf("%s: %d of 4 calls have arrived\n%s", sdk, len(w.taken(t))-before, said())
		}, func() bool { return len(w.taken(t)) == before+4 })
		tb.leave("document.querySelector('[data-call=leave]').click()")
		want += 5
		until(t, func() string { return sdk + ": the last event of the page has not arrived" }, func() bool { return len(w.taken(t)) == want })
	}
	g.wantInWarehouse(t, w, source, func() int { return want })
}
