// Package emf writes metrics as CloudWatch's embedded metric format: a line of
// JSON on stdout, which CloudWatch Logs keeps and makes metrics of, so that a
// program needs no call and no permission to report them.
//
// A line looks like this, without the breaks:
//
//	{"_aws":{"Timestamp":1790000000000,"CloudWatchMetrics":[{"Namespace":"Sluice",
//	  "Dimensions":[["Program"]],"Metrics":[{"Name":"Events","Unit":"Count"}]}]},
//	 "Program":"crm","Events":3}
//
// Source: Amazon CloudWatch user guide, "Specification: Embedded metric format"
// (read 2026-11).
package emf

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// Namespace is that of all metrics of Sluice.
const Namespace = "Sluice"

// Units of values.
const (
	Count        = "Count"
	Milliseconds = "Milliseconds"
)

// Dimension tells metrics of one name apart. CloudWatch takes at most 30 in a
// line.
type Dimension struct{ Name, Value string }

// Value is one measurement. CloudWatch takes at most 100 in a line, and their
// names differ from each other and from those of the dimensions.
type Value struct {
	Name  string
	Value float64
	// Unit is Count if it is empty.
	Unit string
}

// maxText is the most characters of a name and of the value of a dimension.
const maxText = 1024

// Line returns the values, measured now, as one line that ends in a newline. A
// dimension without a value is left out, for CloudWatch would not take the line
// with it, and so is a value that is no finite number.
func Line(namespace string, dimensions []Dimension, values []Value) []byte {
	return appendLine(make([]byte, 0, 192+64*(len(dimensions)+len(values))), time.Now(), namespace, dimensions, values)
}

func appendLine(b []byte, at time.Time, namespace string, dimensions []Dimension, values []Value) []byte {
	b = append(b, `{"_aws":{"Timestamp":`...)
	b = strconv.AppendInt(b, at.UnixMilli(), 10)
	b = append(b, `,"CloudWatchMetrics":[{"Namespace":`...)
	b = appendText(b, namespace)
	b = append(b, `,"Dimensions":[[`...)
	comma := false
	next := func() {
		if comma {
			b = append(b, ',')
		}
		comma = true
	}
	for i := range dimensions {
		if dimensions[i].there() {
			next()
			b = appendText(b, dimensions[i].Name)
		}
	}
	b = append(b, `]],"Metrics":[`...)
	comma = false
	for i := range values {
		if !values[i].finite() {
			continue
		}
		next()
		b = append(b, `{"Name":`...)
		b = appendText(b, values[i].Name)
		b = append(b, `,"Unit":`...)
		unit := values[i].Unit
		if unit == "" {
			unit = Count
		}
		b = append(appendText(b, unit), '}')
	}
	b = append(b, `]}]}`...)
	for i := range dimensions {
		if dimensions[i].there() {
			b = appendText(append(b, ','), dimensions[i].Name)
			b = appendText(append(b, ':'), dimensions[i].Value)
		}
	}
	for i := range values {
		if values[i].finite() {
			b = appendText(append(b, ','), values[i].Name)
			b = strconv.AppendFloat(append(b, ':'), values[i].Value, 'f', -1, 64)
		}
	}
	return append(b, "}\n"...)
}

// there reports whether there is something to say: CloudWatch takes no empty
// values, and none of white space alone.
func (d *Dimension) there() bool { return strings.TrimSpace(d.Value) != "" }

func (v *Value) finite() bool { return !math.IsNaN(v.Value) && !math.IsInf(v.Value, 0) }

// appendText appends a JSON string, cut to what CloudWatch takes.
func appendText(b []byte, s string) []byte {
	plain := len(s) <= maxText
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= ' ' && s[i] <= '~' && s[i] != '"' && s[i] != '\\'
	}
	if plain {
		return append(append(append(b, '"'), s...), '"')
	}
	if r := []rune(s); len(r) > maxText {
		s = string(r[:maxText])
	}
	text, _ := json.Marshal(s) // a string always marshals
	return append(b, text...)
}
