package httpcall

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
)

// open makes an API, of which more changes the configuration.
func open(t *testing.T, cfg APIConfig) *API {
	t.Helper()
	api, err := NewAPI(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return api
}

// answering is an API at an address that answers all calls alike.
func answering(t *testing.T, cfg APIConfig, answer http.HandlerFunc) *API {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	cfg.Endpoint = server.URL
	return open(t, cfg)
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestCallsAreMadeAsTheyAreAskedFor(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r
		var from io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			unpacked, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			from = unpacked
		}
		raw, err := io.ReadAll(from)
		if err != nil {
			t.Error(err)
		}
		body = string(raw)
	}))
	t.Cleanup(server.Close)
	api := open(t, APIConfig{Base: "https://api.vendor.example", Endpoint: server.URL + "/proxy/", Header: http.Header{"X-Key": {"k"}, "Accept": {"a"}}})
	for _, c := range []struct {
		request            Request
		line, accept, body string
	}{
		{Request{Path: "/v1/x", Body: []byte("{}")}, "POST /proxy/v1/x", "a", "{}"},
		{Request{Path: "/v1/x", Body: []byte(strings.Repeat("{}", 500)), Gzip: true}, "POST /proxy/v1/x", "a", strings.Repeat("{}", 500)},
		{Request{Method: "PUT", Path: "/a%2Fb/%3F", Query: url.Values{"q": {"x y&"}}, Header: http.Header{"Accept": {"b"}}}, "PUT /proxy/a%2Fb/%3F?q=x+y%26", "b", ""},
		{Request{Method: "GET", Path: "/", RawQuery: "id=1:2"}, "GET /proxy/?id=1:2", "a", ""},
	} {
		x := api.Do(t.Context(), c.request)
		if x.Outcome().Class != connector.Delivered {
			t.Fatalf("%+v", x.Outcome())
		}
		if line := got.Method + " " + got.RequestURI; line != c.line || body != c.body || got.Header.Get("Accept") != c.accept || got.Header.Get("X-Key") != "k" || got.Header.Get("User-Agent") != "Sluice" {
			t.Errorf("%s %v %.30s, want %s", line, got.Header, body, c.line)
		}
	}
	if x := api.Do(t.Context(), Request{Path: "/%zz"}); x.Err == nil || x.Outcome().Class != connector.Retryable {
		t.Errorf("%+v", x.Outcome())
	}
}

// What a vendor says is masked and cut; which setting to look at is not cut off.
func TestARefusalNamesTheSettingToLookAt(t *testing.T) {
	t.Parallel()
	const key = "key-0123456789"
	cfg := APIConfig{Base: "https://api.vendor.example", Secrets: []string{key}, Credentials: "api_key", Header: http.Header{"Authorization": {"Bearer " + key}}}
	long := strings.Repeat("no "+key+" ", 5000)
	for name, c := range map[string]struct {
		status        int
		message, want string
	}{
		"credentials":               {401, "", "; check the setting api_key"},
		"a redirect":                {302, "", "; check the setting endpoint"},
		"gone":                      {410, "", "; check the setting endpoint"},
		"a message":                 {403, "no", "no; check the setting api_key"},
		"a long message":            {403, long, "…; check the setting api_key"},
		"a message that names it":   {403, "no list; check the setting list_id", "no list; check the setting list_id"},
		"a status that is not so":   {200, "", "; check the setting api_key"},
		"an answer that repeats it": {401, "your key " + key + " is wrong", "your key *** is wrong; check the setting api_key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := answering(t, cfg, says(c.status, long)).Do(t.Context(), Request{Path: "/v1/x", Body: []byte(long)})
			got := x.Result(connector.Auth, key, c.message)
			if !strings.HasSuffix(got.Message, c.want) || len(got.Message) > MaxMessage || len(got.Code) > MaxMessage || len(got.Request) > MaxExcerpt || len(got.Response) > MaxExcerpt {
				t.Errorf("%+v", got)
			}
			if all := got.Code + got.Message + got.Request + got.Response; strings.Contains(all, "0123456789") {
				t.Errorf("the key is shown: %s", all)
			}
		})
	}
}

func TestASettledResultKeepsNothingOfTheCall(t *testing.T) {
	t.Parallel()
	x := answering(t, APIConfig{Base: "https://api.vendor.example"}, says(200, "{}")).Do(t.Context(), Request{Path: "/x", Body: []byte("private")})
	if got := x.Result(connector.Delivered, "c", "m"); got.Request+got.Response != "" || got.Code != "c" || got.Message != "m" || got.Status != 200 {
		t.Errorf("%+v", got)
	}
}

func TestAPageForPeopleIsForeign(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{"": false, " \n": false, `{"a":1}`: false, "\n {": false, "<html>": true, "ok": true, "[]": true} {
		x := answering(t, APIConfig{Base: "https://api.vendor.example"}, says(200, body)).Do(t.Context(), Request{Path: "/"})
		if x.Foreign() != want {
			t.Errorf("%q: %t", body, x.Foreign())
		}
	}
}

// Only an address that is the operator's own, and this machine, may be private.
func TestPrivateAddressesAreForEndpointsAlone(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(says(200, "{}"))
	t.Cleanup(server.Close)
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]
	for name, c := range map[string]struct {
		cfg  APIConfig
		want connector.Class
	}{
		"a base on a private network":   {APIConfig{Base: "https://10.255.255.254"}, connector.Auth},
		"a base that is the metadata":   {APIConfig{Base: "https://169.254.169.254"}, connector.Auth},
		"a base on this machine":        {APIConfig{Base: server.URL}, connector.Delivered},
		"a base of the name localhost":  {APIConfig{Base: "http://localhost" + port}, connector.Delivered},
		"an endpoint that is this host": {APIConfig{Base: "https://10.0.0.1", Endpoint: server.URL}, connector.Delivered},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.Timeout = 5 * time.Second
			got := open(t, c.cfg).Do(t.Context(), Request{Path: "/"}).Outcome()
			if got.Class != c.want || c.want == connector.Auth && got.Code != "private_address" {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestEndpointsThatMakeNoSenseAreRefusedWithoutBeingRepeated(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"hunter2": "is not an address", "https://": "is not an address", "ftp://hunter2.example": "must be https", "http://hunter2.example": "must be https: http is for this machine alone",
		"https://hunter2@vendor.example": "must have no user", "https://vendor.example/?hunter2": "must have no user, query", "https://vendor.example/#hunter2": "must have no user",
	} {
		_, err := NewAPI(APIConfig{Base: "https://api.vendor.example", Endpoint: text})
		if err == nil || !strings.HasPrefix(err.Error(), "endpoint: "+want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := NewAPI(APIConfig{Base: "https://api.vendor.example", Endpoint: "http://vendor.example", AllowHTTP: true, Address: "url"}); err != nil {
		t.Error(err)
	}
}
