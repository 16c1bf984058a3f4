package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

// syncBuffer is what a program says while it runs.
type syncBuffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{} // made by await
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.written != nil {
		close(b.written)
		b.written = nil
	}
	return b.text.Write(p)
}

// await returns the word after a mark, once it is there.
func (b *syncBuffer) await(t *testing.T, mark string) string {
	t.Helper()
	for {
		b.mu.Lock()
		_, after, ok := strings.Cut(b.text.String(), mark)
		word, _, whole := strings.Cut(after, "\n")
		next := b.written
		if next == nil {
			next = make(chan struct{})
			b.written = next
		}
		b.mu.Unlock()
		if ok && whole {
			return strings.Fields(word)[0]
		}
		select {
		case <-next:
		case <-t.Context().Done():
			t.Fatalf("%q was not said: %s", mark, b.text.String())
		}
	}
}
