package api_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/eventsluice/sluice/internal/testenv"
)

// TestTheDocumentIsLinted runs Redocly CLI with redocly.yaml: no error and no
// warning.
func TestTheDocumentIsLinted(t *testing.T) {
	t.Parallel()
	testenv.NodeModules(t, "node")
	// They are read here so that go test knows what its result depends on.
	for _, name := range []string{"redocly.yaml", filepath.Join("..", "openapi.yaml")} {
		if _, err := os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), testenv.Node(t), filepath.Join("node", "node_modules", "@redocly", "cli", "bin", "cli.js"),
		"lint", "--config", "redocly.yaml", "--max-problems", "1000", filepath.Join("..", "openapi.yaml"))
	cmd.Env = append(cmd.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true", "NO_COLOR=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
