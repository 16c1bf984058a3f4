package limit

import (
	"context"
	"crypto/tls"
	_ "embed" // for the script
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/eventsluice/sluice/internal/retry"
)

//go:embed judge.lua
var judgeSource string

var judgeScript = redis.NewScript(judgeSource)

const (
	// defaultTimeout is how long a request waits for Redis. In one data centre
	// an answer takes less than a millisecond, so that this is a Redis in
	// trouble, and half of what a person notices as a delay. The first request
	// that waits in vain sends all others to the local buckets.
	defaultTimeout = 50 * time.Millisecond
	// dialTimeout is for new connections, with TLS and passwords: they are made
	// beside the requests.
	dialTimeout = time.Second
	// steady is after how long without a failure Redis counts as well again.
	steady = time.Minute
	// chunk is how many events one run of the script judges: with a thousand
	// buckets it takes Redis some milliseconds, in which it does nothing else.
	chunk = 500
)

// probing is how soon Redis is asked again after a failure.
var probing = retry.Policy{BaseDelay: 200 * time.Millisecond, MaxDelay: 5 * time.Second}

// RedisConfig says where a Redis is. Make it with ParseURL.
type RedisConfig struct {
	Addr               string // host:port
	Username, Password string
	DB                 int
	TLS                bool // as the host of Addr, by the roots of the system
	// Cluster is set for a Redis Cluster of which Addr is one node.
	Cluster bool
	// Timeout is how long a request waits for it, at each round trip. Default
	// 50ms.
	Timeout time.Duration
	// Log gets a line when Redis goes away and when it is back. Default
	// slog.Default().
	Log *slog.Logger
}

// ParseURL reads redis://USER:PASSWORD@HOST:PORT/DB; rediss:// for TLS. In the
// query may stand timeout=100ms, and cluster=true if the host is a node of a
// Redis Cluster. Errors repeat nothing that could be a password.
func ParseURL(text string) (RedisConfig, error) {
	var c RedisConfig
	const right = `right would be "redis://user:password@host:6379/0" or, with TLS, "rediss://host:6379"`
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Fragment != "" || u.Hostname() == "" || u.Scheme != "redis" && u.Scheme != "rediss" {
		return c, errors.New("not the URL of a Redis; " + right)
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return c, errors.New("its port is none; " + right)
	}
	c.Addr, c.TLS, c.Username = net.JoinHostPort(u.Hostname(), port), u.Scheme == "rediss", u.User.Username()
	c.Password, _ = u.User.Password()
	if db := strings.Trim(u.Path, "/"); db != "" {
		if c.DB, err = strconv.Atoi(db); err != nil || c.DB < 0 || c.DB > 1<<16 {
			return c, errors.New("its path is not the number of a database; " + right)
		}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return c, errors.New("its query cannot be read; " + right)
	}
	for name, values := range query {
		value := values[0]
		switch {
		case name == "cluster" && (value == "true" || value == "false"):
			c.Cluster = value == "true"
		case name == "timeout":
			if c.Timeout, err = time.ParseDuration(value); err != nil || c.Timeout < time.Millisecond || c.Timeout > 10*time.Second {
				return c, errors.New(`its timeout is not a duration from 1ms to 10s; right would be "timeout=50ms"`)
			}
		default:
			return c, errors.New(`its query may have cluster=true and timeout=50ms, nothing else`)
		}
	}
	if c.Cluster && c.DB != 0 {
		return c, errors.New("a cluster has no databases but 0; leave the path out")
	}
	return c, nil
}

// Masked returns a URL for people to see: without the user, the password and
// the query, and nothing of what cannot be read.
func Masked(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "redis" && u.Scheme != "rediss" {
		return "…"
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return shown.String()
}

// Redis is the buckets that several gateways share. Nobody waits long for it:
// a failure, or an answer that takes longer than the timeout, makes all
// requests be judged by their gateway alone, until Run has found that it
// answers again.
//
// A call has three outcomes. It was applied, and its answer counts. It was not
// applied, or that is not known: then the gateway judges alone, and it is not
// repeated. If it was applied after all, events that were counted here are
// counted there too: the limit is stricter by one request, and not looser.
type Redis struct {
	client  redis.UniversalClient
	addr    string
	timeout time.Duration
	log     *slog.Logger

	sharing   atomic.Bool
	fallbacks atomic.Uint64
	failed    chan error // what ended the sharing; it has room for one
}

// quiet keeps the library from writing to standard error: what it has to say
// is in the errors that it returns.
var quiet = sync.OnceFunc(func() { redis.SetLogger(&logging.VoidLogger{}) })

// NewRedis returns the buckets in a Redis. It connects to nothing: requests
// are judged locally until Run has reached it.
func NewRedis(c RedisConfig) *Redis {
	quiet()
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	options := &redis.UniversalOptions{
		Addrs: []string{c.Addr}, Username: c.Username, Password: c.Password, DB: c.DB, IsClusterMode: c.Cluster,
		// A call is sent once: who repeats one that was applied counts twice.
		MaxRetries: -1, MaxRedirects: -1, DialerRetries: 1,
		DialTimeout: dialTimeout, ReadTimeout: c.Timeout, WriteTimeout: c.Timeout, PoolTimeout: c.Timeout,
		ContextTimeoutEnabled: true,
		// What every Redis and Valkey knows, and nothing else, is said to it.
		Protocol: 2, DisableIdentity: true, PipelinePoolSize: -1,
		MaintNotificationsConfig: disabledNotifications(),
	}
	if c.TLS {
		options.TLSConfig = tlsFor(c.Addr)
	}
	return &Redis{
		client: redis.NewUniversalClient(options), addr: c.Addr, timeout: c.Timeout, log: c.Log, failed: make(chan error, 1),
	}
}

// Close ends the connections.
func (s *Redis) Close() error { return s.client.Close() }

// Run finds out whether Redis answers, at the start and after each failure,
// until ctx is done.
func (s *Redis) Run(ctx context.Context) error {
	away := false // it was said that Redis does not answer
	for tries := 0; ctx.Err() == nil; {
		failure := s.probe(ctx)
		if failure == nil {
			s.log.Info("rate limits are shared through Redis", "redis", s.addr)
			away = false
			since := time.Now()
			if failure = s.share(ctx); time.Since(since) > steady {
				tries = 0
			}
		}
		if ctx.Err() == nil && !away {
			away = true
			s.log.Warn("rate limits are kept by this gateway alone until Redis answers", "redis", s.addr, "error", failure)
		}
		tries++
		_ = retry.Sleep(ctx, probing.Delay(tries, probing.BaseDelay/2)) // the end of ctx ends the loop
	}
	return nil
}

// share lets requests ask Redis until one of them fails, and returns why it
// did.
func (s *Redis) share(ctx context.Context) error {
	s.sharing.Store(true)
	select {
	case <-ctx.Done():
		s.sharing.Store(false)
		return ctx.Err()
	case failure := <-s.failed:
		return failure
	}
}

// probe runs the script, which writes: an answer to PING would say nothing of
// a replica or a full server. The first run may make a connection, the second
// has to be as quick as requests want it.
func (s *Redis) probe(ctx context.Context) error {
	rule := probeRule
	for _, timeout := range []time.Duration{2 * dialTimeout, s.timeout} {
		c := newCall([]gate{{Bucket: rule.Own(), n: 1}}, [2]*Rule{}, nil)
		ctx, cancel := context.WithTimeout(ctx, timeout)
		err := s.client.Eval(ctx, judgeSource, c.keys, c.args...).Err()
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

var probeRule = NewRule(Key, "probe of a gateway", Rate{PerSecond: 1000}, true)

// judge asks Redis about a request and returns the calls with their answers;
// nil if there are none, and the gateway has to judge alone.
func (s *Redis) judge(r *Request) []*call {
	if !s.sharing.Load() {
		s.fallbacks.Add(1)
		return nil
	}
	calls, err := s.ask(context.Background(), r)
	if err == nil {
		return calls
	}
	s.fallbacks.Add(1)
	if s.sharing.CompareAndSwap(true, false) {
		s.failed <- err // only Run sets sharing, and when it does it has read the last one
	}
	return nil
}

// ask makes the calls of a request in one round trip: one of its address and one
// of its key, side by side. Only what its first 500 events leave over takes
// more of them, one for each 500, when it is known that the key admits them.
func (s *Redis) ask(ctx context.Context, r *Request) ([]*call, error) {
	var calls []*call
	if r.address.rule != nil {
		calls = append(calls, newCall([]gate{{Bucket: r.address, n: 1}}, [2]*Rule{}, nil))
	}
	first := min(len(r.events), chunk)
	if len(r.gates) > 0 || first > 0 {
		calls = append(calls, newCall(r.gates, r.rules, r.events[:first]))
	}
	err := s.run(ctx, calls)
	for from := first; err == nil && from < len(r.events) && !anyRefuses(calls); from += chunk {
		next := newCall(nil, r.rules, r.events[from:min(from+chunk, len(r.events))])
		err = s.run(ctx, []*call{next})
		calls = append(calls, next)
	}
	return calls, err
}

func anyRefuses(calls []*call) bool {
	for _, c := range calls {
		for i := range c.gates {
			if c.gates[i].lacks && !c.gates[i].rule.observe {
				return true
			}
		}
	}
	return false
}

// run makes calls in one round trip and reads their answers.
func (s *Redis) run(ctx context.Context, calls []*call) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.send(ctx, calls, true)
	var unknown []*call // to a server that has not seen the script
	for _, c := range calls {
		if redis.HasErrorPrefix(c.reply.Err(), "NOSCRIPT") {
			unknown = append(unknown, c)
		}
	}
	s.send(ctx, unknown, false)
	for _, c := range calls {
		value, err := c.reply.Result()
		if err != nil {
			return err
		}
		if err := c.read(value); err != nil {
			return err
		}
	}
	return nil
}

// send sends calls, by the hash of the script or with the script itself, and
// waits for their replies.
func (s *Redis) send(ctx context.Context, calls []*call, byHash bool) {
	if len(calls) == 0 {
		return
	}
	var to redis.Scripter = s.client
	var pipe redis.Pipeliner
	if len(calls) > 1 {
		pipe = s.client.Pipeline()
		to = pipe
	}
	for _, c := range calls {
		if byHash {
			c.reply = to.EvalSha(ctx, judgeScript.Hash(), c.keys, c.args...)
		} else {
			c.reply = to.Eval(ctx, judgeSource, c.keys, c.args...)
		}
	}
	if pipe != nil {
		_, _ = pipe.Exec(ctx) // its error is that of the first reply that has one
	}
}

// call is one run of the script, and its answer.
type call struct {
	gates   []gate
	events  []entry
	buckets []Bucket // in the order of keys: those of the gates first
	keys    []string
	args    []any
	reply   *redis.Cmd

	ahead []time.Duration // of each bucket, what the reply says
}

func newCall(gates []gate, rules [2]*Rule, events []entry) *call {
	c := &call{
		gates: gates, events: events,
		keys: make([]string, 0, len(gates)+2*len(events)), buckets: make([]Bucket, 0, len(gates)+2*len(events)),
		args: make([]any, 0, 8+4*len(gates)),
	}
	c.args = append(c.args, len(gates))
	for _, rule := range rules {
		if rule == nil {
			c.args = append(c.args, 0, 0, 0)
		} else {
			c.args = append(c.args, micros(rule.cost(1)), micros(rule.burst), refuses(rule))
		}
	}
	for i := range gates {
		c.add(gates[i].Bucket)
	}
	packed := make([]byte, 0, 4*len(events))
	index := make(map[ID]int, 2*len(events))
	for i := range events {
		for side, rule := range rules {
			var at int
			if rule != nil && events[i].has[side] {
				id := events[i].ids[side]
				if at = index[id]; at == 0 {
					at = c.add(Bucket{rule, id})
					index[id] = at
				}
			}
			packed = append(packed, byte(at>>8), byte(at))
		}
	}
	c.args = append(c.args, packed)
	for i := range gates {
		g := &gates[i]
		c.args = append(c.args, micros(g.rule.need(g.n)), micros(g.rule.cost(g.n)), micros(g.rule.burst), refuses(g.rule))
	}
	return c
}

// add returns the index, from 1, of a bucket among the keys.
func (c *call) add(b Bucket) int {
	c.buckets = append(c.buckets, b)
	c.keys = append(c.keys, b.rule.shared+base64.RawURLEncoding.EncodeToString(b.id[:]))
	return len(c.keys)
}

func refuses(r *Rule) int {
	if r.observe {
		return 0
	}
	return 1
}

func micros(d time.Duration) float64 { return float64(d) / 1e3 }

// sharedPrefix begins the keys of a rule's buckets in Redis. All of one owner
// are in one hash slot, as a script in a cluster wants it: what stands in the
// braces decides about the slot.
func sharedPrefix(kind Kind, owner string) string {
	if owner == "" {
		return "sluice:" + kind.String() + ":"
	}
	return "sluice:{" + url.QueryEscape(owner) + "}:" + kind.String() + ":"
}

var errAnswer = errors.New("the answer is not that of the script")

// read takes the answer of the script apart, see judge.lua.
func (c *call) read(answer any) error {
	list, ok := answer.([]any)
	if !ok || len(list) != 2+len(c.keys) {
		return errAnswer
	}
	lacking, ok := list[0].(int64)
	if !ok || lacking < 0 || lacking >= 1<<len(c.gates) {
		return errAnswer
	}
	verdicts, ok := list[1].(string)
	if !ok {
		return errAnswer
	}
	c.ahead = make([]time.Duration, len(c.keys))
	for i, v := range list[2:] {
		n, ok := v.(int64)
		if !ok || n < 0 || n > int64(maxAhead/time.Microsecond) {
			return errAnswer
		}
		c.ahead[i] = time.Duration(n) * time.Microsecond
	}
	for i := range c.gates {
		c.gates[i].lacks = lacking&(1<<i) != 0
	}
	if anyRefuses([]*call{c}) {
		return nil
	}
	if len(verdicts) != len(c.events) {
		return fmt.Errorf("%w: %d verdicts of %d events", errAnswer, len(verdicts), len(c.events))
	}
	for i := range c.events {
		bits := verdicts[i] - '0'
		if bits > 3 {
			return errAnswer
		}
		for side := range 2 {
			c.events[i].lacks[side] = c.events[i].has[side] && bits>>side&1 != 0
		}
	}
	return nil
}

func tlsFor(addr string) *tls.Config {
	host, _, _ := net.SplitHostPort(addr)
	return &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
}

// disabledNotifications keeps the client from asking for a service of Redis
// Cloud that other servers do not know.
func disabledNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}
