package deadletter_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
)

// saved returns the ids of the letters in a file, which must hold nothing else.
func saved(t *testing.T, content []byte) []string {
	t.Helper()
	all := []string{}
	for text := range bytes.Lines(content) {
		l, err := deadletter.ParseLine(text)
		if err != nil {
			t.Fatalf("line %q: %v", text, err)
		}
		all = append(all, l.ID)
	}
	return all
}

func backup(t *testing.T, d *disk, o deadletter.BackupOptions) (deadletter.BackupProgress, error) {
	t.Helper()
	return deadletter.Backup(t.Context(), d, "crm", d, o, nil)
}

func TestABackupHoldsTheLettersOfTheFilterAndLeavesThemInTheQueue(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 250)
	other := letter(251)
	other.Class = "retryable"
	if err := d.Put(t.Context(), []deadletter.Letter{other}); err != nil {
		t.Fatal(err)
	}
	var reports []deadletter.BackupProgress
	p, err := deadletter.Backup(t.Context(), d, "crm", d, deadletter.BackupOptions{Filter: deadletter.Filter{Class: "permanent"}},
		func(p deadletter.BackupProgress) { reports = append(reports, p) })
	if want := (deadletter.BackupProgress{Written: 250, Batches: 3}); err != nil || p != want {
		t.Errorf("%+v, %v", p, err)
	}
	if want := []deadletter.BackupProgress{{Written: 100, Batches: 1}, {Written: 200, Batches: 2}, {Written: 250, Batches: 3}}; !slices.Equal(reports, want) {
		t.Errorf("reports %+v", reports)
	}
	if got := saved(t, d.content); !slices.Equal(got, ids(letters(250))) {
		t.Errorf("the file holds %v", got)
	}
	if d.synced != len(d.content) || len(d.letters) != 251 {
		t.Errorf("%d of %d bytes are synced, %d letters are in the queue", d.synced, len(d.content), len(d.letters))
	}
}

func TestLettersArePurgedOnlyAfterTheyWereSynced(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 150)
	d.onPurge = func() {
		if d.synced != len(d.content) || d.synced == 0 {
			t.Errorf("purge with %d of %d bytes synced", d.synced, len(d.content))
		}
	}
	p, err := backup(t, d, deadletter.BackupOptions{Delete: true})
	if want := (deadletter.BackupProgress{Written: 150, Deleted: 150, Batches: 2}); err != nil || p != want {
		t.Errorf("%+v, %v", p, err)
	}
	if want := []string{"write", "sync", "purge", "write", "sync", "purge", "sync"}; !slices.Equal(d.log, want) {
		t.Errorf("steps %v", d.log)
	}
	if len(d.letters) != 0 {
		t.Errorf("left in the queue: %v", d.ids())
	}
}

// A backup fails at each of its steps, also with a loss of power that takes all
// that is not synced and part of what was being written, and is gone on with.
func TestAFailedBackupLosesNothingAndGoesOnWithTheSameFile(t *testing.T) {
	t.Parallel()
	const n = 250
	all := ids(letters(n))
	for _, power := range []bool{false, true} {
		for fail := 1; ; fail++ {
			d := newDisk(t, n)
			d.fail, d.torn = fail, 1000*fail+7
			_, err := backup(t, d, deadletter.BackupOptions{Delete: true})
			if err == nil {
				if fail < 9 {
					t.Fatalf("step %d did not fail: %v", fail, d.log)
				}
				break
			}
			if !errors.Is(err, errBroken) {
				t.Fatal(err)
			}
			if power {
				d.content = d.content[:d.synced]
			}
			name := fmt.Sprintf("step %d of %v, loss of power %t", fail, d.log, power)
			safe := d.ids()
			for text := range bytes.Lines(d.content) {
				if l, err := deadletter.ParseLine(text); err == nil {
					safe = append(safe, l.ID)
				}
			}
			for _, id := range all {
				if !slices.Contains(safe, id) {
					t.Fatalf("%s: %s is gone", name, id)
				}
			}
			d.fail = 0
			p, err := backup(t, d, deadletter.BackupOptions{Delete: true})
			if err != nil {
				t.Fatalf("%s: the second run: %v", name, err)
			}
			got := saved(t, d.content)
			slices.Sort(got)
			if want := slices.Sorted(slices.Values(all)); !slices.Equal(got, want) {
				t.Errorf("%s: the file holds %d letters, %d are right", name, len(got), n)
			}
			if len(d.letters) != 0 || p.Written+p.Kept != p.Deleted {
				t.Errorf("%s: %d are left; %+v", name, len(d.letters), p)
			}
		}
	}
}

func TestALetterThatDiedAgainIsAnotherLetter(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 3)
	again := letter(2)
	again.LastTry, again.Message = died.Add(time.Hour), "died again"
	d.onPurge = func() { // replayed and dead once more, since it was listed
		d.onPurge = nil
		if err := d.Put(t.Context(), []deadletter.Letter{again}); err != nil {
			t.Error(err)
		}
	}
	p, err := backup(t, d, deadletter.BackupOptions{Delete: true})
	if want := (deadletter.BackupProgress{Written: 3, Deleted: 2, Batches: 1}); err != nil || p != want {
		t.Errorf("%+v, %v", p, err)
	}
	if got := d.ids(); !slices.Equal(got, []string{again.ID}) {
		t.Errorf("in the queue: %v", got)
	}
	p, err = backup(t, d, deadletter.BackupOptions{Delete: true})
	if want := (deadletter.BackupProgress{Written: 1, Deleted: 1, Batches: 1}); err != nil || p != want {
		t.Errorf("the second time: %+v, %v", p, err)
	}
	if got := saved(t, d.content); !slices.Equal(got, []string{"1.0.0", "2.0.0", "3.0.0", "2.0.0"}) {
		t.Errorf("the file holds %v", got)
	}
	if !strings.Contains(string(d.content), "died again") {
		t.Error("the file does not say why it died again")
	}
}

func TestABackupWithoutATriedLetterCanDeleteToo(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 0)
	untried := letter(1)
	untried.LastTry = time.Time{}
	if err := d.Put(t.Context(), []deadletter.Letter{untried}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := backup(t, d, deadletter.BackupOptions{Delete: true}); err != nil {
			t.Fatal(err)
		}
	}
	if got := saved(t, d.content); len(d.letters) != 0 || len(got) != 1 {
		t.Errorf("%d in the queue, %v in the file", len(d.letters), got)
	}
}

func TestATornLastLineIsWrittenAnew(t *testing.T) {
	t.Parallel()
	whole := newDisk(t, 2)
	if _, err := backup(t, whole, deadletter.BackupOptions{}); err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(whole.content, '\n') + 1
	for cut := first; cut < len(whole.content); cut++ {
		d := newDisk(t, 2)
		d.content = slices.Clone(whole.content[:cut])
		p, err := backup(t, d, deadletter.BackupOptions{})
		if want := (deadletter.BackupProgress{Written: 1, Kept: 1, Batches: 1}); err != nil || p != want || !bytes.Equal(d.content, whole.content) {
			t.Fatalf("cut at %d: %+v, %v: %s", cut, p, err, d.content)
		}
	}
}

func TestAFileThatIsNoBackupIsLeftAlone(t *testing.T) {
	t.Parallel()
	const notes = "dear diary,\ntoday it rained\n"
	d := newDisk(t, 2)
	d.content = []byte(notes)
	_, err := backup(t, d, deadletter.BackupOptions{Delete: true})
	if err == nil || !strings.Contains(err.Error(), "line 1 ") {
		t.Errorf("error %v", err)
	}
	if string(d.content) != notes || len(d.letters) != 2 {
		t.Errorf("file %q, queue %v", d.content, d.ids())
	}
}

func TestAFileOfABackupIsForItsOwnerAloneAndNotCutWhenOpened(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "dead.jsonl")
	for i := range 2 {
		f, err := deadletter.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := deadletter.Backup(t.Context(), newDisk(t, 2), "crm", f, deadletter.BackupOptions{}, nil)
		if want := (deadletter.BackupProgress{Written: 2 - 2*i, Kept: 2 * i, Batches: 1}); err != nil || p != want {
			t.Errorf("run %d: %+v, %v", i+1, p, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("mode %v", mode)
	}
	if _, err := deadletter.OpenFile(filepath.Join(path, "below a file")); err == nil {
		t.Error("a folder that is none was taken")
	}
}
