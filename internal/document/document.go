// Package document keeps a parsed document in force while its source changes:
// keys, rules and destinations are documents that people edit while the
// program runs.
//
// A new version is parsed whole and swapped in at once. One that cannot be
// read or parsed changes nothing: the last good version stays in force, and
// Status says what is wrong with the new one.
package document

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eventsluice/sluice/internal/retry"
)

// MaxBytes bounds a document. A larger one is refused unread.
const MaxBytes = 16 << 20

// ErrUnchanged is returned by Source.Read if the version is the one the caller
// has.
var ErrUnchanged = errors.New("document is unchanged")

// Source is where a document is read from.
type Source interface {
	// Read returns the document and its version, or ErrUnchanged if its
	// version is still have. Versions are opaque; "" is none.
	Read(ctx context.Context, have string) (doc []byte, version string, err error)
	// String names the source for logs and status.
	String() string
}

// File is a Source: the path of a file. Its version is made of the inode, the
// size and the time of the last change, so that both an edit in place and a
// file moved over it are seen.
type File string

func (f File) String() string { return string(f) }

// Read implements Source.
func (f File) Read(_ context.Context, have string) ([]byte, string, error) {
	info, err := os.Stat(string(f))
	if err != nil {
		return nil, "", err
	}
	if info.Size() > MaxBytes {
		return nil, "", fmt.Errorf("%s has %d bytes, the most is %d", f, info.Size(), MaxBytes)
	}
	version := fileVersion(info)
	if version == have {
		return nil, "", ErrUnchanged
	}
	doc, err := os.ReadFile(string(f))
	return doc, version, err
}

// WriteFile writes a file so that a reader or a crash finds it whole, as it was
// or as it is now. A link stays a link, and a file keeps its permissions; a new
// one is its owner's alone.
func WriteFile(path string, data []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	next, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = next.Write(data)
	if err := errors.Join(err, next.Chmod(mode), next.Sync(), next.Close()); err != nil {
		return errors.Join(err, os.Remove(next.Name()))
	}
	if err := os.Rename(next.Name(), path); err != nil {
		return errors.Join(err, os.Remove(next.Name()))
	}
	// The new name is durable once its folder is.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Status is what an operator wants to know about a document.
type Status struct {
	Source string `json:"source"`
	// LoadedAt is since when the version in force is in force.
	LoadedAt time.Time `json:"loaded_at"`
	// Error says why a newer version is not in force; empty if there is none.
	Error   string    `json:"error,omitempty"`
	ErrorAt time.Time `json:"error_at,omitzero"`
}

// Live is a document that follows its source. Get is an atomic load.
type Live[T any] struct {
	source Source
	parse  func([]byte) (T, error)
	log    *slog.Logger
	value  atomic.Pointer[T]

	mu      sync.Mutex // guards what follows, and serializes loads
	version string     // of the last version read, good or bad
	status  Status
}

// Open reads a document for the first time; it must be good.
func Open[T any](ctx context.Context, source Source, parse func([]byte) (T, error), log *slog.Logger) (*Live[T], error) {
	l := &Live[T]{source: source, parse: parse, log: log, status: Status{Source: source.String()}}
	if _, err := l.Reload(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return l, nil
}

// Get returns the version in force.
func (l *Live[T]) Get() T { return *l.value.Load() }

// Status returns how the document stands.
func (l *Live[T]) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Reload looks at the source once and reports whether a new version is in
// force. With an error the last good version stays.
func (l *Live[T]) Reload(ctx context.Context) (changed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	doc, version, err := l.source.Read(ctx, l.version)
	if errors.Is(err, ErrUnchanged) {
		return false, nil
	}
	if err == nil {
		l.version = version
		var value T
		if value, err = l.parse(doc); err == nil {
			l.value.Store(&value)
			l.status = Status{Source: l.source.String(), LoadedAt: time.Now()}
			return true, nil
		}
	}
	if text := err.Error(); text != l.status.Error {
		l.status.Error, l.status.ErrorAt = text, time.Now()
		if l.value.Load() != nil {
			l.log.Error("document not loaded, the last good version stays in force", "source", l.source.String(), "error", text)
		}
	}
	return false, err
}

// Run looks at the source again and again until ctx is done, and calls changed
// after a new version has come into force.
func (l *Live[T]) Run(ctx context.Context, every time.Duration, changed func(T)) error {
	for retry.Sleep(ctx, every) == nil {
		if ok, _ := l.Reload(ctx); ok {
			l.log.Info("document loaded", "source", l.source.String())
			if changed != nil {
				changed(l.Get())
			}
		}
	}
	return nil
}
