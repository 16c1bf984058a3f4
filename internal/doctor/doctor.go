// Package doctor finds out from outside why events of a page do not reach a
// gateway. It sends what a browser would send for the page, decides about the
// answers as a browser decides, and says what would have to change.
//
// It stores nothing: it sends no events. A gateway answers a request without
// events as any other, up to the point where it would store them.
package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/edge/source"
)

// Level is how bad a finding is.
type Level uint8

// The levels of findings.
const (
	OK Level = iota
	// Warning is what works, and not as well as it should.
	Warning
	// Failure is what keeps events from arriving, or a secret from being one.
	Failure
)

// String returns the level in a word.
func (l Level) String() string { return [...]string{OK: "ok", Warning: "warning", Failure: "fails"}[l] }

// Finding is the outcome of one check.
type Finding struct {
	Level Level
	// Check is what was looked at, in a few words; Text is what was found, in a
	// line.
	Check, Text string
	// Browser is what a browser shows, Why what causes it, and Change what mends
	// it. Each may be empty.
	Browser, Why, Change string
}

// Config says what to look at.
type Config struct {
	// Gateway is the address that pages send to: https://events.example, or
	// with a path if a proxy puts the gateway below one.
	Gateway string
	// Origin is the web origin of the page: https://shop.example, or null.
	Origin string
	// Key is the key that the page uses. It is in no finding.
	Key string
	// Keys is the keys document of the gateway and KeysName where it is, if it
	// is at hand: then changes are said in its terms.
	Keys     *source.Keys
	KeysName string
	// Direct is an address of the same gateway with nothing before it, if there
	// is one: answers that differ are blamed on what stands between.
	Direct string
	// Client makes the requests. Default: one that follows no redirects and
	// gives an answer ten seconds.
	Client *http.Client
}

// Validate reports what cannot be looked at: the address, the origin, the key.
func (c Config) Validate() error {
	var faults []error
	if u, err := url.Parse(c.Gateway); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		faults = append(faults, fmt.Errorf("--gateway %q: not the address of a gateway; right would be https://events.example", c.Gateway))
	}
	if err := checkOrigin(c.Origin); err != nil {
		faults = append(faults, err)
	}
	if c.Key == "" {
		faults = append(faults, errors.New("--key is missing: the write key that the page uses"))
	}
	return errors.Join(faults...)
}

// checkOrigin wants an origin as browsers send it, since they are compared
// byte by byte.
func checkOrigin(origin string) error {
	if origin == "null" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("--origin %q: not a web origin; right would be https://shop.example, or null for a page without one", origin)
	}
	sent := strings.ToLower(u.Scheme) + "://" + strings.ToLower(u.Host)
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		sent = strings.TrimSuffix(sent, ":"+port)
	}
	if sent != origin {
		return fmt.Errorf("--origin %q: a browser would send %s", origin, sent)
	}
	if strings.ContainsFunc(origin, func(r rune) bool { return r > 0x7e }) {
		return fmt.Errorf("--origin %q: a browser would send the name in ASCII (xn--…)", origin)
	}
	return nil
}

// timeout is how long an answer may take.
const timeout = 10 * time.Second

// exam is one look at a gateway.
type exam struct {
	Config
	say func(Finding)
	// key is the one of the document, nil if that is not at hand or has not got
	// it.
	key *source.Key
	// unverified makes requests that overlook a bad certificate, to see what
	// else there is.
	unverified *http.Client
}

// Run looks at a gateway and says what it finds, one finding after another.
// The configuration must be valid.
func Run(ctx context.Context, c Config, say func(Finding)) {
	c.Gateway, c.Direct = strings.TrimSuffix(c.Gateway, "/"), strings.TrimSuffix(c.Direct, "/")
	if c.Client == nil {
		c.Client = &http.Client{Timeout: timeout, Transport: http.DefaultTransport}
	}
	client := *c.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.Client = &client
	e := &exam{Config: c, say: say}
	if c.Keys != nil {
		e.key = c.Keys.Find([]byte(c.Key))
	}
	e.address()
	if !e.reach(ctx) {
		return
	}
	allowed := e.preflights(ctx)
	answered, good := e.tryKey(ctx)
	e.aboutKey()
	if answered {
		e.errorAnswers(ctx, allowed)
	}
	if good {
		e.sdks(ctx)
	}
}

func (e *exam) ok(check, text string)        { e.say(Finding{Level: OK, Check: check, Text: text}) }
func (e *exam) warn(check string, f Finding) { f.Level, f.Check = Warning, check; e.say(f) }
func (e *exam) fail(check string, f Finding) { f.Level, f.Check = Failure, check; e.say(f) }

// address looks at the addresses alone.
func (e *exam) address() {
	const check = "address"
	u, _ := url.Parse(e.Gateway) // Validate has seen it
	local := isLocal(u.Hostname())
	page, _ := url.Parse(e.Origin)
	switch {
	case u.Scheme == "http" && page.Scheme == "https" && !local:
		e.fail(check, Finding{
			Text:    "a page of https may not send to http",
			Browser: "Mixed Content: The page at '" + e.Origin + "/' was loaded over HTTPS, but requested an insecure resource '" + e.Gateway + "/v1/events'. This request has been blocked; the content must be served over HTTPS.",
			Why:     "browsers keep pages of https from sending anything in clear, except to this machine",
			Change:  "give the gateway a certificate (SLUICE_TLS_CERT, SLUICE_TLS_KEY), or put it behind a proxy that has one, and use https://" + u.Host,
		})
	case u.Scheme == "http" && !local:
		e.warn(check, Finding{
			Text:   e.Gateway + " is not https: keys and events can be read on the way",
			Change: "give the gateway a certificate (SLUICE_TLS_CERT, SLUICE_TLS_KEY), or put it behind a proxy that has one",
		})
	case local && page.Hostname() != "" && !isLocal(page.Hostname()):
		e.warn(check, Finding{
			Text:   e.Gateway + " is the machine of whoever has opened the page",
			Why:    "that is the gateway only for a browser that runs where the gateway does; and browsers ask people before a public page may reach their own machine",
			Change: "for others, use an address that they can reach",
		})
	default:
		e.ok(check, e.Gateway+", as a page at "+e.Origin+" would use it")
	}
}

// isLocal reports whether a host is the machine itself, of which browsers trust
// http too.
func isLocal(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// answer is what came back.
type answer struct {
	url    string
	status int
	header http.Header
	body   []byte
	tls    *tls.ConnectionState
	at     time.Time // the middle of the wait for it
	took   time.Duration
}

// maxBody is how much of an answer is read.
const maxBody = 64 << 10

// send makes a request as a browser makes it for a page: with an Origin.
func (e *exam) send(ctx context.Context, base, method, path string, header http.Header, body string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, reader)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (compatible; sluice-doctor)")
	req.Header.Set("Accept", "*/*")
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Origin", e.Origin)
	for name, values := range header {
		req.Header[name] = values
	}
	client := e.Client
	if e.unverified != nil {
		client = e.unverified
	}
	begin := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	took := time.Since(begin)
	a := &answer{url: base + path, status: resp.StatusCode, header: resp.Header, tls: resp.TLS, at: begin.Add(took / 2), took: took}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody)); err != nil {
		return nil, err
	}
	return a, nil
}

// shown is a URL without the key.
func (e *exam) shown(address string) string {
	return strings.ReplaceAll(strings.ReplaceAll(address, url.PathEscape(e.Key), "KEY"), url.QueryEscape(e.Key), "KEY")
}

// blocked is how Chromium begins what it says of CORS.
func (e *exam) blocked(address string, f fetch, why string) string {
	what := "fetch"
	if f.xhr {
		what = "XMLHttpRequest"
	}
	return "Access to " + what + " at '" + e.shown(address) + "' from origin '" + e.Origin + "' has been blocked by CORS policy: " + why
}

// problem is a problem document of a gateway.
type problem struct {
	Type   string `json:"type"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// problem returns the problem document of the answer; ok is false if it has
// none of a gateway's.
func (a *answer) problem() (p problem, ok bool) {
	err := json.Unmarshal(a.body, &p)
	return p, err == nil && p.Code != "" && strings.HasPrefix(p.Type, "urn:sluice:problem:")
}

// who says in words who has answered, as far as the answer tells.
func (a *answer) who() string {
	text := fmt.Sprintf("%d", a.status)
	if t := http.StatusText(a.status); t != "" {
		text += " " + t
	}
	for _, name := range []string{"Content-Type", "Server", "Via", "X-Cache"} {
		if v, ok := get(a.header, name); ok {
			text += "; " + name + ": " + clip(v)
		}
	}
	return text
}

func clip(s string) string {
	const most = 100
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// reach asks for /livez and /readyz, and reports whether anything answers.
func (e *exam) reach(ctx context.Context) bool {
	a, err := e.send(ctx, e.Gateway, http.MethodGet, "/livez", nil, "")
	if browser, why, change, bad := certificateFault(err); bad {
		e.fail("certificate", Finding{Text: "a browser does not accept it; what follows is what it would find if it did", Browser: browser, Why: why, Change: change})
		if e.secret() {
			e.warn("reachable", Finding{Text: "the other checks are left out: a secret key is not sent to a server that nobody vouches for"})
			return false
		}
		e.unverified = overlooking(e.Client)
		a, err = e.send(ctx, e.Gateway, http.MethodGet, "/livez", nil, "")
	}
	if err != nil {
		browser, why, change := networkFault(err)
		e.fail("reachable", Finding{Text: "nothing answers; the other checks are left out", Browser: browser, Why: why, Change: change})
		return false
	}
	e.certificate(a)
	if a.status == http.StatusBadRequest && strings.Contains(string(a.body), "HTTP request to an HTTPS server") {
		e.fail("reachable", Finding{
			Text:    "what answers at this port speaks TLS; the other checks are left out",
			Browser: "net::ERR_INVALID_HTTP_RESPONSE",
			Why:     "the gateway has a certificate, and is asked in clear",
			Change:  "use " + strings.Replace(e.Gateway, "http://", "https://", 1),
		})
		return false
	}
	if isRedirect(a.status) {
		to, _ := get(a.header, "Location")
		e.fail("reachable", Finding{
			Text:    fmt.Sprintf("%d: it sends everybody on to %s; the other checks are left out", a.status, clip(to)),
			Browser: e.blocked(e.Gateway+"/v1/events", fetch{}, "Response to preflight request doesn't pass access control check: Redirect is not allowed for a preflight request."),
			Why:     "browsers do not follow a redirect of a preflight, and turn a POST that is redirected into a GET",
			Change:  "give SDKs and pages the address where it ends" + mended(a.url, to),
		})
		return false
	}
	var live struct {
		Status  string
		Reasons []string
	}
	if json.Unmarshal(a.body, &live) != nil || a.status != http.StatusOK || live.Status != "ok" {
		e.warn("alive", Finding{
			Text: "GET /livez is not answered by a gateway: " + a.who(),
			Why:  "this is another server, or what stands before the gateway passes only some paths on; what follows tells",
		})
		return true
	}
	e.ok("alive", fmt.Sprintf("GET /livez: ok, in %d ms", a.took.Milliseconds()))
	e.clock(a)
	ready, err := e.send(ctx, e.Gateway, http.MethodGet, "/readyz", nil, "")
	if err != nil {
		browser, why, change := networkFault(err)
		e.fail("ready", Finding{Text: "GET /readyz is not answered", Browser: browser, Why: why, Change: change})
		return true
	}
	live.Status, live.Reasons = "", nil
	switch err := json.Unmarshal(ready.body, &live); {
	case err == nil && ready.status == http.StatusOK && live.Status == "ready":
		e.ok("ready", "GET /readyz: ready")
	case err == nil && len(live.Reasons) > 0:
		e.fail("ready", Finding{
			Text:    "the gateway stores nothing now",
			Browser: "POST " + e.Gateway + "/v1/events 503 (Service Unavailable)",
			Why:     strings.Join(live.Reasons, "; "),
			Change:  "see the log of the gateway",
		})
	default:
		e.warn("ready", Finding{Text: "GET /readyz is not passed on to the gateway: " + ready.who()})
	}
	return true
}

// mended says in which address a redirect ends, without the path.
func mended(from, to string) string {
	base, err := url.Parse(from)
	if err != nil {
		return ""
	}
	u, err := base.Parse(to)
	if err != nil || u.Host == "" {
		return ""
	}
	return ": " + u.Scheme + "://" + u.Host + strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/livez")
}

// clock compares the clocks. No browser minds; signatures, tokens and the end
// of keys do.
func (e *exam) clock(a *answer) {
	text, _ := get(a.header, "Date")
	date, err := http.ParseTime(text)
	if err != nil {
		e.warn("clock", Finding{Text: "the answer has no Date to compare the clocks by"})
		return
	}
	// Date has whole seconds, rounded down.
	skew := date.Add(500 * time.Millisecond).Sub(a.at)
	const most = time.Minute
	if skew.Abs() <= most+a.took {
		e.ok("clock", "it is that of this machine, within a minute")
		return
	}
	direction := "ahead of"
	if skew < 0 {
		direction = "behind"
	}
	e.warn("clock", Finding{
		Text:   fmt.Sprintf("it is %s %s that of this machine", skew.Abs().Round(time.Second), direction),
		Why:    "signatures and tokens are judged by the time, keys end by it, and events without a timestamp get it",
		Change: "let both machines follow a time server",
	})
}

// pages are the requests of SDKs and pages that a browser asks about first.
// Source: the requests of these SDKs, recorded in Chromium 156 (2026-11).
var pages = []struct {
	name, path string
	query      bool // the key is in it
	fetch
}{
	{"Segment's Analytics.js", "/v1/t", false, fetch{method: http.MethodPost, headers: []string{"authorization"}}},
	{"its second try", "/v1/t", false, fetch{method: http.MethodPost, headers: []string{"authorization", "x-retry-count"}}},
	{"RudderStack's SDK", "/v1/track", false, fetch{method: http.MethodPost, xhr: true, headers: []string{"anonymousid", "authorization", "content-type", "sentat"}}},
	{"its second try", "/v1/track", false, fetch{method: http.MethodPost, xhr: true, headers: []string{
		"anonymousid", "authorization", "content-type", "rsa-recovered", "rsa-retry-attempt", "rsa-retry-reason",
		"rsa-since-first-attempt", "rsa-since-last-attempt", "sentat",
	}}},
	{"its configuration", "/sourceConfig/", false, fetch{method: http.MethodGet, xhr: true, headers: []string{"authorization"}}},
	{"Jitsu's SDK", "/api/s/track", false, fetch{method: http.MethodPost, headers: []string{"content-type", "x-write-key"}}},
	{"Snowplow's tracker, with cookies", "/com.snowplowanalytics.snowplow/tp2", false, fetch{method: http.MethodPost, credentials: true, headers: []string{"content-type"}}},
	{"fetch of JSON", "/v1/events", false, fetch{method: http.MethodPost, headers: []string{"authorization", "content-type"}}},
	{"fetch of JSON, compressed", "/v1/events", false, fetch{method: http.MethodPost, headers: []string{"authorization", "content-encoding", "content-type"}}},
	{"sendBeacon of JSON, with cookies", "/v1/events", true, fetch{method: http.MethodPost, credentials: true, headers: []string{"content-type"}}},
}

// preflight asks as a browser does before it sends a request.
func (e *exam) preflight(ctx context.Context, base, path string, f fetch) (*answer, error) {
	return e.send(ctx, base, http.MethodOptions, path, http.Header{
		"Access-Control-Request-Method":  {f.method},
		"Access-Control-Request-Headers": {strings.Join(f.headers, ",")},
	}, "")
}

// preflights asks for all pages, and reports whether any may send.
func (e *exam) preflights(ctx context.Context) (allowed bool) {
	var last Finding
	var good *answer
	for _, p := range pages {
		path := p.path
		if p.query {
			path += "?write_key=" + url.QueryEscape(e.Key)
		}
		check := "preflight: " + p.name
		a, err := e.preflight(ctx, e.Gateway, path, p.fetch)
		if err != nil {
			browser, why, change := networkFault(err)
			e.fail(check, Finding{Text: "OPTIONS " + p.path + " is not answered", Browser: browser, Why: why, Change: change})
			continue
		}
		why := preflightCheck(a.status, a.header, e.Origin, p.fetch)
		if why == "" {
			e.ok(check, p.method+" "+p.path+" with "+strings.Join(p.headers, ", "))
			if allowed = true; !p.credentials || good == nil {
				good = a
			}
			continue
		}
		f := Finding{Text: p.method + " " + p.path + " is not sent", Browser: e.blocked(a.url, p.fetch, why)}
		f.Why, f.Change = e.explain(ctx, a, path, p.fetch)
		if lenient(a.status, a.header, e.Origin, p.fetch) {
			f.Text += ", except by Chromium"
			f.Browser = "Cross-Origin Request Blocked: The Same Origin Policy disallows reading the remote resource at " + e.shown(a.url) +
				". (Reason: header ‘authorization’ is not allowed according to header ‘Access-Control-Allow-Headers’ from CORS preflight response)."
			f.Why = "the asterisk in Access-Control-Allow-Headers does not stand for Authorization; Chromium still lets it pass, Firefox and Safari do not"
		}
		said := f
		if f.Why == last.Why && f.Change == last.Change {
			said.Why, said.Change = "as above", ""
		}
		e.fail(check, said)
		last = f
	}
	if good != nil {
		e.remembered(ctx, good)
	}
	return allowed
}

// remembered looks at what makes later requests quick, or later SDKs work.
func (e *exam) remembered(ctx context.Context, a *answer) {
	const long = 10 * time.Minute
	if age := maxAge(a.header); age < long {
		e.warn("preflights are cached", Finding{
			Text:   fmt.Sprintf("for %v only", age),
			Why:    "before nearly every request a browser asks again, and of a page that is being left the last events are lost while it does",
			Change: "let Access-Control-Max-Age: 7200 of the gateway through",
		})
	} else {
		e.ok("preflights are cached", "for "+age.String())
	}
	name := "x-doctor-" + strings.ToLower(rand.Text()[:8])
	f := fetch{method: http.MethodPost, headers: []string{name}}
	if b, err := e.preflight(ctx, e.Gateway, "/v1/events", f); err == nil && preflightCheck(b.status, b.header, e.Origin, f) != "" {
		e.warn("any header", Finding{
			Text:   "a header that is on no list is not allowed",
			Why:    "the list of a proxy is in force, not what the gateway allows: the next version of an SDK may send a header that is not on it",
			Change: passOn,
		})
	} else if err == nil {
		e.ok("any header", "what a page asks for is allowed")
	}
}

const passOn = "let what stands before the gateway pass OPTIONS on to it, and add no CORS headers of its own: the gateway sends them all"

// ofGateway reports whether an answer to OPTIONS is as a gateway makes it: 204,
// and an Allow, which is empty for a path that it has not.
func (a *answer) ofGateway() bool {
	allow, ok := get(a.header, "Allow")
	return a.status == http.StatusNoContent && ok && (allow == "" || strings.HasSuffix(allow, http.MethodOptions))
}

// explain finds the cause of a preflight that fails.
func (e *exam) explain(ctx context.Context, a *answer, path string, f fetch) (why, change string) {
	origin, hasOrigin := get(a.header, "Access-Control-Allow-Origin")
	if a.ofGateway() && !hasOrigin {
		if !varies(a.header, "Origin") {
			return "the answer is the gateway's, without its CORS headers: what stands between takes them out", passOn
		}
		why, change = e.originUnknown()
	} else {
		switch {
		case isRedirect(a.status):
			to, _ := get(a.header, "Location")
			why, change = "OPTIONS is sent on to "+clip(to), "give SDKs and pages the address where it ends"+mended(a.url, to)
		case strings.Contains(origin, ","):
			why, change = "the gateway and what stands before it both add the header", passOn
		case hasOrigin && origin != e.Origin:
			why, change = "what stands before the gateway has a fixed value for the origin; the gateway answers with the one that asks", passOn
		case a.status < 200 || a.status > 299:
			why, change = "OPTIONS is answered by something else than the gateway: "+a.who(), passOn
		case !hasOrigin:
			why, change = "OPTIONS is answered by something else than the gateway, which knows nothing of CORS: "+a.who(), passOn
		default:
			why = "what stands before the gateway has a list of its own"
			if missing := lacking(a.header, f); len(missing) > 0 {
				why += ", which lacks " + strings.Join(missing, ", ")
			}
			change = passOn + "; or else have it allow: " + strings.Join(allHeaders(), ", ")
			if f.credentials {
				change += ", and Access-Control-Allow-Credentials: true"
			}
		}
	}
	if e.Direct == "" || e.Direct == e.Gateway {
		return why, change
	}
	if direct, err := e.preflight(ctx, e.Direct, path, f); err == nil {
		if preflightCheck(direct.status, direct.header, e.Origin, f) == "" {
			why += "; asked at " + e.Direct + ", the gateway itself answers right"
		} else {
			why += "; asked at " + e.Direct + ", the gateway itself does not allow it either"
		}
	}
	return why, change
}

// allHeaders are those of all pages.
func allHeaders() []string {
	var all []string
	for _, p := range pages {
		all = append(all, p.headers...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// originUnknown explains that no key allows the origin.
func (e *exam) originUnknown() (why, change string) {
	why = "no key that is in force allows the origin " + e.Origin
	switch {
	case e.key == nil:
		return why, e.addOrigin("")
	case e.key.State(time.Now()) != source.Active:
		return why + ", and this one is " + e.key.State(time.Now()).String(), e.stateChange()
	case e.key.AllowsOrigin(e.Origin):
		return why + ", though in " + e.KeysName + " the key " + e.key.ID + " does", otherDocument
	}
	return why, e.addOrigin(e.key.ID)
}

const otherDocument = "the gateway reads another document, or has not taken this one for a fault in it: see its log"

// addOrigin says how to allow the origin: what the key's origins would be.
func (e *exam) addOrigin(id string) string {
	if e.key != nil {
		origins, _ := json.Marshal(append(slices.Clone(e.key.Origins), e.Origin))
		return fmt.Sprintf(`in %s, give the key %q "origins":%s`, e.KeysName, e.key.ID, origins)
	}
	if id == "" {
		return fmt.Sprintf(`in the keys document of the gateway, add %q to the "origins" of the key`, e.Origin)
	}
	return fmt.Sprintf(`in the keys document of the gateway, add %q to the "origins" of the key %q`, e.Origin, id)
}

// stateChange says how to get a key that is in force.
func (e *exam) stateChange() string {
	switch {
	case e.key != nil && e.key.Disabled:
		return fmt.Sprintf(`in %s, take "disabled" out of the key %q; or make another: sluice keys new --id NAME --origin %s`, e.KeysName, e.key.ID, e.Origin)
	case e.key != nil:
		return fmt.Sprintf(`in %s, give the key %q a later "expires_at"; or make another: sluice keys new --id NAME --origin %s`, e.KeysName, e.key.ID, e.Origin)
	}
	return "make a key that is in force: sluice keys new --id NAME --origin " + e.Origin
}

// keyID finds the id of a key in what the gateway says of it.
var keyID = regexp.MustCompile(`\bthe key (\S+) `)

// tryKey sends a request without events with the key. answered is false if that
// is not known to be from a gateway; good is true if events would be stored.
func (e *exam) tryKey(ctx context.Context) (answered, good bool) {
	const check = "key"
	f := fetch{method: http.MethodPost}
	a, err := e.send(ctx, e.Gateway, http.MethodPost, "/v1/events", http.Header{"Authorization": {"Bearer " + e.Key}, "Content-Type": {"application/json"}}, "[]")
	if err != nil {
		browser, why, change := networkFault(err)
		e.fail(check, Finding{Text: "POST /v1/events is not answered", Browser: browser, Why: why, Change: change})
		return false, false
	}
	p, ok := a.problem()
	if !ok {
		e.fail(check, Finding{
			Text:    "POST /v1/events is not answered by a gateway",
			Browser: e.statusLine(a),
			Why:     "something else answers: " + a.who(),
			Change:  "let what stands before the gateway pass everything below " + e.Gateway + " on to it; or use the address of the gateway",
		})
		return false, false
	}
	cors := corsCheck(a.header, e.Origin, f)
	browser := e.statusLine(a)
	if cors != "" {
		browser = e.blocked(a.url, f, cors)
	}
	id := ""
	if m := keyID.FindStringSubmatch(p.Detail); m != nil {
		id = m[1]
	}
	finding := Finding{Text: p.Detail, Browser: browser}
	switch p.Code {
	case "no_events":
		e.keyGood(a, cors, f)
		return true, true
	case "missing_key":
		finding.Text = "the key does not arrive"
		finding.Why, finding.Change = e.elsewhere(ctx)
	case "unknown_key":
		finding.Why = "the value is that of no key of the gateway"
		finding.Change = "use the key that sluice keys new has printed; sluice keys list shows which there are"
		switch {
		case e.key != nil:
			finding.Why, finding.Change = "in "+e.KeysName+" it is the key "+e.key.ID+", which the gateway does not know", otherDocument
		case e.Keys != nil:
			finding.Why = "the value is that of no key of the gateway, nor of " + e.KeysName
		}
	case "disabled_key", "expired_key":
		finding.Why, finding.Change = "the gateway refuses everything that comes with it", e.stateChange()
	case "origin_forbidden":
		if strings.Contains(p.Detail, "no Origin header") {
			finding.Why = "the browser sends Origin, and what stands before the gateway takes it away"
			finding.Change = "let it pass Origin on"
			break
		}
		finding.Why, finding.Change = "the \"origins\" of the key do not have it", e.addOrigin(id)
		if e.key != nil && e.key.AllowsOrigin(e.Origin) {
			finding.Why, finding.Change = "in "+e.KeysName+" it may", otherDocument
		}
	case "secret_key_in_browser":
		finding.Why = "a secret key in a page is a secret no more: whoever opens the page has it"
		finding.Change = "replace it, and use a write key in the page: sluice keys new --id NAME --origin " + e.Origin
	case "missing_signature", "invalid_signature", "stale_signature", "replayed_signature":
		finding.Why = "a page cannot sign: the secret would stand in it"
		finding.Change = "use a key without \"signature\" in the page"
	case "missing_token", "invalid_token", "expired_token":
		e.warn(check, Finding{
			Text: p.Detail, Why: "the key wants a token of its user, without which no more can be said",
			Change: "let the page send the token: Authorization: Bearer TOKEN, and the key as X-Write-Key",
		})
		return true, false
	case "address_forbidden":
		e.warn(check, Finding{Text: p.Detail, Why: "what counts is the address of the browser, and this one is the machine's here", Change: "ask from where the page is opened"})
		return true, false
	case "rate_limited", "address_rate_limited":
		e.warn(check, Finding{Text: p.Detail, Why: "it is known, and over its limit now", Change: "ask again after " + a.header.Get("Retry-After") + " seconds"})
		return true, false
	case "not_found", "method_not_allowed":
		finding.Why = "the path that arrives at the gateway is another"
		finding.Change = "let what stands before the gateway keep the path, or take the whole of the prefix away"
	case "unavailable", "overloaded", "internal":
		finding.Why, finding.Change = "the gateway cannot answer for events now", "see its log and GET /readyz"
	}
	e.fail(check, finding)
	return true, false
}

// statusLine is how the network panel and the console show an answer.
func (e *exam) statusLine(a *answer) string {
	return fmt.Sprintf("POST %s %d (%s)", e.shown(a.url), a.status, http.StatusText(a.status))
}

// keyGood says of a key that is right whether a page would know.
func (e *exam) keyGood(a *answer, cors string, f fetch) {
	const check = "key"
	if cors != "" {
		e.fail(check, Finding{
			Text:    "it is right, but the page cannot read the answer",
			Browser: e.blocked(a.url, f, cors),
			Why:     "events arrive and the SDK does not learn of it: it sends them again and again. The gateway's answer has CORS headers; what stands between takes them out, or doubles them",
			Change:  passOn + "; also with answers that are errors (nginx: add_header … always)",
		})
		return
	}
	e.ok(check, "known, and may be used from the origin (asked without events: nothing was stored)")
}

// elsewhere finds out by which ways a key arrives.
func (e *exam) elsewhere(ctx context.Context) (why, change string) {
	var ways []string
	for _, way := range []struct {
		name, path string
		header     http.Header
	}{
		{"the header X-Write-Key", "/v1/events", http.Header{"X-Write-Key": {e.Key}}},
		{"the query (?write_key=)", "/v1/events?write_key=" + url.QueryEscape(e.Key), nil},
	} {
		header := http.Header{"Content-Type": {"application/json"}}
		for name, values := range way.header {
			header[name] = values
		}
		a, err := e.send(ctx, e.Gateway, http.MethodPost, way.path, header, "[]")
		if err != nil {
			continue
		}
		if p, ok := a.problem(); ok && p.Code != "missing_key" {
			ways = append(ways, way.name)
		}
	}
	why = "what stands before the gateway takes the header Authorization away"
	if len(ways) == 0 {
		return why + ", X-Write-Key and the query as well", "let it pass Authorization on"
	}
	return why, "let it pass Authorization on; until then " + strings.Join(ways, " and ") + " arrive"
}

// secret reports whether the key is for back ends.
func (e *exam) secret() bool {
	if e.key != nil {
		return e.key.Kind == source.Secret
	}
	return strings.HasPrefix(e.Key, "sk_")
}

// soon is how long before its end a key is said to end.
const soon = 14 * 24 * time.Hour

// aboutKey says what the document, or the key itself, tells about it.
func (e *exam) aboutKey() {
	if e.secret() {
		e.fail("kind of key", Finding{
			Text:   "it is a secret key: it must not stand in a page",
			Why:    "whoever opens the page can read it and send what a back end may",
			Change: "replace it, and use a write key in the page: sluice keys new --id NAME --origin " + e.Origin,
		})
	}
	if e.key == nil || e.key.State(time.Now()) != source.Active || e.key.ExpiresAt == nil || time.Until(*e.key.ExpiresAt) > soon {
		return
	}
	f := Finding{Text: "the key " + e.key.ID + " ends at " + e.key.ExpiresAt.UTC().Format(time.RFC3339), Change: e.stateChange()}
	if e.key.Replaced() {
		f.Text = "this value of the key " + e.key.ID + " was replaced, and ends at " + e.key.ExpiresAt.UTC().Format(time.RFC3339)
		f.Change = "use the new value"
	}
	e.warn("end of key", f)
}

// errorAnswers looks at an answer that is an error: there proxies forget most.
func (e *exam) errorAnswers(ctx context.Context, allowed bool) {
	const check = "errors can be read"
	a, err := e.send(ctx, e.Gateway, http.MethodPost, "/v1/events", http.Header{"Content-Type": {"application/json"}}, "[]")
	if err != nil {
		return
	}
	if _, ok := a.problem(); !ok || !allowed {
		return // said before
	}
	for _, f := range []fetch{{method: http.MethodPost}, {method: http.MethodPost, credentials: true}} {
		why := corsCheck(a.header, e.Origin, f)
		if why == "" {
			continue
		}
		e.fail(check, Finding{
			Text:    fmt.Sprintf("a page cannot read an answer with the status %d", a.status),
			Browser: e.blocked(a.url, f, why),
			Why:     "to a page a refusal looks like a network that is away: its SDK tries for ever what can never succeed, and does not see Retry-After",
			Change:  passOn + "; also with answers that are errors (nginx: add_header … always)",
		})
		return
	}
	switch {
	case !exposes(a.header, "Retry-After", true):
		e.warn(check, Finding{
			Text:   "but not Retry-After",
			Why:    "Access-Control-Expose-Headers does not name it: Segment's SDK tries again after half a second, whatever the gateway asks for",
			Change: "let Access-Control-Expose-Headers: Retry-After of the gateway through",
		})
	case !varies(a.header, "Origin"):
		e.warn(check, Finding{
			Text:   "but Vary does not name Origin",
			Why:    "a cache may give the answer for one origin to another, which cannot read it",
			Change: "let Vary: Origin of the gateway through",
		})
	default:
		e.ok(check, "Retry-After too")
	}
}

// sdks asks for what SDKs want besides: their own success, their documents.
func (e *exam) sdks(ctx context.Context) {
	basic := http.Header{"Authorization": {basicAuth(e.Key)}, "Content-Type": {"text/plain"}}
	e.document(ctx, "SDKs", http.MethodPost, "/v1/batch", basic, `{"batch":[]}`, "POST /v1/batch",
		func(doc map[string]json.RawMessage) bool { return string(doc["success"]) == "true" },
		"SDKs take anything but 200 and {\"success\":true} for a failure, and send again")
	e.document(ctx, "Segment's settings", http.MethodGet, "/v1/projects/"+url.PathEscape(e.Key)+"/settings", nil, "", "GET /v1/projects/KEY/settings",
		func(doc map[string]json.RawMessage) bool {
			return strings.Contains(string(doc["integrations"]), `"Segment.io"`)
		},
		"Analytics.js sends nothing without this document")
	e.document(ctx, "RudderStack's settings", http.MethodGet, "/sourceConfig/?p=npm&v=3&build=modern&writeKey="+url.QueryEscape(e.Key), http.Header{"Authorization": basic["Authorization"]}, "", "GET /sourceConfig/",
		func(doc map[string]json.RawMessage) bool {
			return strings.Contains(string(doc["source"]), `"enabled":true`)
		},
		"RudderStack's SDK sends nothing without this document")
}

func basicAuth(key string) string {
	req := http.Request{Header: http.Header{}}
	req.SetBasicAuth(key, "")
	return req.Header.Get("Authorization")
}

// document wants a JSON object, which the page may read.
func (e *exam) document(ctx context.Context, check, method, path string, header http.Header, body, what string,
	right func(map[string]json.RawMessage) bool, otherwise string,
) {
	f := fetch{method: method}
	a, err := e.send(ctx, e.Gateway, method, path, header, body)
	if err != nil {
		browser, why, change := networkFault(err)
		e.fail(check, Finding{Text: what + " is not answered", Browser: browser, Why: why, Change: change})
		return
	}
	var doc map[string]json.RawMessage
	isJSON := json.Unmarshal(a.body, &doc) == nil
	cors := corsCheck(a.header, e.Origin, f)
	switch {
	case a.status == http.StatusOK && isJSON && right(doc) && cors == "":
		e.ok(check, what+": as they want it")
	case a.status == http.StatusOK && isJSON && right(doc):
		e.fail(check, Finding{Text: what + " is answered, and the page cannot read it", Browser: e.blocked(a.url, f, cors), Why: otherwise, Change: passOn})
	default:
		e.fail(check, Finding{
			Text:    what + " is not answered as by a gateway: " + a.who(),
			Browser: fmt.Sprintf("%s %s %d (%s)", method, e.shown(a.url), a.status, http.StatusText(a.status)),
			Why:     otherwise, Change: "let what stands before the gateway pass this path on to it",
		})
	}
}
