package simulator

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// request is one call of a test. A member that is empty has a default that the
// vendor accepts.
type request struct {
	method, path, body string
	header             map[string]string
	gzip               bool
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   string
}

// json returns the body of a reply, decoded.
func (r reply) json(t *testing.T) any {
	t.Helper()
	doc, err := decode([]byte(r.body))
	if err != nil {
		t.Fatalf("the answer %d %q is not JSON: %v", r.status, r.body, err)
	}
	return doc
}

// vendor is a Vendor of a test, reached over connections in memory.
type vendor struct {
	*Vendor
	client *http.Client
	header map[string]string
}

// newVendor makes a vendor; header is sent with each request.
func newVendor(t *testing.T, kind string, header map[string]string) *vendor {
	t.Helper()
	v, err := New(kind)
	if err != nil {
		t.Fatal(err)
	}
	if server, ok := v.api.(*clickhouse); ok { // where a call of its kind is not all that is needed
		if err := server.create("events", clickhouseEvents, false); err != nil {
			t.Fatal(err)
		}
	}
	return &vendor{v, client(t, v), header}
}

// client returns a client of what is served in memory.
func client(t *testing.T, h http.Handler) *http.Client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	transport := &http.Transport{DialContext: Dial(ctx, h)}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
	})
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// try makes a call and returns the error of its connection.
func (v *vendor) try(ctx context.Context, r request) (reply, error) {
	body := []byte(r.body)
	if r.gzip {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, _ = w.Write(body)
		_ = w.Close()
		body = out.Bytes()
	}
	req, err := http.NewRequestWithContext(ctx, cmp.Or(r.method, http.MethodPost), "http://127.0.0.1"+r.path, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	header := map[string]string{"Content-Type": "application/json"}
	maps.Copy(header, v.header)
	maps.Copy(header, r.header)
	for name, value := range header {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	if r.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(answer)}, err
}

// call makes a call that has an answer.
func (v *vendor) call(t *testing.T, r request) reply {
	t.Helper()
	got, err := v.try(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// wants is what a test expects of the answer to a call.
func (r reply) wants(t *testing.T, status int, parts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d; body %s", r.status, status, r.body)
	}
	for _, part := range parts {
		if !strings.Contains(r.body, part) {
			t.Errorf("the body %q does not have %q", r.body, part)
		}
	}
}

func basic(user, password string) map[string]string {
	return map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

// asked is a JSON document of a test: values that Go can marshal.
func asked(v any) string { return string(raw(v)) }

type object = map[string]any

// changed applies changes, which are names and values in turns: a value that is
// nil takes the member away.
func changed(o object, changes []any) object {
	for i := 0; i < len(changes); i += 2 {
		name := changes[i].(string)
		if o[name] = changes[i+1]; changes[i+1] == nil {
			delete(o, name)
		}
	}
	return o
}

// wantItems compares what the vendor has taken, each written as kind, name, user
// and id.
func (v *vendor) wantItems(t *testing.T, want ...string) {
	t.Helper()
	got := []string{}
	for _, item := range v.Received() {
		got = append(got, strings.Join([]string{item.Kind, item.Name, item.User, item.ID}, " "))
		if !json.Valid(item.Body) {
			t.Errorf("the body of %+v is not JSON", item)
		}
	}
	if !slices.Equal(got, append([]string{}, want...)) {
		t.Errorf("received %q, want %q", got, want)
	}
}

// wantDrops compares why the vendor has thrown things away.
func (v *vendor) wantDrops(t *testing.T, want ...string) {
	t.Helper()
	got := []string{}
	for _, drop := range v.Dropped() {
		got = append(got, drop.Reason)
	}
	if !slices.Equal(got, append([]string{}, want...)) {
		t.Errorf("dropped %q, want %q", got, want)
	}
	if n := v.Counts().Dropped; n != int64(len(want)) {
		t.Errorf("%d counted as dropped, want %d", n, len(want))
	}
}
