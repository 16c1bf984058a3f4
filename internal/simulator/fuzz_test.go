package simulator

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// answered serves one request without a connection. It fails the test on a panic
// other than the one that cuts a connection, and if there is no proper answer.
func answered(t *testing.T, v *Vendor, method, path, contentType, encoding string, header map[string]string, body string) (lost bool, status int) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1/", strings.NewReader(body))
	if err := setTarget(req, path); err != nil {
		return false, 0 // no server would take it
	}
	req.Header.Set("Content-Type", contentType)
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if r := recover(); r != nil {
				if r != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
					panic(r)
				}
				lost = true
			}
		}()
		v.ServeHTTP(w, req)
	}()
	if lost {
		return true, 0
	}
	if w.Code < 200 || w.Code > 599 {
		t.Errorf("status %d", w.Code)
	}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/") {
		answer, _ := io.ReadAll(w.Body)
		if _, err := decode(answer); err != nil {
			t.Errorf("the answer %q is not JSON: %v", answer, err)
		}
	}
	return false, w.Code
}

func setTarget(req *http.Request, path string) error {
	u, err := req.URL.Parse("http://127.0.0.1/" + strings.TrimPrefix(path, "/"))
	if err != nil {
		return err
	}
	req.URL, req.RequestURI = u, u.RequestURI()
	return nil
}

// Whatever a client sends is answered, and never with a panic; what is taken is
// JSON and adds up.
func FuzzRequests(f *testing.F) {
	kinds := Kinds()
	seed := func(kind, method, path, body string) {
		for i, k := range kinds {
			if k == kind {
				f.Add(uint8(i), method, path, "application/json", "", body, uint64(0))
				f.Add(uint8(i), method, path, "application/json", "gzip", body, uint64(99))
			}
		}
	}
	seed("mixpanel", "POST", "/import?strict=1", `[{"event":"x","properties":{"time":1e3,"distinct_id":"","$insert_id":"x","a":{"b":[1e999999999,null]}}}]`)
	seed("mixpanel", "POST", "/import", `[1,"x",null,{"event":""}]`)
	seed("mixpanel", "POST", "/engage?verbose=1", `[{"$token":"t","$distinct_id":"u","$set":{}}]`)
	seed("mixpanel", "POST", "/groups?strict=1", `[{"$token":"t","$group_key":"u","$group_id":"x","$unset":["a"]}]`)
	seed("hubspot", "POST", hubspotSend, inputs(completion("1")))
	seed("hubspot", "POST", hubspotUpsert, inputs(contact("a@b.co", "e1"), contact("x", "")))
	seed("hubspot", "POST", "/events/v3/send", `{"eventName":"pe1_x"}`)
	seed("ga4", "POST", ga4Collect, `{"client_id":"c","timestamp_micros":1e99,"events":[{"name":"x","params":{"a b":1}},{"name":1}]}`)
	seed("ga4", "POST", "/debug/mp/collect", `{"events":{"0":{}}}`)
	seed("gtm", "POST", "/data?event_id=1&x=%00", `{"event":"x"}`)
	seed("gtm", "POST", "/mp/collect", `[]`)
	seed("mailchimp", "PUT", memberPath("a@b.co"), `{"email_address":"a@b.co","status_if_new":"pending","merge_fields":{"ADDRESS":{}}}`)
	seed("mailchimp", "POST", "/3.0/batches", `{"operations":[{"method":"POST","path":"/lists/`+mailchimpList+`","body":"{\"members\":[{\"email_address\":\"x\"}]}"}]}`)
	seed("mailchimp", "POST", memberPath("%2F%zz")+"/events", `{"name":"xx"}`)
	seed("webhook", "POST", "/events", `{"name":1}`)
	seed("amplitude", "POST", "/2/httpapi", `{"api_key":"`+amplitudeKey+`","options":{"min_id_length":-1},"events":[{"event_type":"x","user_id":"user-1","time":1.5}]}`)
	seed("amplitude", "POST", "/batch", `{"api_key":"`+amplitudeKey+`","events":[null,[],{"event_properties":[[[]]]}]}`)
	seed("slack", "POST", slackPath, `{"text":"x","blocks":[{"type":"section","text":{"text":1}}]}`)
	seed("clickhouse", "POST", "/?query=INSERT+INTO+events+FORMAT+TabSeparated", clickhouseLine()+clickhouseLine("timestamp", "x"))
	seed("clickhouse", "POST", "/?query=INSERT+INTO+`default`.`events`+(id,+name)+FORMAT+TSV&async_insert=0&insert_deduplication_token=t", "a\tb\n\\N\t\\\\\n")
	seed("clickhouse", "POST", "/", "CREATE TABLE e "+clickhouseEvents)
	seed("clickhouse", "POST", "/", "CREATE TABLE e (a UInt99, b Nullable(LowCardinality(, c DateTime64(99, 'x'))) ENGINE = MergeTree ORDER BY a")
	seed("clickhouse", "POST", "/", `SELECT name FROM system.columns WHERE database = 'default' AND table = '\\\''`)
	credentials := map[string]map[string]string{
		"clickhouse": clickhouseKey,
		"mixpanel":   basic(mixpanelToken, ""), "hubspot": {"Authorization": "Bearer " + hubspotToken}, "mailchimp": basic("any", mailchimpKey),
	}
	f.Fuzz(func(t *testing.T, which uint8, method, path, contentType, encoding, body string, trouble uint64) {
		if method == "" || strings.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			return // no server would take it
		}
		kind := kinds[int(which)%len(kinds)]
		v, err := New(kind)
		if err != nil {
			t.Fatal(err)
		}
		if server, ok := v.api.(*clickhouse); ok {
			if err := server.create("events", clickhouseEvents, false); err != nil {
				t.Fatal(err)
			}
		}
		if trouble > 0 {
			v.Trouble(Trouble{Seed: trouble, Throttle: 0.3, Lose: 0.3, Refuse: func(id string) bool { return len(id)%2 == 1 }})
		}
		header := credentials[kind]
		if kind == "webhook" {
			header = signed("1", body, time.Now()).header
		}
		for range 2 {
			answered(t, v, method, path, contentType, encoding, header, body)
		}
		c := v.Counts()
		if len(v.Received()) != int(c.Taken) || len(v.Dropped()) != int(c.Dropped) || c.Taken < 0 {
			t.Errorf("%+v: %d received, %d dropped", c, len(v.Received()), len(v.Dropped()))
		}
		for _, item := range v.Received() {
			if _, err := decode(item.Body); err != nil {
				t.Errorf("took %q: %v", item.Body, err)
			}
		}
		answered(t, v, http.MethodGet, "/", "", "", nil, "")
	})
}
