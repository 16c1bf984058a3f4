package testenv

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// NodeModules installs the packages of a folder's package-lock.json into its
// node_modules, if those that are there were not installed from it as it is now.
func NodeModules(t testing.TB, folder string) {
	t.Helper()
	Node(t)
	npm := program(t, "npm", "npm")
	making.Lock()
	defer making.Unlock()
	lock, err := os.ReadFile(filepath.Join(folder, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	installed := filepath.Join(folder, "node_modules", ".installed-from.json")
	if was, err := os.ReadFile(installed); err == nil && bytes.Equal(was, lock) {
		return
	}
	cmd := exec.CommandContext(t.Context(), npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = folder
	if err := run(cmd); err != nil {
		missing(t, err.Error())
	}
	if err := os.WriteFile(installed, lock, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Java brings the jars that a pom.xml names, with Maven, and returns the class
// path of them. The pom.xml says how, as the goal dependency:copy-dependencies.
// A JDK is needed, and not only a JRE, for tests start programs from source.
func Java(t testing.TB, pom string) (classPath string) {
	t.Helper()
	program(t, "javac", "a JDK")
	mvn := program(t, "mvn", "Maven")
	dir := made(t, "java", pom, func(dir string) error {
		return run(exec.CommandContext(t.Context(), mvn, "-B", "-q", "-f", pom, "dependency:copy-dependencies", "-DoutputDirectory="+dir))
	})
	return filepath.Join(dir, "*")
}

// Python installs what a requirements.txt names into a virtual environment and
// returns the path of its interpreter.
func Python(t testing.TB, requirements string) string {
	t.Helper()
	python := program(t, "python3", "Python")
	interpreter := filepath.Join("bin", "python3")
	if runtime.GOOS == "windows" {
		interpreter = filepath.Join("Scripts", "python.exe")
	}
	dir := made(t, "python", requirements, func(dir string) error {
		if err := run(exec.CommandContext(t.Context(), python, "-m", "venv", dir)); err != nil {
			return err
		}
		return run(exec.CommandContext(t.Context(), filepath.Join(dir, interpreter), "-m", "pip", "install",
			"--quiet", "--disable-pip-version-check", "--no-input", "-r", requirements))
	})
	return filepath.Join(dir, interpreter)
}

// GoProgram builds a program of another module, "path/to/main@v1.2.3", and
// returns the path of its binary.
func GoProgram(t testing.TB, program string) string {
	t.Helper()
	dir, err := fillOnce(Folder(t, "go"), []byte(program), func(dir string) error {
		cmd := exec.CommandContext(t.Context(), "go", "install", program)
		cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
		return run(cmd)
	})
	if err != nil {
		missing(t, err.Error())
	}
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s is not one file but %v (%v)", program, found, err)
	}
	return found[0]
}

// Folder returns a folder below .tools at the root of the repository, which
// git ignores, for files that are worth keeping between runs.
func Folder(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for !isFile(filepath.Join(dir, "go.mod")) {
		above := filepath.Dir(dir)
		if above == dir {
			t.Fatal("there is no go.mod above the folder of the test")
		}
		dir = above
	}
	dir = filepath.Join(dir, ".tools", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// making is held while packages are installed.
var making sync.Mutex

// made returns the folder below .tools that fill makes after a description, a
// file.
func made(t testing.TB, name, description string, fill func(dir string) error) string {
	t.Helper()
	text, err := os.ReadFile(description)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := fillOnce(Folder(t, name), text, fill)
	if err != nil {
		missing(t, err.Error())
	}
	return dir
}

// fillOnce returns a folder below parent that fill has filled, now or before.
// Its name is the digest of the description, so that another one is another
// folder.
func fillOnce(parent string, description []byte, fill func(dir string) error) (string, error) {
	dir := filepath.Join(parent, fmt.Sprintf("%x", sha256.Sum256(description))[:12])
	making.Lock()
	defer making.Unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	// A test that is stopped leaves nothing that looks complete, and of two
	// test binaries that do this at once one is first.
	unfinished, err := os.MkdirTemp(parent, "unfinished-")
	if err != nil {
		return "", err
	}
	if err := fill(unfinished); err != nil {
		return "", errors.Join(err, os.RemoveAll(unfinished))
	}
	err = os.Rename(unfinished, dir)
	if errors.Is(err, fs.ErrExist) {
		return dir, os.RemoveAll(unfinished)
	}
	return dir, err
}

// run runs a command and puts what it said into the error.
func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s failed: %w\n%s", filepath.Base(cmd.Path), err, out)
	}
	return nil
}
