package redshift

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
)

// golden compares with a file, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if os.Getenv("SLUICE_UPDATE") != "" {
		if err := os.WriteFile(name, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestTheFileAndTheStatementsAreTheseExactly(t *testing.T) {
	t.Parallel()
	c := open(t, nil, "")
	plan := c.Plan([]connector.Delivery{
		{Event: event.Event{
			ID: "e1", Type: "track", Name: "order", UserID: "u1", AnonymousID: "a1", Source: "web", IP: "203.0.113.7",
			Timestamp: "2026-11-23T11:00:00.1234567+01:00", ReceivedAt: "2026-11-23T10:00:00.125Z",
			Data: []byte(`{"total": 1.50}`), Context: []byte(`{"locale":"de-AT"}`), Extra: []byte(`"coupon":"X"`),
		}},
		{Event: event.Event{ID: "'; DROP TABLE events; --", Type: "page", Name: "a\x00b", Data: []byte("{\n\"text\":\"a\\u0000b\\\\u0000\"}")}},
	})
	rows := plan.Calls[0].Payload.([]row)
	body, err := encode(rows)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/file.golden", text)
	statements := append(c.table.load("TOKEN", "s3://lake/"+c.key(rows), c.cfg.IAMRole), c.table.create()...)
	golden(t, "testdata/statements.golden", []byte(strings.Join(append(statements, c.table.check()), ";\n\n")+";\n"))
	if again, err := encode(rows); err != nil || !bytes.Equal(again, body) {
		t.Errorf("the same rows make other bytes (%v)", err)
	}
}

func TestNamesAndTextsAreQuoted(t *testing.T) {
	t.Parallel()
	table, err := parseTable(`Raw Data.Größe'; --`)
	if err != nil || table.name != `"Raw Data"."Größe'; --"` || table.lock != `"Raw Data"."Größe'; --_sluice_lock"` {
		t.Errorf("%+v, %v", table, err)
	}
	if got, want := quoteText(`a'b\c`), `'a''b\\c'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAnEventThatRedshiftCannotHaveIsRefusedWithFieldAndRule(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(e *event.Event)
		code   string
		says   string
	}{
		{"NUL in the id", func(e *event.Event) { e.ID = "a\x00" }, "id", "U+0000"},
		{"a long id", func(e *event.Event) { e.ID = strings.Repeat("ü", 513) }, "id", "1026 bytes"},
		{"a long name", func(e *event.Event) { e.Name = strings.Repeat("n", 1025) }, "name", "holds 1024"},
		{"a long type", func(e *event.Event) { e.Type = strings.Repeat("t", 65) }, "type", "holds 64"},
		{"a long user", func(e *event.Event) { e.UserID = strings.Repeat("u", 1025) }, "user_id", "holds 1024"},
		{"a long anonymous id", func(e *event.Event) { e.AnonymousID = strings.Repeat("u", 1025) }, "anonymous_id", "holds 1024"},
		{"a long source", func(e *event.Event) { e.Source = strings.Repeat("s", 257) }, "source", "holds 256"},
		{"no time", func(e *event.Event) { e.Timestamp = "yesterday" }, "timestamp", "RFC 3339"},
		{"the year 0", func(e *event.Event) { e.Timestamp = "0000-06-01T00:00:00Z" }, "timestamp", "1 to 9999"},
		{"the year 10000 in UTC", func(e *event.Event) { e.ReceivedAt = "9999-12-31T23:59:59-01:00" }, "received_at", "1 to 9999"},
		{"more than COPY reads", func(e *event.Event) { e.Data = fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", maxLine)) }, "data", "4194304"},
	} {
		d := connectortest.Plain(1)
		c.change(&d[0].Event)
		plan := open(t, nil, "").Plan(d)
		if len(plan.Done) != 1 || len(plan.Calls) != 0 {
			t.Errorf("%s: planned", c.name)
			continue
		}
		r := plan.Done[0].Result
		if r.Class != connector.Permanent || r.Code != c.code || !strings.HasPrefix(r.Message, c.code+": ") || !strings.Contains(r.Message, c.says) {
			t.Errorf("%s: %+v, want %s with %q", c.name, r, c.code, c.says)
		}
	}
}

// The place of a row in its file counts too.
func TestTheLongestRowIsOneThatCOPYReads(t *testing.T) {
	t.Parallel()
	text := func(n int) *event.Event {
		return &event.Event{ID: "e1", Type: "track", Name: "n", Data: []byte(`{"x":"` + strings.Repeat("x", n) + `"}`)}
	}
	short, refused := makeRow(text(0))
	if refused != nil {
		t.Fatal(refused)
	}
	const place = `"nth":99999,`
	most := maxLine - len(place) - len(bytes.TrimSuffix(short.line, []byte("\n")))
	longest := 0
	for n := most - 3; n < most+3; n++ {
		if _, refused := makeRow(text(n)); refused == nil {
			longest = n
		}
	}
	if longest == 0 || longest > most {
		t.Errorf("a text of %d bytes is taken, and COPY reads one of %d", longest, most)
	}
}

// FuzzEscapedNUL compares with what a decoder of JSON reads: the same, but for
// U+0000 and line breaks.
func FuzzEscapedNUL(f *testing.F) {
	for _, seed := range []string{`{"a":"\u0000"}`, `{"a":"\\u0000"}`, `{"a":"\\\u0000\n"}`, "{\n\"a\" : 1}", `{"\u0000":"\u00000"}`, `1e1000`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !json.Valid(raw) {
			return
		}
		before := bytes.Clone(raw)
		got := escapedNUL(raw)
		if !bytes.Equal(before, raw) {
			t.Fatal("the event is changed")
		}
		if bytes.IndexByte(got, '\n') >= 0 {
			t.Errorf("%q has line breaks", got)
		}
		want := tokens(t, raw)
		for i := range want {
			if s, ok := want[i].(string); ok {
				want[i] = strings.ReplaceAll(s, "\x00", "\ufffd")
			}
		}
		if tokens := tokens(t, got); !slices.Equal(tokens, want) {
			t.Errorf("%q of %q", got, raw)
		}
	})
}

// tokens returns those of a document, numbers as they are written.
func tokens(t *testing.T, raw []byte) (all []json.Token) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		all = append(all, token)
	}
}

// BenchmarkEvent measures what an event costs, in loads of 10,000: planned, and
// encoded.
func BenchmarkEvent(b *testing.B) {
	c := open(b, nil, "")
	deliveries := connectortest.Plain(10_000)
	for i := range deliveries {
		deliveries[i].Event.Data = fmt.Appendf(nil, `{"page":"/pricing","nth":%d,"text":%q}`, i, strings.Repeat("lorem ipsum ", 20))
	}
	perEvent := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(deliveries)), "ns/event")
	}
	b.Run("plan", func(b *testing.B) {
		for b.Loop() {
			c.Plan(deliveries)
		}
		perEvent(b)
	})
	rows := c.Plan(deliveries).Calls[0].Payload.([]row)
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if _, err := encode(rows); err != nil {
				b.Fatal(err)
			}
		}
		perEvent(b)
	})
}
