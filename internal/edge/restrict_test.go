package edge

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/edge/source/sourcetest"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/testenv"
)

const signingSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// use replaces the keys of the rig: those of document, in which %h stands for
// the hash of wk_ID of the key before it, and starts to fetch for them.
func (r *rig) use(keys ...string) {
	r.t.Helper()
	for i, k := range keys {
		id, _, _ := strings.Cut(strings.TrimPrefix(k, `{"id":"`), `"`)
		keys[i] = strings.ReplaceAll(k, "%h", source.Hash("wk_"+id))
	}
	loaded, err := source.Load([]byte(`{"keys":[`+strings.Join(keys, ",")+`]}`), nil, func(string) (string, bool) { return "", false })
	if err != nil {
		r.t.Fatal(err)
	}
	r.keys = loaded
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- loaded.Run(ctx, slog.New(slog.DiscardHandler)) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

// fetched waits until the keys of the issuers have been asked for.
func (r *rig) fetched() {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		ready := true
		for _, i := range r.keys.Issuers() {
			ready = ready && (i.Failing || !i.Until.IsZero())
		}
		if ready {
			return
		}
	}
	r.t.Fatal("the keys of the issuers were not fetched")
}

const tokenIssuer = "https://id.example"

func tokenClaims(others ...any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{"iss": tokenIssuer, "aud": "sluice", "sub": "u1", "exp": now + 600, "iat": now}
	for i := 0; i < len(others); i += 2 {
		if name := others[i].(string); others[i+1] == nil {
			delete(c, name)
		} else {
			c[name] = others[i+1]
		}
	}
	return c
}

func appKey(jwks, more string) string {
	return fmt.Sprintf(`{"id":"app","kind":"token","issuer":%q,"audience":["sluice"],"jwks":%q%s}`, tokenIssuer, jwks, more)
}

// nothingKept makes sure that a request left nothing behind.
func (r *rig) nothingKept() {
	r.t.Helper()
	r.wantLedger(0, nil)
	if len(r.events())+len(r.letters()) != 0 {
		r.t.Error("something is kept for a sender who may not send")
	}
}

func TestWhoMaySendIsDecidedByTheToken(t *testing.T) {
	t.Parallel()
	key, stranger := sourcetest.NewKey("k1", jose.RS256, 1), sourcetest.NewKey("k1", jose.RS256, 2)
	unknown := sourcetest.NewKey("nobody", jose.RS256, 2)
	jwks := sourcetest.NewIssuer(key).Listen(t)
	public, _ := key.JWK().MarshalJSON()
	sign := func(others ...any) string { return key.Sign(t, tokenClaims(others...)) }
	bearer := func(token string) []string { return []string{"Authorization: Bearer " + token} }
	const sdk = `{"event":"a","userId":"u1"}`
	for _, tt := range []struct {
		name   string
		path   string
		body   string
		header []string
		status int
		code   string
	}{
		{"good", "/v1/events", good, bearer(sign("sub", "u1")), 202, ""},
		{"good, at an SDK route", "/v1/t", sdk, bearer(sign()), 200, ""},
		{"good, the masked key of Jitsu beside it", "/v1/t", `{"event":"a","writeKey":"wk_w***"}`, bearer(sign()), 200, ""},
		{"good, in a browser", "/v1/events", good, append(bearer(sign()), "Origin: https://shop.example"), 202, ""},
		{"of several audiences", "/v1/events", good, bearer(sign("aud", []string{"a", "sluice"})), 202, ""},
		{"twice", "/v1/events", good, append(bearer(sign("iat", 1)), bearer(sign("iat", 2))...), 202, ""},

		{"none", "/v1/events", good, nil, 401, "missing_key"},
		{"unsigned", "/v1/events", good, bearer(sourcetest.Unsigned(tokenClaims())), 401, "invalid_token"},
		{"unsigned, at an SDK route", "/v1/t", sdk, bearer(sourcetest.Unsigned(tokenClaims())), 401, "invalid_token"},
		{"HS256 with the public key as its secret", "/v1/events", good, bearer(sourcetest.WithMAC("k1", public, tokenClaims())), 401, "invalid_token"},
		{"by another key of the same name", "/v1/events", good, bearer(stranger.Sign(t, tokenClaims())), 401, "invalid_token"},
		{"by a key of an unknown name", "/v1/events", good, bearer(unknown.Sign(t, tokenClaims())), 401, "invalid_token"},
		{"expired", "/v1/events", good, bearer(sign("exp", time.Now().Unix()-61)), 401, "expired_token"},
		{"expired, at an SDK route", "/v1/t", sdk, bearer(sign("exp", time.Now().Unix()-61)), 401, "expired_token"},
		{"without an end", "/v1/events", good, bearer(sign("exp", nil)), 401, "invalid_token"},
		{"of another issuer", "/v1/events", good, bearer(sign("iss", "https://evil.example")), 401, "invalid_token"},
		{"for another audience", "/v1/events", good, bearer(sign("aud", "shop")), 401, "invalid_token"},
		{"not yet valid", "/v1/events", good, bearer(sign("nbf", time.Now().Unix()+120)), 401, "invalid_token"},
		{"without a user", "/v1/events", good, bearer(sign("sub", nil)), 401, "invalid_token"},
		{"torn", "/v1/events", good, bearer(sign()[:100] + ".x"), 401, "invalid_token"},
		{"too large", "/v1/events", good, bearer(sign("x", strings.Repeat("x", 9000))), 401, "invalid_token"},
		{"of a disabled key", "/v1/events", good, bearer(sign("aud", "off")), 401, "disabled_key"},
		{"in another header", "/v1/events", good, []string{"X-Write-Key: " + sign()}, 401, "unknown_key"},
		{"in the query", "/v1/events?write_key=" + sign(), good, nil, 401, "unknown_key"},
		{"as the user of Basic", "/v1/events", good, []string{basic(sign() + ":")}, 401, "unknown_key"},
		{"in the body", "/v1/t", `{"event":"a","writeKey":"` + sign() + `"}`, nil, 401, "unknown_key"},
		{"of two users", "/v1/events", good, append(bearer(sign()), bearer(sign("sub", "u2"))...), 400, "conflicting_keys"},
		{"with a key that wants none", "/v1/events", good, append(bearer(sign()), "X-Write-Key: wk_web"), 400, "conflicting_keys"},
		{"with a key that wants none, in the body", "/v1/t", `{"event":"a","writeKey":"wk_web"}`, bearer(sign()), 400, "conflicting_keys"},
		{"bad, with a good key", "/v1/events", good, append(bearer(stranger.Sign(t, tokenClaims())), "X-Write-Key: wk_web"), 202, ""},

		{"with the key that wants it", "/v1/events", good, append(bearer(sign()), "X-Write-Key: wk_page"), 202, ""},
		{"with the key that wants it, in the body", "/v1/t", `{"event":"a","writeKey":"wk_page"}`, bearer(sign()), 200, ""},
		{"missing, with a key that wants one", "/v1/events", good, []string{"X-Write-Key: wk_page"}, 401, "missing_token"},
		{"missing, with a key in the body that wants one", "/v1/t", `{"event":"a","writeKey":"wk_page"}`, nil, 401, "missing_token"},
		{"bad, with a key that wants one", "/v1/events", good, append(bearer(stranger.Sign(t, tokenClaims())), "X-Write-Key: wk_page"), 401, "invalid_token"},
		{"of another key than the one that is wanted", "/v1/events", good, append(bearer(sign("aud", "second")), "X-Write-Key: wk_page"), 400, "conflicting_keys"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			r.use(appKey(jwks, ""), strings.NewReplacer(`"app"`, `"off"`, `["sluice"]`, `["off"]`).Replace(appKey(jwks, `,"disabled":true`)),
				strings.NewReplacer(`"app"`, `"second"`, `["sluice"]`, `["second"]`).Replace(appKey(jwks, "")),
				`{"id":"web","kind":"write","sha256":"%h"}`, `{"id":"page","kind":"write","sha256":"%h","token":"app"}`)
			r.fetched()
			a := r.post(tt.path, "", tt.body, tt.header...).want(tt.status, tt.code)
			if tt.status >= 400 {
				r.nothingKept()
			}
			if strings.Contains(strings.ToLower(a.body), "invalid write key") != (tt.code == "unknown_key") {
				t.Errorf("%s", a.body)
			}
			for _, line := range tt.header {
				if _, token, ok := strings.Cut(line, "Bearer ey"); ok && (strings.Contains(a.body, token[10:40]) || strings.Contains(r.log.String(), token[10:40])) {
					t.Errorf("the token is in the answer or the log:\n%s\n%s", a.body, r.log)
				}
			}
			if strings.HasSuffix(tt.code, "_token") && tt.code != "missing_token" && !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
				t.Errorf("WWW-Authenticate: %s", a.header.Get("WWW-Authenticate"))
			}
		})
	}
}

func TestEventsAreOfTheUserThatTheTokenNames(t *testing.T) {
	t.Parallel()
	key := sourcetest.NewKey("k1", jose.ES256, 1)
	jwks := sourcetest.NewIssuer(key).Listen(t)
	send := func(r *rig, path, body string) answer {
		return r.post(path, "", body, "Authorization: Bearer "+key.Sign(t, tokenClaims()))
	}
	t.Run("enforced", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.use(appKey(jwks, ""))
		a := send(r, "/v1/events", `[{"name":"mine","user_id":"u1"},{"name":"whose"},{"name":"theirs","user_id":"u2"}]`).want(207, "")
		if e := a.problem().Errors; len(e) != 1 || e[0].Index != 2 || e[0].Code != "user_forbidden" || e[0].Pointer != "/user_id" {
			t.Errorf("%s", a.body)
		}
		send(r, "/v1/batch", `{"batch":[{"type":"track","event":"sdk","anonymousId":"a1"},{"type":"track","event":"sdk_theirs","userId":"u2"}]}`).want(200, "")
		for _, e := range r.events() {
			if e.UserID != "u1" || e.Source != "app" {
				t.Errorf("%+v", e)
			}
		}
		if got := strings.Join(r.names(), " "); got != "mine whose sdk" {
			t.Errorf("stored %s", got)
		}
		letters := r.letters()
		if len(letters) != 2 || letters[0].Code != "user_forbidden" || letters[0].User != "u1" || !strings.Contains(letters[1].Message, "/userId") {
			t.Errorf("%+v", letters)
		}
		r.wantLedger(3, map[string]uint64{"forbidden": 2})
		send(r, "/v1/events", `{"name":"theirs","user_id":"u2"}`).want(403, "forbidden")
	})
	t.Run("observed", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.use(appKey(jwks, `,"modes":{"token":"observe"}`))
		send(r, "/v1/events", `[{"name":"whose"},{"name":"theirs","user_id":"u2"},{"name":"theirs","user_id":"u3"}]`).want(202, "")
		users := ""
		for _, e := range r.events() {
			users += e.UserID + " "
		}
		if users != "u1 u2 u3 " {
			t.Errorf("users %s", users)
		}
		r.wantObserved("app", source.RestrictToken, 2)
		// A token is still what stands for the key.
		r.post("/v1/events", "", good, "Authorization: Bearer "+sourcetest.Unsigned(tokenClaims())).want(401, "invalid_token")
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.use(appKey(jwks, `,"modes":{"token":"off"}`))
		send(r, "/v1/events", `[{"name":"whose"},{"name":"theirs","user_id":"u2"}]`).want(202, "")
		if e := r.events(); e[0].UserID != "" || e[1].UserID != "u2" {
			t.Errorf("%+v", e)
		}
		if len(r.edge.Stats().WouldRefuse) != 0 {
			t.Error("what is off is counted")
		}
	})
	t.Run("readmitted", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.use(appKey(jwks, `,"events":["order_*"]`))
		send(r, "/v1/events", `[{"name":"order_1","user_id":"u2"},{"name":"other"},{"name":"other","user_id":"u2"}]`).want(403, "forbidden")
		letters := r.letters()
		readmit := func(want ...fault.Kind) {
			t.Helper()
			for i, err := range r.edge.Readmit(t.Context(), letters) {
				got := fault.KindOf(err)
				if err == nil {
					got = fault.Conflict // stands for none
				}
				if got != want[i] {
					t.Errorf("letter %d: %v, want %v", i, err, want[i])
				}
			}
		}
		readmit(fault.Forbidden, fault.Forbidden, fault.Forbidden)
		r.use(appKey(jwks, "")) // all names
		readmit(fault.Forbidden, fault.Conflict, fault.Forbidden)
		if e := r.events(); len(e) != 1 || e[0].UserID != "u1" {
			t.Errorf("%+v", e)
		}
		r.use(appKey(jwks, `,"modes":{"token":"observe"}`)) // all users
		letters = []deadletter.Letter{letters[0], letters[2]}
		readmit(fault.Conflict, fault.Conflict)
	})
}

func (r *rig) wantObserved(key string, restriction source.Restriction, count uint64) {
	r.t.Helper()
	got := r.edge.Stats().WouldRefuse
	if want := (source.Observation{Key: key, Restriction: restriction, Count: count}); len(got) != 1 || got[0] != want {
		r.t.Errorf("observed %+v, want %+v", got, want)
	}
}

func TestAnIssuerThatCannotBeAskedIsNoFaultOfTheSender(t *testing.T) {
	t.Parallel()
	key := sourcetest.NewKey("k1", jose.ES256, 1)
	for name, answer := range map[string]http.HandlerFunc{
		"away": sourcetest.Away, "garbage": sourcetest.Garbage, "huge": sourcetest.Huge, "hanging": sourcetest.Hanging,
	} {
		for _, path := range []string{"/v1/events", "/v1/t"} {
			t.Run(name+path, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, Config{})
				is := sourcetest.NewIssuer(key)
				is.Answer(answer)
				r.use(appKey(is.Listen(t), ""), `{"id":"off","kind":"write","sha256":"%h","disabled":true}`)
				// 503 also beside a key for which the answer would be 401.
				r.post(path, "", `{"event":"a","name":"a"}`, "Authorization: Bearer "+key.Sign(t, tokenClaims()), "X-Write-Key: wk_off").want(503, "unavailable")
				r.nothingKept()
			})
		}
	}
	t.Run("nobody fetches", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		keys, err := source.Parse([]byte(`{"keys":[`+appKey("https://127.0.0.1:1/", "")+`]}`), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.keys = keys
		r.post("/v1/events", "", good, "Authorization: Bearer "+key.Sign(t, tokenClaims())).want(503, "unavailable")
	})
	t.Run("a key that was rotated", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		is := sourcetest.NewIssuer(key)
		r.use(appKey(is.Listen(t), ""))
		r.fetched()
		young := sourcetest.NewKey("k2", jose.ES256, 2)
		is.Rotate(young)
		r.post("/v1/events", "", good, "Authorization: Bearer "+young.Sign(t, tokenClaims())).want(202, "")
		r.post("/v1/events", "", good, "Authorization: Bearer "+key.Sign(t, tokenClaims())).want(401, "invalid_token")
	})
}

func TestSignedRequests(t *testing.T) {
	t.Parallel()
	const key = `{"id":"signed","kind":"secret","sha256":"%h","signature":{"secret":"` + signingSecret + `"}}`
	now := time.Now()
	sdkBody := `{"event":"a","writeKey":"wk_signed"}`
	form := "data=eyJldmVudCI6ImEiLCJ3cml0ZUtleSI6IndrX3NpZ25lZCJ9" // the same in base64
	with := func(lines []string, more ...string) []string { return append(append([]string{}, lines...), more...) }
	for _, tt := range []struct {
		name   string
		path   string
		key    string
		body   string
		header []string
		status int
		code   string
	}{
		{"good", "/v1/events", "wk_signed", good, sourcetest.Sign("m", now, good, signingSecret), 202, ""},
		{"good, compressed", "/v1/events", "wk_signed", gzipOf(good), with(sourcetest.Sign("m", now, gzipOf(good), signingSecret), "Content-Encoding: gzip"), 202, ""},
		{"good, at an SDK route", "/v1/t", "wk_signed", `{"event":"a"}`, sourcetest.Sign("m", now, `{"event":"a"}`, signingSecret), 200, ""},
		{"good, the key in the body", "/v1/t", "", sdkBody, sourcetest.Sign("m", now, sdkBody, signingSecret), 200, ""},
		{"good, the key in a compressed body", "/v1/t", "", zstdOf(sdkBody), with(sourcetest.Sign("m", now, zstdOf(sdkBody), signingSecret), "Content-Encoding: zstd"), 200, ""},
		{"good, the key in a form", "/v1/t", "", form, sourcetest.Sign("m", now, form, signingSecret), 200, ""},
		{"good, a form", "/v1/events", "wk_signed", "data=" + good, sourcetest.Sign("m", now, "data="+good, signingSecret), 202, ""},
		{"over the body before compression", "/v1/events", "wk_signed", gzipOf(good), with(sourcetest.Sign("m", now, good, signingSecret), "Content-Encoding: gzip"), 401, "invalid_signature"},
		{"missing", "/v1/events", "wk_signed", good, nil, 401, "missing_signature"},
		{"missing, the key in the body", "/v1/t", "", sdkBody, nil, 401, "missing_signature"},
		{"without a time", "/v1/events", "wk_signed", good, sourcetest.Sign("m", now, good, signingSecret)[2:], 401, "missing_signature"},
		{"by another secret", "/v1/events", "wk_signed", good, sourcetest.Sign("m", now, good, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"), 401, "invalid_signature"},
		{"of another body", "/v1/events", "wk_signed", good, sourcetest.Sign("m", now, "{}", signingSecret), 401, "invalid_signature"},
		{"of another body, the key in the body", "/v1/t", "", sdkBody, sourcetest.Sign("m", now, "{}", signingSecret), 401, "invalid_signature"},
		{"broken", "/v1/events", "wk_signed", good, with(sourcetest.Sign("m", now, good, signingSecret)[:2], "webhook-signature: v1,!!!"), 401, "invalid_signature"},
		{"stale", "/v1/events", "wk_signed", good, sourcetest.Sign("m", now.Add(-6*time.Minute), good, signingSecret), 401, "stale_signature"},
		{"of the future", "/v1/events", "wk_signed", good, sourcetest.Sign("m", now.Add(6*time.Minute), good, signingSecret), 401, "stale_signature"},
		{"by a key that is unknown", "/v1/events", "wk_nobody", good, sourcetest.Sign("m", now, good, signingSecret), 401, "unknown_key"},
		{"where none is wanted", "/v1/events", "wk_free", good, sourcetest.Sign("m", now.Add(-time.Hour), good, signingSecret), 202, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			r.use(key, `{"id":"free","kind":"secret","sha256":"%h"}`)
			r.post(tt.path, tt.key, tt.body, tt.header...).want(tt.status, tt.code)
			if tt.status >= 400 {
				r.nothingKept()
				return
			}
			if len(r.events()) != 1 {
				t.Fatalf("%d events", len(r.events()))
			}
			if tt.key != "wk_free" {
				r.post(tt.path, tt.key, tt.body, tt.header...).want(401, "replayed_signature")
				if len(r.events()) != 1 {
					t.Errorf("%d events after the replay", len(r.events()))
				}
			}
		})
	}
	t.Run("what a query holds", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.use(key)
		req := newRequest(http.MethodGet, "/v1/pixel/track?data=eyJldmVudCI6ImEiLCJ3cml0ZUtleSI6IndrX3NpZ25lZCJ9", "", "", sourcetest.Sign("m", now, "", signingSecret)...)
		r.do(req).want(401, "missing_signature")
		r.nothingKept()
	})
	t.Run("observed", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.use(strings.TrimSuffix(key, "}") + `,"modes":{"signature":"observe"}}`)
		r.post("/v1/events", "wk_signed", good).want(202, "")
		r.post("/v1/events", "wk_signed", good, sourcetest.Sign("m", now, "{}", signingSecret)...).want(202, "")
		for range 2 { // the second is a replay
			r.post("/v1/events", "wk_signed", good, sourcetest.Sign("m", now, good, signingSecret)...).want(202, "")
		}
		r.wantObserved("signed", source.RestrictSignature, 3)
		if strings.Count(r.log.String(), "would refuse") != 1 {
			t.Errorf("logged:\n%s", r.log)
		}
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.use(strings.TrimSuffix(key, "}") + `,"modes":{"signature":"off"}}`)
		r.post("/v1/events", "wk_signed", good, sourcetest.Sign("m", now, "{}", signingSecret)...).want(202, "")
		if len(r.edge.Stats().WouldRefuse) != 0 {
			t.Error("what is off is counted")
		}
	})
}

func TestASignedRequestThatWasNotStoredMayComeAgainAsItIs(t *testing.T) {
	t.Parallel()
	const key = `{"id":"signed","kind":"secret","sha256":"%h","signature":{"secret":"` + signingSecret + `"}}`
	r := newRig(t, Config{})
	r.use(key)
	headers := sourcetest.Sign("m", time.Now(), good, signingSecret)
	r.stream.blameless = &fault.Error{Kind: fault.Unavailable}
	r.post("/v1/events", "wk_signed", good, headers...).want(503, "unavailable")
	r.stream.blameless = nil
	r.post("/v1/events", "wk_signed", good, headers...).want(202, "")
	r.post("/v1/events", "wk_signed", good, headers...).want(401, "replayed_signature")

	// A request that panics is settled too.
	headers = sourcetest.Sign("m2", time.Now(), good, signingSecret)
	r.stream.refuse = func(stored) error { panic("a fault of the gateway") }
	req := newRequest(http.MethodPost, "/v1/events", "wk_signed", good, headers...)
	r.do(req).want(500, "internal")
	r.stream.refuse = nil
	r.post("/v1/events", "wk_signed", good, headers...).want(202, "")
}

func TestOfTwoSignedRequestsAtOnceOneIsStored(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.use(`{"id":"signed","kind":"secret","sha256":"%h","signature":{"secret":"` + signingSecret + `"}}`)
	headers := sourcetest.Sign("m", time.Now(), good, signingSecret)
	r.stream.wait = make(chan struct{})
	var wg sync.WaitGroup
	statuses := make([]int, 2)
	for i := range statuses {
		wg.Go(func() {
			w := &nullWriter{header: http.Header{}}
			r.edge.ServeHTTP(w, newRequest(http.MethodPost, "/v1/events", "wk_signed", good, headers...))
			statuses[i] = w.status
			if i := w.status; i == 503 {
				close(r.stream.wait) // the other one waits for this
			}
		})
	}
	wg.Wait()
	if statuses[0]+statuses[1] != 202+503 || len(r.events()) != 1 {
		t.Errorf("answered %v, %d events", statuses, len(r.events()))
	}
}

func TestAddressesThatMaySend(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // that of httptest's requests
	for _, tt := range []struct {
		name      string
		trusted   bool
		forwarded string
		mode      string
		status    int
		code      string
	}{
		{"the peer is listed", false, "", "", 202, ""},
		{"a forged header of a peer that is listed", false, "203.0.113.9", "", 202, ""},
		{"forwarded by a proxy, listed", true, "10.1.2.3", "", 202, ""},
		{"forwarded by a proxy, not listed", true, "203.0.113.9", "", 403, "address_forbidden"},
		{"forged before the proxy", true, "10.1.2.3, 203.0.113.9", "", 403, "address_forbidden"},
		{"IPv6 by a proxy", true, "2001:db8::7", "", 202, ""},
		{"observed", true, "203.0.113.9", "observe", 202, ""},
		{"off", true, "203.0.113.9", "off", 202, ""},
	} {
		for _, path := range []string{"/v1/events", "/v1/t"} {
			t.Run(tt.name+path, func(t *testing.T) {
				t.Parallel()
				cfg := Config{}
				if tt.trusted {
					cfg.TrustedProxies = proxies
				}
				r := newRig(t, cfg)
				more := ""
				if tt.mode != "" {
					more = `,"modes":{"ips":"` + tt.mode + `"}`
				}
				ranges := `"10.0.0.0/8","2001:db8::/32"`
				if !tt.trusted {
					ranges += `,"192.0.2.1"`
				}
				r.use(`{"id":"k","kind":"secret","sha256":"%h","ips":[` + ranges + `]` + more + `}`)
				header := []string{}
				if tt.forwarded != "" {
					header = append(header, "X-Forwarded-For: "+tt.forwarded)
				}
				a := r.post(path, "wk_k", `{"event":"a","name":"a"}`, header...)
				if path == "/v1/t" && tt.status == 202 {
					a.want(200, "")
				} else {
					a.want(tt.status, tt.code)
				}
				if tt.status >= 400 {
					r.nothingKept()
				}
				if tt.mode == "observe" {
					r.wantObserved("k", source.RestrictIPs, 1) // though an SDK's request is admitted twice
				} else if len(r.edge.Stats().WouldRefuse) != 0 {
					t.Error("counted")
				}
			})
		}
	}
}

func TestOriginsAndEventsThatAreObserved(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := newRig(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	r.use(`{"id":"shop","kind":"write","sha256":"%h","origins":["https://shop.example"],"events":["order_*"],"modes":{"origins":"observe","events":"observe"}}`)
	for range 3 {
		a := r.post("/v1/events", "wk_shop", `[{"name":"order_1"},{"name":"other"},{"name":"more"}]`, "Origin: https://new.example").want(202, "")
		if a.header.Get("Access-Control-Allow-Origin") != "https://new.example" {
			t.Errorf("%v", a.header)
		}
	}
	r.post("/v1/t", "wk_shop", `{"event":"order_1"}`, "Origin: https://shop.example").want(200, "")
	counts := map[string]uint64{}
	for _, o := range r.edge.Stats().WouldRefuse {
		counts[o.Key+" "+o.Restriction.String()] = o.Count
	}
	if len(counts) != 2 || counts["shop origins"] != 3 || counts["shop events"] != 6 {
		t.Errorf("%v", counts)
	}
	if n := strings.Count(log.String(), "would refuse"); n != 2 {
		t.Errorf("%d lines:\n%s", n, &log)
	}
	// A key with neither still refuses a secret in a browser.
	r.use(`{"id":"backend","kind":"secret","sha256":"%h"}`)
	r.post("/v1/events", "wk_backend", good, "Origin: https://shop.example").want(403, "secret_key_in_browser")
}

func TestAnOlderValueOfAKeyWorksUntilItsTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	older := func(value string, ends time.Time) string {
		return fmt.Sprintf(`{"sha256":%q,"expires_at":%q}`, source.Hash(value), ends.UTC().Format(time.RFC3339))
	}
	r.use(`{"id":"web","kind":"write","sha256":"%h","previous":[` + older("wk_before", time.Now().Add(time.Hour)) + `,` + older("wk_ended", time.Now().Add(-time.Hour)) + `]}`)
	r.post("/v1/events", "wk_web", good).want(202, "")
	r.post("/v1/events", "wk_before", good).want(202, "")
	r.post("/v1/t", "wk_before", `{"event":"a","writeKey":"wk_web"}`).want(200, "") // one key, twice
	a := r.post("/v1/events", "wk_ended", good).want(401, "expired_key")
	if !strings.Contains(a.body, "was replaced") {
		t.Errorf("%s", a.body)
	}
	for _, e := range r.events() {
		if e.Source != "web" {
			t.Errorf("source %s", e.Source)
		}
	}
}

// BenchmarkAuthentication is what a request pays to be let in, by a key in a
// header or a token, with 10,000 keys.
func BenchmarkAuthentication(b *testing.B) {
	r := benchmarkRig(b)
	key := sourcetest.NewKey("k1", jose.RS256, 1)
	keys := []string{appKey(sourcetest.NewIssuer(key).Listen(b), "")}
	for i := range 10_000 {
		keys = append(keys, fmt.Sprintf(`{"id":"key%d","kind":"write","sha256":"%%h"}`, i))
	}
	r.use(keys...)
	r.fetched()
	for name, line := range map[string]string{
		"bearer key": "Authorization: Bearer wk_key9999", "basic key": basic("wk_key9999:"),
		"token": "Authorization: Bearer " + key.Sign(b, tokenClaims("name", strings.Repeat("x", 200))),
	} {
		b.Run(name, func(b *testing.B) {
			x := &exchange{edge: r.edge}
			x.begin(&nullWriter{header: http.Header{}}, newRequest(http.MethodPost, "/v1/events", "", "", line))
			b.ReportAllocs()
			begin := testenv.CPUTime()
			for b.Loop() {
				x.key, x.byToken, x.admitted, x.conflict = nil, nil, nil, false
				if x.presentHeaders(); !x.admit() {
					b.Fatal(x.code)
				}
			}
			b.ReportMetric(float64(testenv.CPUTime()-begin)/float64(b.N), "cpu-ns/op")
		})
	}
}
