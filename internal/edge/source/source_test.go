package source

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/edge/limit"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func mustParse(t testing.TB, previous *Keys, format string, args ...any) *Keys {
	t.Helper()
	keys, err := Parse(fmt.Appendf(nil, format, args...), previous)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestFindKnowsAKeyByItsHashAndNothingElse(t *testing.T) {
	t.Parallel()
	keys := mustParse(t, nil, `{"keys":[
		{"id":"web","kind":"write","sha256":%q},
		{"id":"old","kind":"secret","source":"erp","sha256":%q,"disabled":true},
		{"id":"trial","kind":"write","sha256":%q,"expires_at":"2026-11-23T12:00:00Z"}]}`,
		Hash("wk_1"), strings.ToUpper(Hash("sk_1")), Hash("wk_2"))

	if k := keys.Find([]byte("wk_1")); k == nil || k.ID != "web" || k.Source != "web" || k.State(noon) != Active {
		t.Errorf("wk_1 is %+v", k)
	}
	if k := keys.Find([]byte("sk_1")); k == nil || k.Source != "erp" || k.State(noon) != Disabled {
		t.Errorf("sk_1 is %+v", k)
	}
	trial := keys.Find([]byte("wk_2"))
	if trial.State(noon.Add(-1)) != Active || trial.State(noon) != Expired {
		t.Error("a key ends at expires_at, not before and not after")
	}
	for _, unknown := range []string{"", "wk_", "wk_1 ", "WK_1", Hash("wk_1")} {
		if k := keys.Find([]byte(unknown)); k != nil {
			t.Errorf("%q found %s", unknown, k.ID)
		}
	}
	var ids []string
	for _, k := range keys.List() {
		ids = append(ids, k.ID)
	}
	if !slices.Equal(ids, []string{"web", "old", "trial"}) {
		t.Errorf("listed as %v", ids)
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind    Kind
		origins string
		allowed []string
		refused []string
	}{
		{Write, ``, []string{"", "https://a.example", "null"}, nil},
		{Write, `"*"`, []string{"", "https://a.example", "null"}, nil},
		{
			Write, `"https://shop.example","https://*.Shop.example:8443"`,
			[]string{"https://shop.example", "https://www.shop.example:8443", "https://a.b.shop.example:8443"},
			[]string{
				"", "null", "http://shop.example", "https://shop.example:444", "https://shop.example.evil.example",
				"https://.shop.example", "https://evilshop.example:8443", "https://shop.example:8443",
				"https://evil.example/x.shop.example:8443", "https://evil.example:1.shop.example:8443",
				"https://user@x.shop.example:8443", "https://*.shop.example:8443",
			},
		},
		{Secret, ``, []string{""}, []string{"https://a.example", "null"}},
		{Secret, `"https://ops.example"`, []string{"https://ops.example"}, []string{"", "https://a.example"}},
	} {
		origins := ""
		if tt.origins != "" {
			origins = `,"origins":[` + tt.origins + `]`
		}
		keys := mustParse(t, nil, `{"keys":[{"id":"k","kind":%q,"sha256":%q%s}]}`, tt.kind, Hash("k"), origins)
		k := keys.Find([]byte("k"))
		for _, o := range tt.allowed {
			if !k.AllowsOrigin(o) {
				t.Errorf("%s key of [%s] refuses %q", tt.kind, tt.origins, o)
			}
			if o != "" && !keys.AllowsOrigin(o) {
				t.Errorf("preflight of [%s] refuses %q", tt.origins, o)
			}
		}
		for _, o := range tt.refused {
			if k.AllowsOrigin(o) {
				t.Errorf("%s key of [%s] allows %q", tt.kind, tt.origins, o)
			}
			if o != "" && keys.AllowsOrigin(o) {
				t.Errorf("preflight of [%s] allows %q", tt.origins, o)
			}
		}
	}
}

func TestADisabledKeyOpensNoOrigin(t *testing.T) {
	t.Parallel()
	keys := mustParse(t, nil, `{"keys":[{"id":"k","kind":"write","sha256":%q,"disabled":true}]}`, Hash("k"))
	if keys.AllowsOrigin("https://a.example") {
		t.Error("a preflight is allowed by a disabled key")
	}
}

func TestEventNames(t *testing.T) {
	t.Parallel()
	keys := mustParse(t, nil, `{"keys":[{"id":"k","kind":"write","sha256":%q,"events":["order_*","signup"]},
		{"id":"all","kind":"write","sha256":%q,"events":["x","*"]}]}`, Hash("k"), Hash("all"))
	k := keys.Find([]byte("k"))
	for name, want := range map[string]bool{
		"order_": true, "order_paid": true, "signup": true, "signup2": false, "order": false, "": false, "Order_paid": false,
	} {
		if k.AllowsEvent(name) != want {
			t.Errorf("%q allowed: %v", name, !want)
		}
	}
	if !keys.Find([]byte("all")).AllowsEvent("anything") {
		t.Error("* does not allow everything")
	}
}

func TestParseNamesEveryFaultAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Parse(fmt.Appendf(nil, `{"version":1,"keys":[]}`), nil)
	if err == nil || !strings.Contains(err.Error(), `unknown field "version"`) {
		t.Errorf("unknown field of the document: %v", err)
	}
	_, err = Parse(fmt.Appendf(nil, `{"keys":[
		{"id":"web","kind":"public","sha256":"wk_secret","origins":["shop.example"],"events":["a*b"],
		 "rate":{"per_second":0},"colour":"red","disabled":"no","expires_at":"tomorrow"},
		{"id":"web","kind":"write","sha256":%q,"origins":[]},
		{"kind":"write","sha256":%q,"rate":{"per_minute":1}},
		{"id":"rates","kind":"write","sha256":%q,"user_rate":{"burst":-1},"event_rate":5,"address_rate":{"per_second":2e9},"modes":{"user_rate":"observe","event_rate":"off"}},
		{"id":"modes","kind":"write","sha256":%q,"modes":{"user_rate":"observe"}},
		7]}`, Hash("x"), Hash("x"), Hash("y"), Hash("z")), nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`key "web": kind: must be one of write, secret, token, not "public"`,
		`key "web": sha256: must be the SHA-256 of the key`,
		`key "web": origins[0]: "shop.example" is not an origin`,
		`key "web": events[0]: "a*b" is not an event name`,
		`key "web": rate.per_second: must be more than 0`,
		`key "web": colour: unknown field`,
		`key "web": disabled: must be true or false, not "no"`,
		`key "web": expires_at: must be a time`,
		`key "web": id: keys[0] has the same`,
		`key "web": origins: is empty`,
		`keys[2]: id: is missing`,
		`keys[2]: sha256: key "web" has the same`,
		`keys[2]: rate: must be like`,
		`key "rates": user_rate.per_second: must be more than 0`,
		`key "rates": user_rate.burst: must be 0 or more`,
		`key "rates": event_rate: must be like`,
		`key "rates": address_rate.per_second: is more than 1e9`,
		`key "modes": modes.user_rate: the key has no such restriction`,
		`keys[5]: must be an object`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(err.Error(), "wk_secret") {
		t.Error("the error repeats what may be the key itself")
	}
	if t.Failed() {
		t.Logf("got:\n%v", err)
	}
}

func TestParseRefusesWhatIsNotADocument(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{``, `[]`, `null`, `{}`, `{"keys":{}}`, `{"keys":null}`, `{"keys":[}`, `{"keys":[]} x`} {
		if _, err := Parse([]byte(doc), nil); err == nil {
			t.Errorf("%s is accepted", doc)
		}
	}
	if _, err := Parse([]byte("{\"keys\":[\n\n}"), nil); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("a syntax error does not name its line: %v", err)
	}
	if _, err := Parse([]byte(`{"keys":[]}`), nil); err != nil {
		t.Errorf("a document without keys is one: %v", err)
	}
}

func TestRatesAreRulesAsTheirModesWantThem(t *testing.T) {
	t.Parallel()
	keys := mustParse(t, nil, `{"keys":[
		{"id":"all","kind":"write","sha256":%q,"rate":{"per_second":200,"burst":400},"address_rate":{"per_second":50},
		 "user_rate":{"per_second":5,"burst":20},"event_rate":{"per_second":0.5}},
		{"id":"none","kind":"write","sha256":%q},
		{"id":"modes","kind":"write","sha256":%q,"rate":{"per_second":1},"user_rate":{"per_second":1,"burst":1},"event_rate":{"per_second":1},
		 "modes":{"rate":"off","user_rate":"observe","event_rate":"enforce"}},
		{"id":"off","kind":"write","sha256":%q,"rate":{"per_second":1},"modes":{"rate":"off"}}]}`, Hash("a"), Hash("b"), Hash("c"), Hash("d"))
	list := keys.List()
	all := list[0].Limits()
	for kind, rule := range map[limit.Kind]*limit.Rule{limit.Key: all.Key, limit.KeyAddress: all.Address, limit.User: all.User, limit.Name: all.Name} {
		if rule == nil || rule.Kind() != kind {
			t.Errorf("the rule of %v is %v", kind, rule)
		}
	}
	if got := all.User.Rate(); got != (limit.Rate{PerSecond: 5, Burst: 20}) {
		t.Errorf("user_rate is %v", got)
	}
	if !all.PerEvent() || list[1].Limits() != nil || list[1].Limits().PerEvent() || list[3].Limits() != nil {
		t.Error("keys without rates have limits, or one with rates has none")
	}
	modes := list[2].Limits()
	if modes.Key != nil || modes.User == nil || modes.Name == nil {
		t.Fatalf("modes make %+v", modes)
	}
	limiter := limit.New(limit.Config{})
	var r limit.Request
	for range 3 {
		r.Event(modes.User.Of("u"), limit.Bucket{})
	}
	limiter.Judge(&r, noon)
	if r.Overs() != 0 || r.Observed(limit.User) != 2 {
		t.Errorf("a rate in mode observe refuses %d of 3 and observes %d", r.Overs(), r.Observed(limit.User))
	}
}

func TestARateGoesOnAfterAReloadUnlessItHasChanged(t *testing.T) {
	t.Parallel()
	const doc = `{"keys":[{"id":"k","kind":"write","sha256":%q,"rate":{"per_second":1,"burst":%d}}]}`
	limiter := limit.New(limit.Config{})
	first := mustParse(t, nil, doc, Hash("k"), 10)
	if wait := limiter.Take(first.List()[0].Limits().Key.Own(), 10, noon); wait != 0 {
		t.Fatalf("the burst has to wait %v", wait)
	}
	rotated := mustParse(t, first, doc, Hash("another key of the same id"), 10)
	if wait := limiter.Take(rotated.List()[0].Limits().Key.Own(), 1, noon); wait != time.Second {
		t.Errorf("after a reload the wait is %v, want 1s", wait)
	}
	raised := mustParse(t, rotated, doc, Hash("k"), 20)
	if wait := limiter.Take(raised.List()[0].Limits().Key.Own(), 20, noon); wait != 0 {
		t.Errorf("with a new rate the wait is %v, want none", wait)
	}
}

func TestAddToFileLeavesTheRestAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	entry, first := New("web", Write, time.Time{})
	if err := AddToFile(path, entry); err != nil {
		t.Fatal(err)
	}
	entry, second := New("backend", Secret, noon)
	if err := AddToFile(path, entry); err != nil {
		t.Fatal(err)
	}
	doc, _ := os.ReadFile(path)
	if strings.Contains(string(doc), first) || strings.Contains(string(doc), second) {
		t.Fatal("the file holds a key")
	}
	keys := mustParse(t, nil, "%s", doc)
	if k := keys.Find([]byte(first)); k == nil || k.ID != "web" || k.Kind != Write || k.ExpiresAt != nil {
		t.Errorf("the first key is %+v", k)
	}
	if k := keys.Find([]byte(second)); k == nil || k.Kind != Secret || !k.ExpiresAt.Equal(noon) {
		t.Errorf("the second key is %+v", k)
	}
	if err := AddToFile(path, entry); err == nil {
		t.Error("an id is added twice")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	// By hand, in a style of one's own.
	mine := "{\n\t\"keys\" : [ {\"id\":\"a\", \"kind\":\"write\",\n\t\t\"origins\":[\"*\"],\"rate\":{\"per_second\":1},\"sha256\":\"" +
		Hash("a") + "\"}   ]   }\n\n"
	if err := os.WriteFile(path, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := AddToFile(path, entry); err != nil {
		t.Fatal(err)
	}
	doc, _ = os.ReadFile(path)
	head, tail, _ := strings.Cut(mine, "   ]   }")
	if !strings.HasPrefix(string(doc), head) || !strings.HasSuffix(string(doc), "]   }"+tail) {
		t.Errorf("the rest has changed:\n%s", doc)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 {
		t.Errorf("the mode has changed to %v", info.Mode())
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAddToFileDoesNotTouchABadDocument(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	for _, bad := range []string{`{"keys":[`, `{"keys":{}}`, `{"keys":[{"id":"x"}]}`, `[]`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		entry, _ := New("web", Write, time.Time{})
		if err := AddToFile(path, entry); err == nil {
			t.Errorf("%s: no error", bad)
		}
		if doc, _ := os.ReadFile(path); string(doc) != bad {
			t.Errorf("%s became %s", bad, doc)
		}
	}
}

func TestGeneratedKeysDifferAndNeedNoEscaping(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		for kind, prefix := range map[Kind]string{Write: "wk_", Secret: "sk_"} {
			key := Generate(kind)
			if len(key) != 46 || !strings.HasPrefix(key, prefix) || strings.ContainsAny(key, "+/=:&% ") {
				t.Fatalf("key %q", key)
			}
			seen[key] = true
		}
	}
	if len(seen) != 200 {
		t.Errorf("%d of 200 keys are different", len(seen))
	}
}

// table returns a document with n keys, and one of them.
func table(n int) (document, key string) {
	var b strings.Builder
	b.WriteString(`{"keys":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		key = fmt.Sprintf("wk_%043d", i)
		fmt.Fprintf(&b, `{"id":"k%d","kind":"write","sha256":%q}`, i, Hash(key))
	}
	b.WriteString(`]}`)
	return b.String(), key
}

func TestFindDoesNotAllocate(t *testing.T) {
	document, key := table(100)
	keys := mustParse(t, nil, "%s", document)
	presented := []byte(key)
	if n := testing.AllocsPerRun(100, func() { keys.Find(presented) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFindAmong10000(b *testing.B) {
	document, key := table(10000)
	keys := mustParse(b, nil, "%s", document)
	presented := []byte(key)
	b.ReportAllocs()
	for b.Loop() {
		if keys.Find(presented) == nil {
			b.Fatal("not found")
		}
	}
}

func BenchmarkFindOlderValueAmong10000(b *testing.B) {
	var d strings.Builder
	var key string
	for i := range 10000 {
		key = fmt.Sprintf("wk_%043d", i)
		fmt.Fprintf(&d, `,{"id":"k%d","kind":"write","sha256":%q,"previous":[{"sha256":%q,"expires_at":"2999-01-01T00:00:00Z"}]}`, i, Hash("new"+key), Hash(key))
	}
	document := `{"keys":[` + d.String()[1:] + `]}`
	keys := mustParse(b, nil, "%s", document)
	presented := []byte(key)
	if k := keys.Find(presented); k == nil || !k.Replaced() || len(keys.byHash) != 20000 {
		b.Fatalf("%+v of %d values", k, len(keys.byHash))
	}
	b.ReportAllocs()
	for b.Loop() {
		if keys.Find(presented) == nil {
			b.Fatal("not found")
		}
	}
}

func FuzzParse(f *testing.F) {
	document, _ := table(2)
	f.Add([]byte(document))
	f.Add([]byte(`{"keys":[{"id":"a","kind":"write","sha256":"` + Hash("a") + `","origins":["https://*.a"],"events":["a*"],"rate":{"per_second":1},"expires_at":null}]}`))
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"origins":["http://[::1]:*"]}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		keys, err := Parse(doc, nil)
		if err != nil {
			return
		}
		// Whatever is a document still is one with a key more.
		entry, key := New("a-new-key-of-the-test", Write, time.Time{})
		more, err := insert(doc, &entry)
		if err != nil {
			t.Fatalf("insert: %v", err)
		}
		after, err := Parse(more, keys)
		if err != nil {
			t.Fatalf("after insert: %v\n%s", err, more)
		}
		if len(after.List()) != len(keys.List())+1 || after.Find([]byte(key)) == nil {
			t.Fatalf("the new key is not there:\n%s", more)
		}
	})
}
