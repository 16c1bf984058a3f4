package edge

import (
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzRequest sends any body, or query, in any form to all families of routes.
// Whatever it is, the answer is no 5xx, and every event of it is on the stream,
// in the quarantine, or refused with the whole request.
func FuzzRequest(f *testing.F) {
	kinds := []struct{ path, header string }{ // by GET if a question mark is at the end
		{"/v1/events", "Content-Type: application/json"},
		{"/v1/events", "Content-Type: application/x-ndjson"},
		{"/v1/events", "Content-Encoding: gzip"},
		{"/v1/events", "Content-Encoding: zstd"},
		{"/v1/batch", "Content-Type: text/plain"},
		{"/v1/track", "Content-Type: application/json"},
		{"/v1/b", "Content-Encoding: gzip"},
		{"/v1/events", "Content-Type: application/cloudevents+json"},
		{"/v1/events", "Content-Type: application/cloudevents-batch+json"},
		{"/v1/events", "Content-Type: application/json\nce-specversion: 1.0\nce-id: 1\nce-source: /s\nce-type: t"},
		{"/v1/events", "Content-Type: application/octet-stream\nce-specversion: 1.0\nce-id: 1\nce-source: /s\nce-type: t"},
		{"/com.snowplowanalytics.snowplow/tp2", "Content-Type: application/json"},
		{"/i?", ""},
		{"/e/", "Content-Type: text/plain"},
		{"/batch", "Content-Encoding: gzip"},
		{"/track/", "Content-Type: application/x-www-form-urlencoded"},
		{"/track?", ""},
		{"/engage?", ""},
		{"/groups", "Content-Type: application/json"},
		{"/v1/pixel/track?", ""},
	}
	for kind := range kinds {
		for _, seed := range []string{
			good, "[" + good + "," + good + "]", `{"events":[` + good + `,{}]}`, good + "\n" + good + "\n{",
			`{"batch":[{"type":"track","event":"a"},{}],"writeKey":"WK_fixture","sentAt":"2026-11-23T23:30:33.266Z"}`,
			`{"event":"a","userId":1,"timestamp":"2026-11-23T23:30:33.266Z","context":{"extra":{"a":1}},"x":[]}`,
			"data=eyJuYW1lIjoiYSJ9", `[]`, ``, `{"name":"a","context":{"extra":1},"y":2}`, "\xef\xbb\xbf{\"name\":\"\\ud800\"}",
		} {
			f.Add(byte(kind), []byte(seed))
			f.Add(byte(kind), []byte(gzipOf(seed)))
			f.Add(byte(kind), []byte(zstdOf(seed)))
		}
	}
	_ = filepath.WalkDir("testdata/sdk", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".json" {
			if raw, err := os.ReadFile(path); err == nil {
				f.Add(byte(4), raw)
			}
		}
		return err
	})
	for _, file := range recordings(f) {
		for kind := range kinds {
			switch path := strings.Trim(kinds[kind].path, "/?"); {
			case !strings.HasPrefix(strings.TrimPrefix(file.Request.Target, "/"), path) || path == "i" && file.Request.Method != http.MethodGet:
			case file.Request.Method == http.MethodGet:
				_, query, _ := strings.Cut(file.Request.Target, "?")
				f.Add(byte(kind), []byte(query))
			default:
				f.Add(byte(kind), []byte(file.Request.BodyText+string(file.Request.BodyBase64)))
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		r := newRig(t, Config{
			MaxBody: 1 << 20, MaxUnauthenticatedBody: 1 << 20, MaxInFlight: 64 << 20, Protocols: Protocols, Log: slog.New(slog.DiscardHandler),
		})
		k := kinds[int(kind)%len(kinds)]
		req := newRequest(http.MethodPost, k.path, "WK_fixture", string(body))
		if path, ok := strings.CutSuffix(k.path, "?"); ok {
			req = newRequest(http.MethodGet, path, "WK_fixture", "")
			req.URL.RawQuery = string(body)
		}
		for line := range strings.Lines(k.header) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			req.Header.Add(name, value)
		}
		w := httptest.NewRecorder()
		r.edge.ServeHTTP(w, req)
		a := answer{t: t, status: w.Code, header: w.Header(), body: w.Body.String()}
		a.check()
		if err := againstContract(req, w); err != nil {
			t.Error(err)
		}
		if a.status >= 500 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if r.edge.InFlight() != 0 {
			t.Error("the budget is not given back")
		}
		stored := r.events() // it decodes each: what is stored is JSON
		balance := r.intake.Balance()
		var rejected uint64
		for _, n := range balance.Rejected {
			rejected += n
		}
		if int(balance.Accepted) != len(stored) || int(rejected) != len(r.letters()) || received(r.intake) != balance.Accepted+rejected {
			t.Errorf("%d stored, %d letters; ledger %+v, received %d", len(stored), len(r.letters()), balance, received(r.intake))
		}
		for _, e := range stored {
			if e.ID == "" || e.Name == "" || e.Source != "fixture" || e.ReceivedAt == "" || e.Timestamp == "" {
				t.Errorf("stored %+v", e)
			}
		}
		if a.status == 202 || a.status == 207 {
			d := a.problem()
			ids := 0
			for _, id := range d.IDs {
				if id != nil {
					if *id != stored[ids].ID {
						t.Errorf("the answer says %q, stored is %q", *id, stored[ids].ID)
					}
					ids++
				}
			}
			if d.Accepted != len(stored) || d.Rejected != int(rejected) || len(d.IDs) != d.Accepted+d.Rejected || len(d.Errors) != d.Rejected || ids != d.Accepted {
				t.Errorf("answered %s, %d stored", a.body, len(stored))
			}
		} else if strings.HasPrefix(k.path, "/v1/events") && len(stored) > 0 {
			t.Errorf("answered %d, and %d events are stored", a.status, len(stored))
		}
	})
}
