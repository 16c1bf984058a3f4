package simulator

import (
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Credentials that the simulated HubSpot accepts; the token that is narrow has
// no scope that is needed here.
const (
	hubspotToken  = "pat-na1-simulated"
	hubspotNarrow = "pat-na1-simulated-without-scopes"
)

// Limits that are not in the schemas.
const (
	// Characters of a property's value, and of the address of a page or a
	// referrer. Source: HubSpot, Send event occurrence data, limits (read 2026-11).
	hubspotValue = 256
	hubspotURL   = 1024
	// hubspotRequest is ours: HubSpot names no size, and 500 events of 50 short
	// properties are smaller.
	hubspotRequest = 10 << 20
	// Source: HubSpot changelog, increasing our API limits (professional tier).
	// Sending events is exempt from both.
	hubspotTenSeconds = 190
	hubspotDay        = 650_000
	// hubspotEventsSecond is second-hand: RudderStack's documentation.
	hubspotEventsSecond = 1250
	// hubspotYear is how long a uuid is remembered.
	hubspotYear = 365 * 24 * time.Hour
)

// hubspot is the account of a HubSpot customer: completions of custom events,
// and contacts.
type hubspot struct {
	shelf    *shelf
	uuids    *seen
	contacts *seen
	short    quota
	day      quota
	events   quota

	mu sync.Mutex
	// names are those of the custom events that exist, and properties those of
	// contacts; nil: all of the right form.
	names, properties map[string]bool
}

func newHubspot(s *shelf) *hubspot {
	return &hubspot{
		shelf: s, uuids: newSeen(hubspotYear), contacts: newSeen(0),
		short:  quota{limit: hubspotTenSeconds, window: 10 * time.Second},
		day:    quota{limit: hubspotDay, window: 24 * time.Hour},
		events: quota{limit: hubspotEventsSecond, window: time.Second},
	}
}

// settings gives every event one name, so that somebody who tries it out sees
// them arrive: which name an event has is for the owner of an account to say.
func (*hubspot) settings(baseURL string) any {
	type events struct {
		Events map[string]string `json:"events"`
	}
	return struct {
		AccessToken string `json:"access_token"`
		Endpoint    string `json:"endpoint"`
		Mapping     events `json:"mapping"`
	}{hubspotToken, baseURL, events{map[string]string{"*": "pe123456_event"}}}
}

// define makes these the only custom events of the account and, if some are no
// names of events, these the only properties of its contacts.
func (h *hubspot) define(names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names, h.properties = make(map[string]bool), nil
	for _, name := range names {
		if strings.HasPrefix(name, "pe") && strings.ContainsRune(name, '_') {
			h.names[name] = true
			continue
		}
		if h.properties == nil {
			h.properties = make(map[string]bool)
		}
		h.properties[name] = true
	}
}

// knows reports whether a custom event exists, and has whether contacts have a
// property.
func (h *hubspot) knows(event string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.names == nil || h.names[event]
}

func (h *hubspot) has(property string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.properties == nil || h.properties[property]
}

// hubspotProperties are some of the properties that contacts have from the
// beginning.
var hubspotProperties = []string{
	"address", "city", "company", "country", "email", "firstname", "jobtitle", "lastname", "lifecyclestage", "mobilephone",
	"phone", "state", "website", "zip",
}

// list answers with the properties of contacts.
func (h *hubspot) list(*call) answer {
	type property struct {
		Name     string `json:"name"`
		Label    string `json:"label"`
		Type     string `json:"type"`
		Metadata struct {
			ReadOnly bool `json:"readOnlyValue"`
		} `json:"modificationMetadata"`
	}
	names := hubspotProperties
	h.mu.Lock()
	if h.properties != nil {
		names = slices.Sorted(maps.Keys(h.properties))
	}
	h.mu.Unlock()
	results := make([]property, 0, len(names)+1)
	for _, name := range names {
		results = append(results, property{Name: name, Label: name, Type: "string"})
	}
	own := property{Name: "hs_object_id", Label: "Record ID", Type: "number"}
	own.Metadata.ReadOnly = true
	return asJSON(http.StatusOK, map[string]any{"results": append(results, own)})
}

// correlation is an id for a person to quote, in the form of a UUID.
func correlation(c *call) string {
	a, b := uint64(1<<63*c.share(flavourShare)), c.n
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", uint32(a>>32), uint16(a>>16), a&0xfff, b&0xfff, b&(1<<48-1))
}

// hubspotError is the body of an error. HubSpot asks to treat every field as
// optional.
type hubspotError struct {
	Status        string              `json:"status"`
	Message       string              `json:"message"`
	CorrelationID string              `json:"correlationId,omitempty"`
	Category      string              `json:"category,omitempty"`
	Context       map[string][]string `json:"context,omitempty"`
	// ErrorType, PolicyName and RequestID are those of throttling, which has no
	// category.
	ErrorType  string `json:"errorType,omitempty"`
	PolicyName string `json:"policyName,omitempty"`
	RequestID  string `json:"requestId,omitempty"`
}

func hubspotSays(c *call, status int, category, message string) answer {
	return asJSON(status, hubspotError{Status: "error", Message: message, CorrelationID: correlation(c), Category: category})
}

func (*hubspot) denied(c *call) answer {
	return hubspotSays(c, http.StatusUnauthorized, "INVALID_AUTHENTICATION",
		"Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview")
}

func (h *hubspot) throttled(c *call, _ time.Duration) answer {
	return h.exceeded(c, "TEN_SECONDLY_ROLLING", "You have reached your ten_secondly_rolling limit.")
}

// exceeded is the 429 of a policy. It says how much is left, and not until when.
func (h *hubspot) exceeded(c *call, policy, message string) answer {
	return asJSON(http.StatusTooManyRequests, hubspotError{
		Status: "error", Message: message, ErrorType: "RATE_LIMIT",
		CorrelationID: correlation(c), PolicyName: policy, RequestID: correlation(c),
	})
}

func (h *hubspot) status(c *call, code int) answer {
	switch code {
	case http.StatusUnauthorized:
		return h.denied(c)
	case http.StatusForbidden:
		return hubspotSays(c, code, "MISSING_SCOPES", "This app hasn't been granted all required scopes to make this call. Read more about required scopes here: https://developers.hubspot.com/scopes.")
	case http.StatusLocked:
		// Locks last two seconds.
		return hubspotSays(c, code, "CONFLICT", "This resource is being changed by another request: try again in 2 seconds.")
	case http.StatusTooManyRequests:
		return h.throttled(c, 0)
	case 477:
		// The account is moving to another data centre: the only answer with
		// Retry-After, of up to 24 hours.
		return hubspotSays(c, code, "MIGRATION_IN_PROGRESS", "This account is being migrated.").
			with("Retry-After", seconds(c.trouble.Wait, time.Hour))
	}
	if code >= 500 {
		return edge(code)
	}
	return hubspotSays(c, code, "VALIDATION_ERROR", http.StatusText(code))
}

func (h *hubspot) serve(c *call) answer {
	token, _ := c.bearer()
	switch token {
	case hubspotToken:
	case hubspotNarrow:
		if c.r.URL.Path != "/account-info/v3/details" { // which wants no scope but oauth
			return h.status(c, http.StatusForbidden)
		}
	default:
		return h.denied(c)
	}
	// Paths with a version of a date exist beside those of v3.
	switch c.r.Method + " " + c.r.URL.Path {
	case "GET /account-info/v3/details":
		return h.limited(c, func(c *call) answer {
			return asJSON(http.StatusOK, map[string]any{
				"portalId": 123456, "accountType": "DEVELOPER_TEST", "timeZone": "US/Eastern", "companyCurrency": "USD",
				"additionalCurrencies": []string{}, "utcOffset": "-05:00", "utcOffsetMilliseconds": -18000000,
				"uiDomain": "app.hubspot.com", "dataHostingLocation": "na1",
			})
		})
	case "GET /crm/v3/properties/contacts":
		return h.limited(c, h.list)
	case "POST /events/v3/send", "POST /events/2026-03/send", "POST /events/custom/2026-09/send":
		return h.completions(c, "hubspot.events-send.request")
	case "POST /events/v3/send/batch", "POST /events/2026-03/send/batch", "POST /events/custom/2026-09/send/batch":
		return h.completions(c, "hubspot.events-send-batch.request")
	case "POST /crm/v3/objects/contacts/batch/upsert", "POST /crm/objects/2026-03/contacts/batch/upsert":
		return h.limited(c, h.upsert)
	}
	return hubspotSays(c, http.StatusNotFound, "OBJECT_NOT_FOUND", "Unable to find a resource for the given path")
}

// limited carries a call out if the limits of the account's tier allow it.
func (h *hubspot) limited(c *call, serve func(*call) answer) answer {
	shortLeft, _, short := h.short.take(c, 1)
	one := int64(1)
	if !short {
		one = 0 // a call that is refused does not count for the day
	}
	dayLeft, _, day := h.day.take(c, one)
	var a answer
	switch {
	case !short:
		a = c.tooMany(h, 0)
	case !day:
		c.shelf.count(func(n *Counts) { n.Throttled++ })
		a = h.exceeded(c, "DAILY", "You have reached your daily limit.")
	default:
		a = serve(c)
	}
	return a.with("X-HubSpot-RateLimit-Daily", strconv.Itoa(hubspotDay)).
		with("X-HubSpot-RateLimit-Daily-Remaining", strconv.FormatInt(dayLeft, 10)).
		with("X-HubSpot-RateLimit-Interval-Milliseconds", "10000").
		with("X-HubSpot-RateLimit-Max", strconv.Itoa(hubspotTenSeconds)).
		with("X-HubSpot-RateLimit-Remaining", strconv.FormatInt(shortLeft, 10))
}

// document reads the body of a call.
func (h *hubspot) document(c *call) (doc any, refusal *answer) {
	body, err := c.body(hubspotRequest, false)
	if err == nil {
		doc, err = decode(body)
	}
	switch {
	case err == errTooLarge:
		refusal = new(hubspotSays(c, http.StatusRequestEntityTooLarge, "VALIDATION_ERROR", "The request is too large"))
	case err != nil:
		refusal = new(hubspotSays(c, http.StatusBadRequest, "VALIDATION_ERROR", "Invalid input JSON: "+err.Error()))
	}
	return doc, refusal
}

// completions is the sending of one event or a batch: all are taken, or none
// and nobody is named.
func (h *hubspot) completions(c *call, request string) answer {
	if _, _, ok := h.events.take(c, 1); !ok {
		c.shelf.count(func(n *Counts) { n.Throttled++ })
		return h.exceeded(c, "SECONDLY", "You have reached your secondly limit.")
	}
	doc, refusal := h.document(c)
	if refusal != nil {
		return *refusal
	}
	batch := request == "hubspot.events-send-batch.request"
	inputs := []any{doc}
	if batch {
		inputs, _ = member(doc, "inputs").([]any)
	}
	wrong := ""
	if f := check(request, doc); f != nil {
		wrong = "Invalid input: " + f.rule
		if !batch {
			wrong = "Invalid input: " + f.String()
		}
	} else {
		for _, input := range inputs {
			if wrong = h.wrong(c, input); wrong != "" {
				break
			}
		}
	}
	if wrong != "" {
		h.shelf.refuse(max(1, len(inputs)))
		return hubspotSays(c, http.StatusBadRequest, "VALIDATION_ERROR", wrong)
	}
	items := make([]Item, len(inputs))
	for i, input := range inputs {
		items[i] = hubspotEvent(input)
	}
	if again := h.repetition(c, items); again != "" {
		h.shelf.duplicate()
		message := "A uuid must be unique within the type of event"
		if c.share(flavourShare) < 0.5 {
			message += ": " + again + " was sent before"
		}
		return hubspotSays(c, http.StatusBadRequest, "VALIDATION_ERROR", message)
	}
	for _, item := range items {
		h.shelf.take(item)
	}
	return bare(http.StatusNoContent)
}

// repetition returns a uuid that HubSpot has, or that comes twice; if there is
// none it remembers them all. "Unique within the type of event; repeats are
// rejected, the first stays": how a batch with one is rejected is not documented.
// Here all of it is, and some answers name the uuid.
func (h *hubspot) repetition(c *call, items []Item) string {
	h.mu.Lock() // of two calls with the same uuid at once, one is the first
	defer h.mu.Unlock()
	twice := map[[2]string]bool{}
	for _, item := range items {
		key := [2]string{item.Name, item.ID}
		if item.ID == "" { // then it is new
			continue
		}
		if twice[key] || h.uuids.has(c.now, item.Name, item.ID) {
			return item.ID
		}
		twice[key] = true
	}
	for key := range twice {
		h.uuids.add(c.now, key[0], key[1])
	}
	return ""
}

func hubspotEvent(input any) Item {
	user := text(input, "email")
	for _, other := range []string{"objectId", "utk"} {
		if user == "" {
			user = text(input, other)
		}
	}
	return Item{ID: text(input, "uuid"), Kind: "event", Name: text(input, "eventName"), User: user, Body: raw(input)}
}

// wrong returns what HubSpot has against a completion that has the right form,
// "" if nothing.
func (h *hubspot) wrong(c *call, input any) string {
	if !h.knows(text(input, "eventName")) {
		return "There is no event definition of this name in the account"
	}
	properties, _ := member(input, "properties").(map[string]any)
	for name, value := range properties {
		limit := hubspotValue
		if strings.Contains(name, "url") || strings.Contains(name, "referrer") {
			limit = hubspotURL
		}
		if s, _ := value.(string); utf8.RuneCountInString(s) > limit {
			return fmt.Sprintf("A property value is longer than %d characters", limit)
		}
	}
	if c.refuses(hubspotEvent(input)) {
		return "A property value is not valid"
	}
	return ""
}

// upsert creates contacts or changes them. What is wrong with the request
// refuses all of it; what is wrong with a contact is told with the trace id of
// its input, and the others are written.
func (h *hubspot) upsert(c *call) answer {
	doc, refusal := h.document(c)
	if refusal != nil {
		return *refusal
	}
	inputs, _ := member(doc, "inputs").([]any)
	wrong := ""
	if f := check("hubspot.contacts-batch-upsert.request", doc); f != nil {
		wrong = "Invalid input JSON: " + f.String()
	} else if twice := repeated(inputs); twice != "" {
		wrong = "Duplicate IDs found in batch input: [" + twice + "]. IDs must be unique"
	}
	if wrong != "" {
		h.shelf.refuse(max(1, len(inputs)))
		return hubspotSays(c, http.StatusBadRequest, "VALIDATION_ERROR", wrong)
	}
	type result struct {
		ID         string            `json:"id"`
		New        bool              `json:"new"`
		Properties map[string]string `json:"properties"`
		CreatedAt  time.Time         `json:"createdAt"`
		UpdatedAt  time.Time         `json:"updatedAt"`
		Archived   bool              `json:"archived"`
		Trace      string            `json:"objectWriteTraceId,omitempty"`
	}
	reply := struct {
		Status      string         `json:"status"`
		Results     []result       `json:"results"`
		NumErrors   int            `json:"numErrors,omitempty"`
		Errors      []hubspotError `json:"errors,omitempty"`
		StartedAt   time.Time      `json:"startedAt"`
		CompletedAt time.Time      `json:"completedAt"`
	}{Status: "COMPLETE", Results: []result{}, StartedAt: c.now, CompletedAt: c.now}
	for _, input := range inputs {
		item := Item{ID: text(input, "objectWriteTraceId"), Kind: "contact", User: text(input, "id"), Body: raw(input)}
		category, message := h.wrongContact(c, input, item)
		if category != "" {
			e := hubspotError{Status: "error", Category: category, Message: message}
			if item.ID != "" {
				e.Context = map[string][]string{"objectWriteTraceId": {item.ID}}
			}
			reply.Errors = append(reply.Errors, e)
			continue
		}
		key := text(input, "idProperty") + ":" + strings.ToLower(item.User)
		properties := map[string]string{}
		for name, value := range member(input, "properties").(map[string]any) {
			properties[name], _ = value.(string)
		}
		reply.Results = append(reply.Results, result{
			ID: objectID(key), New: h.contacts.add(c.now, key), Properties: properties,
			CreatedAt: c.now, UpdatedAt: c.now, Trace: item.ID,
		})
		h.shelf.take(item)
	}
	reply.NumErrors = len(reply.Errors)
	h.shelf.refuse(len(reply.Errors))
	if reply.NumErrors > 0 {
		return asJSON(http.StatusMultiStatus, reply)
	}
	return asJSON(http.StatusOK, reply)
}

// wrongContact returns what HubSpot has against one input of an upsert.
func (h *hubspot) wrongContact(c *call, input any, item Item) (category, message string) {
	switch property := text(input, "idProperty"); {
	case property != "email":
		return "VALIDATION_ERROR", "Property " + strconv.Quote(property) + " is not a unique identifier of contacts"
	case !address(item.User):
		return "VALIDATION_ERROR", "Property values were not valid: " + string(raw([]map[string]any{{
			"isValid": false, "message": "Email address " + item.User + " is invalid", "error": "INVALID_EMAIL", "name": "email",
		}}))
	case c.refuses(item):
		return "VALIDATION_ERROR", "Property values were not valid"
	}
	for _, name := range slices.Sorted(maps.Keys(member(input, "properties").(map[string]any))) {
		if !h.has(name) {
			return "VALIDATION_ERROR", "Property values were not valid: " + string(raw([]map[string]any{{
				"isValid": false, "message": fmt.Sprintf("Property %q does not exist", name), "error": "PROPERTY_DOESNT_EXIST", "name": name,
			}}))
		}
	}
	return "", ""
}

// objectID is the number of a contact, always the same for the same key.
func objectID(key string) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(key)) // never fails
	return strconv.FormatUint(uint64(sum.Sum32())+1, 10)
}

// repeated returns an id that two inputs have, "" if there is none.
func repeated(inputs []any) string {
	ids := make([]string, len(inputs))
	for i, input := range inputs {
		ids[i] = strings.ToLower(text(input, "id"))
	}
	slices.Sort(ids)
	for i := 1; i < len(ids); i++ {
		if ids[i] == ids[i-1] {
			return ids[i]
		}
	}
	return ""
}

// address reports whether a text may be an e-mail address.
func address(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && local != "" && domain != "" && !strings.ContainsAny(s, " \t\r\n") && !strings.Contains(domain, "@")
}
