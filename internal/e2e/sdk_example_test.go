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
	// page: four calls, the last event of a page, and a call of the next visit,
	// which opens the SDK again: what the first has left in the storage is sent
	// then.
	want := 9
	for _, sdk := range []string{"snippet", "segment", "rudder", "jitsu", "fetch"} {
		tb := c.visitor(t).open(address)
		said := func() (text string) {
			tb.eval("document.getElementById('said').textContent", &text)
			return text
		}
		// press presses the buttons that a selector finds, for the SDK.
		press := func(buttons string) {
			until(t, said, func() bool { return strings.Contains(said(), "ready") })
			tb.eval(fmt.Sprintf("document.getElementById('sdk').value = %q; for (const b of document.querySelectorAll(%q)) b.click(); 0", sdk, buttons), nil)
		}
		before := len(w.taken(t))
		press("button:not([data-call=leave])")
		until(t, func() string {
			return fmt.Sprintf("%s: %d of 4 calls have arrived\n%s", sdk, len(w.taken(t))-before, said())
		}, func() bool { return len(w.taken(t)) == before+4 })
		tb.leave("document.querySelector('[data-call=leave]').click()")
		press("[data-call=page]")
		want += 6
		until(t, func() string {
			var kept string
			tb.eval("JSON.stringify(localStorage)", &kept)
			return fmt.Sprintf("%s: the last event of the page, or that of the next visit, has not arrived\n%v\nin its storage: %s", sdk, w, kept)
		}, func() bool { return len(w.taken(t)) == want })
	}
	g.wantInWarehouse(t, w, source, func() int { return want })
}
