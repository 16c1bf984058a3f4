package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsEmbeddedIsMadeOfTheDocumentAtTheRoot(t *testing.T) {
	made, err := generate(filepath.Join("..", "..", "openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range made {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("api/%s is not what openapi.yaml says (%v): go generate ./api", name, err)
		}
	}
	if info, err := os.Lstat(filepath.Join("..", "..", "openapi.yaml")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("openapi.yaml at the root is not a regular file: %v, %v", info, err)
	}
}

func TestAliasesBecomeWhatTheyStandFor(t *testing.T) {
	doc, err := parse([]byte("b: &x {one: 1, two: [yes, 'yes', null, 1.50]}\na: *x\n'200': <tag>\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := doc.json()
	const want = `{"b":{"one":1,"two":["yes","yes",null,1.5]},"a":{"one":1,"two":["yes","yes",null,1.5]},"200":"<tag>"}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

func TestDescriptionsBecomeHTMLAndNothingElseDoes(t *testing.T) {
	for text, want := range map[string]string{
		"One\nline.\n\nTwo.":                "<p>One line.</p>\n<p>Two.</p>\n",
		"### A title\n\ntext":               "<h3 id=\"a-title\">A title</h3>\n<p>text</p>\n",
		"- **a** is `b`\n- c\n  goes on":    "<ul>\n<li><strong>a</strong> is <code>b</code></li>\n<li>c goes on</li>\n</ul>\n",
		"<script>alert(1)</script>":         "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n",
		"[us](https://a.example/b)":         "<p><a href=\"https://a.example/b\">us</a></p>\n",
		"[us](javascript:alert(1)) `<b>`":   "<p>[us](javascript:alert(1)) <code>&lt;b&gt;</code></p>\n",
		"`\"` and [\"](https://a.example/)": "<p><code>&#34;</code> and <a href=\"https://a.example/\">&#34;</a></p>\n",
	} {
		if got := string(markdown(text)); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestThePageNamesEverythingAndLoadsNothing(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs.html"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, forbidden := range []string{"<script", "<img", "@import", "url(", " style=", "onclick", "&lt;nil&gt;"} {
		if strings.Contains(page, forbidden) {
			t.Errorf("%s is in the page", forbidden)
		}
	}
	var doc struct {
		Paths      map[string]map[string]struct{ OperationID string }
		Components struct{ Schemas, Responses map[string]json.RawMessage }
	}
	text, err = os.ReadFile(filepath.Join("..", "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	want := []string{}
	for _, item := range doc.Paths {
		for _, operation := range item {
			want = append(want, operation.OperationID)
		}
	}
	for name := range doc.Components.Schemas {
		want = append(want, "schema-"+name)
	}
	for name := range doc.Components.Responses {
		want = append(want, "answer-"+name)
	}
	ids := map[string]int{}
	for part := range strings.SplitSeq(page, ` id="`) {
		id, _, _ := strings.Cut(part, `"`)
		ids[id]++
	}
	for _, id := range want {
		if ids[id] != 1 {
			t.Errorf("%s is %d times in the page", id, ids[id])
		}
	}
	for part := range strings.SplitSeq(page, ` href="#`) {
		if id, rest, ok := strings.Cut(part, `"`); ok && !strings.HasPrefix(part, "<!doctype") && rest != "" && ids[id] == 0 {
			t.Errorf("a link leads to #%s, which is not there", id)
		}
	}
}
