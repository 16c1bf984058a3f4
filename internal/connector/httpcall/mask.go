package httpcall

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/event"
)

// Bounds of connector.Result: of Message, and of Request and Response.
const (
	MaxMessage = 1 << 10
	MaxExcerpt = 4 << 10
)

// masked stands where a secret stood.
const masked = "***"

// minSecret is the length below which a value is not looked for in texts: it
// would be found in half the words of an answer.
const minSecret = 4

// Masker removes secrets from texts that are kept or shown: a destination may
// echo what it was sent, and errors quote addresses. The zero Masker removes
// nothing.
type Masker struct {
	replacer *strings.Replacer
	forms    []string // of the secrets, the longest first
}

// longest is how many bytes the longest secret has.
func (m Masker) longest() int {
	if len(m.forms) == 0 {
		return 0
	}
	return len(m.forms[0])
}

// NewMasker returns a Masker for some secrets. Those shorter than four bytes
// are left alone.
func NewMasker(secrets ...string) Masker {
	var forms []string
	for _, secret := range secrets {
		if len(secret) < minSecret {
			continue
		}
		// As it stands in JSON, which has two ways to write < and >.
		quoted, err := json.Marshal(secret)
		if err != nil {
			panic(err) // every string has a form in JSON
		}
		plain := event.AppendString(nil, secret)
		forms = append(forms, secret, string(quoted[1:len(quoted)-1]), string(plain[1:len(plain)-1]))
	}
	// A secret may hold another one: the longest is replaced first.
	slices.SortFunc(forms, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
	if len(forms) == 0 {
		return Masker{}
	}
	forms = slices.Compact(forms)
	var pairs []string
	for _, secret := range forms {
		pairs = append(pairs, secret, masked)
	}
	return Masker{strings.NewReplacer(pairs...), forms}
}

// minSecretPath is the length from which a path is taken for a secret. Hosted
// webhooks carry theirs there: /services/T0000/B0000/XXXXXXXX.
const minSecretPath = 20

// URLSecrets returns the parts of an address that must not be shown: password,
// user name, the same as an Authorization header, the query and its values,
// and a long path.
func URLSecrets(u *url.URL) []string {
	var secrets []string
	if u.User != nil {
		password, _ := u.User.Password()
		secrets = append(secrets, u.User.String(), u.User.Username(), password,
			base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	if u.RawQuery != "" {
		secrets = append(secrets, u.RawQuery)
		for _, values := range u.Query() {
			for _, value := range values {
				secrets = append(secrets, value, url.QueryEscape(value))
			}
		}
	}
	if len(u.Path) >= minSecretPath {
		secrets = append(secrets, u.Path, u.EscapedPath())
	}
	return secrets
}

// Text returns s without secrets, in valid UTF-8, cut to limit bytes. A secret
// that the cut would divide is masked first. Of a long text it looks at no more
// than that takes.
func (m Masker) Text(s string, limit int) string {
	enough := limit + m.longest()
	cut := len(s) > enough
	if cut {
		for n := 1; n < utf8.UTFMax && !utf8.RuneStart(s[enough]); n++ {
			enough--
		}
		s = s[:enough]
	}
	if m.replacer != nil {
		s = m.replacer.Replace(s)
	}
	if cut {
		s = m.withoutPart(s) + cutMark
	}
	return Cut(strings.ToValidUTF8(s, "\ufffd"), limit)
}

// withoutPart returns s without the beginning of a secret at its end.
func (m Masker) withoutPart(s string) string {
	for i := max(0, len(s)-m.longest()+1); i < len(s); i++ {
		for _, secret := range m.forms {
			if strings.HasPrefix(secret, s[i:]) {
				return s[:i]
			}
		}
	}
	return s
}

// cutMark ends a text that was cut.
const cutMark = "…"

// Cut returns s, or as much of it as fits into limit bytes with a mark at the
// end. It does not divide a character.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := max(0, limit-len(cutMark))
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + cutMark
}
