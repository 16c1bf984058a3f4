package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/edge/source/sourcetest"
)

// TestKeysChangeWhileTheGatewayRuns does what an operator does with keys, and
// sees that the gateway follows.
func TestKeysChangeWhileTheGatewayRuns(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	made, err := os.ReadFile(filepath.Join(p.dir, "write.key"))
	if err != nil {
		t.Fatal(err)
	}
	first := strings.TrimSpace(string(made))
	code := func(key string, more ...string) string {
		header := http.Header{"Authorization": {"Bearer " + key}}
		for _, line := range more {
			name, value, _ := strings.Cut(line, ": ")
			header.Set(name, value)
		}
		if a := p.send("/v1/events", `{"name":"a"}`, header); a.status != http.StatusAccepted {
			return a.Code
		}
		return ""
	}
	want := func(what, key, want string, more ...string) {
		t.Helper()
		p.until(what, func() bool { return code(key, more...) == want })
	}
	command := func(args ...string) string {
		t.Helper()
		stdout, stderr, status := p.run(args...)
		if status != 0 {
			t.Fatalf("%v: %d\n%s", args, status, stderr)
		}
		return strings.TrimSpace(stdout)
	}
	want("the key of the first run", first, "")

	// Rotation: both values work, and the next start shows the new one.
	second := command("keys", "rotate", "web")
	want("the new value", second, "")
	want("the old value, still", first, "")
	if now, _ := os.ReadFile(filepath.Join(p.dir, "write.key")); strings.TrimSpace(string(now)) != second {
		t.Errorf("write.key holds %s", now)
	}
	if list := command("keys", "list"); !strings.Contains(list, "1 older until 20") || strings.Contains(list, first[3:]) || strings.Contains(list, second[3:]) {
		t.Errorf("%s", list)
	}
	third := command("keys", "rotate", "web", "--overlap", "0")
	want("a value without overlap", second, "unknown_key")
	want("the value after it", third, "")

	// Revocation.
	command("keys", "revoke", "web")
	want("a revoked key", third, "disabled_key")

	// A restriction that is observed at first: the metric says whom it hits.
	restricted := command("keys", "new", "--id", "office", "--ips", "192.0.2.0/24", "--modes", "ips=observe")
	want("an observed restriction", restricted, "")
	p.until("the metric", func() bool {
		metrics := p.text("/metrics")
		return strings.Contains(metrics, `sluice_gateway_would_refuse_total{`) && strings.Contains(metrics, `key="office"`) && strings.Contains(metrics, `restriction="ips"`)
	})

	// Signatures.
	lines := strings.Fields(command("keys", "new", "--id", "erp", "--kind", "secret", "--signature", "new"))
	if len(lines) != 2 {
		t.Fatalf("printed %q", lines)
	}
	want("an unsigned request", lines[0], "missing_signature")
	headers := sourcetest.Sign("msg_1", time.Now(), `{"name":"a"}`, lines[1])
	if got := code(lines[0], headers...); got != "" {
		t.Errorf("signed: %s", got)
	}
	if got := code(lines[0], headers...); got != "replayed_signature" {
		t.Errorf("replayed: %s", got)
	}

	// Tokens.
	issuer := sourcetest.NewKey("k1", "ES256", 1)
	jwks := sourcetest.NewIssuer(issuer).Listen(t)
	command("keys", "new", "--id", "app", "--kind", "token", "--issuer", "https://id.example", "--audience", "sluice", "--jwks", jwks)
	token := issuer.Sign(t, map[string]any{"iss": "https://id.example", "aud": "sluice", "sub": "u1", "exp": time.Now().Unix() + 600})
	want("a token", token, "")
	want("an unsigned token", sourcetest.Unsigned(map[string]any{"iss": "https://id.example"}), "invalid_token")

	list := command("keys", "list")
	for _, line := range []string{"web .* disabled", "office .*ips=192.0.2.0/24 ips:observe", "erp .* signed", "app .*issuer=https://id.example audience=sluice"} {
		if !regexp.MustCompile(line).MatchString(list) {
			t.Errorf("no line %s in\n%s", line, list)
		}
	}
	said := p.out.String()
	for _, secret := range []string{second, third, restricted, lines[0], lines[1], token} {
		if strings.Contains(list, secret[6:]) || strings.Contains(said, secret[6:]) {
			t.Errorf("a secret is in the list, or in the log")
		}
	}
}
