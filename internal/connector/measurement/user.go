package measurement

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// maxAgent is the characters of a user_agent: what is longer is no browser's.
const maxAgent = 512

// user writes the head: everything that is said of the user and the device.
func (p *Planner) user(s *scratch, r *mapping.Record) *connector.Result {
	s.head = append(s.head[:0], '{')
	if refused := p.identity(s, r); refused != nil {
		return refused
	}
	if r.Event.Type != event.TypeGroup {
		s.properties(r)
	}
	s.head = AppendConsent(s.head, p.o.Consent, r.Extra[extraUserData].Value, r.Extra[extraPersonalization].Value)
	if p.o.UserData && r.UserID != "" {
		s.userData(r)
	}
	if r.IP != "" {
		s.head = mapping.AppendText(s.head, "ip_override", r.IP)
	}
	if r.UserAgent != "" {
		s.head = mapping.AppendText(s.head, "user_agent", mapping.CutRunes(r.UserAgent, maxAgent))
	} else {
		s.device(r)
	}
	return nil
}

func (p *Planner) identity(s *scratch, r *mapping.Record) *connector.Result {
	id := r.AnonymousID
	switch {
	case len(r.UserID) > MaxUserID && utf8.RuneCountInString(r.UserID) > MaxUserID:
		return mapping.Refuse("user_id", "user_id", "must have at most 256 characters for Google Analytics")
	case p.o.App:
		if id = strings.ReplaceAll(id, "-", ""); !isInstanceID(id) {
			return mapping.Refuse("no_identity", "context.ga.app_instance_id", "must be the 32 hexadecimal digits that Firebase gives an installation; Google Analytics takes no event of an app without it")
		}
		s.head = mapping.AppendText(s.head, "app_instance_id", id)
	default:
		switch id = ClientID(id, r.UserID); {
		case id == "" && p.o.WithoutIdentity == PerEvent:
			id = ClientID("", r.Event.ID)
		case id == "":
			return mapping.Refuse("no_identity", "anonymous_id", "Google Analytics takes no event of nobody: it needs anonymous_id, user_id or context.ga.client_id")
		}
		s.head = mapping.AppendText(s.head, "client_id", id)
	}
	if r.UserID != "" {
		s.head = mapping.AppendText(s.head, "user_id", r.UserID)
	}
	return nil
}

// ClientID returns the client_id of an anonymous id: the id itself, that in a _ga
// cookie, or, if there is none, a hash of the user's. It is empty if there is
// neither.
func ClientID(anonymous, user string) string {
	switch id := fromCookie(anonymous); {
	case len(id) > MaxUserID:
		return hashed("client", id)
	case id != "":
		return id
	case user != "":
		return hashed("user", user)
	}
	return ""
}

// fromCookie returns the client_id of a _ga cookie, GA1.1.123.456, and any other
// id as it is.
func fromCookie(id string) string {
	rest, ok := strings.CutPrefix(id, "GA1.")
	if !ok {
		return id
	}
	if _, client, ok := strings.Cut(rest, "."); ok && client != "" {
		return client
	}
	return id
}

// hashed returns an id that stands for another one. The same gives the same.
func hashed(of, id string) string {
	sum := sha256.Sum256([]byte(of + "\x00" + id))
	return hex.EncodeToString(sum[:16])
}

func isInstanceID(id string) bool {
	if len(id) != 32 {
		return false
	}
	_, err := hex.DecodeString(id)
	return err == nil
}

// properties writes the user properties: the traits of the user.
func (s *scratch) properties(r *mapping.Record) {
	if len(r.Traits) == 0 {
		return
	}
	start := len(s.head)
	s.head = append(mapping.AppendMember(s.head, "user_properties", nil), '{')
	s.written = s.written[:0]
	for _, trait := range r.Traits {
		if personalTrait(trait.Name) {
			continue
		}
		name := snake(trait.Name, MaxPropertyName)
		if name == "" || reserved.property(name) || len(s.written) == MaxProperties || s.has(name) || mapping.IsObject(trait.Value) || mapping.IsArray(trait.Value) {
			s.leave("traits/" + trait.Name)
			continue
		}
		s.add(name)
		s.head = mapping.AppendMember(s.head, name, nil)
		s.head = append(s.head, `{"value":`...)
		if value := trait.Value; value[0] == '"' && len(value)-2 > MaxPropertyValue {
			text, _ := mapping.Text(value)
			short := mapping.CutRunes(text, MaxPropertyValue)
			if len(short) < len(text) {
				s.shorten("traits/" + trait.Name)
			}
			s.head = event.AppendString(s.head, short)
		} else {
			s.head = append(s.head, value...)
		}
		s.head = append(s.head, '}')
	}
	if len(s.written) == 0 {
		s.head = s.head[:start]
		return
	}
	s.head = append(s.head, '}')
}

// AppendConsent appends the member "consent": what the user has agreed to by the
// event, whose values may be nil, or else as usual. Nothing is appended if neither
// says anything.
func AppendConsent(dst []byte, usual Consent, userData, personalization []byte) []byte {
	start, n := len(dst), 0
	dst = append(mapping.AppendMember(dst, "consent", nil), '{')
	for _, at := range [...]struct {
		name  string
		own   []byte
		usual string
	}{{"ad_user_data", userData, usual.AdUserData}, {"ad_personalization", personalization, usual.AdPersonalization}} {
		own, _ := mapping.Text(at.own)
		if word := cmp.Or(consentOf(own), consentOf(at.usual)); word != "" {
			dst = mapping.AppendText(dst, at.name, word)
			n++
		}
	}
	if n == 0 {
		return dst[:start]
	}
	return append(dst, '}')
}

// consentOf returns a consent as Google writes it, "" if it is none.
func consentOf(text string) string {
	switch strings.ToLower(text) {
	case "granted", "true":
		return "GRANTED"
	case "denied", "false":
		return "DENIED"
	}
	return ""
}

// userData writes hashes of what identifies the user. Source: Google, "Send
// user-provided data with the Measurement Protocol" (read 2026-11).
func (s *scratch) userData(r *mapping.Record) {
	text, _ := mapping.Text(r.Extra[extraPhone].Value)
	email, phone := normalEmail(r.Email), normalPhone(text)
	if email == "" && phone == "" {
		return
	}
	s.head = append(mapping.AppendMember(s.head, "user_data", nil), '{')
	for _, at := range [...]struct{ name, text string }{{"sha256_email_address", email}, {"sha256_phone_number", phone}} {
		if at.text != "" {
			sum := sha256.Sum256([]byte(at.text))
			s.head = append(mapping.AppendMember(s.head, at.name, nil), `["`...)
			s.head = append(hex.AppendEncode(s.head, sum[:]), `"]`...)
		}
	}
	s.head = append(s.head, '}')
}

// normalEmail returns an address as it is hashed: in lower case, and without the
// full stops that Gmail ignores.
func normalEmail(email string) string {
	email = strings.ToLower(strings.TrimSpace(email))
	local, domain, ok := strings.Cut(email, "@")
	if !ok || local == "" || domain == "" {
		return ""
	}
	if domain == "gmail.com" || domain == "googlemail.com" {
		local = strings.ReplaceAll(local, ".", "")
	}
	return local + "@" + domain
}

// normalPhone returns a number as it is hashed, E.164: plus sign and at most 15
// digits. One without the country's code is none.
func normalPhone(phone string) string {
	digits := make([]byte, 0, 16)
	for i, c := range []byte(strings.TrimSpace(phone)) {
		switch {
		case i == 0 && c == '+', c >= '0' && c <= '9' && i > 0:
			digits = append(digits, c)
		case c == ' ' || c == '-' || c == '.' || c == '(' || c == ')' || c == '/':
		default:
			return ""
		}
	}
	if len(digits) < 8 || len(digits) > 16 || digits[0] != '+' {
		return ""
	}
	return string(digits)
}

// device writes what the context tells of the device, if there is no user agent,
// which tells it as well.
func (s *scratch) device(r *mapping.Record) {
	start, n := len(s.head), 0
	s.head = append(mapping.AppendMember(s.head, "device", nil), '{')
	for _, at := range r.Extra[extraDevice:] {
		if text, ok := mapping.Text(at.Value); ok && text != "" {
			s.head = mapping.AppendText(s.head, at.Name, mapping.CutRunes(text, MaxValue))
			n++
		}
	}
	if n == 0 {
		s.head = s.head[:start]
		return
	}
	s.head = append(s.head, '}')
}
