package document

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is a Source whose versions the test sets.
type scripted struct {
	mu           sync.Mutex
	doc, version string
	err          error
}

func (s *scripted) set(doc, version string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doc, s.version, s.err = doc, version, err
}

func (s *scripted) String() string { return "scripted" }

func (s *scripted) Read(_ context.Context, have string) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, "", s.err
	}
	if s.version == have {
		return nil, "", ErrUnchanged
	}
	return []byte(s.doc), s.version, nil
}

func parseInt(doc []byte) (int, error) { return strconv.Atoi(string(doc)) }

var quiet = slog.New(slog.DiscardHandler)

func TestTheFirstVersionMustBeGood(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.Context(), &scripted{doc: "x", version: "1"}, parseInt, quiet); err == nil {
		t.Fatal("a bad first version was taken")
	}
}

func TestABadVersionChangesNothingAndIsVisible(t *testing.T) {
	t.Parallel()
	source := &scripted{doc: "1", version: "1"}
	live, err := Open(t.Context(), source, parseInt, quiet)
	if err != nil {
		t.Fatal(err)
	}
	for _, away := range []error{nil, errors.New("away")} {
		source.set("one", "2", away)
		if changed, err := live.Reload(t.Context()); changed || err == nil {
			t.Fatalf("Reload with error %v = %v, %v", away, changed, err)
		}
		if live.Get() != 1 || live.Status().Error == "" {
			t.Fatalf("with error %v: value %d, status %+v", away, live.Get(), live.Status())
		}
	}
	source.set("3", "3", nil)
	if changed, err := live.Reload(t.Context()); !changed || err != nil {
		t.Fatalf("Reload of a good version = %v, %v", changed, err)
	}
	if live.Get() != 3 || live.Status().Error != "" {
		t.Fatalf("after a good version: value %d, status %+v", live.Get(), live.Status())
	}
}

func TestRunFollowsTheSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &scripted{doc: "1", version: "1"}
		live, err := Open(t.Context(), source, parseInt, quiet)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(chan int, 1)
		done := make(chan error, 1)
		go func() { done <- live.Run(ctx, time.Second, func(v int) { seen <- v }) }()
		synctest.Wait()
		source.set("2", "2", nil)
		start := time.Now()
		if v := <-seen; v != 2 || time.Since(start) != time.Second {
			t.Fatalf("saw %d after %v", v, time.Since(start))
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestAFileIsReadAgainOnlyWhenItChanged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "doc")
	write := func(text string) {
		t.Helper()
		next := path + ".next"
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	write("1")
	doc, version, err := File(path).Read(t.Context(), "")
	if err != nil || string(doc) != "1" {
		t.Fatalf("Read = %q, %v", doc, err)
	}
	if _, _, err := File(path).Read(t.Context(), version); !errors.Is(err, ErrUnchanged) {
		t.Fatalf("second Read: %v", err)
	}
	write("2")
	doc, _, err = File(path).Read(t.Context(), version)
	if err != nil || string(doc) != "2" {
		t.Fatalf("Read after a change = %q, %v", doc, err)
	}
}

func TestAHugeFileIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "huge")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, MaxBytes+1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := File(path).Read(t.Context(), ""); err == nil {
		t.Fatal("it was read")
	}
}

func TestAFileIsReplacedWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, link := filepath.Join(dir, "keys.json"), filepath.Join(dir, "link.json")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	check := func(want string, mode fs.FileMode) {
		t.Helper()
		got, err := os.ReadFile(link)
		info, statErr := os.Stat(path)
		linked, linkErr := os.Readlink(link)
		if err := errors.Join(err, statErr, linkErr); err != nil || string(got) != want || info.Mode().Perm() != mode || linked != path {
			t.Errorf("the file is %q, with %v; the link goes to %q: %v", got, info.Mode(), linked, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
			t.Errorf("the folder has %v, %v", entries, err)
		}
	}
	if err := WriteFile(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	check("first", 0o600)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	before, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if err := WriteFile(link, []byte("2nd")); err != nil {
		t.Fatal(err)
	}
	check("2nd", 0o640)
	if got, err := io.ReadAll(before); err != nil || string(got) != "first" {
		t.Errorf("who had it open reads %q, %v", got, err)
	}
	if err := WriteFile(filepath.Join(dir, "none", "keys.json"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
	check("2nd", 0o640)
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "d"), nil); err == nil {
		t.Error("a folder was replaced")
	}
	if err := os.Remove(filepath.Join(dir, "d")); err != nil {
		t.Fatal(err)
	}
	check("2nd", 0o640)
}
