package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-playground/validator/v10"
)

// Parse reads a keys document:
//
//	{"keys":[{"id":"web","kind":"write","sha256":"…"}, …]}
//
// The error names all faults, one a line, each by key and field. previous is
// the table that the result replaces, nil for none: a key keeps the state of
// its rate limit if its rate is the same.
func Parse(document []byte, previous *Keys) (*Keys, error) {
	raws, err := split(document)
	if err != nil {
		return nil, err
	}
	var faults []error
	list := make([]*Key, 0, len(raws))
	ids, hashes := map[string]int{}, map[string]string{}
	for i, raw := range raws {
		k, errs := parseKey(i, raw)
		faults = append(faults, errs...)
		if k.ID != "" {
			if first, ok := ids[k.ID]; ok {
				faults = append(faults, fmt.Errorf("%s: id: keys[%d] has the same", label(i, k.ID), first))
			} else {
				ids[k.ID] = i
			}
		}
		if k.SHA256 != "" {
			k.SHA256 = strings.ToLower(k.SHA256)
			if first, ok := hashes[k.SHA256]; ok {
				faults = append(faults, fmt.Errorf("%s: sha256: key %q has the same", label(i, k.ID), first))
			} else {
				hashes[k.SHA256] = k.ID
			}
		}
		list = append(list, k)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return newKeys(list, previous), nil
}

// split takes the document apart into its keys.
func split(document []byte) ([]json.RawMessage, error) {
	var top map[string]json.RawMessage
	if err := decode(document, &top); err != nil {
		return nil, fmt.Errorf("the keys document must be a JSON object: %w", err)
	}
	var faults []error
	for name := range top {
		if name != "keys" {
			faults = append(faults, fmt.Errorf("unknown field %q: the document has only \"keys\"", name))
		}
	}
	var raws []json.RawMessage
	if keys := top["keys"]; keys == nil || string(keys) == "null" {
		faults = append(faults, errors.New(`"keys" is missing`))
	} else if err := decode(top["keys"], &raws); err != nil {
		faults = append(faults, fmt.Errorf(`"keys" must be an array: %w`, err))
	}
	return raws, errors.Join(faults...)
}

// decode is json.Unmarshal with the position of a syntax error.
func decode(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := data[:min(int(syntax.Offset), len(data))]
		return fmt.Errorf("line %d: %w", 1+bytes.Count(before, []byte("\n")), err)
	}
	return err
}

func label(i int, id string) string {
	if id == "" {
		return fmt.Sprintf("keys[%d]", i)
	}
	return fmt.Sprintf("key %q", id)
}

// parseKey reads one key. It decodes field by field, since a decoder that
// stops at the first fault cannot name them all.
func parseKey(i int, raw json.RawMessage) (*Key, []error) {
	k := &Key{}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return k, []error{fmt.Errorf("%s: must be an object", label(i, ""))}
	}
	_ = json.Unmarshal(fields["id"], &k.ID) // for the labels; its fault is found below
	into := map[string]any{
		"id": &k.ID, "kind": &k.Kind, "source": &k.Source, "sha256": &k.SHA256,
		"origins": &k.Origins, "events": &k.Events, "disabled": &k.Disabled,
		"expires_at": &k.ExpiresAt, "ip": &k.IP,
	}
	var faults []error
	broken := map[string]bool{}
	fault := func(field, format string, args ...any) {
		broken[field] = true
		faults = append(faults, fmt.Errorf("%s: %s: %s", label(i, k.ID), field, fmt.Sprintf(format, args...)))
	}
	for _, name := range sorted(fields) {
		value := fields[name]
		switch target, ok := into[name]; {
		case ok:
			if json.Unmarshal(value, target) != nil {
				fault(name, "must be %s, not %s", wanted[name], excerpt(value))
			}
		case name == "rate":
			d := json.NewDecoder(bytes.NewReader(value))
			d.DisallowUnknownFields()
			if err := d.Decode(&k.Rate); err != nil {
				k.Rate = nil
				fault(name, `must be like {"per_second":200,"burst":400}: %v`, err)
			}
		default:
			fault(name, "unknown field")
		}
	}
	// An empty list could be meant as "none", and would mean "all".
	if k.Origins != nil && len(k.Origins) == 0 {
		fault("origins", "is empty: leave it out to allow all")
	}
	if k.Events != nil && len(k.Events) == 0 {
		fault("events", "is empty: leave it out to allow all")
	}
	var invalid validator.ValidationErrors
	if errors.As(validate.Struct(k), &invalid) {
		for _, f := range invalid {
			_, field, _ := strings.Cut(f.Namespace(), ".")
			if top, _, _ := strings.Cut(field, "["); !broken[top] {
				fault(field, "%s", complaint(f))
			}
		}
	}
	return k, faults
}

func sorted(fields map[string]json.RawMessage) []string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func excerpt(raw json.RawMessage) string {
	const most = 40
	if len(raw) > most {
		return strings.ToValidUTF8(string(raw[:most]), "") + "…"
	}
	return string(raw)
}

// wanted says in words what a field holds.
var wanted = map[string]string{
	"id": "a string", "kind": "a string", "source": "a string", "sha256": "a string",
	"origins": "an array of strings", "events": "an array of strings",
	"disabled": "true or false", "ip": "true or false",
	"expires_at": "a time such as \"2027-01-31T00:00:00Z\", or null",
}

// complaint says in words what the validator objects to.
func complaint(f validator.FieldError) string {
	switch f.Tag() {
	case "required":
		return "is missing"
	case "oneof":
		return fmt.Sprintf("must be one of %s, not %q", strings.ReplaceAll(f.Param(), " ", ", "), f.Value())
	case "len", "hexadecimal":
		return "must be the SHA-256 of the key, 64 hexadecimal digits (is this the key itself?)"
	case "printable":
		return "must be printable characters without spaces"
	case "origin":
		return fmt.Sprintf("%q is not an origin: want https://shop.example, https://*.shop.example or *", f.Value())
	case "eventname":
		return fmt.Sprintf("%q is not an event name: want a name, a prefix such as order_*, or *", f.Value())
	case "max", "lte":
		return "is more than " + f.Param()
	case "gt":
		return "must be more than " + f.Param()
	case "gte":
		return "must be " + f.Param() + " or more"
	}
	return "fails " + f.Tag() + " " + f.Param()
}

var validate = newValidator()

func newValidator() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(jsonName)
	for tag, ok := range map[string]func(string) bool{
		"origin": isOrigin, "eventname": isEventName, "printable": isPrintable,
	} {
		check := func(fl validator.FieldLevel) bool { return ok(fl.Field().String()) }
		if err := v.RegisterValidation(tag, check); err != nil {
			panic(err) // an empty tag: a fault of this file
		}
	}
	return v
}

func isOrigin(s string) bool {
	if s == "*" || s == "null" {
		return true
	}
	// An asterisk may stand for the first labels of the host only.
	u, err := url.Parse(strings.Replace(s, "://*.", "://x.", 1))
	return err == nil && u.Scheme != "" && u.Host != "" && u.Hostname() != "" && u.Path == "" &&
		u.User == nil && u.RawQuery == "" && u.Fragment == "" && !strings.HasSuffix(s, "#") &&
		!strings.HasSuffix(s, "?") && !strings.Contains(u.Host, "*")
}

func isEventName(s string) bool {
	return s != "" && len(s) <= 1000 && !strings.Contains(strings.TrimSuffix(s, "*"), "*")
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' })
}

// insert returns the document with one more key at the end of its list, and
// every other byte as it was. An empty document becomes a new one.
func insert(document []byte, k *Key) ([]byte, error) {
	entry, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(document)) == 0 {
		document = []byte("{\"keys\":[\n]}\n")
	}
	if _, err := split(document); err != nil {
		return nil, err
	}
	end, empty, err := endOfKeys(document)
	if err != nil {
		return nil, err
	}
	before := bytes.TrimRight(document[:end], " \t\r\n")
	separator := ",\n "
	if empty {
		separator = "\n "
	}
	return slices.Concat(before, []byte(separator), entry, []byte("\n"), document[end:]), nil
}

// endOfKeys returns the offset of the bracket that closes the list of keys,
// and whether the list is empty.
func endOfKeys(document []byte) (end int, empty bool, err error) {
	d := json.NewDecoder(bytes.NewReader(document))
	depth, count := 0, 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			return 0, false, errors.New(`"keys" is missing`)
		} else if err != nil {
			return 0, false, err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth == 3 {
				count++
			}
		case json.Delim('}'):
			depth--
		case json.Delim(']'):
			if depth--; depth == 1 {
				return int(d.InputOffset()) - 1, count == 0, nil
			}
		}
	}
}

// at is the time in which the document writes expiry: seconds are enough.
func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}
