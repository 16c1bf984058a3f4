package simulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// signed is a call to the receiver as a sender would make it at a time.
func signed(id, body string, at time.Time) request {
	key, _ := base64.StdEncoding.DecodeString(webhookSecret[len("whsec_"):])
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
	return request{path: "/events", body: body, header: map[string]string{
		"webhook-id": id, "webhook-timestamp": strconv.FormatInt(at.Unix(), 10),
		"webhook-signature": "v1a,AAAA v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	}}
}

// altered returns a request with another header.
func (r request) altered(name, value string) request {
	header := map[string]string{name: value}
	for other, v := range r.header {
		if other != name {
			header[other] = v
		}
	}
	r.header = header
	return r
}

func TestWebhookTakesEachIDOnce(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "webhook", nil)
	for _, id := range []string{"1", "2", "1"} {
		v.call(t, signed(id, `{"name":"Signed Up","user_id":"u-1","data":"<é>"}`, time.Now())).wants(t, 200, "received")
	}
	v.call(t, signed("3", `{"type":"Signed_Up","data":{}}`, time.Now())).wants(t, 200)
	v.wantItems(t, "event Signed Up u-1 1", "event Signed Up u-1 2", "event Signed_Up  3")
	if body := string(v.Received()[0].Body); body != `{"name":"Signed Up","user_id":"u-1","data":"<é>"}` {
		t.Errorf("body %s", body)
	}
}

func TestWebhookRefusesWhatIsNotSigned(t *testing.T) {
	t.Parallel()
	now := time.Now()
	good := signed("1", `{}`, now)
	for name, test := range map[string]struct {
		request
		status int
	}{
		"another id":        {good.altered("webhook-id", "2"), 401},
		"another time":      {good.altered("webhook-timestamp", strconv.FormatInt(now.Unix()+1, 10)), 401},
		"no signature":      {good.altered("webhook-signature", ""), 401},
		"another scheme":    {good.altered("webhook-signature", "v2,"+good.header["webhook-signature"][len("v1a,AAAA v1,"):]), 401},
		"not base64":        {good.altered("webhook-signature", "v1,!"), 401},
		"no id":             {good.altered("webhook-id", ""), 400},
		"a full stop":       {signed("1.2", `{}`, now), 400},
		"no time":           {good.altered("webhook-timestamp", ""), 400},
		"an hour ago":       {signed("1", `{}`, now.Add(-time.Hour)), 400},
		"an hour ahead":     {signed("1", `{}`, now.Add(time.Hour)), 400},
		"not JSON":          {signed("1", `{`, now), 400},
		"refused":           {signed("bad", `{}`, now), 422},
		"a read":            {request{method: "GET", path: "/events"}, 405},
		"packed in nothing": {good.altered("Content-Encoding", "br"), 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t, "webhook", nil)
			v.Trouble(Trouble{Refuse: func(id string) bool { return id == "bad" }})
			v.call(t, test.request).wants(t, test.status, "error")
			v.wantItems(t)
			v.call(t, good).wants(t, 200)
		})
	}
}

// The vector of the specification's repository.
func TestWebhookVerifiesTheVectorOfStandardWebhooks(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("testdata/standard-webhooks-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Vectors []struct {
			Secret    string
			ID        string `json:"webhook-id"`
			Timestamp int64  `json:"webhook-timestamp"`
			Body      string
			Signature string `json:"webhook-signature"`
		}
	}
	if err := json.Unmarshal(file, &spec); err != nil || len(spec.Vectors) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, vector := range spec.Vectors {
		key := webhookKey(vector.Secret)
		if !verified(key, vector.ID, vector.Timestamp, []byte(vector.Body), vector.Signature) {
			t.Errorf("%s is not verified", vector.ID)
		}
		if verified(key, vector.ID, vector.Timestamp+1, []byte(vector.Body), vector.Signature) {
			t.Errorf("%s is verified for another time", vector.ID)
		}
	}
}

func TestWebhookAnswersWithTheStatusItIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t, "webhook", nil)
		for status, header := range map[int]string{301: "Location", 410: "", 429: "Retry-After", 504: "Retry-After", 401: ""} {
			v.Trouble(Trouble{Status: status, Wait: 1500 * time.Millisecond})
			got := v.call(t, signed("1", `{}`, time.Now()))
			if got.status != status || header != "" && got.header.Get(header) == "" || header == "Retry-After" && got.header.Get(header) != "2" {
				t.Errorf("%d: %+v", status, got)
			}
		}
		v.wantItems(t)
	})
}
