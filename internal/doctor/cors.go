package doctor

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What a browser decides about answers from another origin, step by step as the
// Fetch standard has it, with the words in which Chromium says it.
// Source: https://fetch.spec.whatwg.org, "CORS check" and "CORS-preflight
// fetch" (read 2026-11); the words are those of Chromium 156, to which a test
// holds them.

// fetch is a request of a page to another origin.
type fetch struct {
	method string
	// headers are those that make a preflight necessary, in lower case and
	// sorted, as browsers list them.
	headers []string
	// credentials says that cookies would be sent along.
	credentials bool
	// xhr says that it is an XMLHttpRequest, which Chromium calls by its name.
	xhr bool
}

// corsCheck returns why a page of an origin may not see an answer, "" if it
// may.
func corsCheck(h http.Header, origin string, f fetch) string {
	allowed, ok := get(h, "Access-Control-Allow-Origin")
	switch {
	case !ok:
		return "No 'Access-Control-Allow-Origin' header is present on the requested resource."
	case allowed == "*" && !f.credentials:
		return ""
	case allowed == "*":
		why := "The value of the 'Access-Control-Allow-Origin' header in the response must not be the wildcard '*' when the request's credentials mode is 'include'."
		return why + f.aboutCredentials()
	case allowed != origin && strings.ContainsAny(allowed, " ,"):
		return "The 'Access-Control-Allow-Origin' header contains multiple values '" + allowed + "', but only one is allowed." + f.haveIt()
	case allowed != origin && !isURL(allowed):
		return "The 'Access-Control-Allow-Origin' header contains the invalid value '" + allowed + "'." + f.haveIt()
	case allowed != origin:
		return "The 'Access-Control-Allow-Origin' header has a value '" + allowed + "' that is not equal to the supplied origin." + f.haveIt()
	}
	if credentials, _ := get(h, "Access-Control-Allow-Credentials"); f.credentials && credentials != "true" {
		return "The value of the 'Access-Control-Allow-Credentials' header in the response is '" + credentials +
			"' which must be 'true' when the request's credentials mode is 'include'." + f.aboutCredentials()
	}
	return ""
}

// haveIt is what Chromium adds for fetch.
func (f fetch) haveIt() string {
	if f.xhr {
		return ""
	}
	return " Have the server send the header with a valid value."
}

func (f fetch) aboutCredentials() string {
	if f.xhr {
		return " The credentials mode of requests initiated by the XMLHttpRequest is controlled by the withCredentials attribute."
	}
	return ""
}

// preflightCheck returns why the answer to a preflight keeps a page from
// sending the request, "" if it does not.
func preflightCheck(status int, h http.Header, origin string, f fetch) string {
	const refused = "Response to preflight request doesn't pass access control check: "
	if isRedirect(status) {
		return refused + "Redirect is not allowed for a preflight request."
	}
	if why := corsCheck(h, origin, f); why != "" {
		return refused + why
	}
	if status < 200 || status > 299 {
		return refused + "It does not have HTTP ok status."
	}
	methods, ok := list(h, "Access-Control-Allow-Methods")
	if !ok {
		return "Cannot parse Access-Control-Allow-Methods response header field in preflight response."
	}
	if _, ok := list(h, "Access-Control-Allow-Headers"); !ok {
		return "Cannot parse Access-Control-Allow-Headers response header field in preflight response."
	}
	// Methods are compared as they are written; these three need not be listed.
	if !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodPost}, f.method) && !slices.Contains(methods, f.method) &&
		(f.credentials || !slices.Contains(methods, "*")) {
		return "Method " + f.method + " is not allowed by Access-Control-Allow-Methods in preflight response."
	}
	// Of several Chromium names any.
	if missing := lacking(h, f); len(missing) > 0 {
		return "Request header field " + missing[0] + " is not allowed by Access-Control-Allow-Headers in preflight response."
	}
	return ""
}

// lacking returns the headers of a request that a preflight does not allow.
func lacking(h http.Header, f fetch) []string {
	names, _ := list(h, "Access-Control-Allow-Headers")
	for i := range names {
		names[i] = strings.ToLower(names[i])
	}
	var missing []string
	for _, name := range f.headers {
		// The asterisk is a name like others if credentials are sent, and it
		// never stands for Authorization.
		if !slices.Contains(names, name) && (f.credentials || name == "authorization" || !slices.Contains(names, "*")) {
			missing = append(missing, name)
		}
	}
	return missing
}

// lenient reports whether Chromium still lets pass what the standard does not:
// an asterisk for Authorization. Firefox and Safari do not.
func lenient(status int, h http.Header, origin string, f fetch) bool {
	names, _ := list(h, "Access-Control-Allow-Headers")
	without := f
	without.headers = slices.DeleteFunc(slices.Clone(f.headers), func(name string) bool { return name == "authorization" })
	return !f.credentials && slices.Contains(names, "*") &&
		preflightCheck(status, h, origin, f) != "" && preflightCheck(status, h, origin, without) == ""
}

// maxAge is how long a browser need not ask again. Without a header, or with
// one that is no number, it is five seconds.
func maxAge(h http.Header) time.Duration {
	text, _ := get(h, "Access-Control-Max-Age")
	seconds, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 5 * time.Second
	}
	return time.Duration(seconds) * time.Second
}

// exposes reports whether a page may read a header of the answer.
func exposes(h http.Header, name string, credentials bool) bool {
	names, ok := list(h, "Access-Control-Expose-Headers")
	return ok && slices.ContainsFunc(names, func(n string) bool {
		return strings.EqualFold(n, name) || n == "*" && !credentials
	})
}

// varies reports whether caches are told that the answer depends on a header of
// the request.
func varies(h http.Header, name string) bool {
	names, _ := list(h, "Vary")
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) || n == "*" })
}

// get returns a header as a browser reads it: what stands in several lines is
// one value.
func get(h http.Header, name string) (value string, ok bool) {
	lines := h.Values(name)
	for i, line := range lines {
		if i > 0 {
			value += ", "
		}
		value += strings.Trim(line, " \t")
	}
	return value, len(lines) > 0
}

// list returns the tokens of a header; ok is false if it is no list of tokens.
func list(h http.Header, name string) (tokens []string, ok bool) {
	value, _ := get(h, name)
	for part := range strings.SplitSeq(value, ",") {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue // RFC 9110, section 5.6.1.2: recipients ignore empty elements
		}
		if strings.ContainsFunc(part, notToken) {
			return nil, false
		}
		tokens = append(tokens, part)
	}
	return tokens, true
}

func notToken(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && u.Host != ""
}

func isRedirect(status int) bool {
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308
}
