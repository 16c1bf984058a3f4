package main

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/testenv"
)

// atRoot runs a test at the root of the repository, as deploy does.
func atRoot(t *testing.T) {
	t.Helper()
	t.Chdir(filepath.Join("..", ".."))
}

func TestFunctionsArePackedTheSameTwice(t *testing.T) {
	atRoot(t)
	// A program of its own: with the race detector in it, as in this test, it
	// compresses for a minute.
	pack := filepath.Join(t.TempDir(), "pack")
	call := func(env []string, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if t.Logf("%s", out); err != nil {
			t.Fatalf("%s %v: %v", name, args, err)
		}
	}
	call(nil, "go", "build", "-o", pack, "./deployments/pack")
	first, second := t.TempDir(), t.TempDir()
	call(nil, pack, "functions", "-o", first)
	// What an environment may say changes nothing.
	call([]string{"GOFLAGS=-ldflags=-X=main.who=me", "CGO_ENABLED=1", "GOARCH=amd64", "TZ=Asia/Tokyo"},
		pack, "functions", "-o", second, "redrive", "router", "connector")
	for _, name := range functions {
		one, err := os.ReadFile(filepath.Join(first, name+".zip"))
		if err != nil {
			t.Fatal(err)
		}
		two, err := os.ReadFile(filepath.Join(second, name+".zip"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one, two) {
			t.Errorf("%s.zip differs: %d and %d bytes", name, len(one), len(two))
		}
		if len(one) > mostZip {
			t.Errorf("%s.zip has %d bytes", name, len(one))
		}
		checkZip(t, name, one)
	}
}

// checkZip looks at a zip file as Lambda does: its runtime provided.al2023 starts
// the executable bootstrap at the root.
func checkZip(t *testing.T, name string, packed []byte) {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.File) != 1 || archive.File[0].Name != "bootstrap" || archive.File[0].Mode() != 0o755 {
		t.Fatalf("%s.zip holds %v", name, archive.File)
	}
	file, err := archive.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	code, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	program, err := elf.NewFile(bytes.NewReader(code))
	if err != nil {
		t.Fatal(err)
	}
	if program.Machine != elf.EM_AARCH64 {
		t.Errorf("%s is for %v", name, program.Machine)
	}
	if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("%s needs %v, %v", name, libraries, err)
	}
	if bytes.Contains(code, []byte("net/rpc.")) {
		t.Errorf("%s has net/rpc in it: the tag lambda.norpc has no effect", name)
	}
}

func TestAnImageIsWhatARegistryTakes(t *testing.T) {
	t.Parallel()
	made, err := layout([]byte("program"), []byte("license"), []byte("roots"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := layout([]byte("program"), []byte("license"), []byte("roots"))
	if err != nil {
		t.Fatal(err)
	}
	if made.manifest != again.manifest {
		t.Errorf("the same image has two digests, %s and %s", made.manifest, again.manifest)
	}
	dir := t.TempDir()
	for name, content := range made.content {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	crane := craneOf(t)
	// A registry of crane's own, on loopback.
	registry := exec.CommandContext(t.Context(), crane, "registry", "serve", "--address", "127.0.0.1:0")
	var said testenv.Log
	registry.Stderr = &said
	if err := registry.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Process.Kill(); _ = registry.Wait() })
	address := strings.Fields(said.Await(t, "serving on port "))[0]
	image := "127.0.0.1:" + address + "/sluice:test"
	call := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), crane, args...)
		cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("crane %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	call("push", dir, image)
	if got := call("digest", image); got != made.manifest {
		t.Errorf("the registry has %s, not %s", got, made.manifest)
	}
	if got := call("validate", "--remote", image); !strings.HasPrefix(got, "PASS") {
		t.Errorf("crane validate: %s", got)
	}
	var config struct {
		Architecture, OS string
		Config           struct {
			User       string
			Entrypoint []string
			Volumes    map[string]any
		}
	}
	if err := json.Unmarshal([]byte(call("config", image)), &config); err != nil {
		t.Fatal(err)
	}
	if config.Architecture != "arm64" || config.OS != "linux" || config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/sluice" || config.Config.Volumes["/data"] == nil {
		t.Errorf("config %+v", config)
	}
}

func TestDestinationsBecomeParameters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"destinations", "-o", dir, filepath.Join("..", "testdata", "destinations.json")}, &out); err != nil {
		t.Fatal(err)
	}
	if want := "crm,mail\nnote: crm: rate has no effect on AWS\n"; out.String() != want {
		t.Errorf("said %q, want %q", &out, want)
	}
	for name, want := range map[string]string{
		"crm/connector":           "webhook",
		"crm/settings":            `{"url":"https://crm.example/hook","secret":"secretsmanager:sluice/prod/crm/webhook#secret"}`,
		"crm/retry-max-attempts":  "20",
		"crm/retry-base-delay":    "2s",
		"crm/retry-max-delay":     "5m",
		"crm/ambiguous":           "dead",
		"mail/retry-max-attempts": "350",
		"mail/retry-base-delay":   "1s",
		"mail/retry-max-delay":    "10m",
		"mail/ambiguous":          "dead",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join("..", "destinations.json")); err != nil {
		t.Error("there is nothing for a stack without a document")
	}
}

func TestDestinationsThatCannotBeDeployedAreRefused(t *testing.T) {
	t.Parallel()
	entry := func(name string) string { return `{"destination_name":"` + name + `","connector":"webhook"}` }
	var eleven []string
	for i := range 11 {
		eleven = append(eleven, entry("d"+string(rune('a'+i))))
	}
	for name, c := range map[string]struct{ document, want string }{
		"not JSON":               {`[`, "unexpected EOF"},
		"no array":               {`{}`, "cannot unmarshal object"},
		"two documents":          {`[` + entry("a") + `] []`, "there is more after the array"},
		"a member nobody knows":  {`[{"destination_name":"a","conector":"webhook"}]`, `unknown field "conector"`},
		"none":                   {`[]`, "at least one"},
		"too many":               {`[` + strings.Join(eleven, ",") + `]`, "11 destinations; a stack has at most 10"},
		"a name with a dash":     {`[` + entry("my-crm") + `]`, `destination_name "my-crm"`},
		"a name of ours":         {`[` + entry("Router") + `]`, "a name that the stack uses itself"},
		"one twice":              {`[` + entry("crm") + `,` + entry("CRM") + `]`, "taken by one before it"},
		"no connector":           {`[{"destination_name":"a"}]`, "connector is missing"},
		"a file":                 {`[{"destination_name":"a","connector":"sqlite"}]`, "sqlite writes to a file"},
		"settings that are none": {`[{"destination_name":"a","connector":"webhook","settings":null}]`, "settings is not a JSON object"},
		"settings too large":     {`[{"destination_name":"a","connector":"webhook","settings":{"x":"` + strings.Repeat("x", 4096) + `"}}]`, "SSM keeps at most 4096"},
		"a negative count":       {`[{"destination_name":"a","connector":"webhook","retry":{"max_attempts":-1}}]`, "retry.max_attempts is -1"},
		"no duration":            {`[{"destination_name":"a","connector":"webhook","retry":{"base_delay":"soon"}}]`, `retry.base_delay is "soon"`},
		"no such ambiguous":      {`[{"destination_name":"a","connector":"webhook","ambiguous":"drop"}]`, `ambiguous is "drop"`},
	} {
		if _, err := parseDestinations([]byte(c.document)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzDestinations(f *testing.F) {
	document, err := os.ReadFile(filepath.Join("..", "testdata", "destinations.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(document)
	f.Add([]byte(`[{"destination_name":"a","connector":"webhook","settings":{}}]`))
	f.Fuzz(func(t *testing.T, document []byte) {
		all, err := parseDestinations(document)
		if err != nil {
			return
		}
		for _, d := range all {
			for name, value := range d.parameters() {
				// SSM has no empty parameters.
				if value == "" || len(value) > mostValue && name == "settings" {
					t.Errorf("%s of %q is %q", name, d.Name, value)
				}
			}
			if !json.Valid([]byte(d.parameters()["settings"])) {
				t.Errorf("settings of %q are no JSON", d.Name)
			}
		}
	})
}

func TestADigestIsOfNamesAndBytes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	sum := func(files ...string) string {
		s, err := digest(files)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := write("a", "one"), write("b", "one")
	before := sum(a, b)
	if sum(a) == sum(b) || sum(a, b) == sum(b, a) {
		t.Error("names do not matter")
	}
	write("b", "two")
	if sum(a, b) == before {
		t.Error("bytes do not matter")
	}
	if _, err := digest([]string{filepath.Join(dir, "none")}); err == nil {
		t.Error("a file that is not there has a digest")
	}
}

// craneOf builds crane, once, at the version that deploy uses.
func craneOf(t *testing.T) string {
	t.Helper()
	script, err := os.ReadFile(filepath.Join("..", "deploy"))
	if err != nil {
		t.Fatal(err)
	}
	_, version, ok := strings.Cut(string(script), "\nCRANE=")
	version, _, _ = strings.Cut(version, "\n")
	if !ok {
		t.Fatal("deploy names no crane")
	}
	_, number, _ := strings.Cut(version, "@")
	bin := testenv.Folder(t, filepath.Join("crane", number))
	crane := filepath.Join(bin, "crane")
	if _, err := os.Stat(crane); err == nil {
		return crane
	}
	cmd := exec.CommandContext(t.Context(), "go", "install", version)
	cmd.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go install %s: %v\n%s", version, err, out)
	}
	return crane
}
