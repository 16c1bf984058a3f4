package cost

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

const id = "8f507cfc-xmpl-4697-b07a-ac58fc914c95"

// invocation returns the log of one, as the Lambda developer guide shows it.
func invocation(duration string, billed int, own ...string) string {
	lines := append([]string{"START RequestId: " + id + " Version: $LATEST"}, own...)
	lines = append(lines, "END RequestId: "+id,
		fmt.Sprintf("REPORT RequestId: %s\tDuration: %s ms\tBilled Duration: %d ms\tMemory Size: 128 MB\tMax Memory Used: 56 MB\t", id, duration, billed))
	return strings.Join(lines, "\n") + "\n"
}

func metrics(events int) string {
	return fmt.Sprintf(`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[]},"Program":"router","Events":%d}`, events)
}

func TestALogGivesWhatWasBilled(t *testing.T) {
	t.Parallel()
	log := "INIT_START Runtime Version: provided:al2023.v1\n" +
		"START RequestId: " + id + " Version: 3\n" + metrics(100) + "\nEND RequestId: " + id + "\n" +
		"REPORT RequestId: " + id + "\tDuration: 20.01 ms\tBilled Duration: 84 ms\tMemory Size: 128 MB\tMax Memory Used: 30 MB\tInit Duration: 63.20 ms\t\n" +
		invocation("15.74", 16, metrics(100), `{"level":"INFO","Events":5,"msg":"not a metric"}`, "Events: 7") + "\n" +
		invocation("0.40", 1)
	s, err := ReadLog(strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	// The first began with a start of the function: 21 ms are of the batch.
	own := 2*(len(metrics(100))+1) + len(`{"level":"INFO","Events":5,"msg":"not a metric"}`) + 1 + len("Events: 7") + 1
	want := Sample{Invocations: 3, Billed: 21 + 16 + 1, OwnBytes: own, PlatformBytes: len(log) - own - 1, Events: 200, MemoryMB: 128, UsedMB: 56}
	if s != want {
		t.Errorf("got %+v\nwant %+v", s, want)
	}
}

func TestTheLinesOfLambdaAreAsLongAsTheCountSays(t *testing.T) {
	t.Parallel()
	_, counts := embedded(t)
	if got := len(invocation("15.74", 16)); float64(got) != counts.PlatformLog.n() && counts.PlatformLog.Kind == assumed {
		t.Errorf("%d bytes, and the count says %v", got, counts.PlatformLog.n())
	}
}

func TestALogThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	report := func(rest string) string { return "REPORT RequestId: " + id + "\t" + rest }
	for name, c := range map[string]struct{ log, want string }{
		"empty":            {"", "no line that begins with REPORT"},
		"no report":        {"START RequestId: " + id + "\nhello\n", "no line that begins with REPORT"},
		"no duration":      {report("Billed Duration: 16 ms\tMemory Size: 128 MB"), "line 1: a REPORT line without"},
		"no memory":        {report("Duration: 15.74 ms\tBilled Duration: 16 ms"), "line 1: a REPORT line without"},
		"parts of a ms":    {report("Duration: 15.74 ms\tBilled Duration: 15.74 ms\tMemory Size: 128 MB"), "line 1: a REPORT line without"},
		"seconds":          {report("Duration: 15.74 ms\tBilled Duration: 16 s\tMemory Size: 128 MB"), "line 1: a REPORT line without"},
		"negative":         {report("Duration: 15.74 ms\tBilled Duration: -16 ms\tMemory Size: 128 MB"), "line 1: a REPORT line without"},
		"of two functions": {invocation("1.00", 1) + report("Duration: 1 ms\tBilled Duration: 1 ms\tMemory Size: 256 MB"), "line 4: a function of 256 MB among those of 128 MB"},
		"no lines at all":  {strings.Repeat("x", 2<<20), "token too long"},
	} {
		if _, err := ReadLog(strings.NewReader(c.log)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// What is printed can be put into the file of counts as it is.
func TestMeasuredMembersFitIntoTheFile(t *testing.T) {
	t.Parallel()
	for _, function := range []string{"router", "connector"} {
		for _, batch := range []int{1, 100} {
			m := Measurement{Function: function, Batch: batch, Where: "two cores, doubles of AWS", Command: "make that", Date: time.Date(2026, 11, 26, 1, 0, 0, 0, time.UTC)}
			s, err := ReadLog(strings.NewReader(invocation("15.74", 16, metrics(batch)) + invocation("16.10", 17, metrics(batch))))
			if err != nil {
				t.Fatal(err)
			}
			text, err := m.Members(s)
			if err != nil {
				t.Fatal(err)
			}
			var members map[string]json.RawMessage
			if err := json.Unmarshal([]byte("{"+strings.TrimSuffix(strings.TrimSpace(string(text)), ",")+"}"), &members); err != nil {
				t.Fatalf("%v:\n%s", err, text)
			}
			doc := embeddedCounts
			for name, value := range members {
				doc = edit(t, doc, name, string(value))
			}
			counts, err := parseCounts(doc)
			if err != nil {
				t.Fatal(err)
			}
			for name, c := range fields[Count](&counts) {
				switch name {
				case fmt.Sprintf("%s_billed_ms_%d", function, batch):
					if *c.Value != 16.5 || c.Kind != measured || c.Date != "2026-11-26" || c.Command != "make that" || !strings.Contains(c.How, "2 invocations of ") {
						t.Errorf("%s: %+v", name, c)
					}
				case function + "_log_bytes":
					if want := float64(len(metrics(100)) + 1); batch == 100 && *c.Value != want {
						t.Errorf("%s: %v, want %v", name, *c.Value, want)
					}
				}
			}
			if want := map[int]int{1: 1, 100: 2}[batch]; len(members) != want {
				t.Errorf("%d members, want %d", len(members), want)
			}
		}
	}
}

func TestAMeasurementThatIsNotOfItsBatchIsRefused(t *testing.T) {
	t.Parallel()
	good := Measurement{Function: "router", Batch: 100, Where: "w", Command: "c"}
	s, err := ReadLog(strings.NewReader(invocation("15.74", 16, metrics(60))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := good.Members(s); err == nil || !strings.Contains(err.Error(), "60.0 events for an invocation, and not 100") {
		t.Errorf("batches of 60 as batches of 100: %v", err)
	}
	for want, change := range map[string]func(*Measurement){
		"function": func(m *Measurement) { m.Function = "gateway" },
		"batch":    func(m *Measurement) { m.Batch = 50 },
		"where":    func(m *Measurement) { m.Where = "" },
		"command":  func(m *Measurement) { m.Command = "" },
	} {
		m := good
		change(&m)
		if err := m.Validate(); err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(invocation("15.74", 16, metrics(100)))
	f.Add("REPORT RequestId: x\tDuration: NaN ms\tBilled Duration: Inf ms\tMemory Size: 1e9 MB")
	f.Add("{\n\n{\"_aws\":null,\"Events\":-5}\n")
	f.Fuzz(func(t *testing.T, log string) {
		s, err := ReadLog(strings.NewReader(log))
		if err == nil && (s.Invocations < 1 || s.Billed < 0 || s.Events < 0 || s.OwnBytes+s.PlatformBytes > len(log)+1) {
			t.Errorf("%+v", s)
		}
	})
}
