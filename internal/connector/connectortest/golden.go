package connectortest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

// Golden compares a text with the file testdata/name.golden. With SLUICE_UPDATE=1
// in the environment it writes the file.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if os.Getenv("SLUICE_UPDATE") == "1" {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (SLUICE_UPDATE=1 writes it); got\n%s", file, got)
	}
}

// RequestText returns a request in a form for Golden: method, path and query, the
// headers by name without those that say nothing of the connector, and the body,
// unpacked, and indented if it is JSON.
func RequestText(t *testing.T, req *http.Request) string {
	t.Helper()
	raw := bodyOf(t, req)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", req.Method, req.URL.RequestURI())
	for _, name := range slices.Sorted(maps.Keys(req.Header)) {
		switch name {
		case "Accept-Encoding", "Content-Length", "User-Agent":
		default:
			fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(name), strings.Join(req.Header[name], ", "))
		}
	}
	b.WriteByte('\n')
	var indented bytes.Buffer
	if json.Indent(&indented, raw, "", "  ") == nil {
		raw = indented.Bytes()
	}
	b.Write(raw)
	b.WriteByte('\n')
	return b.String()
}

// bodyOf returns the body of a request, unpacked.
func bodyOf(t *testing.T, req *http.Request) []byte {
	t.Helper()
	var body io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(req.Body)
		if err != nil {
			t.Error(err)
			return nil
		}
		body = unpacked
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		t.Error(err)
	}
	return raw
}

// Example checks that what a connector sends of the first example in the section
// "Mapping" of its README, an event as it is stored, has in it what stands there:
// the second. It is noon of 23 November 2026 in UTC. The settings lead to an address
// of this machine, by http.
func Example(t *testing.T, factory connector.Factory, settings string) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Mapping\n")
	blocks := strings.Split(section, "```json\n")
	if len(blocks) < 3 {
		t.Fatal("there are no two examples in README.md")
	}
	compact := func(t *testing.T, text []byte) string {
		t.Helper()
		var out bytes.Buffer
		if err := json.Compact(&out, text); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return out.String()
	}
	in, _, _ := strings.Cut(blocks[1], "```")
	out, _, _ := strings.Cut(blocks[2], "```")
	e, err := event.ParseStored([]byte(strings.TrimSpace(in)))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var body []byte
		sendAtNoon(t, factory, settings, Deliveries(e), func(req *http.Request) { body = bodyOf(t, req) }, nil)
		if got, want := compact(t, body), compact(t, []byte(out)); !strings.Contains(got, want) {
			t.Errorf("README.md says that\n%s\nis sent, and it is\n%s", want, got)
		}
	})
}

// sendAtNoon makes the calls of some events. seen is given each request, which is
// answered with 204, and said what came of each event.
func sendAtNoon(t *testing.T, factory connector.Factory, settings string, events []connector.Delivery, seen func(req *http.Request), said func(call connector.Call, results []connector.Result)) (done []connector.Done) {
	t.Helper()
	time.Sleep(time.Until(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn, err := factory(json.RawMessage(settings), connector.Env{Dial: simulator.Dial(ctx, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		seen(req)
		w.WriteHeader(http.StatusNoContent)
	}))})
	if err != nil {
		t.Fatal(err)
	}
	plan := conn.Plan(events)
	for _, call := range plan.Calls {
		if results := conn.Send(ctx, call); said != nil {
			said(call, results)
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	synctest.Wait()
	return plan.Done
}

// GoldenRequests compares the requests of a connector with those in testdata, to
// the letter. Each file there that ends in .events has the settings, then events
// as they are stored, one a line; the .golden file of the same name has the
// requests, what was said of delivered events, and why others were not sent. It is
// noon of 23 November 2026 in UTC. Every request is answered with 204.
func GoldenRequests(t *testing.T, factory connector.Factory) {
	t.Helper()
	inputs, err := filepath.Glob("testdata/*.events")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("%v, %v", inputs, err)
	}
	for _, input := range inputs {
		t.Run(filepath.Base(input), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { goldenRequests(t, factory, input) })
		})
	}
}

func goldenRequests(t *testing.T, factory connector.Factory, input string) {
	t.Helper()
	raw, err := os.ReadFile(input)
	if err != nil {
		t.Fatal(err)
	}
	settings, lines, _ := bytes.Cut(raw, []byte("\n"))
	var events []event.Event
	for line := range bytes.Lines(lines) {
		e, err := event.ParseStored(bytes.TrimSpace(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		events = append(events, e)
	}
	var got strings.Builder
	done := sendAtNoon(t, factory, string(settings), Deliveries(events...), func(req *http.Request) {
		got.WriteString(RequestText(t, req))
	}, func(call connector.Call, results []connector.Result) {
		for i, result := range results {
			if result.Class != connector.Delivered {
				t.Errorf("%+v", result)
			}
			if result.Message != "" {
				fmt.Fprintf(&got, "# %s: %s\n", events[call.Events[i]].ID, result.Message)
			}
		}
		got.WriteByte('\n')
	})
	for _, d := range done {
		fmt.Fprintf(&got, "# %s is not sent: %s %s: %s\n", events[d.Event].ID, d.Result.Class, d.Result.Code, d.Result.Message)
	}
	Golden(t, strings.TrimSuffix(filepath.Base(input), ".events"), got.String())
}
