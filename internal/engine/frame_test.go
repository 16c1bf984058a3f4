package engine

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/eventsluice/sluice/internal/stream"
)

func frameOf(records []stream.Record) []byte {
	frame, _ := keepFrame(records)
	return frame
}

func TestAFrameGivesBackItsRecords(t *testing.T) {
	t.Parallel()
	for name, rs := range map[string][]stream.Record{
		"one":           {{PartitionKey: "b-1", Data: []byte(`{"id":"1"}`), Events: 1}},
		"several":       records("several", 16),
		"empty strings": {{Data: []byte{}}},
		"large":         {{PartitionKey: "k", Data: bytes.Repeat([]byte("x"), 1<<20), Events: 4000}},
	} {
		frame, kept := keepFrame(rs)
		if !reflect.DeepEqual(kept, rs) {
			t.Errorf("%s: the %d records that stay in memory are others", name, len(kept))
		}
		if most := recordBytes(rs) + 6 + 15*len(rs); len(frame) > most {
			t.Errorf("%s: %d bytes, more than the %d that are reckoned with", name, len(frame), most)
		}
		got, err := parseFrame(frame)
		if err != nil || !reflect.DeepEqual(got, rs) {
			t.Errorf("%s: parseFrame gave %d records, %v", name, len(got), err)
		}
	}
}

func TestTheFrameIsWhatTheDrawingSays(t *testing.T) {
	t.Parallel()
	rs := []stream.Record{{PartitionKey: "k1", Data: []byte("abc"), Events: 300}}
	want := []byte{0x01, 1, 0xac, 0x02, 2, 3, 'k', '1', 'a', 'b', 'c'}
	if got := frameOf(rs); !bytes.Equal(got, want) {
		t.Errorf("frameOf = % x, want % x", got, want)
	}
}

func TestABrokenFrameIsRefused(t *testing.T) {
	t.Parallel()
	whole := frameOf(records("x", 2))
	cases := map[string][]byte{
		"nothing":                 nil,
		"JSON":                    []byte(`{"id":"1"}`),
		"another version":         append([]byte{2}, whole[1:]...),
		"no records":              {1, 0},
		"more records than bytes": {1, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"a number in a long form": {1, 0x81, 0x00, 1, 0, 0},
		"bytes after the end":     append(bytes.Clone(whole), 0),
		"length beyond the end":   {1, 1, 1, 0xff, 0x7f, 0, 'k'},
		"lengths that overflow":   append([]byte{1, 1, 1}, bytes.Repeat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 2)...),
	}
	for name, p := range cases {
		if rs, err := parseFrame(p); !errors.Is(err, errFrame) {
			t.Errorf("%s: %d records, %v", name, len(rs), err)
		}
	}
	for n := range len(whole) {
		if _, err := parseFrame(whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are taken for a frame", n, len(whole))
		}
	}
}

// What is read is either refused, or is exactly what would be written.
func FuzzParseFrame(f *testing.F) {
	f.Add(frameOf(records("seed", 1)))
	f.Add(frameOf(records("seed", 17)))
	f.Add([]byte{1, 1, 1, 0, 0})
	f.Add([]byte{1, 0xff, 0xff, 0x03, 0, 0, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		rs, err := parseFrame(p)
		if err != nil {
			if !errors.Is(err, errFrame) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		if again := frameOf(rs); !bytes.Equal(again, p) {
			t.Errorf("% x reads as what is written % x", p, again)
		}
	})
}

func FuzzTokensDiffer(f *testing.F) {
	f.Add("a.b", "a_2eb")
	f.Add("crm", "CRM")
	f.Add("", "_")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, of := range []func(string) string{token, fileToken} {
			ta, tb := of(a), of(b)
			if (ta == tb) != (a == b) {
				t.Errorf("%q becomes %q, %q becomes %q", a, ta, b, tb)
			}
			for i := range len(ta) {
				if c := ta[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
					t.Errorf("%q becomes %q, which is no token", a, ta)
				}
			}
			if ta == "" || len(ta) > maxToken+3 {
				t.Errorf("%q becomes a token of %d bytes", a, len(ta))
			}
		}
	})
}
