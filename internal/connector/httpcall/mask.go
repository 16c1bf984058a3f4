package httpcall

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
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
type Masker struct{ replacer *strings.Replacer }

// NewMasker returns a Masker for some secrets. Those shorter than four bytes
// are left alone.
func NewMasker(secrets ...string) Masker {
	var forms []string
	for _, secret := range secrets {
		if len(secret) < minSecret {
			continue
		}
		forms = append(forms, secret)
		// As it stands in an answer that is JSON and echoes it.
		if quoted, err := json.Marshal(secret); err == nil {
			forms = append(forms, string(quoted[1:len(quoted)-1]))
		}
	}
	// A secret may hold another one: the longest is replaced first.
	slices.SortFunc(forms, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
	if len(forms) == 0 {
		return Masker{}
	}
	var pairs []string
	for _, secret := range slices.Compact(forms) {
		pairs = append(pairs, secret, masked)
	}
	return Masker{strings.NewReplacer(pairs...)}
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
// that the cut would divide is masked first.
func (m Masker) Text(s string, limit int) string {
	if m.replacer != nil {
		s = m.replacer.Replace(s)
	}
	return Cut(strings.ToValidUTF8(s, "\ufffd"), limit)
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
