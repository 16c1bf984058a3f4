package source

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/eventsluice/sluice/internal/edge/source/sourcetest"
)

const issuer = "https://id.example"

// offline answers requests with a handler, without a network.
type offline struct{ http.Handler }

func (o offline) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	served := make(chan struct{})
	go func() {
		defer close(served)
		o.ServeHTTP(w, r)
	}()
	select {
	case <-served:
		resp := w.Result()
		resp.Request = r
		return resp, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

const tokenDocument = `{"keys":[
	{"id":"app","kind":"token","issuer":"https://id.example","audience":["app","app2"],"jwks":"https://id.example/jwks.json"},
	{"id":"admin","kind":"token","issuer":"https://id.example","audience":["admin"],"jwks":"https://id.example/jwks.json","user_claim":"https://id.example/uid","disabled":true},
	{"id":"other","kind":"token","issuer":"https://other.example","audience":["app"],"jwks":"https://other.example/jwks.json"}]}`

// running returns keys whose issuer answers, and fetches for them until the end
// of the test, in a bubble of synctest.
func running(t *testing.T, document string, issuer http.Handler) *Keys {
	t.Helper()
	keys := mustParse(t, nil, "%s", document)
	keys.fetcher.client.Transport = offline{issuer}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- keys.Run(ctx, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return keys
}

// claimsAt returns good claims of the app with some of them replaced; nil leaves
// one out.
func claimsAt(now time.Time, others ...any) map[string]any {
	c := map[string]any{"iss": issuer, "aud": "app", "sub": "u1", "exp": now.Unix() + 600, "iat": now.Unix()}
	for i := 0; i < len(others); i += 2 {
		if name := others[i].(string); others[i+1] == nil {
			delete(c, name)
		} else {
			c[name] = others[i+1]
		}
	}
	return c
}

func TestEveryAlgorithmWithAPublicKeyIsAccepted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, alg := range algorithms {
			for _, silent := range []bool{false, true} {
				key := sourcetest.NewKey("k1", alg, 1)
				key.Silent = silent
				keys := running(t, tokenDocument, sourcetest.NewIssuer(key))
				k, user, refusal := keys.VerifyToken(key.Sign(t, claimsAt(time.Now())), time.Now())
				if refusal != nil || k.ID != "app" || user != "u1" {
					t.Errorf("%s, silent %v: %v, %q, %v", alg, silent, k, user, refusal)
				}
			}
		}
	})
}

func TestATokenThatIsNotGoodIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rsaKey, ecKey := sourcetest.NewKey("rsa", jose.RS256, 1), sourcetest.NewKey("ec", jose.ES256, 1)
		small := sourcetest.NewKey("p384", jose.ES384, 1)
		keys := running(t, tokenDocument, sourcetest.NewIssuer(rsaKey, ecKey, small))
		now := time.Now()
		public, _ := rsaKey.JWK().MarshalJSON()
		stranger := sourcetest.NewKey("rsa", jose.RS256, 2)
		as := func(k sourcetest.Key, id string, alg jose.SignatureAlgorithm) sourcetest.Key {
			k.ID, k.Algorithm = id, alg
			return k
		}
		good := rsaKey.Sign(t, claimsAt(now))
		head, rest, _ := strings.Cut(good, ".")
		payload, signature, _ := strings.Cut(rest, ".")
		other, _ := json.Marshal(claimsAt(now, "sub", "u2"))
		for _, tt := range []struct {
			name, token string
			want        Reason
		}{
			{"unsigned", sourcetest.Unsigned(claimsAt(now)), InvalidToken},
			{"unsigned, of the form of a signed one", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"rsa"}`)) + "." + rest, InvalidToken},
			{"HS256 with the public key as its secret", sourcetest.WithMAC("rsa", public, claimsAt(now)), InvalidToken},
			{"without its signature", head + "." + payload + ".", InvalidToken},
			{"other claims with the signature", head + "." + base64.RawURLEncoding.EncodeToString(other) + "." + signature, InvalidToken},
			{"by another key of the same name", stranger.Sign(t, claimsAt(now)), InvalidToken},
			{"by a key that nobody knows", as(stranger, "nobody", jose.RS256).Sign(t, claimsAt(now)), InvalidToken},
			{"by a key without a name that fits none", as(stranger, "", jose.RS256).Sign(t, claimsAt(now)), InvalidToken},
			{"PS256 with a key for RS256", as(rsaKey, "rsa", jose.PS256).Sign(t, claimsAt(now)), InvalidToken},
			{"RS256 that names an elliptic key", as(rsaKey, "ec", jose.RS256).Sign(t, claimsAt(now)), InvalidToken},
			{"ES256 that names a key of P-384", as(ecKey, "p384", jose.ES256).Sign(t, claimsAt(now)), InvalidToken},
			{"of another issuer", rsaKey.Sign(t, claimsAt(now, "iss", "https://evil.example")), InvalidToken},
			{"of no issuer", rsaKey.Sign(t, claimsAt(now, "iss", nil)), InvalidToken},
			{"for another audience", rsaKey.Sign(t, claimsAt(now, "aud", "shop")), InvalidToken},
			{"for no audience", rsaKey.Sign(t, claimsAt(now, "aud", nil)), InvalidToken},
			{"for an empty audience", rsaKey.Sign(t, claimsAt(now, "aud", []string{})), InvalidToken},
			{"for an audience that is a number", rsaKey.Sign(t, claimsAt(now, "aud", 1)), InvalidToken},
			{"without an end", rsaKey.Sign(t, claimsAt(now, "exp", nil)), InvalidToken},
			{"with an end that is text", rsaKey.Sign(t, claimsAt(now, "exp", "tomorrow")), InvalidToken},
			{"with an end beyond time", rsaKey.Sign(t, claimsAt(now, "exp", 1e300)), InvalidToken},
			{"expired", rsaKey.Sign(t, claimsAt(now, "exp", now.Unix()-60)), ExpiredToken},
			{"not yet valid", rsaKey.Sign(t, claimsAt(now, "nbf", now.Unix()+61)), InvalidToken},
			{"issued in the future", rsaKey.Sign(t, claimsAt(now, "iat", now.Unix()+61)), InvalidToken},
			{"with a user that is an object", rsaKey.Sign(t, claimsAt(now, "sub", map[string]any{})), InvalidToken},
			{"with a long user", rsaKey.Sign(t, claimsAt(now, "sub", strings.Repeat("u", maxUser+1))), InvalidToken},
			{"with two subjects", rsaKey.SignRaw(t, fmt.Sprintf(`{"iss":%q,"aud":"app","exp":%d,"sub":"u1","sub":"u2"}`, issuer, now.Unix()+60)), InvalidToken},
			{"claims that are no object", rsaKey.SignRaw(t, `[]`), InvalidToken},
			{"claims that are no JSON", rsaKey.SignRaw(t, `{`), InvalidToken},
			{"too large", rsaKey.Sign(t, claimsAt(now, "x", strings.Repeat("x", maxToken))), InvalidToken},
			{"broken base64", head + ".!!!." + signature, InvalidToken},
			{"padded base64", head + "." + payload + "." + signature + "==", InvalidToken},
			{"only dots", "ey..", InvalidToken},
		} {
			k, _, refusal := keys.VerifyToken(tt.token, now)
			switch {
			case refusal == nil:
				t.Errorf("%s: accepted for %s", tt.name, k.ID)
			case refusal.Reason != tt.want:
				t.Errorf("%s: reason %d, want %d: %v", tt.name, refusal.Reason, tt.want, refusal)
			case strings.Contains(refusal.Error()+fmt.Sprint(refusal.Err), payload[:20]):
				t.Errorf("%s: the token is in the error", tt.name)
			}
		}
		for _, tt := range []struct {
			name, token, key, user string
		}{
			{"good", good, "app", "u1"},
			{"by a key without a name", as(rsaKey, "", jose.RS256).Sign(t, claimsAt(now)), "app", "u1"},
			{"of several audiences", rsaKey.Sign(t, claimsAt(now, "aud", []string{"x", "app2"})), "app", "u1"},
			{"of a disabled key and one that is not", rsaKey.Sign(t, claimsAt(now, "aud", []string{"admin", "app"})), "app", "u1"},
			{"of a disabled key", rsaKey.Sign(t, claimsAt(now, "aud", "admin", "https://id.example/uid", "a1")), "admin", "a1"},
			{"expired within the leeway", rsaKey.Sign(t, claimsAt(now, "exp", now.Unix()-59)), "app", "u1"},
			{"valid within the leeway", rsaKey.Sign(t, claimsAt(now, "nbf", now.Unix()+60, "iat", now.Unix()+60)), "app", "u1"},
			{"with a user that is a number", rsaKey.Sign(t, claimsAt(now, "sub", json.Number("9007199254740993"))), "app", "9007199254740993"},
			{"without a user", rsaKey.Sign(t, claimsAt(now, "sub", nil)), "app", ""},
		} {
			k, user, refusal := keys.VerifyToken(tt.token, now)
			if refusal != nil || k.ID != tt.key || user != tt.user {
				t.Errorf("%s: %v %q %v", tt.name, k, user, refusal)
			}
		}
	})
}

func TestACachedTokenEndsWhenItShould(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old, young := sourcetest.NewKey("old", jose.ES256, 1), sourcetest.NewKey("young", jose.ES256, 2)
		is := sourcetest.NewIssuer(old)
		is.Cache("max-age=60")
		keys := running(t, tokenDocument, is)
		token := old.Sign(t, claimsAt(time.Now(), "exp", time.Now().Unix()+600))
		want := func(when string, keys *Keys, reason Reason) {
			t.Helper()
			_, _, refusal := keys.VerifyToken(token, time.Now())
			got := Reasons
			if refusal != nil {
				got = refusal.Reason
			}
			if got != reason {
				t.Errorf("%s: reason %d, want %d", when, got, reason)
			}
		}
		want("at first", keys, Reasons)
		if keys.tokens.cache.get(token, time.Now()) == nil {
			t.Fatal("a good token is not kept")
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if asked, sent := is.Fetches(); asked < 5 || sent != 2 { // two addresses
			t.Errorf("%d fetches, %d of them sent", asked, sent)
		}
		if keys.tokens.cache.get(token, time.Now()) == nil {
			t.Error("fetching the same keys empties the cache")
		}
		// A key that the issuer has withdrawn.
		is.Rotate(young)
		time.Sleep(time.Minute)
		synctest.Wait()
		want("after the rotation", keys, InvalidToken)
		is.Rotate(old, young)
		time.Sleep(time.Minute)
		synctest.Wait()
		want("with the old key back", keys, Reasons)
		// A document in which the key is another's.
		reloaded := mustParse(t, keys, `{"keys":[{"id":"app","kind":"token","issuer":"https://id.example","audience":["new"],"jwks":"https://id.example/jwks.json"}]}`)
		want("for another audience after a reload", reloaded, InvalidToken)
		time.Sleep(4 * time.Minute)
		want("at its end", keys, ExpiredToken)
	})
}

func TestAnIssuerThatIsAwayDecidesNothing(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"away": sourcetest.Away, "garbage": sourcetest.Garbage, "huge": sourcetest.Huge, "hanging": sourcetest.Hanging,
		"no keys":                func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) },
		"unchanged from nothing": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
		"only a secret key": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"keys":[{"kty":"oct","kid":"k1","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`)
		},
		"away from https": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://id.example/jwks.json", http.StatusFound)
		},
		"in circles": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/jwks.json", http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				key := sourcetest.NewKey("k1", jose.ES256, 1)
				is := sourcetest.NewIssuer(key)
				is.Answer(answer)
				keys := running(t, tokenDocument, is)
				token := key.Sign(t, claimsAt(time.Now(), "exp", time.Now().Unix()+1e6))
				began := time.Now()
				_, _, refusal := keys.VerifyToken(token, time.Now())
				if refusal == nil || refusal.Reason != Undecided || refusal.RetryAfter <= 0 {
					t.Fatalf("%v", refusal)
				}
				if waited := time.Since(began); waited > patience {
					t.Errorf("waited %v", waited)
				}
				for _, i := range keys.Issuers() {
					if name != "hanging" && !i.Failing || !i.Until.IsZero() {
						t.Errorf("%+v", i)
					}
				}
				// It comes back by itself, without being asked.
				is.Answer(nil)
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if _, _, refusal := keys.VerifyToken(token, time.Now()); refusal != nil {
					t.Errorf("when the issuer is back: %v", refusal)
				}
				if name != "away" {
					return
				}
				// And goes again: what was fetched stays in force for a day.
				is.Answer(answer)
				time.Sleep(23 * time.Hour)
				fresh := key.Sign(t, claimsAt(time.Now(), "exp", time.Now().Unix()+1e6))
				began = time.Now()
				if _, _, refusal := keys.VerifyToken(fresh, time.Now()); refusal != nil || time.Since(began) > 0 {
					t.Errorf("a known key after 23 hours: %v, waited %v", refusal, time.Since(began))
				}
				unknown := sourcetest.NewKey("k2", jose.ES256, 2).Sign(t, claimsAt(time.Now()))
				if _, _, refusal := keys.VerifyToken(unknown, time.Now()); refusal == nil || refusal.Reason != Undecided {
					t.Errorf("a new key while the issuer is away: %v", refusal)
				}
				time.Sleep(2 * time.Hour)
				for _, token := range []string{token, fresh} {
					if _, _, refusal := keys.VerifyToken(token, time.Now()); refusal == nil || refusal.Reason != Undecided {
						t.Errorf("after a day: %v", refusal)
					}
				}
			})
		})
	}
}

func TestAnUnknownKeyIsLookedForOnceAndFloodsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := sourcetest.NewKey("first", jose.ES256, 1), sourcetest.NewKey("second", jose.ES256, 2)
		is := sourcetest.NewIssuer(first)
		slow := func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			_, _ = w.Write(is.Document())
		}
		document := `{"keys":[{"id":"app","kind":"token","issuer":"https://id.example","audience":["app"],"jwks":"https://id.example/jwks.json"}]}`
		keys := running(t, document, is)
		is.Answer(slow)
		is.Rotate(first, second)

		// Many requests with the new key, and with the old one, at once.
		var wg sync.WaitGroup
		old, young := first.Sign(t, claimsAt(time.Now())), second.Sign(t, claimsAt(time.Now()))
		for range 50 {
			wg.Go(func() {
				began := time.Now()
				if _, _, refusal := keys.VerifyToken(young, time.Now()); refusal != nil || time.Since(began) != time.Second {
					t.Errorf("the new key: %v after %v", refusal, time.Since(began))
				}
			})
			wg.Go(func() {
				began := time.Now()
				if _, _, refusal := keys.VerifyToken(old, time.Now()); refusal != nil || time.Since(began) != 0 {
					t.Errorf("the old key: %v after %v", refusal, time.Since(began))
				}
			})
		}
		wg.Wait()
		if asked, _ := is.Fetches(); asked != 2 {
			t.Errorf("%d fetches, want the first and one", asked)
		}

		// A forger with keys of a thousand names, for a minute.
		counts := map[Reason]int{}
		for i := range 1200 {
			forged := second
			forged.ID = fmt.Sprint("forged", i)
			_, _, refusal := keys.VerifyToken(forged.Sign(t, claimsAt(time.Now())), time.Now())
			if refusal == nil {
				t.Fatal("accepted")
			}
			counts[refusal.Reason]++
			time.Sleep(50 * time.Millisecond)
		}
		if asked, _ := is.Fetches(); asked > 2+1+7 {
			t.Errorf("%d fetches", asked)
		}
		if counts[Undecided] == 0 || counts[InvalidToken] == 0 || len(counts) != 2 {
			t.Errorf("refused by reason: %v", counts)
		}
		// Meanwhile who has a key is served, and one name is refused for good
		// once a fetch has not found it.
		if _, _, refusal := keys.VerifyToken(first.Sign(t, claimsAt(time.Now())), time.Now()); refusal != nil {
			t.Error(refusal)
		}
		time.Sleep(askBurst * askInterval)
		forged := second
		forged.ID = "one name"
		for i := range 5 {
			began := time.Now()
			_, _, refusal := keys.VerifyToken(forged.Sign(t, claimsAt(time.Now())), time.Now())
			if refusal == nil || refusal.Reason != InvalidToken || i > 0 && time.Since(began) > 0 {
				t.Errorf("time %d: %v after %v", i, refusal, time.Since(began))
			}
		}
		if n := len(keys.tokens.issuers[issuer][0].jwks.unknown); n > maxUnknown {
			t.Errorf("%d names are remembered", n)
		}
	})
}

func TestAFetchThatBeganBeforeTheTokenCameDoesNotRefuseIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := sourcetest.NewKey("first", jose.ES256, 1), sourcetest.NewKey("second", jose.ES256, 2)
		is := sourcetest.NewIssuer(first)
		keys := running(t, tokenDocument, is)
		is.Answer(func(w http.ResponseWriter, _ *http.Request) {
			document := is.Document() // what holds when the request comes
			time.Sleep(time.Second)
			_, _ = w.Write(document)
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			forged := first
			forged.ID = "forged"
			_, _, _ = keys.VerifyToken(forged.Sign(t, claimsAt(time.Now())), time.Now())
		})
		time.Sleep(500 * time.Millisecond)
		is.Rotate(second) // while the fetch is under way
		began := time.Now()
		if _, _, refusal := keys.VerifyToken(second.Sign(t, claimsAt(time.Now())), time.Now()); refusal != nil || time.Since(began) != 1500*time.Millisecond {
			t.Errorf("%v after %v", refusal, time.Since(began))
		}
		wg.Wait()
	})
}

func TestADocumentThatIsNotTakenDoesNotStopTheFetching(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key, young := sourcetest.NewKey("k1", jose.ES256, 1), sourcetest.NewKey("k2", jose.ES256, 2)
		is := sourcetest.NewIssuer(key)
		keys := running(t, tokenDocument, is)
		without := `{"keys":[{"id":"b","kind":"secret","sha256":%q,"signature":{"secret":"env:NOWHERE"}}]}`
		if _, err := Load(fmt.Appendf(nil, without, Hash("b")), keys, noEnvironment); err == nil {
			t.Fatal("taken")
		}
		is.Rotate(young)
		if _, _, refusal := keys.VerifyToken(young.Sign(t, claimsAt(time.Now())), time.Now()); refusal != nil {
			t.Error(refusal)
		}
		// One that is taken does, and brings the issuer back when it has it.
		other := mustParse(t, keys, `{"keys":[]}`)
		before, _ := is.Fetches()
		time.Sleep(2 * time.Hour)
		if after, _ := is.Fetches(); after != before {
			t.Errorf("%d fetches for nobody", after-before)
		}
		again := mustParse(t, other, "%s", tokenDocument)
		synctest.Wait()
		if _, _, refusal := again.VerifyToken(young.Sign(t, claimsAt(time.Now())), time.Now()); refusal != nil {
			t.Error(refusal)
		}
	})
}

func TestKeysAreFetchedAgainAsTheIssuerSays(t *testing.T) {
	t.Parallel()
	for control, want := range map[string]time.Duration{
		"": defaultFresh, "max-age=0": minFresh, "no-store": minFresh, "public, max-age=300, must-revalidate": 5 * time.Minute,
		"max-age=86400": maxFresh, "max-age=x": defaultFresh, `max-age="120"`: 2 * time.Minute, "max-age=-1": defaultFresh,
		"max-age=99999999999999999999": defaultFresh, "s-maxage=1": defaultFresh, "MAX-AGE=120, no-cache": minFresh,
	} {
		h := http.Header{}
		if control != "" {
			h.Set("Cache-Control", control)
		}
		if got := freshness(h); got != want {
			t.Errorf("%q: %v, want %v", control, got, want)
		}
	}
}

func TestKeysOfAFileFollowIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "jwks.json")
		first, second := sourcetest.NewKey("first", jose.ES256, 1), sourcetest.NewKey("second", jose.ES256, 2)
		is := sourcetest.NewIssuer(first)
		if err := os.WriteFile(file, is.Document(), 0o600); err != nil {
			t.Fatal(err)
		}
		keys := running(t, fmt.Sprintf(`{"keys":[{"id":"app","kind":"token","issuer":%q,"audience":["app"],"jwks":%q}]}`, issuer, "file:"+file), is)
		if _, _, refusal := keys.VerifyToken(first.Sign(t, claimsAt(time.Now())), time.Now()); refusal != nil {
			t.Error(refusal)
		}
		is.Rotate(second)
		if err := os.WriteFile(file, is.Document(), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, refusal := keys.VerifyToken(second.Sign(t, claimsAt(time.Now())), time.Now()); refusal != nil {
			t.Error(refusal)
		}
		if asked, _ := is.Fetches(); asked != 0 {
			t.Error("the network was asked")
		}
	})
}

func TestOnlyPublicKeysThatCanVerifyAreTaken(t *testing.T) {
	t.Parallel()
	rsaKey, ecKey := sourcetest.NewKey("rsa", jose.RS256, 1), sourcetest.NewKey("ec", jose.ES256, 1)
	change := func(k sourcetest.Key, members map[string]any) string {
		raw, _ := k.JWK().MarshalJSON()
		var m map[string]any
		_ = json.Unmarshal(raw, &m)
		maps.Copy(m, members)
		raw, _ = json.Marshal(m)
		return string(raw)
	}
	private, _ := jose.JSONWebKey{Key: ecKey.Private, KeyID: "private"}.MarshalJSON()
	short := base64.RawURLEncoding.EncodeToString(append([]byte{0x80}, make([]byte, 127)...))
	for name, jwk := range map[string]string{
		"for encryption":        change(rsaKey, map[string]any{"use": "enc"}),
		"for another algorithm": change(rsaKey, map[string]any{"alg": "RSA-OAEP"}),
		"for HS256":             change(rsaKey, map[string]any{"alg": "HS256"}),
		"for ES256, of RSA":     change(rsaKey, map[string]any{"alg": "ES256"}),
		"RSA of 1024 bits":      change(rsaKey, map[string]any{"n": short}),
		"a private key":         string(private),
		"a secret":              `{"kty":"oct","k":"AAAA"}`,
		"a point off the curve": change(ecKey, map[string]any{"x": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}),
		"of an unknown type":    `{"kty":"AKP","alg":"ML-DSA-44","pub":"AAAA"}`,
		"of no type":            `{}`,
		"no object":             `7`,
		"null":                  `null`,
	} {
		if k, ok := parsePublicKey([]byte(jwk)); ok {
			t.Errorf("%s is taken for %v", name, k.algorithms)
		}
		// It does not stand in the way of a good one.
		good, _ := ecKey.JWK().MarshalJSON()
		if j, err := parseJWKS([]byte(`{"keys":[` + jwk + `,` + string(good) + `]}`)); err != nil || len(j.keys) != 1 {
			t.Errorf("%s beside a good one: %v", name, err)
		}
	}
	if _, err := parseJWKS([]byte(`{"keys":[` + strings.Repeat(`{},`, maxPublicKeys) + `{}]}`)); err == nil {
		t.Error("any number of keys is taken")
	}
}

func TestAddressesOfJWKS(t *testing.T) {
	t.Parallel()
	for address, good := range map[string]bool{
		"https://id.example/jwks": true, "http://127.0.0.1:8080/jwks": true, "http://[::1]/jwks": true, "http://localhost/jwks": true,
		"file:/etc/jwks.json": true, "file:jwks.json": true,
		"http://id.example/jwks": false, "http://127.0.0.1.evil.example/": false, "ftp://id.example/": false, "https://": false, "": false,
		"file:": false, "https://user:secret@id.example/": false, "id.example/jwks": false, "https://id.example/#x": false, "http://10.0.0.1/": false,
	} {
		if err := isJWKS(address); (err == nil) != good {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// FuzzToken gives anything to the verification: nothing but what the issuer has
// signed is accepted.
func FuzzToken(f *testing.F) {
	key := sourcetest.NewKey("k1", jose.ES256, 1)
	far := map[string]any{"iss": issuer, "aud": "app", "sub": "u1", "exp": noon.Unix() + 600}
	good := key.Sign(f, far)
	f.Add(good)
	f.Add(sourcetest.Unsigned(far))
	f.Add(sourcetest.WithMAC("k1", []byte("x"), far))
	f.Add("ey..")
	f.Add(`eyJhbGciOiJSUzI1NiIsImp3ayI6eyJrdHkiOiJvY3QifX0.e30.AAAA`)
	document := sourcetest.NewIssuer(key).Document()
	f.Fuzz(func(t *testing.T, token string) {
		keys := mustParse(t, nil, "%s", tokenDocument)
		j, err := parseJWKS(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range keys.sets {
			s.end(fetched{keys: j, fresh: maxFresh}, nil, time.Now())
			s.asks.SetBurst(0) // nothing to wait for
		}
		k, user, refusal := keys.VerifyToken(token, noon)
		if refusal == nil && (token != good || k.ID != "app" || user != "u1") {
			// ECDSA signatures can be changed and stay good; the claims cannot.
			if strings.HasPrefix(token, good[:strings.LastIndexByte(good, '.')]) && user == "u1" {
				return
			}
			t.Errorf("accepted %q for %s", token, k.ID)
		}
		if refusal != nil && refusal.Detail == "" {
			t.Errorf("%+v", refusal)
		}
	})
}

func FuzzJWKS(f *testing.F) {
	f.Add(sourcetest.NewIssuer(sourcetest.NewKey("a", jose.RS256, 1), sourcetest.NewKey("b", jose.ES512, 1), sourcetest.NewKey("c", jose.EdDSA, 1)).Document())
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AAAA"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA","x5c":["AAAA"]}]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		j, err := parseJWKS(document)
		if err != nil {
			return
		}
		for _, k := range j.keys {
			if k.key == nil || len(k.algorithms) == 0 {
				t.Errorf("%+v", k)
			}
		}
	})
}

// cachedToken returns a table of n write keys and a token that is verified.
func cachedToken(t testing.TB, n int) (*Keys, string) {
	document, _ := table(n)
	document = strings.TrimSuffix(document, `]}`) + strings.Replace(tokenDocument[len(`{"keys":[`):], "\n", "", 1)
	document = strings.Replace(document, `"}`+"\t{", `"},{`, 1)
	keys := mustParse(t, nil, "%s", document)
	key := sourcetest.NewKey("k1", jose.RS256, 1)
	j, err := parseJWKS(sourcetest.NewIssuer(key).Document())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range keys.sets {
		s.end(fetched{keys: j, fresh: maxFresh}, nil, time.Now())
	}
	token := key.Sign(t, claimsAt(time.Now(), "exp", time.Now().Unix()+86400, "name", strings.Repeat("x", 300)))
	if _, _, refusal := keys.VerifyToken(token, time.Now()); refusal != nil {
		t.Fatal(refusal)
	}
	return keys, token
}

func TestACachedTokenDoesNotAllocate(t *testing.T) {
	keys, token := cachedToken(t, 10)
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { _, _, _ = keys.VerifyToken(token, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCachedTokenAmong10000(b *testing.B) {
	keys, token := cachedToken(b, 10000)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if !keys.LooksLikeToken(token) {
			b.Fatal("not a token")
		}
		if _, _, refusal := keys.VerifyToken(token, now); refusal != nil {
			b.Fatal(refusal)
		}
	}
}

func BenchmarkVerifyToken(b *testing.B) {
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA} {
		b.Run(string(alg), func(b *testing.B) {
			key := sourcetest.NewKey("k1", alg, 1)
			keys := mustParse(b, nil, "%s", tokenDocument)
			j, _ := parseJWKS(sourcetest.NewIssuer(key).Document())
			for _, s := range keys.sets {
				s.end(fetched{keys: j, fresh: maxFresh}, nil, time.Now())
			}
			token := key.Sign(b, claimsAt(time.Now()))
			for b.Loop() {
				if _, refusal := keys.tokens.verify(token, time.Now()); refusal != nil {
					b.Fatal(refusal)
				}
			}
		})
	}
}
