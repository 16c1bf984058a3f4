package limit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/eventsluice/sluice/internal/testenv"
)

// patient is a timeout that a busy machine does not exceed.
const patient = 10 * time.Second

func configOf(t testing.TB, url string) RedisConfig {
	t.Helper()
	c, err := ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c.Timeout, c.Log = patient, slog.New(slog.DiscardHandler)
	return c
}

// shared returns a limiter that shares its buckets, and waits until it does.
func shared(t testing.TB, c RedisConfig) *Limiter {
	t.Helper()
	s := NewRedis(c)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	l := New(Config{Shared: s})
	waitFor(t, func() bool { return l.Stats().Shared })
	return l
}

// waitFor waits for what happens in another goroutine or process.
func waitFor(t testing.TB, happened func() bool) {
	t.Helper()
	deadline, ticker := time.NewTimer(time.Minute), time.NewTicker(time.Millisecond)
	defer deadline.Stop()
	defer ticker.Stop()
	for !happened() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatal("it did not happen within a minute")
		}
	}
}

// scenario is a sequence of requests, random and the same for the same seed.
func scenario(seed uint64, requests int, ask func(r *Request, pause time.Duration)) {
	random := rand.New(rand.NewPCG(seed, 1))
	rate := func() Rate {
		return Rate{PerSecond: []float64{0.5, 1, 3, 7, 40, 1000}[random.IntN(6)], Burst: []int{0, 1, 2, 5, 30, 700}[random.IntN(6)]}
	}
	rules := func(kind Kind) *Rule {
		if random.IntN(4) == 0 {
			return nil
		}
		return NewRule(kind, "web", rate(), random.IntN(5) == 0)
	}
	key, address, users, names := rules(Key), rules(KeyAddress), rules(User), rules(Name)
	for range requests {
		var r Request
		n := []int{1, 1, 2, 3, 10, 1200}[random.IntN(6)]
		r.Gate(key.Own(), n)
		r.Gate(address.Of(strconv.Itoa(random.IntN(3))), n)
		for range n {
			var user, name Bucket
			if random.IntN(5) > 0 {
				user = users.Of(strconv.Itoa(random.IntN(8)))
			}
			name = names.Of(strconv.Itoa(random.IntN(4)))
			if user.rule != nil || name.rule != nil {
				r.Event(user, name)
			}
		}
		ask(&r, time.Duration(random.IntN(2000))*time.Millisecond)
	}
}

// short writes runs of more than three characters as one and their number.
func short(verdicts string) string {
	var b strings.Builder
	for len(verdicts) > 0 {
		rest := strings.TrimLeft(verdicts, verdicts[:1])
		if n := len(verdicts) - len(rest); n > 3 {
			fmt.Fprintf(&b, "%c(%d)", verdicts[0], n)
		} else {
			b.WriteString(verdicts[:n])
		}
		verdicts = rest
	}
	return b.String()
}

// What the script does in Redis is what the limiter does by itself.
func TestSharedBucketsAreJudgedAsLocalOnes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(15) {
		server := miniredis.RunT(t)
		start := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
		server.SetTime(start)
		alone, together := New(Config{}), shared(t, configOf(t, "redis://"+server.Addr()))
		var passed time.Duration
		scenario(seed, 60, func(r *Request, pause time.Duration) {
			server.SetTime(start.Add(passed))
			want := judged(alone, r, alone.epoch.Add(passed))
			wait, observed := r.Wait(), r.observed
			got := judged(together, r, together.epoch.Add(passed))
			// Redis counts microseconds.
			if got != want || r.observed != observed || (r.Wait()-wait).Abs() > 5*time.Microsecond {
				t.Fatalf("seed %d, after %v:\nshared %s, wait %v, observed %v\nalone  %s, wait %v, observed %v",
					seed, passed, short(got), r.Wait(), r.observed, short(want), wait, observed)
			}
			passed += pause
		})
		if f := together.Stats().Fallbacks; f != 0 {
			t.Errorf("seed %d: %d requests were judged alone", seed, f)
		}
		server.Close()
	}
}

// Two gateways, of which each sees a part of the requests, decide together
// what one that sees all decides.
func TestTwoGatewaysDecideAsOne(t *testing.T) {
	t.Parallel()
	for seed := range uint64(15) {
		server := miniredis.RunT(t)
		start := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
		server.SetTime(start)
		one := New(Config{})
		two := []*Limiter{shared(t, configOf(t, "redis://"+server.Addr())), shared(t, configOf(t, "redis://"+server.Addr()))}
		var passed time.Duration
		random := rand.New(rand.NewPCG(seed, 2))
		scenario(seed, 40, func(r *Request, pause time.Duration) {
			server.SetTime(start.Add(passed))
			want := judged(one, r, one.epoch.Add(passed))
			l := two[random.IntN(2)]
			got := judged(l, r, l.epoch.Add(passed))
			if strings.HasPrefix(want, "refused") && strings.HasPrefix(got, "refused") {
				got = want // of two reasons a gateway may know one, and not ask
			}
			if got != want {
				t.Fatalf("seed %d, after %v:\ntwo %s\none %s", seed, passed, short(got), short(want))
			}
			passed += pause
		})
		server.Close()
	}
}

// servers are the real Redis in the forms in which people have it.
func servers(t *testing.T) map[string]string {
	t.Helper()
	protected := testenv.Redis(t, "--requirepass", "a-password")
	return map[string]string{
		"redis":               testenv.Redis(t).URL(),
		"redis with password": "redis://default:a-password@" + protected.Addr + "/3",
		"cluster":             cluster(t) + "?cluster=true",
	}
}

// cluster returns one of two nodes of a cluster.
func cluster(t *testing.T) (url string) {
	t.Helper()
	nodes := []*testenv.RedisServer{
		testenv.Redis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000"),
		testenv.Redis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000"),
	}
	var slots [2][]int
	for slot := range 16384 {
		slots[slot%2] = append(slots[slot%2], slot)
	}
	clients := make([]*redis.Client, len(nodes))
	for i, n := range nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: n.Addr, Protocol: 2, DisableIdentity: true, MaintNotificationsConfig: disabledNotifications()})
		t.Cleanup(func() { _ = clients[i].Close() })
		// Otherwise two nodes in one second have one epoch, and argue about it.
		if err := clients[i].Do(t.Context(), "cluster", "set-config-epoch", i+1).Err(); err != nil {
			t.Fatal(err)
		}
		if err := clients[i].ClusterAddSlots(t.Context(), slots[i]...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ := net.SplitHostPort(nodes[1].Addr)
	if err := clients[0].ClusterMeet(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		for _, c := range clients {
			info := c.ClusterInfo(t.Context()).Val()
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:2") {
				return false
			}
		}
		return true
	})
	return nodes[0].URL()
}

func TestGatewaysShareLimitsThroughARealRedis(t *testing.T) {
	t.Parallel()
	for name, url := range servers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := shared(t, configOf(t, url)), shared(t, configOf(t, url))
			// Rates so slow that nothing grows back during the test.
			slow := func(burst int) Rate { return Rate{PerSecond: 1e-5, Burst: burst} }
			for i := range 5 { // several owners, which a cluster has on several nodes
				owner := "key-" + strconv.Itoa(i)
				key, users, names := NewRule(Key, owner, slow(1000), false), NewRule(User, owner, slow(3), false), NewRule(Name, owner, slow(5), false)
				gateway := NewRule(Address, "", slow(7), false)
				ask := func(l *Limiter, n int, user string) string {
					var r Request
					r.Gate(key.Own(), n)
					r.Share(gateway.Of(owner))
					for range n {
						r.Event(users.Of(user), names.Of("signup"))
					}
					return judged(l, &r, time.Now())
				}
				for j, tt := range []struct {
					l    *Limiter
					n    int
					user string
					want string
				}{
					{a, 2, "ann", ".."},
					{b, 2, "ann", ".u"},
					{b, 3, "bob", "..n"},
					{a, 1, "cid", "n"},
					{a, 1001, "cid", "refused: key"}, // 1001 are more than the burst and want it full
					{b, 600, "dan", strings.Repeat("n", 600)},
					{a, 700, "dan", "refused: key"},
					{b, 1, "dan", "n"},
					{a, 1, "dan", "refused: address"}, // the eighth request
				} {
					if got := ask(tt.l, tt.n, tt.user); got != tt.want {
						t.Errorf("%s, %d: %s, want %s", owner, j, got, tt.want)
					}
				}
			}
			if n := a.Stats().Fallbacks + b.Stats().Fallbacks; n != 0 {
				t.Errorf("%d requests were judged alone", n)
			}
		})
	}
}

// What Redis keeps is what is needed and no longer.
func TestABucketThatIsFullHasNoKey(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	server.SetTime(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC))
	l := shared(t, configOf(t, "redis://"+server.Addr()))
	var r Request
	r.Gate(NewRule(Key, "a}b", Rate{PerSecond: 2, Burst: 10}, false).Own(), 10)
	r.Event(NewRule(User, "a}b", Rate{PerSecond: 1, Burst: 10}, false).Of("somebody@example.com"), Bucket{})
	l.Judge(&r, time.Now())
	ttls := map[time.Duration]int{}
	for _, key := range server.Keys() {
		if strings.Contains(key, "probe") {
			continue
		}
		if !strings.HasPrefix(key, "sluice:{a%7Db}:") || strings.Contains(key, "example") {
			t.Errorf("key %q", key)
		}
		ttls[server.TTL(key)]++
	}
	if len(ttls) != 2 || ttls[5*time.Second] != 1 || ttls[time.Second] != 1 {
		t.Errorf("times to live: %v, want 5s and 1s", ttls)
	}
}

func TestWhatIsNoBucketIsAFullOne(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	l := shared(t, configOf(t, "redis://"+server.Addr()))
	b := NewRule(Key, "web", Rate{PerSecond: 1, Burst: 1}, false).Own()
	key := newCall([]gate{{Bucket: b, n: 1}}, [2]*Rule{}, nil).keys[0]
	for name, put := range map[string]func() error{
		"not a number": func() error { return server.Set(key, "soon") },
		"a list":       func() error { _, err := server.Lpush(key, "a"); return err },
		"long ago":     func() error { return server.Set(key, "12") },
	} {
		server.Del(key)
		if err := put(); err != nil {
			t.Fatal(err)
		}
		// Another gateway, which has no copy.
		calls, err := l.shared.ask(t.Context(), func() *Request { var r Request; r.Gate(b, 1); return &r }())
		if err != nil || calls[0].gates[0].lacks {
			t.Errorf("%s: %v, refused %v", name, err, err == nil && calls[0].gates[0].lacks)
		}
	}
}

func TestAServerThatForgotTheScriptGetsItAgain(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	l := shared(t, configOf(t, server.URL()))
	if err := l.shared.client.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	key, gateway := NewRule(Key, "web", Rate{PerSecond: 1e-5, Burst: 5}, false), NewRule(Address, "", Rate{PerSecond: 1e-5, Burst: 3}, false)
	for i, want := range []string{"", "", "", "refused: address"} {
		var r Request
		r.Gate(key.Own(), 1)
		r.Share(gateway.Of("192.0.2.1"))
		if got := judged(l, &r, time.Now()); got != want {
			t.Errorf("request %d: %q, want %q", i, got, want)
		}
	}
	if n := l.Stats().Fallbacks; n != 0 {
		t.Errorf("%d requests were judged alone", n)
	}
}

// relay stands between a gateway and a Redis.
type relay struct {
	listener net.Listener
	to       string
	// swallow is how many replies of scripts get lost from now on.
	swallow atomic.Int64
	// hold lets nothing through, without closing anything.
	hold  atomic.Bool
	calls atomic.Int64 // of scripts, that were passed on
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, to: to}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { r.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return r
}

func (r *relay) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	var lost atomic.Bool
	var back sync.WaitGroup
	back.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || lost.Load() {
				client.Close()
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			break
		}
		if r.hold.Load() {
			continue
		}
		if bytes.Contains(buf[:n], []byte("evalsha")) {
			r.calls.Add(1)
			if r.swallow.Add(-1) >= 0 {
				lost.Store(true)
			}
		}
		if _, err := server.Write(buf[:n]); err != nil {
			break
		}
	}
	server.Close()
	back.Wait()
}

func (r *relay) url() string { return "redis://" + r.listener.Addr().String() }

// The three outcomes of a call: applied, not applied, not known.
func TestACallIsMadeOnceWhateverBecomesOfIt(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	bucket := func(owner string) Bucket { return NewRule(Key, owner, Rate{PerSecond: 1e-5, Burst: 10}, false).Own() }
	ask := func(l *Limiter, b Bucket, n int) string {
		var r Request
		r.Gate(b, n)
		return judged(l, &r, time.Now())
	}
	// left is how many events a gateway that has no copy may send at once.
	left := func(b Bucket) int {
		l := shared(t, configOf(t, server.URL()))
		for n := 10; n > 0; n-- {
			if ask(l, b, n) == "" {
				return n
			}
		}
		return 0
	}

	t.Run("applied", func(t *testing.T) {
		b, l := bucket("applied"), shared(t, configOf(t, server.URL()))
		if got := ask(l, b, 4); got != "" {
			t.Fatal(got)
		}
		if n := left(b); n != 6 {
			t.Errorf("%d events are left of 10 after 4", n)
		}
	})
	t.Run("not known: the answer is lost", func(t *testing.T) {
		b, between := bucket("lost"), newRelay(t, server.Addr)
		l := shared(t, configOf(t, between.url()))
		between.swallow.Store(1)
		if got := ask(l, b, 4); got != "" {
			t.Fatalf("the gateway has not judged by itself: %s", got)
		}
		if n := between.calls.Load(); n != 1 {
			t.Errorf("%d calls, want one", n)
		}
		if n := left(b); n != 6 {
			t.Errorf("%d events are left of 10 after 4: applied twice or not at all", n)
		}
		if s := l.Stats(); s.Fallbacks != 1 {
			t.Errorf("%+v", s)
		}
		waitFor(t, func() bool { return l.Stats().Shared })
	})
	t.Run("not applied: nobody listens", func(t *testing.T) {
		b := bucket("away")
		own := testenv.Redis(t)
		l := shared(t, configOf(t, own.URL()))
		if got := ask(l, b, 4); got != "" {
			t.Fatal(got)
		}
		own.Kill()
		// Its own copy knows of the four.
		if got := ask(l, b, 7); got != "refused: key" {
			t.Error(got)
		}
		if got := ask(l, b, 6); got != "" {
			t.Error(got)
		}
		if s := l.Stats(); s.Shared || s.Fallbacks == 0 || !s.Shares {
			t.Errorf("%+v", s)
		}
		// Redis comes back empty, and the gateway still knows.
		own.Start()
		waitFor(t, func() bool { return l.Stats().Shared })
		if got := ask(l, b, 1); got != "refused: key" {
			t.Error(got)
		}
	})
	t.Run("not applied: it must not write", func(t *testing.T) {
		own := testenv.Redis(t)
		l := shared(t, configOf(t, own.URL()))
		client := redis.NewClient(&redis.Options{Addr: own.Addr, MaintNotificationsConfig: disabledNotifications()})
		defer client.Close()
		host, port, _ := net.SplitHostPort(server.Addr)
		if err := client.Do(t.Context(), "replicaof", host, port).Err(); err != nil {
			t.Fatal(err)
		}
		b := bucket("replica")
		if got := ask(l, b, 10) + ask(l, b, 1); got != "refused: key" {
			t.Error(got)
		}
		if s := l.Stats(); s.Shared {
			t.Errorf("a replica shares: %+v", s)
		}
		if err := client.Do(t.Context(), "replicaof", "no", "one").Err(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return l.Stats().Shared })
	})
}

func TestASlowRedisHoldsUpOneRequestAndNoMore(t *testing.T) {
	t.Parallel()
	between := newRelay(t, testenv.Redis(t).Addr)
	c := configOf(t, between.url())
	c.Timeout = 100 * time.Millisecond
	l := shared(t, c)
	b := NewRule(Key, "web", Rate{PerSecond: 1e-5, Burst: 1e6}, false).Own()
	between.hold.Store(true)
	var waited int
	begin := time.Now()
	for range 2000 {
		asked := time.Now()
		var r Request
		r.Gate(b, 1)
		if got := judged(l, &r, time.Now()); got != "" {
			t.Fatal(got)
		}
		if time.Since(asked) >= c.Timeout/2 {
			waited++
		}
	}
	// One is held up by Redis, others perhaps by a machine that is busy; all of
	// them would take 200 s.
	if took := time.Since(begin); waited > 100 || took > 20*time.Second {
		t.Errorf("%d of 2000 requests waited, %v in all", waited, took)
	}
	if s := l.Stats(); s.Shared || s.Fallbacks != 2000 {
		t.Errorf("%+v", s)
	}
	between.hold.Store(false)
	waitFor(t, func() bool { return l.Stats().Shared })
}

func TestEachChangeIsOneLineAndNoLineHasThePassword(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, "--requirepass", "hunter2")
	var log testenv.Log
	c := configOf(t, "redis://:hunter2@"+server.Addr)
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	l := shared(t, c)
	b := NewRule(Key, "web", Rate{PerSecond: 1e-5, Burst: 1e6}, false).Own()
	ask := func() {
		var r Request
		r.Gate(b, 1)
		l.Judge(&r, time.Now())
	}
	for round := range 2 {
		server.Kill()
		waitFor(t, func() bool { ask(); return strings.Count(log.String(), "alone") > round })
		for range 100 {
			ask()
		}
		server.Start()
		waitFor(t, func() bool { return l.Stats().Shared })
		text := log.String()
		if strings.Count(text, "\n") != 3+2*round || strings.Count(text, "through Redis") != 2+round || strings.Contains(text, "hunter2") {
			t.Errorf("the log is\n%s", text)
		}
	}
	wrong := configOf(t, "redis://:wrong-one@"+server.Addr)
	var said testenv.Log
	wrong.Log = slog.New(slog.NewTextHandler(&said, nil))
	s := NewRedis(wrong)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	waitFor(t, func() bool { return said.String() != "" })
	cancel()
	if err := errors.Join(<-done, s.Close()); err != nil {
		t.Error(err)
	}
	if text := said.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "WRONGPASS") || strings.Contains(text, "wrong-one") {
		t.Errorf("with a wrong password the log is\n%s", text)
	}
}

// Traffic while Redis is killed and comes back: nobody waits, the limit is that
// of one gateway at the worst.
func TestRedisIsKilledAndComesBackDuringTraffic(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	c := configOf(t, server.URL())
	gateways := []*Limiter{shared(t, c), shared(t, c)}
	const burst = 500
	b := NewRule(Key, "web", Rate{PerSecond: 1e-5, Burst: burst}, false).Own()
	var admitted, asked atomic.Int64
	var stop atomic.Bool
	var traffic sync.WaitGroup
	for _, l := range gateways {
		for range 4 {
			traffic.Go(func() {
				for !stop.Load() {
					var r Request
					r.Gate(b, 1)
					l.Judge(&r, time.Now())
					asked.Add(1)
					if r.Refused() == nil {
						admitted.Add(1)
					}
				}
			})
		}
	}
	waitFor(t, func() bool { return asked.Load() > 100 })
	server.Kill()
	// A gateway may know already that the bucket is empty, and not ask.
	fresh := NewRule(Key, "fresh", Rate{PerSecond: 1e9}, false).Own()
	waitFor(t, func() bool {
		for _, l := range gateways {
			var r Request
			r.Gate(fresh, 1)
			l.Judge(&r, time.Now())
		}
		return !gateways[0].Stats().Shared && !gateways[1].Stats().Shared
	})
	at := asked.Load()
	waitFor(t, func() bool { return asked.Load() > at+1000 })
	server.Start()
	waitFor(t, func() bool { return gateways[0].Stats().Shared && gateways[1].Stats().Shared })
	at = asked.Load()
	waitFor(t, func() bool { return asked.Load() > at+1000 })
	stop.Store(true)
	traffic.Wait()
	// Together while Redis is there; each by itself while it is away. Each
	// goroutine may lose one call of which the outcome is not known.
	if n := admitted.Load(); n < burst-8 || n > 2*burst {
		t.Errorf("%d events were admitted, the burst is %d", n, burst)
	}
}

func TestWithoutRunEverythingIsJudgedHere(t *testing.T) {
	t.Parallel()
	s := NewRedis(configOf(t, "redis://192.0.2.1:6379")) // which is nowhere
	defer s.Close()
	l := New(Config{Shared: s})
	b, at := NewRule(Key, "web", Rate{PerSecond: 1, Burst: 1}, false).Own(), noon(l)
	for i, want := range []string{"", "refused: key"} {
		var r Request
		r.Gate(b, 1)
		if got := judged(l, &r, at); got != want {
			t.Errorf("request %d: %q", i, got)
		}
	}
	if s := l.Stats(); s.Shared || s.Fallbacks != 1 {
		t.Errorf("%+v", s) // the second was refused by what is known
	}
}

func TestURLsOfARedis(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]RedisConfig{
		"redis://localhost":                      {Addr: "localhost:6379"},
		"redis://10.0.0.1:7000/2":                {Addr: "10.0.0.1:7000", DB: 2},
		"rediss://u:p%40ss@cache.example":        {Addr: "cache.example:6379", TLS: true, Username: "u", Password: "p@ss"},
		"redis://:secret@[::1]:6379/":            {Addr: "[::1]:6379", Password: "secret"},
		"redis://node:1?cluster=true":            {Addr: "node:1", Cluster: true},
		"redis://h?timeout=20ms&cluster=false":   {Addr: "h:6379", Timeout: 20 * time.Millisecond},
		"rediss://h:1/0?timeout=1s&cluster=true": {Addr: "h:1", TLS: true, Timeout: time.Second, Cluster: true},
	} {
		if got, err := ParseURL(text); err != nil || got != want {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{
		"", "localhost:6379", "http://h", "redis:h", "redis://", "redis://:pw@", "redis://h:0", "redis://h:99999",
		"redis://h/db", "redis://h/-1", "redis://h?max_retries=3", "redis://h?timeout=never", "redis://h?timeout=1us", "redis://h?cluster=yes",
		"redis://h/1?cluster=true", "redis://h#x", "redis://h?%zz", "unix:///var/run/redis.sock",
	} {
		_, err := ParseURL(bad)
		if err == nil {
			t.Errorf("%q is accepted", bad)
		} else if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for text, want := range map[string]string{
		"redis://u:hunter2@h:1/2?timeout=hunter2": "redis://h:1/2", "hunter2": "…", "redis://h:hunter2/": "…",
		"rediss://hunter2@h": "rediss://h", "http://hunter2": "…", "redis:hunter2": "…",
	} {
		if got := Masked(text); got != want {
			t.Errorf("%s is shown as %s, want %s", text, got, want)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"redis://u:p@h:1/2?cluster=true&timeout=1s", "rediss://[::1]", "redis://h/x", ":", "redis://a:b:c@d@e"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseURL(text)
		if err != nil {
			return
		}
		if _, _, err := net.SplitHostPort(c.Addr); err != nil {
			t.Errorf("%q is accepted with the address %q", text, c.Addr)
		}
		if shown := Masked(text); len(c.Password) > 3 && strings.Contains(shown, c.Password) && !strings.Contains(c.Addr, c.Password) &&
			!strings.Contains(text[strings.LastIndexByte(text, '@')+1:], c.Password) {
			t.Errorf("%q is shown as %q", text, shown)
		}
	})
}

// FuzzAnswer is about what a server, or somebody between, may answer.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`[0,"0123",1,2,3]`))
	f.Add([]byte(`[1,"",1,2,3]`))
	f.Add([]byte(`[3,"9",-1,"x"]`))
	f.Add([]byte(`"OK"`))
	users, names := NewRule(User, "web", Rate{PerSecond: 1}, false), NewRule(Name, "web", Rate{PerSecond: 1}, true)
	f.Fuzz(func(t *testing.T, answer []byte) {
		d := json.NewDecoder(bytes.NewReader(answer))
		d.UseNumber()
		var v any
		if d.Decode(&v) != nil {
			return
		}
		if list, ok := v.([]any); ok {
			for i := range list {
				if n, ok := list[i].(json.Number); ok {
					list[i], _ = n.Int64()
				}
			}
		}
		var r Request
		r.Gate(NewRule(Key, "web", Rate{PerSecond: 1}, false).Own(), 1)
		for range 4 {
			r.Event(users.Of("u"), names.Of("n"))
		}
		c := newCall(r.gates, r.rules, r.events)
		if err := c.read(v); err != nil {
			if !errors.Is(err, errAnswer) {
				t.Errorf("%v", err)
			}
			return
		}
		New(Config{}).copyShared(&r, []*call{c}, 0)
		if (r.Refused() != nil) != (list(v)[0] == int64(1)) {
			t.Errorf("%s: refused %v", answer, r.Refused() != nil)
		}
	})
}

func list(v any) []any { l, _ := v.([]any); return l }

// BenchmarkShared is a request of one key, and one of a hundred events with
// users and names, through a Redis of this machine.
func BenchmarkShared(b *testing.B) {
	url := os.Getenv("SLUICE_BENCH_REDIS")
	if url == "" {
		url = testenv.Redis(b).URL()
	}
	l := shared(b, configOf(b, url))
	key := NewRule(Key, "k", Rate{PerSecond: 1e9}, false)
	users, names := NewRule(User, "k", Rate{PerSecond: 1e9}, false), NewRule(Name, "k", Rate{PerSecond: 1e9}, false)
	for _, n := range []int{0, 1, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("%d-events", n), func(b *testing.B) {
			var r Request
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Reset()
				r.Gate(key.Own(), max(n, 1))
				for j := range n {
					r.Event(users.Of(strconv.Itoa(i*n+j)), names.Of("button_clicked"))
				}
				l.Judge(&r, time.Now())
			}
			if n := l.Stats().Fallbacks; n > 0 {
				b.Fatalf("%d were judged alone", n)
			}
		})
	}
}
