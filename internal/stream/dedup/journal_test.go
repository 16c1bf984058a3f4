package dedup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

// machine is a data folder and a stream, that processes use one after another.
type machine struct {
	t   *testing.T
	dir string
	log *streamtest.Log // nil: the stream cannot be read
	cfg Config
	// said is what the logger was told.
	said bytes.Buffer
}

func newMachine(t *testing.T, readable bool) *machine {
	m := &machine{t: t, dir: filepath.Join(t.TempDir(), "dedup")}
	m.cfg = Config{Window: time.Hour, MemoryBytes: MinMemory, Dir: m.dir, Stream: "events", Logger: slog.New(slog.NewTextHandler(&m.said, nil))}
	if readable {
		m.log = streamtest.NewLog(t, 0)
		m.cfg.Log = m.log
	}
	return m
}

// life is one process.
type life struct {
	*Filter
	m      *machine
	stored *int
}

// direct is a stream that writes each batch to a log, as one entry.
type direct struct {
	log    *streamtest.Log
	stored *int
}

func (d direct) PutAndTell(ctx context.Context, b *stream.Batch, _ func(int, bool, error)) error {
	var records []stream.Record
	for i := range b.Len() {
		if b.Skipped(i) {
			continue
		}
		b.Fail(i, nil)
		*d.stored++
		records = append(records, stream.Record{PartitionKey: fmt.Sprint("b", i), Data: b.Event(i), Events: 1})
	}
	if d.log == nil {
		return nil
	}
	_, err := d.log.PutRecords(ctx, records)
	return err
}

func (m *machine) start() *life {
	m.t.Helper()
	l := &life{m: m, stored: new(int)}
	var err error
	if l.Filter, err = New(direct{m.log, l.stored}, new(ledger.Intake), m.cfg); err != nil {
		m.t.Fatal(err)
	}
	if err := l.Open(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	return l
}

// put sends the events with the numbers from a to b-1, and returns how many of
// them were stored.
func (l *life) put(a, b int) int {
	l.m.t.Helper()
	before := *l.stored
	var batch stream.Batch
	for n := a; n < b; n++ {
		batch.MarkOwnID(batch.Add(streamtest.Sent(fmt.Sprintf("ann/%d", n))))
	}
	if err := l.Put(l.m.t.Context(), &batch); err != nil {
		l.m.t.Fatal(err)
	}
	return *l.stored - before
}

func (l *life) save() {
	l.m.t.Helper()
	if err := l.Save(l.m.t.Context()); err != nil {
		l.m.t.Fatal(err)
	}
}

func (l *life) stop() {
	l.m.t.Helper()
	if err := l.Close(l.m.t.Context()); err != nil {
		l.m.t.Fatal(err)
	}
}

// want checks how many of the events with the numbers from a to b-1 are stored
// that are sent now, and how far back the memory says that it reaches.
func (l *life) want(what string, a, b, stored int, window time.Duration) {
	l.m.t.Helper()
	if got := l.Stats().Window; got != window {
		l.m.t.Errorf("%s: the memory says that it reaches back %v, want %v", what, got, window)
	}
	if got := l.put(a, b); got != stored {
		l.m.t.Errorf("%s: %d of %d stored again, want %d", what, got, b-a, stored)
	}
}

func (m *machine) files() []string {
	names, err := filepath.Glob(filepath.Join(m.dir, "*"+fileSuffix))
	if err != nil {
		m.t.Fatal(err)
	}
	return names
}

// TestARestartForgetsNothing is what holds on one machine, whatever the end of
// the process and whatever is left of the journal.
func TestARestartForgetsNothing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		// end is how the first process ends, after events 0 to 99, a Save, and
		// events 100 to 199. Twenty minutes pass before the next.
		end    func(*testing.T, *machine, *life)
		window time.Duration // of the second process
	}{
		{"stopped", func(_ *testing.T, _ *machine, l *life) { l.stop() }, time.Hour},
		{"killed", func(*testing.T, *machine, *life) {}, time.Hour},
		{"killed while it wrote", func(t *testing.T, m *machine, l *life) {
			l.save()
			cut(t, last(m), 7)
		}, time.Hour},
		{"killed before the block was there", func(t *testing.T, m *machine, l *life) {
			size := sizeOf(t, last(m))
			l.save()
			truncate(t, last(m), size)
		}, time.Hour},
		{"zeros at the end, as a file system leaves them", func(t *testing.T, m *machine, l *life) {
			l.save()
			appendTo(t, last(m), make([]byte, 4096))
		}, time.Hour},
		{"no journal", func(t *testing.T, m *machine, _ *life) { remove(t, m.files()...) }, time.Hour},
		{"the whole journal is noise", func(t *testing.T, m *machine, _ *life) {
			for _, name := range m.files() {
				write(t, name, bytes.Repeat([]byte("noise"), 1000))
			}
		}, time.Hour},
		{"the first block is damaged", func(t *testing.T, m *machine, l *life) {
			l.stop()
			flip(t, m.files()[0], 100)
		}, time.Hour},
		{"the first file is damaged", func(t *testing.T, m *machine, l *life) {
			time.Sleep(10 * time.Minute) // another file
			l.stop()
			if len(m.files()) != 2 {
				t.Fatalf("%d files, want 2", len(m.files()))
			}
			flip(t, m.files()[0], 3)
		}, time.Hour},
		{"a block in the middle is missing", func(t *testing.T, m *machine, l *life) {
			time.Sleep(10 * time.Minute) // another file
			l.save()
			l.put(200, 201)
			time.Sleep(10 * time.Minute)
			l.stop()
			if len(m.files()) != 3 {
				t.Fatalf("%d files, want 3", len(m.files()))
			}
			remove(t, m.files()[1])
		}, time.Hour},
		{"files that are none of ours", func(t *testing.T, m *machine, l *life) {
			l.stop()
			write(t, filepath.Join(m.dir, "notes.txt"), []byte("hello"))
			write(t, filepath.Join(m.dir, "0000000000000000.ids"), nil)
			write(t, filepath.Join(m.dir, "18446744073709551615x.ids"), []byte("x"))
			if err := os.Mkdir(filepath.Join(m.dir, "0000000000000009.ids"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, time.Hour},
		{"the journal is of another stream", func(_ *testing.T, m *machine, l *life) {
			l.stop()
			other := newMachine(m.t, true)
			other.dir, other.cfg.Dir, other.cfg.Stream = m.dir, m.dir, "other"
			o := other.start()
			o.put(0, 300)
			o.stop()
		}, time.Hour},
		{"the window was longer", func(_ *testing.T, m *machine, l *life) {
			l.stop()
			m.cfg.Window = 30 * time.Minute
		}, 30 * time.Minute},
		{"the window was shorter", func(_ *testing.T, m *machine, l *life) {
			l.stop()
			m.cfg.Window = 5 * time.Minute
			time.Sleep(time.Minute)
			l = m.start()
			time.Sleep(6 * time.Minute)
			l.save() // of what it knew nothing is left
			l.stop()
			m.cfg.Window = time.Hour
		}, time.Hour},
		{"it was off for a while", func(_ *testing.T, m *machine, l *life) {
			l.stop()
			var b stream.Batch
			for n := 200; n < 300; n++ {
				b.Add(streamtest.Sent(fmt.Sprintf("ann/%d", n)))
			}
			if err := (direct{m.log, l.stored}).PutAndTell(m.t.Context(), &b, nil); err != nil {
				m.t.Fatal(err)
			}
		}, time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, true)
				l := m.start()
				l.put(0, 100)
				l.save()
				l.put(100, 200)
				tc.end(t, m, l)
				time.Sleep(20 * time.Minute)
				events, _, _ := m.log.Backlog(t.Context())
				l = m.start()
				l.want("after the restart", 0, int(events), 0, tc.window)
				if got := l.Covered(); got == 0 {
					t.Error("nothing is covered: the stream could never be trimmed")
				}
				// And again, when the journal is whole.
				l = m.start()
				l.want("after another", 0, int(events), 0, tc.window)
				l.want("a new one", int(events), int(events)+1, 1, tc.window)
			})
		})
	}
}

func last(m *machine) string { return m.files()[len(m.files())-1] }
func remove(t *testing.T, names ...string) {
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

func sizeOf(t *testing.T, name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func truncate(t *testing.T, name string, size int64) {
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
}

func cut(t *testing.T, name string, bytes int64) { truncate(t, name, sizeOf(t, name)-bytes) }

func write(t *testing.T, name string, data []byte) {
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func appendTo(t *testing.T, name string, data []byte) { write(t, name, append(read(t, name), data...)) }

func flip(t *testing.T, name string, at int) {
	data := read(t, name)
	data[at] ^= 1
	write(t, name, data)
}

// What the stream does not hold any more and the journal does not know is
// forgotten, and the figure says so.
func TestWhatIsNowhereIsForgottenAndSaidSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, true)
		l := m.start()
		for n := range 30 {
			l.put(n, n+1)
			time.Sleep(time.Minute)
		}
		l.stop()
		remove(t, m.files()...)
		m.log.Lose(10) // an operator who knows better
		l = m.start()
		// Event 10, the oldest on the stream, was stored 20 minutes ago.
		l.want("what is on the stream", 10, 30, 0, 20*time.Minute)
		l.want("what is not", 0, 10, 10, 20*time.Minute)

		// The stream was trimmed while deduplication was off.
		l.stop()
		m.log.Lose(35)
		time.Sleep(time.Minute)
		l = m.start()
		l.want("all that was known", 0, 30, 0, 21*time.Minute)
	})
}

// The stream is another than the journal's, though it has its name: a backup
// was put back. What is not on it was not stored.
func TestAJournalThatKnowsMoreThanTheStreamIsNotBelieved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, true)
		l := m.start()
		l.put(0, 10)
		l.put(10, 20)
		l.stop()
		m.log = streamtest.NewLog(t, 0)
		m.cfg.Log = m.log
		l = m.start()
		l.want("on the new stream", 0, 20, 20, time.Hour)
		l.stop()
		l = m.start()
		l.want("on the new stream, later", 0, 20, 0, time.Hour)
		if !strings.Contains(m.said.String(), "another stream") {
			t.Errorf("it said %s", &m.said)
		}
	})
}

// Before Kinesis: nothing but the journal is known.
func TestWithoutAStreamToReadACleanRestartForgetsNothing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		end    func(*life)
		stored int // of 200 that are sent again after it
		window time.Duration
	}{
		{"stopped", func(l *life) { l.stop() }, 0, time.Hour},
		{"killed: what came after the last Save is forgotten", func(*life) {}, 100, 0},
		{"killed right after a Save: nothing is, but who knows", func(l *life) { l.save() }, 0, 0},
		{"killed after a clean stop and a start", func(l *life) {
			l.stop()
			l = l.m.start()
			l.put(300, 301)
		}, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, false)
				time.Sleep(2 * time.Hour)
				l := m.start()
				time.Sleep(2 * time.Hour) // it knows a whole window
				l.put(0, 100)
				l.save()
				l.put(100, 200)
				tc.end(l)
				time.Sleep(time.Minute)
				l = m.start()
				l.want("after the restart", 0, 200, tc.stored, tc.window)
				if l.Covered() != 1<<64-1 {
					t.Error("it holds up a stream that it does not read")
				}
			})
		})
	}
}

func TestIDsOfTheJournalLeaveWithTheirWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, false)
		l := m.start()
		l.put(0, 10)
		time.Sleep(5 * time.Second)
		l.stop()
		time.Sleep(time.Hour - 5*time.Second - 1)
		l = m.start()
		if got := l.put(0, 5); got != 0 {
			t.Errorf("%d stored at the end of the window", got)
		}
		l.stop()
		// The journal knows when it was written: 5 seconds after the events.
		time.Sleep(time.Hour/segments + 6*time.Second)
		l = m.start()
		if got := l.put(0, 10); got != 10 {
			t.Errorf("%d of 10 stored after the window", got)
		}
	})
}

func TestTheJournalIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, true)
		l := m.start()
		size := func() (n int64) {
			for _, name := range m.files() {
				n += sizeOf(t, name)
			}
			return n
		}
		// Four times what fits into the memory, in an hour.
		const rounds = 60
		each := 4 * l.Capacity() / rounds
		for n := range rounds {
			l.put(n*each, (n+1)*each)
			l.save()
			if most := int64(l.Capacity()) * idBytes * 5 / 4; size() > most+int64(each*idBytes)+100*headBytes {
				t.Fatalf("after %d ids the journal takes %d bytes, want %d at most", (n+1)*each, size(), most)
			}
			time.Sleep(time.Minute)
		}
		reach := l.Stats().Window
		if reach > 20*time.Minute || reach < 8*time.Minute {
			t.Errorf("the memory reaches back %v", reach)
		}
		said := m.said.Len()
		l = m.start()
		if got := l.Stats().Window; got > reach || got < reach-2*time.Minute {
			t.Errorf("after a restart %v, before it %v", got, reach)
		}
		// What did not fit is not read from the stream at each start.
		if text := m.said.String()[said:]; !strings.Contains(text, "read_from_stream=0") {
			t.Errorf("it said %s", text)
		}
		l.want("the newest", rounds*each-each, rounds*each, 0, l.Stats().Window)
		// Nothing comes for hours, and nothing is left.
		for range 20 {
			time.Sleep(time.Hour)
			l.put(-2, -1)
			l.save()
		}
		if n := len(m.files()); n > 2 {
			t.Errorf("%d files for one id", n)
		}
	})
}

func TestNothingIsWrittenWhenNothingHappens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, true)
		l := m.start()
		l.put(0, 1)
		l.save()
		size := sizeOf(t, last(m))
		for range 100 {
			time.Sleep(5 * time.Second)
			l.save()
		}
		if got := sizeOf(t, last(m)); got != size || len(m.files()) != 1 {
			t.Errorf("%d bytes, then %d in %d files", size, got, len(m.files()))
		}
	})
}

var errDisk = errors.New("no space left on device")

func TestAWriteThatFailsIsRepeatedInAnotherFile(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(w writer, data []byte) error{
		"before anything is written": func(writer, []byte) error { return errDisk },
		"in the middle": func(w writer, data []byte) error {
			_, _ = w.Write(data[:len(data)/2])
			return errDisk
		},
		"at the sync": func(w writer, data []byte) error {
			_, _ = w.Write(data)
			return errDisk
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, true)
				full := false
				m.cfg.write = func(w writer, data []byte) error {
					if full {
						return fail(w, data)
					}
					return writeAndSync(w, data)
				}
				l := m.start()
				l.put(0, 10)
				l.save()
				covered := l.Covered()
				full = true
				l.put(10, 20)
				for range 3 {
					if err := l.Save(t.Context()); !errors.Is(err, errDisk) {
						t.Fatalf("Save: %v", err)
					}
				}
				if l.Covered() != covered {
					t.Errorf("covered is %d, and was %d before the write that failed", l.Covered(), covered)
				}
				full = false
				l.put(20, 30)
				l.save()
				if l.Covered() <= covered {
					t.Error("covered stands still")
				}
				// Without the stream: what the journal says is all there is.
				m.log.Lose(l.Covered())
				l = m.start()
				l.want("after the restart", 0, 30, 0, time.Hour)
				if strings.Contains(m.said.String(), "missing") {
					t.Errorf("it says that ids are missing: %s", &m.said)
				}
			})
		})
	}
}

// A disk that takes no journal holds up the stream for a window and no longer.
func TestAJournalThatCannotBeWrittenDoesNotHoldUpTheStreamForEver(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(*testing.T, *machine){
		"the folder is a file": func(t *testing.T, m *machine) { write(t, m.dir, []byte("x")) },
		"no write succeeds": func(_ *testing.T, m *machine) {
			m.cfg.write = func(writer, []byte) error { return errDisk }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, true)
				broken(t, m)
				l := m.start()
				for n := range 120 {
					l.put(n, n+1)
					time.Sleep(time.Minute)
					_ = l.Save(t.Context())
				}
				if got := l.Covered(); got != 60 {
					t.Errorf("after two hours with an event each minute %d of 120 entries are covered, want the 60 whose window is over", got)
				}
				m.log.Lose(l.Covered())
				l = m.start()
				if got := l.put(60, 120); got != 0 {
					t.Errorf("after a restart %d stored again", got)
				}
			})
		})
	}
}

// An event that is on its way when the journal is written may be on the stream
// already: the journal must not say that it knows all up to there.
func TestWhatIsOnItsWayIsNotCovered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, true)
		l := m.start()
		l.put(0, 10) // entry 1
		l.save()
		if l.Covered() != 1 {
			t.Fatalf("covered is %d, want 1", l.Covered())
		}
		// Entry 2 is stored; the answer does not come.
		slow := &slow{direct: direct{m.log, l.stored}, answer: make(chan struct{})}
		l.next = slow
		var late stream.Batch
		for n := 10; n < 20; n++ {
			late.MarkOwnID(late.Add(streamtest.Sent(fmt.Sprintf("ann/%d", n))))
		}
		go func() {
			if err := l.Put(t.Context(), &late); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		l.next = slow.direct
		l.put(20, 30) // entry 3, answered
		for range 5 {
			l.save()
			if l.Covered() != 1 {
				t.Fatalf("covered is %d while an event of entry 2 is on its way", l.Covered())
			}
			time.Sleep(5 * time.Second)
		}
		crashed := m.start()
		crashed.want("after a crash", 0, 30, 0, time.Hour)

		close(slow.answer)
		synctest.Wait()
		remove(t, last(m)) // of the process after the crash
		l.save()
		if l.Covered() != 3 {
			t.Errorf("covered is %d when all is settled, want 3", l.Covered())
		}
		m.log.Lose(3)
		crashed = m.start()
		crashed.want("with the journal alone", 0, 30, 0, time.Hour)
	})
}

// slow stores at once and answers later.
type slow struct {
	direct
	answer chan struct{}
}

func (s *slow) PutAndTell(ctx context.Context, b *stream.Batch, later func(int, bool, error)) error {
	err := s.direct.PutAndTell(ctx, b, later)
	<-s.answer
	return err
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	m := newMachine(t, true)
	l := m.start()
	l.put(0, 10)
	f, err := New(direct{m.log, l.stored}, new(ledger.Intake), m.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v", err)
	}
	if err := l.Open(t.Context()); err == nil {
		t.Error("Open twice")
	}
}

func ids(n int) (b []byte) {
	for i := range n {
		b = append(b, bytes.Repeat([]byte{byte(i)}, idBytes-1)...)
		b = append(b, 0xf0&^3)
	}
	return b
}

func TestABlockIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 1000, mostIDs} {
		want := block{serial: 7, position: 1 << 60, at: 5, whole: -3, lost: 11, window: 9, stream: 1 << 63, clean: n%2 == 1, count: n}
		data := appendBlock([]byte("before"), want, ids(n))[len("before"):]
		var buf []byte
		r := bytes.NewReader(data)
		got, back, err := readBlock(r, &buf)
		if err != nil || got != want || !bytes.Equal(back, ids(n)) {
			t.Errorf("%d ids: %+v, %v; want %+v", n, got, err, want)
		}
		if _, _, err := readBlock(r, &buf); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
		// Any of its bytes matters, and so does its end.
		for at := 0; at < len(data); at += 1 + len(data)/500 {
			bad := slices.Clone(data)
			bad[at] ^= 0x10
			if _, _, err := readBlock(bytes.NewReader(bad), &buf); !errors.Is(err, errDamaged) {
				t.Errorf("%d ids, byte %d changed: %v", n, at, err)
			}
			if _, _, err := readBlock(bytes.NewReader(data[:at]), &buf); at > 0 && !errors.Is(err, errDamaged) {
				t.Errorf("%d ids, cut at %d: %v", n, at, err)
			}
		}
	}
}

func FuzzReadBlock(f *testing.F) {
	f.Add(appendBlock(appendBlock(nil, block{serial: 1, clean: true}, nil), block{serial: 2, position: 5}, ids(3)))
	f.Add([]byte("SLID\x01"))
	huge := appendBlock(nil, block{}, nil)
	binary.LittleEndian.PutUint32(huge[68:], 1<<31)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, data []byte) {
		var buf, again []byte
		r := bytes.NewReader(data)
		for {
			b, ids, err := readBlock(r, &buf)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, errDamaged) {
					t.Fatal(err)
				}
				break
			}
			again = appendBlock(again, b, ids)
			for i := range b.count {
				keyAt(ids, i)
			}
		}
		if !bytes.HasPrefix(data, again) {
			t.Fatal("what was read is not what was there")
		}
		if cap(buf) > mostIDs*idBytes+4096 {
			t.Fatalf("%d bytes of memory for %d of input", cap(buf), len(data))
		}
	})
}

// Events whose ids the gateway has made move the position, and nothing else.
func TestThePositionMovesWithoutIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, true)
		l := m.start()
		l.put(0, 10)
		for range 5 {
			var b stream.Batch
			b.Add(streamtest.Sent("bob/made"))
			if err := l.Put(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
		}
		l.save()
		if l.Covered() != 6 {
			t.Fatalf("covered is %d, want 6", l.Covered())
		}
		m.log.Lose(6)
		l = m.start()
		l.want("after the restart", 0, 10, 0, time.Hour)
	})
}

// The window is longer than it was, and the stream begins in the middle of what
// a block holds.
func TestALongerWindowUsesWhatBothHave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, true)
		time.Sleep(3 * time.Hour)
		m.cfg.Window = 30 * time.Minute
		l := m.start()
		l.put(0, 1)
		time.Sleep(40 * time.Minute)
		for n := 1; n < 20; n++ { // entries 2 to 20
			l.put(n, n+1)
			time.Sleep(time.Minute)
			if n%5 == 0 {
				l.save()
			}
		}
		l.stop()
		m.log.Lose(13)
		m.cfg.Window = 2 * time.Hour
		l = m.start()
		// The journal knows the last half hour: all but event 0.
		l.want("what one of them has", 1, 20, 0, 30*time.Minute)
	})
}
