package main

import (
	"html/template"
	"regexp"
	"strings"
)

// markdown turns what the descriptions use of CommonMark into HTML: paragraphs,
// headings of the third level, lists of one level, code, emphasis and links.
// Everything else is text.
func markdown(text string) template.HTML {
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		block = strings.TrimSpace(block)
		switch {
		case block == "":
		case strings.HasPrefix(block, "### "):
			title := strings.TrimPrefix(block, "### ")
			out.WriteString(`<h3 id="` + anchor(title) + `">` + inline(title) + "</h3>\n")
		case strings.HasPrefix(block, "- "):
			out.WriteString("<ul>\n")
			for item := range strings.SplitSeq("\n"+block, "\n- ") {
				if item != "" {
					out.WriteString("<li>" + inline(item) + "</li>\n")
				}
			}
			out.WriteString("</ul>\n")
		default:
			out.WriteString("<p>" + inline(block) + "</p>\n")
		}
	}
	return template.HTML(out.String()) //nolint:gosec // inline has escaped it
}

var (
	codeSpan = regexp.MustCompile("`([^`]+)`")
	strong   = regexp.MustCompile(`\*\*([^*]+)\*\*`)
	link     = regexp.MustCompile(`\[([^\]]+)\]\((https://[^)\s]+)\)`)
)

func inline(text string) string {
	text = template.HTMLEscapeString(strings.Join(strings.Fields(text), " "))
	text = codeSpan.ReplaceAllString(text, "<code>$1</code>")
	text = strong.ReplaceAllString(text, "<strong>$1</strong>")
	return link.ReplaceAllString(text, `<a href="$2">$1</a>`)
}

// anchor is the name of a heading in addresses.
func anchor(title string) string {
	return strings.ReplaceAll(strings.ToLower(title), " ", "-")
}
