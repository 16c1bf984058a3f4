package simulator

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// clickhouseTable is a table of the family MergeTree.
type clickhouseTable struct {
	name    string
	engine  string // as system.tables has it in engine_full
	columns []clickhouseColumn
	// keys are those of the rows of an engine that replaces: name and id, as if
	// that were its sorting key. Nil for one that keeps every row.
	keys *seen
	// tokens are those of the last insertions; nil if the table keeps none.
	tokens *seen
}

// clickhouseColumn is a column, and how a value is read: it returns what JSON
// shows, or what the matter is.
type clickhouseColumn struct {
	name, kind string
	nullable   bool
	zero       any
	read       func(text string) (any, *rowFault)
}

// rowFault says why a row cannot be read: in which column, with which number and
// in which words.
type rowFault struct {
	column int
	code   int
	text   string
	error  string // behind what was read of the row
}

// The definition of a table behind its columns.
var (
	engineClause = regexp.MustCompile(`(?is)^\s*ENGINE\s*=\s*(\w+.*?)\s*;?\s*$`)
	windowClause = regexp.MustCompile(`(?i)\bnon_replicated_deduplication_window\s*=\s*([0-9]+)`)
	orderClause  = regexp.MustCompile(`(?i)\bORDER\s+BY\b`)
	spaces       = regexp.MustCompile(`\s+`)
)

// newClickhouseTable reads what stands in CREATE TABLE behind the name.
func newClickhouseTable(name, definition string) (*clickhouseTable, error) {
	list, rest, ok := parenthesized(definition)
	m := engineClause.FindStringSubmatch(rest)
	if !ok || m == nil || !strings.Contains(m[1], "MergeTree") || !orderClause.MatchString(m[1]) {
		return nil, excepted(syntaxError, "Syntax error: columns, ENGINE = …MergeTree and ORDER BY are wanted (the simulator has no other engine)")
	}
	t := &clickhouseTable{name: name, engine: spaces.ReplaceAllString(m[1], " ")}
	for _, part := range splitTop(list) {
		word, kind, _ := strings.Cut(strings.TrimSpace(part), " ")
		switch strings.ToUpper(word) {
		case "INDEX", "CONSTRAINT", "PROJECTION", "PRIMARY":
			continue
		}
		column, err := columnOf(firstType(kind))
		if err != nil {
			return nil, err
		}
		column.name = unquoteName(word)
		t.columns = append(t.columns, column)
	}
	if len(t.columns) == 0 {
		return nil, excepted(syntaxError, "Syntax error: a table has columns")
	}
	if strings.HasPrefix(m[1], "Replacing") {
		t.keys = newSeen(0)
	}
	if window := windowClause.FindStringSubmatch(m[1]); window != nil {
		if n, err := strconv.Atoi(window[1]); err == nil && n > 0 {
			t.tokens = newSeen(0)
			t.tokens.order.most = min(n, keepKeys)
		}
	}
	return t, nil
}

// parenthesized divides "(a, b(c)) rest".
func parenthesized(text string) (inside, rest string, ok bool) {
	depth := 0
	for i, r := range text {
		switch r {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return text[1:i], text[i+1:], true
			}
		}
	}
	return "", "", false
}

// splitTop divides at the commas that are in no parentheses.
func splitTop(text string) (parts []string) {
	depth, begin := 0, 0
	for i, r := range text {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth == 0:
			parts, begin = append(parts, text[begin:i]), i+1
		}
	}
	return append(parts, text[begin:])
}

// firstType returns the type at the beginning of a definition.
func firstType(text string) string {
	text = strings.TrimSpace(text)
	end := strings.IndexFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == '(' })
	if end < 0 {
		return text
	}
	if text[end] == '(' {
		if inside, _, ok := parenthesized(text[end:]); ok {
			return text[:end] + "(" + inside + ")"
		}
	}
	return text[:end]
}

// columnOf returns a column of a type.
func columnOf(kind string) (clickhouseColumn, error) {
	family, inner, _ := strings.Cut(strings.TrimSuffix(kind, ")"), "(")
	c := clickhouseColumn{kind: kind, zero: ""}
	bits, err := strconv.Atoi(strings.TrimLeft(family, "UIntFloa"))
	number := err == nil && bits >= 8 && bits <= 64
	switch {
	case family == "Nullable" || family == "LowCardinality":
		of, err := columnOf(inner)
		c.read, c.nullable, c.zero = of.read, of.nullable || family == "Nullable", of.zero
		return c, err
	case family == "String":
		c.read = func(text string) (any, *rowFault) { return text, nil }
	case family == "DateTime":
		c.read, c.zero = func(text string) (any, *rowFault) { return readDateTime(text, 0) }, "1970-01-01 00:00:00"
	case family == "DateTime64":
		digits, err := strconv.Atoi(strings.TrimSpace(strings.Split(inner+",", ",")[0]))
		if err != nil || digits < 0 || digits > 9 {
			digits = 3
		}
		c.read = func(text string) (any, *rowFault) { return readDateTime(text, digits) }
		c.zero = "1970-01-01 00:00:00" + (".000000000"[:digits+min(1, digits)])
	case family == "JSON":
		c.read, c.zero = readJSON, json.RawMessage("{}")
	case number && strings.HasPrefix(family, "UInt"):
		c.read, c.zero = func(text string) (any, *rowFault) {
			n, err := strconv.ParseUint(text, 10, 64)
			return n & (1<<bits - 1), notLike(err, kind, text) // what is too large is cut, as there
		}, 0
	case number && strings.HasPrefix(family, "Int"):
		c.read, c.zero = func(text string) (any, *rowFault) {
			n, err := strconv.ParseInt(text, 10, 64)
			return n, notLike(err, kind, text)
		}, 0
	case number && strings.HasPrefix(family, "Float"):
		c.read, c.zero = func(text string) (any, *rowFault) {
			n, err := strconv.ParseFloat(text, 64)
			return fmt.Sprint(n), notLike(err, kind, text)
		}, 0
	default:
		return c, excepted(unknownType, "Unknown data type family: %s", family)
	}
	return c, nil
}

func notLike(err error, kind, text string) *rowFault {
	if err == nil {
		return nil
	}
	return &rowFault{code: cannotParseInput, text: fmt.Sprintf("Cannot parse input: expected '\\t' before: '%s'", text), error: fmt.Sprintf("text %q is not like %s", text, kind)}
}

// Times as date_time_input_format best_effort reads those that it is sure of, and
// the bounds of DateTime64: what is outside becomes a time inside. Source:
// ClickHouse, DateTime64 and "Input formats" (read 2026-11).
var (
	dateTime     = regexp.MustCompile(`^([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{1,2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?(Z|[+-][0-9]{2}:?[0-9]{2})?`)
	earliestTime = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	latestTime   = time.Date(2299, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
)

func readDateTime(text string, digits int) (any, *rowFault) {
	m := dateTime.FindStringSubmatch(text)
	if m == nil {
		return nil, &rowFault{code: cannotParseDateTime, text: "Cannot read DateTime: unexpected word", error: fmt.Sprintf("text %q is not like DateTime", text)}
	}
	if after := text[len(m[0]):]; after != "" {
		return nil, notLike(strconv.ErrSyntax, "DateTime", after)
	}
	fraction := m[3]
	if len(fraction) > 10 {
		fraction = fraction[:10]
	}
	zone := strings.Replace(m[4], ":", "", 1)
	if zone == "" {
		zone = "Z"
	}
	at, err := time.Parse("2006-01-02 15:04:05Z0700", m[1]+" "+m[2]+fraction+zone)
	if err != nil {
		return nil, &rowFault{code: cannotParseDateTime, text: "Cannot read DateTime: unexpected date", error: fmt.Sprintf("text %q is not like DateTime", text)}
	}
	switch at = at.UTC(); {
	case at.Before(earliestTime):
		at = earliestTime
	case at.After(latestTime):
		at = latestTime
	}
	layout := "2006-01-02 15:04:05.000000000"
	return at.Format(layout[:len(layout)-10+digits+min(1, digits)]), nil
}

func readJSON(text string) (any, *rowFault) {
	doc, err := decode([]byte(text))
	if _, object := doc.(map[string]any); err != nil || !object {
		return nil, &rowFault{code: incorrectData, text: "Cannot parse JSON object here: " + beginning([]byte(text)), error: "ERROR"}
	}
	return json.RawMessage(text), nil
}

// pick returns the columns that an INSERT names; all if it names none.
func (t *clickhouseTable) pick(list string) (picked []*clickhouseColumn, err error) {
	if strings.TrimSpace(list) == "" {
		for i := range t.columns {
			picked = append(picked, &t.columns[i])
		}
		return picked, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		name = unquoteName(strings.TrimSpace(name))
		n := len(picked)
		for i := range t.columns {
			if t.columns[i].name == name {
				picked = append(picked, &t.columns[i])
			}
		}
		if len(picked) == n {
			return nil, excepted(noSuchColumn, "No such column %s in table %s.%s.", name, clickhouseDatabase, t.name)
		}
	}
	return picked, nil
}

// isNew reports whether rows are to be inserted: not, if the table knows the token
// of this insertion, or without one, all of its rows. An insertion that the server
// collects with others (async_insert, which is on) is not looked for.
func (t *clickhouseTable) isNew(c *call, items []Item) bool {
	if t.tokens == nil || c.query("async_insert") != "0" {
		return true
	}
	if token := c.query("insert_deduplication_token"); token != "" {
		return t.tokens.add(c.now, "token", token)
	}
	parts := []string{"rows"}
	for _, item := range items {
		parts = append(parts, string(item.Body))
	}
	return t.tokens.add(c.now, parts...)
}

// clickhouseRow is a row by the names of its columns.
type clickhouseRow map[string]any

func parseRow(columns []*clickhouseColumn, values []string) (clickhouseRow, *rowFault) {
	row := clickhouseRow{}
	for i, c := range columns {
		switch {
		case i >= len(values):
			return nil, &rowFault{column: i, code: cannotParseInput, text: `Cannot parse input: expected '\t' before: '\n'`,
				error: "Line feed found where tab is expected. It's like your file has less columns than expected."}
		case values[i] == `\N` && c.nullable:
			row[c.name] = nil
		case values[i] == `\N`: // input_format_null_as_default
			row[c.name] = c.zero
		default:
			value, fault := c.read(unescapeTSV(values[i]))
			if fault != nil {
				fault.column = i
				return nil, fault
			}
			row[c.name] = value
		}
	}
	if len(values) > len(columns) {
		return nil, &rowFault{column: len(columns) - 1, code: cannotParseInput,
			text:  fmt.Sprintf(`Cannot parse input: expected '\n' before: '\t%s\n'`, strings.Join(values[len(columns):], `\t`)),
			error: "Tab found where line feed is expected. It's like your file has more columns than expected."}
	}
	return row, nil
}

func (r clickhouseRow) item() Item {
	text := func(name string) string { s, _ := r[name].(string); return s }
	return Item{ID: text("id"), Kind: "row", Name: text("name"), User: text("user_id"), Body: raw(r)}
}

// explain says in ClickHouse's way which row cannot be read: it shows the row
// before it, and as much of it as was read.
func (f *rowFault) explain(columns []*clickhouseColumn, n int, last, values []string) *exception {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: (at row %d)\n: \n", f.text, n)
	show := func(n int, values []string) {
		fmt.Fprintf(&b, "Row %d:\n", n)
		for i, value := range values {
			if i < len(columns) {
				fmt.Fprintf(&b, "Column %d,   name: %-12s type: %-31s parsed text: %q\n", i, columns[i].name+",", columns[i].kind+",", beginning([]byte(value)))
			}
		}
	}
	if last != nil {
		show(n-1, last)
		b.WriteByte('\n')
	}
	show(n, values[:min(len(values), f.column+1)])
	fmt.Fprintf(&b, "ERROR: %s\n\n: While executing ParallelParsingBlockInputFormat.", f.error)
	return &exception{code: f.code, text: b.String(), row: true}
}

// Escapes of TabSeparated. Source: ClickHouse, formats, TabSeparated (read
// 2026-11).
var (
	tsvEscapes   = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x00", `\0`, "'", `\'`, "\b", `\b`, "\f", `\f`)
	tsvUnescapes = strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r", `\0`, "\x00", `\'`, `'`, `\b`, "\b", `\f`, "\f")
)

func escapeTSV(text string) string   { return tsvEscapes.Replace(text) }
func unescapeTSV(text string) string { return tsvUnescapes.Replace(text) }
