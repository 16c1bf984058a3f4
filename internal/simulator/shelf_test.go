package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReceivedKeepsTheLatest(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "gtm", nil)
	for i := range 5 {
		v.call(t, request{path: "/data", body: fmt.Sprintf(`{"name":"n%d"}`, i)})
	}
	v.Keep(3)
	v.wantItems(t, "event n2  ", "event n3  ", "event n4  ")
	v.call(t, request{path: "/data", body: `{"name":"n5"}`})
	v.wantItems(t, "event n3  ", "event n4  ", "event n5  ")
	if n := v.Counts().Taken; n != 6 {
		t.Errorf("%d counted", n)
	}
	v.Keep(0)
	v.wantItems(t)
}

func TestTheShelfIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	q := shelved[int]{most: 1000}
	for i := range 300 {
		q.put(i, 1<<20)
	}
	if len(q.values) != 256 || q.values[0] != 44 || q.bytes != keepBytes || len(q.sizes) != 256 {
		t.Errorf("%d values from %d, %d bytes", len(q.values), q.values[0], q.bytes)
	}
}

func TestSeenForgetsTheOldestKeysOnly(t *testing.T) {
	t.Parallel()
	s := newSeen(0)
	s.order.most = 3
	now := time.Now()
	for _, key := range []string{"a", "b", "c", "d"} {
		if !s.add(now, key) {
			t.Errorf("%s is not new", key)
		}
	}
	if s.add(now, "b") || s.add(now, "d") || !s.add(now, "a") || len(s.when) != 3 {
		t.Errorf("%d keys", len(s.when))
	}
	// Parts are parts.
	if !s.add(now, "x", "yz") || !s.add(now, "xy", "z") {
		t.Error("two keys are one")
	}
}

func TestSeenRemembersForAsLongAsItsWindow(t *testing.T) {
	t.Parallel()
	s := newSeen(time.Hour)
	s.order.most = 2
	now := time.Now()
	for i, test := range []struct {
		after time.Duration
		isNew bool
	}{{0, true}, {59 * time.Minute, false}, {time.Hour, true}, {119 * time.Minute, false}} {
		if got := s.add(now.Add(test.after), "a"); got != test.isNew {
			t.Errorf("%d: new %v", i, got)
		}
	}
	s.add(now, "b")
	s.add(now, "c")
	if len(s.when) != 2 || len(s.order.values) != 2 {
		t.Errorf("%d keys, %d in order", len(s.when), len(s.order.values))
	}
}

// The page is for people, and what arrives may be of anybody.
func TestThePageShowsWhatArrivedAndEscapesIt(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "ga4", nil)
	evil := `<script>alert(1)</script>`
	v.call(t, request{path: ga4Collect, body: hit([]any{ga4Event("1", "params", object{"event_id": "id-early"}), ga4Event(evil)}, "user_id", evil)})
	v.call(t, request{path: ga4Collect, body: evil})
	v.call(t, request{path: ga4Collect, body: hit([]any{ga4Event("long", "params", object{"event_id": "id-late", "items": many(150, object{"item_id": "ééééééé"})})})})
	got := v.call(t, request{method: "GET", path: "/"})
	got.wants(t, 200, "Simulated ga4", "3 calls", "3 items taken", "1 dropped", "the body is not JSON", "&lt;script&gt;", "…")
	if strings.Contains(got.body, "<script") || got.header.Get("Content-Security-Policy") != "default-src 'none'" || got.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%s\n%s", got.header, got.body)
	}
	if strings.Index(got.body, "id-late") > strings.Index(got.body, "id-early") {
		t.Error("the newest is not first")
	}
	if c := v.Counts(); c.Calls != 3 {
		t.Errorf("the page counts as a call: %+v", c)
	}
	if strings.Contains(got.body, "\uFFFD") {
		t.Error("a character is cut")
	}
}

// Programs ask for JSON and get how much there is of what.
func TestProgramsGetASummary(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "ga4", nil)
	v.call(t, request{path: ga4Collect, body: hit([]any{ga4Event("1", "name", "bought"), ga4Event("2", "name", "seen"), ga4Event("last", "name", "seen")})})
	got := v.call(t, request{method: "GET", path: "/", header: map[string]string{"Accept": "application/json"}})
	var s struct {
		Vendor string
		Counts struct{ Calls, Taken int }
		ByName []struct {
			Kind, Name string
			Items      int
			Newest     struct{ ID string }
		} `json:"by_name"`
	}
	if err := json.Unmarshal([]byte(got.body), &s); err != nil {
		t.Fatalf("%v\n%s", err, got.body)
	}
	if s.Vendor != "ga4" || s.Counts.Calls != 1 || s.Counts.Taken != 3 || len(s.ByName) != 2 ||
		s.ByName[0].Name != "seen" || s.ByName[0].Items != 2 || s.ByName[0].Newest.ID != "last" || s.ByName[1].Name != "bought" {
		t.Errorf("%+v", s)
	}
}

// The vendor also serves over the network, as `sluice up --simulate` does.
func TestAVendorServesOverTheNetwork(t *testing.T) {
	t.Parallel()
	v, err := New("hubspot")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	var settings struct {
		AccessToken string `json:"access_token"`
		Endpoint    string
	}
	if err := json.Unmarshal(v.Settings(server.URL), &settings); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, settings.Endpoint+hubspotSend, strings.NewReader(inputs(completion("1"))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+settings.AccessToken)
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 204 || len(v.Received()) != 1 {
		t.Errorf("%s, received %v", resp.Status, v.Received())
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v, err := New("gtm")
		if err != nil {
			t.Fatal(err)
		}
		v.Trouble(Trouble{Hang: true})
		ctx, cancel := context.WithCancel(t.Context())
		dial := Dial(ctx, v)
		transport := &http.Transport{DialContext: dial}
		defer transport.CloseIdleConnections()
		ended := make(chan error)
		go func() {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/data", strings.NewReader("{}"))
			_, err := transport.RoundTrip(req)
			ended <- err
		}()
		synctest.Wait() // it hangs
		cancel()
		if err := <-ended; err == nil {
			t.Error("an answer")
		}
		synctest.Wait()
		if _, err := dial(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial: %v", err)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := Dial(t.Context(), v)(gone, "tcp", "127.0.0.1:1"); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("dial: %v", err)
		}
	})
}
