package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/testenv"
)

// metrics returns what the process shows to Prometheus.
func (p *process) metrics() string {
	p.t.Helper()
	resp, err := http.Get(p.admin + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("metrics: %d, %v", resp.StatusCode, err)
	}
	return string(text)
}

// awaitMetric waits until the metrics have a line.
func (p *process) awaitMetric(line string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(p.metrics(), "\n"+line+"\n") {
		if time.Now().After(deadline) {
			p.t.Fatalf("the metrics never say %s:\n%s", line, p.metrics())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Two gateways share the rates of a key through a Redis that goes away and
// comes back; what they say of it, and that nothing of its password is said.
func TestGatewaysShareLimitsThroughRedis(t *testing.T) {
	t.Parallel()
	const password = "a-password-of-redis"
	redis := testenv.Redis(t, "--requirepass", password)
	docs := everythingToWarehouse
	// Nothing grows back during the test.
	docs.keys = `{"keys":[{"id":"web","kind":"write","sha256":"` + hash(writeKey) + `",
		"rate":{"per_second":0.00001,"burst":20},"user_rate":{"per_second":0.00001,"burst":3}}]}`
	// A busy machine must not look like a slow Redis.
	env := "SLUICE_REDIS=redis://:" + password + "@" + redis.Addr + "?timeout=10s"
	a, b := startCommand(t, "gateway", dataFolder(t, docs), env), startCommand(t, "gateway", dataFolder(t, docs), env)
	for _, p := range []*process{a, b} {
		p.awaitMetric("sluice_limits_shared 1")
	}

	event := `{"name":"a","user_id":"ann"}`
	if got := a.post("[" + event + "," + event + "]"); got.status != http.StatusAccepted {
		t.Fatalf("%d %s", got.status, got.body)
	}
	got := b.post("[" + event + "," + event + `,{"name":"a","user_id":"bob"}]`)
	if got.status != http.StatusMultiStatus || got.Accepted != 2 || len(got.Errors) != 1 || got.Errors[0].Code != "user_rate_limited" || got.header.Get("Retry-After") != "86400" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if got := a.post(event); got.status != http.StatusTooManyRequests || got.Code != "user_rate_limited" {
		t.Errorf("%d %s", got.status, got.body)
	}

	redis.Kill()
	if got := a.post(`{"name":"a","user_id":"cid"}`); got.status != http.StatusAccepted {
		t.Errorf("without Redis: %d %s", got.status, got.body)
	}
	a.awaitMetric("sluice_limits_shared 0")
	a.awaitMetric("sluice_limits_fallbacks_total 1")
	// The gateway still knows of ann.
	if got := a.post(event); got.status != http.StatusTooManyRequests {
		t.Errorf("without Redis: %d %s", got.status, got.body)
	}
	redis.Start()
	a.awaitMetric("sluice_limits_shared 1")
	if got := a.send("/v1/batch", `{"batch":[{"type":"track","event":"a","userId":"ann"},{"type":"track","event":"a","userId":"dan"}]}`, nil); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	for _, p := range []*process{a, b} {
		if l := p.ledger(); l.Received != l.Rejected+l.Accepted || l.Residual != 0 {
			t.Errorf("ledger %+v", l)
		}
		said := p.out.String()
		if strings.Contains(said, password) || !strings.Contains(said, "rate limits are shared through Redis") {
			t.Errorf("the log is\n%s", said)
		}
		p.stop()
	}
	if l := a.out.String(); strings.Count(l, "kept by this gateway alone") != 1 {
		t.Errorf("not one line says that Redis is away:\n%s", l)
	}
}
