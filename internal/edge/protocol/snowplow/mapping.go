package snowplow

import (
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// mapping turns Snowplow's events into ours. Its memory is used again by the
// next one.
//
//	theirs                          ours
//	eid                             id
//	e: pv                           type: page; all others are of type track
//	e and its details               name:
//	  pv, pp, tr, ti                page_view, page_ping, transaction, transaction_item
//	  se                            the action, se_ac
//	  ue                            the name in the event's schema, such as link_click
//	uid                             user_id
//	duid, else tnuid or nuid        anonymous_id
//	ttm, else dtm and stm           timestamp; without ttm the clock is corrected
//	ue_px, ue_pr                    data: that of the event; its schema is
//	                                context.snowplow.schema
//	se_…, tr_…, ti_…                data, under plain names
//	url, page, refr, of pv and pp   data.url, data.title, data.referrer
//	cx, co                          context.snowplow.contexts
//	aid                             nowhere: it is the key
//	all others, url, page, refr     context.snowplow, as sent
//	and the times too
//
// A field with the name of one that is made here goes to context.extra.
type mapping struct {
	limits   event.Limits
	received time.Time

	ev       event.Event
	kind     string // e
	visit    func(string, []byte) bool
	fields   fields
	data     protocol.Members
	snowplow protocol.Members
	extra    protocol.Members
	decoded  []byte // ue_px or ue_pr
	contexts []byte // cx or co, decoded
	object   []byte // data in braces
	context  []byte
	time     []byte
}

// fields are the values of an event as sent; nil is missing or null.
type fields struct {
	eid, uid, duid, tnuid, nuid []byte
	dtm, stm, ttm               []byte
	uePx, uePr, cx, co          []byte
	action                      []byte
}

func (m *mapping) begin(r *protocol.Request) { m.limits, m.received = r.Limits, r.Received }

func (m *mapping) reset(keep int) {
	m.ev, m.fields, m.kind = event.Event{}, fields{}, ""
	for _, b := range []*protocol.Members{&m.data, &m.snowplow, &m.extra} {
		*b = protocol.Keep(*b, keep)
	}
	for _, b := range []*[]byte{&m.decoded, &m.contexts, &m.object, &m.context} {
		*b = protocol.Keep(*b, keep)
	}
}

// The kinds of events. Source: Snowplow tracker protocol, event types.
const (
	pageView   = "pv"
	pagePing   = "pp"
	structured = "se"
	selfMade   = "ue"
	order      = "tr"
	orderItem  = "ti"
)

// names are those of events that do not say theirs themselves.
var names = map[string]string{
	pageView: "page_view", pagePing: "page_ping", order: "transaction", orderItem: "transaction_item",
}

// event reads one event into ev and returns nil, or what is wrong with it.
func (m *mapping) event(raw []byte, ev *event.Event) *event.Invalid {
	if invalid := protocol.CheckEvent(raw, m.limits); invalid != nil {
		return invalid
	}
	var invalid *event.Invalid
	if m.kind, invalid = kindOf(raw); invalid != nil {
		return invalid
	}
	if m.visit == nil {
		m.visit = m.member
	}
	m.fields, m.data, m.snowplow, m.extra = fields{}, m.data[:0], m.snowplow[:0], m.extra[:0]
	if err := event.Members(raw, m.visit); err != nil {
		return protocol.AsInvalid(err)
	}
	*ev = event.Event{Type: event.TypeTrack, Name: names[m.kind]}
	if m.kind == pageView {
		ev.Type = event.TypePage
	}
	if invalid := m.payload(ev); invalid != nil {
		return invalid
	}
	if invalid := m.addContexts(); invalid != nil {
		return invalid
	}
	if invalid := m.identities(ev); invalid != nil {
		return invalid
	}
	m.timestamp(ev)
	if len(m.snowplow) > 0 {
		m.context = append(m.snowplow.AppendObject(append(m.context[:0], `{"snowplow":`...)), '}')
		ev.Context = m.context
	}
	if len(m.extra) > 0 {
		ev.Extra = m.extra
	}
	return nil
}

// kindOf returns what e says.
func kindOf(raw []byte) (kind string, invalid *event.Invalid) {
	var sent []byte
	_ = event.Members(raw, func(name string, value []byte) bool {
		if name != "e" {
			return true
		}
		if value[0] != 'n' { // null
			sent = value
		}
		return false
	})
	kind, invalid = protocol.Text("/e", sent, 0, false)
	if invalid != nil {
		return "", invalid
	}
	switch kind {
	case pageView, pagePing, structured, selfMade, order, orderItem:
		return kind, nil
	case "":
		return "", &event.Invalid{Pointer: "/e", Code: event.CodeRequired, Detail: "an event says of what kind it is"}
	}
	return "", &event.Invalid{Pointer: "/e", Code: event.CodeUnknownType, Detail: "the kinds are pv, pp, ue, se, tr and ti"}
}

// member takes one member of the event.
func (m *mapping) member(name string, value []byte) bool {
	if value[0] == 'n' { // null
		return true
	}
	f := &m.fields
	switch name {
	case "e", "aid":
	case "eid":
		f.eid = value
	case "uid":
		f.uid = value
	case "duid":
		f.duid = value
	case "tnuid":
		f.tnuid = value
	case "nuid":
		f.nuid = value
	case "ue_px":
		f.uePx = value
	case "ue_pr":
		f.uePr = value
	case "cx":
		f.cx = value
	case "co":
		f.co = value
	case "schema", "contexts":
		m.extra.Add(name, value)
	default:
		switch name {
		case "dtm":
			f.dtm = value
		case "stm":
			f.stm = value
		case "ttm":
			f.ttm = value
		case "se_ac":
			f.action = value
		}
		plain, only := plainName(m.kind, name)
		if plain != "" {
			m.data.Add(plain, value)
		}
		if !only {
			m.snowplow.Add(name, value)
		}
	}
	return true
}

// plainName returns what a field is called in the data of an event of a kind,
// "" if it is not there, and whether it is only there.
func plainName(kind, field string) (plain string, only bool) {
	if kind == pageView || kind == pagePing {
		return pageFields[field], false
	}
	plain = detailFields[kind][field]
	return plain, plain != ""
}

// The fields of events of a kind. Source: Snowplow tracker protocol.
var (
	pageFields = map[string]string{
		"url": "url", "page": "title", "refr": "referrer",
		"pp_mix": "min_x", "pp_max": "max_x", "pp_miy": "min_y", "pp_may": "max_y",
	}
	detailFields = map[string]map[string]string{
		structured: {
			"se_ca": "category", "se_ac": "action", "se_la": "label", "se_pr": "property", "se_va": "value",
		},
		order: {
			"tr_id": "order_id", "tr_af": "affiliation", "tr_tt": "total", "tr_tx": "tax", "tr_sh": "shipping",
			"tr_ci": "city", "tr_st": "state", "tr_co": "country", "tr_cu": "currency",
		},
		orderItem: {
			"ti_id": "order_id", "ti_sk": "sku", "ti_nm": "name", "ti_ca": "category", "ti_pr": "price",
			"ti_qu": "quantity", "ti_cu": "currency",
		},
	}
)

// payload fills in the data, and the name of an event that has one of its own.
func (m *mapping) payload(ev *event.Event) (invalid *event.Invalid) {
	f := &m.fields
	if m.kind == selfMade {
		return m.selfDescribing(ev)
	}
	// Such fields belong to ue only: kept as they are.
	m.snowplow.Add("ue_px", f.uePx)
	m.snowplow.Add("ue_pr", f.uePr)
	if m.kind == structured {
		ev.Name, invalid = protocol.Text("/se_ac", f.action, protocol.MaxNameBytes, true)
		if invalid == nil && ev.Name == "" {
			invalid = &event.Invalid{Pointer: "/se_ac", Code: event.CodeRequired, Detail: "a structured event has an action"}
		}
	}
	if len(m.data) > 0 {
		m.object = m.data.AppendObject(m.object[:0])
		ev.Data = m.object
	}
	return invalid
}

// selfDescribing reads an event that brings its schema:
//
//	{"schema":"iglu:…/unstruct_event/…",
//	 "data":{"schema":"iglu:com.acme/order/jsonschema/2-0-0","data":{…}}}
func (m *mapping) selfDescribing(ev *event.Event) *event.Invalid {
	f := &m.fields
	pointer, value := "/ue_px", f.uePx
	if value == nil {
		pointer, value = "/ue_pr", f.uePr
	} else {
		m.snowplow.Add("ue_pr", f.uePr)
	}
	outer, invalid := m.decode(&m.decoded, pointer, value, value != nil && pointer == "/ue_px")
	if invalid != nil {
		return invalid
	}
	inner := dataOf(outer)
	if inner == nil || inner[0] != '{' {
		return &event.Invalid{Pointer: pointer, Code: event.CodeInvalidType, Detail: "its data is no object with schema and data"}
	}
	var schema, data []byte
	_ = event.Members(inner, func(name string, value []byte) bool {
		switch name {
		case "schema":
			schema = value
		case "data":
			data = value
		}
		return true
	})
	uri, invalid := protocol.Text(pointer, schema, 0, false)
	if invalid != nil {
		return invalid
	}
	if ev.Name = schemaName(uri); ev.Name == "" {
		return &event.Invalid{Pointer: pointer, Code: protocol.CodeEncoding, Detail: "the schema of an event is written as iglu:vendor/name/format/version"}
	}
	if invalid := protocol.Within(pointer, ev.Name, protocol.MaxNameBytes); invalid != nil {
		return invalid
	}
	m.snowplow.Add("schema", schema)
	switch {
	case data == nil || data[0] == 'n':
	case data[0] == '{':
		ev.Data = data
	default:
		m.object = append(append(append(m.object[:0], `{"value":`...), data...), '}')
		ev.Data = m.object
	}
	return nil
}

// schemaName returns the name in iglu:vendor/name/format/version, or nothing.
func schemaName(uri string) string {
	rest, ok := strings.CutPrefix(uri, "iglu:")
	vendor, rest, _ := strings.Cut(rest, "/")
	name, rest, _ := strings.Cut(rest, "/")
	format, version, _ := strings.Cut(rest, "/")
	if !ok || vendor == "" || format == "" || version == "" || strings.Contains(version, "/") {
		return ""
	}
	return name
}

// addContexts reads what surrounds the event:
//
//	{"schema":"iglu:…/contexts/…","data":[{"schema":"…","data":{…}}, …]}
func (m *mapping) addContexts() *event.Invalid {
	f := &m.fields
	pointer, value := "/cx", f.cx
	if value == nil {
		if pointer, value = "/co", f.co; value == nil {
			return nil
		}
	} else {
		m.snowplow.Add("co", f.co)
	}
	outer, invalid := m.decode(&m.contexts, pointer, value, pointer == "/cx")
	if invalid != nil {
		return invalid
	}
	list := dataOf(outer)
	if list == nil || list[0] != '[' {
		return &event.Invalid{Pointer: pointer, Code: event.CodeInvalidType, Detail: "its data is no array of contexts"}
	}
	m.snowplow.Add("contexts", list)
	return nil
}

// decode reads a field that is JSON in a string, perhaps in base64, and returns
// the object. into is the memory for it.
func (m *mapping) decode(into *[]byte, pointer string, value []byte, base64 bool) ([]byte, *event.Invalid) {
	if value == nil {
		return nil, &event.Invalid{Pointer: pointer, Code: event.CodeRequired, Detail: "a self-describing event has this field, or ue_px"}
	}
	text, err := event.AppendUnquoted((*into)[:0], value)
	if err == nil && base64 {
		var ok bool
		if text, ok = protocol.AppendBase64(text[:0], text); !ok {
			err = &event.Invalid{Code: protocol.CodeEncoding, Detail: "it is not base64"}
		}
	}
	if *into = text; err == nil {
		err = event.Check(text, m.limits)
	}
	if err == nil && protocol.TrimDocument(text)[0] != '{' {
		err = &event.Invalid{Code: event.CodeInvalidType, Detail: "an object is needed here"}
	}
	if err != nil {
		invalid := protocol.AsInvalid(err)
		detail := invalid.Detail
		if invalid.Pointer != "" {
			detail = "in it, at " + invalid.Pointer + ": " + detail
		}
		return nil, &event.Invalid{Pointer: pointer, Code: invalid.Code, Detail: detail}
	}
	return text, nil
}

// dataOf returns the member data of an object that was checked.
func dataOf(object []byte) (data []byte) {
	_ = event.Members(object, func(name string, value []byte) bool {
		if name == "data" {
			data = value
		}
		return data == nil
	})
	return data
}

// identities fills in the ids.
func (m *mapping) identities(ev *event.Event) (invalid *event.Invalid) {
	f := &m.fields
	if ev.ID, invalid = protocol.Text("/eid", f.eid, protocol.MaxIDBytes, true); invalid != nil {
		return invalid
	}
	if ev.UserID, invalid = protocol.Text("/uid", f.uid, protocol.MaxUserBytes, true); invalid != nil {
		return invalid
	}
	for _, field := range [...]struct {
		pointer string
		value   []byte
	}{{"/duid", f.duid}, {"/tnuid", f.tnuid}, {"/nuid", f.nuid}} {
		if ev.AnonymousID != "" {
			m.snowplow.Add(field.pointer[1:], field.value)
			continue
		}
		if ev.AnonymousID, invalid = protocol.Text(field.pointer, field.value, protocol.MaxUserBytes, true); invalid != nil {
			return invalid
		}
	}
	return nil
}

// timestamp fills in when it happened. ttm is a time that the page or the
// server has set and stands for itself; dtm is of the device's clock, as stm
// is. A time that cannot be read is none, and is kept among the fields.
func (m *mapping) timestamp(ev *event.Event) {
	f := &m.fields
	at, ok := millis(f.ttm)
	if !ok {
		if at, ok = millis(f.dtm); !ok {
			return
		}
		if sent, known := millis(f.stm); known {
			at = protocol.Corrected(at, sent, m.received)
		}
	}
	m.time = protocol.AppendTime(m.time[:0], at)
	ev.Timestamp = protocol.View(m.time)
}

// millis reads milliseconds since 1970, of the years 1970 to 9999.
func millis(value []byte) (time.Time, bool) {
	if value == nil {
		return time.Time{}, false
	}
	text, invalid := protocol.Text("", value, 0, true)
	n, err := strconv.ParseInt(text, 10, 64)
	const end = 253402300800000 // the year 10000
	if invalid != nil || err != nil || n < 0 || n >= end {
		return time.Time{}, false
	}
	return time.UnixMilli(n), true
}
