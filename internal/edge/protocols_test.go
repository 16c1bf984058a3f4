package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eventsluice/sluice/internal/event"
)

var update = flag.Bool("update", false, "write what is wanted in testdata/protocols anew")

// recorded is a request of an SDK, what it has to be answered, and the events
// that have to be stored, an id of "*" standing for one of the gateway. It is
// received when the clock of testing/synctest begins, 2000-01-01T00:00:00Z.
type recorded struct {
	SDK     string `json:"sdk"`
	Request struct {
		Method     string      `json:"method"`
		Target     string      `json:"target"`
		Headers    [][2]string `json:"headers"`
		BodyText   string      `json:"bodyText,omitempty"`
		BodyBase64 []byte      `json:"bodyBase64,omitempty"`
	} `json:"request"`
	Answer struct {
		Status int    `json:"status"`
		Type   string `json:"type"`
		Body   string `json:"body,omitempty"`
	} `json:"answer"`
	Want []json.RawMessage `json:"want"`
}

func (f *recorded) request() *http.Request {
	req := httptest.NewRequest(f.Request.Method, f.Request.Target, strings.NewReader(f.Request.BodyText+string(f.Request.BodyBase64)))
	for _, h := range f.Request.Headers {
		req.Header.Add(h[0], h[1])
	}
	return req
}

// recordings are the recorded requests by their file.
func recordings(t testing.TB) map[string]*recorded {
	t.Helper()
	all := map[string]*recorded{}
	err := filepath.WalkDir("testdata/protocols", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".json" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f := new(recorded)
		all[strings.TrimPrefix(path, "testdata/protocols/")] = f
		if err := json.Unmarshal(raw, f); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	if err != nil || len(all) < 50 {
		t.Fatalf("%d recordings, %v", len(all), err)
	}
	return all
}

func TestUnmodifiedSDKsOfOtherProtocols(t *testing.T) {
	t.Parallel()
	for file, f := range recordings(t) {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Config{Protocols: Protocols})
				req := f.request()
				a := r.do(req)
				if a.status != f.Answer.Status || a.header.Get("Content-Type") != f.Answer.Type || f.Answer.Body != "" && a.body != f.Answer.Body {
					t.Errorf("answered %d %s %s", a.status, a.header.Get("Content-Type"), a.body)
				}
				if origin := req.Header.Get("Origin"); a.header.Get("Access-Control-Allow-Origin") != origin {
					t.Errorf("the origin %q is allowed as %q", origin, a.header.Get("Access-Control-Allow-Origin"))
				}
				if req.Method == http.MethodGet && a.header.Get("Cache-Control") != "no-store" {
					t.Errorf("Cache-Control is %q", a.header.Get("Cache-Control"))
				}
				if ls := r.letters(); len(ls) > 0 {
					t.Errorf("quarantined: %+v", ls)
				}
				if *update {
					f.write(t, file, r)
				}
				checkStored(t, r, f.Want)
			})
		})
	}
}

// write makes what was stored what has to be stored. The clock begins in 1999,
// so that an id of the gateway, which begins with its time, is known by that.
func (f *recorded) write(t *testing.T, file string, r *rig) {
	f.Want = nil
	made := event.NewID()[:8]
	for _, raw := range r.stream.stored {
		if id := decodeStored(raw).ID; strings.HasPrefix(id, made) {
			raw = bytes.Replace(raw, []byte(id), []byte("*"), 1)
		}
		f.Want = append(f.Want, raw)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := errors.Join(enc.Encode(f), os.WriteFile("testdata/protocols/"+file, b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// checkStored compares what is stored, field by field.
func checkStored(t *testing.T, r *rig, want []json.RawMessage) {
	t.Helper()
	if len(r.stream.stored) != len(want) {
		t.Fatalf("%d events are stored, want %d", len(r.stream.stored), len(want))
	}
	for i, raw := range r.stream.stored {
		if strings.Contains(string(raw), "WK_fixture") || strings.Contains(string(raw), "wk_web") {
			t.Errorf("the key is in the event: %s", raw)
		}
		if _, err := event.ParseStored(raw); err != nil {
			t.Errorf("event %d cannot be read again: %v", i, err)
		}
		var got, wanted map[string]json.RawMessage
		if json.Unmarshal(raw, &got) != nil || json.Unmarshal(want[i], &wanted) != nil {
			t.Fatalf("%s\nwant %s", raw, want[i])
		}
		if string(wanted["id"]) == `"*"` && len(got["id"]) == 38 {
			wanted["id"] = got["id"]
		}
		for name := range got {
			if wanted[name] == nil {
				t.Errorf("event %d has %s %s, want none", i, name, got[name])
			}
		}
		for name := range wanted {
			if !sameJSON(t, got[name], wanted[name]) {
				t.Errorf("event %d has %s\n     %s\nwant %s", i, name, got[name], wanted[name])
			}
		}
	}
	r.wantLedger(uint64(len(want)), nil)
}
