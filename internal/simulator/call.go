package simulator

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRequest bounds what is read of a request, whatever the vendor's limit: more
// than any of them allows (Amplitude's batch endpoint, 20 MB).
const maxRequest = 24 << 20

// errTooLarge says that a request is larger than the vendor allows.
var errTooLarge = errors.New("request is too large")

// call is one request to a vendor.
type call struct {
	r       *http.Request
	n       uint64 // since Trouble was set, from 1
	trouble Trouble
	shelf   *shelf
	open    int64 // calls being served, this one included
	now     time.Time

	raw   []byte // as sent, at most maxRequest
	large bool   // there was more
}

// read takes the whole request in.
func (c *call) read(w http.ResponseWriter) error {
	raw, err := io.ReadAll(http.MaxBytesReader(w, c.r.Body, maxRequest))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		c.large, err = true, nil
	}
	c.raw = raw
	return err
}

func (c *call) share(which uint64) float64 { return share(c.trouble.Seed, c.n, which) }

// is reports whether the call has this method and path.
func (c *call) is(method, path string) bool {
	return c.r.Method == method && c.r.URL.Path == path
}

// query returns a parameter of the URL, "" if there is none.
func (c *call) query(name string) string { return c.r.URL.Query().Get(name) }

// refuses reports whether Trouble wants an item refused.
func (c *call) refuses(item Item) bool {
	return c.trouble.Refuse != nil && c.trouble.Refuse(cmp.Or(item.ID, item.User, item.Name))
}

// tooMany throttles the call.
func (c *call) tooMany(a api, wait time.Duration) answer {
	c.shelf.count(func(n *Counts) { n.Throttled++ })
	return a.throttled(c, wait)
}

// body returns the request's body of at most limit bytes, unpacked: errTooLarge
// if it is longer. A gzipped body is unpacked if the vendor takes such.
func (c *call) body(limit int, gzipped bool) ([]byte, error) {
	if c.large {
		return nil, errTooLarge
	}
	switch encoding := c.r.Header.Get("Content-Encoding"); {
	case encoding == "" || strings.EqualFold(encoding, "identity"):
		if len(c.raw) > limit {
			return nil, errTooLarge
		}
		return c.raw, nil
	case gzipped && strings.EqualFold(encoding, "gzip"):
		z, err := gzip.NewReader(bytes.NewReader(c.raw))
		if err != nil {
			return nil, fmt.Errorf("not gzip: %w", err)
		}
		body, err := io.ReadAll(io.LimitReader(z, int64(limit)+1))
		switch {
		case err != nil:
			return nil, fmt.Errorf("not gzip: %w", err)
		case len(body) > limit:
			return nil, errTooLarge
		}
		return body, nil
	default:
		return nil, fmt.Errorf("unsupported content encoding %q", encoding)
	}
}

// mediaType returns the request's content type without parameters, "" if there
// is none that can be read.
func (c *call) mediaType() string {
	mediaType, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mediaType
}

// bearer returns the token of a request with Bearer authentication.
func (c *call) bearer() (token string, ok bool) {
	scheme, token, ok := strings.Cut(c.r.Header.Get("Authorization"), " ")
	return token, ok && strings.EqualFold(scheme, "Bearer")
}

// decode reads one JSON document, with numbers as they were written.
func decode(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON document")
	}
	return doc, nil
}

// member returns a member of a JSON object, nil if there is none.
func member(object any, name string) any {
	m, _ := object.(map[string]any)
	return m[name]
}

// text returns a member of a JSON object that is a string, "" if it is none.
func text(object any, name string) string {
	s, _ := member(object, name).(string)
	return s
}

// number returns a JSON number that is whole.
func number(value any) (int64, bool) {
	n, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	if i, err := n.Int64(); err == nil {
		return i, true
	}
	f, err := n.Float64() // 1.79e12 is whole too
	if err != nil || f != float64(int64(f)) {
		return 0, false
	}
	return int64(f), true
}

// raw returns a decoded document, or one of our own, as JSON.
func raw(doc any) json.RawMessage {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		panic(err) // it came from JSON, or is one of our structs
	}
	return bytes.TrimSpace(out.Bytes())
}

// record is one element of a list, as sent and decoded.
type record struct {
	raw json.RawMessage
	doc any
}

// list reads a JSON array.
func list(body []byte) ([]record, error) {
	var raws []json.RawMessage
	if err := json.Unmarshal(body, &raws); err != nil {
		return nil, errors.New("the body is not a JSON array")
	}
	records := make([]record, len(raws))
	for i, raw := range raws {
		doc, err := decode(raw)
		if err != nil {
			return nil, fmt.Errorf("element %d is not JSON", i)
		}
		records[i] = record{raw, doc}
	}
	return records, nil
}

// answer is what a vendor answers.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) write(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if a.body == nil {
		// Go would find a type for nothing.
		w.Header()["Content-Type"] = a.header["Content-Type"]
	}
	w.WriteHeader(a.status)
	if len(a.body) > 0 {
		_, _ = w.Write(a.body) // the client may be gone
	}
}

// with adds a header.
func (a answer) with(name, value string) answer {
	a.header = a.header.Clone()
	if a.header == nil {
		a.header = make(http.Header)
	}
	a.header.Set(name, value)
	return a
}

func bare(status int) answer { return answer{status: status} }

func typed(status int, contentType string, body []byte) answer {
	return answer{status: status, body: body}.with("Content-Type", contentType)
}

func asJSON(status int, body any) answer {
	return typed(status, "application/json", raw(body))
}

func asText(status int, body string) answer {
	return typed(status, "text/plain; charset=utf-8", []byte(body))
}

// edge is what a load balancer in front of a vendor says: a page for a browser.
func edge(status int) answer {
	line := fmt.Sprintf("%d %s", status, http.StatusText(status))
	return typed(status, "text/html; charset=utf-8",
		[]byte("<html>\r\n<head><title>"+line+"</title></head>\r\n<body>\r\n<center><h1>"+line+"</h1></center>\r\n</body>\r\n</html>\r\n"))
}

// seconds writes a wait for Retry-After; usual is taken for zero.
func seconds(wait, usual time.Duration) string {
	if wait <= 0 {
		wait = usual
	}
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}
