package e2e

import (
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/testenv"
)

var (
	contractSeed = flag.Int("contract.seed", 0, "seed of the contract fuzzer; 0 is another one each time")
	contractTime = flag.Duration("contract.time", 0, "how long the contract fuzzer sends; 0 is a minute with CI=true and half of it elsewhere")
)

// TestNothingIsAnsweredThatTheContractDoesNotAllow lets Schemathesis send what
// openapi.yaml allows, what it forbids and what lies at the edges of it, to all
// operations: no answer is a failure of the gateway, or has a status, a type, a
// header or a body that the document does not have.
func TestNothingIsAnsweredThatTheContractDoesNotAllow(t *testing.T) {
	t.Parallel()
	python := testenv.Python(t, filepath.Join("schemathesis", "requirements.txt"))
	p := start(t, dataFolder(t, everythingToWarehouse), "SLUICE_PROTOCOLS=jitsu,snowplow,posthog,mixpanel")
	seed, budget := *contractSeed, *contractTime
	if seed == 0 {
		seed = rand.IntN(1 << 30)
	}
	if budget == 0 {
		if budget = 30 * time.Second; os.Getenv("CI") == "true" {
			budget = time.Minute
		}
	}
	t.Logf("the seed is %d: go test ./internal/e2e -run %s -contract.seed=%[1]d", seed, t.Name())
	cmd := exec.CommandContext(t.Context(), python, "-m", "schemathesis.cli", "run", p.gateway+"/openapi.json", "--url", p.gateway, "--header", "Authorization: Bearer "+secretKey,
		"--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"+
			"response_schema_conformance,unsupported_method,allow_header_conformance",
		"--phases", "examples,coverage,fuzzing", "--max-time", strconv.Itoa(int(budget.Seconds())), "--seed", strconv.Itoa(seed),
		"--workers", "1", "--generation-database", "none", "--warnings", "off", "--continue-on-failure", "--no-color")
	hooks, err := filepath.Abs("schemathesis")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Dir = t.TempDir()
	cmd.Env = append(cleanEnv(), "PYTHONIOENCODING=utf-8", "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+hooks, "SCHEMATHESIS_HOOKS=hooks")
	out, err := cmd.CombinedOutput()
	text := out[max(0, len(out)-16<<10):]
	if err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	t.Logf("%s", text[max(0, len(text)-500):])

	p.alive()
	if l := p.settle(); l.Residual != 0 || l.Received == 0 {
		t.Errorf("%+v", l)
	}
	p.stop()
}
