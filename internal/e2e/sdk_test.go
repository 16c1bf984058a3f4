package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"reflect"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/testenv"
)

// send.mjs sends batches of flushAt, and beforeCounted events before those that
// it counts.
const flushAt, beforeCounted = 20, 7

// TestAnSDKFromNPMFindsItsEventsInTheWarehouse sends with
// @segment/analytics-node as it comes from npm, and compares the warehouse
// with what the SDK says that it sent.
func TestAnSDKFromNPMFindsItsEventsInTheWarehouse(t *testing.T) {
	t.Parallel()
	testenv.NodeModules(t, "node")
	p := start(t, dataFolder(t, everythingToWarehouse))

	cmd := exec.CommandContext(t.Context(), "node", "send.mjs")
	cmd.Dir = "node"
	cmd.Env = append(cleanEnv(), "SLUICE_URL="+p.gateway, "SLUICE_WRITE_KEY="+writeKey)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("the SDK failed: %v\n%s%s", err, &stdout, &stderr)
	}
	sent := sdkEvents(t, &stdout)
	if len(sent) != beforeCounted+100 {
		t.Fatalf("the SDK sent %d events:\n%s", len(sent), &stderr)
	}

	l := p.settle()
	if l.Stored != uint64(len(sent)) || l.Rejected != 0 {
		t.Errorf("%d sent, the ledger says %+v", len(sent), l)
	}
	rows := map[string]row{}
	// The SDK sends its batches at the same time, in any order; each is in order.
	type batch struct {
		user   string
		number int
	}
	counted := map[batch]int{} // the last one in the warehouse
	for _, r := range warehouse(t, p.dir) {
		rows[r.id] = r
		if r.name == "Counted" {
			var data struct{ N int }
			unmarshal(t, r.data, &data)
			in := batch{user: r.userID, number: (beforeCounted + data.N) / flushAt}
			if last, ok := counted[in]; ok && data.N <= last {
				t.Errorf("%s: %v stands after %v", r.userID, data.N, last)
			}
			counted[in] = data.N
		}
	}
	if len(rows) != len(sent) {
		t.Errorf("the warehouse holds %d events of %d", len(rows), len(sent))
	}
	for _, e := range sent {
		r, ok := rows[e.MessageID]
		if !ok {
			t.Errorf("%s %s is not in the warehouse", e.Type, e.MessageID)
			continue
		}
		compareSDKEvent(t, e, r)
	}
	p.stop()
}

// sdkEvent is an event as the SDK makes it.
type sdkEvent struct {
	Type        string         `json:"type"`
	MessageID   string         `json:"messageId"`
	Event       string         `json:"event"`
	Name        string         `json:"name"`
	UserID      string         `json:"userId"`
	AnonymousID string         `json:"anonymousId"`
	Timestamp   time.Time      `json:"timestamp"`
	Properties  map[string]any `json:"properties"`
	Traits      map[string]any `json:"traits"`
	Context     map[string]any `json:"context"`
}

func sdkEvents(t *testing.T, out *bytes.Buffer) []sdkEvent {
	t.Helper()
	var all []sdkEvent
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var e sdkEvent
		unmarshal(t, lines.Text(), &e)
		all = append(all, e)
	}
	return all
}

func unmarshal(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// compareSDKEvent wants every field of e where the contract puts it.
func compareSDKEvent(t *testing.T, e sdkEvent, r row) {
	t.Helper()
	name, data := e.Event, e.Properties
	if name == "" {
		name = e.Name
	}
	if name == "" {
		name = e.Type
	}
	if e.Type == "identify" || e.Type == "group" {
		data = e.Traits
	}
	if r.kind != e.Type || r.name != name || r.userID != e.UserID || r.anonymousID != e.AnonymousID || r.source != "web" {
		t.Errorf("sent %+v, stored %+v", e, r)
	}
	// The gateway may correct a sender's clock, by less than the test takes.
	if stored, err := time.Parse(time.RFC3339Nano, r.timestamp); err != nil || stored.Sub(e.Timestamp).Abs() > patience {
		t.Errorf("%s: happened at %v, stored %q (%v)", r.id, e.Timestamp, r.timestamp, err)
	}
	var storedData, storedContext map[string]any
	unmarshal(t, r.data, &storedData)
	unmarshal(t, r.context, &storedContext)
	for field, want := range data {
		if got := storedData[field]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s: data.%s is %v, want %v", e.Type, r.id, field, got, want)
		}
	}
	for field, want := range e.Context {
		if got := storedContext[field]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s: context.%s is %v, want %v", e.Type, r.id, field, got, want)
		}
	}
}
