package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
)

// crashDir tells the test binary to be the process that is killed.
const crashDir = "SLUICE_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const (
	crashWriters   = 4
	maxCrashEvents = 4 // in one entry
)

// eventsOf returns how many events the entry of that name holds.
func eventsOf(t *testing.T, what string) uint64 {
	t.Helper()
	i, err := strconv.Atoi(what[strings.LastIndex(what, "-")+1:])
	if err != nil {
		t.Fatal(err)
	}
	return uint64(1 + i%maxCrashEvents)
}

// writeUntilKilled writes entries, letters and states for ever, and prints
// each only when it was acknowledged.
func writeUntilKilled(dir string) error {
	e, err := Open(context.Background(), crashConfig(dir), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	run := time.Now().UnixNano()
	failed := make(chan error)
	for w := range crashWriters {
		go func() {
			for i := 0; ; i++ {
				what := fmt.Sprintf("w%d-%d-%06d", w, run, i)
				results, err := e.Events().PutRecords(context.Background(), records(what, 1+i%maxCrashEvents))
				if err == nil && fault.KindOf(results[0].Err) == fault.Unavailable {
					err = settle(e.Events()) // full
					if err == nil {
						continue
					}
				}
				if err == nil {
					err = results[0].Err
				}
				if err != nil {
					failed <- fmt.Errorf("put: %w", err)
					return
				}
				say("entry %s %s", results[0].Sequence, what)
			}
		}()
	}
	go func() {
		d := e.Destination("crm")
		state, _, err := d.LoadState(context.Background())
		for i := 0; err == nil; i++ {
			l := letters(fmt.Sprintf("%d-%d", run, i), 3)
			if err = d.Parked().Put(context.Background(), l); err != nil {
				break
			}
			say("letters %s", l[0].ID)
			state.Position++
			if err = d.SaveState(context.Background(), state); err == nil {
				say("state %d", state.Position)
			}
			if i%20 == 19 {
				err = settle(e.Events())
			}
		}
		failed <- err
	}()
	return <-failed
}

// settle saves the census, as time does, and trims all but the newest entries.
func settle(ev *Events) error {
	ctx := context.Background()
	last, err := ev.Last(ctx)
	if err == nil {
		err = ev.census.save(ctx)
	}
	if err == nil && last > keptEntries {
		err = ev.Trim(ctx, last-keptEntries)
	}
	return err
}

// crashConfig has a budget that is used up in every round.
func crashConfig(dir string) Config {
	cfg := small(dir)
	cfg.MaxBytes = 64 << 10
	return cfg
}

const keptEntries = 50

// acknowledged is what killed processes said was durable.
type acknowledged struct {
	entries map[string]string // sequence → what stands there
	letters []string
	state   uint64
	// events are in the entries that were acknowledged, trimmed ones too; in
	// those whose writer was killed before it could say so are unsaid at most.
	events, unsaid uint64
}

// killed runs a process on the folder and kills it after so many lines.
func (a *acknowledged) killed(t *testing.T, dir string, lines int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	for n := 0; ; n++ {
		if n == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		// What it said before the kill counts, also what is still in the pipe.
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break // a line without its end was never said
		}
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(line)
		switch fields[0] {
		case "entry":
			a.entries[fields[1]] = fields[2]
			a.events += eventsOf(t, fields[2])
		case "letters":
			a.letters = append(a.letters, fields[1])
		case "state":
			if _, err := fmt.Sscan(fields[1], &a.state); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.unsaid += crashWriters * maxCrashEvents
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the process ended by itself: %v", err)
	}
}

func TestWhatWasAcknowledgedSurvivesAKill(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	acked := acknowledged{entries: make(map[string]string)}
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		acked.killed(t, dir, 1+rnd.IntN(500))
		acked.check(t, dir)
	}
	t.Logf("%d entries and %d letters acknowledged", len(acked.entries), 3*len(acked.letters))
}

// check opens the folder and compares.
func (a *acknowledged) check(t *testing.T, dir string) {
	t.Helper()
	e, err := Open(t.Context(), crashConfig(dir), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("Open after a kill: %v", err)
	}
	defer shut(t, e)
	ev := e.Events()

	stats, err := ev.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	events, err := ev.CountBefore(t.Context(), stats.First)
	if err != nil {
		t.Fatal(err)
	}
	newest := make(map[string]string) // by writer and run
	found := 0
	for _, entry := range read(t, ev, 0, int(stats.Entries)) {
		events += uint64(len(entry.Records))
		what, _, _ := strings.Cut(string(entry.Records[0].Data), "/")
		if want, ok := a.entries[fmt.Sprintf("%d.0", entry.Position)]; ok {
			found++
			if want != what {
				t.Errorf("position %d holds %s, acknowledged was %s", entry.Position, what, want)
			}
		}
		writer := what[:strings.LastIndex(what, "-")]
		if what <= newest[writer] {
			t.Errorf("%s stands after %s of the same writer", what, newest[writer])
		}
		newest[writer] = what
	}
	for sequence := range a.entries {
		position, _, _ := strings.Cut(sequence, ".")
		if n, err := strconv.ParseUint(position, 10, 64); err != nil || n < stats.First {
			delete(a.entries, sequence) // trimmed
		}
	}
	if found != len(a.entries) {
		t.Errorf("%d of %d acknowledged entries are there", found, len(a.entries))
	}
	if got := ev.Stored(); got != events {
		t.Errorf("Stored() = %d, the stream held %d events", got, events)
	}
	if stats.Stored < a.events || stats.Stored > a.events+a.unsaid {
		t.Errorf("Stored() = %d, want the %d events acknowledged and at most %d more", stats.Stored, a.events, a.unsaid)
	}
	t.Logf("positions %d to %d retained, %d events stored, %d trimmed", stats.First, stats.Last, stats.Stored, stats.Trimmed)

	q := e.Destination("crm").Parked()
	there := make(map[string]bool)
	for _, id := range ids(t, q) {
		there[id] = true
	}
	for _, id := range a.letters {
		for i := range 3 {
			if id := strings.Replace(id, ".0.", fmt.Sprintf(".%d.", i), 1); !there[id] {
				t.Errorf("letter %s was acknowledged and is gone", id)
			}
		}
	}
	state, ok, err := e.Destination("crm").LoadState(t.Context())
	if err != nil || !ok && a.state > 0 {
		t.Errorf("LoadState: %t, %v", ok, err)
	}
	if state.Position < a.state {
		t.Errorf("the state is at %d, acknowledged was %d", state.Position, a.state)
	}
	if _, err := q.Get(t.Context(), "never"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("Get of a letter that was never put: %v", err)
	}
}
