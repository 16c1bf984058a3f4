package webhook

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

func open(t testing.TB, settings string) *Connector {
	t.Helper()
	conn, err := New([]byte(settings), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*Connector)
}

// endpoint returns a connector to a handler, with more settings if wanted.
func toHandler(t testing.TB, handler http.HandlerFunc, more string) *Connector {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return open(t, fmt.Sprintf(`{"url":%q,"allow_private":true%s}`, server.URL+"/in", more))
}

func sendOne(t testing.TB, c *Connector, d connector.Delivery) connector.Result {
	t.Helper()
	return c.Send(t.Context(), c.Plan([]connector.Delivery{d}).Calls[0])[0]
}

func TestSignatureIsThatOfTheSpecification(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Secret, Body string
			ID           string `json:"webhook-id"`
			Timestamp    int64  `json:"webhook-timestamp"`
			Signature    string `json:"webhook-signature"`
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil || len(file.Vectors) == 0 {
		t.Fatalf("%d vectors, %v", len(file.Vectors), err)
	}
	for _, v := range file.Vectors {
		first, _, err := parseKey(v.Secret)
		if err != nil {
			t.Fatal(err)
		}
		timestamp := strconv.FormatInt(v.Timestamp, 10)
		if got := sign([]key{first}, v.ID, timestamp, []byte(v.Body)); got != v.Signature {
			t.Errorf("signature %s, want %s", got, v.Signature)
		}
		// While secrets change, a receiver with either finds its signature.
		other, _, err := parseKey(secretB)
		if err != nil {
			t.Fatal(err)
		}
		both := strings.Split(sign([]key{other, first}, v.ID, timestamp, []byte(v.Body)), " ")
		if len(both) != 2 || both[1] != v.Signature || both[0] == v.Signature {
			t.Errorf("signatures %q", both)
		}
	}
}

// Vectors of RFC 8032, 7.1, tests 1 and 2: the seeds and their public keys.
func TestKeyPairsSignSoThatThePublicKeyVerifies(t *testing.T) {
	t.Parallel()
	for _, pair := range []struct{ seed, public string }{
		{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"},
		{"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"},
	} {
		seed, err := hex.DecodeString(pair.seed)
		if err != nil {
			t.Fatal(err)
		}
		public, err := hex.DecodeString(pair.public)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range [][]byte{seed, slices.Concat(seed, public)} {
			k, _, err := parseKey("whsk_" + base64.StdEncoding.EncodeToString(secret))
			if err != nil {
				t.Fatal(err)
			}
			symmetric, _, err := parseKey(secretA)
			if err != nil {
				t.Fatal(err)
			}
			both := strings.Split(sign([]key{k, symmetric}, "msg-1", "1795428000", []byte(`{"n":1}`)), " ")
			encoded, ok := strings.CutPrefix(both[0], "v1a,")
			signature, err := base64.StdEncoding.DecodeString(encoded)
			if !ok || err != nil || !ed25519.Verify(public, []byte(`msg-1.1795428000.{"n":1}`), signature) {
				t.Errorf("%q does not verify: %v", both[0], err)
			}
			if len(both) != 2 || !strings.HasPrefix(both[1], "v1,") {
				t.Errorf("%q", both)
			}
		}
	}
}

func TestKeysAreCheckedWithoutBeingRepeated(t *testing.T) {
	t.Parallel()
	seed := bytes.Repeat([]byte{7}, 32)
	for text, want := range map[string]string{
		"whpk_" + base64.StdEncoding.EncodeToString(seed):                  "is a public key",
		"whsk_" + base64.StdEncoding.EncodeToString(seed[:31]):             "has 31 bytes, an ed25519 key has 32, or 64",
		"whsk_" + base64.StdEncoding.EncodeToString(append(seed, seed...)): "is not its own",
		"whsk_%": "is not base64 after whsk_",
		"whsec_": "has 0 bytes",
	} {
		if _, _, err := parseKey(text); err == nil || !strings.Contains(err.Error(), want) || len(text) > 8 && strings.Contains(err.Error(), text[6:]) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The senders of a process share the keys.
func TestSignaturesMadeSideBySideAreThoseMadeAlone(t *testing.T) {
	t.Parallel()
	k, _, err := parseKey(secretA)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 200 {
				id, body := fmt.Sprint(worker, "-", i), bytes.Repeat([]byte{byte(i)}, i)
				header := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {"1795428000"}, "Webhook-Signature": {sign([]key{k}, id, "1795428000", body)}}
				if err := verify(secretA, header, body, time.Unix(1795428000, 0)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestReceiversWithEitherSecretVerify(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{secretA, secretB} {
		r := newReceiver(t, secret) // reports what does not verify
		conn, err := r.trusting(fmt.Appendf(nil, `{"url":%q,"secret":%q,"secret_previous":%q,"allow_private":true}`, r.server.URL, secretA, secretB), connector.Env{})
		if err != nil {
			t.Fatal(err)
		}
		if result := sendOne(t, conn.(*Connector), connectortest.Plain(1)[0]); result.Class != connector.Delivered {
			t.Errorf("%+v", result)
		}
		if got := r.requests[0].Proto; got != "HTTP/2.0" {
			t.Errorf("protocol %s", got)
		}
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	d := connector.Delivery{
		Event: event.Event{ID: "e1", Type: "track", Name: "Order Completed", Timestamp: "2026-11-23T10:00:00+01:00", Data: []byte(`{ "n":1.0 }`)},
		Raw:   []byte(`{"id":"e1","type":"track","name":"Order Completed","timestamp":"2026-11-23T10:00:00+01:00","data":{ "n":1.0 },"context":{}}`),
	}
	for body, want := range map[string]string{
		"event":    string(d.Raw),
		"standard": `{"type":"Order_Completed","timestamp":"2026-11-23T10:00:00+01:00","data":` + string(d.Raw) + `}`,
	} {
		var got *http.Request
		var gotBody []byte
		c := toHandler(t, func(_ http.ResponseWriter, req *http.Request) {
			got = req
			buffer := new(bytes.Buffer)
			_, _ = buffer.ReadFrom(req.Body)
			gotBody = buffer.Bytes()
		}, `,"body":"`+body+`","headers":{"x-tenant":"t1","content-type":"application/vnd.shop+json"}`)
		before := time.Now().Unix()
		if result := sendOne(t, c, d); result.Class != connector.Delivered || result.Status != 200 {
			t.Fatalf("%+v", result)
		}
		if string(gotBody) != want {
			t.Errorf("%s: posted %s\nwant %s", body, gotBody, want)
		}
		if body == "standard" && !json.Valid(gotBody) {
			t.Error("not JSON")
		}
		if got.Method != http.MethodPost || got.URL.Path != "/in" || got.ContentLength != int64(len(want)) {
			t.Errorf("%s %s, %d bytes", got.Method, got.URL, got.ContentLength)
		}
		var timestamp int64
		if _, err := fmt.Sscan(got.Header.Get("webhook-timestamp"), &timestamp); err != nil || timestamp < before || timestamp > time.Now().Unix() {
			t.Errorf("webhook-timestamp %q", got.Header.Get("webhook-timestamp"))
		}
		for name, want := range map[string]string{
			"webhook-id": "e1", "webhook-signature": "", "x-tenant": "t1",
			"content-type": "application/vnd.shop+json", "user-agent": "Sluice-Webhook/1", "accept-encoding": "",
		} {
			if got := got.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}

func TestMessageIDsAreStableAndFitTheHeader(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"0198c0de-0000-7000-8000-000000000000", "a", "order/1#2", strings.Repeat("x", 255)} {
		if got := messageID(id); got != id {
			t.Errorf("%q becomes %q", id, got)
		}
	}
	seen := make(map[string]string)
	for _, id := range []string{"", "a.b", "a b", "a\r\nx-evil: 1", "größe", "nul\x00", strings.Repeat("x", 256), strings.Repeat("x", 257)} {
		got := messageID(id)
		if strings.ContainsAny(got, ". \r\n") || len(got) > 255 || got != messageID(id) {
			t.Errorf("%q becomes %q", id, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q become the same", id, other)
		}
		seen[got] = id
	}
}

func TestStatusDecidesTheOutcome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		header string
		want   connector.Class
		wait   time.Duration
	}{
		{200, "", connector.Delivered, 0},
		{202, "", connector.Delivered, 0},
		{204, "", connector.Delivered, 0},
		{301, "", connector.Auth, 0},
		{302, "", connector.Auth, 0},
		{307, "", connector.Auth, 0},
		{304, "", connector.Auth, 0},
		{400, "", connector.Permanent, 0},
		{401, "", connector.Auth, 0},
		{403, "", connector.Auth, 0},
		{404, "", connector.Permanent, 0},
		{408, "", connector.Retryable, 0},
		{410, "", connector.Auth, 0},
		{413, "", connector.TooLarge, 0},
		{422, "", connector.Permanent, 0},
		{425, "", connector.Retryable, 0},
		{429, "", connector.Throttled, 0},
		{429, "120", connector.Throttled, 2 * time.Minute},
		{429, "864000", connector.Throttled, 24 * time.Hour},
		{500, "", connector.Retryable, 0},
		{501, "", connector.Permanent, 0},
		{502, "", connector.Throttled, 0},
		{503, "30", connector.Throttled, 30 * time.Second},
		{503, "", connector.Retryable, 0},
		{504, "0", connector.Throttled, 0},
		{505, "", connector.Permanent, 0},
		{599, "", connector.Retryable, 0},
		{799, "", connector.Retryable, 0},
	} {
		t.Run(fmt.Sprintf("%d %s", c.status, c.header), func(t *testing.T) {
			t.Parallel()
			calls := 0
			conn := toHandler(t, func(w http.ResponseWriter, req *http.Request) {
				calls++
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				if c.status >= 300 && c.status != 304 {
					fmt.Fprint(w, "because of "+req.Header.Get("webhook-signature"))
				}
			}, `,"secret":"`+secretA+`"`)
			got := sendOne(t, conn, connectortest.Plain(1)[0])
			if got.Class != c.want || got.Status != c.status || got.RetryAfter != c.wait {
				t.Errorf("%s, status %d, wait %s; want %s, %s", got.Class, got.Status, got.RetryAfter, c.want, c.wait)
			}
			if calls != 1 {
				t.Errorf("%d calls", calls)
			}
			if got.Class == connector.Auth && !strings.Contains(got.Message, "url") {
				t.Errorf("does not say which setting to look at: %s", got.Message)
			}
			if strings.Contains(got.Request+got.Response, "v1,") {
				t.Errorf("the signature is shown: %s %s", got.Request, got.Response)
			}
			if !got.Class.Settled() && (!strings.Contains(got.Message, fmt.Sprint(c.status)) || got.Request == "" || got.Response == "") {
				t.Errorf("the result says too little: %+v", got)
			}
		})
	}
}

func TestExcerptsShowWhatAPersonNeeds(t *testing.T) {
	t.Parallel()
	conn := toHandler(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "req-42")
		w.Header().Set("Set-Cookie", "session=s3cret")
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"error":"unknown sku"}`, strings.Repeat("é", 100_000))
	}, `,"headers":{"X-Api-Key":"key-value"}`)
	d := connectortest.Plain(1)[0]
	got := sendOne(t, conn, d)
	for _, want := range []string{"POST http://127.0.0.1:", "webhook-id: " + d.Event.ID, "x-api-key: ***", `"name":"button_clicked"`} {
		if !strings.Contains(got.Request, want) {
			t.Errorf("request does not show %q:\n%s", want, got.Request)
		}
	}
	for _, want := range []string{"422 Unprocessable Entity", "x-request-id: req-42", "unknown sku"} {
		if !strings.Contains(got.Response, want) {
			t.Errorf("response does not show %q:\n%s", want, got.Response)
		}
	}
	if strings.Contains(got.Response, "s3cret") || len(got.Response) > 4096 {
		t.Errorf("%d bytes: %.200s", len(got.Response), got.Response)
	}
}

func TestPrivateAddressesAreRefusedWhenConnecting(t *testing.T) {
	t.Parallel()
	called := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	t.Cleanup(server.Close)
	// A name passes the settings; what it resolves to is seen when connecting.
	c := open(t, fmt.Sprintf(`{"url":%q,"allow_http":true}`, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)))
	got := sendOne(t, c, connectortest.Plain(1)[0])
	if got.Class != connector.Auth || got.Code != "private_address" || !strings.Contains(got.Message, "allow_private") {
		t.Errorf("%+v", got)
	}
	if called {
		t.Error("the endpoint was called")
	}
}

// What makes connections in tests does not ask whether an address is private; the
// settings do, whoever connects.
func TestAPrivateAddressInTheSettingsIsRefusedWhoeverConnects(t *testing.T) {
	t.Parallel()
	dial := simulator.Dial(t.Context(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("called") }))
	for _, url := range []string{"https://10.0.0.1/x", "https://169.254.169.254/x", "https://[::ffff:127.0.0.1]/x", "https://[fd00::1]/x", "https://[64:ff9b::a00:1]/x"} {
		if _, err := New(fmt.Appendf(nil, `{"url":%q}`, url), connector.Env{Dial: dial}); err == nil || !strings.Contains(err.Error(), "allow_private") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestErrorsBeforeTheRequestAreRetryable(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for name, c := range map[string]struct{ url, code string }{
		"nobody listens":  {closed.URL, "connect"},
		"not TLS":         {strings.Replace(plain.URL, "http:", "https:", 1), "tls"},
		"an unknown name": {"https://no-such-host.invalid/x", "dns"},
		"a self-signed certificate": {func() string {
			s := httptest.NewTLSServer(http.NotFoundHandler())
			s.Config.ErrorLog = nil
			t.Cleanup(s.Close)
			return s.URL
		}(), "tls"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := sendOne(t, open(t, fmt.Sprintf(`{"url":%q,"allow_private":true,"timeout":"5s"}`, c.url)), connectortest.Plain(1)[0])
			if got.Class != connector.Retryable || (got.Code != c.code && !(c.code == "dns" && got.Code == "timeout")) {
				t.Errorf("%s %s: %s", got.Class, got.Code, got.Message)
			}
		})
	}
}

func TestSettingsNameEveryFaultAndNoSecret(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, settings string
		want           []string
	}{
		{"nothing", `{}`, []string{"url: is required"}},
		{"http", `{"url":"http://example.com/hunter2"}`, []string{"url: must be https, unless allow_http"}},
		{"another scheme", `{"url":"ftp://hunter2.example","allow_http":true}`, []string{"url: must be https"}},
		{"not an address", `{"url":"https://%zz:hunter2@x"}`, []string{"url: is not an address"}},
		{"no host", `{"url":"https:///hunter2"}`, []string{"url: is not an address"}},
		{"private", `{"url":"https://10.0.0.1/hunter2"}`, []string{"url: leads to a private address"}},
		{"mapped", `{"url":"https://[::ffff:169.254.169.254]/"}`, []string{"url: leads to a private address"}},
		{"several", `{"url":"https://example.com","secret":"hunter2hunter2","headers":{"webhook-id":"1","bad name":"2","x-y":"hunter2\n"},"timeout":"1h","body":"hunter2"}`,
			[]string{"secret: must begin with whsec_ or whsk_", "headers: webhook-id cannot be set", `headers: "bad name" is not`, "headers: the value of x-y", "timeout: must be at most 5m", "body: must be one of event, standard"}},
		{"a short secret", `{"url":"https://example.com","secret":"whsec_aHVudGVyMg=="}`, []string{"secret: has 7 bytes, must have 24 to 64"}},
		{"a secret that is not base64", `{"url":"https://example.com","secret":"whsec_hunter2!"}`, []string{"secret: is not base64"}},
		{"a previous secret alone", `{"url":"https://example.com","secret_previous":"` + secretA + `"}`, []string{"secret_previous: is of no use without secret"}},
		{"one header twice", `{"url":"https://example.com","headers":{"X-A":"1","x-a":"2"}}`, []string{"headers: X-A is given twice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			connectortest.Refuses(t, New, c.settings, c.want...)
		})
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	addresses := make(map[string]bool)
	c := toHandler(t, func(w http.ResponseWriter, req *http.Request) {
		addresses[req.RemoteAddr] = true
		fmt.Fprint(w, strings.Repeat("thank you ", 1000))
	}, "")
	for _, d := range connectortest.Plain(20) {
		if got := sendOne(t, c, d); got.Class != connector.Delivered {
			t.Fatalf("%+v", got)
		}
	}
	if len(addresses) != 1 {
		t.Errorf("%d connections for 20 calls", len(addresses))
	}
}

// The status has come, the body never ends: the status counts.
func TestEndlessAnswerIsCut(t *testing.T) {
	t.Parallel()
	c := toHandler(t, func(w http.ResponseWriter, req *http.Request) {
		chunk := bytes.Repeat([]byte("x"), 4096)
		for req.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}, "")
	if got := sendOne(t, c, connectortest.Plain(1)[0]); got.Class != connector.Delivered {
		t.Errorf("%+v", got)
	}
}

func TestWithoutRetryAmbiguousALostAnswerIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	c := toHandler(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, `,"retry_ambiguous":false`)
	if c.Limits().Dedups {
		t.Error("the limits say that repetitions do no harm")
	}
	if got := sendOne(t, c, connectortest.Plain(1)[0]); got.Class != connector.Ambiguous {
		t.Errorf("%+v", got)
	}
}

func FuzzSettings(f *testing.F) {
	f.Add(`{"url":"https://user:pass@example.com/x?y=z","secret":"` + secretA + `","headers":{"a":"b"},"timeout":"3s"}`)
	f.Add(`{"url":"http://[::1%25lo]:80","allow_private":true}`)
	f.Add(`{"headers":{"":""}}`)
	f.Fuzz(func(t *testing.T, settings string) {
		conn, err := New([]byte(settings), connector.Env{})
		if err != nil {
			return
		}
		// What is accepted makes a request that net/http can write.
		c := conn.(*Connector)
		plan := c.Plan(connectortest.Plain(1))
		req := c.request(t.Context(), plan.Calls[0].Payload.(message), time.Now())
		if err := req.Write(new(bytes.Buffer)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("%s: %v", settings, err)
		}
	})
}
