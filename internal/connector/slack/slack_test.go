package slack_test

import (
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
	"github.com/eventsluice/sluice/internal/connector/slack"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

var simulated = connectortest.Simulated{
	Vendor: slack.Kind, New: slack.New, Credentials: []string{"url"}, Secrets: []string{"url"},
	Settings: func(settings map[string]any) { settings["text"] = "/id" },
	IDs: func(items []simulator.Item) (ids []string) {
		for _, item := range items {
			ids = append(ids, item.Name)
		}
		return ids
	},
}

func TestConforms(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, simulated.Harness(map[connectortest.State]string{
		connectortest.Fussy: "a message has no id by which Slack could refuse it; TestAnswers has a refusal",
	}))
}

func TestEndures(t *testing.T) {
	t.Parallel()
	connectortest.Endure(t, connectortest.Ordeal{Simulated: simulated, CannotRefuse: true})
}

func open(t testing.TB, settings string) connector.Connector {
	t.Helper()
	conn, err := slack.New([]byte(settings), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func text(t testing.TB, settings string, e event.Event) string {
	t.Helper()
	plan := open(t, settings).Plan([]connector.Delivery{{Event: e, Raw: e.Append(nil)}})
	if len(plan.Calls) != 1 {
		t.Fatalf("%+v", plan)
	}
	var body struct{ Text string }
	if err := json.Unmarshal(plan.Calls[0].Payload.([]byte), &body); err != nil {
		t.Fatal(err)
	}
	return body.Text
}

func TestTheTextOfAMessage(t *testing.T) {
	t.Parallel()
	order := event.Event{
		ID: "e1", Type: event.TypeTrack, Name: "Order <!channel>", UserID: "u1", Timestamp: "2026-11-23T10:00:00Z",
		Data: []byte(`{"total":12.5,"coupon":null,"items":[{"sku":"a"}],"note":"5 < 6 & \"größer\""}`), Context: []byte(`{"traits":{"email":"Ann@Example.com"}}`),
	}
	for name, c := range map[string]struct {
		settings string
		event    event.Event
		want     string
	}{
		"the default": {`{"url":"https://hooks.slack.com/services/x"}`, order, "*Order &lt;!channel&gt;* · ann@example.com\ntotal: 12.5\nitems: [{\"sku\":\"a\"}]\nnote: 5 &lt; 6 &amp; \"größer\"\nemail: Ann@Example.com"},
		"an expression": {
			`{"url":"https://hooks.slack.com/services/x","text":"= '<!here> order of ' + string(event.data.total)"}`, order, "<!here> order of 12.5",
		},
		"only a name": {`{"url":"https://hooks.slack.com/services/x"}`, event.Event{ID: "e", Type: event.TypeTrack, Name: "hello"}, "*hello*"},
	} {
		if got := text(t, c.settings, c.event); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
	long := order
	long.Data = []byte(`{"a":"` + strings.Repeat("x", 100_000) + `"}`)
	if n := len(text(t, `{"url":"https://hooks.slack.com/services/x","text":"/data/a"}`, long)); n != 4000 {
		t.Errorf("a long text has %d characters", n)
	}
}

// What is escaped is not divided, and what would be cut is not made.
func TestALongMessageEndsWithAWholeCharacter(t *testing.T) {
	t.Parallel()
	for n := range 6 {
		var data strings.Builder
		data.WriteString(`{"n":"` + strings.Repeat("n", n) + `"`)
		for i := range 1000 {
			fmt.Fprintf(&data, `,"p%d":"%s"`, i, strings.Repeat("<&>", 30))
		}
		got := text(t, `{"url":"https://hooks.slack.com/services/x"}`, event.Event{ID: "e", Type: event.TypeTrack, Name: "n", Data: []byte(data.String() + "}")})
		if len(got) < 3990 || len(got) > 4000 {
			t.Errorf("%d characters", len(got))
		}
		if i := strings.LastIndexByte(got, '&'); !strings.Contains(got[i:], ";") {
			t.Errorf("it ends with %q", got[i:])
		}
	}
}

func TestRequestsAreThoseOfTheGoldenFiles(t *testing.T) {
	t.Parallel()
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = connectortest.RequestText(t, r)
		_, _ = w.Write([]byte("ok"))
	}))
	t.Cleanup(server.Close)
	conn := open(t, `{"url":"`+server.URL+`/services/T0/B0/secret-of-the-webhook"}`)
	e := event.Event{
		ID: "e1", Type: event.TypeTrack, Name: "Order Completed", UserID: "u1", Timestamp: "2026-11-23T10:00:00Z",
		Data: []byte(`{"total":12.50,"note":"größer & <besser>"}`), Context: []byte(`{"traits":{"email":"Ann@Example.com","plan":"pro"}}`),
	}
	if result := conn.Send(t.Context(), conn.Plan([]connector.Delivery{{Event: e, Raw: e.Append(nil)}}).Calls[0])[0]; result.Class != connector.Delivered {
		t.Errorf("%+v", result)
	}
	connectortest.Golden(t, "message", got)
}

// Slack is on the public Internet: a name that leads elsewhere is not called.
func TestPrivateAddressesAreRefused(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"https://10.1.2.3/services/x", "https://169.254.169.254/latest", "https://[fd00::1]/x"} {
		conn := open(t, `{"url":"`+url+`"}`)
		result := conn.Send(t.Context(), conn.Plan(connectortest.Plain(1)).Calls[0])[0]
		if result.Class != connector.Auth || result.Code != "private_address" || !strings.Contains(result.Message, "check the setting url") {
			t.Errorf("%s: %+v", url, result)
		}
	}
}

func TestAnAnswerThatRepeatsTheTokenDoesNotShowIt(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "secret-of-the-webhook of "+r.URL.Path+" is no token")
	}))
	t.Cleanup(server.Close)
	conn := open(t, `{"url":"`+server.URL+`/services/T0/B0/secret-of-the-webhook"}`)
	got := fmt.Sprintf("%+v", conn.Send(t.Context(), conn.Plan(connectortest.Plain(1)).Calls[0])[0])
	if strings.Contains(got, "secret-of") || strings.Contains(got, "T0/B0") || !strings.Contains(got, "*** of *** is no token") {
		t.Error(got)
	}
}

func TestSettingsNameEveryFaultAndNoSecret(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string][]string{
		`{}`: {"url: is required"},
		`{"url":"http://hooks.slack.com/hunter2","text":"hunter2","mapping":{"unmapped":"x"},"channel":"c"}`: {"channel: unknown setting", "url: must be https", "text", "mapping.unmapped"},
	} {
		conn, err := slack.New([]byte(settings), connector.Env{})
		if err == nil || conn != nil {
			t.Fatalf("%s: %v, %v", settings, conn, err)
		}
		for _, want := range want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not say %q:\n%v", want, err)
			}
		}
		if n := strings.Count(err.Error(), "\n") + 1; n != len(want) || strings.Contains(err.Error(), "slack.com/hunter2") {
			t.Errorf("%d faults, want %d, or a secret:\n%v", n, len(want), err)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add(200, "ok")
	f.Add(200, `{"ok":false,"error":7}`)
	f.Add(404, "<html>")
	var now struct {
		status int
		body   string
	}
	conn, err := slack.New([]byte(`{"url":"http://127.0.0.1:9/services/secret-of-the-webhook"}`), connector.Env{
		Dial: simulator.Dial(f.Context(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(now.status)
			_, _ = io.WriteString(w, now.body)
		})),
	})
	if err != nil {
		f.Fatal(err)
	}
	call := conn.Plan(connectortest.Plain(1)).Calls[0]
	f.Fuzz(func(t *testing.T, status int, answer string) {
		if status < 200 || status > 999 {
			return
		}
		now.status, now.body = status, answer
		results := conn.Send(t.Context(), call)
		if len(results) != 1 {
			t.Fatalf("%d results", len(results))
		}
		if r := results[0]; len(r.Code) > 64 || !r.Class.Settled() && (r.Code == "" || r.Message == "") {
			t.Errorf("%d %s: %+v", status, answer, r)
		}
	})
}

func TestAnEventWithoutTextIsADeadLetter(t *testing.T) {
	t.Parallel()
	e := event.Event{ID: "e1", Type: event.TypeTrack, Name: "n", Data: []byte(`{"other":1}`)}
	plan := open(t, `{"url":"https://hooks.slack.com/services/x","text":"/data/text"}`).Plan([]connector.Delivery{{Event: e, Raw: e.Append(nil)}})
	if len(plan.Done) != 1 || plan.Done[0].Result.Class != connector.Permanent || plan.Done[0].Result.Code != "no_text" {
		t.Errorf("%+v", plan)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		want   connector.Class
	}{
		"taken":                        {200, "ok", connector.Delivered},
		"a workflow's ok":              {200, `{"ok":true}`, connector.Delivered},
		"200 that is none":             {200, "queued", connector.Ambiguous},
		"200 without a word":           {200, "", connector.Ambiguous},
		"a page":                       {200, "<!doctype html>Sign in", connector.Auth},
		"the Web API's channel":        {200, `{"ok":false,"error":"channel_not_found"}`, connector.Auth},
		"the Web API's message":        {200, `{"ok":false,"error":"msg_too_long"}`, connector.Permanent},
		"a page that is not there":     {404, "<html>" + strings.Repeat("x", 5000), connector.Auth},
		"the Web API's no":             {200, `{"ok":false,"error":"internal_error"}`, connector.Retryable},
		"a message that is none":       {400, "invalid_payload", connector.Permanent},
		"a message without text":       {400, "no_text", connector.Permanent},
		"a webhook that was taken off": {403, "invalid_token", connector.Auth},
		"a channel that is not there":  {404, "channel_not_found", connector.Auth},
		"an archived channel":          {410, "channel_is_archived", connector.Auth},
		"too many":                     {429, "rate_limited", connector.Throttled},
		"a fault of Slack":             {500, "rollup_error", connector.Retryable},
		"a page of the edge":           {503, "<html>", connector.Retryable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", map[bool]string{true: "7"}[c.status == 429])
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			t.Cleanup(server.Close)
			conn := open(t, `{"url":"`+server.URL+`/services/T0/B0/secret-of-the-webhook"}`)
			result := conn.Send(t.Context(), conn.Plan(connectortest.Plain(1)).Calls[0])[0]
			if result.Class != c.want {
				t.Errorf("%+v, want %s", result, c.want)
			}
			if c.want == connector.Throttled && result.RetryAfter != 7*time.Second {
				t.Errorf("wait %s", result.RetryAfter)
			}
			if !result.Class.Settled() && c.status < 500 && c.status != 429 && !strings.Contains(result.Message, "Slack says") && result.Code != "not_slack" {
				t.Errorf("message %q", result.Message)
			}
			if len(result.Code) > 64 || strings.Contains(result.Code, "<") {
				t.Errorf("code %q", result.Code)
			}
			if result.Class == connector.Auth && !strings.Contains(result.Message, "check the setting url") {
				t.Errorf("message %q does not name the setting", result.Message)
			}
		})
	}
}
