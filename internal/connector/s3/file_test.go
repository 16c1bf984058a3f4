package s3

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/testenv"
)

// written delivers events and returns the files.
func written(t *testing.T, settings string, deliveries []connector.Delivery) map[string][]byte {
	t.Helper()
	m := &memory{}
	c := open(t, m, settings)
	for _, call := range c.Plan(deliveries).Calls {
		for _, r := range c.Send(t.Context(), call) {
			if r.Class != connector.Delivered {
				t.Fatalf("%+v", r)
			}
		}
	}
	return m.objects
}

// only returns the one file there is.
func only(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	if len(files) != 1 {
		t.Fatalf("%d files", len(files))
	}
	for _, body := range files {
		return body
	}
	return nil
}

// lines returns what is in an NDJSON file.
func lines(t *testing.T, body []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func stored(e event.Event) connector.Delivery {
	return connector.Delivery{Event: e, Raw: e.Append(nil)}
}

func TestLinesAreTheStoredBytesWithoutLineBreaks(t *testing.T) {
	t.Parallel()
	deliveries := []connector.Delivery{
		stored(event.Event{ID: "e1", Type: "track", Name: "order", Data: []byte(`{"total": 1.50,"big":12345678901234567890.1}`)}),
		stored(event.Event{ID: "e2", Type: "track", Name: "line\nbreak", Data: []byte("{\n\t\"a\" :\r\n 1\r}")}),
	}
	before := [][]byte{bytes.Clone(deliveries[0].Raw), bytes.Clone(deliveries[1].Raw)}
	got := lines(t, only(t, written(t, `{"bucket":"lake"}`, deliveries)))
	want := `{"id":"e1","type":"track","name":"order","data":{"total": 1.50,"big":12345678901234567890.1},"context":{}}` + "\n" +
		`{"id":"e2","type":"track","name":"line\nbreak","data":{ ` + "\t" + `"a" :   1 },"context":{}}` + "\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for i := range before {
		if !bytes.Equal(before[i], deliveries[i].Raw) {
			t.Error("sending has changed the events")
		}
	}
}

func TestTheSameEventsMakeTheSameBytes(t *testing.T) {
	t.Parallel()
	deliveries := append(connectortest.Plain(100), connectortest.Odd()...)
	for _, format := range []string{`"ndjson"`, `"parquet"`, `"parquet","compression":"zstd"`} {
		first, second := written(t, `{"bucket":"lake","format":`+format+`}`, deliveries), written(t, `{"bucket":"lake","format":`+format+`}`, deliveries)
		for key, body := range first {
			if !bytes.Equal(body, second[key]) {
				t.Errorf("%s: other bytes in %s", format, key)
			}
		}
	}
}

// shop are the events that the tests of Parquet read back.
func shop() []connector.Delivery {
	return []connector.Delivery{
		stored(event.Event{
			ID: "e1", Type: "track", Name: "order", UserID: "u1", AnonymousID: "a1", Source: "web", IP: "203.0.113.7",
			Timestamp: "2026-11-23T11:00:00.1234567+01:00", ReceivedAt: "2026-11-23T10:00:00.125Z",
			Data: []byte(`{"total": 1.50}`), Context: []byte(`{"locale":"de-AT"}`), Extra: []byte(`"coupon":"X"`),
		}),
		stored(event.Event{ID: "größe", Type: "page", Name: "日本語 🛒", Timestamp: "1970-01-01T00:00:00Z", ReceivedAt: "2026-11-23T10:00:01Z"}),
		stored(event.Event{ID: "e3", Type: "track", Name: "old", Timestamp: "0001-01-01T00:00:00Z", ReceivedAt: "2026-11-23T10:00:02Z", Data: []byte(`{"text":"a\u0000b"}`)}),
	}
}

func TestParquetIsReadBack(t *testing.T) {
	t.Parallel()
	for _, compression := range []string{snappy, zstd} {
		files := written(t, fmt.Sprintf(`{"bucket":"lake","format":"parquet","compression":%q}`, compression), shop())
		for key := range files {
			if !strings.HasSuffix(key, "-3."+compression+".parquet") {
				t.Errorf("key %s", key)
			}
		}
		body := only(t, files)
		rows, err := parquet.Read[row](bytes.NewReader(body), int64(len(body)))
		if err != nil || len(rows) != 3 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		got, err := json.Marshal(rows)
		if err != nil {
			t.Fatal(err)
		}
		var want []row
		for _, d := range shop() {
			r, refused := makeRow(&d.Event)
			if refused != nil {
				t.Fatal(refused)
			}
			want = append(want, r)
		}
		if wanted, _ := json.Marshal(want); !bytes.Equal(got, wanted) {
			t.Errorf("%s\nwant %s", got, wanted)
		}
		if *rows[0].Timestamp != 1_795_428_000_123_456 || *rows[1].Timestamp != 0 || string(rows[0].Context) != `{"locale":"de-AT","extra":{"coupon":"X"}}` {
			t.Errorf("%d, %d, %s", *rows[0].Timestamp, *rows[1].Timestamp, rows[0].Context)
		}
	}
}

func TestParquetIsReadByOthers(t *testing.T) {
	t.Parallel()
	python := testenv.Python(t, "testdata/requirements.txt")
	for _, compression := range []string{snappy, zstd} {
		dir := t.TempDir()
		for key, body := range written(t, fmt.Sprintf(`{"bucket":"lake","format":"parquet","compression":%q}`, compression), shop()) {
			name := filepath.Join(dir, filepath.FromSlash(key))
			if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, body, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), python, "testdata/read.py", dir)
		cmd.Stderr = &stderr
		got, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, &stderr)
		}
		if os.Getenv("SLUICE_UPDATE") != "" {
			if err := os.WriteFile("testdata/read.golden", got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile("testdata/read.golden")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: DuckDB reads\n%s\nwant\n%s", compression, got, want)
		}
	}
}

func TestATimeThatIsNoneIsRefusedByParquetAndKeptByNDJSON(t *testing.T) {
	t.Parallel()
	deliveries := append(shop(), stored(event.Event{ID: "bad", Name: "x", Timestamp: "yesterday", ReceivedAt: "2026-11-23T10:00:00Z"}))
	plan := open(t, nil, `{"bucket":"lake","format":"parquet"}`).Plan(deliveries)
	if len(plan.Done) != 1 || plan.Done[0].Event != 3 || plan.Done[0].Result.Class != connector.Permanent ||
		!strings.Contains(plan.Done[0].Result.Message, "timestamp") || len(plan.Calls[0].Events) != 3 {
		t.Errorf("%+v", plan)
	}
	if plan := open(t, nil, `{"bucket":"lake"}`).Plan(deliveries); len(plan.Done) != 0 || len(plan.Calls[0].Events) != 4 {
		t.Errorf("%+v", plan)
	}
}
