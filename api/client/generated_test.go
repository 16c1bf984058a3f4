package client_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/eventsluice/sluice/internal/testenv"
)

// TestTheClientIsGeneratedFromTheDocument generates it again, with the version
// of oapi-codegen that client.go names.
func TestTheClientIsGeneratedFromTheDocument(t *testing.T) {
	t.Parallel()
	// They are read here so that go test knows what its result depends on.
	var committed, source []byte
	for _, name := range []string{"oapi-codegen.yaml", "overlay.yaml", filepath.Join("..", "openapi.yaml"), "client.go", "client.gen.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source, committed = committed, text
	}
	directive := regexp.MustCompile(`go:generate go run (\S+@\S+)`).FindSubmatch(source)
	if directive == nil {
		t.Fatal("client.go names no version of oapi-codegen")
	}
	program := testenv.GoProgram(t, string(directive[1]))
	generated := filepath.Join(t.TempDir(), "client.gen.go")
	cmd := exec.CommandContext(t.Context(), program, "-config", "oapi-codegen.yaml", "-o", generated, filepath.Join("..", "openapi.yaml"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(generated)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, committed) {
		t.Error("client.gen.go is not what openapi.yaml says: go generate ./api ./api/client")
	}
}
