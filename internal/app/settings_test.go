package app

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load reads settings from arguments and an environment.
func load(t *testing.T, env map[string]string, args ...string) (Settings, error) {
	t.Helper()
	var s Settings
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	s.Bind(flags)
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	return s, s.Fill(flags, func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	})
}

func TestTheDefaultsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	s, err := load(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]string{
		"SLUICE_ADDR":         {s.Addr, ":8080"},
		"SLUICE_ADMIN_ADDR":   {s.AdminAddr, "127.0.0.1:8081"},
		"SLUICE_DATA_DIR":     {s.DataDir, "./.sluice"},
		"SLUICE_STREAM":       {s.Stream, "embedded:"},
		"SLUICE_KEYS":         {s.Keys, ".sluice/keys.json"},
		"SLUICE_RULES":        {s.Rules, ".sluice/rules.json"},
		"SLUICE_DESTINATIONS": {s.Destinations, ".sluice/destinations.json"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", name, pair[0], pair[1])
		}
	}
}

func TestFlagsOverrideTheEnvironment(t *testing.T) {
	t.Parallel()
	env := map[string]string{"SLUICE_ADDR": "127.0.0.1:1", "SLUICE_RETENTION": "1h", "SLUICE_MEMORY_LIMIT": "1GiB", "SLUICE_TRUSTED_PROXIES": "10.0.0.0/8, ::1"}
	s, err := load(t, env, "--addr", "127.0.0.1:2")
	if err != nil {
		t.Fatal(err)
	}
	if s.Addr != "127.0.0.1:2" || s.Retention != time.Hour || s.MemoryLimit != 1<<30 || len(s.TrustedProxies) != 2 {
		t.Errorf("%+v", s)
	}
}

func TestEveryFaultHasALineThatNamesVariableValueAndRemedy(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"SLUICE_ADDR":            "nowhere",
		"SLUICE_STREAM":          "kafka://broker",
		"SLUICE_RETENTION":       "a week",
		"SLUICE_MEMORY_LIMIT":    "lots",
		"SLUICE_MAX_EVENT":       "1",
		"SLUICE_LOG_LEVEL":       "loud",
		"SLUICE_TRUSTED_PROXIES": "proxy.example",
		"SLUICE_ADDRESS_RATE":    "-1",
		"SLUICE_REDIS":           "redis://cache.example:6379/first",
		"SLUICE_PROTOCOLS":       "snowplow,heap",
	}
	_, err := load(t, env)
	if err == nil {
		t.Fatal("no fault found")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(env) {
		t.Errorf("%d lines for %d faults:\n%v", len(lines), len(env), err)
	}
	for name, value := range env {
		found := false
		for _, line := range lines {
			found = found || strings.Contains(line, name+"=") && strings.Contains(line, value) && strings.Contains(line, "right would be")
		}
		if !found {
			t.Errorf("no line for %s=%q:\n%v", name, value, err)
		}
	}
}

func TestSettingsThatContradictEachOther(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]map[string]string{
		"SLUICE_TLS_KEY":     {"SLUICE_TLS_CERT": "cert.pem"},
		"SLUICE_ADMIN_TOKEN": {"SLUICE_ADMIN_ADDR": ":8081"},
		"SLUICE_MAX_EVENT":   {"SLUICE_MAX_EVENT": "2MB"},
		"SLUICE_MAX_BODY":    {"SLUICE_MAX_BODY": "1GiB"},
	} {
		if _, err := load(t, env); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v", env, err)
		}
	}
}

func TestProtocolsAreSomeOrNone(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][]string{
		"": {"jitsu", "snowplow"}, "none": {}, "posthog": {"posthog"}, "mixpanel, jitsu,mixpanel": {"mixpanel", "jitsu"},
	} {
		s, err := load(t, map[string]string{"SLUICE_PROTOCOLS": value})
		if err != nil || s.Protocols == nil || !slices.Equal(s.Protocols, want) {
			t.Errorf("%q is %q, %v", value, s.Protocols, err)
		}
	}
	for _, value := range []string{"none,jitsu", "all", ","} {
		if s, err := load(t, map[string]string{"SLUICE_PROTOCOLS": value}); err == nil {
			t.Errorf("%q is %q", value, s.Protocols)
		}
	}
	if _, err := load(t, nil, "--protocols="); err == nil {
		t.Error("a list of nothing is taken for none")
	}
}

func TestTheAdminTokenIsNeverShown(t *testing.T) {
	t.Parallel()
	_, err := load(t, map[string]string{"SLUICE_ADMIN_TOKEN": "hunter2"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error: %v", err)
	}
	s, err := load(t, map[string]string{"SLUICE_ADMIN_TOKEN": "0123456789abcdef", "SLUICE_ADMIN_ADDR": "0.0.0.0:8081"})
	if err != nil || s.AdminToken != "0123456789abcdef" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestTheURLOfARedisIsReadAndNeverShown(t *testing.T) {
	t.Parallel()
	s, err := load(t, map[string]string{"SLUICE_REDIS": "rediss://:hunter2@cache.example/1?timeout=20ms"})
	if c := s.SharedLimits; err != nil || c.Addr != "cache.example:6379" || !c.TLS || c.Password != "hunter2" || c.DB != 1 || c.Timeout != 20*time.Millisecond {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"redis://:hunter2@cache.example:port", "redis://u:hunter2@cache.example/x", "hunter2@cache.example:6379", "redis://cache.example?password=hunter2"} {
		for _, err := range []error{
			func() error { _, err := load(t, map[string]string{"SLUICE_REDIS": bad}); return err }(),
			func() error { _, err := load(t, nil, "--redis", bad); return err }(),
		} {
			if err == nil || !strings.HasPrefix(err.Error(), "SLUICE_REDIS=") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", bad, err)
			}
		}
	}
}

func TestBytesReadAndWriteTheSameSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Bytes{"512MiB": 512 << 20, "2GB": 2e9, "1000000": 1e6, "64KiB": 64 << 10, "7B": 7, "0": 0} {
		got, err := parseBytes(text)
		if err != nil || got != want {
			t.Errorf("%q is %d, %v", text, got, err)
		}
		if again, err := parseBytes(got.String()); err != nil || again != got {
			t.Errorf("%q is written %q and read %d, %v", text, got, again, err)
		}
	}
	for _, bad := range []string{"", "MiB", "-1", "1.5GiB", "9999999999TiB", "1 lot"} {
		if _, err := parseBytes(bad); err == nil {
			t.Errorf("%q is taken for a size", bad)
		}
	}
}

func TestTheSettingsOfDeduplication(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		window, memory, limit string
		want                  time.Duration
		fault                 string // in the only line, "" for none
	}{
		{"", "", "", 0, ""},
		{"off", "", "", 0, ""},
		{"1h", "", "", time.Hour, ""},
		{"1m", "1MiB", "128MiB", time.Minute, ""},
		{"1h", "32MiB", "128MiB", time.Hour, ""},
		{"on", "", "", 0, `SLUICE_DEDUP="on": neither a duration nor "off"; right would be "1h" or "24h"`},
		{"59s", "", "", 0, `SLUICE_DEDUP="59s": too short`},
		{"-1h", "", "", 0, `SLUICE_DEDUP="-1h": too short`},
		{"8760h", "", "", 0, `SLUICE_DEDUP="8760h": too long; right would be 720h0m0s or less`},
		{"1h", "1000", "", 0, `SLUICE_DEDUP_MEMORY="1000": too small; right would be 1MiB or more`},
		{"1h", "", "128MiB", 0, "SLUICE_DEDUP_MEMORY=64MiB: more than a quarter of SLUICE_MEMORY_LIMIT=128MiB; lower the one or raise the other"},
		{"off", "1GiB", "128MiB", 0, ""}, // nobody asks for it
	} {
		env := map[string]string{"SLUICE_DEDUP": tc.window, "SLUICE_DEDUP_MEMORY": tc.memory, "SLUICE_MEMORY_LIMIT": tc.limit}
		if tc.limit == "128MiB" {
			env["SLUICE_MAX_BODY"] = "1MiB"
		}
		s, err := load(t, env)
		switch {
		case tc.fault == "":
			if err != nil || s.Dedup != tc.want {
				t.Errorf("%v: %v, %v", env, s.Dedup, err)
			}
		case err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), tc.fault):
			t.Errorf("%v: %v", env, err)
		}
	}
}
