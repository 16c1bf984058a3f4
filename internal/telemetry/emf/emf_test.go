package emf_test

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eventsluice/sluice/internal/telemetry/emf"
)

func TestALineIsWhatTheFormatSays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // midnight, 1 January 2000
		got := emf.Line(emf.Namespace,
			[]emf.Dimension{{Name: "Program", Value: "crm"}, {Name: "Destination", Value: `a "b"`}},
			[]emf.Value{{Name: "Events", Value: 3}, {Name: "Duration", Value: 12.25, Unit: emf.Milliseconds}, {Name: "Residual", Value: -1e15}})
		const want = `{"_aws":{"Timestamp":946684800000,"CloudWatchMetrics":[{"Namespace":"Sluice","Dimensions":[["Program","Destination"]],` +
			`"Metrics":[{"Name":"Events","Unit":"Count"},{"Name":"Duration","Unit":"Milliseconds"},{"Name":"Residual","Unit":"Count"}]}]},` +
			`"Program":"crm","Destination":"a \"b\"","Events":3,"Duration":12.25,"Residual":-1000000000000000}` + "\n"
		if string(got) != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	})
}

func TestWhatCloudWatchWouldRefuseIsLeftOut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 2000)
	line := emf.Line(emf.Namespace,
		[]emf.Dimension{{Name: "Empty"}, {Name: "Blank", Value: " "}, {Name: "Long", Value: long}},
		[]emf.Value{{Name: "NaN", Value: math.NaN()}, {Name: "Inf", Value: math.Inf(-1)}, {Name: "Zero"}})
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	delete(got, "_aws")
	if want := map[string]any{"Long": long[:2*1024], "Zero": 0.0}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	for _, name := range []string{"Empty", "Blank", "NaN", "Inf"} {
		if bytes.Contains(line, []byte(name)) {
			t.Errorf("%s is named in %s", name, line)
		}
	}
}

// FuzzLine: whatever a name or a value is, the line is one line of JSON that
// says it.
func FuzzLine(f *testing.F) {
	f.Add("Program", "crm", "Events", 3.0)
	f.Add("a\nb", "\x00\xff\u2028", "\\\"", 1e300)
	f.Fuzz(func(t *testing.T, dimension, value, name string, n float64) {
		line := emf.Line("Sluice", []emf.Dimension{{Name: dimension, Value: value}}, []emf.Value{{Name: name, Value: n}})
		if !json.Valid(line) || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Errorf("%q", line)
		}
	})
}

// A line is one allocation.
func TestALineIsOneAllocation(t *testing.T) {
	dimensions := []emf.Dimension{{Name: "Program", Value: "crm"}}
	values := []emf.Value{{Name: "Events", Value: 1}, {Name: "Delivered", Value: 1}, {Name: "Residual"}}
	if n := testing.AllocsPerRun(100, func() { emf.Line(emf.Namespace, dimensions, values) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
