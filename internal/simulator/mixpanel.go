package simulator

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Credentials that the simulated Mixpanel accepts.
const (
	mixpanelToken   = "simulated-mixpanel-token"
	mixpanelUser    = "simulated.mp-service-account"
	mixpanelSecret  = "simulated-mixpanel-secret"
	mixpanelProject = "1234567"
)

// Limits. Source: Mixpanel, Import Events and its OpenAPI file (read 2026-11).
const (
	// mixpanelRequest is what the 413 of the OpenAPI file says; the page says
	// 10 MB. Who keeps the smaller one is right with both.
	mixpanelRequest = 2_097_152
	mixpanelEvents  = 2000
	mixpanelEvent   = 1 << 20 // "smaller than 1MB"
	// "2GB of uncompressed JSON/minute or ~30k events per second, measured on
	// a rolling 1 minute basis".
	mixpanelBytesMinute  = 2 << 30
	mixpanelEventsMinute = 30_000 * 60
)

// mixpanel is the ingestion API of Mixpanel: /import, /engage and /groups.
type mixpanel struct {
	shelf         *shelf
	seen          *seen
	bytes, events quota
}

func newMixpanel(s *shelf) *mixpanel {
	return &mixpanel{
		shelf: s, seen: newSeen(0),
		bytes:  quota{limit: mixpanelBytesMinute, window: time.Minute},
		events: quota{limit: mixpanelEventsMinute, window: time.Minute},
	}
}

func (*mixpanel) settings(baseURL string) any {
	return struct {
		Token    string `json:"token"`
		Endpoint string `json:"endpoint"`
	}{mixpanelToken, baseURL}
}

// mixpanelReply is the JSON that /import answers.
type mixpanelReply struct {
	Code     int              `json:"code"`
	Error    string           `json:"error,omitempty"`
	Failed   []mixpanelFailed `json:"failed_records,omitempty"`
	Imported *int             `json:"num_records_imported,omitempty"`
	Status   string           `json:"status"`
}

// mixpanelFailed is one record that was not taken. The id is spelled
// "$insert_id" on the page and "insert_id" in the OpenAPI file.
type mixpanelFailed struct {
	Index   int     `json:"index"`
	PageID  *string `json:"$insert_id,omitempty"`
	FileID  *string `json:"insert_id,omitempty"`
	Field   string  `json:"field"`
	Message string  `json:"message"`
}

func mixpanelSays(code int, err string) answer {
	return asJSON(code, mixpanelReply{Code: code, Error: err, Status: http.StatusText(code)})
}

func (*mixpanel) denied(*call) answer {
	return mixpanelSays(http.StatusUnauthorized, "Invalid credentials")
}

func (*mixpanel) throttled(*call, time.Duration) answer {
	return mixpanelSays(http.StatusTooManyRequests, "Project exceeded rate limits. Please retry the request with exponential backoff.")
}

func (m *mixpanel) status(c *call, code int) answer {
	switch {
	case code == http.StatusUnauthorized:
		return m.denied(c)
	case code == http.StatusTooManyRequests:
		return m.throttled(c, 0)
	case code >= 500:
		return edge(code)
	}
	return mixpanelSays(code, strings.ToLower(http.StatusText(code)))
}

func (m *mixpanel) serve(c *call) answer {
	switch {
	case c.is(http.MethodPost, "/import"):
		return m.imports(c)
	case c.is(http.MethodPost, "/engage"):
		return m.profiles(c, "profile", "$distinct_id", "mixpanel.engage.request#/items")
	case c.is(http.MethodPost, "/groups"):
		return m.profiles(c, "group", "$group_id", "mixpanel.groups.request#/items")
	}
	return mixpanelSays(http.StatusNotFound, "not found")
}

// known reports whether the call may import: with the project's token as user
// name, or with a service account and the project.
func (*mixpanel) known(c *call) bool {
	user, password, ok := c.r.BasicAuth()
	if project := c.query("project_id"); project != "" && user == mixpanelUser {
		return ok && password == mixpanelSecret && project == mixpanelProject
	}
	return ok && user == mixpanelToken && password == ""
}

func (m *mixpanel) imports(c *call) answer {
	if !m.known(c) {
		return m.denied(c)
	}
	records, refusal := m.records(c)
	if refusal != nil {
		return *refusal
	}
	var failed []mixpanelFailed
	imported := 0
	for i, record := range records {
		f := m.wrong(c, record)
		if f == nil {
			imported++
			m.take(c, record)
			continue
		}
		f.Index = i
		id := text(member(record.doc, "properties"), "$insert_id")
		if c.n%2 == 0 {
			f.PageID = &id
		} else {
			f.FileID = &id
		}
		failed = append(failed, *f)
	}
	if c.query("strict") != "1" {
		for _, f := range failed {
			m.shelf.drop(f.Message, records[f.Index].raw)
		}
		failed = nil
	}
	m.shelf.refuse(len(failed))
	reply := mixpanelReply{Code: http.StatusOK, Status: "OK", Imported: &imported}
	if len(failed) > 0 {
		reply.Code, reply.Status = http.StatusBadRequest, http.StatusText(http.StatusBadRequest)
		reply.Failed, reply.Error = failed, mixpanelInvalid
	}
	return asJSON(reply.Code, reply)
}

const mixpanelInvalid = "some data points in the request failed validation"

// records reads a request: an answer if it cannot be taken as a whole.
func (m *mixpanel) records(c *call) ([]record, *answer) {
	says := func(code int, format string, args ...any) ([]record, *answer) {
		a := mixpanelSays(code, fmt.Sprintf(format, args...))
		return nil, &a
	}
	body, err := c.body(mixpanelRequest, true)
	switch {
	case err == errTooLarge:
		return says(http.StatusRequestEntityTooLarge, "request exceeds max limit of %d bytes", mixpanelRequest)
	case err != nil:
		return says(http.StatusBadRequest, "%v", err)
	}
	records, err := mixpanelRecords(body, c.mediaType())
	switch {
	case err != nil:
		return says(http.StatusBadRequest, "%v", err)
	case len(records) == 0:
		// The file wants one at least; the page does not say.
		return says(http.StatusBadRequest, "no data points in the request")
	case len(records) > mixpanelEvents:
		return says(http.StatusRequestEntityTooLarge, "request exceeds max limit of %d records", mixpanelEvents)
	}
	_, _, fewBytes := m.bytes.take(c, int64(len(body)))
	_, _, fewEvents := m.events.take(c, int64(len(records)))
	if !fewBytes || !fewEvents {
		a := c.tooMany(m, 0)
		return nil, &a
	}
	return records, nil
}

// mixpanelRecords reads a JSON array, or one document a line.
func mixpanelRecords(body []byte, mediaType string) ([]record, error) {
	switch mediaType {
	case "", "application/json":
		return list(body)
	case "application/x-ndjson":
		var records []record
		for line := range bytes.Lines(body) {
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			doc, err := decode(line)
			if err != nil {
				return nil, fmt.Errorf("line %d is not JSON", len(records)+1)
			}
			records = append(records, record{slices.Clone(line), doc})
		}
		return records, nil
	}
	return nil, fmt.Errorf("unsupported content type %q", mediaType)
}

// mixpanelMoment reads time, which is in seconds or in milliseconds: seconds of the year
// 5138 are milliseconds of 1973.
func mixpanelMoment(value any) time.Time {
	n, _ := number(value) // what is too large to be a moment is one of 1970
	if n >= 100_000_000_000 {
		return time.UnixMilli(n)
	}
	return time.Unix(n, 0)
}

// wrong returns what Mixpanel has against an event, nil if nothing.
func (*mixpanel) wrong(c *call, event record) *mixpanelFailed {
	if len(event.raw) >= mixpanelEvent {
		return &mixpanelFailed{Field: "", Message: "event exceeds max limit of 1048576 bytes"}
	}
	if f := check("mixpanel.import.request#/items", event.doc); f != nil {
		return &mixpanelFailed{Field: f.field(), Message: "'" + f.field() + "' is invalid: " + f.rule}
	}
	properties := member(event.doc, "properties")
	at := mixpanelMoment(member(properties, "time"))
	switch {
	case at.Before(time.Unix(31_536_000, 0)):
		return &mixpanelFailed{Field: "properties.time", Message: "'properties.time' is invalid: must be on or after 1971-01-01"}
	case at.After(c.now.Add(time.Hour)):
		return &mixpanelFailed{Field: "properties.time", Message: "'properties.time' is invalid: must not be more than 1 hour in the future"}
	case c.refuses(mixpanelItem(event)):
		return &mixpanelFailed{Field: "properties", Message: "'properties' is invalid: the simulator was told to refuse this event"}
	}
	return nil
}

func mixpanelItem(event record) Item {
	properties := member(event.doc, "properties")
	return Item{
		ID: text(properties, "$insert_id"), Kind: "event", Name: text(event.doc, "event"),
		User: text(properties, "distinct_id"), Body: event.raw,
	}
}

// take keeps an event, once for each (event, time, distinct_id, $insert_id).
func (m *mixpanel) take(c *call, event record) {
	item := mixpanelItem(event)
	at := mixpanelMoment(member(member(event.doc, "properties"), "time"))
	if !m.seen.add(c.now, item.Name, strconv.FormatInt(at.UnixMilli(), 10), item.User, item.ID) {
		m.shelf.duplicate()
		return
	}
	m.shelf.take(item)
}

// profiles is /engage and /groups: updates, each with the project's token.
// A token of no project is not told: the update is thrown away. In strict mode
// there is JSON with what is wrong with each; else the text 1 if any update is
// valid and 0 if none is, or, if verbose, JSON with that and one error.
func (m *mixpanel) profiles(c *call, kind, who, form string) answer {
	records, refusal := m.records(c)
	if refusal != nil {
		return *refusal
	}
	var failed []mixpanelFailed
	for i, update := range records {
		item := Item{Kind: kind, User: text(update.doc, who), Body: update.raw}
		f := check(form, update.doc)
		switch {
		case f == nil && c.refuses(item):
			f = &flaw{path: []string{"$set"}, rule: "the simulator was told to refuse this update"}
		case f == nil && (c.trouble.Denied || text(update.doc, "$token") != mixpanelToken):
			m.shelf.drop("$token is of no project", update.raw)
			continue
		case f == nil:
			m.shelf.take(item)
			continue
		}
		failed = append(failed, mixpanelFailed{Index: i, PageID: new(""), Field: f.field(), Message: "'" + f.field() + "' is invalid: " + f.rule})
	}
	switch {
	case c.query("strict") == "1":
		good := len(records) - len(failed)
		m.shelf.refuse(len(failed))
		reply := struct {
			Code   int              `json:"code"`
			Error  string           `json:"error,omitempty"`
			Failed []mixpanelFailed `json:"failed_records,omitempty"`
			Good   int              `json:"num_good_events"`
			Status string           `json:"status"`
		}{Code: http.StatusOK, Good: good, Status: "OK"}
		if len(failed) > 0 {
			reply.Code, reply.Status = http.StatusBadRequest, http.StatusText(http.StatusBadRequest)
			reply.Failed, reply.Error = failed, mixpanelInvalid
		}
		return asJSON(reply.Code, reply)
	case len(failed) < len(records):
		for _, f := range failed {
			m.shelf.drop(f.Message, records[f.Index].raw)
		}
		if c.query("verbose") == "1" {
			return asJSON(http.StatusOK, map[string]any{"status": 1, "error": ""})
		}
		return asText(http.StatusOK, "1")
	}
	m.shelf.refuse(len(failed))
	if c.query("verbose") == "1" {
		return asJSON(http.StatusOK, map[string]any{"status": 0, "error": failed[0].Message})
	}
	return asText(http.StatusOK, "0")
}
