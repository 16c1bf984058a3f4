package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/testenv"
)

// chromium is a headless Chromium, driven by the DevTools protocol over a pipe:
// documents end with a zero byte.
// Source: https://chromedevtools.github.io/devtools-protocol (read 2026-11).
type chromium struct {
	cmd *exec.Cmd
	in  io.Writer

	mu      sync.Mutex
	last    int
	waiting map[int]chan devtoolsMessage
	tabs    map[string]*tab // by session
	ended   error           // why it takes no more calls
}

type devtoolsMessage struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
		Data    string `json:"data"`
	} `json:"error,omitempty"`
}

// startChromium starts a browser that ends with the test. It finds nothing but
// this machine.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	path := testenv.Chromium(t)
	read, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	profile := t.TempDir()
	args := []string{
		"--headless=new", "--remote-debugging-pipe", "--user-data-dir=" + profile,
		"--no-first-run", "--no-default-browser-check", "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--mute-audio",
		"--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding",
		"--host-resolver-rules=MAP *.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
	}
	if os.Getuid() == 0 {
		args = append(args, "--no-sandbox") // it does not start otherwise
	}
	c := &chromium{cmd: exec.Command(path, args...), in: in, waiting: map[int]chan devtoolsMessage{}, tabs: map[string]*tab{}}
	c.cmd.ExtraFiles = []*os.File{read, write} // 3 and 4
	var said testenv.Log
	c.cmd.Stdout, c.cmd.Stderr = &said, &said
	c.cmd.Env = append(cleanEnv(), "HOME="+profile)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read.Close()
	write.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.listen(out)
	}()
	t.Cleanup(func() {
		_ = c.call("", "Browser.close", nil, nil)
		in.Close()
		<-done
		_ = c.cmd.Wait()
		if t.Failed() {
			text := said.String()
			t.Logf("Chromium said, at its end:\n%s", text[max(0, len(text)-2<<10):])
		}
	})
	return c
}

// listen hands out what the browser says, until it ends.
func (c *chromium) listen(out *os.File) {
	defer out.Close()
	for reader := bufio.NewReaderSize(out, 1<<20); ; {
		text, err := reader.ReadBytes(0)
		if err != nil {
			c.end(err)
			return
		}
		var m devtoolsMessage
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		c.mu.Lock()
		waiting, tab := c.waiting[m.ID], c.tabs[m.SessionID]
		delete(c.waiting, m.ID)
		c.mu.Unlock()
		if m.ID != 0 && waiting != nil {
			waiting <- m
		} else if tab != nil {
			tab.heard(m)
		}
	}
}

// end lets go of all who wait for a browser that has ended.
func (c *chromium) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = errors.Join(errors.New("the browser has ended"), err)
	for id, waiting := range c.waiting {
		close(waiting)
		delete(c.waiting, id)
	}
}

// call calls a method and waits for its result.
func (c *chromium) call(session, method string, params, into any) error {
	if params == nil {
		params = struct{}{}
	}
	raw, err := json.Marshal(params)
	if err != nil {
		return err
	}
	answered := make(chan devtoolsMessage, 1)
	c.mu.Lock()
	if c.ended != nil {
		c.mu.Unlock()
		return c.ended
	}
	c.last++
	id := c.last
	c.waiting[id] = answered
	text, err := json.Marshal(devtoolsMessage{ID: id, Method: method, SessionID: session, Params: raw})
	if err == nil {
		_, err = c.in.Write(append(text, 0))
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	m, ok := <-answered
	switch {
	case !ok:
		return c.ended
	case m.Error != nil:
		return fmt.Errorf("%s: %s %s", method, m.Error.Message, m.Error.Data)
	case into != nil:
		return json.Unmarshal(m.Result, into)
	}
	return nil
}

// visitor is a person with a browser: storage and cookies are hers alone.
type visitor struct {
	t       *testing.T
	c       *chromium
	context string
	first   string // a script that runs before each page's own
}

func (c *chromium) visitor(t *testing.T) *visitor {
	t.Helper()
	v := &visitor{t: t, c: c}
	var made struct{ BrowserContextID string }
	if err := c.call("", "Target.createBrowserContext", nil, &made); err != nil {
		t.Fatal(err)
	}
	v.context = made.BrowserContextID
	t.Cleanup(func() {
		_ = c.call("", "Target.disposeBrowserContext", map[string]any{"browserContextId": v.context}, nil)
	})
	return v
}

// tab is one page of a visitor, and those that she goes to from it.
type tab struct {
	v               *visitor
	target, session string

	mu      sync.Mutex
	console []string
	loaded  map[string]bool // documents, by their loaders
	changed chan struct{}   // closed at the next load
}

// open opens a tab and waits until its page has loaded.
func (v *visitor) open(url string) *tab {
	v.t.Helper()
	tb := &tab{v: v, loaded: map[string]bool{}, changed: make(chan struct{})}
	var target struct{ TargetID string }
	v.must(v.c.call("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": v.context, "newWindow": true}, &target))
	tb.target = target.TargetID
	var attached struct{ SessionID string }
	v.must(v.c.call("", "Target.attachToTarget", map[string]any{"targetId": tb.target, "flatten": true}, &attached))
	tb.session = attached.SessionID
	v.c.mu.Lock()
	v.c.tabs[tb.session] = tb
	v.c.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Network"} {
		tb.must(domain+".enable", nil, nil)
	}
	tb.must("Page.setLifecycleEventsEnabled", map[string]any{"enabled": true}, nil)
	if v.first != "" {
		tb.must("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": v.first}, nil)
	}
	v.t.Cleanup(func() {
		if v.t.Failed() {
			v.t.Logf("the console of %s:\n%s", url, strings.Join(tb.said(), "\n"))
		}
	})
	tb.goTo(url)
	return tb
}

func (v *visitor) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

// must calls a method of the tab.
func (tb *tab) must(method string, params, into any) {
	tb.v.t.Helper()
	tb.v.must(tb.v.c.call(tb.session, method, params, into))
}

// heard takes an event of the tab.
func (tb *tab) heard(m devtoolsMessage) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	switch m.Method {
	case "Page.lifecycleEvent":
		var p struct{ LoaderID, Name string }
		if _ = json.Unmarshal(m.Params, &p); p.Name == "load" {
			tb.loaded[p.LoaderID] = true
			close(tb.changed)
			tb.changed = make(chan struct{})
		}
	case "Runtime.consoleAPICalled":
		var p struct {
			Type string
			Args []struct {
				Value       any
				Description string
			}
		}
		_ = json.Unmarshal(m.Params, &p)
		line := p.Type
		for _, a := range p.Args {
			if a.Value == nil {
				a.Value = a.Description
			}
			line += fmt.Sprintf(" %.300v", a.Value)
		}
		tb.console = append(tb.console, line)
	case "Log.entryAdded": // of those who enable it: what the browser says itself
		var p struct{ Entry struct{ Text string } }
		_ = json.Unmarshal(m.Params, &p)
		tb.console = append(tb.console, "log "+p.Entry.Text)
	case "Runtime.exceptionThrown":
		tb.console = append(tb.console, fmt.Sprintf("thrown %.600s", m.Params))
	}
}

// said returns what the pages of the tab have written to the console.
func (tb *tab) said() []string {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return append([]string(nil), tb.console...)
}

// goTo leaves for another page and waits until that has loaded.
func (tb *tab) goTo(url string) {
	tb.v.t.Helper()
	var result struct{ LoaderID, ErrorText string }
	tb.must("Page.navigate", map[string]any{"url": url}, &result)
	if result.ErrorText != "" {
		tb.v.t.Fatalf("%s: %s", url, result.ErrorText)
	}
	for {
		tb.mu.Lock()
		loaded, changed := tb.loaded[result.LoaderID], tb.changed
		tb.mu.Unlock()
		if loaded {
			return
		}
		select {
		case <-changed:
		case <-time.After(patience):
			tb.v.t.Fatalf("%s does not load", url)
		}
	}
}

// leave evaluates an expression that takes the tab to another page, and waits
// until that has loaded.
func (tb *tab) leave(expression string) {
	tb.v.t.Helper()
	tb.mu.Lock()
	changed := tb.changed
	tb.mu.Unlock()
	tb.eval(expression+"; 0", nil)
	select {
	case <-changed:
	case <-time.After(patience):
		tb.v.t.Fatalf("%s: no page loads", expression)
	}
}

// close closes the tab as a person does: the page is told. It waits until the
// page has ended.
func (tb *tab) close() {
	tb.v.t.Helper()
	tb.v.must(tb.v.c.call("", "Target.closeTarget", map[string]any{"targetId": tb.target}, nil))
	until(tb.v.t, func() string { return "the tab does not close" }, func() bool {
		var targets struct{ TargetInfos []struct{ TargetID string } }
		tb.v.must(tb.v.c.call("", "Target.getTargets", nil, &targets))
		for _, info := range targets.TargetInfos {
			if info.TargetID == tb.target {
				return false
			}
		}
		return true
	})
}

// eval evaluates an expression in the page, and awaits it if it is a promise.
// The result goes into into, if that is not nil.
func (tb *tab) eval(expression string, into any) {
	tb.v.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	tb.must("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &answer)
	if e := answer.ExceptionDetails; e != nil {
		tb.v.t.Fatalf("%.200s: %s %s", expression, e.Text, e.Exception.Description)
	}
	if into != nil {
		if err := json.Unmarshal(answer.Result.Value, into); err != nil {
			tb.v.t.Fatalf("%.200s: %v", expression, err)
		}
	}
}

// offline takes the network from the tab, or gives it back.
func (tb *tab) offline(off bool) {
	tb.v.t.Helper()
	tb.must("Network.emulateNetworkConditions", map[string]any{"offline": off, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}, nil)
}

// js is a value as a JavaScript expression.
func js(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
