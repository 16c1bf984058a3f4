package simulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const amplitudeKey = "51a0000000000000000000000000a301"

// Limits. Source: Amplitude, HTTP V2 API and Batch Event Upload API (read
// 2026-11).
const (
	amplitudeRequest = 1_000_000 // "under 1 MB"
	amplitudeBatch   = 20_000_000
	amplitudeEvents  = 2000
	amplitudeID      = 5 // characters
	amplitudeDepth   = 40
	amplitudeWeek    = 7 * 24 * time.Hour // insert_id is remembered
	// Events per second of one user or device, "measured as an average over a
	// recent time window". The length of the window is ours: the 30 seconds that
	// Amplitude asks to pause.
	amplitudeRate      = 30
	amplitudeRateBatch = 1000
	amplitudeWindow    = 30 * time.Second
)

// amplitudeBanned are ids that stand for nobody. Source: Amplitude, HTTP V2 API,
// "Invalid IDs" (read 2026-11); that case does not matter is ours.
var amplitudeBanned = []string{
	"anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown", `""`, "", "{}", "lmy47d", "0", "-1",
	"00000000-0000-0000-0000-000000000000",
}

// amplitudeReserved are names of Amplitude's own events.
var amplitudeReserved = []string{
	"[Amplitude] Start Session", "[Amplitude] End Session", "[Amplitude] Revenue", "[Amplitude] Revenue (Verified)",
	"[Amplitude] Revenue (Unverified)", "[Amplitude] Merged User",
}

// amplitude is Amplitude's HTTP V2 API, and the Batch Event Upload API beside it.
type amplitude struct {
	shelf *shelf
	seen  *seen

	mu    sync.Mutex
	start time.Time
	rates map[string]int // events of each user and device since start
}

func newAmplitude(s *shelf) *amplitude {
	return &amplitude{shelf: s, seen: newSeen(amplitudeWeek)}
}

func (*amplitude) settings(baseURL string) any {
	return struct {
		APIKey   string `json:"api_key"`
		Endpoint string `json:"endpoint"`
	}{amplitudeKey, baseURL}
}

// amplitudeError is the body of an error.
type amplitudeError struct {
	Code         int              `json:"code"`
	Error        string           `json:"error"`
	MissingField string           `json:"missing_field,omitempty"`
	Invalid      map[string][]int `json:"events_with_invalid_fields,omitempty"`
	Missing      map[string][]int `json:"events_with_missing_fields,omitempty"`
}

func amplitudeSays(status int, message string) answer {
	return asJSON(status, amplitudeError{Code: status, Error: message})
}

func (*amplitude) denied(*call) answer {
	return amplitudeSays(http.StatusBadRequest, "Invalid API key")
}

func (a *amplitude) throttled(c *call, _ time.Duration) answer {
	doc, _ := decode(c.raw)
	events, _ := member(doc, "events").([]any)
	who := ""
	if len(events) > 0 {
		who = amplitudeUser(events[0])
	}
	return amplitudeSlower(events, amplitudeRate, map[string]int{who: amplitudeRate + 1})
}

// amplitudeSlower is the 429 that names who sends too much, and their events.
// Nothing of the request is taken.
func amplitudeSlower(events []any, threshold int, rates map[string]int) answer {
	reply := struct {
		Code      int            `json:"code"`
		Error     string         `json:"error"`
		Threshold int            `json:"eps_threshold"`
		Devices   map[string]int `json:"throttled_devices"`
		Users     map[string]int `json:"throttled_users"`
		Events    []int          `json:"throttled_events"`
	}{http.StatusTooManyRequests, "Too many requests for some devices and users", threshold, map[string]int{}, map[string]int{}, []int{}}
	for i, event := range events {
		rate, slow := rates[amplitudeUser(event)]
		if !slow {
			continue
		}
		reply.Events = append(reply.Events, i)
		if user := text(event, "user_id"); user != "" {
			reply.Users[user] = rate
		} else {
			reply.Devices[text(event, "device_id")] = rate
		}
	}
	return asJSON(http.StatusTooManyRequests, reply)
}

// amplitudeUser names whom an event is about.
func amplitudeUser(event any) string {
	if user := text(event, "user_id"); user != "" {
		return user
	}
	return text(event, "device_id")
}

func (a *amplitude) status(c *call, code int) answer {
	switch {
	case code == http.StatusRequestEntityTooLarge:
		return amplitudeSays(code, "Payload too large")
	case code == http.StatusTooManyRequests:
		return a.throttled(c, 0)
	case code >= 500:
		return edge(code)
	}
	return amplitudeSays(code, http.StatusText(code))
}

func (a *amplitude) serve(c *call) answer {
	limit, rate := amplitudeRequest, amplitudeRate
	switch {
	case c.is(http.MethodPost, "/2/httpapi"):
	case c.is(http.MethodPost, "/batch"):
		limit, rate = amplitudeBatch, amplitudeRateBatch
	default:
		return amplitudeSays(http.StatusBadRequest, "Invalid request path")
	}
	body, err := c.body(limit-1, false)
	if err == errTooLarge {
		return a.status(c, http.StatusRequestEntityTooLarge)
	}
	if err == nil && len(body) == 0 {
		return amplitudeSays(http.StatusBadRequest, "Missing request body")
	}
	var doc any
	if err == nil {
		doc, err = decode(body)
	}
	object, ok := doc.(map[string]any)
	if err != nil || !ok || c.mediaType() != "application/json" {
		return amplitudeSays(http.StatusBadRequest, "Invalid JSON request body")
	}
	events, _ := object["events"].([]any)
	switch {
	case text(object, "api_key") == "":
		return asJSON(http.StatusBadRequest, amplitudeError{Code: http.StatusBadRequest, Error: "Request missing required field", MissingField: "api_key"})
	case text(object, "api_key") != amplitudeKey: // the page does not say whether the key or the events are looked at first
		return a.denied(c)
	case len(events) == 0:
		return asJSON(http.StatusBadRequest, amplitudeError{Code: http.StatusBadRequest, Error: "Request missing required field", MissingField: "events"})
	case len(events) > amplitudeEvents:
		return a.status(c, http.StatusRequestEntityTooLarge)
	}
	if wrong := a.wrong(c, object, events); wrong != nil {
		a.shelf.refuse(len(events))
		return asJSON(http.StatusBadRequest, wrong)
	}
	if slow := a.count(c, events, rate); len(slow) > 0 {
		c.shelf.count(func(n *Counts) { n.Throttled++ })
		return amplitudeSlower(events, rate, slow)
	}
	for _, event := range events {
		item := amplitudeItem(event)
		if item.ID != "" && !a.seen.add(c.now, item.ID) {
			a.shelf.duplicate()
			continue
		}
		a.shelf.take(item)
	}
	return asJSON(http.StatusOK, map[string]any{
		"code": http.StatusOK, "events_ingested": len(events), "payload_size_bytes": len(body), "server_upload_time": c.now.UnixMilli(),
	})
}

func amplitudeItem(event any) Item {
	return Item{ID: text(event, "insert_id"), Kind: "event", Name: text(event, "event_type"), User: amplitudeUser(event), Body: raw(event)}
}

// count adds events to the rates of their users and devices. It returns those
// who had sent too many before, with their events per second; then nothing is
// added. One call may carry any number of a user's events.
func (a *amplitude) count(c *call, events []any, rate int) map[string]int {
	if c.shelf.unlimited.Load() {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if passed := c.now.Sub(a.start); passed < 0 || passed >= amplitudeWindow {
		a.start, a.rates = c.now, make(map[string]int)
	}
	const window = int(amplitudeWindow / time.Second)
	slow := make(map[string]int)
	for _, event := range events {
		if who := amplitudeUser(event); a.rates[who] >= rate*window {
			slow[who] = a.rates[who]/window + 1
		}
	}
	if len(slow) == 0 {
		for _, event := range events {
			a.rates[amplitudeUser(event)]++
		}
	}
	return slow
}

// wrong returns what Amplitude has against the events of a request, nil if
// nothing. One is enough for the request to be refused as a whole.
func (*amplitude) wrong(c *call, request map[string]any, events []any) *amplitudeError {
	shortest := int64(amplitudeID)
	if n, ok := number(member(request["options"], "min_id_length")); ok {
		shortest = n
	}
	e := &amplitudeError{Code: http.StatusBadRequest, Invalid: map[string][]int{}, Missing: map[string][]int{}}
	for i, doc := range events {
		event, ok := doc.(map[string]any)
		if !ok {
			return &amplitudeError{Code: http.StatusBadRequest, Error: "Invalid event JSON"}
		}
		invalid := func(field string) {
			if !slices.Contains(e.Invalid[field], i) {
				e.Invalid[field] = append(e.Invalid[field], i)
			}
		}
		if event["event_type"] == nil || event["event_type"] == "" {
			e.Missing["event_type"] = append(e.Missing["event_type"], i)
		}
		ids := 0
		for _, field := range []string{"user_id", "device_id"} {
			id, isText := event[field].(string)
			switch {
			case event[field] == nil:
			case !isText, slices.Contains(amplitudeBanned, strings.ToLower(id)):
				invalid(field)
				ids++ // it is there
			case int64(len([]rune(id))) >= shortest:
				ids++ // a shorter one is taken out
			}
		}
		if ids == 0 {
			e.Missing["user_id"] = append(e.Missing["user_id"], i)
		}
		for field, value := range event {
			if value != nil && !amplitudeField(field, value) {
				invalid(field)
			}
		}
		if c.refuses(amplitudeItem(event)) {
			invalid("event_properties")
		}
	}
	switch {
	case len(e.Missing) > 0:
		e.Error = "Request missing required field"
	case len(e.Invalid) > 0:
		e.Error = "Invalid field values on some events"
	default:
		return nil
	}
	return e
}

// amplitudeField reports whether a field of an event has a value of its kind.
// Fields that are not known are let pass.
func amplitudeField(name string, value any) bool {
	switch name {
	case "event_type":
		s, ok := value.(string)
		return ok && !slices.Contains(amplitudeReserved, s)
	case "insert_id", "app_version", "platform", "os_name", "os_version", "device_brand", "device_manufacturer", "device_model",
		"carrier", "country", "region", "city", "dma", "language", "productId", "revenueType", "ip", "idfa", "idfv", "adid", "android_id":
		_, ok := value.(string)
		return ok
	case "time":
		n, ok := number(value)
		return ok && n >= 0
	case "session_id", "event_id", "quantity":
		_, ok := number(value)
		return ok
	case "price", "revenue", "location_lat", "location_lng":
		_, ok := value.(json.Number)
		return ok
	case "event_properties", "user_properties", "groups", "plan":
		_, ok := value.(map[string]any)
		return ok && depth(value) <= amplitudeDepth
	}
	return true
}

// depth returns how many objects and arrays lie within each other.
func depth(value any) int {
	deepest := 0
	switch v := value.(type) {
	case map[string]any:
		for _, inner := range v {
			deepest = max(deepest, depth(inner))
		}
	case []any:
		for _, inner := range v {
			deepest = max(deepest, depth(inner))
		}
	default:
		return 0
	}
	return deepest + 1
}
