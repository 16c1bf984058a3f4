package browser

import (
	"bytes"
	"compress/gzip"
	"flag"
	"os"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

var update = flag.Bool("update", false, "write sluice.min.js anew")

func TestTheMinifiedSnippetIsUpToDate(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("sluice.js")
	if err != nil {
		t.Fatal(err)
	}
	out := api.Transform(string(source), api.TransformOptions{
		Target:           api.ES2017,
		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true,
	})
	for _, m := range append(out.Errors, out.Warnings...) {
		t.Errorf("sluice.js:%d: %s", m.Location.Line, m.Text)
	}
	if *update {
		if err := os.WriteFile("sluice.min.js", out.Code, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(out.Code, Snippet) {
		t.Error("sluice.min.js is not made of sluice.js as it is now: go generate ./api/browser")
	}
}

// TestTheSnippetIsSmall holds the promise of the documents: under 2,000 bytes
// on the wire, and nothing in it that a content security policy without
// unsafe-eval refuses.
func TestTheSnippetIsSmall(t *testing.T) {
	t.Parallel()
	var small bytes.Buffer
	w, err := gzip.NewWriterLevel(&small, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(Snippet); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if small.Len() >= 2000 {
		t.Errorf("the snippet has %d bytes, gzipped", small.Len())
	}
	for _, word := range []string{"eval", "Function(", "import", "document.write", "innerHTML"} {
		if bytes.Contains(Snippet, []byte(word)) {
			t.Errorf("%q is in the snippet", word)
		}
	}
}
