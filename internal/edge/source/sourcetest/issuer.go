// Package sourcetest has doubles of what says who may write: issuers of tokens,
// and back ends that sign.
package sourcetest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Key is a pair of keys of an issuer.
type Key struct {
	ID        string
	Algorithm jose.SignatureAlgorithm
	Private   crypto.Signer
	// Silent keys have no algorithm in the JWKS.
	Silent bool
}

// one of each kind is enough for all tests: RSA keys take long to make.
var made sync.Map

// NewKey returns a key for an algorithm. Two of the same algorithm and number
// have the same private key.
func NewKey(id string, alg jose.SignatureAlgorithm, number int) Key {
	type name struct {
		alg    jose.SignatureAlgorithm
		number int
	}
	private, ok := made.Load(name{alg, number})
	if !ok {
		private, _ = made.LoadOrStore(name{alg, number}, generate(alg))
	}
	return Key{ID: id, Algorithm: alg, Private: private.(crypto.Signer)}
}

func generate(alg jose.SignatureAlgorithm) crypto.Signer {
	var key crypto.Signer
	var err error
	switch alg {
	case jose.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.EdDSA:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		panic(err) // it does not happen
	}
	return key
}

// JWK returns the public key as a JWKS has it.
func (k Key) JWK() jose.JSONWebKey {
	jwk := jose.JSONWebKey{Key: k.Private.Public(), KeyID: k.ID, Algorithm: string(k.Algorithm), Use: "sig"}
	if k.Silent {
		jwk.Algorithm, jwk.Use = "", ""
	}
	return jwk
}

// Sign returns a token with these claims.
func (k Key) Sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return k.SignRaw(t, string(payload))
}

// SignRaw returns a token with any payload.
func (k Key) SignRaw(t testing.TB, payload string) string {
	t.Helper()
	options := new(jose.SignerOptions).WithType("JWT")
	if k.ID != "" {
		options = options.WithHeader("kid", k.ID)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.Algorithm, Key: k.Private}, options)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Unsigned returns a token of algorithm none.
func Unsigned(claims map[string]any) string {
	payload, _ := json.Marshal(claims)
	return encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + encode(payload) + "."
}

// WithMAC returns a token whose signature is an HMAC-SHA256 with a secret: a
// public key that everybody knows, for instance.
func WithMAC(kid string, secret []byte, claims map[string]any) string {
	payload, _ := json.Marshal(claims)
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT","kid":"`+kid+`"}`)) + "." + encode(payload)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Issuer serves a JWKS. It is an http.Handler, and safe for concurrent use.
type Issuer struct {
	mu      sync.Mutex
	keys    []Key
	answer  http.HandlerFunc
	cache   string
	fetches int
	bodies  int
}

// NewIssuer returns an issuer with these keys.
func NewIssuer(keys ...Key) *Issuer { return &Issuer{keys: keys} }

// Listen serves the issuer on loopback until the end of the test, and returns
// the address of its JWKS.
func (i *Issuer) Listen(t testing.TB) string {
	t.Helper()
	srv := httptest.NewServer(i)
	t.Cleanup(srv.Close)
	return srv.URL + "/jwks.json"
}

// Rotate replaces the keys.
func (i *Issuer) Rotate(keys ...Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

// Answer makes the issuer answer with h; nil: with its keys.
func (i *Issuer) Answer(h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = h
}

// Cache sets the Cache-Control of answers.
func (i *Issuer) Cache(control string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cache = control
}

// Fetches returns how often the JWKS was asked for, and how often it was sent.
func (i *Issuer) Fetches() (asked, sent int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches, i.bodies
}

// Document returns the JWKS.
func (i *Issuer) Document() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.document()
}

func (i *Issuer) document() []byte {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range i.keys {
		set.Keys = append(set.Keys, k.JWK())
	}
	document, err := json.Marshal(set)
	if err != nil {
		panic(err) // a key that cannot be written is a fault of the test
	}
	return document
}

func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.fetches++
	answer, document := i.answer, i.document()
	etag := `"` + encode(sum(document)) + `"`
	if answer == nil && i.cache != "" {
		w.Header().Set("Cache-Control", i.cache)
	}
	unchanged := answer == nil && r.Header.Get("If-None-Match") == etag
	if answer == nil && !unchanged {
		i.bodies++
	}
	i.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
	case unchanged:
		w.WriteHeader(http.StatusNotModified)
	default:
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(document)
	}
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

// Away answers 503.
func Away(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "away", http.StatusServiceUnavailable)
}

// Garbage answers with what is no JWKS.
func Garbage(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>sign in</html>")) }

// Huge answers with more than any issuer has: 640 KiB.
func Huge(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte(`{"keys":[`))
	junk := bytes.Repeat([]byte(" "), 128<<10)
	for range 5 {
		if _, err := w.Write(junk); err != nil {
			return
		}
	}
	_, _ = w.Write([]byte(`]}`))
}

// Hanging answers when the asker has given up.
func Hanging(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// Sign returns the headers of a signed request, as "Name: value": each of the
// secrets (whsec_…) makes a signature.
func Sign(id string, at time.Time, body string, secrets ...string) []string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	var signatures []string
	for _, secret := range secrets {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil {
			panic(err) // a fault of the test
		}
		mac := hmac.New(sha256.New, raw)
		mac.Write([]byte(id + "." + stamp + "." + body))
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return []string{"webhook-id: " + id, "webhook-timestamp: " + stamp, "webhook-signature: " + strings.Join(signatures, " ")}
}
