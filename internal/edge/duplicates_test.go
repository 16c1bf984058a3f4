package edge

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/dedup"
)

// told is the stream of a rig behind a dedup.Filter: it passes skipped events
// over, and leaves nothing unknown.
type told struct{ *memoryStream }

func (s told) PutAndTell(ctx context.Context, b *stream.Batch, _ func(int, bool, error)) error {
	var rest stream.Batch
	var owner []int
	for i := range b.Len() {
		if !b.Skipped(i) {
			ev, err := event.ParseStored(b.Event(i))
			if err != nil {
				return err
			}
			rest.Add(&ev)
			owner = append(owner, i)
		}
	}
	err := s.Put(ctx, &rest)
	for n, i := range owner {
		b.Fail(i, rest.Err(n))
	}
	return err
}

// deduplicated is a rig whose gateway keeps duplicates from the stream.
func deduplicated(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, Config{})
	f, err := dedup.New(told{r.stream}, r.intake, dedup.Config{Window: time.Hour, MemoryBytes: dedup.MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	r.edge.stream = f
	return r
}

func TestAnEventThatIsSentAgainIsAnsweredAndStoredOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, path, body string
		first, second    string // the answers; %s is an id of ours
		stored           int    // after both
	}{
		{"an event", "/v1/events", `{"id":"order-1","name":"order_placed"}`,
			`{"accepted":1,"rejected":0,"ids":["order-1"],"ack":"stream"}`,
			`{"accepted":1,"rejected":0,"duplicates":1,"ids":["order-1"],"ack":"stream"}`, 1},
		{"some events without an id", "/v1/events", `[{"id":"order-1","name":"a"},{"name":"b"}]`,
			`{"accepted":2,"rejected":0,"ids":["order-1","ID"],"ack":"stream"}`,
			`{"accepted":2,"rejected":0,"duplicates":1,"ids":["order-1","ID"],"ack":"stream"}`, 3},
		{"one id twice", "/v1/events", `[{"id":"order-1","name":"a"},{"id":"order-1","name":"a"}]`,
			`{"accepted":2,"rejected":0,"duplicates":1,"ids":["order-1","order-1"],"ack":"stream"}`,
			`{"accepted":2,"rejected":0,"duplicates":2,"ids":["order-1","order-1"],"ack":"stream"}`, 1},
		{"an SDK", "/v1/batch", `{"batch":[{"type":"track","event":"a","userId":"u","messageId":"m-1"},{"type":"track","event":"b","userId":"u"}]}`,
			`{"success":true}`, `{"success":true}`, 3},
		{"a bad event beside it", "/v1/events", `[{"id":"order-1","name":"a"},{"id":"order-2","name":""}]`,
			`{"accepted":1,"rejected":1,"ids":["order-1",null],"errors":`,
			`{"accepted":1,"rejected":1,"duplicates":1,"ids":["order-1",null],"errors":`, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := deduplicated(t)
			for i, want := range []string{tc.first, tc.second} {
				a := r.post(tc.path, "wk_web", tc.body)
				body := strings.TrimSpace(a.body)
				for _, e := range r.events() {
					if len(e.ID) == 36 {
						body = strings.ReplaceAll(body, e.ID, "ID")
					}
				}
				if strings.HasSuffix(want, ":") {
					body = body[:min(len(want), len(body))]
				}
				if body != want || a.status >= 300 {
					t.Errorf("answer %d: %d %s, want %s", i+1, a.status, a.body, want)
				}
			}
			if got := r.events(); len(got) != tc.stored {
				t.Errorf("stored %d events, want %d: %+v", len(got), tc.stored, got)
			}
		})
	}
}

// The event could not be stored, and comes again.
func TestAnEventThatWasNotStoredIsNoDuplicate(t *testing.T) {
	t.Parallel()
	r := deduplicated(t)
	r.stream.refuse = func(stored) error { return &fault.Error{Kind: fault.Unavailable} }
	if a := r.post("/v1/events", "wk_web", `{"id":"order-1","name":"a"}`); a.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", a.status, a.body)
	}
	r.stream.refuse = nil
	if a := r.post("/v1/events", "wk_web", `{"id":"order-1","name":"a"}`); a.status != http.StatusAccepted || strings.Contains(a.body, "duplicates") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if got := r.events(); len(got) != 1 {
		t.Errorf("stored %+v", got)
	}
	r.wantLedger(1, map[string]uint64{"unavailable": 1})
}

func TestWhatIsReadmittedTwiceIsStoredOnce(t *testing.T) {
	t.Parallel()
	r := deduplicated(t)
	letter := func(id, code, event string) deadletter.Letter {
		return deadletter.Letter{
			ID: id, Destination: QuarantineName, Source: "web", FirstSeen: time.Now(), Class: "invalid", Code: code, Event: []byte(event),
			Request: "POST /v1/events",
		}
	}
	readmit := func(letters ...deadletter.Letter) string {
		return fmt.Sprint(r.edge.Readmit(t.Context(), letters))
	}
	ours, theirs := letter("l-1", "", `{"name":"a"}`), letter("l-2", "", `{"id":"order-1","name":"a"}`)
	if got := readmit(ours, theirs); got != "[<nil> <nil>]" || len(r.events()) != 2 {
		t.Errorf("%s; stored %+v", got, r.events())
	}
	// A crash came before the letters were deleted.
	if got := readmit(ours, theirs); got != "[<nil> <nil>]" || len(r.events()) != 2 {
		t.Errorf("again: %s; stored %+v", got, r.events())
	}
	// The sender has mended the event and sent it again; the letter is no other.
	if a := r.post("/v1/events", "wk_web", `{"id":"order-2","name":"a"}`); a.status != http.StatusAccepted {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if got := readmit(letter("l-3", "", `{"id":"order-2","name":"b"}`)); got != "[<nil>]" || len(r.events()) != 3 {
		t.Errorf("sent again: %s; stored %+v", got, r.events())
	}
	// The gateway accepted the event, and the stream did not take it from the
	// spool: it counts as stored, and is not.
	if a := r.post("/v1/events", "wk_web", `{"id":"order-3","name":"a"}`); a.status != http.StatusAccepted {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if got := readmit(letter("l-4", CodeStreamLimit, `{"id":"order-3","name":"a"}`)); got != "[<nil>]" || len(r.events()) != 5 {
		t.Errorf("refused by the stream: %s; stored %+v", got, r.events())
	}
}
