package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/api/client"
	"github.com/eventsluice/sluice/internal/testenv"
)

// generated is what OpenAPI Generator is asked for. A folder of the generated
// client has to hold some of its files.
type generated struct {
	name     string // of the generator
	settings map[string]any
	files    []string
}

// runnable are the clients that are built and run: the others only have to be
// generated. Of Kotlin it is what sends events, for its compiler is slow.
var runnable = []generated{
	{"java", map[string]any{
		"additionalProperties": map[string]any{"library": "native", "openApiNullable": false},
	}, []string{"src/main/java/org/openapitools/client/api/EventsApi.java", "src/main/java/org/openapitools/client/api/SdkApi.java"}},
	{"kotlin", map[string]any{"globalProperties": map[string]any{
		"apis": "Events", "supportingFiles": "",
		"models": "Accepted,Ack,CloudEvent,Event,EventBatch,EventError,EventErrorCode,EventType,Events,Problem,ProblemCode",
	}}, []string{"src/main/kotlin/org/openapitools/client/apis/EventsApi.kt"}},
	{"python", nil, []string{"openapi_client/api/events_api.py", "openapi_client/models/problem.py"}},
}

var generatedAlone = []generated{
	{"csharp", nil, []string{"src/Org.OpenAPITools/Api/EventsApi.cs", "src/Org.OpenAPITools/Model/Accepted.cs"}},
	{"dart", nil, []string{"lib/api/events_api.dart", "lib/model/accepted.dart"}},
	{"php", nil, []string{"lib/Api/EventsApi.php", "lib/Model/Accepted.php"}},
	{"ruby", nil, []string{"lib/openapi_client/api/events_api.rb", "lib/openapi_client/models/accepted.rb"}},
	{"rust", nil, []string{"src/apis/events_api.rs", "src/models/accepted.rs"}},
	{"swift6", nil, []string{"Sources/OpenAPIClient/APIs/EventsAPI.swift", "Sources/OpenAPIClient/Models/Accepted.swift"}},
	{"typescript-fetch", nil, []string{"apis/EventsApi.ts", "models/Accepted.ts"}},
}

// TestGeneratedClientsSendEvents generates clients from openapi.yaml, builds them
// and runs them against a gateway. Each sends a good event, a batch with a bad
// one in it and a wrong key, and says what it reads of the answers in its own
// types. What they send and get is held to the contract.
func TestGeneratedClientsSendEvents(t *testing.T) {
	t.Parallel()
	p := start(t, dataFolder(t, everythingToWarehouse))
	ids := make(chan string, 100)
	t.Run("each", func(t *testing.T) {
		t.Run("go", func(t *testing.T) {
			t.Parallel()
			goClient(t, contractProxy(t, p.gateway))
			ids <- "go"
		})
		t.Run("typescript", func(t *testing.T) {
			t.Parallel()
			typescriptClient(t, contractProxy(t, p.gateway))
			ids <- "typescript"
		})
		t.Run("openapi-generator", func(t *testing.T) {
			t.Parallel()
			jars := testenv.Java(t, filepath.Join("clients", "java", "pom.xml"))
			dir := generateClients(t, jars)
			for name, run := range map[string]func(*testing.T, string, string, string){
				"java": javaClient, "kotlin": kotlinClient, "python": pythonClient,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					run(t, jars, filepath.Join(dir, name), contractProxy(t, p.gateway))
					ids <- name
				})
			}
		})
	})
	close(ids)
	p.settle()
	rows := map[string]row{}
	for _, r := range warehouse(t, p.dir) {
		rows[r.id] = r
	}
	n := 0
	for id := range ids {
		n += 2
		if r := rows[id+"-1"]; r.name != "order_placed" || r.userID != "u1" || strings.ReplaceAll(r.data, " ", "") != `{"total":12.5}` {
			t.Errorf("%s: the first event is %+v", id, r)
		}
		if r := rows[id+"-2"]; r.name != "order_shipped" {
			t.Errorf("%s: the second event is %+v", id, r)
		}
	}
	if len(rows) != n {
		t.Errorf("%d rows, want %d", len(rows), n)
	}
	p.stop()
}

// wantSent checks what a client has read of the answers.
func wantSent(t *testing.T, name string, out []byte) {
	t.Helper()
	want := fmt.Sprintf("all 1 0 %[1]s-1 stream\nsome 1 1 %[1]s-2 null 1 /name too_long\nnone 401 401 unknown_key Invalid write key\n", name)
	if got := strings.ReplaceAll(string(out), "\r", ""); got != want {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
}

// command runs a program of a client and returns what it says.
func command(t *testing.T, dir, gateway string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(cleanEnv(), "SLUICE_URL="+gateway, "SLUICE_KEY="+secretKey)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%.300s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.Bytes()
}

func goClient(t *testing.T, gateway string) {
	send := func(key string, events ...client.Event) *client.SendEventsResponse {
		t.Helper()
		c, err := client.NewClientWithResponses(gateway, client.WithKey(key))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.SendEventsWithResponse(context.Background(), nil, client.EventBatch{Events: events})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	first, second, user := "go-1", "go-2", "u1"
	good := client.Event{Id: &first, Name: "order_placed", UserId: &user, Data: &map[string]any{"total": 12.5}}
	all := send(secretKey, good).Accepted()
	some := send(secretKey, client.Event{Id: &second, Name: "order_shipped"}, client.Event{Name: strings.Repeat("é", 400)}).Accepted()
	none := send("wk_wrong", good)
	if all == nil || some == nil || some.Errors == nil || none.Problem() == nil {
		t.Fatalf("answered %+v, %+v, %+v", all, some, none)
	}
	wrong, problem := (*some.Errors)[0], none.Problem()
	if some.Ids[1] != nil {
		t.Errorf("a refused event has the id %q", *some.Ids[1])
	}
	wantSent(t, "go", fmt.Appendf(nil, "all %d %d %s %s\nsome %d %d %s null %d %s %s\nnone %d %d %s %s\n",
		all.Accepted, all.Rejected, *all.Ids[0], all.Ack,
		some.Accepted, some.Rejected, *some.Ids[0], wrong.Index, wrong.Pointer, wrong.Code,
		none.StatusCode(), problem.Status, problem.Code, problem.Title))
}

func typescriptClient(t *testing.T, gateway string) {
	folder := filepath.Join("clients", "node")
	testenv.NodeModules(t, folder)
	modules, err := filepath.Abs(filepath.Join(folder, "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	document, err := filepath.Abs(filepath.Join("..", "..", "openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// Modules are looked for beside the program that names them.
	dir := t.TempDir()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	copyFiles(t, dir, folder, "send.ts", "tsconfig.json", "package.json")
	node := testenv.Node(t)
	command(t, dir, gateway, node, filepath.Join(modules, "openapi-typescript", "bin", "cli.js"), document, "-o", "sluice.d.ts")
	command(t, dir, gateway, node, filepath.Join(modules, "typescript", "bin", "tsc"), "-p", ".")
	wantSent(t, "typescript", command(t, dir, gateway, node, "send.js"))
}

func copyFiles(t *testing.T, to, from string, names ...string) {
	t.Helper()
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// quick is for programs that run for seconds: most of their time is the
// compiler's of the JVM.
var quick = []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"}

// generateClients generates all clients in one process, each into the folder of
// its name, and returns the folder above them.
func generateClients(t *testing.T, jars string) string {
	t.Helper()
	document, err := filepath.Abs(filepath.Join("..", "..", "openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := append(slices.Clone(quick), "-jar", jar(t, jars, "openapi-generator-cli-"), "batch", "--fail-fast")
	all := slices.Concat(runnable, generatedAlone)
	for _, g := range all {
		config := map[string]any{"generatorName": g.name, "inputSpec": document, "outputDir": filepath.Join(dir, g.name)}
		for name, value := range g.settings {
			config[name] = value
		}
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, g.name+".json")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	said := command(t, dir, "", args...)
	for _, g := range all {
		for _, name := range g.files {
			info, err := os.Stat(filepath.Join(dir, g.name, filepath.FromSlash(name)))
			if err != nil || info.Size() < 500 {
				t.Errorf("%s: %s was not generated (%v)", g.name, name, err)
			}
		}
	}
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, " WARN ") || strings.Contains(line, " ERROR ") {
			t.Errorf("the generator says %s", line)
		}
	}
	return dir
}

// jar returns the jar that begins with a name, of those in a class path "dir/*".
func jar(t *testing.T, jars, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(jars), name+"*.jar"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the jars that begin with %s are %v (%v)", name, found, err)
	}
	return found[0]
}

// without returns a class path of the jars that begin with none of the names.
func without(t *testing.T, jars string, names ...string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(filepath.Dir(jars), "*.jar"))
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(path string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(filepath.Base(path), name) })
	})
	return strings.Join(all, string(filepath.ListSeparator))
}

func javaClient(t *testing.T, jars, dir, gateway string) {
	path := without(t, jars, "openapi-generator", "kotlin", "okhttp", "okio", "moshi")
	copyFiles(t, dir, filepath.Join("clients", "java"), "Send.java")
	sources := []string{"Send.java"}
	err := filepath.WalkDir(filepath.Join(dir, "src", "main", "java"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".java") {
			sources = append(sources, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	command(t, dir, gateway, append([]string{"javac", "-nowarn", "-proc:none", "-encoding", "UTF-8", "-d", "classes", "-cp", path}, sources...)...)
	wantSent(t, "java", command(t, dir, gateway, append(slices.Clone(quick), "-Dstdout.encoding=UTF-8", "-cp", "classes"+string(filepath.ListSeparator)+path, "Send")...))
}

func kotlinClient(t *testing.T, jars, dir, gateway string) {
	path := without(t, jars, "openapi-generator", "kotlin-compiler", "kotlin-daemon", "kotlin-build", "jackson")
	copyFiles(t, dir, filepath.Join("clients", "kotlin"), "Send.kt")
	command(t, dir, gateway, append(slices.Clone(quick), "-cp", without(t, jars, "openapi-generator"), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler",
		"-nowarn", "-no-stdlib", "-no-reflect", "-cp", path, "-d", "classes", filepath.Join("src", "main", "kotlin"), "Send.kt")...)
	wantSent(t, "kotlin", command(t, dir, gateway, append(slices.Clone(quick), "-cp", "classes"+string(filepath.ListSeparator)+path, "SendKt")...))
}

func pythonClient(t *testing.T, _, dir, gateway string) {
	python := testenv.Python(t, filepath.Join("clients", "python", "requirements.txt"))
	copyFiles(t, dir, filepath.Join("clients", "python"), "send.py")
	wantSent(t, "python", command(t, dir, gateway, python, "send.py"))
}
