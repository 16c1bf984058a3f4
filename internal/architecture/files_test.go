package architecture

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// machinePaths are places of one machine: folders of the root user, of a home,
// of a workplace, and temporary ones. Programs and tests get such paths from
// the system (t.TempDir, mktemp).
var machinePaths = regexp.MustCompile(`(^|[^\w./*-])/(` + `root|work|tmp|var/tmp|home/[a-z]+|Users/[A-Za-z]+)/[\w.-]`)

// skipped are folders that are made here and not kept in the repository.
var skipped = []string{".git", ".tools", ".sluice", "bin", "dist", "node_modules"}

func TestNoFileNamesAPlaceOfOneMachine(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains(skipped, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.IndexByte(text, 0) >= 0 { // not text
			return nil
		}
		files++
		for i, line := range bytes.Split(text, []byte("\n")) {
			if machinePaths.Match(line) {
				name, _ := filepath.Rel(root, path)
				t.Errorf("%s:%d names a place of one machine: %.120s", name, i+1, line)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("looked at %d files only", files)
	}
}

func TestMachinePathsAreFound(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"/roo" + "t/go":              true,
		"see /tm" + "p/out":          true,
		`"/hom` + `e/ann/src"`:       true,
		"https://shop.example/work/": false,
		"./tmp/out":                  false,
		"GET /root":                  false,
	} {
		if got := machinePaths.MatchString(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}
