package slack_test

import (
	"encoding/json"
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
		"200 that is none":             {200, "queued", connector.Retryable},
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
			if !result.Class.Settled() && c.status < 500 && c.status != 429 && !strings.Contains(result.Message, "Slack says") {
				t.Errorf("message %q", result.Message)
			}
		})
	}
}
