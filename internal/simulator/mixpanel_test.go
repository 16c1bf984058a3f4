package simulator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

func newMixpanelVendor(t *testing.T) *vendor {
	return newVendor(t, "mixpanel", basic(mixpanelToken, ""))
}

// signup is an event that Mixpanel accepts, with changes to its properties.
func signup(id string, changes ...any) object {
	properties := changed(object{"time": time.Now().UnixMilli(), "distinct_id": "u-1", "$insert_id": id, "plan": "pro"}, changes)
	return object{"event": "Signed Up", "properties": properties}
}

// keys is an object of n members.
func keys(n int) object {
	o := object{}
	for i := range n {
		o[fmt.Sprint("k", i)] = i
	}
	return o
}

// wide is an event of n properties.
func wide(n int) object {
	o := keys(n - 3)
	o["time"], o["distinct_id"], o["$insert_id"] = 1790000000, "u", "wide"
	return object{"event": "x", "properties": o}
}

func many(n int, item any) []any {
	all := make([]any, n)
	for i := range all {
		all[i] = item
	}
	return all
}

func TestMixpanelTakesEventsOnce(t *testing.T) {
	t.Parallel()
	v := newMixpanelVendor(t)
	v.Define("Another") // which is for vendors that have definitions
	events := asked([]any{signup("a", "time", 1790000000000), signup("b", "time", 1790000000)})
	v.call(t, request{path: "/import?strict=1", body: events}).wants(t, 200, `"num_records_imported":2`, `"status":"OK"`)
	// Again, packed: they are imported, and there once.
	v.call(t, request{path: "/import?strict=1", body: events, gzip: true}).wants(t, 200, `"num_records_imported":2`)
	// Seconds and milliseconds of the same moment are the same.
	again := asked([]any{signup("b", "time", 1790000000000)})
	v.call(t, request{path: "/import?strict=1", body: again}).wants(t, 200)
	// Any part of the key makes another event.
	v.call(t, request{path: "/import?strict=1", body: asked([]any{signup("b", "time", 1790000001), signup("b", "time", 1790000000, "distinct_id", "")})}).wants(t, 200)
	v.wantItems(t, "event Signed Up u-1 a", "event Signed Up u-1 b", "event Signed Up u-1 b", "event Signed Up  b")
	if got := v.Counts(); got != (Counts{Calls: 4, Taken: 4, Duplicates: 3}) {
		t.Errorf("counts %+v", got)
	}
}

func TestMixpanelTakesOneDocumentALine(t *testing.T) {
	t.Parallel()
	v := newMixpanelVendor(t)
	lines := asked(signup("a")) + "\n\n" + asked(signup("b")) + "\n"
	ndjson := map[string]string{"Content-Type": "application/x-ndjson"}
	v.call(t, request{path: "/import?strict=1", body: lines, header: ndjson}).wants(t, 200, `"num_records_imported":2`)
	v.call(t, request{path: "/import?strict=1", body: lines}).wants(t, 400, "not a JSON array")
	v.call(t, request{path: "/import?strict=1", body: "{", header: ndjson}).wants(t, 400, "line 1")
	v.call(t, request{path: "/import?strict=1", body: "[]", header: map[string]string{"Content-Type": "text/csv"}}).wants(t, 400, "content type")
}

func TestMixpanelNamesWhatItDoesNotTakeAndTakesTheRest(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, test := range map[string]struct {
		event any
		field string
	}{
		"no time":                {signup("x", "time", nil), "properties.time"},
		"time as text":           {signup("x", "time", "now"), "properties.time"},
		"before 1971":            {signup("x", "time", 31_535_999), "properties.time"},
		"more than an hour on":   {signup("x", "time", now.Add(time.Hour+time.Minute).Unix()), "properties.time"},
		"no distinct_id":         {signup("x", "distinct_id", nil), "properties.distinct_id"},
		"banned distinct_id":     {signup("x", "distinct_id", "undefined"), "properties.distinct_id"},
		"no insert id":           {signup("x", "$insert_id", nil), "properties.$insert_id"},
		"insert id of 37":        {signup(strings.Repeat("x", 37)), "properties.$insert_id"},
		"insert id with a _":     {signup("evt_1"), "properties.$insert_id"},
		"255 properties":         {wide(255), "properties"},
		"a member of its own":    {object{"event": "x", "properties": signup("x")["properties"], "more": 1}, "more"},
		"no name":                {object{"properties": signup("x")["properties"]}, "event"},
		"nested four deep":       {signup("x", "a", object{"b": object{"c": object{"d": object{"e": 1}}}}), "properties.a.b.c.d"},
		"an array of 255":        {signup("x", "a", make([]int, 255)), "properties.a"},
		"an event of a megabyte": {signup("x", "a", strings.Repeat("x", 1<<20)), ""},
		"no object":              {"text", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newMixpanelVendor(t)
			got := v.call(t, request{path: "/import?strict=1", body: asked([]any{signup("ok-1"), test.event, signup("ok-2")})})
			got.wants(t, 400, `"num_records_imported":2`)
			doc := got.json(t)
			failed := member(doc, "failed_records").([]any)
			if index, _ := number(member(failed[0], "index")); len(failed) != 1 || index != 1 || text(failed[0], "field") != test.field || text(failed[0], "message") == "" {
				t.Errorf("failed %v, want field %q of index 1", failed, test.field)
			}
			if flaw := check("mixpanel.import.response", doc); flaw != nil {
				t.Errorf("the answer is not as Mixpanel's: %v", flaw)
			}
			if len(v.Received()) != 2 || v.Counts().Refused != 1 {
				t.Errorf("received %v, counts %+v", v.Received(), v.Counts())
			}
		})
	}
}

func TestMixpanelTakesWhatIsJustWithinItsLimits(t *testing.T) {
	t.Parallel()
	v := newMixpanelVendor(t)
	for name, event := range map[string]any{
		"254 properties":    wide(254),
		"nested three":      signup("x", "a", object{"b": object{"c": object{"d": 1}}}),
		"an array of 254":   signup("x", "a", make([]int, 254)),
		"insert id of 36":   signup(strings.Repeat("x", 36)),
		"an hour ahead":     signup("x", "time", time.Now().Add(time.Hour-time.Minute).Unix()),
		"1971":              signup("x", "time", 31_536_000),
		"no user":           signup("x", "distinct_id", ""),
		"null":              signup("x", "a", []any{nil, true, 1.5, "é"}),
		"nearly a megabyte": signup("x", "a", strings.Repeat("x", 1<<20-200)),
	} {
		v.call(t, request{path: "/import?strict=1", body: asked([]any{event})}).wants(t, 200, `"num_records_imported":1`)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	v.call(t, request{path: "/import?strict=1", body: asked(many(2000, signup("x")))}).wants(t, 200, `"num_records_imported":2000`)
}

func TestMixpanelRefusesWholeCalls(t *testing.T) {
	t.Parallel()
	v := newMixpanelVendor(t)
	big := asked(many(3, signup("x", "a", strings.Repeat("x", 800_000))))
	none := map[string]string{"Authorization": ""}
	for name, test := range map[string]struct {
		request
		status int
		says   string
	}{
		"another token":          {request{path: "/import?strict=1", body: "[]", header: basic("other", "")}, 401, `{"code":401,"error":"Invalid credentials","status":"Unauthorized"}`},
		"no credentials":         {request{path: "/import?strict=1", body: "[]", header: none}, 401, "Invalid credentials"},
		"a password":             {request{path: "/import?strict=1", body: "[]", header: basic(mixpanelToken, "x")}, 401, "Invalid credentials"},
		"account, no project":    {request{path: "/import?strict=1", body: "[]", header: basic(mixpanelUser, mixpanelSecret)}, 401, "Invalid credentials"},
		"account, other project": {request{path: "/import?strict=1&project_id=1", body: "[]", header: basic(mixpanelUser, mixpanelSecret)}, 401, "Invalid credentials"},
		"an empty batch":         {request{path: "/import?strict=1", body: "[]"}, 400, "no data points"},
		"an object":              {request{path: "/import?strict=1", body: "{}"}, 400, "not a JSON array"},
		"not gzip":               {request{path: "/import?strict=1", body: "[]", header: map[string]string{"Content-Encoding": "gzip"}}, 400, "not gzip"},
		"another packing":        {request{path: "/import?strict=1", body: "[]", header: map[string]string{"Content-Encoding": "br"}}, 400, "encoding"},
		"2001 events":            {request{path: "/import?strict=1", body: asked(many(2001, signup("x")))}, 413, "2000 records"},
		"too many bytes":         {request{path: "/import?strict=1", body: big}, 413, "request exceeds max limit of 2097152 bytes"},
		"too many when unpacked": {request{path: "/import?strict=1", body: big, gzip: true}, 413, "request exceeds max limit of 2097152 bytes"},
		"elsewhere":              {request{path: "/track", body: "[]"}, 404, "not found"},
		"asked for":              {request{method: http.MethodGet, path: "/import"}, 404, "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := v.call(t, test.request)
			got.wants(t, test.status, test.says)
			if flaw := check("mixpanel.import.response", got.json(t)); flaw != nil {
				t.Errorf("the answer is not as Mixpanel's: %v", flaw)
			}
		})
	}
	account := basic(mixpanelUser, mixpanelSecret)
	v.call(t, request{path: "/import?strict=1&project_id=" + mixpanelProject, body: asked([]any{signup("x")}), header: account}).wants(t, 200)
}

// Without strict=1 Mixpanel says yes to the bad ones too.
func TestMixpanelDropsInvalidEventsIfNotStrict(t *testing.T) {
	t.Parallel()
	v := newMixpanelVendor(t)
	v.call(t, request{path: "/import", body: asked([]any{signup("a"), signup("b", "time", nil)})}).wants(t, 200, `"num_records_imported":1`)
	v.wantItems(t, "event Signed Up u-1 a")
	v.wantDrops(t, "'properties.time' is invalid: is required")
}

func TestMixpanelProfilesAndGroups(t *testing.T) {
	t.Parallel()
	set := object{"$token": mixpanelToken, "$distinct_id": "u-1", "$set": object{"$email": "a@b.co"}}
	group := object{"$token": mixpanelToken, "$group_key": "Company", "$group_id": "acme", "$set": object{"plan": "pro"}}
	two := object{"$token": mixpanelToken, "$distinct_id": "u-2", "$set": object{}, "$add": object{"n": 1}}
	foreign := object{"$token": "of nobody", "$distinct_id": "u-3", "$set": object{}}
	v := newVendor(t, "mixpanel", nil)
	for _, test := range []struct {
		path   string
		body   any
		status int
		says   string
	}{
		{"/engage?strict=1", []any{set}, 200, `"num_good_events":1`},
		{"/groups?strict=1&verbose=1", []any{group}, 200, `"status":"OK"`},
		{"/engage", []any{set, two}, 200, "1"},
		{"/engage", []any{two}, 200, "0"},
		{"/engage?verbose=1", []any{set}, 200, `{"error":"","status":1}`},
		{"/engage?verbose=1", []any{two}, 200, `"status":0`},
		{"/engage?strict=1", []any{set, two}, 400, `"index":1`},
		{"/engage?strict=1", []any{foreign}, 200, `"num_good_events":1`}, // a yes proves nothing
		{"/groups?strict=1", []any{set}, 400, `"field":"$group_id"`},
		{"/engage?strict=1", []any{}, 400, "no data points"},
		{"/engage?strict=1", many(2001, set), 413, "2000"},
	} {
		v.call(t, request{path: test.path, body: asked(test.body)}).wants(t, test.status, test.says)
		if t.Failed() {
			t.Fatal(test.path, test.says)
		}
	}
	v.wantItems(t, "profile  u-1 ", "group  acme ", "profile  u-1 ", "profile  u-1 ", "profile  u-1 ")
	v.wantDrops(t, "'' is invalid: has more than one of those that exclude each other", "$token is of no project")
}

// "2GB of uncompressed JSON/minute or ~30k events per second, measured on a
// rolling 1 minute basis."
func TestMixpanelThrottlesAfterItsQuota(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newMixpanelVendor(t)
		m := v.api.(*mixpanel)
		m.events.limit = 3
		two := asked([]any{signup("a"), signup("b")})
		v.call(t, request{path: "/import?strict=1", body: two}).wants(t, 200)
		v.call(t, request{path: "/import?strict=1", body: two}).wants(t, 429, "Please retry the request with exponential backoff")
		time.Sleep(time.Minute)
		v.call(t, request{path: "/import?strict=1", body: two}).wants(t, 200)
		if n := v.Counts().Throttled; n != 1 {
			t.Errorf("%d calls throttled", n)
		}
	})
}

// The file is Mixpanel's own: what the simulator accepts it accepts, and what the
// simulator answers has its form.
func TestMixpanelIsAsItsOpenAPIFileSays(t *testing.T) {
	t.Parallel()
	loader := openapi3.NewLoader()
	file, err := loader.LoadFromFile("testdata/mixpanel/ingestion.openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	v := newMixpanelVendor(t)
	v.Trouble(Trouble{Refuse: func(id string) bool { return id == "bad" }})
	update := object{"$token": mixpanelToken, "$distinct_id": "u-1", "$set": object{"$email": "a@b.co"}}
	for _, test := range []struct {
		operation, path string
		body            any
		header          map[string]string
		trouble         Trouble
		status          int
	}{
		{"/import", "/import?strict=1&project_id=" + mixpanelProject, []any{signup("a"), signup("b", "list", []any{1, nil})}, basic(mixpanelUser, mixpanelSecret), Trouble{}, 200},
		{"/import", "/import?strict=1&project_id=", []any{signup("a"), signup("bad", "time", 1)}, nil, Trouble{}, 400},
		{"/import", "/import?strict=1&project_id=", []any{signup("a")}, nil, Trouble{Denied: true}, 401},
		{"/import", "/import?strict=1&project_id=", many(2001, signup("a")), nil, Trouble{}, 413},
		{"/import", "/import?strict=1&project_id=", []any{signup("a")}, nil, Trouble{Throttle: 1}, 429},
		{"/engage#profile-set", "/engage", []any{update}, nil, Trouble{}, 200},
	} {
		v.Trouble(test.trouble)
		body := asked(test.body)
		got := v.call(t, request{path: test.path, body: body, header: test.header})
		if got.status != test.status {
			t.Fatalf("%s: %d %s", test.path, got.status, got.body)
		}
		// The fragment of a path is how the file has several operations at one.
		item := file.Paths.Value(test.operation)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.mixpanel.com"+test.path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		input := &openapi3filter.RequestValidationInput{
			Request: req,
			Route:   &routers.Route{Spec: file, Path: test.operation, PathItem: item, Method: http.MethodPost, Operation: item.Post},
			Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
		}
		if strings.HasSuffix(test.path, "project_id=") {
			input.QueryParams = req.URL.Query()
			input.QueryParams.Set("project_id", "left out with a token, which the page allows")
		}
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil && got.status == 200 {
			t.Errorf("%s: the simulator accepts what the file does not: %v", test.path, err)
		}
		if content := item.Post.Responses.Status(got.status).Value.Content["text/plain"]; content != nil {
			// The file has a number in plain text, which the library takes for a string.
			doc := got.json(t)
			n, _ := number(doc)
			if err := content.Schema.Value.VisitJSON(float64(n)); err != nil || got.header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%s: the answer %q is not as the file says: %v", test.path, got.body, err)
			}
			continue
		}
		err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: input, Status: got.status, Header: got.header,
			Body: io.NopCloser(bytes.NewReader([]byte(got.body))), Options: input.Options,
		})
		if err != nil {
			t.Errorf("%s: the answer %d is not as the file says: %v", test.path, got.status, err)
		}
	}
}
