package cost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"strings"
	"sync"

	"github.com/go-playground/validator/v10"
)

// decode reads a JSON document into the struct that into points to. Every
// member of the struct must be there once and no other may be, in its structs
// too, but for those whose tag says omitempty. The error names every fault by
// the path of its member.
func decode(doc []byte, into any) error {
	var raw json.RawMessage
	if err := json.Unmarshal(doc, &raw); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	var faults []error
	read(raw, reflect.ValueOf(into).Elem(), "", &faults)
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	return check(into)
}

// read fills one value. Only structs and slices of structs are walked.
func read(doc json.RawMessage, into reflect.Value, path string, faults *[]error) {
	fault := func(format string, args ...any) {
		*faults = append(*faults, fmt.Errorf("%s: %s", name(path), fmt.Sprintf(format, args...)))
	}
	switch {
	case into.Kind() == reflect.Struct:
		readObject(doc, into, path, faults)
	case into.Kind() == reflect.Slice:
		var items []json.RawMessage
		if err := json.Unmarshal(doc, &items); err != nil || items == nil {
			fault("must be an array")
			return
		}
		into.Set(reflect.MakeSlice(into.Type(), len(items), len(items)))
		for i, item := range items {
			read(item, into.Index(i), fmt.Sprintf("%s[%d]", path, i), faults)
		}
	default:
		if into.Kind() != reflect.Pointer && bytes.Equal(bytes.TrimSpace(doc), []byte("null")) {
			fault("is null")
		} else if err := json.Unmarshal(doc, into.Addr().Interface()); err != nil {
			fault("must be %s", kindName(into.Type()))
		}
	}
}

func readObject(doc json.RawMessage, into reflect.Value, path string, faults *[]error) {
	fault := func(member, text string) {
		*faults = append(*faults, fmt.Errorf("%s: %s", strings.TrimPrefix(path+"."+member, "."), text))
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		*faults = append(*faults, fmt.Errorf("%s: must be an object", name(path)))
		return
	}
	places := map[string]int{}
	var wanted []string
	for i := range into.NumField() {
		if f := into.Type().Field(i); f.IsExported() {
			member, optional := tag(f)
			places[member] = i
			if !optional {
				wanted = append(wanted, member)
			}
		}
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		member, ok := token.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil { // the document is valid JSON
			return
		}
		place, ok := places[member]
		switch {
		case !ok:
			fault(member, "unknown member")
		case seen[member]:
			fault(member, "given twice")
		default:
			read(value, into.Field(place), strings.TrimPrefix(path+"."+member, "."), faults)
		}
		seen[member] = true
	}
	for _, member := range wanted {
		if !seen[member] {
			fault(member, "is missing")
		}
	}
}

// fields returns the fields of a struct that are of one type, by their names in
// JSON.
func fields[T any](of any) iter.Seq2[string, *T] {
	return func(yield func(string, *T) bool) {
		v := reflect.ValueOf(of).Elem()
		for i := range v.NumField() {
			if field, ok := v.Field(i).Addr().Interface().(*T); ok {
				if member, _ := tag(v.Type().Field(i)); !yield(member, field) {
					return
				}
			}
		}
	}
}

// tag returns the name of a field in JSON, and whether it may be missing.
func tag(f reflect.StructField) (member string, optional bool) {
	member, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	return member, options == "omitempty"
}

func name(path string) string {
	if path == "" {
		return "the document"
	}
	return path
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return kindName(t.Elem()) + " or null"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	}
	return "a number"
}

var validate = sync.OnceValue(func() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string { n, _ := tag(f); return n })
	return v
})

// check says in words what the `validate` tags of a struct find wrong.
func check(what any) error {
	err := validate().Struct(what)
	fields, ok := errors.AsType[validator.ValidationErrors](err)
	if !ok {
		return err
	}
	faults := make([]error, 0, len(fields))
	for _, f := range fields {
		_, member, _ := strings.Cut(f.Namespace(), ".")
		var want string
		switch f.Tag() {
		case "required":
			want = "must not be empty"
		case "oneof":
			want = fmt.Sprintf("is %q; right would be one of %s", fmt.Sprint(f.Value()), f.Param())
		case "datetime":
			want = fmt.Sprintf("is %q, not a date such as 2026-11-26", f.Value())
		case "gt":
			want = fmt.Sprintf("is %v; it must be more than %s", f.Value(), f.Param())
		case "min":
			want = fmt.Sprintf("is %v; the least is %s", f.Value(), f.Param())
		case "max":
			want = fmt.Sprintf("is %v; the most is %s", f.Value(), f.Param())
		default:
			want = fmt.Sprintf("is %v, which fails %s", f.Value(), f.Tag())
		}
		faults = append(faults, fmt.Errorf("%s: %s", member, want))
	}
	return errors.Join(faults...)
}

// limited reads a document of at most 1 MiB; the files here have a few KiB.
func limited(r io.Reader) ([]byte, error) {
	const most = 1 << 20
	doc, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && len(doc) > most {
		err = fmt.Errorf("has more than %d bytes", most)
	}
	return doc, err
}
