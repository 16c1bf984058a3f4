package connectortest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Golden compares a text with the file testdata/name.golden. With SLUICE_UPDATE=1
// in the environment it writes the file.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if os.Getenv("SLUICE_UPDATE") == "1" {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (SLUICE_UPDATE=1 writes it); got\n%s", file, got)
	}
}

// RequestText returns a request in a form for Golden: method, path and query, the
// headers by name without those that say nothing of the connector, and the body,
// unpacked, and indented if it is JSON.
func RequestText(t *testing.T, req *http.Request) string {
	t.Helper()
	var body io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(req.Body)
		if err != nil {
			t.Error(err)
			return ""
		}
		body = unpacked
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		t.Error(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", req.Method, req.URL.RequestURI())
	for _, name := range slices.Sorted(maps.Keys(req.Header)) {
		switch name {
		case "Accept-Encoding", "Content-Length", "User-Agent":
		default:
			fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(name), strings.Join(req.Header[name], ", "))
		}
	}
	b.WriteByte('\n')
	var indented bytes.Buffer
	if json.Indent(&indented, raw, "", "  ") == nil {
		raw = indented.Bytes()
	}
	b.Write(raw)
	b.WriteByte('\n')
	return b.String()
}
