package event

import (
	"encoding/json"
	"strings"
	"testing"
)

// typical is an event as SDKs of browsers send it, about 500 bytes without
// its data: 24 names, three levels.
const typical = `{"name":"order_completed","type":"track","id":"0198a3c0-5b7e-7d43-9d1e-3f0a5c8d7e21","user_id":"user-183467",` +
	`"anonymous_id":"7f3c1e52-9a0b","timestamp":"2026-11-23T10:00:00.123Z","data":{"order":"A-10023","total":129.9,` +
	`"currency":"EUR","coupon":null,"first":false,"items":[{"sku":"T-1","price":9.9,"qty":2},{"sku":"T-2","price":110.1,` +
	`"qty":1}]},"context":{"ip":null,"locale":"de-DE","library":{"name":"web","version":"2.1.0"},` +
	`"page":{"path":"/pay","title":"Pay"}}}`

func BenchmarkParseSent(b *testing.B) {
	raw := []byte(typical)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseSent(raw, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseStored(b *testing.B) {
	raw := stored(b)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseStored(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncodingJSON reads the same event into the same fields.
func BenchmarkEncodingJSON(b *testing.B) {
	raw := []byte(typical)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		var e struct {
			ID          string          `json:"id"`
			Type        string          `json:"type"`
			Name        string          `json:"name"`
			UserID      string          `json:"user_id"`
			AnonymousID string          `json:"anonymous_id"`
			Timestamp   string          `json:"timestamp"`
			Data        json.RawMessage `json:"data"`
			Context     json.RawMessage `json:"context"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncodingJSONValid checks the grammar alone.
func BenchmarkEncodingJSONValid(b *testing.B) {
	raw := []byte(typical)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if !json.Valid(raw) {
			b.Fatal("not JSON")
		}
	}
}

func BenchmarkSentReader(b *testing.B) {
	const n = 100
	events := strings.Repeat(typical+",", n-1) + typical
	for _, form := range []struct {
		name string
		body string
		form Form
	}{
		{"array", "[" + events + "]", JSON},
		{"envelope", `{"events":[` + events + "]}", JSON},
		{"lines", strings.Repeat(typical+"\n", n), NDJSON},
	} {
		b.Run(form.name, func(b *testing.B) {
			var (
				r    SentReader
				e    Event
				body = []byte(form.body)
			)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				count := 0
				r.Reset(body, form.form, Limits{})
				for ok, invalid, _ := r.Next(&e); ok; ok, invalid, _ = r.Next(&e) {
					if invalid != nil {
						b.Fatal(invalid)
					}
					count++
				}
				if r.Err() != nil || count != n {
					b.Fatal(r.Err(), count)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/event")
		})
	}
}

func stored(tb testing.TB) []byte {
	e, err := ParseSent([]byte(typical), Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	e.ReceivedAt, e.Source = "2026-11-23T10:00:00.456Z", "web"
	return e.Append(nil)
}

func BenchmarkName(b *testing.B) {
	raw := stored(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Name(raw); !ok {
			b.Fatal("no name")
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	e, _ := ParseSent([]byte(typical), Limits{})
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.Append(buf[:0])
	}
}

func BenchmarkNewID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		NewID()
	}
}
