package source

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/retry"
)

const (
	// fetchTimeout bounds a fetch, redirects and body included.
	fetchTimeout = 5 * time.Second
	// maxFetches is how many run at once.
	maxFetches = 16
	// maxJWKS and maxPublicKeys bound a document. Issuers have some keys, of
	// 400 to 2,000 bytes each.
	maxJWKS       = 512 << 10
	maxPublicKeys = 200

	// A document is fetched again after what Cache-Control says, within these
	// bounds; defaultFresh if it says nothing. The upper bound is how long a
	// key that the issuer has withdrawn may still be in force.
	minFresh     = time.Minute
	maxFresh     = time.Hour
	defaultFresh = 10 * time.Minute
	// fileFresh is how often a file is read again.
	fileFresh = 10 * time.Second
	// maxStale is how long keys stay in force after the last fetch that
	// succeeded. An issuer that is away for a night stops nobody; a gateway
	// that is cut off from it for longer answers 503.
	maxStale = 24 * time.Hour

	// Tokens with an unknown signing key make the gateway fetch: twice in a
	// row, then once every askInterval, however many come.
	askInterval = 10 * time.Second
	askBurst    = 2
	// A signing key that a fetch has not found is refused for so long without
	// another; of so many.
	forgetUnknown = time.Minute
	maxUnknown    = 1000
	// patience is how long a request waits for a fetch, and maxWaiting how many
	// requests wait for those of one issuer.
	patience   = 3 * time.Second
	maxWaiting = 1000
)

// fetchAgain spaces fetches after one that has failed.
var fetchAgain = retry.Policy{BaseDelay: 2 * time.Second, MaxDelay: time.Minute}

// jwks is one version of the keys of an issuer.
type jwks struct {
	sum  [sha256.Size]byte // of the document
	keys []publicKey
}

// publicKey is one key of an issuer.
type publicKey struct {
	id         string
	key        any
	algorithms []jose.SignatureAlgorithm // that it may be used with
}

// keySet is the keys of an issuer as they change. It passes from one table of
// keys to the next, by its address.
type keySet struct {
	address string
	wake    func() // lets the fetcher look at what is due

	current atomic.Pointer[jwks]
	// until is when current is no longer in force, in nanoseconds of Unix time.
	until   atomic.Int64
	waiting atomic.Int64 // requests

	mu sync.Mutex
	// due is when to fetch next. asked wants a fetch at once, running is one
	// that is under way, and ended is closed at the end of each.
	due            time.Time
	asked, running bool
	ended          chan struct{}
	// Fetches are numbered from 1: begun is the last that has begun, and
	// succeeded the last that has succeeded.
	begun, succeeded uint64
	failures         int // in a row
	err              error
	etag             string
	asks             *rate.Limiter
	unknown          map[string]time.Time // signing keys that a fetch has not found, and when
}

func newKeySet(address string, wake func()) *keySet {
	return &keySet{
		address: address, wake: wake, ended: make(chan struct{}), unknown: map[string]time.Time{},
		asks: rate.NewLimiter(rate.Every(askInterval), askBurst),
	}
}

// inForce reports whether a version of the keys is in force.
func (s *keySet) inForce(j *jwks, now time.Time) bool {
	return s.current.Load() == j && now.UnixNano() < s.until.Load()
}

// keys returns the version in force, or nil.
func (s *keySet) keys(now time.Time) *jwks {
	if j := s.current.Load(); j != nil && now.UnixNano() < s.until.Load() {
		return j
	}
	return nil
}

// verify finds the key that a token is signed with and returns the version of
// the keys that has it. good says whether the signature fits a key.
func (s *keySet) verify(kid string, alg jose.SignatureAlgorithm, token string, good func(any) bool) (*jwks, *Refusal) {
	j := s.keys(time.Now())
	if refusal, decided := j.decide(kid, alg, good); decided {
		return j, refusal
	}
	if s.waiting.Add(1) > maxWaiting {
		s.waiting.Add(-1)
		return nil, s.undecided(time.Second)
	}
	defer s.waiting.Add(-1)
	name := kid
	if name == "" {
		// Without a name it can only be said of this one token that no key
		// fits, and not of the next.
		sum := sha256.Sum256([]byte(token))
		name = "\x00" + string(sum[:])
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	var fetch uint64
	for {
		now := time.Now()
		ended, refusal := s.ask(name, j, &fetch, now)
		if refusal != nil {
			return nil, refusal
		}
		select {
		case <-ended:
		case <-timeout.C:
			return nil, s.undecided(time.Second)
		}
		j = s.keys(time.Now())
		if refusal, decided := j.decide(kid, alg, good); decided {
			return j, refusal
		}
	}
}

// decide looks for the signing key of a token; j may be nil. It is decided if
// there is one, or if the one that the token names does not fit. A token that
// names none may be signed by any.
func (j *jwks) decide(kid string, alg jose.SignatureAlgorithm, good func(any) bool) (refusal *Refusal, decided bool) {
	if j == nil {
		return nil, false
	}
	named := false
	for i := range j.keys {
		k := &j.keys[i]
		if kid != "" && k.id != kid {
			continue
		}
		named = named || kid != ""
		if slices.Contains(k.algorithms, alg) && good(k.key) {
			return nil, true
		}
	}
	if named {
		return invalid("the token is not signed by the key that it names with the algorithm that it names"), true
	}
	return nil, false
}

// ready is a fetch that has ended.
var ready = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// ask wants the keys of the issuer for a token whose signing key is not in
// tried. It returns what to wait for before the next look, or why there will be
// none. fetch is the number of the first fetch that can decide, zero at the
// first call: only one that has begun after the token came.
func (s *keySet) ask(name string, tried *jwks, fetch *uint64, now time.Time) (<-chan struct{}, *Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys(now) != tried {
		return ready, nil
	}
	if *fetch == 0 {
		*fetch = s.begun + 1
	}
	if tried != nil {
		if s.succeeded >= *fetch {
			s.note(name, now)
		}
		if at, ok := s.unknown[name]; ok && now.Sub(at) < forgetUnknown || s.succeeded >= *fetch {
			return nil, invalid("the issuer has no key that the token is signed by")
		}
	}
	if s.running || s.asked || !now.Before(s.due) {
		return s.ended, nil
	}
	if s.failures > 0 {
		return nil, s.undecidedLocked(s.due.Sub(now))
	}
	if !s.asks.AllowN(now, 1) {
		missing := 1 - s.asks.TokensAt(now)
		return nil, s.undecidedLocked(time.Duration(missing * float64(askInterval)))
	}
	s.asked = true
	s.wake()
	return s.ended, nil
}

// note remembers that a fetch has not found a signing key. It needs mu.
func (s *keySet) note(name string, now time.Time) {
	if len(s.unknown) >= maxUnknown {
		for n, at := range s.unknown {
			if now.Sub(at) >= forgetUnknown {
				delete(s.unknown, n)
			}
		}
		if len(s.unknown) >= maxUnknown {
			return // it costs a fetch of the few that there may be
		}
	}
	s.unknown[strings.Clone(name)] = now
}

func (s *keySet) undecided(wait time.Duration) *Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.undecidedLocked(wait)
}

func (s *keySet) undecidedLocked(wait time.Duration) *Refusal {
	return &Refusal{
		Reason: Undecided, Detail: "the keys of the token's issuer could not be fetched in time, so the token can be neither accepted nor refused; send the events again",
		RetryAfter: max(wait, time.Second), Err: s.err,
	}
}

// begin begins a fetch if one is due, and otherwise returns when one is.
func (s *keySet) begin(now time.Time) (begun bool, etag string, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return false, "", now.Add(maxFresh) // its end is told
	}
	if !s.asked && now.Before(s.due) {
		return false, "", s.due
	}
	s.running, s.asked = true, false
	s.begun++
	if s.current.Load() != nil {
		etag = s.etag
	}
	return true, etag, time.Time{}
}

// fetched is what a fetch has brought.
type fetched struct {
	unchanged bool // and nothing else, but fresh
	keys      *jwks
	etag      string
	fresh     time.Duration
}

// end takes what a fetch has brought, and says whether its outcome is another
// than that of the one before.
func (s *keySet) end(f fetched, err error, now time.Time) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	current := s.current.Load()
	if err == nil && f.unchanged && current == nil {
		err = errors.New("answered that nothing has changed, and there was nothing before")
	}
	news = (err == nil) != (s.err == nil) || err != nil && err.Error() != s.err.Error()
	s.running, s.err = false, err
	if err != nil {
		s.failures++
		s.due = now.Add(fetchAgain.Delay(s.failures, time.Second))
	} else {
		s.failures, s.succeeded, s.due = 0, s.begun, now.Add(f.fresh)
		if !f.unchanged {
			s.etag = f.etag
			// The same keys stay the same version, with which the cached tokens
			// stay good.
			if current == nil || current.sum != f.keys.sum {
				s.current.Store(f.keys)
				clear(s.unknown)
			}
		}
		s.until.Store(now.Add(maxStale).UnixNano())
	}
	close(s.ended)
	s.ended = make(chan struct{})
	return news
}

// fetcher fetches the keys of issuers. It is shared by all tables of keys that
// came from one another.
type fetcher struct {
	woken  chan struct{}
	client *http.Client

	mu      sync.Mutex
	sets    map[string]*keySet // those of the table in force
	running int
}

func newFetcher() *fetcher {
	return &fetcher{woken: make(chan struct{}, 1), client: newClient()}
}

func (f *fetcher) wake() {
	select {
	case f.woken <- struct{}{}:
	default:
	}
}

// use fetches for these sets from now on, and for no other.
func (f *fetcher) use(sets map[string]*keySet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sets = sets
	f.wake()
}

// Run fetches the public keys of the issuers of tokens (JWKS) before they are
// needed, and again as they change, until ctx is done; it does so for the
// tables that come after this one too. Without it every token is Undecided. It
// returns nil after the last fetch has ended.
func (ks *Keys) Run(ctx context.Context, log *slog.Logger) error {
	f := ks.fetcher
	var fetches sync.WaitGroup
	defer fetches.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.woken:
		case <-timer.C:
		}
		timer.Reset(time.Until(f.begin(ctx, &fetches, log)))
	}
}

// begin begins the fetches that are due, and returns when the next will be.
func (f *fetcher) begin(ctx context.Context, fetches *sync.WaitGroup, log *slog.Logger) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	next := now.Add(maxFresh)
	for _, s := range f.sets {
		if f.running == maxFetches {
			break // the end of one of them wakes
		}
		begun, etag, due := s.begin(now)
		if !begun {
			if due.Before(next) {
				next = due
			}
			continue
		}
		f.running++
		fetches.Go(func() {
			what, err := f.fetch(ctx, s.address, etag)
			news := s.end(what, err, time.Now())
			switch {
			case !news || ctx.Err() != nil:
			case err != nil:
				log.Warn("keys of a token issuer not fetched, those fetched before stay in force for a day", "jwks", s.address, "error", err)
			default:
				log.Info("keys of a token issuer fetched", "jwks", s.address)
			}
			f.mu.Lock()
			f.running--
			f.mu.Unlock()
			f.wake()
		})
	}
	return next
}

// newClient returns a client whose requests stay on https, or on this machine.
func newClient() *http.Client {
	return &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= 5 {
				return errors.New("more than 5 redirects")
			}
			if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
				return errors.New("redirected away from https")
			}
			return checkJWKS(r.URL)
		},
	}
}

// checkJWKS finds out whether keys may be fetched from an address: what came
// over plain http could be anybody's.
func checkJWKS(u *url.URL) error {
	host := u.Hostname()
	switch {
	case u.Scheme == "https" && host != "":
		return nil
	case u.Scheme == "http" && (host == "localhost" || net.ParseIP(host).IsLoopback()):
		return nil
	}
	return errors.New("must be https, http on loopback, or file:PATH")
}

// isJWKS finds out whether an address is one of keys.
func isJWKS(s string) error {
	if path, ok := strings.CutPrefix(s, fileScheme); ok && path != "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Fragment != "" {
		return errors.New("must be a URL without user and fragment, or file:PATH")
	}
	return checkJWKS(u)
}

// fetch reads a JWKS document. etag is that of the version that is there, ""
// for none.
func (f *fetcher) fetch(ctx context.Context, address, etag string) (fetched, error) {
	if path, ok := strings.CutPrefix(address, fileScheme); ok {
		body, err := readFile(path, maxJWKS)
		if err != nil {
			return fetched{}, err
		}
		keys, err := parseJWKS(body)
		return fetched{keys: keys, fresh: fileFresh}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return fetched{}, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return fetched{}, err
	}
	defer resp.Body.Close()
	fresh := freshness(resp.Header)
	if etag != "" && resp.StatusCode == http.StatusNotModified {
		return fetched{unchanged: true, fresh: fresh}, nil
	}
	if resp.StatusCode != http.StatusOK {
		return fetched{}, fmt.Errorf("answered %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	if err != nil {
		return fetched{}, err
	}
	if len(body) > maxJWKS {
		return fetched{}, fmt.Errorf("the document has more than %d bytes", maxJWKS)
	}
	keys, err := parseJWKS(body)
	return fetched{keys: keys, etag: resp.Header.Get("ETag"), fresh: fresh}, err
}

// freshness is how long a document need not be asked for again.
func freshness(h http.Header) time.Duration {
	fresh := defaultFresh
	for _, line := range h["Cache-Control"] {
		for directive := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
			switch name {
			case "no-store", "no-cache":
				return minFresh
			case "max-age":
				if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
					fresh = time.Duration(seconds) * time.Second
				}
			}
		}
	}
	return min(max(fresh, minFresh), maxFresh)
}

// parseJWKS reads the keys of a document that can verify tokens; others are
// left out, as RFC 7517 says. A document without one that can is an error:
// more likely a mistake than an issuer that has withdrawn all its keys.
func parseJWKS(document []byte) (*jwks, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, errors.New("the document is not a JWKS")
	}
	if len(set.Keys) > maxPublicKeys {
		return nil, fmt.Errorf("the document has more than %d keys", maxPublicKeys)
	}
	j := &jwks{sum: sha256.Sum256(document)}
	for _, raw := range set.Keys {
		if k, ok := parsePublicKey(raw); ok {
			j.keys = append(j.keys, k)
		}
	}
	if len(j.keys) == 0 {
		return nil, fmt.Errorf("none of the %d keys of the document can verify tokens", len(set.Keys))
	}
	return j, nil
}

func parsePublicKey(raw json.RawMessage) (k publicKey, ok bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return k, false
	}
	for _, private := range []string{"d", "k", "priv"} {
		// A secret that stands in the open is nobody's signature.
		if _, found := members[private]; found {
			return k, false
		}
	}
	var key jose.JSONWebKey
	if json.Unmarshal(raw, &key) != nil || !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
		return k, false
	}
	k = publicKey{id: key.KeyID, key: key.Key}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		// Source: RFC 7518, sections 3.3 and 3.5. The upper bound is ours:
		// the work grows with the square.
		if bits := public.N.BitLen(); bits < 2048 || bits > 8192 {
			return k, false
		}
		k.algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			k.algorithms = []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			k.algorithms = []jose.SignatureAlgorithm{jose.ES384}
		case elliptic.P521():
			k.algorithms = []jose.SignatureAlgorithm{jose.ES512}
		}
	case ed25519.PublicKey:
		k.algorithms = []jose.SignatureAlgorithm{jose.EdDSA}
	}
	if key.Algorithm != "" {
		// A key is for one algorithm if it says so.
		k.algorithms = slices.DeleteFunc(k.algorithms, func(a jose.SignatureAlgorithm) bool { return string(a) != key.Algorithm })
	}
	return k, len(k.algorithms) > 0
}

// Issuer is how the keys of a token issuer stand.
type Issuer struct {
	// JWKS is the address of the keys.
	JWKS string
	// Failing is whether the last fetch has failed.
	Failing bool
	// Until is when the keys that are there are no longer in force; zero if
	// there are none.
	Until time.Time
}

// Issuers returns how the keys of the token issuers stand, in the order of
// their addresses.
func (ks *Keys) Issuers() []Issuer {
	all := make([]Issuer, 0, len(ks.sets))
	for _, s := range ks.sets {
		s.mu.Lock()
		i := Issuer{JWKS: s.address, Failing: s.err != nil}
		if s.current.Load() != nil {
			i.Until = time.Unix(0, s.until.Load())
		}
		s.mu.Unlock()
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b Issuer) int { return strings.Compare(a.JWKS, b.JWKS) })
	return all
}
