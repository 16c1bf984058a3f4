package testenv

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPackagesAreInstalledOnceForEachDescription(t *testing.T) {
	t.Parallel()
	parent, installs := t.TempDir(), 0
	install := func(dir string) error {
		installs++
		return os.WriteFile(filepath.Join(dir, "package"), nil, 0o600)
	}
	folders := map[string]bool{}
	for _, version := range []string{"1.0", "1.0", "1.1", "1.0"} {
		dir, err := fillOnce(parent, []byte(version), install)
		if err != nil {
			t.Fatal(err)
		}
		if !isFile(filepath.Join(dir, "package")) {
			t.Errorf("version %s is not in %s", version, dir)
		}
		folders[dir] = true
	}
	if installs != 2 || len(folders) != 2 {
		t.Errorf("%d installs into %d folders for two versions", installs, len(folders))
	}
}

func TestAnInstallThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	broken := errors.New("the registry cannot be reached")
	if _, err := fillOnce(parent, []byte("1.0"), func(dir string) error {
		return errors.Join(broken, os.WriteFile(filepath.Join(dir, "half"), nil, 0o600))
	}); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("it left %v (%v)", left, err)
	}
	if _, err := fillOnce(parent, []byte("1.0"), func(string) error { return nil }); err != nil {
		t.Errorf("the next try: %v", err)
	}
}

func TestFoldersAreKeptWhereGitDoesNotLook(t *testing.T) {
	t.Parallel()
	dir := Folder(t, "java")
	if parent := filepath.Dir(dir); filepath.Base(parent) != ".tools" || !isFile(filepath.Join(filepath.Dir(parent), "go.mod")) {
		t.Errorf("the folder is %s, want one below .tools beside go.mod", dir)
	}
}
