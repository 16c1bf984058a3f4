package mapping_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
	"github.com/eventsluice/sluice/internal/event"
)

// config holds the setting as a connector does.
type config struct {
	Mapping mapping.Settings `json:"mapping"`
}

func compile(t testing.TB, setting string, d mapping.Defaults) *mapping.Mapper {
	t.Helper()
	m, err := mapping.New(read(t, setting), d)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func read(t testing.TB, setting string) mapping.Settings {
	t.Helper()
	if setting == "" {
		setting = "{}"
	}
	var c config
	if err := settings.Decode(json.RawMessage(`{"mapping":`+setting+`}`), &c); err != nil {
		t.Fatal(err)
	}
	return c.Mapping
}

func parsed(t testing.TB, raw string) *event.Event {
	t.Helper()
	e, err := event.ParseStored([]byte(raw))
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return &e
}

func object(properties []mapping.Property) string {
	dst := []byte{'{'}
	for _, p := range properties {
		dst = mapping.AppendMember(dst, p.Name, p.Value)
	}
	return string(append(dst, '}'))
}

// shown writes a Record as the tests below want it: what is empty is left out.
func shown(r *mapping.Record) string {
	var b strings.Builder
	add := func(name, value string) {
		if value != "" && value != "{}" {
			fmt.Fprintf(&b, "%s=%s ", name, value)
		}
	}
	add("name", r.Name)
	add("user", r.UserID)
	add("anonymous", r.AnonymousID)
	add("email", r.Email)
	add("ip", r.IP)
	add("agent", r.UserAgent)
	add("properties", object(r.Properties))
	add("traits", object(r.Traits))
	for _, x := range r.Extra {
		add(x.Name, string(x.Value))
	}
	return strings.TrimSpace(b.String())
}

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

type example struct {
	name, setting, event, want string
	defaults                   mapping.Defaults
}

func run(t *testing.T, examples []example) {
	t.Helper()
	for _, test := range examples {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var r mapping.Record
			e := parsed(t, test.event)
			before := string(e.Append(nil))
			var got string
			if res := compile(t, test.setting, test.defaults).Map(e, &r); res != nil {
				got = fmt.Sprintf("%s %s %s", res.Class, res.Code, res.Message)
			} else {
				got = shown(&r)
			}
			if got != test.want {
				t.Errorf("\n got %s\nwant %s", got, test.want)
			}
			if string(e.Append(nil)) != before {
				t.Errorf("the event was changed: %s", e.Append(nil))
			}
		})
	}
}

func TestWithoutSettingsAnEventIsSentAsItIs(t *testing.T) {
	t.Parallel()
	run(t, []example{
		{name: "only a name", event: `{"name":"a"}`, want: `name=a`},
		{name: "name and data", event: `{"name":"a","data":{"n":1.50}}`, want: `name=a properties={"n":1.50}`},
		{name: "values keep their bytes, null is left out",
			event: `{"name":"a","data": { "a" : [1, 2.0] , "b":null,"c":{"d" : null},"e":"\u00e9\/","f":1E5} }`,
			want:  `name=a properties={"a":[1, 2.0],"c":{"d" : null},"e":"\u00e9\/","f":1E5}`},
		{name: "names that nearly agree are different", event: `{"name":"a","data":{"Plan":1,"plan":2,"pl\u0061n ":3,"":4}}`,
			want: `name=a properties={"Plan":1,"plan":2,"plan ":3,"":4}`},
		{name: "names in other scripts", event: `{"name":"購入","data":{"größe":"ü","gr\u00f6\u00dfer":1,"\ud83d\ude00":2}}`,
			want: `name=購入 properties={"größe":"ü","größer":1,"😀":2}`},
		{name: "all of it", event: `{"name":"a","user_id":"u","anonymous_id":"v","ip":"203.0.113.7",
			"context":{"userAgent":"Firefox","traits":{"email":" Ada@Example.COM ","plan":null,"n":1}}}`,
			want: `name=a user=u anonymous=v email=ada@example.com ip=203.0.113.7 agent=Firefox traits={"email":" Ada@Example.COM ","n":1}`},
		{name: "other spellings", event: `{"name":"a","context":{"user_agent":"curl"}}`, want: `name=a agent=curl`},
		{name: "things of the wrong type", event: `{"name":"a","context":{"userAgent":["x"],"ip":{},"traits":"none","page":7}}`, want: `name=a`},
		{name: "an identify event has traits", event: `{"name":"identify","type":"identify","data":{"plan":"pro"},"context":{"traits":{"plan":"free"}}}`,
			want: `name=identify traits={"plan":"pro"}`},
		{name: "a group event has traits", event: `{"name":"group","type":"group","data":{"size":3,"email":"office@acme.example"}}`,
			want: `name=group traits={"size":3,"email":"office@acme.example"}`},
		{name: "an alias event has traits", event: `{"name":"alias","type":"alias","data":{"x":3}}`, want: `name=alias traits={"x":3}`},
		{name: "a server speaks for its users", event: `{"name":"a","ip":"198.51.100.1","context":{"ip":"2001:db8::1"}}`, want: `name=a ip=2001:db8::1`},
		{name: "an address that is none", event: `{"name":"a","ip":"198.51.100.1","context":{"ip":"somewhere"}}`, want: `name=a ip=198.51.100.1`},
		{name: "members that the vocabulary does not know", event: `{"name":"a","campaign":"x"}`, want: `name=a c="x"`,
			defaults: mapping.Defaults{Extra: []mapping.Field{{Name: "c", Sources: []string{"/context/extra/campaign"}}}}},
	})
}

// TestTheExampleInTheREADMEIsTrue takes setting and event from there.
func TestTheExampleInTheREADMEIsTrue(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, part := range strings.Split(string(readme), "```json\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	var destination struct {
		Settings struct {
			Mapping json.RawMessage `json:"mapping"`
		} `json:"settings"`
	}
	if err := json.Unmarshal([]byte(blocks[0]), &destination); err != nil {
		t.Fatal(err)
	}
	m := compile(t, string(destination.Settings.Mapping), mapping.Defaults{})
	var r mapping.Record
	if res := m.Map(parsed(t, blocks[1]), &r); res != nil {
		t.Fatalf("%+v", res)
	}
	hashed := sha("c0ffee" + "ada@example.com")
	for name, pair := range map[string][2]string{
		"name": {r.Name, "Order"}, "user id": {r.UserID, "4711"}, "IP": {r.IP, "203.0.113.0"},
		"properties": {object(r.Properties), `{"total":100,"customer":{"id": 4711},"gross":119,"plan":"pro"}`},
		"traits":     {object(r.Traits), `{"email":"` + hashed + `","plan":"pro"}`},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %s, want %s", name, pair[0], pair[1])
		}
		// The table spaces JSON for the eye, and does not write the hash out.
		row := "| " + name + " | `" + strings.ReplaceAll(pair[0], hashed, "SHA256") + "`"
		if !strings.Contains(strings.ReplaceAll(string(readme), " ", ""), strings.ReplaceAll(row, " ", "")) {
			t.Errorf("the README does not have %s", row)
		}
	}
	for _, name := range []string{"order_draft_saved", "button_clicked"} {
		if res := m.Map(&event.Event{Name: name, Type: event.TypeTrack}, &r); res == nil || res.Class != connector.Dropped {
			t.Errorf("%s: %+v", name, res)
		}
	}
}

func TestEventsAreRenamedOrLeftOut(t *testing.T) {
	t.Parallel()
	const setting = `{"events":{"signed_up":"Sign Up","order_*":"Order","order_draft_*":null,"order_draft_kept":"Kept","noise":null}`
	run(t, []example{
		{name: "by name", setting: setting + `}`, event: `{"name":"signed_up"}`, want: `name=Sign Up`},
		{name: "by prefix", setting: setting + `}`, event: `{"name":"order_placed"}`, want: `name=Order`},
		{name: "the prefix alone", setting: setting + `}`, event: `{"name":"order_"}`, want: `name=Order`},
		{name: "the longer prefix", setting: setting + `}`, event: `{"name":"order_draft_1"}`, want: `dropped event_left_out mapping.events: "order_draft_1" is null`},
		{name: "a name goes before a prefix", setting: setting + `}`, event: `{"name":"order_draft_kept"}`, want: `name=Kept`},
		{name: "null", setting: setting + `}`, event: `{"name":"noise"}`, want: `dropped event_left_out mapping.events: "noise" is null`},
		{name: "not named", setting: setting + `}`, event: `{"name":"other"}`, want: `name=other`},
		{name: "shorter than every prefix", setting: setting + `}`, event: `{"name":"o"}`, want: `name=o`},
		{name: "unmapped send", setting: setting + `,"unmapped":"send"}`, event: `{"name":"other"}`, want: `name=other`, defaults: mapping.Defaults{Unmapped: "dead"}},
		{name: "unmapped drop", setting: setting + `,"unmapped":"drop"}`, event: `{"name":"other"}`,
			want: `dropped unmapped_event mapping.unmapped is drop, and mapping.events does not name "other"`},
		{name: "unmapped dead", setting: setting + `,"unmapped":"dead"}`, event: `{"name":"other"}`,
			want: `permanent unmapped_event name: mapping.unmapped is dead, and mapping.events does not name "other"`},
		{name: "unmapped by the connector", setting: setting + `}`, event: `{"name":"other"}`, defaults: mapping.Defaults{Unmapped: "dead"},
			want: `permanent unmapped_event name: mapping.unmapped is dead, and mapping.events does not name "other"`},
		{name: "unmapped is of track events", setting: setting + `,"unmapped":"dead"}`, event: `{"name":"identify","type":"identify"}`, want: `name=identify`},
		{name: "unmapped needs a name that is sent", setting: `{"events":{"noise":null},"unmapped":"dead"}`, event: `{"name":"other"}`, want: `name=other`},
		{name: "all others", setting: `{"events":{"a":"A","*":null}}`, event: `{"name":"identify","type":"identify"}`,
			want: `dropped event_left_out mapping.events: "identify" is null`},
		{name: "pages by the name that they have", setting: `{"events":{"Pricing":"Saw Prices"}}`, event: `{"name":"Pricing","type":"page"}`,
			want: `name=Saw Prices`, defaults: mapping.Defaults{Page: "Viewed %s"}},
	})
}

func TestPagesAndScreensHaveNames(t *testing.T) {
	t.Parallel()
	d := mapping.Defaults{Page: "Viewed %s Page", Screen: "Screen: %s"}
	run(t, []example{
		{name: "page", defaults: d, event: `{"name":"Pricing","type":"page","data":{"title":"T"}}`, want: `name=Viewed Pricing Page properties={"title":"T"}`},
		{name: "screen", defaults: d, event: `{"name":"Home","type":"screen"}`, want: `name=Screen: Home`},
		{name: "by its title", defaults: d, event: `{"name":"page","type":"page","data":{"title":" Prices ","name":"N"}}`,
			want: `name=Viewed Prices Page properties={"title":" Prices ","name":"N"}`},
		{name: "by the name in data", defaults: d, event: `{"name":"screen","type":"screen","data":{"title":"","name":"N"}}`,
			want: `name=Screen: N properties={"title":"","name":"N"}`},
		{name: "no name at all", defaults: d, event: `{"name":"page","type":"page","data":{"title":null,"name":{}}}`,
			want: `name=Viewed page Page properties={"name":{}}`},
		{name: "track events are not pages", defaults: d, event: `{"name":"page"}`, want: `name=page`},
		{name: "one name for all", defaults: mapping.Defaults{Page: "page_view"}, event: `{"name":"Pricing","type":"page"}`, want: `name=page_view`},
		{name: "no template", event: `{"name":"page","type":"page","data":{"title":"T"}}`, want: `name=page properties={"title":"T"}`},
	})
}

func TestIdentitiesAreTheFirstThatAreThere(t *testing.T) {
	t.Parallel()
	run(t, []example{
		{name: "from the settings", setting: `{"user_id":["/data/none","/data/customer/id","/user_id"],"anonymous_id":["/context/device/id"],"email":["/data/contact"]}`,
			event: `{"name":"a","user_id":"u","data":{"customer":{"id":42},"contact":"X@y.example"},"context":{"device":{"id":"d"}}}`,
			want:  `name=a user=42 anonymous=d email=x@y.example properties={"customer":{"id":42},"contact":"X@y.example"}`},
		{name: "the next if the first is empty", setting: `{"user_id":["/data/id","/user_id"]}`, event: `{"name":"a","user_id":"u","data":{"id":""}}`,
			want: `name=a user=u properties={"id":""}`},
		{name: "texts and numbers only", setting: `{"user_id":["/data/a","/data/b","/data/c","/data/d"]}`,
			event: `{"name":"a","data":{"a":true,"b":["x"],"c":{},"d":-1.5}}`, want: `name=a user=-1.5 properties={"a":true,"b":["x"],"c":{},"d":-1.5}`},
		{name: "an expression", setting: `{"user_id":["= event.source + ':' + event.user_id"]}`, event: `{"name":"a","user_id":"u","source":"shop"}`, want: `name=a user=shop:u`},
		{name: "nobody", setting: `{"user_id":[],"anonymous_id":[],"email":[]}`, event: `{"name":"a","user_id":"u","anonymous_id":"v","data":{"email":"a@b.example"}}`,
			want: `name=a properties={"email":"a@b.example"}`},
		{name: "of the connector", defaults: mapping.Defaults{UserID: []string{"/data/uid"}, AnonymousID: []string{"/data/aid"}, Email: []string{"/data/mail"}},
			event: `{"name":"a","user_id":"u","data":{"uid":"1","aid":"2","mail":"a@b"}}`, want: `name=a user=1 anonymous=2 email=a@b properties={"uid":"1","aid":"2","mail":"a@b"}`},
		{name: "settings before connector", setting: `{"user_id":["/user_id"]}`, defaults: mapping.Defaults{UserID: []string{"/data/uid"}},
			event: `{"name":"a","user_id":"u","data":{"uid":"1"}}`, want: `name=a user=u properties={"uid":"1"}`},
		{name: "email of identify", event: `{"name":"identify","type":"identify","data":{"email":"a@data"},"context":{"traits":{"email":"a@traits"}}}`,
			want: `name=identify email=a@data traits={"email":"a@data"}`},
		{name: "email of track", event: `{"name":"a","data":{"email":"a@data"},"context":{"traits":{"email":"a@traits"}}}`,
			want: `name=a email=a@traits properties={"email":"a@data"} traits={"email":"a@traits"}`},
		{name: "email of track in data", event: `{"name":"a","data":{"email":"a@data"},"context":{"traits":{"email":"nobody"}}}`,
			want: `name=a email=a@data properties={"email":"a@data"} traits={"email":"nobody"}`},
	})
}

func TestEmailLooksLikeAnAddressOrIsNone(t *testing.T) {
	t.Parallel()
	m := compile(t, "", mapping.Defaults{})
	for text, want := range map[string]string{
		"a@b": "a@b", " A@B.example\t": "a@b.example", "ÄRGER@Käse.example": "ärger@käse.example", "a.b+c@d": "a.b+c@d",
		"": "", "a": "", "@b": "", "a@": "", "a@b@c": "", "a b@c": "", "a@b\u00a0c": "", "a@b\x00": "", " @ ": "",
		strings.Repeat("a", 318) + "@b": strings.Repeat("a", 318) + "@b",
		strings.Repeat("a", 319) + "@b": "",
	} {
		data, _ := json.Marshal(map[string]string{"email": text})
		var r mapping.Record
		if res := m.Map(parsed(t, `{"name":"a","data":`+string(data)+`}`), &r); res != nil || r.Email != want {
			t.Errorf("%q: %q, want %q (%v)", text, r.Email, want, res)
		}
	}
}

func TestPropertiesAndTraitsComeFromPointersAndExpressions(t *testing.T) {
	t.Parallel()
	run(t, []example{
		{name: "pointers", setting: `{"properties":{"sku":"/data/items/1/sku","lang":"/context/locale","kind":"/type","who":"/user_id","at":"/timestamp"}}`,
			event: `{"name":"a","user_id":"u\"1","data":{"items":[1,{"sku":"B"},3]},"context":{"locale":"de"}}`,
			want:  `name=a user=u"1 properties={"items":[1,{"sku":"B"},3],"kind":"track","lang":"de","sku":"B","who":"u\"1"}`},
		{name: "names with / and ~, and an empty one", setting: `{"properties":{"x":"/data/a~1b~0c","y":"/data/"}}`, event: `{"name":"a","data":{"a/b~c":1,"":2}}`,
			want: `name=a properties={"a/b~c":1,"":2,"x":1,"y":2}`},
		{name: "a name that is an index", setting: `{"properties":{"x":"/data/o/0","y":"/data/l/0","z":"/data/l/01"}}`, event: `{"name":"a","data":{"o":{"0":1},"l":[{"a":2}]}}`,
			want: `name=a properties={"o":{"0":1},"l":[{"a":2}],"x":1,"y":{"a":2}}`},
		{name: "a place, and what is below it", setting: `{"properties":{"x":"/data/o","y":"/data/o/p/q","z":"/data/o/p"}}`, event: `{"name":"a","data":{"o":{"p":{"q": 1 },"r":2}}}`,
			want: `name=a properties={"o":{"p":{"q": 1 },"r":2},"x":{"p":{"q": 1 },"r":2},"y":1,"z":{"q": 1 }}`},
		{name: "all of data", setting: `{"only_mapped":true,"properties":{"x":"/data","y":"/context"}}`, event: `{"name":"a","data": {"n": 1} }`,
			want: `name=a properties={"x":{"n": 1},"y":{}}`},
		{name: "escaped on its way", setting: `{"properties":{"x":"/data/plan/name"}}`, event: `{"name":"a","data":{"pl\u0061n":{"n\u0061me":"pro"}}}`,
			want: `name=a properties={"plan":{"n\u0061me":"pro"},"x":"pro"}`},
		{name: "in the place of data", setting: `{"properties":{"plan":"/context/plan"}}`, event: `{"name":"a","data":{"plan":"free","n":1},"context":{"plan":"pro"}}`,
			want: `name=a properties={"n":1,"plan":"pro"}`},
		{name: "in the place of data, though there is nothing", setting: `{"properties":{"plan":"/context/plan"}}`, event: `{"name":"a","data":{"plan":"free","n":1},"context":{"plan":null}}`,
			want: `name=a properties={"n":1}`},
		{name: "left out", setting: `{"properties":{"plan":null},"traits":{"plan":null}}`, event: `{"name":"a","data":{"plan":"free","n":1},"context":{"traits":{"plan":1,"m":2}}}`,
			want: `name=a properties={"n":1} traits={"m":2}`},
		{name: "of itself", setting: `{"properties":{"n":"/data/n"}}`, event: `{"name":"a","data":{"n":1,"m":2}}`, want: `name=a properties={"m":2,"n":1}`},
		{name: "traits of track events", setting: `{"traits":{"plan":"/data/plan","n":"/context/n"}}`, event: `{"name":"a","data":{"plan":"pro"},"context":{"n":3,"traits":{"n":1,"m":2}}}`,
			want: `name=a properties={"plan":"pro"} traits={"m":2,"n":3,"plan":"pro"}`},
		{name: "traits of identify events", setting: `{"traits":{"level":"/data/plan","plan":null},"properties":{"plan":"/data/plan"}}`,
			event: `{"name":"identify","type":"identify","data":{"plan":"pro","m":1}}`, want: `name=identify properties={"plan":"pro"} traits={"m":1,"level":"pro"}`},
		{name: "expressions", setting: `{"only_mapped":true,"properties":{
			"gross":"= event.data.net * 1.2","fixed":"= 'web'","list":"= event.data.items.map(i, i.sku)","map":"= {'b': 1, 'a': event.data.items[0]}",
			"big":"= event.data.big","flag":"= has(event.data.net) && event.type == 'track'","text":"= event.name + \"\\n\"","none":"= null",
			"absent":"= event.data.absent.x","wrong":"= event.data.items * 2.0","int":"= size(event.data.items)","inf":"= event.data.net / 0.0"}}`,
			event: `{"name":"a","data":{"net":10.50,"big":9007199254740993,"items":[{"sku" : "A"},{"sku":"B"}]}}`,
			want:  `name=a properties={"big":9007199254740993,"fixed":"web","flag":true,"gross":12.6,"int":2,"list":["A","B"],"map":{"a":{"sku" : "A"},"b":1},"text":"a\n"}`},
	})
}

func TestFieldsOfTheConnector(t *testing.T) {
	t.Parallel()
	d := mapping.Defaults{
		Fields: []mapping.Field{
			{Name: "url", Sources: []string{"/context/page/url", "/data/url"}}, {Name: "$os", Sources: []string{"/context/os/name"}},
			{Name: "lib", Sources: []string{"= 'sluice'"}}, {Name: "src", Sources: []string{"/source"}},
		},
		Extra:    []mapping.Field{{Name: "x0", Sources: []string{"/context/ga/client_id", "/anonymous_id"}}, {Name: "x1", Sources: []string{"/data/session"}}},
		Reserved: func(name string) bool { return strings.HasPrefix(name, "$") || name == "time" },
	}
	const context = `"context":{"page":{"url":"U"},"os":{"name":"iOS"},"ga":{"client_id":1.2},"traits":{"$x":1,"y":2}}`
	run(t, []example{
		{name: "behind data", defaults: d, event: `{"name":"a","source":"s","data":{"session":7},` + context + `}`,
			want: `name=a properties={"session":7,"url":"U","$os":"iOS","lib":"sluice","src":"s"} traits={"y":2} x0=1.2 x1=7`},
		{name: "data has precedence", defaults: d, event: `{"name":"a","data":{"url":"D","lib":"L"},` + context + `}`,
			want: `name=a properties={"url":"D","lib":"L","$os":"iOS"} traits={"y":2} x0=1.2`},
		{name: "null has none", defaults: d, event: `{"name":"a","data":{"url":null},` + context + `}`,
			want: `name=a properties={"url":"U","$os":"iOS","lib":"sluice"} traits={"y":2} x0=1.2`},
		{name: "reserved names", defaults: d, event: `{"name":"a","data":{"$os":"D","time":1,"times":2},` + context + `}`,
			want: `name=a properties={"times":2,"url":"U","$os":"iOS","lib":"sluice"} traits={"y":2} x0=1.2`},
		{name: "the settings may set reserved names", defaults: d, setting: `{"properties":{"time":"/data/at","$os":null},"traits":{"$x":"/data/at"}}`, event: `{"name":"a","data":{"at":1},` + context + `}`,
			want: `name=a properties={"at":1,"url":"U","lib":"sluice","time":1} traits={"y":2,"$x":1} x0=1.2`},
		{name: "overridden", defaults: d, setting: `{"properties":{"url":"/data/other","lib":null}}`, event: `{"name":"a","data":{"other":"O"},` + context + `}`,
			want: `name=a properties={"other":"O","$os":"iOS","url":"O"} traits={"y":2} x0=1.2`},
		{name: "the next source", defaults: d, event: `{"name":"identify","type":"identify","anonymous_id":"v","data":{"url":"D"}}`,
			want: `name=identify anonymous=v properties={"url":"D","lib":"sluice"} traits={"url":"D"} x0="v"`},
		{name: "only what is mapped", defaults: d, setting: `{"only_mapped":true,"properties":{"n":"/data/n"},"traits":{"m":"/context/traits/y"}}`,
			event: `{"name":"a","data":{"n":1,"secret":2,"url":"D"},` + context + `}`,
			want:  `name=a properties={"url":"U","$os":"iOS","lib":"sluice","n":1} traits={"m":2} x0=1.2`},
		{name: "nothing of data but what is mapped", defaults: d, setting: `{"only_mapped":true}`, event: `{"name":"a","data":{"url":"D"},"context":{"traits":{"z":1}}}`,
			want: `name=a properties={"lib":"sluice"}`},
		{name: "traits of identify events too", setting: `{"only_mapped":true,"traits":{"plan":"/data/plan"}}`,
			event: `{"name":"identify","type":"identify","data":{"plan":"pro","phone":1}}`, want: `name=identify traits={"plan":"pro"}`},
	})
}

func TestWhatPrivacyRemovesDoesNotComeInByAnotherWay(t *testing.T) {
	t.Parallel()
	const e = `{"name":"a","user_id":"u","ip":"203.0.113.77","data":{"email":"a@b.example","n":1},"context":{"ip":"2001:db8:1:2::3","traits":{"email":"c@d.example"}}}`
	d := mapping.Defaults{Extra: []mapping.Field{{Name: "x", Sources: []string{"/context/traits/email", "= event.data.email"}}}}
	run(t, []example{
		{name: "dropped", defaults: d, event: e, setting: `{"privacy":{"drop":["/data/email","/context/traits/email","/user_id"]},
			"properties":{"p":"/data/email","q":"= event.data.email","r":"/user_id"},"user_id":["/user_id","/data/email"]}`,
			want: `name=a ip=2001:db8:1:2::3 properties={"n":1}`},
		{name: "hashed", defaults: d, event: e, setting: `{"privacy":{"hash":["/data/email","/context/traits/email","/user_id","/data/absent"],"salt":"s"},"properties":{"q":"= event.data.email"}}`,
			want: `name=a user=` + sha("su") + ` ip=2001:db8:1:2::3 properties={"email":"` + sha("sa@b.example") + `","n":1,"q":"` + sha("sa@b.example") + `"} traits={"email":"` +
				sha("sc@d.example") + `"} x="` + sha("sc@d.example") + `"`},
		{name: "address dropped", event: e, setting: `{"privacy":{"ip":"drop","drop":["/data","/context/traits"]},"properties":{"a":"/ip","b":"/context/ip","c":"= event.ip"}}`,
			want: `name=a user=u properties={"c":""}`},
		{name: "address truncated", event: e, setting: `{"privacy":{"ip":"truncate","drop":["/data","/context/traits"]},"properties":{"a":"/ip","b":"/context/ip","c":"= event.ip"}}`,
			want: `name=a user=u ip=2001:db8:1:: properties={"a":"203.0.113.0","b":"2001:db8:1::","c":"203.0.113.0"}`},
		{name: "address truncated, IPv4 in IPv6", event: `{"name":"a","ip":"::ffff:203.0.113.9","context":{"ip":"fe80::1%eth0"}}`, setting: `{"privacy":{"ip":"truncate"},"properties":{"a":"/ip","b":"/context/ip"}}`,
			want: `name=a ip=fe80:: properties={"a":"203.0.113.0","b":"fe80::"}`},
		{name: "no address truncated", event: `{"name":"a","ip":"localhost","context":{"ip":"203.0.113.9:443","n":1}}`, setting: `{"privacy":{"ip":"truncate"},"properties":{"a":"/ip","b":"/context/ip","c":"/context/n"}}`,
			want: `name=a properties={"c":1}`},
		{name: "address kept", event: `{"name":"a","ip":"203.0.113.9"}`, setting: `{"privacy":{"ip":"keep"}}`, want: `name=a ip=203.0.113.9`},
		{name: "truncated, then hashed", event: `{"name":"a","ip":"203.0.113.9"}`, setting: `{"privacy":{"ip":"truncate","hash":["/ip"]},"properties":{"a":"/ip"}}`,
			want: `name=a properties={"a":"` + sha("203.0.113.0") + `"}`},
		{name: "members that the vocabulary does not know", event: `{"name":"a","phone":"1"}`, setting: `{"privacy":{"drop":["/context/extra/phone"]},"properties":{"a":"/context/extra"}}`,
			want: `name=a properties={"a":{}}`},
	})
}

func TestTimeIsWhenItHappened(t *testing.T) {
	t.Parallel()
	m := compile(t, "", mapping.Defaults{})
	received := time.Date(2026, 11, 23, 10, 0, 1, 0, time.UTC)
	for timestamp, want := range map[string]time.Time{
		"2026-11-23T10:00:00.125Z":        time.Date(2026, 11, 23, 10, 0, 0, 125e6, time.UTC),
		"2026-11-23T12:00:00+02:00":       time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
		"1969-07-20T20:17:40Z":            time.Date(1969, 7, 20, 20, 17, 40, 0, time.UTC),
		"9999-12-31T23:59:59Z":            time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		"9999-12-31T23:59:59-01:00":       received, // in the year 10000 of UTC
		"0001-01-01T00:00:00Z":            received, // never set, in Go and .NET
		"0001-01-01T00:00:00+01:00":       received,
		"0001-01-01T00:00:00-08:00":       received,
		"0000-01-01T00:00:00Z":            received,
		"2026-11-23T10:00:00.123456789Z":  time.Date(2026, 11, 23, 10, 0, 0, 123456789, time.UTC),
		"2026-11-23T10:00:00.1234567891Z": time.Date(2026, 11, 23, 10, 0, 0, 123456789, time.UTC),
		"":                                received,
		"yesterday":                       received,
	} {
		var r mapping.Record
		if res := m.Map(&event.Event{Name: "a", Timestamp: timestamp, ReceivedAt: "2026-11-23T10:00:01Z"}, &r); res != nil || !r.Time.Equal(want) || r.Time.Location() != time.UTC {
			t.Errorf("%q: %v, want %v", timestamp, r.Time, want)
		}
	}
	var r mapping.Record
	if m.Map(&event.Event{Name: "a", Timestamp: "x", ReceivedAt: "y"}, &r); !r.Time.IsZero() {
		t.Errorf("without any: %v", r.Time)
	}
}

func TestEveryFaultOfTheSettingsIsNamedWithItsPlace(t *testing.T) {
	t.Parallel()
	s := read(t, `{"events":{"":"x","a*b":"x","ok":" "," lead":"x","order_*":"fine"},"unmapped":"burn","user_id":["/user_id","user_id","/dta/x"],"email":["= event.nmae"],
		"properties":{"plan":"/data/a~2","gross":"=\n event.data.total *","fixed":"pro","":"/data/a","deep":"/name/x","odd.name %d":"x","event":"= event","zero":"= 1 / 0","regex":"= event.name.matches(event.data.x)"},
		"traits":{"x":"="},"privacy":{"drop":["/id","/data/ok","/name"],"hash":["/data"],"ip":"hide"}}`)
	_, err := mapping.New(s, mapping.Defaults{
		Fields: []mapping.Field{{Name: "f", Sources: []string{"/context/x"}}, {Name: "f", Sources: []string{"oops"}}},
		Extra:  []mapping.Field{{Name: "e", Sources: []string{"= event.x"}}}, UserID: []string{"ignored, the settings have one"},
	})
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		`mapping.events."": is empty; want the name of an event`,
		`mapping.events.a*b: "a*b" has a * that is not at its end`,
		`mapping.events.ok: the new name is empty; null leaves the event out`,
		`mapping.events." lead": " lead" begins or ends with a space`,
		`mapping.unmapped: must be one of send, drop, dead`,
		`mapping.user_id[1]: is neither a JSON pointer such as`,
		`mapping.user_id[2]: "/dta/x" does not lead into an event; an event has id, type`,
		`mapping.email[0]: line 1, column 8: undefined field 'nmae'; an event has the fields`,
		`mapping.properties.plan: "/data/a~2" is not a JSON pointer`,
		`mapping.properties.gross: line 2, column 20: Syntax error`,
		`mapping.properties.fixed: is neither a JSON pointer`,
		`mapping.properties."": the name is empty`,
		`mapping.properties.deep: name is a string and has no members`,
		`mapping.properties."odd.name %d": is neither a JSON pointer`,
		`mapping.properties.event: the expression is a sluice.Event; want a CEL expression such as`,
		`mapping.properties.zero: has no value, whatever the event: division by zero`,
		`mapping.properties.regex: matches() has a regular expression that is computed`,
		`mapping.traits.x: is empty; want a CEL expression`,
		`mapping.privacy.drop[0]: the id cannot be changed`,
		`mapping.privacy.drop[2]: name cannot be moved or dropped`,
		`mapping.privacy.hash[0]: data must stay an object`,
		`mapping.privacy.ip: must be one of keep, drop, truncate`,
		`defaults.fields[1] (f): the name stands twice`,
		`defaults.fields[1] (f)[0]: is neither a JSON pointer`,
		`defaults.extra[0] (e)[0]: line 1, column 8: undefined field 'x'`,
	}
	lines := strings.Split(err.Error(), "\n")
	for _, w := range want {
		found := false
		for _, line := range lines {
			found = found || strings.HasPrefix(line, w)
		}
		if !found {
			t.Errorf("no line begins with %s", w)
		}
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "mapping.") && !strings.HasPrefix(line, "defaults.") {
			t.Errorf("a line without a place: %q", line)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestSettingsAreBounded(t *testing.T) {
	t.Parallel()
	many := make(map[string]*string)
	for i := range 1001 {
		source := "/data/a"
		many[fmt.Sprint("p", i)] = &source
	}
	long := make(map[string]*string)
	for i := range 20 {
		source := "= '" + strings.Repeat("x", 4000) + "'"
		long[fmt.Sprint("p", i)] = &source
	}
	one := "= '" + strings.Repeat("x", 5000) + "'"
	events := make(map[string]*string)
	for i := range 10_001 {
		events[fmt.Sprint("e", i)] = nil
	}
	drop := make([]string, 101)
	for i := range drop {
		drop[i] = fmt.Sprint("/data/", i)
	}
	for _, test := range []struct {
		s    mapping.Settings
		want string
	}{
		{mapping.Settings{Properties: many}, "mapping: has more than 1000 sources"},
		{mapping.Settings{Properties: long}, "mapping.properties.p6: the expressions up to this one have more than 65536 bytes together; make them shorter, or fewer"},
		{mapping.Settings{Traits: map[string]*string{"x": &one}}, "mapping.traits.x: has 5004 bytes; the most is 4096"},
		{mapping.Settings{Events: events}, "mapping.events: has 10001 names, the most is 10000"},
		{mapping.Settings{Privacy: mapping.Privacy{Drop: drop}}, "mapping.privacy: has 101 operations; the most is 100"},
		{mapping.Settings{Privacy: mapping.Privacy{Salt: "hunter2"}}, "mapping.privacy.salt: there is no hash that it is for"},
	} {
		if _, err := mapping.New(test.s, mapping.Defaults{}); err == nil || err.Error() != test.want {
			t.Errorf("%v, want %s", err, test.want)
		}
	}
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	t.Parallel()
	m := compile(t, `{"properties":{"x":"/data/a/0/b","y":"/context/c"},"privacy":{"ip":"truncate","drop":["/data/z"]}}`, mapping.Defaults{})
	for _, test := range []struct{ data, context, field string }{
		{`[1]`, ``, "data"}, {`null`, ``, "data"}, {`"x"`, ``, "data"}, {``, `7`, "context"},
	} {
		var r mapping.Record
		res := m.Map(&event.Event{Name: "a", Data: []byte(test.data), Context: []byte(test.context)}, &r)
		if res == nil || res.Class != connector.Permanent || res.Code != "invalid_event" || !strings.HasPrefix(res.Message, test.field+": ") {
			t.Errorf("%+v: %+v", test, res)
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	m := compile(t, `{"privacy":{"drop":["/data/secret"]}}`, mapping.Defaults{})
	var r mapping.Record
	m.Map(parsed(t, `{"name":"a","user_id":"u","data":{"secret":1,"a":{"b/c":[1,{"d":"x"}]},"n":null}}`), &r)
	for source, want := range map[string]string{
		"/data/a/b~1c/1/d": `"x"`, "/data/a": `{"b/c":[1,{"d":"x"}]}`, "/user_id": `"u"`, "/context": `{}`,
		"/data/secret": "", "/data/n": "", "/data/x": "", "/ip": "", "data/a": "", "/dta": "", "": "", "= event.name": "",
	} {
		for range 2 { // the second time from memory
			if value, ok := m.Lookup(&r, source); string(value) != want || ok != (want != "") {
				t.Errorf("%s: %s %v, want %s", source, value, ok, want)
			}
		}
	}
	for i := range 1000 { // more than it remembers
		if _, ok := m.Lookup(&r, fmt.Sprint("/data/a/", i)); ok {
			t.Fatal(i)
		}
	}
}

func TestARecordIsUsedAgain(t *testing.T) {
	t.Parallel()
	d := mapping.Defaults{Page: "Viewed %s", Fields: []mapping.Field{{Name: "f", Sources: []string{"/context/f", "/user_id"}}}, Extra: []mapping.Field{{Name: "x", Sources: []string{"= event.data.n + 1.0"}}}}
	m, other := compile(t, "", d), compile(t, `{"properties":{"a":"/data/n","b":"/data/o/p"}}`, mapping.Defaults{})
	var r mapping.Record
	if m.Map(parsed(t, `{"name":"Home","type":"page","user_id":"u","data":{"n":1,"f":2}}`), &r); shown(&r) != `name=Viewed Home user=u properties={"n":1,"f":2} x=2` {
		t.Error(shown(&r))
	}
	name, extra := r.Name, r.Extra[0].Value
	for i := range 300 {
		if m.Map(parsed(t, `{"name":"Away","type":"page","user_id":"v"}`), &r); shown(&r) != `name=Viewed Away user=v properties={"f":"v"}` {
			t.Fatal(i, shown(&r))
		}
		if other.Map(parsed(t, `{"name":"a","data":{"o":{"p":7}}}`), &r); shown(&r) != `name=a properties={"o":{"p":7},"b":7}` {
			t.Fatal(i, shown(&r))
		}
	}
	// Connectors group events by what they took of earlier ones.
	if name != "Viewed Home" || string(extra) != "2" {
		t.Errorf("what was taken of a Record has changed: %s %s", name, extra)
	}
}

func TestAMapperIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	m := compile(t, `{"properties":{"q":"= event.data.n * 2.0","p":"/data/n"},"privacy":{"hash":["/user_id"]}}`, mapping.Defaults{})
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			var r mapping.Record
			for n := range 300 {
				m.Map(parsed(t, fmt.Sprintf(`{"name":"a","user_id":"u","data":{"n":%d}}`, n)), &r)
				if want := fmt.Sprintf(`name=a user=%s properties={"n":%d,"p":%d,"q":%d}`, sha("u"), n, n, 2*n); shown(&r) != want && n > 0 {
					t.Fatalf("got %s, want %s", shown(&r), want)
				}
				if value, ok := m.Lookup(&r, "/data/n"); !ok || string(value) != fmt.Sprint(n) {
					t.Fatal(string(value))
				}
			}
		})
	}
}
