package settings_test

import (
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector/settings"
)

type example struct {
	URL     string            `json:"url" validate:"required"`
	Secret  string            `json:"secret"`
	Mode    string            `json:"mode" validate:"oneof=fast safe"`
	Count   int               `json:"count" validate:"min=1,max=10"`
	Timeout settings.Duration `json:"timeout" validate:"min=1s,max=1m"`
	Headers map[string]string `json:"headers"`
	Strict  bool              `json:"strict"`
	Inner   struct {
		Kind string `json:"kind" validate:"omitempty,oneof=a b"`
		Deep struct {
			Text string `json:"text"`
		} `json:"deep"`
	} `json:"inner"`
}

func defaults() example {
	return example{Mode: "safe", Count: 3, Timeout: settings.Duration(15 * time.Second)}
}

func TestDefaultsStandWhereNothingIsGiven(t *testing.T) {
	t.Parallel()
	got := defaults()
	if err := settings.Decode([]byte(`{"url":"u","mode":null,"timeout":"1m","headers":{"a":"b"},"inner":{"kind":null,"deep":{"text":"t"}}}`), &got); err != nil {
		t.Fatal(err)
	}
	if got.Mode != "safe" || got.Count != 3 || time.Duration(got.Timeout) != time.Minute || got.Headers["a"] != "b" || got.Inner.Deep.Text != "t" {
		t.Errorf("got %+v", got)
	}
}

func TestEveryFaultIsNamedAndNoValueRepeated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, raw string
		want      []string
	}{
		{"unknown members", `{"url":"u","uri":"hunter2","tiemout":"hunter2"}`, []string{"uri: unknown setting", "tiemout: unknown setting", "timeout"}},
		{"several at once", `{"secret":42,"mode":"hunter2","count":11,"timeout":"2h"}`,
			[]string{"url: is required", "secret: must be a string", "mode: must be one of fast, safe", "count: must be at most 10", "timeout: must be at most 1m"}},
		{"wrong types", `{"url":["hunter2"],"count":"hunter2","headers":{"a":["hunter2"]},"strict":"hunter2","timeout":"hunter2"}`,
			[]string{"url: must be a string", "count: must be a whole number", "headers: must be an object, each value a string", "strict: must be true or false", `timeout: not a duration`}},
		{"in objects", `{"url":"u","inner":{"kind":"hunter2","deep":{"text":42,"txt":"hunter2"},"deep":{}}}`,
			[]string{"inner.kind: must be one of a, b", "inner.deep.text: must be a string", "inner.deep.txt: unknown setting; there are text", "inner.deep: given twice"}},
		{"no object", `{"url":"u","inner":["hunter2"]}`, []string{"inner: must be an object with deep, kind"}},
		{"given twice", `{"url":"u","url":"hunter2"}`, []string{"url: given twice"}},
		{"not an object", `["hunter2"]`, []string{"settings are not a JSON object"}},
		{"text after the object", `{"url":"u"} "hunter2"`, []string{"settings are not a JSON object"}},
		{"cut short", `{"url":"hunter2`, []string{"settings are not a JSON object"}},
		{"none", ``, []string{"url: is required"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := defaults()
			err := settings.Decode([]byte(c.raw), &got)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error repeats a value:\n%v", err)
			}
			if got, want := strings.Count(err.Error(), "\n")+1, len(c.want); c.name != "unknown members" && got != want {
				t.Errorf("%d faults, want %d:\n%v", got, want, err)
			}
		})
	}
}
