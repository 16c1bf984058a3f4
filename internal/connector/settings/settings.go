// Package settings reads the settings of a destination: strictly, and naming
// every fault at once, so that a person corrects a file in one go.
//
// Settings hold secrets. No error of this package repeats a value.
package settings

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-playground/validator/v10"
)

// Duration is a time.Duration that is written "1m30s" in JSON.
type Duration time.Duration

// UnmarshalText reads the form of time.ParseDuration.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return errors.New(`not a duration such as "30s" or "5m"`)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalText writes the form of time.Duration.String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Decode reads a JSON object into the struct that target points to, and checks
// its `validate` tags. Fields are named by their `json` tags; a member that no
// field has is a fault, and so is one that occurs twice. Members that are
// absent or null leave what target holds, which is how defaults are given. All
// this goes for the structs in it too, whose members are named with those above
// them: "mapping.privacy.ip". The error joins every fault.
func Decode(raw json.RawMessage, target any) error {
	d := decoder{broken: make(map[string]bool)}
	if !d.object("", raw, reflect.ValueOf(target).Elem()) {
		return errors.New("settings are not a JSON object")
	}
	var invalid validator.ValidationErrors
	if err := validate().Struct(target); errors.As(err, &invalid) {
		for _, fault := range invalid {
			_, name, _ := strings.Cut(fault.Namespace(), ".")
			if !d.broken[name] {
				d.faults = append(d.faults, fmt.Errorf("%s: %s", name, explain(fault)))
			}
		}
	} else if err != nil {
		d.faults = append(d.faults, err)
	}
	return errors.Join(d.faults...)
}

type decoder struct {
	faults []error
	broken map[string]bool // the names of settings that could not be read
}

// object reads a struct whose members are named with above before them, and
// returns false if raw is no object.
func (d *decoder) object(above string, raw json.RawMessage, v reflect.Value) bool {
	fields := fieldsOf(v)
	return members(raw, func(member string, value json.RawMessage, again bool) {
		name := above + member
		field, known := fields[member]
		switch {
		case !known:
			d.faults = append(d.faults, fmt.Errorf("%s: unknown setting; there are %s", name, strings.Join(slices.Sorted(maps.Keys(fields)), ", ")))
		case again:
			d.faults = append(d.faults, fmt.Errorf("%s: given twice", name))
		case string(value) == "null":
		case field.Kind() == reflect.Struct && !readsItself(field.Addr().Type()):
			if !d.object(name+".", value, field) {
				d.fail(name, fmt.Errorf("must be %s", kindName(field.Type())))
			}
		default:
			if err := decodeField(value, field); err != nil {
				d.fail(name, err)
			}
		}
	}) == nil
}

func readsItself(t reflect.Type) bool {
	return t.Implements(reflect.TypeFor[json.Unmarshaler]()) || t.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func (d *decoder) fail(name string, err error) {
	d.broken[name] = true
	d.faults = append(d.faults, fmt.Errorf("%s: %w", name, err))
}

// members calls visit for each member of a JSON object.
func members(raw json.RawMessage, visit func(name string, value json.RawMessage, again bool)) error {
	if len(bytes.TrimSpace(raw)) == 0 || string(bytes.TrimSpace(raw)) == "null" {
		return nil // no settings: the defaults
	}
	notObject := errors.New("settings are not a JSON object")
	dec := json.NewDecoder(bytes.NewReader(raw))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return notObject
	}
	seen := make(map[string]bool)
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return notObject
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return notObject
		}
		visit(name, value, seen[name])
		seen[name] = true
	}
	if _, err := dec.Token(); err != nil {
		return notObject
	}
	if _, err := dec.Token(); err != io.EOF {
		return notObject
	}
	return nil
}

// decodeField reads one value. The errors of encoding/json may quote it, so
// they are replaced.
func decodeField(value json.RawMessage, field reflect.Value) error {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.DisallowUnknownFields()
	err := dec.Decode(field.Addr().Interface())
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok || strings.HasPrefix(err.Error(), "json: ") {
		return fmt.Errorf("must be %s", kindName(field.Type()))
	}
	return err // of an UnmarshalText or UnmarshalJSON, which know of secrets
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return kindName(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "an array, each item " + kindName(t.Elem())
	case reflect.Map:
		return "an object, each value " + kindName(t.Elem())
	case reflect.Struct:
		return "an object with " + strings.Join(slices.Sorted(maps.Keys(fieldsOf(reflect.New(t).Elem()))), ", ")
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Int64:
		if t == reflect.TypeFor[Duration]() {
			return `a duration such as "30s"`
		}
	}
	return "a whole number"
}

func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := make(map[string]reflect.Value, v.NumField())
	for i := range v.NumField() {
		if name := jsonName(v.Type().Field(i)); name != "" {
			fields[name] = v.Field(i)
		}
	}
	return fields
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" || !f.IsExported() {
		return ""
	}
	return name
}

var validate = sync.OnceValue(func() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(jsonName)
	v.RegisterCustomTypeFunc(func(field reflect.Value) any { return time.Duration(field.Int()) }, Duration(0))
	return v
})

// explain says in words what a `validate` tag asks for.
func explain(fault validator.FieldError) string {
	switch fault.Tag() {
	case "required":
		return "is required"
	case "oneof":
		return "must be one of " + strings.Join(strings.Fields(fault.Param()), ", ")
	case "min", "gte":
		return "must be at least " + fault.Param()
	case "max", "lte":
		return "must be at most " + fault.Param()
	case "gt":
		return "must be more than " + fault.Param()
	}
	return "does not satisfy " + strings.TrimSuffix(fault.Tag()+"="+fault.Param(), "=")
}
