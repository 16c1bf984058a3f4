// Package source is about who may write: the keys of the keys document, their
// scopes and their rates, signatures, and the tokens that stand for a key.
//
// A key is presented in clear by its sender and kept as its SHA-256. Keys are
// 32 random bytes (see Generate), so a plain hash is enough: there is no
// dictionary to try, and a slow hash would be paid by every request.
//
// Keys is immutable. A new document becomes a new Keys, and whoever holds the
// old one finishes with it. What must outlive a document passes from one to the
// next: remembered signatures, counts of what mode observe let pass, and the public
// keys of token issuers. The buckets of rates are the limiter's, see package
// limit.
package source

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/edge/limit"
)

// Kind says what a key may be used for.
type Kind string

const (
	// Write keys are public: they stand in pages and apps, and can do nothing
	// but send, from their origins.
	Write Kind = "write"
	// Secret keys are for back ends. A browser must not have one.
	Secret Kind = "secret"
	// Token keys are for users of an app: a token of theirs (a JWT), signed by
	// an issuer, stands for the key, and says who they are.
	Token Kind = "token"
)

// State is whether a key may be used at all.
type State uint8

// The states of a key.
const (
	Active State = iota
	Disabled
	Expired
)

func (s State) String() string {
	return [...]string{Active: "active", Disabled: "disabled", Expired: "expired"}[s]
}

// Key is one key of the document. Its fields are read, never written, after
// Parse.
type Key struct {
	// ID names the key where the key itself must not stand: in logs, metrics
	// and errors.
	ID string `json:"id" validate:"required,max=100,printable"`
	// Kind is Write, Secret or Token.
	Kind Kind `json:"kind" validate:"required,oneof=write secret token"`
	// Source is what events of this key carry as their source. Default: ID.
	Source string `json:"source,omitempty" validate:"omitempty,max=100,printable"`
	// SHA256 is the hash of the key, 64 hexadecimal digits. A key of kind token
	// has none.
	SHA256 string `json:"sha256,omitempty" validate:"omitempty,sha256"`
	// Previous are older values of the key that still work, each until its time:
	// whoever has one has that long to change.
	Previous []Previous `json:"previous,omitempty" validate:"omitempty,max=10,dive"`

	// Issuer, Audience and JWKS are of kind token, and UserClaim may be. Issuer
	// is the iss of its tokens; Audience are those aud of which they must have
	// one; JWKS is where the issuer's public keys are: an https URL, an http URL
	// on loopback, or file:PATH. No two keys have the same issuer and a common
	// audience. Of a token for several keys the first that is active counts.
	Issuer   string   `json:"issuer,omitempty" validate:"omitempty,max=1000,printable"`
	Audience []string `json:"audience,omitempty" validate:"omitempty,max=100,dive,required,max=1000"`
	JWKS     string   `json:"jwks,omitempty" validate:"omitempty,max=2000,jwks"`
	// UserClaim is the claim of the token that holds the user_id of its events,
	// a string or a number. Default: sub. An event without a user_id gets it;
	// one with another is refused.
	UserClaim string `json:"user_claim,omitempty" validate:"omitempty,max=200"`
	// Token is the id of a key of kind token. Requests with this key must carry
	// a token of that one too, and their events are its user's.
	Token string `json:"token,omitempty" validate:"omitempty,max=100"`

	// Origins are the web origins that may use the key: exact
	// (https://shop.example), all subdomains (https://*.shop.example), or "*".
	// None: a write key may come from anywhere, a secret key from anywhere but
	// a browser. With origins, a request without an Origin header is refused
	// too, unless "*" is among them.
	Origins []string `json:"origins,omitempty" validate:"omitempty,max=1000,dive,origin"`
	// Events are the names that the key may send: exact, a prefix (order_*),
	// or "*". None means all.
	Events []string `json:"events,omitempty" validate:"omitempty,max=10000,dive,eventname"`
	// IPs are the ranges of addresses that may send: 10.0.0.0/8, 2001:db8::/32,
	// or one address. None means all.
	IPs []string `json:"ips,omitempty" validate:"omitempty,max=1000"`
	// Signature is how requests must be signed. Nil means that they need not be.
	Signature *Signature `json:"signature,omitempty"`
	// Modes say what becomes of what does not meet a restriction, by the name
	// of the restriction: off, observe or enforce. Default: enforce.
	Modes map[string]string `json:"modes,omitempty"`
	// Rate limits the events of this key. Nil means no limit.
	Rate *limit.Rate `json:"rate,omitempty" validate:"omitempty"`
	// AddressRate limits the events of each address with this key (IPv6: of each
	// /64), as whole requests.
	AddressRate *limit.Rate `json:"address_rate,omitempty" validate:"omitempty"`
	// UserRate limits the events of each user with this key, event by event. The
	// user is the user_id or, if there is none, the anonymous_id; an event that
	// has neither is not limited by it. It is for clients that run wild, not
	// against those who mean it: who sends may call itself as it likes.
	UserRate *limit.Rate `json:"user_rate,omitempty" validate:"omitempty"`
	// EventRate limits the events of each name with this key, event by event.
	EventRate *limit.Rate `json:"event_rate,omitempty" validate:"omitempty"`
	// Disabled turns the key off.
	Disabled bool `json:"disabled,omitempty"`
	// ExpiresAt is when the key ends. Nil means never.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	// IP keeps the sender's address in the event. Addresses are personal data
	// in many laws, so the default is not to.
	IP bool `json:"ip,omitempty"`

	hash     [sha256.Size]byte
	origins  originSet
	events   nameSet
	prefixes []netip.Prefix
	modes    [Restrictions]Mode
	observed *observed    // nil if no mode is, or was, observe
	signer   *signer      // nil if requests need not be signed
	jwks     *keySet      // of kind token
	limits   *limit.Rules // nil if there is no rate
	replaced bool
}

// Previous is an older value of a key.
type Previous struct {
	// SHA256 is its hash.
	SHA256 string `json:"sha256" validate:"required,sha256"`
	// ExpiresAt is when it ends.
	ExpiresAt time.Time `json:"expires_at" validate:"required"`
}

// State returns whether the key may be used at a time.
func (k *Key) State(now time.Time) State {
	switch {
	case k.Disabled:
		return Disabled
	case k.ExpiresAt != nil && !now.Before(*k.ExpiresAt):
		return Expired
	}
	return Active
}

// Replaced reports whether this is an older value of the key, see Previous. It
// is the same key in everything but when it expires.
func (k *Key) Replaced() bool { return k.replaced }

// Mode returns what becomes of what does not meet a restriction of the key.
func (k *Key) Mode(r Restriction) Mode { return k.modes[r] }

// AllowsOrigin reports whether a request with this Origin header ("" for none)
// may use the key: its origins list it, or are not enforced.
func (k *Key) AllowsOrigin(origin string) bool {
	return k.modes[RestrictOrigins] != Enforce || k.OriginListed(origin)
}

// OriginListed is AllowsOrigin whatever the mode.
func (k *Key) OriginListed(origin string) bool {
	if len(k.Origins) == 0 {
		return k.Kind != Secret || origin == ""
	}
	return k.origins.has(origin)
}

// AllowsEvent reports whether the key may send events of a name: its events
// list it, or are not enforced.
func (k *Key) AllowsEvent(name string) bool {
	return k.modes[RestrictEvents] != Enforce || k.EventListed(name)
}

// EventListed is AllowsEvent whatever the mode.
func (k *Key) EventListed(name string) bool { return k.events.has(name) }

// NamesUser reports whether the events of the key are those of the user that a
// token names.
func (k *Key) NamesUser() bool { return k.Kind == Token || k.Token != "" }

// Limits returns the rules of the key's rates; nil if it has none, or all are
// off.
func (k *Key) Limits() *limit.Rules { return k.limits }

// Keys is all keys of a document.
type Keys struct {
	list   []*Key
	byHash map[[sha256.Size]byte]*Key
	// anyOrigin is the union of the origins of the enabled keys, for
	// preflights, which carry no key.
	anyOrigin originSet
	tokens    *tokens // nil if there is no key of kind token
	// fetcher and window are shared with the tables before and after this one.
	fetcher *fetcher
	window  *window
	sets    map[string]*keySet // of the token issuers, by address
	// tolerance is the longest of the signatures' keys.
	tolerance time.Duration
}

// newKeys builds the table. The keys must have been validated.
func newKeys(list []*Key, previous *Keys) *Keys {
	ks := &Keys{list: list, byHash: make(map[[sha256.Size]byte]*Key, len(list))}
	before := map[string]*Key{}
	if previous != nil {
		ks.fetcher, ks.window = previous.fetcher, previous.window
		for _, k := range previous.list {
			before[k.ID] = k
		}
	} else {
		ks.fetcher, ks.window = newFetcher(), newWindow()
	}
	ks.sets = map[string]*keySet{}
	for _, k := range list {
		if k.Source == "" {
			k.Source = k.ID
		}
		k.origins.add(k.Origins...)
		k.events = newNameSet(k.Events)
		k.limits = k.rules()
		k.inherit(before[k.ID])
		if k.signer != nil {
			k.signer.window = ks.window
			ks.tolerance = max(ks.tolerance, k.signer.tolerance)
		}
		if k.Kind == Token {
			k.jwks = ks.sets[k.JWKS]
			if k.jwks == nil && previous != nil {
				k.jwks = previous.sets[k.JWKS]
			}
			if k.jwks == nil {
				k.jwks = newKeySet(k.JWKS, ks.fetcher.wake)
			}
			ks.sets[k.JWKS] = k.jwks
		} else {
			_, _ = hex.Decode(k.hash[:], []byte(k.SHA256)) // Parse has validated it
			ks.byHash[k.hash] = k
		}
		switch {
		case k.Disabled:
		case k.modes[RestrictOrigins] != Enforce:
			ks.anyOrigin.all = true
		case len(k.Origins) > 0:
			ks.anyOrigin.add(k.Origins...)
		case k.Kind != Secret:
			ks.anyOrigin.all = true
		}
	}
	for _, k := range list {
		// An older value is the key itself, but for its end.
		for _, p := range k.Previous {
			older := *k
			older.replaced = true
			if older.ExpiresAt == nil || p.ExpiresAt.Before(*older.ExpiresAt) {
				older.ExpiresAt = &p.ExpiresAt
			}
			_, _ = hex.Decode(older.hash[:], []byte(p.SHA256))
			ks.byHash[older.hash] = &older
		}
	}
	ks.tokens = newTokens(list)
	return ks
}

// rules makes the rules of the key's rates, as their modes want them.
func (k *Key) rules() *limit.Rules {
	rule := func(kind limit.Kind, rate *limit.Rate, mode Mode) *limit.Rule {
		if rate == nil || mode == Off {
			return nil
		}
		return limit.NewRule(kind, k.ID, *rate, mode == Observe)
	}
	rules := limit.Rules{
		Key:     rule(limit.Key, k.Rate, k.modes[RestrictRate]),
		Address: rule(limit.KeyAddress, k.AddressRate, Enforce),
		User:    rule(limit.User, k.UserRate, k.modes[RestrictUserRate]),
		Name:    rule(limit.Name, k.EventRate, k.modes[RestrictEventRate]),
	}
	if rules == (limit.Rules{}) {
		return nil
	}
	return &rules
}

// activate makes what the tables share serve this one.
func (ks *Keys) activate() {
	ks.window.tolerance.Store(int64(ks.tolerance / time.Second))
	ks.fetcher.use(ks.sets)
}

// inherit takes over what must outlive the document from the key that had the
// same id, nil if none had.
func (k *Key) inherit(was *Key) {
	if was != nil {
		k.observed = was.observed
	}
	if k.observed == nil && slices.Contains(k.modes[:], Observe) {
		k.observed = new(observed)
	}
}

// Find returns the key that was presented, whatever its state, or nil. It does
// not keep presented.
func (ks *Keys) Find(presented []byte) *Key {
	hash := sha256.Sum256(presented)
	k := ks.byHash[hash]
	// The map has compared already, but with a time that depends on how much
	// is equal. What could be learned are bits of a hash, which do not lead
	// back to a key; the second comparison costs nothing and needs no argument.
	if k == nil || subtle.ConstantTimeCompare(k.hash[:], hash[:]) != 1 {
		return nil
	}
	return k
}

// AllowsOrigin reports whether any enabled key may be used from an origin.
func (ks *Keys) AllowsOrigin(origin string) bool { return ks.anyOrigin.has(origin) }

// List returns the keys in the order of the document.
func (ks *Keys) List() []*Key { return slices.Clone(ks.list) }

// OfSource returns the active keys whose events carry a source.
func (ks *Keys) OfSource(source string, now time.Time) []*Key {
	var found []*Key
	for _, k := range ks.list {
		if k.Source == source && k.State(now) == Active {
			found = append(found, k)
		}
	}
	return found
}

// originSet holds origins and patterns of them.
type originSet struct {
	all   bool
	exact map[string]bool
	wild  []wildcard
}

// wildcard is an origin whose host begins with "*.": scheme is what stands
// before the asterisk, domain what stands after it, dot and port included.
type wildcard struct{ scheme, domain string }

func (s *originSet) add(origins ...string) {
	for _, o := range origins {
		o = strings.ToLower(o)
		if o == "*" {
			s.all = true
		} else if scheme, domain, ok := strings.Cut(o, "*"); ok {
			if w := (wildcard{scheme, domain}); !slices.Contains(s.wild, w) {
				s.wild = append(s.wild, w)
			}
		} else {
			if s.exact == nil {
				s.exact = map[string]bool{}
			}
			s.exact[o] = true
		}
	}
}

func (s *originSet) has(origin string) bool {
	if s.all || s.exact[origin] {
		return true
	}
	for _, w := range s.wild {
		sub, ok := strings.CutPrefix(origin, w.scheme)
		if !ok {
			continue
		}
		sub, ok = strings.CutSuffix(sub, w.domain)
		// What the asterisk stands for is part of a host name and nothing
		// else: not a port, a path or a user, whatever a forger writes.
		if ok && sub != "" && !strings.ContainsFunc(sub, notHost) {
			return true
		}
	}
	return false
}

func notHost(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.')
}

// nameSet holds event names and prefixes of them.
type nameSet struct {
	all      bool
	exact    map[string]bool
	prefixes []string
}

func newNameSet(names []string) nameSet {
	s := nameSet{all: len(names) == 0}
	for _, n := range names {
		if prefix, ok := strings.CutSuffix(n, "*"); ok {
			s.all = s.all || prefix == ""
			s.prefixes = append(s.prefixes, prefix)
			continue
		}
		if s.exact == nil {
			s.exact = map[string]bool{}
		}
		s.exact[n] = true
	}
	return s
}

func (s *nameSet) has(name string) bool {
	if s.all || s.exact[name] {
		return true
	}
	for _, p := range s.prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
