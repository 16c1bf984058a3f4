// Package source is about who may write: the keys of the keys document, their
// scopes and their rates.
//
// A key is presented in clear by its sender and kept as its SHA-256. Keys are
// 32 random bytes (see Generate), so a plain hash is enough: there is no
// dictionary to try, and a slow hash would be paid by every request.
//
// Keys is immutable. A new document becomes a new Keys, and whoever holds the
// old one finishes with it; only the rate limiters pass from one to the next.
package source

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// Kind says what a key may be used for.
type Kind string

const (
	// Write keys are public: they stand in pages and apps, and can do nothing
	// but send, from their origins.
	Write Kind = "write"
	// Secret keys are for back ends. A browser must not have one.
	Secret Kind = "secret"
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
	// Kind is Write or Secret.
	Kind Kind `json:"kind" validate:"required,oneof=write secret"`
	// Source is what events of this key carry as their source. Default: ID.
	Source string `json:"source,omitempty" validate:"omitempty,max=100,printable"`
	// SHA256 is the hash of the key, 64 hexadecimal digits.
	SHA256 string `json:"sha256" validate:"required,len=64,hexadecimal"`
	// Origins are the web origins that may use the key: exact
	// (https://shop.example), all subdomains (https://*.shop.example), or "*".
	// None: a write key may come from anywhere, a secret key from anywhere but
	// a browser. With origins, a request without an Origin header is refused
	// too, unless "*" is among them.
	Origins []string `json:"origins,omitempty" validate:"omitempty,max=1000,dive,origin"`
	// Events are the names that the key may send: exact, a prefix (order_*),
	// or "*". None means all.
	Events []string `json:"events,omitempty" validate:"omitempty,max=10000,dive,eventname"`
	// Rate limits the events of this key. Nil means no limit.
	Rate *Rate `json:"rate,omitempty" validate:"omitempty"`
	// Disabled turns the key off.
	Disabled bool `json:"disabled,omitempty"`
	// ExpiresAt is when the key ends. Nil means never.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	// IP keeps the sender's address in the event. Addresses are personal data
	// in many laws, so the default is not to.
	IP bool `json:"ip,omitempty"`

	hash    [sha256.Size]byte
	origins originSet
	events  nameSet
	limit   *Limit
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

// AllowsOrigin reports whether a request with this Origin header ("" for none)
// may use the key.
func (k *Key) AllowsOrigin(origin string) bool {
	if len(k.Origins) == 0 {
		return k.Kind == Write || origin == ""
	}
	return k.origins.has(origin)
}

// AllowsEvent reports whether the key may send events of a name.
func (k *Key) AllowsEvent(name string) bool { return k.events.has(name) }

// Limit returns the state of the key's rate limit; nil if it has none. Nil is
// ready for use and admits everything.
func (k *Key) Limit() *Limit { return k.limit }

// Keys is all keys of a document.
type Keys struct {
	list   []*Key
	byHash map[[sha256.Size]byte]*Key
	// anyOrigin is the union of the origins of the enabled keys, for
	// preflights, which carry no key.
	anyOrigin originSet
}

// newKeys builds the table. The keys must have been validated.
func newKeys(list []*Key, previous *Keys) *Keys {
	ks := &Keys{list: list, byHash: make(map[[sha256.Size]byte]*Key, len(list))}
	limits := map[string]*Limit{}
	if previous != nil {
		for _, k := range previous.list {
			if k.limit != nil {
				limits[k.ID] = k.limit
			}
		}
	}
	for _, k := range list {
		_, _ = hex.Decode(k.hash[:], []byte(k.SHA256)) // Parse has validated it
		if k.Source == "" {
			k.Source = k.ID
		}
		k.origins.add(k.Origins...)
		k.events = newNameSet(k.Events)
		if k.Rate != nil {
			// A reload must not hand out a second burst.
			if was := limits[k.ID]; was != nil && was.rate == *k.Rate {
				k.limit = was
			} else {
				k.limit = newLimit(*k.Rate)
			}
		}
		ks.byHash[k.hash] = k
		switch {
		case k.Disabled:
		case len(k.Origins) > 0:
			ks.anyOrigin.add(k.Origins...)
		case k.Kind == Write:
			ks.anyOrigin.all = true
		}
	}
	return ks
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
