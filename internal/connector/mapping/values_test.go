package mapping_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/connector/mapping"
)

func TestTextIsAValueWithoutItsQuotes(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`"a"`: "a", `""`: "", `"\u00e9\n\"\\"`: "é\n\"\\", `"日本"`: "日本", `1.50`: "1.50", `true`: "true", `{"a": 1}`: `{"a": 1}`, `[]`: "[]",
	} {
		if got, ok := mapping.Text([]byte(value)); !ok || got != want {
			t.Errorf("%s: %q %v", value, got, ok)
		}
	}
	for _, value := range []string{"", "null", `"`, `"\x"`, `"a`} {
		if got, ok := mapping.Text([]byte(value)); ok {
			t.Errorf("%s: %q", value, got)
		}
	}
}

func TestSnakeMakesNamesThatVendorsTake(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Order Completed": "order_completed", "orderCompleted": "order_completed", "order_id": "order_id", "HTTPServer": "httpserver",
		"a1B2": "a1_b2", "42 is": "is", "__a__b__": "a_b", "$os.name": "os_name", "größe": "gr_e", "購入": "", "": "", "_": "", "a-": "a",
		strings.Repeat("ab_", 20): strings.TrimSuffix(strings.Repeat("ab_", 13), "_") + "_a",
	} {
		if got := mapping.Snake(name, 40); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := mapping.Snake("abc_def", 4); got != "abc" {
		t.Errorf("cut behind an underscore: %q", got)
	}
}

var snake = regexp.MustCompile(`^([a-z]([a-z0-9]*_)*[a-z0-9]*)?$`)

func FuzzSnake(f *testing.F) {
	for _, name := range []string{"order_id", "Order Completed", "a__b", "_a", "1a", "aB", "é", "a_", "\xff"} {
		f.Add(name, 40)
		f.Add(name, 2)
	}
	f.Fuzz(func(t *testing.T, name string, limit int) {
		limit = max(0, limit%64)
		got := mapping.Snake(name, limit)
		if len(got) > limit || !snake.MatchString(got) || strings.Contains(got, "__") || strings.HasSuffix(got, "_") {
			t.Fatalf("%q: %q", name, got)
		}
		if again := mapping.Snake(got, limit); again != got {
			t.Fatalf("%q: %q, and of that %q", name, got, again)
		}
		// A space in front keeps it from the short way, and changes nothing.
		if long := mapping.Snake(" "+name, limit); long != got {
			t.Fatalf("%q: %q, the long way %q", name, got, long)
		}
	})
}

func TestFlattenYieldsWhatIsInObjects(t *testing.T) {
	t.Parallel()
	const value = `{"a":{"b":1,"c":{"d":[1],"n":null}},"e":"x","o":{},"n":null}`
	for depth, want := range map[int]string{
		0: `p=` + value + ` `,
		1: `p_a={"b":1,"c":{"d":[1],"n":null}} p_e="x" p_o={} `,
		2: `p_a_b=1 p_a_c={"d":[1],"n":null} p_e="x" `,
		9: `p_a_b=1 p_a_c_d=[1] p_e="x" `,
	} {
		var got strings.Builder
		if !mapping.Flatten(mapping.Property{Name: "p", Value: []byte(value)}, "_", depth, func(name string, value []byte) bool {
			fmt.Fprintf(&got, "%s=%s ", name, value)
			return true
		}) || got.String() != want {
			t.Errorf("depth %d:\n got %s\nwant %s", depth, got.String(), want)
		}
	}
	n := 0
	if mapping.Flatten(mapping.Property{Name: "p", Value: []byte(value)}, "_", 9, func(string, []byte) bool { n++; return n < 2 }) || n != 2 {
		t.Errorf("went on after %d", n)
	}
	if !mapping.Flatten(mapping.Property{Name: "p", Value: []byte("null")}, "_", 9, func(string, []byte) bool { return false }) {
		t.Error("null was yielded")
	}
}

func TestCutRunesCutsBetweenCharacters(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		s    string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abc", 2, "ab"}, {"äöü", 2, "äö"}, {"äöü", 3, "äöü"}, {"äöü", 0, ""}, {"", 0, ""}, {"日本語", 1, "日"}} {
		if got := mapping.CutRunes(test.s, test.n); got != test.want || !utf8.ValidString(got) {
			t.Errorf("%q to %d: %q", test.s, test.n, got)
		}
	}
}

func TestMembersAreAppendedWithCommas(t *testing.T) {
	t.Parallel()
	dst := mapping.AppendMember([]byte(`x{`), "a", []byte("1"))
	dst = mapping.AppendText(dst, "b\n", "{")
	dst = mapping.AppendMember(dst, "c", []byte(`{}`))
	if string(dst) != `x{"a":1,"b\n":"{","c":{}` {
		t.Errorf("%s", dst)
	}
	if !mapping.IsObject([]byte("{}")) || mapping.IsObject(nil) || !mapping.IsArray([]byte("[]")) || mapping.IsArray([]byte("{}")) {
		t.Error("IsObject and IsArray")
	}
}
