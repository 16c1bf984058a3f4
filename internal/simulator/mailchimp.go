package simulator

import (
	"crypto/md5" //nolint:gosec // it names members, and protects nothing
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Credentials and audience of the simulated Mailchimp account.
const (
	mailchimpKey  = "51a0000000000000000000000000513a-us1"
	mailchimpList = "51a513a000"
)

// Limits.
const (
	// Source: Mailchimp, Marketing API fundamentals (read 2026-08).
	mailchimpConnections = 10
	// mailchimpRequest is ours: Mailchimp names no size.
	mailchimpRequest = 10 << 20
	// What the simulator remembers.
	mailchimpMembers = 200_000
	mailchimpBatches = 500
)

// mailchimp is the Marketing API of one account with one audience.
type mailchimp struct {
	shelf *shelf
	count atomic.Uint64 // of batches

	mu      sync.Mutex
	members map[string]*mailchimpMember // by hash
	order   []string                    // of members, oldest first
	batches map[string]mailchimpBatch
	last    []string // ids of batches, oldest first
}

type mailchimpMember struct {
	ID          string         `json:"id"`
	Email       string         `json:"email_address"`
	ContactID   string         `json:"contact_id"`
	Status      string         `json:"status"`
	MergeFields map[string]any `json:"merge_fields"`
	ListID      string         `json:"list_id"`
	LastChanged time.Time      `json:"last_changed"`
}

type mailchimpBatch struct {
	ID          string     `json:"id"`
	Status      string     `json:"status"`
	Total       int        `json:"total_operations"`
	Finished    int        `json:"finished_operations"`
	Errored     int        `json:"errored_operations"`
	SubmittedAt time.Time  `json:"submitted_at"`
	CompletedAt *time.Time `json:"completed_at,omitempty"`
	ResultsURL  string     `json:"response_body_url"`
}

func newMailchimp(s *shelf) *mailchimp {
	return &mailchimp{shelf: s, members: make(map[string]*mailchimpMember), batches: make(map[string]mailchimpBatch)}
}

func (*mailchimp) settings(baseURL string) any {
	return struct {
		APIKey   string `json:"api_key"`
		ListID   string `json:"list_id"`
		Endpoint string `json:"endpoint"`
	}{mailchimpKey, mailchimpList, baseURL}
}

// mailchimpField is one entry of the errors of a problem.
type mailchimpField struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

func mailchimpSays(c *call, status int, title, detail string, fields ...mailchimpField) answer {
	return typed(status, "application/problem+json; charset=utf-8", raw(struct {
		Type     string           `json:"type"`
		Title    string           `json:"title"`
		Status   int              `json:"status"`
		Detail   string           `json:"detail"`
		Instance string           `json:"instance"`
		Errors   []mailchimpField `json:"errors,omitempty"`
	}{"https://mailchimp.com/developer/marketing/docs/errors/", title, status, detail, correlation(c), fields}))
}

func (*mailchimp) denied(c *call) answer {
	return mailchimpSays(c, http.StatusUnauthorized, "API Key Invalid",
		"Your API key may be invalid, or you've attempted to access the wrong datacenter.")
}

// throttled has three forms, and none says how long to wait: at high volume
// there is no body, and the status may be 403.
func (*mailchimp) throttled(c *call, _ time.Duration) answer {
	switch flavour := c.share(flavourShare); {
	case flavour < 1./3:
		return mailchimpSays(c, http.StatusTooManyRequests, "Too Many Requests",
			"You have exceeded the limit of 10 simultaneous connections.")
	case flavour < 2./3:
		return bare(http.StatusTooManyRequests)
	}
	return bare(http.StatusForbidden)
}

func (m *mailchimp) status(c *call, code int) answer {
	switch {
	case code == http.StatusUnauthorized:
		return m.denied(c)
	case code == http.StatusForbidden:
		return mailchimpSays(c, code, "Forbidden", "You are not permitted to access this resource.")
	case code == http.StatusNotFound:
		return m.missing(c)
	case code == http.StatusTooManyRequests:
		return m.throttled(c, 0)
	case code == http.StatusInternalServerError:
		return mailchimpSays(c, code, "Internal Server Error", "An unexpected internal error has occurred. Please contact Support for more information.")
	case code >= 500:
		return edge(code)
	}
	return mailchimpSays(c, code, "Bad Request", http.StatusText(code))
}

func (*mailchimp) missing(c *call) answer {
	return mailchimpSays(c, http.StatusNotFound, "Resource Not Found", "The requested resource could not be found.")
}

// invalid is the 400 of a body that does not have the right form.
func (*mailchimp) invalid(c *call, f *flaw) answer {
	return mailchimpSays(c, http.StatusBadRequest, "Invalid Resource",
		"The resource submitted could not be validated. For field-specific details, see the 'errors' array.",
		mailchimpField{f.field(), f.rule})
}

func (m *mailchimp) serve(c *call) answer {
	if c.open > mailchimpConnections {
		return c.tooMany(m, 0)
	}
	key, ok := c.bearer()
	if !ok {
		_, key, _ = c.r.BasicAuth() // any user name
	}
	if key != mailchimpKey {
		return m.denied(c)
	}
	body, err := c.body(mailchimpRequest, false)
	if err != nil {
		return mailchimpSays(c, http.StatusBadRequest, "JSON Parse Error", "We encountered an unspecified JSON parsing error. "+err.Error())
	}
	path, ok := strings.CutPrefix(c.r.URL.EscapedPath(), "/3.0")
	if !ok {
		return m.missing(c)
	}
	return m.do(c, c.r.Method, path, body, false)
}

// do carries out one operation: a call, or one of a batch of operations.
func (m *mailchimp) do(c *call, method, path string, body []byte, inBatch bool) answer {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, part := range parts {
		parts[i], _ = url.PathUnescape(part)
	}
	at := func(want string, length int) bool {
		return method == want && len(parts) == length
	}
	if at(http.MethodGet, 1) && parts[0] == "ping" {
		return asJSON(http.StatusOK, map[string]string{"health_status": "Everything's Chimpy!"})
	}
	if parts[0] == "batches" && !inBatch {
		switch {
		case at(http.MethodPost, 1):
			return m.batch(c, body)
		case at(http.MethodGet, 2):
			return m.progress(c, parts[1])
		}
	}
	if parts[0] != "lists" || len(parts) < 2 || parts[1] != mailchimpList {
		return m.missing(c)
	}
	if at(http.MethodGet, 2) {
		m.mu.Lock()
		count := len(m.members)
		m.mu.Unlock()
		return asJSON(http.StatusOK, map[string]any{
			"id": mailchimpList, "name": "Simulated audience", "double_optin": false,
			"stats": map[string]int{"member_count": count},
		})
	}
	var (
		serve   func(c *call, parts []string, doc any) answer
		request string
	)
	switch {
	case at(http.MethodPost, 2):
		serve, request = m.listBatch, "mailchimp.list-batch.request"
	case at(http.MethodPut, 4) && parts[2] == "members":
		serve, request = m.put, "mailchimp.member-put.request"
	case at(http.MethodPost, 5) && parts[2] == "members" && parts[4] == "events":
		serve, request = m.event, "mailchimp.event.request"
	case at(http.MethodPost, 5) && parts[2] == "members" && parts[4] == "tags":
		serve, request = m.tags, "mailchimp.tags.request"
	default:
		return m.missing(c)
	}
	doc, err := decode(body)
	if err != nil {
		return mailchimpSays(c, http.StatusBadRequest, "JSON Parse Error", "We encountered an unspecified JSON parsing error.")
	}
	if f := check(request, doc); f != nil {
		m.shelf.refuse(1)
		return m.invalid(c, f)
	}
	return serve(c, parts, doc)
}

// mailchimpHash names a member: "the MD5 hash of the lowercase version of the
// list member's email address".
func mailchimpHash(email string) string {
	sum := md5.Sum([]byte(strings.ToLower(email))) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// find returns a member by hash, address or contact id. m.mu is held.
func (m *mailchimp) find(name string) *mailchimpMember {
	if strings.Contains(name, "@") {
		name = mailchimpHash(name)
	}
	if id, ok := strings.CutPrefix(name, "contact-"); ok {
		name = id
	}
	return m.members[name]
}

// put creates a member or changes one.
func (m *mailchimp) put(c *call, parts []string, doc any) answer {
	email := text(doc, "email_address")
	item := Item{Kind: "member", User: email, Body: raw(doc)}
	hash := mailchimpHash(email)
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.find(parts[3])
	refused := func(a answer) answer {
		m.shelf.refuse(1)
		return a
	}
	merge, _ := member(doc, "merge_fields").(map[string]any)
	switch f := mailchimpMerge(merge); {
	case known == nil && parts[3] != hash && !strings.EqualFold(parts[3], email):
		return refused(m.invalid(c, &flaw{path: []string{"subscriber_hash"}, rule: "is not the MD5 hash of the lowercase address"}))
	case f != nil:
		return refused(m.invalid(c, f))
	case c.refuses(item):
		return refused(mailchimpSays(c, http.StatusBadRequest, "Invalid Resource", email+" looks fake or invalid, please enter a real email address."))
	case known != nil && text(doc, "status") == "subscribed" && (known.Status == "unsubscribed" || known.Status == "cleaned"):
		return refused(mailchimpSays(c, http.StatusBadRequest, "Member In Compliance State",
			email+" is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."))
	}
	status := text(doc, "status")
	if status == "" && known == nil {
		status = text(doc, "status_if_new")
	}
	changed := m.write(c, hash, email, status, merge)
	m.shelf.take(item)
	return asJSON(http.StatusOK, changed)
}

// mailchimpMerge looks at merge fields that have parts.
func mailchimpMerge(fields map[string]any) *flaw {
	parts, ok := fields["ADDRESS"].(map[string]any)
	if !ok {
		return nil
	}
	for _, name := range []string{"addr1", "city", "state", "zip"} {
		if text(parts, name) == "" {
			return &flaw{path: []string{"merge_fields", "ADDRESS", name}, rule: "is required"}
		}
	}
	return nil
}

// write keeps a member. A status that is empty changes nothing. m.mu is held.
func (m *mailchimp) write(c *call, hash, email, status string, merge map[string]any) mailchimpMember {
	known := m.members[hash]
	if known == nil {
		if len(m.order) >= mailchimpMembers {
			delete(m.members, m.order[0])
			m.order = m.order[1:]
		}
		known = &mailchimpMember{ID: hash, ContactID: "contact-" + hash, ListID: mailchimpList, MergeFields: map[string]any{}}
		m.members[hash] = known
		m.order = append(m.order, hash)
	}
	known.Email, known.LastChanged = email, c.now
	if status != "" {
		known.Status = status
	}
	fields := map[string]any{} // a copy: the old one may be on its way to a client
	for _, from := range []map[string]any{known.MergeFields, merge} {
		for name, value := range from {
			fields[name] = value
		}
	}
	known.MergeFields = fields
	return *known
}

// event notes an event of a member; it may start an automation, as often as it
// is sent.
func (m *mailchimp) event(c *call, parts []string, doc any) answer {
	return m.about(c, parts[3], Item{
		ID: text(member(doc, "properties"), "event_id"), Kind: "event", Name: text(doc, "name"), Body: raw(doc),
	})
}

func (m *mailchimp) tags(c *call, parts []string, doc any) answer {
	return m.about(c, parts[3], Item{Kind: "tags", Body: raw(doc)})
}

// about takes something about a member who exists.
func (m *mailchimp) about(c *call, name string, item Item) answer {
	m.mu.Lock()
	who := m.find(name)
	if who != nil {
		item.User = who.Email
	}
	m.mu.Unlock()
	switch {
	case who == nil:
		m.shelf.refuse(1)
		return m.missing(c)
	case c.refuses(item):
		m.shelf.refuse(1)
		return mailchimpSays(c, http.StatusBadRequest, "Bad Request", "The simulator was told to refuse this.")
	}
	m.shelf.take(item)
	return bare(http.StatusNoContent)
}

// listBatch writes many members at once: 200, whatever becomes of each.
func (m *mailchimp) listBatch(c *call, _ []string, doc any) answer {
	type failure struct {
		Email        string `json:"email_address"`
		Error        string `json:"error"`
		Code         string `json:"error_code"`
		Field        string `json:"field"`
		FieldMessage string `json:"field_message"`
	}
	reply := struct {
		New          []mailchimpMember `json:"new_members"`
		Updated      []mailchimpMember `json:"updated_members"`
		Errors       []failure         `json:"errors"`
		TotalCreated int               `json:"total_created"`
		TotalUpdated int               `json:"total_updated"`
		ErrorCount   int               `json:"error_count"`
	}{[]mailchimpMember{}, []mailchimpMember{}, []failure{}, 0, 0, 0}
	update, _ := member(doc, "update_existing").(bool)
	inputs, _ := member(doc, "members").([]any)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, input := range inputs {
		email, status := text(input, "email_address"), text(input, "status")
		item := Item{Kind: "member", User: email, Body: raw(input)}
		known := m.members[mailchimpHash(email)]
		merge, _ := member(input, "merge_fields").(map[string]any)
		failed := failure{Email: email, Code: "ERROR_GENERIC"}
		switch {
		case !address(email), c.refuses(item):
			failed.Error = email + " looks fake or invalid, please enter a real email address."
		case known != nil && !update:
			failed.Code = "ERROR_CONTACT_EXISTS"
			failed.Error = email + ` is already a list member, do you want to update? please provide "update_existing:true" in the request body`
		case known == nil && status == "":
			failed.Error, failed.Field, failed.FieldMessage = "A status is required", "status", "This value should not be blank."
		case known != nil && status == "subscribed" && (known.Status == "unsubscribed" || known.Status == "cleaned"):
			failed.Error = email + " is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."
		default:
			written := m.write(c, mailchimpHash(email), email, status, merge)
			if known == nil {
				reply.New = append(reply.New, written)
			} else {
				reply.Updated = append(reply.Updated, written)
			}
			m.shelf.take(item)
			continue
		}
		m.shelf.refuse(1)
		reply.Errors = append(reply.Errors, failed)
	}
	reply.TotalCreated, reply.TotalUpdated, reply.ErrorCount = len(reply.New), len(reply.Updated), len(reply.Errors)
	return asJSON(http.StatusOK, reply)
}

// batch takes operations to be carried out later. Here that is at once; who
// asks finds them finished. There is no archive of results.
func (m *mailchimp) batch(c *call, body []byte) answer {
	doc, err := decode(body)
	if err != nil {
		return mailchimpSays(c, http.StatusBadRequest, "JSON Parse Error", "We encountered an unspecified JSON parsing error.")
	}
	if f := check("mailchimp.batches.request", doc); f != nil {
		return m.invalid(c, f)
	}
	operations := member(doc, "operations").([]any)
	b := mailchimpBatch{
		ID:     fmt.Sprintf("%010x", m.count.Add(1)),
		Status: "finished", Total: len(operations), Finished: len(operations), SubmittedAt: c.now, CompletedAt: &c.now,
	}
	for _, operation := range operations {
		path, _, _ := strings.Cut(text(operation, "path"), "?")
		if a := m.do(c, text(operation, "method"), path, []byte(text(operation, "body")), true); a.status >= 400 {
			b.Errored++
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.last) >= mailchimpBatches {
		delete(m.batches, m.last[0])
		m.last = m.last[1:]
	}
	m.batches[b.ID] = b
	m.last = append(m.last, b.ID)
	b.Status, b.Finished, b.Errored, b.CompletedAt = "pending", 0, 0, nil
	return asJSON(http.StatusOK, b)
}

func (m *mailchimp) progress(c *call, id string) answer {
	m.mu.Lock()
	b, ok := m.batches[id]
	m.mu.Unlock()
	if !ok {
		return m.missing(c)
	}
	return asJSON(http.StatusOK, b)
}
