// Package architecture holds the tests that keep the shape of the repository:
// which package may import which, and which alone knows a library.
package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/eventsluice/sluice/"

// everything, as a value of arrows, stands for all packages but commands.
const everything = "*"

// arrows says which packages of ours a package may import, beside those of its
// own folder and the folders below it. Arrows point inward: from programs to
// hosts, from hosts to stages, from stages to words. A new folder below
// internal gets a line here, and whoever writes it decides where it stands.
var arrows = map[string][]string{
	// Words: they import nothing of ours.
	"internal/event": {},
	"internal/fault": {},
	"internal/retry": {},

	// What several stages share.
	"internal/document":  {"internal/fault", "internal/retry"},
	"internal/ledger":    {"internal/event", "internal/fault"},
	"internal/schema":    {"internal/event"},
	"internal/telemetry": {"internal/event", "internal/fault", "internal/ledger"},

	// What the gateway serves.
	"api/browser": {},

	// Stages, in the order of the data. A stage hands on through interfaces
	// that it declares, so that it knows none of those after it.
	"internal/stream":     {"internal/event", "internal/fault", "internal/retry", "internal/ledger", "internal/telemetry"},
	"internal/edge":       {"api", "internal/event", "internal/fault", "internal/retry", "internal/document", "internal/ledger", "internal/stream", "internal/telemetry", "internal/deadletter", "internal/schema"},
	"internal/router":     {"api/schemas", "internal/event", "internal/fault", "internal/retry", "internal/document", "internal/stream", "internal/telemetry", "internal/deadletter"},
	"internal/connector":  {"internal/event", "internal/fault", "internal/retry", "internal/ledger", "internal/stream", "internal/router", "internal/telemetry", "internal/deadletter"},
	"internal/deadletter": {"internal/event", "internal/fault", "internal/retry", "internal/stream"},

	// The contract with clients: openapi.yaml as the gateway serves it, and what
	// holds traffic to it.
	"api": {},

	// Doubles of vendors, for tests and for those who try the program without an
	// account. They know nothing of ours, and connectors know them in tests only.
	"internal/simulator": {},

	// Hosts implement the interfaces of the stages, and do not know each other.
	"internal/engine": {"internal/event", "internal/fault", "internal/retry", "internal/stream", "internal/connector", "internal/deadletter", "internal/ledger", "internal/telemetry"},
	"internal/cloud":  {"internal/event", "internal/fault", "internal/retry", "internal/stream", "internal/connector", "internal/deadletter", "internal/ledger", "internal/telemetry", "internal/router", "internal/document"},

	// What stands in for AWS is not of cloud: it knows neither us nor the SDK.
	"internal/cloud/awstest":     {},
	"internal/cloud/kinesistest": {"internal/cloud/awstest"},
	"internal/cloud/sqstest":     {"internal/cloud/awstest"},
	"internal/cloud/lambdatest":  {"internal/cloud/awstest", "internal/cloud/kinesistest", "internal/cloud/sqstest"},

	// Programs. Only app knows everything; commands know app, and what letters
	// they can ask it for. The Lambda functions do not know app, which would
	// make them large and slow to start.
	"internal/app":  {everything},
	"internal/cost": {"internal/fault"},
	// What a browser does to a gateway; its tests have one behind bad proxies.
	"internal/doctor":   {"internal/edge", "internal/stream", "internal/deadletter", "internal/ledger"},
	"internal/function": {"internal/event", "internal/fault", "internal/retry", "internal/document", "internal/stream", "internal/router", "internal/connector", "internal/deadletter", "internal/ledger", "internal/telemetry", "internal/cloud"},
	"cmd":               {"internal/app", "internal/deadletter", "internal/function"},

	// Tools and tests that look at the program from outside.
	"internal/architecture": {},
	"internal/bench":        {},
	"internal/e2e":          {"internal/stream", "api"},
	"examples":              {},
	"deployments":           {},
	"internal/testenv":      {},
}

// lent says which folders, though they are no tests, may import a double: they
// show the program on a machine without the real thing.
var lent = map[string][]string{
	"internal/cloud/kinesistest": {"examples"},
	"internal/cloud/sqstest":     {"examples"},
	"internal/cloud/lambdatest":  {"examples"},
	"internal/cloud/cloudtest":   {"examples"},
	"internal/simulator":         {"internal/app", "examples"},
}

// libraries says who alone may import a library. A folder with a line of its
// own in arrows does not have the libraries of the one above.
var libraries = map[string][]string{
	"github.com/nats-io/":             {"internal/engine"},
	"github.com/go-jose/":             {"internal/edge"},
	"github.com/redis/":               {"internal/edge/limit"},
	"github.com/alicebob/":            {"internal/edge/limit"},
	"github.com/go-chi/chi":           {"internal/edge", "internal/app", "internal/bench"},
	"github.com/getkin/kin-openapi":   {"api/apitest", "internal/simulator", "internal/e2e"},
	"github.com/aws/":                 {"internal/cloud"},
	"github.com/evanw/esbuild":        {"api/browser", "internal/e2e"},
	"github.com/fxamacker/cbor":       {"internal/cloud/kinesistest"},
	"github.com/johannesboyne/":       {"internal/cloud"},
	"github.com/jackc/pgx":            {"internal/connector/postgres", "internal/testenv", "internal/cloud"},
	"github.com/parquet-go/":          {"internal/connector/s3"},
	"github.com/santhosh-tekuri/":     {"api/schemas/schemastest", "internal/simulator", "internal/schema"},
	"modernc.org/sqlite":              {"internal/connector/sqlite", "internal/e2e", "examples"},
	"cel.dev/cel-go":                  {"internal/router"},
	"github.com/klauspost/compress":   {"internal/edge", "internal/connector", "internal/e2e", "api/apitest", "examples"},
	"github.com/spf13/":               {"internal/app", "cmd"},
	"github.com/schollz/progressbar":  {"internal/app"},
	"github.com/prometheus/":          {"internal/telemetry", "internal/app"},
	"go.opentelemetry.io/otel/sdk":    {"internal/telemetry"},
	"google.golang.org/protobuf":      {"internal/stream"},
	"github.com/rogpeppe/go-internal": {"internal/app", "internal/e2e", "cmd"},
}

// pkg is what go list says of a package.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// folder returns where a package of ours stands, such as "internal/edge/source".
func folder(importPath string) (string, bool) {
	return strings.CutPrefix(importPath, module)
}

// within reports whether a folder is one of the others or below one.
func within(dir string, others []string) bool {
	return slices.ContainsFunc(others, func(other string) bool {
		return dir == other || strings.HasPrefix(dir, other+"/")
	})
}

// home returns the key of arrows that a folder belongs to: the longest.
func home(dir string) (key string, known bool) {
	for k := range arrows {
		if within(dir, []string{k}) && len(k) >= len(key) {
			key, known = k, true
		}
	}
	return key, known
}

// mayUse reports whether a folder may import a library of these folders.
func mayUse(dir string, owners []string) bool {
	key, _ := home(dir)
	return slices.ContainsFunc(owners, func(owner string) bool {
		ownerKey, _ := home(owner)
		return within(dir, []string{owner}) && key == ownerKey
	})
}

// forTests reports whether a package is a double or a helper that only tests
// may import: its name ends in "test", or it is testenv or the simulator.
func forTests(dir string) bool {
	return strings.HasSuffix(dir, "test") || within(dir, []string{"internal/testenv", "internal/simulator"})
}

// faults returns what is wrong with the imports of a package, one line each.
func faults(p pkg) []string {
	dir, _ := folder(p.ImportPath)
	key, known := home(dir)
	if !known {
		return []string{dir + " has no line in the table of arrows"}
	}
	var out []string
	check := func(imports []string, inTest bool) {
		for _, path := range imports {
			target, ours := folder(path)
			switch {
			case !ours:
				for library, allowed := range libraries {
					if strings.HasPrefix(path, library) && !mayUse(dir, allowed) {
						out = append(out, dir+" imports "+path+": only "+strings.Join(allowed, ", ")+" may")
					}
				}
			case forTests(target):
				if !inTest && !forTests(dir) && !within(dir, lent[target]) {
					out = append(out, dir+" imports "+target+", which is for tests")
				}
			case within(target, []string{key}), inTest && within(target, []string{dir}):
			case slices.Contains(arrows[key], everything) && !within(target, []string{"cmd"}):
			case !within(target, arrows[key]):
				out = append(out, dir+" imports "+target+": the arrow points outward")
			}
		}
	}
	check(p.Imports, false)
	check(p.TestImports, true)
	check(p.XTestImports, true)
	return out
}

func TestImportsPointInward(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, fault := range faults(p) {
			t.Error(fault)
		}
	}
}

// Connectors are the folders below internal/connector that the catalog, or app,
// registers; what they share stands beside them, or above.
func TestConnectorsDoNotKnowEachOther(t *testing.T) {
	t.Parallel()
	all := packages(t)
	shared := []string{
		"internal/connector/catalog", "internal/connector/delivery", "internal/connector/guard",
		"internal/connector/mapping", "internal/connector/settings",
	}
	var connectors []string
	for _, p := range all {
		if dir, _ := folder(p.ImportPath); dir != "internal/app" && dir != "internal/connector/catalog" {
			continue
		}
		for _, path := range p.Imports {
			if target, _ := folder(path); strings.HasPrefix(target, "internal/connector/") && !slices.Contains(shared, target) {
				connectors = append(connectors, target)
			}
		}
	}
	if len(connectors) < 3 {
		t.Fatalf("only %v are registered", connectors)
	}
	for _, p := range all {
		dir, _ := folder(p.ImportPath)
		if !strings.HasPrefix(dir, "internal/connector/") || dir == "internal/connector/catalog" {
			continue
		}
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for _, connector := range connectors {
				if target, _ := folder(path); within(target, []string{connector}) && !within(dir, []string{connector}) {
					t.Errorf("%s imports %s, a connector", dir, target)
				}
			}
		}
	}
}

func TestTheTableFindsWhatItIsFor(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]pkg{
		"a word that knows a stage":        {ImportPath: module + "internal/event", Imports: []string{module + "internal/stream"}},
		"a stage that knows a host":        {ImportPath: module + "internal/edge", Imports: []string{module + "internal/engine"}},
		"a stage that knows NATS":          {ImportPath: module + "internal/router", Imports: []string{"github.com/nats-io/nats.go/jetstream"}},
		"a folder below that knows chi":    {ImportPath: module + "internal/connector/webhook", Imports: []string{"github.com/go-chi/chi/v5"}},
		"a command that knows a stage":     {ImportPath: module + "cmd/sluice", Imports: []string{module + "internal/edge"}},
		"a program that knows a double":    {ImportPath: module + "internal/app", Imports: []string{module + "internal/stream/streamtest"}},
		"an example that knows a double":   {ImportPath: module + "examples/kinesis", Imports: []string{module + "internal/stream/streamtest"}},
		"the bench that knows a double":    {ImportPath: module + "internal/bench", Imports: []string{module + "internal/cloud/kinesistest"}},
		"a command that knows a lent one":  {ImportPath: module + "cmd/sluice", Imports: []string{module + "internal/cloud/kinesistest"}},
		"a host that knows its double":     {ImportPath: module + "internal/cloud", Imports: []string{module + "internal/cloud/kinesistest"}},
		"a double that knows the SDK":      {ImportPath: module + "internal/cloud/kinesistest", Imports: []string{"github.com/aws/aws-sdk-go-v2/aws"}},
		"a double of AWS that knows us":    {ImportPath: module + "internal/cloud/kinesistest", Imports: []string{module + "internal/stream"}},
		"a test of a word, knowing a host": {ImportPath: module + "internal/fault", TestImports: []string{module + "internal/engine"}},
		"a folder nobody has placed":       {ImportPath: module + "internal/misc"},
	} {
		if len(faults(p)) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
	for name, p := range map[string]pkg{
		"app knows all":                {ImportPath: module + "internal/app", Imports: []string{module + "internal/engine", module + "internal/connector/webhook"}},
		"a command knows app":          {ImportPath: module + "cmd/sluice", Imports: []string{module + "internal/app"}},
		"a test knows a double":        {ImportPath: module + "internal/engine", XTestImports: []string{module + "internal/stream/streamtest", module + "internal/engine"}},
		"an example knows a lent one":  {ImportPath: module + "examples/kinesis", Imports: []string{module + "internal/cloud/kinesistest"}},
		"a host's test knows a double": {ImportPath: module + "internal/cloud", TestImports: []string{module + "internal/cloud/kinesistest"}},
		"a folder knows the one above": {ImportPath: module + "internal/edge/source", Imports: []string{module + "internal/edge"}},
		"the engine knows NATS":        {ImportPath: module + "internal/engine", Imports: []string{"github.com/nats-io/nats-server/v2/server"}},
	} {
		if found := faults(p); len(found) > 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// packages lists the packages of this module.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < len(arrows)/2 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}
