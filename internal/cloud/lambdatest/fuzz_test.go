package lambdatest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// Whatever a function answers is read one way: nothing failed, these failed, or
// all did; and never with an empty identifier.
func FuzzItemFailures(f *testing.F) {
	for _, seed := range []string{
		"", "null", "{}", `{"batchItemFailures":null}`, `{"batchItemFailures":[]}`, `{"batchItemFailures":[null]}`,
		`{"batchItemFailures":[{"itemIdentifier":"1"},{"itemIdentifier":"2"}]}`, `{"batchItemFailures":[{"itemIdentifier":""}]}`,
		`{"batchItemFailures":[{"itemIdentifier":null}]}`, `{"batchItemFailures":[{"ItemIdentifier":"1"}]}`, `[]`, `7`, `{"a":`, "\v{}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		ids, err := itemFailures(answer)
		switch {
		case err != nil && ids != nil:
			t.Errorf("%q: %v and %v", answer, ids, err)
		case slices.Contains(ids, ""):
			t.Errorf("%q: an empty identifier", answer)
		case err == nil && strings.Trim(string(answer), " \t\r\n") != "" && !json.Valid(answer):
			t.Errorf("%q: no JSON, and no error", answer)
		}
		// With a list of its own making, the answer reads as it was.
		if ids == nil {
			return
		}
		items := make([]map[string]string, len(ids))
		for i, id := range ids {
			items[i] = map[string]string{"itemIdentifier": id}
		}
		b, _ := json.Marshal(map[string]any{"batchItemFailures": items})
		if again, err := itemFailures(b); err != nil || !slices.Equal(again, ids) {
			t.Errorf("%q: %q, then %q, %v", answer, ids, again, err)
		}
	})
}

// Whatever stands in the path of a call is a function with a version, or an
// error.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"router", "router:prod", "router:$LATEST", "arn:aws:lambda:us-east-1:123456789012:function:router:7", "123456789012:function:router", ":", "arn:"} {
		f.Add(seed, "")
		f.Add(seed, "prod")
	}
	s := New(f, Config{InMemory: true, Functions: []Function{{Name: "router", Aliases: map[string]string{"prod": "7"}, Bootstrap: "/bin/true"}}})
	f.Fuzz(func(t *testing.T, name, qualifier string) {
		got, err := s.resolve(name, qualifier)
		if err != nil {
			if got.function != nil || err.Status != 404 && err.Status != 400 {
				t.Errorf("%q %q: %v", name, qualifier, err)
			}
			return
		}
		if got.version(got.qualifier) == "" || !strings.Contains(name, "router") || qualifier != "" && got.qualifier != qualifier {
			t.Errorf("%q %q: %q", name, qualifier, got.qualifier)
		}
	})
}
