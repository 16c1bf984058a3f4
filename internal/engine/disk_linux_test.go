package engine

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/eventsluice/sluice/internal/fault"
)

// fillDisk makes every write to the open files of a stream fail as on a full
// disk, and returns how many files that are. Files opened later are fine.
func fillDisk(t *testing.T, dir, stream string) int {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/full: %v", err)
	}
	defer full.Close()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("needs /proc: %v", err)
	}
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, entry := range fds {
		name, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err != nil || !strings.HasPrefix(name, dir) || !strings.Contains(name, "/"+stream+"/") || !strings.HasSuffix(name, ".blk") {
			continue
		}
		var fd int
		if _, err := fmt.Sscan(entry.Name(), &fd); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Dup3(int(full.Fd()), fd, syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		files++
	}
	return files
}

func TestAWriteThatFailsOnTheDiskIsTriedAgainOnFilesOpenedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := open(t, small(dir))
	ev := e.Events()
	r, err := ev.Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	put(t, ev, records("before", 2))
	if n := fillDisk(t, dir, eventStream); n == 0 {
		t.Fatal("no file of the stream is open: the test proves nothing")
	}
	put(t, ev, records("during", 3))
	put(t, ev, records("after", 4))
	for i, want := range []string{"before/0", "during/0", "after/0"} {
		entry, err := r.Next(t.Context())
		if err != nil || entry.Position != uint64(i+1) || string(entry.Records[0].Data) != want {
			t.Fatalf("position %d, %v; want %d with %s", entry.Position, err, i+1, want)
		}
	}
	if got := ev.Stored(); got != 9 {
		t.Errorf("Stored() = %d, want 9", got)
	}
}

func TestStateAndLettersSurviveAWriteThatFailsOnTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := small(dir)
	e := open(t, cfg)
	q := e.Destination("crm").Parked()
	if err := q.Put(t.Context(), letters("7", 2)); err != nil {
		t.Fatal(err)
	}
	if n := fillDisk(t, dir, q.(*Queue).name); n == 0 {
		t.Fatal("no file of the queue is open: the test proves nothing")
	}
	if err := q.Put(t.Context(), letters("8", 2)); err != nil {
		t.Fatal(err)
	}
	if got := count(t, q); got != 4 {
		t.Errorf("Count = %d, want 4", got)
	}
}

func TestWritesAreRefusedBeforeTheDiskIsFull(t *testing.T) {
	t.Parallel()
	cfg := small(t.TempDir())
	cfg.spareBytes = math.MaxInt64 / 4
	e := open(t, cfg)
	results, err := e.Events().PutRecords(t.Context(), records("x", 2))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if fault.KindOf(r.Err) != fault.Unavailable || fault.RetryAfter(r.Err) == 0 {
			t.Errorf("PutRecords on a full disk: %v, want unavailable and a time", r.Err)
		}
	}
	if got := e.Events().Stored(); got != 0 {
		t.Errorf("Stored() = %d, want 0", got)
	}
	// What settles events is still kept.
	if err := e.Destination("crm").Parked().Put(t.Context(), letters("7", 2)); err != nil {
		t.Errorf("Put of letters: %v", err)
	}
}
