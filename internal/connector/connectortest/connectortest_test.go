package connectortest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
)

// flaw is a way in which the connector of these tests breaks the contract.
type flaw string

// flawVariable names the flaw in the process that TestFlawsAreFound starts.
const flawVariable = "CONNECTORTEST_FLAW"

// flaws and what the suite says of them.
var flaws = map[flaw]string{
	"plans an event twice":              "is planned 2 times",
	"forgets an event":                  "is planned 0 times",
	"plans in another order":            "of the same key",
	"plans calls that are too large":    "call of 8 events, want 1 to 7",
	"plans anew each time":              "the second plan of the same events differs",
	"changes the events":                "planning has changed the events",
	"sends while planning":              "planning has sent",
	"returns too few results":           "results for a call of",
	"says delivered and sends nothing":  "is delivered and did not arrive",
	"says retryable and sends":          "arrived",
	"fails the whole batch":             "is permanent",
	"does not dedup":                    "times, want once",
	"hangs":                             "Send does not return",
	"ignores a context that is over":    "want [retryable]",
	"shows its password":                "shows a secret",
	"logs its password":                 "log shows a secret",
	"answers at length":                 "message has 2000 bytes",
	"takes denied for away":             "is retryable",
	"takes a lost answer for delivered": "want [ambiguous]",
	"loses the wait":                    "is lost",
	"accepts unknown settings":          "an unknown member: no error",
	"repeats settings in errors":        "shows a secret",
	"connects when made":                "factory: ",
}

func TestMemoryConforms(t *testing.T) {
	if os.Getenv(flawVariable) == "hangs" {
		patience = time.Second
	}
	Run(t, Harness{Open: openMemory})
}

func TestFlawsAreFound(t *testing.T) {
	t.Parallel()
	for f, want := range flaws {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemoryConforms$")
			cmd.Env = append(os.Environ(), flawVariable+"="+string(f))
			out, err := cmd.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed {
				t.Fatalf("the suite passes (%v)", err)
			}
			if !strings.Contains(string(out), want) {
				t.Errorf("the suite does not say %q:\n%s", want, out)
			}
		})
	}
}

const memoryPassword = "memory-password"

// memory is a destination that keeps ids.
type memory struct {
	mu      sync.Mutex
	state   State
	arrived []string
}

func (m *memory) is(s State) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state == s
}

func (m *memory) take(id string, dedup bool) connector.Class {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dedup && slices.Contains(m.arrived, id) {
		return connector.Duplicate
	}
	m.arrived = append(m.arrived, id)
	return connector.Delivered
}

func openMemory(*testing.T) *Destination {
	m := &memory{}
	f := flaw(os.Getenv(flawVariable))
	d := &Destination{
		Factory: func(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
			return newMemoryConnector(raw, env, m, f)
		},
		Settings: fmt.Appendf(nil, `{"password":%q}`, memoryPassword),
		Secrets:  []string{memoryPassword},
		Arrived: func(*testing.T) []string {
			m.mu.Lock()
			defer m.mu.Unlock()
			return slices.Clone(m.arrived)
		},
		Enter: make(map[State]func(*testing.T) func()),
	}
	set := func(s State) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.state = s
	}
	for _, s := range []State{Away, Denied, Throttling, Hanging, LostAnswer, Fussy} {
		d.Enter[s] = func(*testing.T) func() {
			set(s)
			return func() { set("") }
		}
	}
	return d
}

// memoryConnector is a connector to memory, with at most one flaw.
type memoryConnector struct {
	to   *memory
	flaw flaw
	env  connector.Env
	// plans counts those made, for a plan that depends on it.
	plans atomic.Int64
}

func newMemoryConnector(raw json.RawMessage, env connector.Env, m *memory, f flaw) (connector.Connector, error) {
	var settings map[string]json.RawMessage
	if err := json.Unmarshal(raw, &settings); err != nil {
		return nil, errors.New("settings are not an object")
	}
	var faults []error
	for name, value := range settings {
		var text string
		switch {
		case f == "repeats settings in errors":
			faults = append(faults, fmt.Errorf("%s is %s", name, value))
		case name != "password" && f == "accepts unknown settings":
		case name != "password":
			faults = append(faults, fmt.Errorf("%s: unknown", name))
		case json.Unmarshal(value, &text) != nil:
			faults = append(faults, fmt.Errorf("%s: must be a string", name))
		}
	}
	if f == "repeats settings in errors" && len(settings) == 1 {
		faults = nil
	}
	if f == "connects when made" && m.is(Away) {
		faults = append(faults, errors.New("connection refused"))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return &memoryConnector{to: m, flaw: f, env: env}, nil
}

func (c *memoryConnector) Kind() string    { return "memory" }
func (c *memoryConnector) Version() string { return "1" }
func (c *memoryConnector) Close() error    { return nil }
func (c *memoryConnector) Limits() connector.Limits {
	limits := connector.Limits{MaxEvents: 7, Dedups: true}
	if c.flaw == "hangs" {
		limits.Timeout = time.Millisecond
	}
	return limits
}

func (c *memoryConnector) Plan(events []connector.Delivery) connector.Plan {
	var plan connector.Plan
	var indexes []int
	for i := range events {
		indexes = append(indexes, i)
	}
	if len(events) == 0 {
		return plan
	}
	switch c.flaw {
	case "plans an event twice":
		indexes = append(indexes[:len(indexes)-1], 0, len(events)-1)
	case "forgets an event":
		indexes = indexes[1:]
	case "plans in another order":
		slices.Reverse(indexes)
	case "plans calls that are too large":
		for len(indexes) < 8 {
			indexes = append(indexes, 0)
		}
	case "plans anew each time":
		n := int(c.plans.Add(1)) % len(indexes)
		return connector.Plan{Calls: c.calls(events, indexes[:n], indexes[n:])}
	case "changes the events":
		events[0].Event.Name = "changed"
	case "sends while planning":
		c.to.take(events[0].Event.ID, true)
	}
	return connector.Plan{Calls: c.calls(events, indexes)}
}

func (c *memoryConnector) calls(events []connector.Delivery, parts ...[]int) []connector.Call {
	var calls []connector.Call
	for _, part := range parts {
		if len(part) == 0 {
			continue
		}
		ids := make([]string, len(part))
		for i, at := range part {
			ids[i] = events[at].Event.ID
		}
		calls = append(calls, connector.Call{Events: part, Payload: ids})
	}
	return calls
}

func (c *memoryConnector) Send(ctx context.Context, call connector.Call) []connector.Result {
	ids := call.Payload.([]string)
	all := func(class connector.Class, wait time.Duration) []connector.Result {
		r := connector.Result{Class: class, Code: "memory", Message: "as the test wants it", RetryAfter: wait}
		switch c.flaw {
		case "shows its password":
			r.Response = "wrong password " + memoryPassword
		case "answers at length":
			r.Message = strings.Repeat("x", 2000)
		}
		return connector.All(len(ids), r)
	}
	if c.flaw == "logs its password" {
		c.env.Log.Debug("connecting", "password", memoryPassword)
	}
	if ctx.Err() != nil && c.flaw != "ignores a context that is over" {
		return all(connector.Retryable, 0)
	}
	switch {
	case c.to.is(Away):
		return all(connector.Retryable, 0)
	case c.to.is(Denied) && c.flaw == "takes denied for away":
		return all(connector.Retryable, 0)
	case c.to.is(Denied):
		return all(connector.Auth, 0)
	case c.to.is(Throttling) && c.flaw == "loses the wait":
		return all(connector.Throttled, 0)
	case c.to.is(Throttling):
		return all(connector.Throttled, time.Second)
	case c.to.is(Hanging):
		if c.flaw == "hangs" {
			select {}
		}
		<-ctx.Done()
		return all(connector.Ambiguous, 0)
	}
	lost := c.to.is(LostAnswer)
	results := make([]connector.Result, len(ids))
	bad := c.to.is(Fussy) && slices.Contains(ids, BadID)
	for i, id := range ids {
		if c.to.is(Fussy) && id == BadID || bad && c.flaw == "fails the whole batch" {
			results[i] = connector.Result{Class: connector.Permanent, Code: "bad"}
			continue
		}
		if c.flaw == "says delivered and sends nothing" {
			results[i].Class = connector.Delivered
			continue
		}
		results[i].Class = c.to.take(id, c.flaw != "does not dedup")
	}
	switch {
	case lost && c.flaw != "takes a lost answer for delivered":
		return all(connector.Ambiguous, 0)
	case c.flaw == "says retryable and sends":
		return all(connector.Retryable, 0)
	case c.flaw == "returns too few results":
		return results[1:]
	}
	return results
}
