package app

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/edge/source"
)

// keysIn returns the keys document of the settings.
func keysIn(t *testing.T, s Settings) *source.Keys {
	t.Helper()
	doc, err := ReadDocument(t.Context(), s.Keys)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := source.Parse(doc, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestKeysInABucketAreChangedAsThoseInAFile(t *testing.T) {
	aws, err := cloudtest.Open(cloudtest.Config{Buckets: []string{"sluice"}})
	if err != nil {
		t.Fatal(err)
	}
	defer aws.Close()
	for _, v := range aws.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	for name, place := range map[string]string{"file": "", "bucket": "s3://sluice/keys.json"} {
		s := settingsIn(t, t.TempDir())
		if place != "" {
			s.Keys = place
		}
		var out, errs bytes.Buffer
		last := func() string {
			defer out.Reset()
			return strings.TrimSpace(out.String())
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := RevokeKey(t.Context(), s, "web", &out); err == nil || !strings.Contains(err.Error(), "no keys document") {
			t.Errorf("%s: revoked without a document: %v", name, err)
		}
		if err := RotateKey(t.Context(), s, "web", time.Hour, &out, &errs); err == nil || !strings.Contains(err.Error(), "no keys document") {
			t.Errorf("%s: rotated without a document: %v", name, err)
		}
		must(AddKey(t.Context(), s, NewKey{ID: "web", Kind: "write"}, &out))
		first := last()
		must(AddKey(t.Context(), s, NewKey{ID: "backend", Kind: "secret", Signature: NewSecret}, &out))
		backend := last()
		must(RotateKey(t.Context(), s, "web", time.Hour, &out, &errs))
		second := last()
		keys := keysIn(t, s)
		older, newer := keys.Find([]byte(first)), keys.Find([]byte(second))
		if older == nil || !older.Replaced() || newer == nil || newer.Replaced() || older.ID != "web" || newer.ID != "web" {
			t.Fatalf("%s: after the rotation %+v, %+v", name, older, newer)
		}
		must(RevokeKey(t.Context(), s, "web", &out))
		out.Reset()
		keys = keysIn(t, s)
		for _, value := range []string{first, second} {
			if keys.Find([]byte(value)).State(time.Now()) != source.Disabled {
				t.Errorf("%s: a value of a revoked key is in force", name)
			}
		}
		must(ListKeys(t.Context(), s, &out))
		list := last()
		for _, secret := range append(strings.Fields(backend), first, second) {
			if strings.Contains(list, secret[6:]) {
				t.Errorf("%s: the list has a secret:\n%s", name, list)
			}
		}
		if !strings.Contains(list, "web") || !strings.Contains(list, "disabled") || !strings.Contains(list, "1 older until") || !strings.Contains(list, "signed") {
			t.Errorf("%s:\n%s", name, list)
		}
		if strings.Contains(errs.String(), second[6:]) {
			t.Errorf("%s: the new value is said twice", name)
		}
	}

	// Somebody else changes the object at the same time: both changes are made.
	s := settingsIn(t, t.TempDir())
	s.Keys = "s3://sluice/keys.json"
	var out bytes.Buffer
	calls := 0
	err = changeKeys(t.Context(), s.Keys, func(document []byte) ([]byte, error) {
		if calls++; calls == 1 {
			if err := AddKey(t.Context(), s, NewKey{ID: "other", Kind: "write"}, &out); err != nil {
				return nil, err
			}
		}
		return source.Revoke(document, "backend")
	})
	if err != nil || calls != 2 {
		t.Fatalf("%v after %d calls", err, calls)
	}
	ids := map[string]source.State{}
	for _, k := range keysIn(t, s).List() {
		ids[k.ID] = k.State(time.Now())
	}
	if len(ids) != 3 || ids["other"] != source.Active || ids["backend"] != source.Disabled {
		t.Errorf("%v", ids)
	}
	// What cannot be changed stays.
	stop := errors.New("stop")
	if err := changeKeys(t.Context(), s.Keys, func([]byte) ([]byte, error) { return nil, stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func TestTheWriteKeyOfTheFirstRunFollowsItsKey(t *testing.T) {
	t.Parallel()
	s := settingsIn(t, t.TempDir())
	made, err := prepare(s)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if err := RotateKey(t.Context(), s, "backend", 0, &out, &errs); err != nil {
		t.Fatal(err)
	}
	if again, err := prepare(s); err != nil || again.writeKey != made.writeKey {
		t.Errorf("after another key was rotated: %+v, %v", again, err)
	}
	out.Reset()
	if err := RotateKey(t.Context(), s, "web", time.Hour, &out, &errs); err != nil {
		t.Fatal(err)
	}
	again, err := prepare(s)
	if err != nil || again.writeKey == made.writeKey || again.writeKey != strings.TrimSpace(out.String()) {
		t.Errorf("after its rotation: %+v, %v", again, err)
	}
	if err := RevokeKey(t.Context(), s, "web", &out); err != nil {
		t.Fatal(err)
	}
	if again, err = prepare(s); err != nil || again.writeKey != "" {
		t.Errorf("a revoked key is shown: %+v, %v", again, err)
	}
	if info, err := os.Stat(filepath.Join(s.DataDir, writeKeyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestWrongUseOfNewKeys(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		key  NewKey
		want string
	}{
		{"no id", NewKey{Kind: "write"}, "--id"},
		{"no kind", NewKey{ID: "a"}, "--kind"},
		{"a secret on the command line", NewKey{ID: "a", Kind: "secret", Value: "hunter2"}, "--value is for write keys"},
		{"a colon, which ends a key", NewKey{ID: "a", Kind: "write", Value: "a:b"}, "no colon"},
		{"a blank", NewKey{ID: "a", Kind: "write", Value: "a b"}, "no spaces"},
		{"endless", NewKey{ID: "a", Kind: "write", Value: strings.Repeat("x", 201)}, "1 to 200"},
		{"good", NewKey{ID: "a", Kind: "write", Value: "my-app"}, ""},
		{"a token", NewKey{ID: "a", Kind: "token"}, ""}, // what it lacks is said by the document
	} {
		err := tt.key.CheckUse()
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
