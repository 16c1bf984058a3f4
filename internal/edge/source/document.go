package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
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

	"github.com/eventsluice/sluice/internal/edge/limit"
)

// Parse reads a keys document:
//
//	{"keys":[{"id":"web","kind":"write","sha256":"…"}, …]}
//
// The error names all faults, one a line, each by key and field. previous is
// the table that the result replaces, nil for none: a key keeps the state of
// its rate limit if its rate is the same.
func Parse(document []byte, previous *Keys) (*Keys, error) {
	keys, err := parse(document, previous)
	if err == nil {
		keys.activate()
	}
	return keys, err
}

func parse(document []byte, previous *Keys) (*Keys, error) {
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
		for p, older := range k.Previous {
			older.SHA256 = strings.ToLower(older.SHA256)
			k.Previous[p] = older
			if first, ok := hashes[older.SHA256]; ok && older.SHA256 != "" {
				faults = append(faults, fmt.Errorf("%s: previous[%d].sha256: key %q has the same", label(i, k.ID), p, first))
			} else {
				hashes[older.SHA256] = k.ID
			}
		}
		list = append(list, k)
	}
	faults = append(faults, crossCheck(list)...)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return newKeys(list, previous), nil
}

// Load is Parse for a gateway: it also looks up the secrets of signatures, which
// may be in the environment (as lookup knows it) and in files. They are looked
// up when the document is read, and not again before it changes.
func Load(document []byte, previous *Keys, lookup func(string) (string, bool)) (*Keys, error) {
	keys, err := parse(document, previous)
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, k := range keys.list {
		if k.signer == nil {
			continue
		}
		secrets := make([][]byte, len(k.signer.refs))
		for i, ref := range k.signer.refs {
			if secrets[i], err = ref.resolve(lookup); err != nil {
				faults = append(faults, fmt.Errorf("key %q: signature.secret: %s: %w", k.ID, ref, err))
			}
		}
		k.signer.secrets = secrets
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	keys.activate()
	return keys, nil
}

// crossCheck finds the faults that take more than one key to see.
func crossCheck(list []*Key) []error {
	var faults []error
	type audience struct{ issuer, name string }
	audiences, tokens := map[audience]string{}, map[string]bool{}
	for _, k := range list {
		if k.Kind != Token {
			continue
		}
		tokens[k.ID] = true
		for i, name := range k.Audience {
			a := audience{k.Issuer, name}
			if first, ok := audiences[a]; ok {
				faults = append(faults, fmt.Errorf("key %q: audience[%d]: key %q has the same issuer and this audience", k.ID, i, first))
				continue
			}
			audiences[a] = k.ID
		}
	}
	for _, k := range list {
		if k.Token != "" && k.Kind != Token && !tokens[k.Token] {
			faults = append(faults, fmt.Errorf("key %q: token: there is no key of kind token with the id %q", k.ID, k.Token))
		}
	}
	return faults
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
		"expires_at": &k.ExpiresAt, "ip": &k.IP, "ips": &k.IPs, "modes": &k.Modes,
		"issuer": &k.Issuer, "audience": &k.Audience, "jwks": &k.JWKS, "user_claim": &k.UserClaim, "token": &k.Token,
	}
	rates := map[string]**limit.Rate{
		"rate": &k.Rate, "address_rate": &k.AddressRate, "user_rate": &k.UserRate, "event_rate": &k.EventRate,
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
		case ok && json.Unmarshal(value, target) == nil:
		case ok && name == "sha256":
			fault(name, "must be a string") // and may be the key itself
		case ok:
			fault(name, "must be %s, not %s", wanted[name], excerpt(value))
		case rates[name] != nil:
			d := json.NewDecoder(bytes.NewReader(value))
			d.DisallowUnknownFields()
			if err := d.Decode(rates[name]); err != nil {
				*rates[name] = nil
				fault(name, `must be like {"per_second":200,"burst":400}: %v`, err)
			}
		case name == "previous":
			k.parsePrevious(value, fault)
		case name == "signature":
			k.parseSignature(value, fault)
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
	if k.IPs != nil && len(k.IPs) == 0 {
		fault("ips", "is empty: leave it out to allow all")
	}
	for i, text := range k.IPs {
		prefix, err := parsePrefix(text)
		if err != nil {
			fault(fmt.Sprintf("ips[%d]", i), "%v", err)
		}
		k.prefixes = append(k.prefixes, prefix)
	}
	k.checkKind(fault, broken)
	k.parseModes(fault)
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

// faultFunc notes what is wrong with a field of a key.
type faultFunc func(field, format string, args ...any)

// checkKind finds the fields that a kind must have and must not have.
func (k *Key) checkKind(fault faultFunc, broken map[string]bool) {
	for _, f := range []struct {
		name       string
		set, token bool // of kind token only
		required   bool
	}{
		{"issuer", k.Issuer != "", true, true},
		{"audience", len(k.Audience) > 0, true, true},
		{"jwks", k.JWKS != "", true, true},
		{"user_claim", k.UserClaim != "", true, false},
		{"sha256", k.SHA256 != "", false, true},
		{"previous", len(k.Previous) > 0, false, false},
		{"token", k.Token != "", false, false},
	} {
		switch {
		case broken[f.name]:
		case f.set && f.token != (k.Kind == Token) && f.token:
			fault(f.name, "is for keys of kind token only")
		case f.set && f.token != (k.Kind == Token):
			fault(f.name, "is not for keys of kind token")
		case !f.set && f.required && f.token == (k.Kind == Token):
			fault(f.name, "is missing")
		}
	}
}

// parsePrevious reads the older values of a key.
func (k *Key) parsePrevious(value json.RawMessage, fault faultFunc) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if d.Decode(&k.Previous) != nil {
		k.Previous = nil
		fault("previous", `must be like [{"sha256":"…","expires_at":"2027-01-31T00:00:00Z"}]`) // without what may be a key
	}
}

// parseSignature reads how requests must be signed. No fault repeats a value,
// which may be a secret.
func (k *Key) parseSignature(value json.RawMessage, fault faultFunc) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) != nil {
		fault("signature", `must be like {"secret":"env:NAME","tolerance":"5m"}`)
		return
	}
	if fields == nil {
		return // null
	}
	k.Signature = &Signature{}
	k.signer = &signer{tolerance: defaultTolerance}
	for _, name := range sorted(fields) {
		switch name {
		case "secret":
			if json.Unmarshal(fields[name], &k.Signature.Secret) != nil {
				fault("signature.secret", "must be a string, or an array of strings")
				k.Signature.Secret = Secrets{}
			}
		case "tolerance":
			d, err := time.Duration(0), json.Unmarshal(fields[name], &k.Signature.Tolerance)
			if err == nil {
				d, err = time.ParseDuration(k.Signature.Tolerance)
			}
			if err != nil || d < time.Second || d > maxTolerance || d%time.Second != 0 {
				fault("signature.tolerance", `must be whole seconds from 1s to %s, such as "5m"`, maxTolerance)
				continue
			}
			k.signer.tolerance = d
		default:
			fault("signature."+name, "unknown field")
		}
	}
	switch n := len(k.Signature.Secret); {
	case k.Signature.Secret == nil:
		fault("signature.secret", "is missing")
	case n > maxSecrets:
		fault("signature.secret", "has more than %d secrets", maxSecrets)
	}
	if fields["secret"] != nil && string(fields["secret"]) == "[]" {
		fault("signature.secret", "is empty")
	}
	for i, ref := range k.Signature.Secret {
		if err := ref.check(); err != nil {
			field := "signature.secret"
			if len(k.Signature.Secret) > 1 {
				field = fmt.Sprintf("signature.secret[%d]", i)
			}
			fault(field, "%v", err)
		}
	}
	k.signer.refs = k.Signature.Secret
}

// parseModes reads the modes. One of a restriction that the key does not have
// is a fault: somebody believes that it has.
func (k *Key) parseModes(fault faultFunc) {
	has := [Restrictions]bool{
		RestrictOrigins: len(k.Origins) > 0, RestrictEvents: len(k.Events) > 0, RestrictIPs: len(k.IPs) > 0,
		RestrictSignature: k.Signature != nil, RestrictToken: k.NamesUser(),
		RestrictRate: k.Rate != nil, RestrictUserRate: k.UserRate != nil, RestrictEventRate: k.EventRate != nil,
	}
	names := make([]string, 0, len(k.Modes))
	for name := range k.Modes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		r, m := slices.Index(restrictionNames[:], name), slices.Index(modeNames[:], k.Modes[name])
		switch {
		case r < 0:
			fault("modes."+excerpt(json.RawMessage(name)), "unknown restriction: the restrictions are %s", strings.Join(restrictionNames[:], ", "))
		case m < 0:
			fault("modes."+name, "must be off, observe or enforce, not %q", excerpt(json.RawMessage(k.Modes[name])))
		case !has[r]:
			fault("modes."+name, "the key has no such restriction")
		default:
			k.modes[r] = Mode(m)
		}
	}
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
	"ips":        "an array of strings", "audience": "an array of strings",
	"modes":  `an object such as {"ips":"observe"}`,
	"issuer": "a string", "jwks": "a string", "user_claim": "a string", "token": "a string",
}

// complaint says in words what the validator objects to.
func complaint(f validator.FieldError) string {
	switch f.Tag() {
	case "required":
		return "is missing"
	case "oneof":
		return fmt.Sprintf("must be one of %s, not %q", strings.ReplaceAll(f.Param(), " ", ", "), f.Value())
	case "jwks":
		return fmt.Sprintf("%v", isJWKS(f.Value().(string)))
	case "sha256":
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
		"origin": isOrigin, "eventname": isEventName, "printable": isPrintable, "sha256": isSHA256,
		"jwks": func(s string) bool { return isJWKS(s) == nil },
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

func isSHA256(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == hex.EncodedLen(sha256.Size)
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
