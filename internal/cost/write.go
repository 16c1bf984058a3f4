package cost

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// atLeast stands before a sum from which something is missing.
const atLeast = "≥ "

// WriteText writes a report as tables in Markdown that read well on a terminal
// too.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	c := r.Config
	fmt.Fprintf(&b, "%s per million events of %s bytes, each to %s; the stream is %s; sluice delivers by %s\n",
		r.Currency, grouped(c.EventBytes), counted(c.Destinations, "destination"),
		map[string]string{Provisioned: "provisioned", OnDemand: "on demand"}[c.Stream],
		map[string]string{Invoke: "asynchronous invocations", Queue: "standard queues", Ordered: "FIFO queues"}[c.Delivery])
	for _, s := range r.Systems {
		fmt.Fprintf(&b, "\n### %s\n\n", s.Name)
		table := [][]string{{"stage"}}
		for _, e := range s.Estimates {
			table[0] = append(table[0], grouped(e.Rate)+" events/s")
		}
		for i, stage := range s.Estimates[0].Stages {
			row := []string{stage.Name}
			for _, e := range s.Estimates {
				row = append(row, e.Stages[i].text())
			}
			table = append(table, row)
		}
		total := []string{"all"}
		for _, e := range s.Estimates {
			total = append(total, e.text())
		}
		writeTable(&b, append(table, total))
	}
	b.WriteString("\n")
	if len(r.NotMeasured) > 0 {
		b.WriteString(atLeast + "means at least: what depends on a count that is not measured is left out. Not measured:\n")
		for _, member := range r.NotMeasured {
			fmt.Fprintf(&b, "- %s, %s; `%s` measures it\n", member, r.counts[member].How, r.counts[member].Command)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "List prices of %s to %s", r.PricesFrom, r.PricesTo)
	if len(r.NotVerified) > 0 {
		fmt.Fprintf(&b, "; not verified: %s", strings.Join(r.NotVerified, ", "))
	}
	b.WriteString(".\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// text is a sum in a table. A sum of nothing that is known says so.
func (s Sum) text() string {
	switch {
	case s.Complete:
		return strconv.FormatFloat(s.USD, 'f', 4, 64)
	case s.USD == 0:
		return notMeasured
	}
	return atLeast + strconv.FormatFloat(s.USD, 'f', 4, 64)
}

// writeTable writes a table in Markdown: the first row is the heading, the
// first column is text and the others are numbers.
func writeTable(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("| " + cell + space)
			} else {
				b.WriteString(" | " + space + cell)
			}
		}
		b.WriteString(" |\n")
		if n > 0 {
			continue
		}
		for i, width := range widths {
			if i == 0 {
				b.WriteString("| " + strings.Repeat("-", width))
			} else {
				b.WriteString(" | " + strings.Repeat("-", width-1) + ":")
			}
		}
		b.WriteString(" |\n")
	}
}

// WriteExplanation writes every term: quantity, unit price, and the member of
// the price file that it is.
func (r *Report) WriteExplanation(w io.Writer) error {
	var b strings.Builder
	for _, s := range r.Systems {
		for _, e := range s.Estimates {
			fmt.Fprintf(&b, "\n%s, %s events/s: %s %s per million events\n", s.Name, grouped(e.Rate), e.text(), r.Currency)
			for _, stage := range e.Stages {
				fmt.Fprintf(&b, "  %s: %s\n", stage.Name, stage.text())
				for _, t := range stage.Terms {
					quantity, usd := notMeasured, "?"
					if t.Quantity != nil {
						quantity, usd = significant(*t.Quantity), strconv.FormatFloat(*t.USD, 'f', 6, 64)
					}
					fmt.Fprintf(&b, "    %s: %s x %s = %s (%s, by the %s)", t.What, quantity, significant(t.Each), usd, t.Price, t.Unit)
					if len(t.NotMeasured) > 0 {
						fmt.Fprintf(&b, "; not measured: %s", strings.Join(t.NotMeasured, ", "))
					}
					b.WriteString("\n")
				}
			}
		}
	}
	b.WriteString("\nCounts:\n")
	for _, member := range sortedKeys(r.counts) {
		c := r.counts[member]
		value := notMeasured
		if c.Value != nil {
			value = significant(*c.Value)
		}
		fmt.Fprintf(&b, "  %s = %s (%s, %s): %s\n", member, value, c.Unit, cmp.Or(strings.TrimSpace(c.Kind+" "+c.Date), c.Kind), c.How)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// significant writes a number with enough digits to check a product by hand.
func significant(x float64) string {
	if x == float64(int64(x)) && x < 1e12 {
		return grouped(int(x))
	}
	if x >= 1000 {
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	text := strconv.FormatFloat(x, 'f', 12, 64)
	if x >= 1 {
		text = strconv.FormatFloat(x, 'f', 6, 64)
	}
	return strings.TrimRight(text, "0")
}

// grouped writes 10000 as 10,000.
func grouped(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return grouped(n) + " " + what
}
