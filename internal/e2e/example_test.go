package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/testenv"
)

// example runs a script of the folder examples as a person does, and returns what
// it prints.
func example(t *testing.T, name string, env ...string) []byte {
	t.Helper()
	testenv.Curl(t)
	script, err := filepath.Abs(filepath.Join("..", "..", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", script)
	cmd.Env = append(cleanEnv(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// TestTheExampleOnKinesisSendsAndPeeks runs examples/kinesis.sh as a person
// does.
func TestTheExampleOnKinesisSendsAndPeeks(t *testing.T) {
	t.Parallel()
	out := example(t, "kinesis.sh")
	for n := range 20 {
		want := fmt.Sprintf(`"name":"page_viewed","user_id":"user-%d"`, n%3)
		if number := fmt.Sprintf(`"data":{"number":%d}`, n); strings.Count(string(out), number) != 1 || !strings.Contains(string(out), want) {
			t.Errorf("event %d is not printed once", n)
		}
	}
	for _, want := range []string{`"ack":"stream"`, `"name":"signed_up"`, "stored 21; spooled 0; residual 0"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not printed:\n%s", want, out)
		}
	}
}

// TestTheExampleOfDestinationsFillsThemAll runs examples/destinations.sh as a
// person does.
func TestTheExampleOfDestinationsFillsThemAll(t *testing.T) {
	t.Parallel()
	out := string(example(t, "destinations.sh"))
	for _, want := range []string{
		"sent 2271 events", "amplitude: ", "mixpanel: ", "2271 items taken", "621 event Product Viewed", "123 event purchase", "170 contact",
		"170 member", `"currency": "EUR"`, "received 2271 = rejected 0 + accepted 2271; stored 2271; spooled 0; residual 0",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not printed:\n%s", want, out)
		}
	}
	rows := 0
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) == 11 && (strings.HasPrefix(fields[0], "simulated-") || fields[0] == "warehouse") {
			rows++
			if fields[6] != "0" || fields[4] != "0" || fields[5] != "0" {
				t.Errorf("not everything was delivered: %s", line)
			}
		}
	}
	if rows != 9 {
		t.Errorf("%d destinations in the ledger:\n%s", rows, out)
	}
}

// TestTheExampleOnAWSWalksThroughFailureAndBack runs examples/aws-local.sh as a
// person does.
func TestTheExampleOnAWSWalksThroughFailureAndBack(t *testing.T) {
	t.Parallel()
	out := example(t, "aws-local.sh")
	for _, want := range []string{
		`"accepted":3`, `"user_id":"ann"`, "the endpoint answered 500", "2 written to", "2 of 2 letters match; nothing was changed", "2 replayed",
		"stored 5; spooled 0; residual 0",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not printed:\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), "page_viewed"); n > 0 {
		t.Errorf("an event that no rule wants was delivered:\n%s", out)
	}
}

// TestTheExampleSendsAndPrints runs examples/first-events.sh as a person does:
// once by itself, and once against a process that runs.
func TestTheExampleSendsAndPrints(t *testing.T) {
	t.Parallel()
	p := start(t, dataFolder(t, everythingToWarehouse))
	for name, env := range map[string][]string{
		"by itself":         nil,
		"against a running": {"SLUICE_URL=" + p.gateway, "SLUICE_WRITE_KEY=" + writeKey, "SLUICE_DATA_DIR=" + p.dir},
	} {
		t.Run(name, func(t *testing.T) {
			out := example(t, "first-events.sh", env...)
			for n := 1; n <= 300; n++ {
				want := fmt.Sprintf(`  event-%d  {"square":%d}`, n, n*n)
				if !strings.Contains(string(out), want+"\n") {
					t.Fatalf("no row %q in\n%.2000s", want, out)
				}
			}
			for _, want := range []string{"batch-1", "batch-2", "batch-3", `"residual":0`} {
				if !strings.Contains(string(out), want) {
					t.Errorf("%q is not printed", want)
				}
			}
		})
	}
	p.alive()
	p.stop()
}
