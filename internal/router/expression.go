package router

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/eventsluice/sluice/internal/event"
)

// MaxValue bounds what an Expression makes of an event, in bytes of JSON: a loop
// over a large event could repeat it as often as it has elements.
const MaxValue = 1 << 20

// Expression is a compiled expression that gives a value, in the language and
// with the bounds of when. It is safe for concurrent use.
type Expression struct {
	expression
	value []byte // of a constant one
}

// valueKinds are the types of values that JSON has a form for.
var valueKinds = []types.Kind{
	types.BoolKind, types.BytesKind, types.DoubleKind, types.DurationKind, types.IntKind, types.ListKind,
	types.MapKind, types.NullTypeKind, types.StringKind, types.TimestampKind, types.UintKind,
}

// CompileValue compiles an expression that gives a value which JSON has a form
// for. The faults have no rule and no pointer; there are none if the expression
// can be used.
func CompileValue(source string) (*Expression, Faults) {
	c := &collector{rule: -1}
	x := &Expression{}
	const want = "want a CEL expression such as event.data.total * 1.2"
	if strings.TrimSpace(source) == "" {
		c.add("", "is empty", want)
		return nil, c.faults
	}
	if !x.compile(c, "", source, want, valueKinds...) {
		return nil, c.faults
	}
	if x.constant {
		var nothing Subject
		nothing.Reset(&event.Event{})
		value, err := x.Append(nil, &nothing)
		if err != nil {
			c.add("", "has no value, whatever the event: "+plain(err), want)
			return nil, c.faults
		}
		x.value = value
	}
	return x, nil
}

// Constant returns the value of an expression that reads nothing of the event.
func (x *Expression) Constant() (value []byte, ok bool) { return x.value, x.constant }

// Subject is an event as expressions see it: what one of them has found in it the
// next need not look for. It is not safe for concurrent use.
type Subject struct {
	binding binding
	size    int // of the event's stored form, or more
}

// Reset makes the subject another event, which stays unchanged while it is the
// subject; nil lets go of the one before.
func (s *Subject) Reset(e *event.Event) {
	if s.binding.reset(e); e == nil {
		return
	}
	s.size = 256 + len(e.Data) + len(e.Context)
	for _, name := range fields {
		if text := stringField(e, name); text != nil {
			s.size += len(*text)
		}
	}
}

// Append appends the value of the expression for an event to dst, as JSON
// without spaces around it; null is a value too. Numbers are doubles, as in
// when, and written as short as they can be; objects of the event keep their
// bytes. An error means that there is no value: a member is missing or of
// another type, the cost got too high, the value is larger than MaxValue, or
// JSON has no form for it, such as for infinity.
func (x *Expression) Append(dst []byte, s *Subject) ([]byte, error) {
	v, err := x.eval(&s.binding, s.size)
	if err != nil {
		return nil, err
	}
	w := valueWriter{dst: dst, before: len(dst)}
	if err := w.value(v); err != nil {
		return nil, err
	}
	return w.dst, nil
}

// valueWriter writes values of CEL as JSON. Timestamps, durations and bytes have
// the form that CEL gives them in JSON.
// Source: CEL language definition, JSON data conversion (read 2026-11).
type valueWriter struct {
	dst    []byte
	before int // bytes of dst that were there before
}

var (
	errNoJSON     = errors.New("JSON has no form for the value")
	errLargeValue = fmt.Errorf("the value is larger than %d bytes", MaxValue)
)

func (w *valueWriter) value(v ref.Val) error {
	switch v := v.(type) {
	case types.String:
		w.dst = event.AppendString(w.dst, string(v))
	case types.Bool:
		w.dst = strconv.AppendBool(w.dst, bool(v))
	case types.Int:
		w.dst = strconv.AppendInt(w.dst, int64(v), 10)
	case types.Uint:
		w.dst = strconv.AppendUint(w.dst, uint64(v), 10)
	case types.Double:
		return w.double(float64(v))
	case types.Null:
		w.dst = append(w.dst, "null"...)
	case types.Bytes:
		w.dst = append(base64.StdEncoding.AppendEncode(append(w.dst, '"'), v), '"')
	case types.Timestamp:
		w.dst = append(v.UTC().AppendFormat(append(w.dst, '"'), time.RFC3339Nano), '"')
	case types.Duration:
		seconds := strconv.AppendFloat(append(w.dst, '"'), v.Seconds(), 'f', -1, 64)
		w.dst = append(seconds, `s"`...)
	case *object:
		if len(v.raw) == 0 {
			w.dst = append(w.dst, "{}"...)
		} else {
			w.dst = append(w.dst, v.raw...)
		}
	case traits.Lister:
		return w.list(v)
	case traits.Mapper:
		return w.object(v)
	default:
		return errNoJSON
	}
	return w.bounded()
}

func (w *valueWriter) bounded() error {
	if len(w.dst)-w.before > MaxValue {
		return errLargeValue
	}
	return nil
}

// double writes a number as encoding/json and browsers do.
func (w *valueWriter) double(f float64) error {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return errNoJSON
	}
	format := byte('f')
	if size := math.Abs(f); size != 0 && (size < 1e-6 || size >= 1e21) {
		format = 'e'
	}
	w.dst = strconv.AppendFloat(w.dst, f, format, -1, 64)
	if n := len(w.dst); format == 'e' && string(w.dst[n-4:n-1]) == "e-0" {
		w.dst = append(w.dst[:n-2], w.dst[n-1]) // 1e-09 is 1e-9
	}
	return w.bounded()
}

func (w *valueWriter) list(l traits.Lister) error {
	w.dst = append(w.dst, '[')
	for i, it := 0, l.Iterator(); it.HasNext() == types.True; i++ {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		if err := w.value(it.Next()); err != nil {
			return err
		}
	}
	w.dst = append(w.dst, ']')
	return w.bounded()
}

// object writes a map, sorted: the same event gives the same bytes.
func (w *valueWriter) object(m traits.Mapper) error {
	var keys []string
	for it := m.Iterator(); it.HasNext() == types.True; {
		key, ok := it.Next().(types.String)
		if !ok {
			return errNoJSON
		}
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	w.dst = append(w.dst, '{')
	for i, key := range keys {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		w.dst = append(event.AppendString(w.dst, key), ':')
		if err := w.value(m.Get(types.String(key))); err != nil {
			return err
		}
	}
	w.dst = append(w.dst, '}')
	return w.bounded()
}
