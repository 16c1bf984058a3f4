package connectortest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
)

func testSettings(t *testing.T, h Harness) {
	t.Run("faults are named without the secrets", func(t *testing.T) {
		t.Parallel()
		b := setUp(t, h)
		var good map[string]json.RawMessage
		if err := json.Unmarshal(b.Settings, &good); err != nil {
			t.Fatalf("settings of the harness: %v", err)
		}
		for _, c := range []struct {
			name   string
			change func(settings map[string]json.RawMessage)
			want   []string
		}{
			{"an unknown member", func(s map[string]json.RawMessage) { s["no_such_setting"] = []byte(`1`) }, []string{"no_such_setting"}},
			{"two unknown members", func(s map[string]json.RawMessage) { s["first_wrong"], s["second_wrong"] = []byte(`1`), []byte(`{}`) }, []string{"first_wrong", "second_wrong"}},
		} {
			settings := make(map[string]json.RawMessage)
			for name, value := range good {
				settings[name] = value
			}
			c.change(settings)
			b.wantFault(c.name, settings, c.want)
		}
		// Each setting with a value of a type that none has.
		for name := range good {
			settings := make(map[string]json.RawMessage)
			for other, value := range good {
				settings[other] = value
			}
			settings[name] = []byte(`[[{}]]`)
			b.wantFault(name+" of a wrong type", settings, []string{name})
		}
		if _, err := b.Factory([]byte(`["not an object"]`), b.env()); err == nil {
			t.Error("an array is taken for settings")
		}
	})

	t.Run("a connector is made without the destination", func(t *testing.T) {
		t.Parallel()
		b := setUp(t, h)
		leave := b.enter(Away)
		defer leave()
		b.connect()
	})
}

func (b *bench) wantFault(name string, settings map[string]json.RawMessage, want []string) {
	b.t.Helper()
	raw, err := json.Marshal(settings)
	if err != nil {
		b.t.Fatal(err)
	}
	conn, err := b.Factory(raw, b.env())
	if err == nil {
		b.t.Errorf("%s: no error", name)
		_ = conn.Close()
		return
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			b.t.Errorf("%s: the error does not name %q: %v", name, text, err)
		}
	}
	b.noSecret(name, err.Error())
}

// Refuses fails the test unless settings are refused with these faults and no
// others, a line each, that do not repeat a secret: tests use "hunter2" for them.
func Refuses(t *testing.T, factory connector.Factory, settings string, faults ...string) {
	t.Helper()
	_, err := factory([]byte(settings), connector.Env{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range faults {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != len(faults) {
		t.Errorf("%d faults, want %d:\n%v", n, len(faults), err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error repeats a secret: %v", err)
	}
}
