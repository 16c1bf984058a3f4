package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// algorithms are those that a token may be signed with: with public keys only.
// A MAC (HS256) would make the public key of an issuer its secret, and none is
// no signature.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

const (
	// leeway is how far the clocks of issuer and gateway may be apart.
	leeway = time.Minute
	// maxToken is the most bytes of a token.
	maxToken = 8 << 10
	// maxUser is the most bytes of a user id, as for events.
	maxUser = 512
	// defaultUserClaim is the claim that holds the user id. Source: RFC 7519,
	// section 4.1.2.
	defaultUserClaim = "sub"
)

// claims are those that a token is judged by. Source: RFC 7519, section 4.1.
type claims struct {
	Issuer    string           `json:"iss"`
	Audience  jwt.Audience     `json:"aud"`
	Expiry    *jwt.NumericDate `json:"exp"`
	NotBefore *jwt.NumericDate `json:"nbf"`
	IssuedAt  *jwt.NumericDate `json:"iat"`
}

// tokens verifies the tokens of the keys of kind token.
type tokens struct {
	issuers map[string][]*Key // in the order of the document
	cache   *tokenCache
}

// newTokens returns nil if there is no key of kind token.
func newTokens(list []*Key) *tokens {
	var t *tokens
	for _, k := range list {
		if k.Kind != Token {
			continue
		}
		if t == nil {
			t = &tokens{issuers: map[string][]*Key{}, cache: newTokenCache()}
		}
		t.issuers[k.Issuer] = append(t.issuers[k.Issuer], k)
	}
	return t
}

// LooksLikeToken reports whether what was presented as a key is to be taken
// for a token: two dots, and a header that begins as JSON does, in base64.
func (ks *Keys) LooksLikeToken(presented string) bool {
	return ks.tokens != nil && strings.HasPrefix(presented, "ey") && strings.Count(presented, ".") == 2
}

// VerifyToken returns the key of kind token that a token is for, whatever its
// state, and the user that it names; "" if it names none. It does not keep
// token.
//
// A token that was verified costs no more than a look, until it expires, or
// the document or the issuer's keys change. One whose signing key is not known
// waits for the keys to be fetched, at most 3 seconds, and is Undecided if they
// could not be: only keys that were fetched after it came can say that it is
// wrong.
func (ks *Keys) VerifyToken(token string, now time.Time) (*Key, string, *Refusal) {
	if v := ks.tokens.cache.get(token, now); v != nil {
		return v.key, v.user, nil
	}
	v, refusal := ks.tokens.verify(token, now)
	if refusal != nil {
		return nil, "", refusal
	}
	ks.tokens.cache.put(token, v)
	return v.key, v.user, nil
}

// verified is a token that is good.
type verified struct {
	token string
	key   *Key
	user  string
	until time.Time
	keys  *jwks // that it was verified with
}

func invalid(format string, args ...any) *Refusal {
	return &Refusal{Reason: InvalidToken, Detail: fmt.Sprintf(format, args...)}
}

func (t *tokens) verify(token string, now time.Time) (*verified, *Refusal) {
	if len(token) > maxToken {
		return nil, invalid("the token has more than %d bytes", maxToken)
	}
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		// The errors of the library may repeat parts of the token.
		if _, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
			return nil, invalid("the token must be signed with a public key: RS, PS or ES 256, 384 or 512, or EdDSA")
		}
		return nil, invalid("the token is not a signed JWT")
	}
	var c claims
	var all map[string]json.RawMessage
	if parsed.UnsafeClaimsWithoutVerification(&c, &all) != nil {
		return nil, invalid("the claims of the token cannot be read")
	}
	// From here on the claims are believed only to choose the keys that verify
	// them; what is wrong with them is said when they are known to be true.
	key := t.keyFor(&c, now)
	if key == nil {
		return nil, invalid("no key is for the issuer and the audience of the token")
	}
	header := parsed.Headers[0]
	used, refusal := key.jwks.verify(header.KeyID, jose.SignatureAlgorithm(header.Algorithm), token, func(public any) bool {
		return parsed.Claims(public) == nil
	})
	if refusal != nil {
		return nil, refusal
	}
	return key.accept(&c, all, used, now)
}

// keyFor returns the first key of the issuer and one of the audiences, one that
// is active before one that is not.
func (t *tokens) keyFor(c *claims, now time.Time) (found *Key) {
	for _, k := range t.issuers[c.Issuer] {
		if !slices.ContainsFunc(k.Audience, c.Audience.Contains) {
			continue
		}
		if k.State(now) == Active {
			return k
		}
		if found == nil {
			found = k
		}
	}
	return found
}

// accept judges claims that are known to be the issuer's.
func (k *Key) accept(c *claims, all map[string]json.RawMessage, used *jwks, now time.Time) (*verified, *Refusal) {
	if c.Expiry == nil {
		return nil, invalid("the token has no exp: it must expire")
	}
	until := c.Expiry.Time().Add(leeway)
	switch {
	case !now.Before(until):
		return nil, &Refusal{Reason: ExpiredToken, Detail: "the token has expired"}
	case c.NotBefore != nil && now.Add(leeway).Before(c.NotBefore.Time()):
		return nil, invalid("the token is not valid yet (nbf)")
	case c.IssuedAt != nil && now.Add(leeway).Before(c.IssuedAt.Time()):
		return nil, invalid("the token was issued in the future (iat)")
	}
	name := k.UserClaim
	if name == "" {
		name = defaultUserClaim
	}
	user, ok := userOf(all[name])
	if !ok {
		return nil, invalid("the claim %s must be a string or a number of at most %d bytes", name, maxUser)
	}
	return &verified{key: k, user: user, until: until, keys: used}, nil
}

// userOf returns the user id in a claim; a number is its text. Missing, null
// and empty are none.
func userOf(claim json.RawMessage) (string, bool) {
	var v any
	if len(claim) == 0 {
		return "", true
	}
	if json.Unmarshal(claim, &v) != nil {
		return "", false
	}
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return v, len(v) <= maxUser
	case float64:
		return string(claim), len(claim) <= maxUser
	}
	return "", false
}

const (
	// cacheSlots is how many tokens the cache has room for. Two that fall on
	// one slot push each other out, and are verified again.
	cacheSlots = 8 << 10
	// maxCached is the most bytes of a token that is kept; most have about
	// 1,000. So the cache takes 8 MB, or 32 MB if an issuer makes large ones.
	maxCached = 4 << 10
)

// tokenCache remembers tokens that are good. Only those that an issuer has
// signed get in, so that nobody else can fill it. It is of one table of keys:
// with the document, all are verified anew.
type tokenCache struct {
	seed  maphash.Seed
	slots [cacheSlots]atomic.Pointer[verified]
}

func newTokenCache() *tokenCache { return &tokenCache{seed: maphash.MakeSeed()} }

func (c *tokenCache) slot(token string) *atomic.Pointer[verified] {
	return &c.slots[maphash.String(c.seed, token)%cacheSlots]
}

func (c *tokenCache) get(token string, now time.Time) *verified {
	v := c.slot(token).Load()
	// The comparison ends at the first byte that differs, which tells a forger
	// nothing: without the seed, what falls on the slot of a token is chance.
	if v == nil || v.token != token || !now.Before(v.until) || !v.key.jwks.inForce(v.keys, now) {
		return nil
	}
	return v
}

func (c *tokenCache) put(token string, v *verified) {
	if len(token) <= maxCached {
		v.token = strings.Clone(token)
		c.slot(token).Store(v)
	}
}
