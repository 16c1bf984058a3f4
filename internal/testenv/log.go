package testenv

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// Log collects what a program or a logger writes. The zero value is empty and
// ready. It is safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	text    strings.Builder
	written chan struct{} // closed by the next Write; made by Await
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written != nil {
		close(l.written)
		l.written = nil
	}
	return l.text.Write(p)
}

// String returns what was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Await waits for a line with a mark, and returns what follows the mark in it.
func (l *Log) Await(t testing.TB, mark string) string {
	t.Helper()
	end := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		_, after, ok := strings.Cut(l.text.String(), mark)
		rest, _, whole := strings.Cut(after, "\n")
		if l.written == nil {
			l.written = make(chan struct{})
		}
		next := l.written
		l.mu.Unlock()
		if ok && whole {
			return rest
		}
		select {
		case <-next:
		case <-end:
			t.Fatalf("no %q in the log:\n%s", mark, l)
		}
	}
}
