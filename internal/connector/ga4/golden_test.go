package ga4

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

// Each file of testdata has the settings, then events as they are stored, one a
// line; the file of the same name that ends in .golden has the requests, to the
// letter. SLUICE_UPDATE=1 writes them anew.
func TestRequestsAreThoseInTestdata(t *testing.T) {
	t.Parallel()
	inputs, err := filepath.Glob("testdata/*.events")
	if err != nil || len(inputs) < 3 {
		t.Fatalf("%v, %v", inputs, err)
	}
	for _, input := range inputs {
		t.Run(filepath.Base(input), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { compare(t, input) })
		})
	}
}

func compare(t *testing.T, input string) {
	raw, err := os.ReadFile(input)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	var events []connector.Delivery
	for _, line := range lines[1:] {
		e, err := event.ParseStored(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		events = append(events, connector.Delivery{Event: e, Raw: line, Attempt: 1})
	}
	var got strings.Builder
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn, err := New(json.RawMessage(lines[0]), connector.Env{Dial: simulator.Dial(ctx, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		got.WriteString(connectortest.RequestText(t, req))
		w.WriteHeader(http.StatusNoContent)
	}))})
	if err != nil {
		t.Fatal(err)
	}
	plan := conn.Plan(events)
	for _, call := range plan.Calls {
		for i, result := range conn.Send(ctx, call) {
			if result.Class != connector.Delivered {
				t.Errorf("%+v", result)
			}
			if result.Message != "" {
				fmt.Fprintf(&got, "# %s: %s\n", events[call.Events[i]].Event.ID, result.Message)
			}
		}
		got.WriteByte('\n')
	}
	for _, done := range plan.Done {
		fmt.Fprintf(&got, "# %s is not sent: %s %s: %s\n", events[done.Event].Event.ID, done.Result.Class, done.Result.Code, done.Result.Message)
	}
	connectortest.Golden(t, strings.TrimSuffix(filepath.Base(input), ".events"), got.String())
	_ = conn.Close()
	cancel()
	synctest.Wait()
}
