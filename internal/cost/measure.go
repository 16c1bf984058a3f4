package cost

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// Sample is what the log of a function tells about its invocations.
type Sample struct {
	// Invocations ended with a REPORT line.
	Invocations int
	// Billed is the sum of their billed milliseconds, without the time that
	// starting the function took.
	Billed int
	// OwnBytes are of the lines that the function wrote, PlatformBytes those
	// of START, END, REPORT and INIT_START.
	OwnBytes, PlatformBytes int
	// Events is the sum of the metric Events in the function's lines of
	// embedded metrics; 0 if there are none.
	Events int
	// MemoryMB is the memory of the function, and most that an invocation used
	// of it.
	MemoryMB, UsedMB int
}

// ReadLog reads the log of one function, one message after another, as Lambda
// writes it:
//
//	REPORT RequestId: …	Duration: 15.74 ms	Billed Duration: 16 ms	Memory Size: 128 MB	Max Memory Used: 56 MB
//
// An invocation that began with a start of the function has "Init Duration"
// besides, which Lambda adds to what it bills: the time is taken off again, for
// it is not of the batch. Source: Lambda developer guide, "Example function
// logs" (read 2026-11).
func ReadLog(r io.Reader) (Sample, error) {
	var s Sample
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 1<<20) // CloudWatch cuts a message at 1 MiB
	for n := 1; lines.Scan(); n++ {
		line := lines.Bytes()
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		size := len(line) + 1
		switch {
		case bytes.HasPrefix(line, []byte("REPORT RequestId: ")):
			if err := s.report(string(line)); err != nil {
				return s, fmt.Errorf("line %d: %w", n, err)
			}
			s.PlatformBytes += size
		case hasAnyPrefix(line, "START RequestId: ", "END RequestId: ", "INIT_START "):
			s.PlatformBytes += size
		default:
			s.OwnBytes += size
			s.Events += eventsIn(line)
		}
	}
	if err := lines.Err(); err != nil {
		return s, err
	}
	if s.Invocations == 0 {
		return s, errors.New("there is no line that begins with REPORT RequestId: and so no invocation")
	}
	return s, nil
}

func (s *Sample) report(line string) error {
	values := map[string]float64{}
	for field := range strings.SplitSeq(line, "\t") {
		key, text, ok := strings.Cut(field, ": ")
		number, unit, _ := strings.Cut(strings.TrimSpace(text), " ")
		value, err := strconv.ParseFloat(number, 64)
		if !ok || err != nil || unit != "ms" && unit != "MB" || value < 0 || value > 1e9 {
			continue
		}
		values[key] = value
	}
	duration, timed := values["Duration"]
	billed, found := values["Billed Duration"]
	memory, sized := values["Memory Size"]
	if !timed || !found || !sized || billed != math.Trunc(billed) {
		return errors.New("a REPORT line without Duration, Billed Duration in whole ms and Memory Size")
	}
	if s.MemoryMB != 0 && s.MemoryMB != int(memory) {
		return fmt.Errorf("a function of %g MB among those of %d MB: the log is not of one function", memory, s.MemoryMB)
	}
	if _, started := values["Init Duration"]; started {
		billed = float64(BilledMillis(time.Duration(duration * float64(time.Millisecond))))
	}
	s.MemoryMB = int(memory)
	s.UsedMB = max(s.UsedMB, int(values["Max Memory Used"]))
	s.Invocations++
	s.Billed += int(billed)
	return nil
}

// eventsIn returns the metric Events of a line of embedded metrics, 0 of any
// other line.
func eventsIn(line []byte) int {
	var metrics struct {
		AWS    json.RawMessage `json:"_aws"`
		Events int             `json:"Events"`
	}
	if line[0] != '{' || json.Unmarshal(line, &metrics) != nil || metrics.AWS == nil {
		return 0
	}
	return max(0, metrics.Events)
}

func hasAnyPrefix(line []byte, prefixes ...string) bool {
	for _, p := range prefixes {
		if bytes.HasPrefix(line, []byte(p)) {
			return true
		}
	}
	return false
}

// Measurement says what the log is of.
type Measurement struct {
	// Function is "router" or "connector", Batch the events of each
	// invocation: 1 or 100.
	Function string `json:"function" validate:"oneof=router connector"`
	Batch    int    `json:"batch" validate:"oneof=1 100"`
	// Where says what the functions and what they called ran on.
	Where string `json:"where" validate:"required"`
	// Command is what made the log.
	Command string    `json:"command" validate:"required"`
	Date    time.Time `json:"-"`
}

// Validate reports all faults.
func (m Measurement) Validate() error { return check(&m) }

// Members returns the members of the file of counts that a sample gives, to be
// put in place of those there. Log bytes are of the batches of 100.
func (m Measurement) Members(s Sample) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if mean := float64(s.Events) / float64(s.Invocations); s.Events > 0 && math.Abs(mean-float64(m.Batch)) > float64(m.Batch)/100 {
		return nil, fmt.Errorf("the log has %.1f events for an invocation, and not %d", mean, m.Batch)
	}
	of := fmt.Sprintf("%s invocations of %s, %d MB, of which %d were used; %s", grouped(s.Invocations), counted(m.Batch, "event"), s.MemoryMB, s.UsedMB, m.Where)
	count := func(sum int, unit, how string) Count {
		mean := math.Round(float64(sum)/float64(s.Invocations)*100) / 100
		return Count{Value: &mean, Unit: unit, Kind: measured, How: how + of, Command: m.Command, Date: m.Date.UTC().Format(time.DateOnly)}
	}
	var b bytes.Buffer
	member := func(name string, c Count) error {
		text, err := json.MarshalIndent(c, "  ", "  ")
		fmt.Fprintf(&b, "  %q: %s,\n", m.Function+name, text)
		return err
	}
	err := member(fmt.Sprintf("_billed_ms_%d", m.Batch), count(s.Billed, "ms", "mean billed duration, without the start of the function; "))
	if m.Batch == 100 {
		err = errors.Join(err, member("_log_bytes", count(s.OwnBytes, "bytes", "what the function itself wrote to its log in an invocation; ")))
	}
	return b.Bytes(), err
}
