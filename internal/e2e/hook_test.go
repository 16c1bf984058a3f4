package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// hook is the receiver of a webhook; it remembers what it got.
type hook struct {
	server *httptest.Server
	// answer chooses the status of a request by the event's name and how often
	// its id came before. Nil is 204 for all.
	answer func(name string, before int) int

	mu sync.Mutex
	// got holds the requests of each event by its id, order the ids of the
	// events that were taken.
	got   map[string][]received
	order []string
}

// received is one request of the webhook connector.
type received struct {
	at     time.Time
	status int
}

// newHook starts a receiver; it ends with the test.
func newHook(t *testing.T, answer func(name string, before int) int) *hook {
	t.Helper()
	h := &hook{answer: answer, got: map[string][]received{}}
	h.server = httptest.NewServer(h)
	t.Cleanup(h.server.Close)
	return h
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var e struct{ ID, Name string }
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	status := http.StatusNoContent
	h.mu.Lock()
	if h.answer != nil {
		status = h.answer(e.Name, len(h.got[e.ID]))
	}
	h.got[e.ID] = append(h.got[e.ID], received{at: time.Now(), status: status})
	if status/100 == 2 {
		h.order = append(h.order, e.ID)
	}
	h.mu.Unlock()
	w.WriteHeader(status)
}

// of returns the requests for an event in their order.
func (h *hook) of(id string) []received {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]received(nil), h.got[id]...)
}

// taken returns the ids of the events that were answered 2xx, in that order.
func (h *hook) taken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.order...)
}
