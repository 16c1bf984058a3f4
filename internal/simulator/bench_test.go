package simulator

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// What a test or a trial pays for a call: the reading, the schema and the shelf.
func BenchmarkMixpanelImport(b *testing.B) {
	v, err := New("mixpanel")
	if err != nil {
		b.Fatal(err)
	}
	v.api.(*mixpanel).events.limit, v.api.(*mixpanel).bytes.limit = 1<<62, 1<<62
	const events = 500
	n := 0
	for b.Loop() {
		batch := make([]any, events)
		for i := range batch {
			n++
			batch[i] = signup(strconv.Itoa(n))
		}
		req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/import?strict=1", strings.NewReader(asked(batch)))
		req.SetBasicAuth(mixpanelToken, "")
		w := httptest.NewRecorder()
		v.ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}
