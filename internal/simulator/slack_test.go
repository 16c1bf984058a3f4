package simulator

import (
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func message(changes ...any) request {
	return request{path: slackPath, body: asked(changed(object{"text": "Signed Up"}, changes))}
}

func section(words string) object {
	return object{"type": "section", "text": object{"type": "mrkdwn", "text": words}}
}

func TestSlackSaysOkToMessages(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "slack", nil)
	got := v.call(t, message())
	got.wants(t, 200, "ok")
	if got.body != "ok" {
		t.Errorf("body %q", got.body)
	}
	v.call(t, message("text", nil, "blocks", many(50, section(strings.Repeat("x", 3000))))).wants(t, 200, "ok")
	v.call(t, message("text", "", "attachments", []any{object{"text": "x"}})).wants(t, 200, "ok")
	v.call(t, message("text", strings.Repeat("é", 40_001))).wants(t, 200, "ok")
	v.call(t, request{path: slackPath, body: "payload=" + url.QueryEscape(`{"text":"a form"}`), header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}).wants(t, 200, "ok")
	v.wantItems(t, "message Signed Up  ", "message   ", "message   ", "message "+strings.Repeat("é", 40_000)+"  ", "message a form  ")
}

func TestSlackRefusesInPlainText(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		request
		status int
		says   string
	}{
		"another webhook":  {request{path: "/services/T0/B0/x", body: `{"text":"x"}`}, 404, "no_service"},
		"a read":           {request{method: "GET", path: slackPath}, 405, "method_not_allowed"},
		"not JSON":         {request{path: slackPath, body: "{"}, 400, "invalid_payload"},
		"a list":           {request{path: slackPath, body: "[]"}, 400, "invalid_payload"},
		"text as number":   {message("text", 1), 400, "invalid_payload"},
		"nothing":          {message("text", nil), 400, "no_text"},
		"51 blocks":        {message("blocks", many(51, section("x"))), 400, "invalid_blocks"},
		"no block":         {message("blocks", []any{}), 400, "invalid_blocks"},
		"block of no type": {message("blocks", []any{object{}}), 400, "invalid_blocks"},
		"long section":     {message("blocks", []any{section(strings.Repeat("x", 3001))}), 400, "invalid_blocks"},
		"empty section":    {message("blocks", []any{section("")}), 400, "invalid_blocks"},
		"long header":      {message("blocks", []any{object{"type": "header", "text": object{"type": "plain_text", "text": strings.Repeat("x", 151)}}}), 400, "invalid_blocks"},
		"header in mrkdwn": {message("blocks", []any{object{"type": "header", "text": object{"type": "mrkdwn", "text": "x"}}}), 400, "invalid_blocks"},
		"many attachments": {message("attachments", many(101, object{})), 400, "too_many_attachments"},
		"refused":          {message("text", "bad"), 400, "invalid_payload"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t, "slack", nil)
			v.Trouble(Trouble{Refuse: func(text string) bool { return text == "bad" }})
			got := v.call(t, test.request)
			got.wants(t, test.status)
			if got.body != test.says || got.header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%+v, want %q", got, test.says)
			}
			v.wantItems(t)
		})
	}
}

func TestSlackTakesOneMessageASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t, "slack", nil)
		for range slackBurst {
			v.call(t, message()).wants(t, 200, "ok")
		}
		time.Sleep(8500 * time.Millisecond)
		got := v.call(t, message())
		got.wants(t, 429, "rate_limited")
		if after := got.header.Get("Retry-After"); after != "2" {
			t.Errorf("Retry-After %q", after)
		}
		time.Sleep(2 * time.Second)
		v.call(t, message()).wants(t, 200, "ok")
		v.Unlimited()
		for range 3 * slackBurst {
			v.call(t, message()).wants(t, 200, "ok")
		}
	})
}

// A status of 200 is not always a yes.
func TestSlackMaySayNoWith200(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "slack", nil)
	for status, says := range map[int]string{200: `"ok":false`, 403: "action_prohibited", 404: "no_service", 410: "channel_is_archived", 500: "rollup_error"} {
		v.Trouble(Trouble{Status: status})
		v.call(t, message()).wants(t, status, says)
	}
	v.wantItems(t)
}
