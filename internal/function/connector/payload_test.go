package connector_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/grave"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	function "github.com/eventsluice/sluice/internal/function/connector"
)

// FuzzDecode: whatever a function is invoked with, each byte of it ends in a
// letter: of an event, of one that has waited, or of bytes; and a letter of it
// that waits is the same letter when it comes back.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		one("e1", "u1"), many(one("e1", "u1"), `7`, `{"name":"x"}`), `[]`, ` [`, `[1,`, ``, "\xff", `null`, `{"name":""}`,
		`{"id":"e1","destination":"crm","class":"held","attempts":2,"event":{"name":"x"},"not_before":"2026-11-23T10:00:00Z"}`,
		`{"id":"e1","destination":"crm","class":"held","attempts":2,"raw":"AAA="}`,
		`{"id":"e1","destination":"crm","class":"x","attempts":-2,"claim":{"bucket":"b","key":"k"}}`,
		`{"id":"e1","destination":"crm","class":"x","attempts":1e99,"event":null}`,
		"{\"name\":\"\uFFFE\"}", `[[{"name":"x"}]]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		letters := function.Decode(body, deadletter.Letter{ARN: "arn"}, "request")
		trimmed := bytes.TrimSpace(body)
		var elements []json.RawMessage
		isArray := len(trimmed) > 0 && trimmed[0] == '[' && json.Unmarshal(body, &elements) == nil
		if isArray && len(letters) != len(elements) || !isArray && len(letters) != 1 {
			t.Fatalf("%d letters of %q", len(letters), body)
		}
		for i, l := range letters {
			part := body
			if isArray {
				part = elements[i]
			}
			whole := bytes.Equal(l.Event, part) || bytes.Equal(l.Raw, part)
			waited := l.Destination != "" && l.Class != ""
			if l.ID == "" || l.ARN == "" || !whole && !waited {
				t.Fatalf("%+v of %q", l, part)
			}
			if _, err := event.ParseStored(part); (err == nil) == (len(l.Event) == 0 || waited) {
				t.Fatalf("%q: %v, and the letter is %+v", part, err, l)
			}
			if len(l.Event) == 0 {
				continue // it does not wait
			}
			l.Destination, l.Class = "crm", "held"
			m, err := grave.Encode(l)
			if err != nil {
				if len(part) < 1<<19 {
					t.Fatalf("%+v cannot be sent: %v", l, err)
				}
				continue
			}
			back := function.Decode([]byte(m.Body), deadletter.Letter{}, "other")
			if len(back) != 1 || back[0].ID != l.ID || back[0].Attempts != l.Attempts || !sameJSON(append(back[0].Event, back[0].Raw...), l.Event) {
				t.Fatalf("%+v came back as %+v", l, back)
			}
		}
	})
}

func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	return strings.NewReplacer("\uFFFE", `\ufffe`, "\uFFFF", `\uffff`).Replace(string(b)) == string(a)
}

// Lambda delivers asynchronous invocations, and SQS messages, more than once.
// The id of the event reaches the destination each time, so that it can tell.
func TestADuplicateInvocationIsTheSameEvent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var ids []string
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, q.Header.Get("Webhook-Id"))
	}))
	defer receiver.Close()
	r := openRig(t)
	f, err := function.New(t.Context(), r.aws.SDK(), append(env("SETTINGS_URL="+receiver.URL, "SETTINGS_ALLOW_PRIVATE=true"), "CONNECTOR=webhook"), slog.New(slog.NewJSONHandler(r.log, nil)), r.metrics)
	if err != nil {
		t.Fatal(err)
	}
	r.f = f
	for range 2 {
		if c, err := r.invoke(one("e1", "u1")); err != nil || c.Delivered != 1 {
			t.Errorf("%v, %+v, %s", err, c, r.log)
		}
	}
	r.send(source, `{"name":"no id of its own"}`, "")
	for range 2 {
		messages := r.sqs.Receive(source, 1, time.Nanosecond) // visible again at once
		if _, err := f.Handle(t.Context(), messageEvent(r.sqs.ARN(source), messages)); err != nil {
			t.Error(err)
		}
	}
	if len(ids) != 4 || ids[0] != "e1" || ids[1] != "e1" || ids[2] == "" || ids[2] != ids[3] {
		t.Errorf("the destination saw %q", ids)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
