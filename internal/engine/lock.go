package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
)

// lockFile stands in the data folder; its text names the process that holds
// the lock. The file stays when the lock goes: removing it would let two
// processes lock two files of one name.
const lockFile = "sluice.lock"

// lockDir makes sure that no other process uses the data folder: two servers
// on the same files would destroy them. The lock is held until the file is
// closed or the process ends.
func lockDir(dir string) (*os.File, error) {
	name := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	ok, err := tryLock(f)
	if err == nil && !ok {
		err = inUse(dir, name)
	}
	if err == nil {
		err = sign(f)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return f, nil
}

// inUse says who holds the lock, by what the holder wrote.
func inUse(dir, name string) error {
	holder := "another process"
	if text, err := os.ReadFile(name); err == nil && len(text) > 0 {
		holder = strings.TrimSpace(string(text))
	}
	return fault.New(fault.Conflict, "the data folder %s is in use by %s", dir, holder)
}

// sign writes who we are, for the error message of the next one.
func sign(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(fmt.Appendf(nil, "process %d, since %s\n",
		os.Getpid(), time.Now().UTC().Format(time.RFC3339)), 0)
	return err
}
