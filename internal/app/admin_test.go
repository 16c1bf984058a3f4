package app

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

func TestWithoutATokenOnlyThisMachineIsAnswered(t *testing.T) {
	t.Parallel()
	handler := protect("", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for _, c := range []struct {
		name, host, origin string
		want               int
	}{
		{"a command on this machine", "127.0.0.1:8081", "", http.StatusOK},
		{"a browser at the console", "localhost:8081", "http://localhost:8081", http.StatusOK},
		{"IPv6", "[::1]:8081", "", http.StatusOK},
		{"a page whose name was rebound to this machine", "evil.example:8081", "http://evil.example:8081", http.StatusForbidden},
		{"a page of another origin", "127.0.0.1:8081", "https://evil.example", http.StatusForbidden},
		{"a page of another port", "127.0.0.1:8081", "http://127.0.0.1:3000", http.StatusForbidden},
		{"a sandboxed page", "127.0.0.1:8081", "null", http.StatusForbidden},
	} {
		r := httptest.NewRequest(http.MethodPost, "/api/deadletters/purge", nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.want)
		}
	}
}

func TestWithATokenNobodyComesInWithoutIt(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	handler := protect(token, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for given, want := range map[string]int{
		"":                http.StatusUnauthorized,
		"Bearer ":         http.StatusUnauthorized,
		"Bearer wrong":    http.StatusUnauthorized,
		token:             http.StatusUnauthorized,
		"Bearer " + token: http.StatusOK,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("Authorization", given)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Authorization %q: %d, want %d", given, w.Code, want)
		}
		if want == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("Authorization %q: the refusal does not say how to come in", given)
		}
	}
}

func TestAnOrderIsJSONAndNothingElse(t *testing.T) {
	t.Parallel()
	act := func(context.Context, string, deadletter.Order, func(deadletter.Progress)) (deadletter.Progress, error) {
		return deadletter.Progress{Done: 1}, nil
	}
	for _, c := range []struct{ kind, body, want string }{
		{"application/json", `{"destination":"crm"}`, `"done":1`},
		{"application/json; charset=utf-8", `{"destination":"crm","dry_run":true}`, `"done":1`},
		{"text/plain", `{"destination":"crm"}`, "must be application/json"},
		{"", `{"destination":"crm"}`, "must be application/json"},
		{"application/json", `{"to_whom":"crm"}`, "to_whom"},
		{"application/json", ``, "EOF"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/api/deadletters/purge", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		w := httptest.NewRecorder()
		carryOut(w, r, act)
		if !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%q as %q: %s", c.body, c.kind, w.Body)
		}
	}
}

func TestProgressIsAStreamForThoseWhoAskAndItsEndForOthers(t *testing.T) {
	t.Parallel()
	failure := fault.New(fault.Unavailable, "the destination stopped")
	act := func(_ context.Context, _ string, _ deadletter.Order, report func(deadletter.Progress)) (deadletter.Progress, error) {
		for done := range 3 {
			if report != nil {
				report(deadletter.Progress{Done: done})
			}
		}
		return deadletter.Progress{Done: 2}, failure
	}
	ask := func(accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/api/deadletters/replay", strings.NewReader(`{}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		carryOut(w, r, act)
		return w
	}
	if w := ask(""); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "the destination stopped") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	streamed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { carryOut(w, r, act) }))
	defer streamed.Close()
	var seen []int
	progress, err := remoteDesk{client: &client{base: streamed.URL, http: streamed.Client()}, path: ""}.
		Replay(t.Context(), "crm", deadletter.Order{}, func(p deadletter.Progress) { seen = append(seen, p.Done) })
	if progress.Done != 2 || len(seen) != 4 || fault.KindOf(err) != fault.Unavailable {
		t.Errorf("progress %+v after %v, error %v", progress, seen, err)
	}
}

func TestAProgressThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"done":1}` + "\n" + `{"do`))
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	_, err := remoteDesk{client: &client{base: server.URL, http: server.Client()}}.Purge(t.Context(), "crm", deadletter.Order{}, nil)
	if !errors.Is(err, errNoAnswer) {
		t.Errorf("error %v", err)
	}
}

func TestAFilterSurvivesTheQuery(t *testing.T) {
	t.Parallel()
	want := deadletter.Filter{
		Class: "permanent", EventName: "order_*", EventID: "e1", IDs: []string{"1.0.0", "2.0.0"},
		Since: time.Date(2026, 11, 1, 0, 0, 0, 5, time.UTC), Until: time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC),
	}
	got, err := parseFilter(filterQuery(want))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("got %s, want %s", a, b)
	}
	if _, err := parseFilter(map[string][]string{"since": {"yesterday"}}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("since=yesterday: %v", err)
	}
}

func TestAProblemComesBackAsTheFaultItWasMadeOf(t *testing.T) {
	t.Parallel()
	for kind := range statusOf {
		err := problemOf(fault.New(kind, "why")).fault()
		if fault.KindOf(err) != kind || !strings.Contains(err.Error(), "why") {
			t.Errorf("%v came back as %v: %v", kind, fault.KindOf(err), err)
		}
	}
}
