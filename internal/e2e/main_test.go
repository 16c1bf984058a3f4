// Package e2e tests the built binary from outside, as its users meet it: over
// its sockets, its commands, its files, and its death.
package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// binary is the sluice under test, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "sluice-e2e-")
	if err == nil {
		binary, err = build(dir)
	}
	if err == nil {
		err = useContract()
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
		if !breaches.say() {
			code = 1
		}
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build builds sluice into a folder. With SLUICE_E2E_RACE=1 the race detector
// is in it.
func build(dir string) (string, error) {
	name := filepath.Join(dir, "sluice")
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	args := []string{"build", "-o", name}
	if os.Getenv("SLUICE_E2E_RACE") == "1" {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/sluice")...)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build sluice: %w", err), errors.New(string(out)))
	}
	return name, nil
}
