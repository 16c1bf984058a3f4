package lambdatest

import (
	"bytes"
	"io"
	"sync"
)

// maxLog is how much of what a function wrote is kept, in bytes: the last.
const maxLog = 16 << 20

// journal is what the environments of a function wrote.
type journal struct {
	mu   sync.Mutex
	text []byte
}

func (j *journal) add(text []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = append(j.text, text...)
	if len(j.text) > 2*maxLog {
		n := copy(j.text, j.text[len(j.text)-maxLog:])
		j.text = j.text[:n]
	}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return string(j.text[max(0, len(j.text)-maxLog):])
}

// lines is where a process writes: whole lines go to the journal, so that those
// of several processes do not mix.
type lines struct {
	*function
	rest []byte
}

var _ io.Writer = (*lines)(nil)

// Write is not called concurrently: the process has one pipe for both outputs.
func (l *lines) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	end := bytes.LastIndexByte(l.rest, '\n') + 1
	if end == 0 && len(l.rest) < maxLog {
		return len(b), nil
	}
	if end == 0 {
		end = len(l.rest)
	}
	l.pass(l.rest[:end])
	l.rest = append(l.rest[:0], l.rest[end:]...)
	return len(b), nil
}

// end passes on what stands after the last line feed.
func (l *lines) end() {
	if len(l.rest) > 0 {
		l.pass(append(l.rest, '\n'))
	}
}

func (l *lines) pass(text []byte) {
	l.log.add(text)
	if l.OnLog == nil {
		return
	}
	for line := range bytes.Lines(text) {
		l.OnLog(bytes.TrimSuffix(line, []byte{'\n'}))
	}
}

// Log returns what a function wrote, from all its environments, the last 16 MiB
// of it: the output of its processes line by line, and a line for each
// invocation that was killed. It is empty if there is no such function.
func (s *Server) Log(name string) string {
	f := s.function(name)
	if f == nil {
		return ""
	}
	return f.log.String()
}
