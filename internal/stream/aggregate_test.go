package stream

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// aggregated builds a record in a format from events of one key.
func aggregated(f Format, key string, events ...string) Record {
	var a Aggregate
	a.Reset(key, f)
	for _, e := range events {
		a.Add([]byte(e))
	}
	return Record{PartitionKey: key, Data: a.Seal(), Events: a.Len()}
}

// kpl puts magic and digest around a protobuf message.
func kpl(message []byte) []byte {
	sum := md5.Sum(message)
	return slices.Concat([]byte(magicKPL), message, sum[:])
}

func bytesField(dst []byte, num protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(dst, num, protowire.BytesType), v)
}

func varintField(dst []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
}

func payloads(rec Record) (got []string) {
	for _, data := range Deaggregate(rec) {
		got = append(got, string(data))
	}
	return got
}

func readHex(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "kpl", name))
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			digits.WriteString(strings.TrimSpace(line))
		}
	}
	data, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestReadsWhatAWSsOwnEncoderWrites(t *testing.T) {
	t.Parallel()
	rec := Record{PartitionKey: "a", Data: readHex(t, "two-keys-one-hash-key.hex")}
	want := []UserRecord{
		{PartitionKey: "u1", SubSequence: 0, Data: []byte("hello")},
		{PartitionKey: "u2", ExplicitHashKey: "5", SubSequence: 1, Data: []byte("world")},
		{PartitionKey: "u1", SubSequence: 2, Data: []byte("")},
	}
	got := AppendUserRecords(nil, rec)
	if len(got) != len(want) {
		t.Fatalf("got %d user records, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("user record %d = %+v, want %+v", i, got[i], want[i])
		}
	}
	if got := payloads(rec); !slices.Equal(got, []string{"hello", "world", ""}) {
		t.Errorf("Deaggregate yields %q", got)
	}
}

func TestWritesTheBytesOfTheFormat(t *testing.T) {
	t.Parallel()
	got := aggregated(KPL, "b3", `{"id":"1"}`, `{"id":"2"}`)
	if want := readHex(t, "bucket-of-two.hex"); !bytes.Equal(got.Data, want) {
		t.Errorf("got  %x\nwant %x", got.Data, want)
	}
}

func TestOneEventIsWrittenAsItIs(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{KPL, Framed} {
		rec := aggregated(f, "b3", `{"id":"1"}`)
		if string(rec.Data) != `{"id":"1"}` {
			t.Errorf("format %d: data = %q", f, rec.Data)
		}
		if got := AppendUserRecords(nil, rec); len(got) != 1 || got[0].PartitionKey != "b3" || string(got[0].Data) != `{"id":"1"}` {
			t.Errorf("format %d: read back %+v", f, got)
		}
	}
}

func TestAnEventThatLooksLikeAnAggregateComesBackWhole(t *testing.T) {
	t.Parallel()
	inner := string(aggregated(KPL, "b3", "x", "y").Data)
	for _, f := range []Format{KPL, Framed} {
		if got := payloads(aggregated(f, "b3", inner)); !slices.Equal(got, []string{inner}) {
			t.Errorf("format %d: read back %q", f, got)
		}
	}
}

func TestSizeIsKnownBeforeSealing(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{KPL, Framed} {
		var a Aggregate
		a.Reset("b12", f)
		for _, n := range []int{0, 1, 127, 128, 16383, 16384, 70000} {
			predicted := a.SizeWith(n)
			a.Add(make([]byte, n))
			size, events := a.Size(), a.Len()
			if predicted != size {
				t.Errorf("format %d, event %d: SizeWith = %d, Size = %d", f, events, predicted, size)
			}
			// Seal a copy: an aggregate cannot grow after it.
			sealed := a
			sealed.buf = bytes.Clone(a.buf)
			if got := len(sealed.Seal()); got != size || sealed.Size() != size {
				t.Errorf("format %d, event %d: Size = %d, sealed %d", f, events, size, got)
			}
			if first, again := bytes.Clone(sealed.Seal()), sealed.Seal(); !bytes.Equal(first, again) {
				t.Errorf("format %d, event %d: sealing twice gives other bytes", f, events)
			}
		}
	}
}

func TestDataThatIsNotAnAggregatePassesUnchanged(t *testing.T) {
	t.Parallel()
	good := aggregated(KPL, "b1", "one", "two").Data
	damaged := func(i int) []byte { d := bytes.Clone(good); d[i] ^= 1; return d }
	record := func(fields ...[]byte) string { return string(slices.Concat(fields...)) }
	table := bytesField(nil, 1, "k")

	for name, data := range map[string][]byte{
		"empty":                    {},
		"JSON":                     []byte(`{"name":"order_placed"}`),
		"magic alone":              []byte(magicKPL),
		"magic and digest alone":   kpl(nil),
		"wrong magic":              damaged(3),
		"wrong message":            damaged(10),
		"wrong digest":             damaged(len(good) - 1),
		"cut":                      good[:len(good)-1],
		"longer":                   append(bytes.Clone(good), 0),
		"not protobuf":             kpl([]byte("hello")),
		"field number zero":        kpl(slices.Concat(table, []byte{0x00, 0x00})),
		"length beyond the end":    kpl(slices.Concat(table, []byte{0x1a, 0x7f, 0x08})),
		"record without data":      kpl(bytesField(table, 3, record(varintField(nil, 1, 0)))),
		"record without key":       kpl(bytesField(table, 3, record(bytesField(nil, 3, "x")))),
		"key outside the table":    kpl(bytesField(table, 3, record(varintField(nil, 1, 1), bytesField(nil, 3, "x")))),
		"largest key":              kpl(bytesField(table, 3, record(varintField(nil, 1, 1<<64-1), bytesField(nil, 3, "x")))),
		"hash key outside a table": kpl(bytesField(table, 3, record(varintField(nil, 1, 0), varintField(nil, 2, 0), bytesField(nil, 3, "x")))),
		"tag without key":          kpl(bytesField(table, 3, record(varintField(nil, 1, 0), bytesField(nil, 3, "x"), bytesField(nil, 4, "")))),
		"framed, cut":              aggregated(Framed, "b1", "one", "two").Data[:20],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := Record{PartitionKey: "outer", Data: data}
			if got := payloads(rec); len(got) != 1 || got[0] != string(data) {
				t.Errorf("Deaggregate yields %q, want the record itself", got)
			}
			got := AppendUserRecords(nil, rec)
			if len(got) != 1 || got[0].PartitionKey != "outer" || !bytes.Equal(got[0].Data, data) {
				t.Errorf("AppendUserRecords yields %+v, want the record itself", got)
			}
		})
	}
}

func TestReadsEverythingThatTheFormatAllows(t *testing.T) {
	t.Parallel()
	user := func(key uint64, data string) []byte {
		return bytesField(varintField(nil, 1, key), 3, data)
	}
	group := protowire.AppendGroup(protowire.AppendTag(nil, 9, protowire.StartGroupType), 9, varintField(nil, 1, 7))
	fixed := protowire.AppendFixed64(protowire.AppendTag(nil, 8, protowire.Fixed64Type), 7)
	tag := bytesField(bytesField(nil, 1, "k"), 2, "v")

	for _, tc := range []struct {
		name    string
		message []byte
		want    string
	}{
		{"no records", bytesField(nil, 1, "k"), `[]`},
		{"table after the records", bytesField(bytesField(nil, 3, string(user(0, "x"))), 1, "k"), `[{"k" "" 0 "x"}]`},
		{"unknown fields", slices.Concat(fixed, group, bytesField(nil, 1, "k"), bytesField(nil, 3, string(slices.Concat(fixed, user(0, "x"), group)))), `[{"k" "" 0 "x"}]`},
		{"known number, other type", slices.Concat(varintField(nil, 3, 5), bytesField(nil, 1, "k"), bytesField(nil, 3, string(user(0, "x")))), `[{"k" "" 0 "x"}]`},
		{"tags", bytesField(bytesField(nil, 1, "k"), 3, string(bytesField(user(0, "x"), 4, string(tag)))), `[{"k" "" 0 "x"}]`},
		{"last value wins", bytesField(bytesField(nil, 1, "k"), 3, string(slices.Concat(user(9, "old"), user(0, "new")))), `[{"k" "" 0 "new"}]`},
		{"same key twice in the table", slices.Concat(bytesField(nil, 1, "k"), bytesField(nil, 1, "k"), bytesField(nil, 3, string(user(1, "x")))), `[{"k" "" 0 "x"}]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := AppendUserRecords(nil, Record{PartitionKey: "a", Data: kpl(tc.message)})
			text := []string{}
			for _, u := range got {
				text = append(text, fmt.Sprintf("{%q %q %d %q}", u.PartitionKey, u.ExplicitHashKey, u.SubSequence, u.Data))
			}
			if fmt.Sprint(text) != tc.want {
				t.Errorf("got %v, want %s", text, tc.want)
			}
		})
	}
}

func TestAppendingAndReadingAllocateNothing(t *testing.T) {
	var a Aggregate
	event := bytes.Repeat([]byte("x"), 500)
	write := func() {
		a.Reset("b7", KPL)
		for range 100 {
			a.Add(event)
		}
		a.Seal()
	}
	write()
	if n := testing.AllocsPerRun(20, write); n != 0 {
		t.Errorf("writing a record allocates %v times", n)
	}
	rec := Record{PartitionKey: "b7", Data: a.Seal()}
	if n := testing.AllocsPerRun(20, func() {
		for range Deaggregate(rec) {
		}
	}); n != 0 {
		t.Errorf("reading a record allocates %v times", n)
	}
}

func FuzzDeaggregate(f *testing.F) {
	f.Add([]byte(`{"name":"order_placed"}`), true)
	f.Add(readHex(f, "two-keys-one-hash-key.hex")[4:], true)
	f.Add(aggregated(Framed, "b1", "one", "two").Data[4:], false)
	f.Add(bytesField(bytesField(nil, 3, "\x08\x00\x1a\x01x\x22\x03\x0a\x01k"), 1, "k"), true)
	f.Fuzz(func(t *testing.T, message []byte, digest bool) {
		// As it is, and with magic and digest around it, so that the message
		// inside is reached.
		sealed := append([]byte(magicFramed), message...)
		if digest {
			sealed = kpl(message)
		}
		for _, data := range [][]byte{message, sealed} {
			rec := Record{PartitionKey: "outer", Data: data}
			want := payloads(rec)
			got := AppendUserRecords(nil, rec)
			if len(got) != len(want) {
				t.Fatalf("Deaggregate yields %d, AppendUserRecords %d", len(want), len(got))
			}
			total := 0
			for i, u := range got {
				if string(u.Data) != want[i] || u.SubSequence != i {
					t.Fatalf("user record %d differs: %q and %q", i, u.Data, want[i])
				}
				total += len(u.Data)
			}
			if total > len(data) {
				t.Fatalf("%d bytes of data out of a record of %d", total, len(data))
			}
		}
	})
}

func FuzzWriteThenRead(f *testing.F) {
	f.Add([]byte(`{"id":"1"},{"id":"2"}`), "b3", uint8(10), true)
	f.Add(append([]byte(magicKPL), 0, 1, 2), "", uint8(200), false)
	f.Fuzz(func(t *testing.T, data []byte, key string, size uint8, framed bool) {
		format := KPL
		if framed {
			format = Framed
		}
		var events []string
		for chunk := range slices.Chunk(data, int(size)+1) {
			events = append(events, string(chunk))
		}
		if len(events) == 0 {
			return
		}
		rec := aggregated(format, key, events...)
		got := AppendUserRecords(nil, rec)
		if len(got) != len(events) || rec.Events != len(events) {
			t.Fatalf("%d events written, %d read", len(events), len(got))
		}
		for i, u := range got {
			if string(u.Data) != events[i] || u.PartitionKey != key || u.ExplicitHashKey != "" {
				t.Fatalf("event %d: wrote %q, read %+v", i, events[i], u)
			}
		}
	})
}

func BenchmarkAggregate(b *testing.B) {
	event := bytes.Repeat([]byte("x"), 500)
	for name, format := range map[string]Format{"kpl": KPL, "framed": Framed} {
		for _, n := range []int{1, 16, 100} {
			b.Run(fmt.Sprintf("%s/events=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				var a Aggregate
				for b.Loop() {
					a.Reset("b7", format)
					for range n {
						a.Add(event)
					}
					a.Seal()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
			})
		}
	}
}

func BenchmarkDeaggregate(b *testing.B) {
	event := strings.Repeat("x", 500)
	for name, format := range map[string]Format{"kpl": KPL, "framed": Framed} {
		b.Run(name, func(b *testing.B) {
			rec := aggregated(format, "b7", slices.Repeat([]string{event}, 100)...)
			b.ReportAllocs()
			for b.Loop() {
				for range Deaggregate(rec) {
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*100), "ns/event")
		})
	}
}
