package ga4

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

const goodSettings = `{"measurement_id":"G-TEST1","api_secret":"s3cret-of-a-stream"`

func open(t testing.TB, settings string) *Connector {
	t.Helper()
	conn, err := New(json.RawMessage(settings), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*Connector)
}

func toHandler(t testing.TB, handler http.HandlerFunc, more string) *Connector {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return open(t, goodSettings+fmt.Sprintf(`,"endpoint":%q%s}`, server.URL, more))
}

func send(ctx context.Context, t testing.TB, c *Connector, events []connector.Delivery) []connector.Result {
	t.Helper()
	plan := c.Plan(events)
	if len(plan.Calls) != 1 {
		t.Fatalf("%d calls, %+v", len(plan.Calls), plan.Done)
	}
	return c.Send(ctx, plan.Calls[0])
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status  int
		more    string
		events  int
		want    connector.Class
		setting string // named in the message
	}{
		{200, "", 2, connector.Delivered, ""},
		{204, "", 2, connector.Delivered, ""},
		{301, "", 1, connector.Auth, "endpoint"},
		{400, "", 1, connector.Permanent, ""},
		{400, "", 2, connector.TooLarge, ""}, // halved until the one at fault is alone
		{401, "", 1, connector.Auth, "api_secret"},
		{403, "", 1, connector.Auth, "api_secret"},
		{404, "", 2, connector.Auth, "endpoint"},
		{405, "", 1, connector.Auth, "endpoint"},
		{408, "", 1, connector.Retryable, ""},
		{413, "", 2, connector.TooLarge, ""},
		{429, "", 1, connector.Throttled, ""},
		{500, "", 1, connector.Retryable, ""},
		{503, "", 2, connector.Retryable, ""},
		{504, "", 1, connector.Ambiguous, ""},
		{429, `,"retry_refused":false`, 2, connector.Permanent, "retry_refused"},
		{503, `,"retry_refused":false`, 2, connector.Permanent, "retry_refused"},
		{504, `,"retry_refused":false`, 1, connector.Ambiguous, ""},
	} {
		t.Run(fmt.Sprintf("%d for %d%s", tt.status, tt.events, tt.more), func(t *testing.T) {
			t.Parallel()
			c := toHandler(t, func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.status)
				if tt.status >= 400 {
					fmt.Fprint(w, "cannot serve ", req.URL)
				}
			}, tt.more)
			events := connectortest.Today(1)
			for len(events) < tt.events {
				events = append(events, events[0])
			}
			results := send(t.Context(), t, c, events)
			if len(results) != tt.events {
				t.Fatalf("%d results", len(results))
			}
			for _, r := range results {
				if r.Class != tt.want || r.Status != tt.status || !strings.Contains(r.Message, tt.setting) {
					t.Errorf("%+v, want %s that names %q", r, tt.want, tt.setting)
				}
				if text := fmt.Sprintf("%+v", r); strings.Contains(text, "s3cret") {
					t.Errorf("shows the secret: %s", text)
				}
			}
		})
	}
}

func TestErrorsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	got := send(t.Context(), t, open(t, goodSettings+fmt.Sprintf(`,"endpoint":%q}`, closed.URL)), connectortest.Today(1))[0]
	if got.Class != connector.Retryable || got.Code != "connect" || strings.Contains(fmt.Sprintf("%+v", got), "s3cret") {
		t.Errorf("nobody listens: %+v", got)
	}
	for name, more := range map[string]string{"kept": "", "dropped": `,"retry_refused":false`} {
		c := toHandler(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, more)
		if c.Limits().Dedups {
			t.Error("the limits say that repetitions do no harm")
		}
		if got := send(t.Context(), t, c, connectortest.Today(1))[0]; got.Class != connector.Ambiguous {
			t.Errorf("%s: the answer is lost: %+v", name, got)
		}
	}
}

func TestWhatIsTooOldWhenItIsSentIsLeftOutOfTheCall(t *testing.T) {
	t.Parallel()
	var bodies []string
	c := toHandler(t, func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		bodies = append(bodies, string(body))
		w.WriteHeader(http.StatusServiceUnavailable)
	}, "")
	at := func(id string, ago time.Duration) connector.Delivery {
		when := time.Now().Add(-ago).UTC().Format(time.RFC3339)
		return connector.Delivery{Event: event.Event{ID: id, Type: event.TypeTrack, Name: "n", UserID: "u1", Timestamp: when, ReceivedAt: when}}
	}
	results := send(t.Context(), t, c, []connector.Delivery{at("old", 73*time.Hour), at("young", time.Hour)})
	if results[0].Class != connector.Permanent || results[0].Code != "too_old" || results[1].Class != connector.Retryable {
		t.Errorf("%+v", results)
	}
	if len(bodies) != 1 || strings.Contains(bodies[0], `"old"`) || !strings.Contains(bodies[0], `"young"`) {
		t.Errorf("%q", bodies)
	}
	if results = send(t.Context(), t, c, []connector.Delivery{at("old", 73*time.Hour)}); results[0].Code != "too_old" || len(bodies) != 1 {
		t.Errorf("%+v, %d calls", results, len(bodies))
	}
}

func TestWhatWasCutIsSaidOfADeliveredEvent(t *testing.T) {
	t.Parallel()
	c := toHandler(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, "")
	d := connectortest.Today(1)
	d[0].Event.Data = json.RawMessage(`{"ga_x":1,"text":"` + strings.Repeat("x", 101) + `"}`)
	got := send(t.Context(), t, c, d)[0]
	if got.Class != connector.Delivered || got.Message != "left out: ga_x; cut to the length allowed: text" {
		t.Errorf("%+v", got)
	}
}

func TestAnEventIsTriedOutWithGooglesValidation(t *testing.T) {
	t.Parallel()
	v, err := simulator.New(Kind)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	conn, err := New(v.Settings(server.URL), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	c := conn.(*Connector)
	t.Cleanup(func() { _ = c.Close() })
	got := c.Test(t.Context(), connectortest.Today(1)[0])
	if got.Class != connector.Delivered || !strings.Contains(got.Message, "does not look at api_secret") {
		t.Errorf("%+v", got)
	}
	if n := len(v.Received()); n > 0 {
		t.Errorf("the validation has kept %d events", n)
	}
	nobody := connectortest.Today(1)[0]
	nobody.Event.UserID, nobody.Event.AnonymousID = "", ""
	if got := c.Test(t.Context(), nobody); got.Code != "no_identity" {
		t.Errorf("%+v", got)
	}
	v.Trouble(simulator.Trouble{Away: true})
	if got := c.Test(t.Context(), connectortest.Today(1)[0]); got.Class != connector.Retryable {
		t.Errorf("%+v", got)
	}
}

func TestComplaintsOfTheValidationAreExplained(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		code, want   string
	}{
		{"one", `{"validationMessages":[{"fieldPath":"events.params.x","description":"Event at index: [0] has invalid value.","validationCode":"VALUE_INVALID"}]}`,
			"VALUE_INVALID", "events.params.x has a value that is not allowed (Event at index: [0] has invalid value.)"},
		{"several, of the request", `{"validationMessages":[{"description":"a","validationCode":"EXCEEDED_MAX_ENTITIES"},{"fieldPath":"events","description":"b","validationCode":"NEW_CODE"}]}`,
			"EXCEEDED_MAX_ENTITIES", "the request has too many parts (a); events NEW_CODE (b)"},
		{"not JSON", `<html>`, "answer", "is not that of Google's validation"},
		{"nothing", ``, "answer", "is not that of Google's validation"},
		{"another object", `{"ok":true}`, "answer", "is not that of Google's validation"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := toHandler(t, func(w http.ResponseWriter, req *http.Request) {
				body, _ := io.ReadAll(req.Body)
				if req.URL.Path != "/debug/mp/collect" || !strings.Contains(string(body), `"validation_behavior":"ENFORCE_RECOMMENDATIONS"`) {
					t.Errorf("%s %s", req.URL.Path, body)
				}
				fmt.Fprint(w, tt.answer)
			}, "")
			got := c.Test(t.Context(), connectortest.Today(1)[0])
			if got.Class != connector.Permanent || got.Code != tt.code || !strings.Contains(got.Message, tt.want) {
				t.Errorf("%+v\nwant %s", got, tt.want)
			}
		})
	}
}

func TestAddressesByRegion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ more, want string }{
		{`}`, "https://www.google-analytics.com"},
		{`,"region":"eu"}`, "https://region1.google-analytics.com"},
		{`,"region":"eu","endpoint":"https://proxy.example/ga"}`, "https://proxy.example/***"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		got := send(ctx, t, open(t, goodSettings+tt.more), connectortest.Today(1))[0]
		if !strings.HasPrefix(got.Request, "POST "+tt.want) {
			t.Errorf("%s: %s", tt.more, got.Request)
		}
	}
}

func TestSettingsNameEveryFaultAndNoSecret(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, settings string
		want           []string
	}{
		{"nothing", `{}`, []string{"api_secret: is required", "measurement_id: is required, or firebase_app_id"}},
		{"both streams", goodSettings + `,"firebase_app_id":"1:2:ios:3"}`, []string{"firebase_app_id: there is a measurement_id too"}},
		{"many", `{"measurement_id":"G-1&api_secret=x","api_secret":"hunter2hunter2","region":"mars","endpoint":"http://hunter2.example","consent":{"ad_user_data":"maybe"},"currency":"hunter2","event_id_parameter":"Hunter2","without_identity":"x"}`,
			[]string{"measurement_id: may have", "region: must be one of global, eu", "endpoint: must be https", "consent.ad_user_data: must be one of granted, denied", "currency: must be three", "event_id_parameter: must be small letters", "without_identity: must be one of"}},
	} {
		_, err := New(json.RawMessage(tt.settings), connector.Env{})
		if err == nil {
			t.Errorf("%s: no error", tt.name)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q:\n%v", tt.name, want, err)
			}
		}
		if n := strings.Count(err.Error(), "\n") + 1; n != len(tt.want) || strings.Contains(err.Error(), "unter2") {
			t.Errorf("%s: %d faults, want %d:\n%v", tt.name, n, len(tt.want), err)
		}
	}
}

func TestAppStreamsKeepTheColonsOfTheirID(t *testing.T) {
	t.Parallel()
	var query string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		query = req.URL.RawQuery
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	c := open(t, fmt.Sprintf(`{"firebase_app_id":"1:23:android:ab","api_secret":"a b&c=d","endpoint":%q}`, server.URL))
	d := connectortest.Today(1)
	d[0].Event.AnonymousID = "0123456789abcdef0123456789abcdef"
	if got := send(t.Context(), t, c, d)[0]; got.Class != connector.Delivered || query != "firebase_app_id=1:23:android:ab&api_secret=a+b%26c%3Dd" {
		t.Errorf("%+v, %s", got, query)
	}
}

func FuzzComplaints(f *testing.F) {
	f.Add([]byte(`{"validationMessages":[{"fieldPath":"a","description":"b","validationCode":"VALUE_INVALID"}]}`))
	f.Add([]byte(`{"validationMessages":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(_ *testing.T, answer []byte) {
		if list, ok := decodeComplaints(answer); ok {
			explain(list)
		}
	})
}
