package httpcall

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/eventsluice/sluice/internal/connector"
)

// APIConfig says how a connector calls its vendor's API.
type APIConfig struct {
	// Base is where the API is, such as "https://api.mixpanel.com". Required. It
	// is on the public Internet, or on this machine: a name that leads to another
	// private address is refused.
	Base string
	// Endpoint is the operator's setting "endpoint", see parseEndpoint. If it is
	// not empty it takes the place of Base, and may be a private address.
	Endpoint string
	// AllowHTTP lets the address be http, that is, readable on the way, also where
	// it leads to another machine.
	AllowHTTP bool
	// Header is sent with each call.
	Header http.Header
	// Secrets must not be seen in what is kept or shown of a call; nor must what
	// URLSecrets finds in the address.
	Secrets []string
	// Credentials are the names of the settings to look at when the credentials
	// are refused, Address those when the address is wrong. Address defaults to
	// "endpoint".
	Credentials, Address string
	// ShowHeaders are the headers of a request whose values are no secrets and
	// tell a person something. Default: content type and encoding.
	ShowHeaders []string
	// Timeout bounds one call, from the connection to the answer. Default 30s.
	Timeout time.Duration
	// MaxConns is the most connections. Default 64.
	MaxConns int
	// MaxAnswer is that of Config.
	MaxAnswer int
	// Dial is that of connector.Env.
	Dial connector.Dial
}

// API calls one vendor. It is safe for concurrent use.
type API struct {
	cfg    APIConfig
	base   *url.URL
	client *Client
	masker Masker
}

// NewAPI returns an API. The error names the setting that is wrong, and not its
// value.
func NewAPI(cfg APIConfig) (*API, error) {
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.Address = cmp.Or(cfg.Address, "endpoint")
	cfg.ShowHeaders = append([]string{"Content-Type", "Content-Encoding", "User-Agent"}, cfg.ShowHeaders...)
	base, err := parseEndpoint(cmp.Or(cfg.Endpoint, cfg.Base), cfg.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Address, err)
	}
	return &API{
		cfg: cfg, base: base,
		// An endpoint that the operator has written may be on the own network, and
		// this machine's own is there for tests.
		client: NewClient(Config{AllowPrivate: cfg.Endpoint != "" || Loopback(base.Hostname()), MaxConns: cfg.MaxConns, MaxAnswer: cfg.MaxAnswer, Dial: cfg.Dial}),
		masker: NewMasker(append(slices.Clone(cfg.Secrets), URLSecrets(base)...)...),
	}, nil
}

// parseEndpoint reads the address of an API: https, or http on this machine, or
// anywhere if that is allowed. A path at its end comes before the paths of calls.
func parseEndpoint(text string, allowHTTP bool) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("is not an address such as https://proxy.example.com")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("must have no user, query and fragment")
	case u.Scheme == "http" && !allowHTTP && !Loopback(u.Hostname()):
		return nil, errors.New("must be https: http is for this machine alone")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("must be https")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

// Loopback reports whether a host is this machine.
func Loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// Close closes idle connections.
func (a *API) Close() { a.client.Close() }

// Request is one call.
type Request struct {
	// Method is POST if it is empty. Path begins with a slash and is escaped.
	Method, Path string
	Query        url.Values
	// RawQuery, if it is set, is sent as it is in the place of Query: for vendors
	// that escape otherwise.
	RawQuery string
	// Header is sent besides that of the APIConfig.
	Header http.Header
	// Body is what is sent; Gzip compresses it, and says so.
	Body []byte
	Gzip bool
}

// Exchange is a call and what became of it.
type Exchange struct {
	Answer
	api     *API
	request *http.Request
	body    []byte // not compressed
}

// Do makes a call.
func (a *API) Do(ctx context.Context, r Request) *Exchange {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	address := *a.base
	address.RawPath = address.EscapedPath() + r.Path
	path, err := url.PathUnescape(address.RawPath)
	if err != nil {
		return &Exchange{Answer: Answer{Err: errors.New("the path of the call is not escaped")}, api: a, request: &http.Request{URL: a.base}}
	}
	address.Path = path
	address.RawQuery = cmp.Or(r.RawQuery, r.Query.Encode())
	header := a.cfg.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	for name, values := range r.Header {
		header[name] = values
	}
	body := r.Body
	if r.Gzip {
		body = Gzip(r.Body)
		header.Set("Content-Encoding", "gzip")
	}
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "Sluice")
	}
	req := &http.Request{
		Method: cmp.Or(r.Method, http.MethodPost), URL: &address, Host: address.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)),
	}
	if len(body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	req = req.WithContext(ctx)
	return &Exchange{Answer: a.client.Do(req), api: a, request: req, body: r.Body}
}

// Outcome is the result that the status gives (see Classify) where the vendor
// says nothing else.
func (x *Exchange) Outcome() connector.Result { return x.Result(x.Class(), "", "") }

// Result returns a result of the given class. Code and message may be empty:
// then they say what the status or the error does. Secrets are masked. Results
// that are not settled get excerpts of request and answer; one of class Auth
// says which setting to look at, if the message does not.
func (x *Exchange) Result(class connector.Class, code, message string) connector.Result {
	result := connector.Result{Class: class, Status: x.Status, RetryAfter: x.RetryAfter}
	if class.Settled() {
		result.Code, result.Message = code, x.api.masker.Text(message, MaxMessage)
		return result
	}
	switch {
	case x.Err != nil:
		code, message = cmp.Or(code, ErrorCode(x.Err)), cmp.Or(message, x.Err.Error())
	default:
		code = cmp.Or(code, "http_"+strconv.Itoa(x.Status))
		message = cmp.Or(message, fmt.Sprintf("the answer is %d %s", x.Status, http.StatusText(x.Status)))
	}
	more := ""
	if class == connector.Auth && !strings.Contains(message, advice) {
		more = "; " + advice + x.setting()
	}
	result.Code, result.Message = x.api.masker.Text(code, MaxMessage), x.api.masker.Text(message, MaxMessage-len(more))+more
	result.Request = RequestExcerpt(x.api.masker, x.request, x.body, x.api.cfg.ShowHeaders...)
	result.Response = x.Excerpt(x.api.masker)
	return result
}

// advice stands before the name of the setting to correct.
const advice = "check the setting "

// setting says which setting to correct.
func (x *Exchange) setting() string {
	names := x.api.cfg.Credentials
	if x.Err != nil || x.Status/100 == 3 || x.Status == http.StatusGone || names == "" {
		names = x.api.cfg.Address
	}
	return names
}

// After gives a result of this exchange a wait, unless the answer asks for one.
func (x *Exchange) After(r connector.Result, wait time.Duration) connector.Result {
	r.RetryAfter = cmp.Or(x.RetryAfter, wait)
	return r
}

// Foreign reports whether there is an answer with a body that is no JSON object,
// as a page for people is: what vendors with an API of JSON do not write. A body
// of which only the end is missing is not foreign.
func (x *Exchange) Foreign() bool {
	body := bytes.TrimSpace(x.Body)
	return x.Err == nil && len(body) > 0 && body[0] != '{'
}

// gzips are the compressors that are not in use. They are in a hurry: the CPU of
// more compression costs more than the bytes it saves.
var gzips = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level exists
	}
	return w
}}

// Gzip returns the compressed form of some bytes.
func Gzip(plain []byte) []byte {
	var out bytes.Buffer
	out.Grow(len(plain)/4 + 64)
	w := gzips.Get().(*gzip.Writer)
	defer gzips.Put(w)
	w.Reset(&out)
	_, err := w.Write(plain)
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err) // a bytes.Buffer takes everything
	}
	return out.Bytes()
}
