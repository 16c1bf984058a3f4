package event

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hostile are bodies that cost a sender little and a careless reader a lot.
// Each grows with n.
var hostile = []struct {
	name string
	body func(n int) string
	form Form
}{
	{"many names", func(n int) string { return `{"name":"n","data":{` + members(n, "%d") + "}}" }, JSON},
	{"many unknown members", func(n int) string { return `{"name":"n",` + members(n, "%d") + "}" }, JSON},
	{"unknown members between known ones", func(n int) string { return `{"name":"n",` + members(n, "%d") + `,"id":"i",` + members(n, "x%d") + "}" }, JSON},
	{"long names with the same ends", func(n int) string {
		return `{"name":"n","data":{` + members(n/20, strings.Repeat("x", 20)+"%08d"+strings.Repeat("x", 20)) + "}}"
	}, JSON},
	{"names spelled with escapes", func(n int) string { return `{"name":"n","data":{` + members(n/2, `\u0061%d`) + "}}" }, JSON},
	{"large objects in a large object", func(n int) string {
		inner := "{" + members(30, "%d") + "}"
		return `{"name":"n","data":{` + strings.ReplaceAll(members(n/40, "%d"), ":0", ":"+inner) + "}}"
	}, JSON},
	{"many bad events", func(n int) string { return "[" + strings.Repeat(`{"name":0},`, n) + "{}]" }, JSON},
	{"many bad lines", func(n int) string { return strings.Repeat("{\n", n) }, NDJSON},
	{"many deep events", func(n int) string {
		return "[" + strings.Repeat(`{"x":`+strings.Repeat("[", 99)+strings.Repeat("]", 99)+"},", n/50) + "{}]"
	}, JSON},
	{"deep, one flaw at each level", func(n int) string {
		return `{"name":"n","data":{"a":` + strings.Repeat(`["\ud800",`, n) + "0" + strings.Repeat("]", n) + "}}"
	}, JSON},
	{"a long number", func(n int) string { return `{"name":"n","data":{"a":` + strings.Repeat("9", 10*n) + "}}" }, JSON},
	{"many numbers out of range", func(n int) string { return `{"name":"n","data":{"a":[` + strings.Repeat("9e999,", n) + "0]}}" }, JSON},
	{"halves of surrogate pairs", func(n int) string { return `{"name":"n","data":{"a":"` + strings.Repeat(`\ud800`, n) + `"}}` }, JSON},
	{"white space", func(n int) string { return `{"name":"n","data":{"a":` + strings.Repeat(" ", 10*n) + "0}}" }, JSON},
	{"a flaw behind much", func(n int) string { return `{"name":"n","data":{` + members(n, "%d") + `,"0":1}}` }, JSON},
}

func members(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"`+format+`":0,`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// TestTimeGrowsInProportion reads one body of eight times the size in about
// the time of eight bodies. Quadratic work takes eight times as long. A busy
// machine gets several tries.
func TestTimeGrowsInProportion(t *testing.T) {
	const n, times, most, tries = 3000, 8, 4, 10
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			small, large := []byte(tt.body(n)), []byte(tt.body(times*n))
			var one, many time.Duration
			for range tries {
				many = 0
				for range times {
					many += timeOf(small, tt.form)
				}
				if one = timeOf(large, tt.form); one < most*many {
					return
				}
			}
			t.Errorf("%v for one, %v for %d of a part of the size", one, many, times)
		})
	}
}

// timeOf reads a body in every way there is.
func timeOf(body []byte, form Form) time.Duration {
	var (
		begin = time.Now()
		lim   = Limits{MaxBytes: 1 << 30}
		r     SentReader
		e     Event
		dst   []byte
	)
	r.Reset(body, form, lim)
	for ok, invalid, _ := r.Next(&e); ok; ok, invalid, _ = r.Next(&e) {
		if invalid == nil {
			dst = e.Append(dst[:0])
			_, _ = ParseStored(dst)
		}
	}
	_ = Check(body, lim)
	_ = Members(body, func(string, []byte) bool { return true })
	Name(body)
	return time.Since(begin)
}

func TestDuplicatesAreFoundAmongManyNames(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, fewNames - 1, fewNames, fewNames + 1, 63, 64, 65, 1000, 100_000} {
		object := "{" + members(n, "name %d") + `,"x":{` + members(n, "name %d") + "}}"
		if err := Check([]byte(object), Limits{}); err != nil && n < 100_000 {
			t.Errorf("%d names: %v", n, err)
		}
		for _, again := range []int{0, n / 2, n - 1} {
			for _, name := range []string{"name " + strconv.Itoa(again), `\u006eame ` + strconv.Itoa(again)} {
				object := "{" + members(n, "name %d") + `,"` + name + `":0}`
				err := Check([]byte(object), Limits{MaxBytes: 1 << 30})
				if v, _ := err.(*Invalid); v == nil || v.Code != CodeDuplicateKey || v.Pointer != fmt.Sprintf("/name %d", again) {
					t.Errorf("%d names and %q again: %v", n, name, err)
				}
			}
		}
	}
}

func TestLongPointersAreCutToAnEnclosingValue(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	_, err := ParseSent([]byte(`{"name":"n","data":{"`+long+`":{"`+long+`":{"a":1,"a":1}}}}`), Limits{})
	if v, _ := err.(*Invalid); v == nil || v.Pointer != "/data/"+long {
		t.Errorf("got %v", err)
	}
}

// An event whose own fields have no escapes costs no memory, nor does one bad
// event make the next ones dear.
func TestReadingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	var (
		r      SentReader
		e      Event
		raw    = []byte(typical)
		body   = []byte("[" + typical + "," + typical + "]")
		stored = stored(t)
		quoted = []byte(`"a\"b"`)
		buf    = make([]byte, 0, 2048)
		many   = []byte(`{"name":"n","x":1,"y":2,"data":{` + members(200, `\u0061%d`) + `},"context":{"a":"é\n"}}`)
	)
	for name, read := range map[string]func(){
		"ParseSent":   func() { _, _ = ParseSent(raw, Limits{}) },
		"ParseStored": func() { _, _ = ParseStored(stored) },
		"Name":        func() { Name(stored) },
		"Append":      func() { buf = e.Append(buf[:0]) },
		"AppendID":    func() { buf = AppendID(buf[:0]) },
		"many names":  func() { _, _ = ParseSent(many, Limits{}) },
		"Members":     func() { _ = Members(raw, func(string, []byte) bool { return true }) },
		"AppendMembers": func() {
			buf, _ = AppendMembers(buf[:0], raw, func(name string) bool { return name == "data" })
		},
		"AppendUnquoted": func() { buf, _ = AppendUnquoted(buf[:0], quoted) },
		"AppendNamedID":  func() { buf = AppendNamedID(buf[:0], "/orders", "7") },
		"SentReader": func() {
			r.Reset(body, JSON, Limits{})
			for ok, _, _ := r.Next(&e); ok; ok, _, _ = r.Next(&e) {
			}
		},
	} {
		if n := testing.AllocsPerRun(100, read); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
