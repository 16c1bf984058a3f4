package protocol

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

func TestUnform(t *testing.T) {
	t.Parallel()
	large := `{"a":"` + strings.Repeat("?>~", 5000) + `"}`
	for _, tt := range []struct{ name, body, want, code string }{
		{"no form", `{"data=":1}`, `{"data=":1}`, ""},
		{"another field first", `x=1&data=%7B%7D`, `x=1&data=%7B%7D`, ""},
		{"JSON", `data=%7b%22a%22%3A+1%7D&verbose=1`, `{"a": 1}`, ""},
		{"base64", "data=" + url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(large))), large, ""},
		{"base64 whose plus was not escaped", "data=" + base64.StdEncoding.EncodeToString([]byte(large)), large, ""},
		{"base64 for URLs without padding", "data=" + base64.RawURLEncoding.EncodeToString([]byte(large)), large, ""},
		{"base64 in lines", "data=" + url.QueryEscape("eyJh\r\nIjoxfQ\n==\n"), `{"a":1}`, ""},
		{"empty", "data=", "", ""},
		{"no base64", "data=%25", "", CodeEncoding},
		{"half a byte", "data=eyJhI", "", CodeEncoding},
		{"padding inside", "data=eyJh==IjoxfQ", "", CodeEncoding},
		{"a lone percent sign", "data=%7B%2", "", CodeEncoding},
		{"no hexadecimal", "data=%7B%zz", "", CodeEncoding},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := []byte(tt.body)
			got, err := Unform(body)
			if tt.code != "" {
				invalid, ok := errors.AsType[*event.Invalid](err)
				if !ok || invalid.Code != tt.code {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			if err != nil || string(got) != tt.want {
				t.Errorf("%.60q, %v", got, err)
			}
			if len(got) > 0 && &got[0] != &body[:1][0] {
				t.Error("it has taken memory of its own")
			}
		})
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	var got []string
	Fields("a=1&&b&c==%20&=d", func(name, value string) bool {
		got = append(got, name+":"+value)
		return true
	})
	if want := []string{"a:1", "b:", "c:=%20", ":d"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	n := 0
	Fields("a&b", func(string, string) bool { n++; return false })
	if n != 1 {
		t.Errorf("%d calls after false", n)
	}
}

// FuzzForm holds the parts of a form to the library's reading of them.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{"a+b%20c", "%", "%4", "%zz", "eyJhIjoxfQ==", "_-+/", "a\r\nbcd", "====", "aaaa=aaaa", strings.Repeat("QUJD", 600) + "QQ"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		want, err := url.QueryUnescape(string(b))
		apart, ok := AppendUnescaped(nil, b)
		inPlace := bytes.Clone(b)
		inPlace, okInPlace := AppendUnescaped(inPlace[:0], inPlace)
		if ok != (err == nil) || ok != okInPlace || ok && (string(apart) != want || string(inPlace) != want) {
			t.Fatalf("%q: %q, %q; the library: %q, %v", b, apart, inPlace, want, err)
		}
		plain := strings.NewReplacer("-", "+", "_", "/", " ", "+", "\r", "", "\n", "").Replace(string(b))
		reference, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(plain, "="))
		apart, ok = AppendBase64([]byte("x"), b)
		inPlace = bytes.Clone(b)
		inPlace, okInPlace = AppendBase64(inPlace[:0], inPlace)
		if ok != (err == nil) || ok != okInPlace || ok && (string(apart) != "x"+string(reference) || string(inPlace) != string(reference)) {
			t.Fatalf("%q: %q, %q; the library: %q, %v", b, apart, inPlace, reference, err)
		}
	})
}

func TestJoinSurrogates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"no pair", `{"a":"b"}`, `{"a":"b"}`},
		{"UTF-8", "Änn 😀 한국 \xed\x9f\xbf", "Änn 😀 한국 \xed\x9f\xbf"},
		{"a pair", "a\xed\xa0\xbd\xed\xb8\x80b", "a😀b"},
		{"the first and the last", "\xed\xa0\x80\xed\xb0\x80\xed\xaf\xbf\xed\xbf\xbf", "\U00010000\U0010ffff"},
		{"pairs beside UTF-8", "😀\xed\xa0\xbd\xed\xb8\x80한", "😀😀한"},
		{"halves alone", "\xed\xa0\xbd \xed\xb8\x80", "\xed\xa0\xbd \xed\xb8\x80"},
		{"in the wrong order", "\xed\xb8\x80\xed\xa0\xbd", "\xed\xb8\x80\xed\xa0\xbd"},
		{"cut", "a\xed\xa0\xbd\xed\xb8", "a\xed\xa0\xbd\xed\xb8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := JoinSurrogates([]byte(tt.text)); string(got) != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
