package schema

import (
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// format is a format that is asserted.
type format struct {
	expected string
	// obvious accepts some of the texts that are of the format, fast. What it
	// does not accept the library decides. Nil accepts none.
	obvious func([]byte) bool
	library func(any) error
}

// is reports whether a text is of the format.
func (f *format) is(value []byte) bool {
	if f.obvious != nil && f.obvious(value) {
		return true
	}
	return f.library(string(value)) == nil
}

// formatNames are the formats that schemas may use. Those that an event has no
// use for, or that the library does not know, are no formats to us: a contract
// that silently checks nothing is worse than one that is refused.
var formatNames = []string{
	"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "iri", "iri-reference", "json-pointer",
	"relative-json-pointer", "semver", "time", "uri", "uri-reference", "uri-template", "uuid",
}

var formats = sync.OnceValue(func() map[string]*format {
	all := map[string]*format{}
	for _, name := range formatNames {
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		if err := c.AddResource("sluice:format", map[string]any{"format": name}); err != nil {
			panic(err) // the name is a constant of ours
		}
		all[name] = &format{expected: name, library: c.MustCompile("sluice:format").Format.Validate}
	}
	all["date-time"].obvious = isDateTime
	all["date"].obvious = isDate
	all["uuid"].obvious = isUUID
	all["email"].obvious = isEmail
	all["uri"].obvious = isURI
	all["ipv4"].obvious = isIPv4
	return all
})

// knownFormats lists the formats for people.
func knownFormats() string { return strings.Join(formatNames, ", ") }

func isFormat(name string) bool { return slices.Contains(formatNames, name) }

func digit(c byte) bool { return c-'0' <= 9 }

// two returns the number in s[i:i+2], -1 if it is none.
func two(s []byte, i int) int {
	if !digit(s[i]) || !digit(s[i+1]) {
		return -1
	}
	return int(s[i]-'0')*10 + int(s[i+1]-'0')
}

// isDate accepts the days of every month but the last few, which take a calendar.
func isDate(s []byte) bool {
	if len(s) != len("2006-01-02") || s[4] != '-' || s[7] != '-' || two(s, 0) < 0 || two(s, 2) < 0 {
		return false
	}
	month, day := two(s, 5), two(s, 8)
	return month >= 1 && month <= 12 && day >= 1 && (day <= 28 || day <= 30 && month != 2)
}

// isDateTime accepts times in UTC without leap seconds.
func isDateTime(s []byte) bool {
	if len(s) < len("2006-01-02T15:04:05Z") || s[10] != 'T' || !isDate(s[:10]) || s[13] != ':' || s[16] != ':' || s[len(s)-1] != 'Z' {
		return false
	}
	hour, minute, second := two(s, 11), two(s, 14), two(s, 17)
	if hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return false
	}
	fraction := s[19 : len(s)-1]
	if len(fraction) == 0 {
		return true
	}
	if fraction[0] != '.' || len(fraction) == 1 {
		return false
	}
	for _, c := range fraction[1:] {
		if !digit(c) {
			return false
		}
	}
	return true
}

func isUUID(s []byte) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !digit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
				return false
			}
		}
	}
	return true
}

func alphanumeric(c byte) bool { return digit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' }

// isEmail accepts the plain ones: letters, digits and single ".", "_", "+", "-"
// between them, at a host name of labels without hyphens at their ends.
func isEmail(s []byte) bool {
	atSign := -1
	for i, c := range s {
		switch {
		case alphanumeric(c):
		case c == '@' && atSign < 0 && i > 0:
			atSign = i
		case c == '.' || c == '-' || (c == '_' || c == '+') && atSign < 0:
			if i == 0 || i == len(s)-1 || !alphanumeric(s[i-1]) || !alphanumeric(s[i+1]) {
				return false
			}
		default:
			return false
		}
	}
	if atSign < 0 || atSign > 64 || len(s) > 254 || atSign == len(s)-1 {
		return false
	}
	return len(s)-atSign <= 64 // so that no label is longer than 63
}

// isURI accepts http and https with a plain host and nothing that has to be
// escaped.
func isURI(s []byte) bool {
	rest, ok := strings.CutPrefix(view(s), "https://")
	if !ok {
		if rest, ok = strings.CutPrefix(view(s), "http://"); !ok {
			return false
		}
	}
	host := true
	for i := range len(rest) {
		switch c := rest[i]; {
		case alphanumeric(c):
		case c == '-' || c == '.':
			if i == 0 {
				return false
			}
		case c == '/' || c == '?' || c == '#':
			if i == 0 {
				return false
			}
			host = false
		case !host && strings.IndexByte("_~=&+,;@!$'()*", c) >= 0:
		default:
			return false
		}
	}
	return rest != ""
}

func isIPv4(s []byte) bool {
	groups, n, digits := 1, 0, 0
	for _, c := range s {
		switch {
		case digit(c):
			if digits > 0 && n == 0 {
				return false // a leading zero
			}
			n = n*10 + int(c-'0')
			if digits++; n > 255 {
				return false
			}
		case c == '.' && digits > 0:
			groups++
			n, digits = 0, 0
		default:
			return false
		}
	}
	return groups == 4 && digits > 0
}
