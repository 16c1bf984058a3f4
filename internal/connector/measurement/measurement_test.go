package measurement

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

// noon is when the events of these tests happened.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func planner(t testing.TB, change func(o *Options)) *Planner {
	t.Helper()
	o := Options{EventIDParameter: "event_id", Ecommerce: true, WithoutIdentity: Dead}
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func stored(change func(e *event.Event)) connector.Delivery {
	e := event.Event{
		ID: "e1", Type: event.TypeTrack, Name: "button_clicked", AnonymousID: "a1",
		Timestamp: "2026-11-23T11:59:59Z", ReceivedAt: "2026-11-23T12:00:00Z", Data: json.RawMessage(`{}`),
	}
	if change != nil {
		change(&e)
	}
	return connector.Delivery{Event: e, Raw: e.Append(nil), Attempt: 1}
}

func withData(data string) connector.Delivery {
	return stored(func(e *event.Event) { e.Data = json.RawMessage(data) })
}

func withContext(context string) connector.Delivery {
	return stored(func(e *event.Event) { e.UserID, e.Context = "u1", json.RawMessage(context) })
}

// one returns what becomes of a single event: the request and the note, or why
// there is none.
func one(t testing.TB, p *Planner, d connector.Delivery) (body string, result connector.Result) {
	t.Helper()
	plan := p.Plan([]connector.Delivery{d})
	if len(plan.Done) == 1 {
		return "", plan.Done[0].Result
	}
	raw, results := plan.Calls[0].Payload.(*Batch).Body(noon, "")
	return string(raw), results[0]
}

func TestParameters(t *testing.T) {
	t.Parallel()
	const ours = `"event_id":"e1","engagement_time_msec":1`
	long := strings.Repeat("é", 120)
	for _, tt := range []struct {
		name, data string
		want       string // params without those of ours
		note       string
	}{
		{"nothing", `{}`, ``, ""},
		{"null is left out", `{"a":null,"b":1}`, `"b":1`, ""},
		{"numbers and booleans stay", `{"n":12345678901234567890.5,"e":-2e3,"t":true}`, `"n":12345678901234567890.5,"e":-2e3,"t":true`, ""},
		{"text is as it was written", `{"s":"\u00e9\"\\\ud83d\ude00"}`, `"s":"\u00e9\"\\\ud83d\ude00"`, ""},
		{"objects are taken apart", `{"a":{"B":{"c":1},"d":null},"e":{}}`, `"a_b_c":1`, ""},
		{"deep ones are text", `{"a":{"b":{"c":{"d":{"e":{"f":1}}}}}}`, `"a_b_c_d_e":"{\"f\":1}"`, ""},
		{"arrays are text", `{"tags":["x",{"y":null}]}`, `"tags":"[\"x\",{\"y\":null}]"`, ""},
		{"names become snake case", `{"orderId":1,"Cart Size":2,"$current-url":3}`, `"order_id":1,"cart_size":2,"current_url":3`, ""},
		{"of names that become the same the first stays", `{"Plan":1,"plan":2}`, `"plan":1`, "left out: plan"},
		{"names without a letter are left out", `{"日本":1,"12":2,"":3}`, ``, "left out: 日本, 12, "},
		{"reserved names are left out", `{"firebase_x":1,"ga_session_id":2,"google_ads":3,"firebase_conversion":4}`, ``, "left out: firebase_x, ga_session_id, google_ads, firebase_conversion"},
		{"what identifies a person is not spread", `{"email":"x@example.com","phone":"+431","n":1}`, `"n":1`, ""},
		{"long names", `{"` + strings.Repeat("n", 50) + `":1}`, `"` + strings.Repeat("n", 40) + `":1`, "cut to the length allowed: the name " + strings.Repeat("n", 31)},
		{"long text", `{"s":"` + long + `"}`, `"s":"` + strings.Repeat("é", 100) + `"`, "cut to the length allowed: s"},
		{"engagement", `{"engagement_time_msec":"1200"}`, ``, ""},
		{"value with currency", `{"value":"9.90","currency":"eur"}`, `"value":9.90,"currency":"EUR"`, ""},
		{"value alone is no amount of money", `{"value":5}`, `"event_value":5`, ""},
		{"value that is no number", `{"value":"high","currency":"EUR"}`, `"currency":"EUR","event_value":"high"`, ""},
		{"currency that is none", `{"value":1,"currency":"euro"}`, `"event_value":1`, "left out: currency"},
		{"items without id and name", `{"items":[{"price":1},5,null]}`, ``, "left out: items/0, items/1, items/2"},
		{"items", `{"items":[{"product_id":7,"sku":"s","name":"n","price":"1.5","deep":{"a":1},"gone":null}]}`,
			`"items":[{"item_id":"7","sku":"s","item_name":"n","price":1.5}]`, "left out: items/deep"},
		{"items that are no array", `{"items":3}`, ``, "left out: items"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body, result := one(t, planner(t, nil), withData(tt.data))
			want := ours
			if tt.name == "engagement" {
				want = strings.Replace(ours, ":1", ":1200", 1)
			}
			if tt.want != "" {
				want += "," + tt.want
			}
			want = `{"client_id":"a1","events":[{"name":"button_clicked","params":{` + want + `},"timestamp_micros":1795435199000000}]}`
			if body != want {
				t.Errorf("got  %s\nwant %s", body, want)
			}
			if result.Message != tt.note || (result.Code != "") != (tt.note != "") {
				t.Errorf("note %q %q, want %q", result.Code, result.Message, tt.note)
			}
		})
	}
}

func TestOf30ParametersOursAndTheFirstAreKept(t *testing.T) {
	t.Parallel()
	var data strings.Builder
	for i := range 30 {
		fmt.Fprintf(&data, `"p%d":%d,`, i, i)
	}
	body, result := one(t, planner(t, nil), withData(`{`+data.String()+`"session_id":"s1","page_location":"https://shop.example/"}`))
	for _, want := range []string{`"event_id":"e1"`, `"session_id":"s1"`, `"engagement_time_msec":1`, `"page_location":"https://shop.example/"`, `"p20":20`} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing in %s", want, body)
		}
	}
	if strings.Contains(body, `"p21"`) || !strings.Contains(result.Message, "left out: p21, p22") || result.Class != connector.Delivered {
		t.Errorf("%s\n%+v", body, result)
	}
}

func TestEventsByTypeAndName(t *testing.T) {
	t.Parallel()
	give := "purchase"
	for _, tt := range []struct {
		name   string
		change func(e *event.Event)
		want   string // in the body
		class  connector.Class
		code   string
	}{
		{"snake case", func(e *event.Event) { e.Name = "Sign Up" }, `{"name":"sign_up",`, connector.Delivered, ""},
		{"page", func(e *event.Event) {
			e.Type, e.Name, e.Data = event.TypePage, "Pricing", []byte(`{"url":"https://x.example/p","referrer":"https://y.example"}`)
		}, `{"name":"page_view","params":{"event_id":"e1","engagement_time_msec":1,"page_location":"https://x.example/p","page_referrer":"https://y.example","page_title":"Pricing"}`, connector.Delivered, ""},
		{"screen", func(e *event.Event) { e.Type, e.Name = event.TypeScreen, "Cart" }, `{"name":"screen_view","params":{"event_id":"e1","engagement_time_msec":1,"screen_name":"Cart"}`, connector.Delivered, ""},
		{"group", func(e *event.Event) {
			e.Type, e.Name, e.Data = event.TypeGroup, "g", []byte(`{"group_id":"g7","plan":"pro"}`)
		}, `{"name":"join_group","params":{"event_id":"e1","engagement_time_msec":1,"group_id":"g7"}`, connector.Delivered, ""},
		{"group of no name", func(e *event.Event) { e.Type, e.Name = event.TypeGroup, "g" }, "", connector.Dropped, "no_event"},
		{"identify", func(e *event.Event) { e.Type = event.TypeIdentify }, "", connector.Dropped, "no_event"},
		{"alias", func(e *event.Event) { e.Type = event.TypeAlias }, "", connector.Dropped, "no_event"},
		{"reserved", func(e *event.Event) { e.Name = "Error" }, "", connector.Permanent, "event_name"},
		{"reserved prefix", func(e *event.Event) { e.Name = "ga_x" }, "", connector.Permanent, "event_name"},
		{"no letter", func(e *event.Event) { e.Name = "日本語 🛒" }, "", connector.Permanent, "event_name"},
		{"renamed", func(e *event.Event) { e.Name = "checkout_done" }, `{"name":"purchase",`, connector.Delivered, ""},
		{"an order", func(e *event.Event) {
			e.Name, e.Data = "Order Completed", []byte(`{"order_id":"o1","total":"12.50","currency":"EUR","products":[{"sku":"s1","quantity":2},{"name":"Tea","category":"Drinks","position":3}]}`)
		}, `{"name":"purchase","params":{"event_id":"e1","engagement_time_msec":1,"value":12.50,"currency":"EUR","items":[{"item_id":"s1","quantity":2},{"item_name":"Tea","item_category":"Drinks","index":3}],"transaction_id":"o1"}`, connector.Delivered, ""},
		{"a product", func(e *event.Event) {
			e.Name, e.Data = "Product Added", []byte(`{"product_id":"p1","name":"Tea","price":3.2,"cart_id":"c1"}`)
		}, `{"name":"add_to_cart","params":{"event_id":"e1","engagement_time_msec":1,"items":[{"item_id":"p1","item_name":"Tea","price":3.2}],"cart_id":"c1"}`, connector.Delivered, ""},
		{"a search", func(e *event.Event) { e.Name, e.Data = "Products Searched", []byte(`{"query":"tea"}`) }, `{"name":"search","params":{"event_id":"e1","engagement_time_msec":1,"search_term":"tea"}`, connector.Delivered, ""},
		{"a promotion", func(e *event.Event) {
			e.Name, e.Data = "Promotion Viewed", []byte(`{"promotion_id":"x","name":"Sale","creative":"b","position":"top"}`)
		}, `"promotion_id":"x","promotion_name":"Sale","creative_name":"b","creative_slot":"top"`, connector.Delivered, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := planner(t, func(o *Options) {
				o.Mapping.Events = map[string]*string{"checkout_done": &give}
			})
			body, result := one(t, p, stored(tt.change))
			if result.Class != tt.class || result.Code != tt.code || !strings.Contains(body, tt.want) {
				t.Errorf("%+v\ngot  %s\nwant %s", result, body, tt.want)
			}
			if tt.class == connector.Permanent && (!strings.Contains(result.Message, "name") || !strings.Contains(result.Message, "mapping.events")) {
				t.Errorf("the message does not say what to do: %s", result.Message)
			}
		})
	}
}

func TestWithoutEcommerceNamesAndProductsStay(t *testing.T) {
	t.Parallel()
	body, _ := one(t, planner(t, func(o *Options) { o.Ecommerce = false }), stored(func(e *event.Event) {
		e.Name, e.Data = "Order Completed", []byte(`{"order_id":"o1","products":[{"sku":"s1"}]}`)
	}))
	if want := `{"name":"order_completed","params":{"event_id":"e1","engagement_time_msec":1,"order_id":"o1","products":"[{\"sku\":\"s1\"}]"}`; !strings.Contains(body, want) {
		t.Errorf("%s\nwant %s", body, want)
	}
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	const instance = "0123456789abcdef0123456789ABCDEF"
	for _, tt := range []struct {
		name   string
		app    bool
		change func(e *event.Event)
		want   string
		code   string
	}{
		{"anonymous", false, func(*event.Event) {}, `{"client_id":"a1","events"`, ""},
		{"both", false, func(e *event.Event) { e.UserID = "u1" }, `{"client_id":"a1","user_id":"u1","events"`, ""},
		{"a user alone has a client that stays the same", false, func(e *event.Event) { e.AnonymousID, e.UserID = "", "u1" }, `{"client_id":"` + hashed("user", "u1") + `","user_id":"u1",`, ""},
		{"the browser's client", false, func(e *event.Event) { e.Context = []byte(`{"ga":{"client_id":"123.456","session_id":1790}}`) }, `{"client_id":"123.456",`, ""},
		{"the browser's cookie", false, func(e *event.Event) { e.Context = []byte(`{"ga":{"cookie":"GA1.2.123.456"}}`) }, `{"client_id":"123.456",`, ""},
		{"a session", false, func(e *event.Event) { e.Context = []byte(`{"ga":{"session_id":1790}}`) }, `"session_id":1790,"engagement_time_msec":1`, ""},
		{"nobody", false, func(e *event.Event) { e.AnonymousID = "" }, "", "no_identity"},
		{"a huge anonymous id", false, func(e *event.Event) { e.AnonymousID = strings.Repeat("x", 5000) }, `{"client_id":"` + hashed("client", strings.Repeat("x", 5000)) + `"`, ""},
		{"a huge user id", false, func(e *event.Event) { e.UserID = strings.Repeat("x", 257) }, "", "user_id"},
		{"an installation", true, func(e *event.Event) { e.AnonymousID = instance }, `{"app_instance_id":"` + instance + `","events"`, ""},
		{"an installation in the context", true, func(e *event.Event) { e.Context = []byte(`{"ga":{"app_instance_id":"` + instance + `"}}`) }, `{"app_instance_id":"` + instance + `",`, ""},
		{"an app without", true, func(e *event.Event) { e.UserID = "u1" }, "", "no_identity"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body, result := one(t, planner(t, func(o *Options) { o.App = tt.app }), stored(tt.change))
			if result.Code != tt.code || !strings.Contains(body, tt.want) {
				t.Errorf("%+v\ngot  %s\nwant %s", result, body, tt.want)
			}
			if tt.code != "" && result.Class != connector.Permanent {
				t.Errorf("%+v", result)
			}
		})
	}
	first, _ := one(t, planner(t, func(o *Options) { o.WithoutIdentity = PerEvent }), stored(func(e *event.Event) { e.AnonymousID = "" }))
	second, _ := one(t, planner(t, func(o *Options) { o.WithoutIdentity = PerEvent }), stored(func(e *event.Event) { e.AnonymousID, e.ID = "", "e2" }))
	if first == "" || strings.Split(first, ",")[0] == strings.Split(second, ",")[0] {
		t.Errorf("events of nobody are of one user: %s %s", first, second)
	}
}

func TestUserPropertiesConsentAndDevice(t *testing.T) {
	t.Parallel()
	many := make([]string, 30)
	for i := range many {
		many[i] = fmt.Sprintf(`"t%d":%d`, i, i)
	}
	for _, tt := range []struct{ name, context, want, note string }{
		{"traits", `{"traits":{"plan":"pro","Seats":3,"trial":false,"gone":null}}`, `"user_properties":{"plan":{"value":"pro"},"seats":{"value":3},"trial":{"value":false}},`, ""},
		{"personal traits stay here", `{"traits":{"email":"x@example.com","firstName":"x","phone":"1"}}`, `"user_id":"u1","events"`, ""},
		{"reserved and nested ones", `{"traits":{"user_id":"x","google_x":1,"list":[1],"company":{"a":1},"ok":1}}`, `"user_properties":{"ok":{"value":1}},`, "left out: traits/user_id, traits/google_x, traits/list, traits/company"},
		{"a long one", `{"traits":{"bio":"` + strings.Repeat("ü", 40) + `"}}`, `"user_properties":{"bio":{"value":"` + strings.Repeat("ü", 36) + `"}},`, "cut to the length allowed: traits/bio"},
		{"too many", `{"traits":{` + strings.Join(many, ",") + `}}`, `"t24":{"value":24}},"events"`, "left out: traits/t25, traits/t26, traits/t27, traits/t28, traits/t29"},
		{"consent", `{"consent":{"ad_user_data":"Denied","ad_personalization":true}}`, `"consent":{"ad_user_data":"DENIED","ad_personalization":"GRANTED"},`, ""},
		{"consent that is none", `{"consent":{"ad_user_data":"maybe"}}`, `"user_id":"u1","events"`, ""},
		{"address and user agent", `{"ip":"203.0.113.7","userAgent":"Mozilla/5.0","device":{"model":"x"}}`, `"ip_override":"203.0.113.7","user_agent":"Mozilla/5.0","events"`, ""},
		{"device", `{"device":{"type":"mobile","manufacturer":"Acme","model":"One"},"os":{"name":"iOS","version":"19"},"locale":"de-AT"}`,
			`"device":{"category":"mobile","brand":"Acme","model":"One","operating_system":"iOS","operating_system_version":"19"},"events"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body, result := one(t, planner(t, nil), withContext(tt.context))
			if !strings.Contains(body, tt.want) || result.Message != tt.note {
				t.Errorf("got  %s\nwant %s\nnote %s", body, tt.want, result.Message)
			}
			if strings.Contains(body, "x@example.com") {
				t.Errorf("the address of the user is sent: %s", body)
			}
		})
	}
	body, _ := one(t, planner(t, func(o *Options) { o.Consent = Consent{AdUserData: "granted"} }), stored(nil))
	if !strings.Contains(body, `"consent":{"ad_user_data":"GRANTED"}`) {
		t.Error(body)
	}
}

// The hashes were made with sha256sum.
func TestUserDataIsNormalizedBeforeItIsHashed(t *testing.T) {
	t.Parallel()
	const (
		email = "973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b" // test@example.com
		phone = "4c693cbb6689c9cb73137957e22688012fcb76f711d33d7483848f41eca00393" // +4312345678
	)
	p := planner(t, func(o *Options) { o.UserData = true })
	body, _ := one(t, p, withContext(`{"traits":{"email":" Test@Example.com ","phone":"+43 (1) 234-5678"}}`))
	if !strings.Contains(body, `"user_data":{"sha256_email_address":["`+email+`"],"sha256_phone_number":["`+phone+`"]}`) {
		t.Error(body)
	}
	for from, want := range map[string]string{
		"Jane.Doe@Gmail.com": "janedoe@gmail.com", "j.d@googlemail.com": "jd@googlemail.com", "j.d@example.com": "j.d@example.com", "none": "", "@x": "",
	} {
		if got := normalEmail(from); got != want {
			t.Errorf("%s becomes %q, want %q", from, got, want)
		}
	}
	for from, want := range map[string]string{
		"+43 (1) 234-5678": "+4312345678", "0043 1 2345678": "", "+1": "", "+1+2345678": "", "+12345678901234567": "", "": "", "call me": "",
	} {
		if got := normalPhone(from); got != want {
			t.Errorf("%s becomes %q, want %q", from, got, want)
		}
	}
	for _, d := range []connector.Delivery{
		stored(func(e *event.Event) { e.Context = []byte(`{"traits":{"email":"test@example.com"}}`) }), // no user id
		withContext(`{"traits":{"email":"nonsense"}}`),
	} {
		if body, _ := one(t, p, d); strings.Contains(body, "user_data") {
			t.Error(body)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, timestamp, received string
		want                      string
		code                      string
	}{
		{"the sender's clock", "2026-11-23T11:00:00.123456789+01:00", "2026-11-23T12:00:00Z", `"timestamp_micros":1795428000123456}`, ""},
		{"a clock that is fast", "2026-11-23T12:30:00Z", "2026-11-23T12:00:00Z", `"timestamp_micros":1795435200000000}`, ""},
		{"none but ours", "", "2026-11-23T12:00:00Z", `"timestamp_micros":1795435200000000}`, ""},
		{"none", "", "", `"engagement_time_msec":1}}]}`, ""},
		{"72 hours", "2026-11-20T12:00:00Z", "2026-11-23T12:00:00Z", "", ""},
		{"more than 72 hours", "2026-11-20T11:59:59Z", "2026-11-23T12:00:00Z", "", "too_old"},
		{"one that was never set", "0001-01-01T00:00:00Z", "2026-11-23T12:00:00Z", `"timestamp_micros":1795435200000000}`, ""},
		{"a clock that is slow by years", "1970-01-01T00:00:00Z", "2026-11-23T12:00:00Z", "", "too_old"},
	} {
		d := stored(func(e *event.Event) { e.Timestamp, e.ReceivedAt = tt.timestamp, tt.received })
		plan := planner(t, nil).Plan([]connector.Delivery{d})
		switch {
		case tt.code != "":
			if len(plan.Done) != 1 || plan.Done[0].Result.Code != tt.code || plan.Done[0].Result.Class != connector.Permanent {
				t.Errorf("%s: %+v", tt.name, plan)
			}
		case len(plan.Calls) != 1:
			t.Errorf("%s: %+v", tt.name, plan.Done)
		case tt.want != "":
			if body, _ := plan.Calls[0].Payload.(*Batch).Body(noon, ""); !strings.Contains(string(body), tt.want) {
				t.Errorf("%s: %s", tt.name, body)
			}
		}
	}
}

func TestWhatBecomesTooOldWhileItWaitsIsNotSent(t *testing.T) {
	t.Parallel()
	plan := planner(t, nil).Plan([]connector.Delivery{
		stored(func(e *event.Event) { e.Timestamp = "2026-11-23T10:00:00Z" }),
		stored(func(e *event.Event) { e.ID, e.Timestamp = "e2", "2026-11-23T11:00:00Z" }),
	})
	b := plan.Calls[0].Payload.(*Batch)
	for _, tt := range []struct {
		at      string
		want    []connector.Class
		present []string
	}{
		{"2026-11-26T09:58:59Z", []connector.Class{connector.Delivered, connector.Delivered}, []string{`"e1"`, `"e2"`}},
		{"2026-11-26T10:00:00Z", []connector.Class{connector.Permanent, connector.Delivered}, []string{`"e2"`}},
		{"2026-11-26T11:00:00Z", []connector.Class{connector.Permanent, connector.Permanent}, nil},
	} {
		now, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		body, results := b.Body(now, "")
		for i, want := range tt.want {
			if results[i].Class != want || want == connector.Permanent && results[i].Code != "too_old" {
				t.Errorf("%s: event %d is %+v, want %s", tt.at, i, results[i], want)
			}
			if id := fmt.Sprintf(`"e%d"`, i+1); strings.Contains(string(body), id) != slices.Contains(tt.present, id) {
				t.Errorf("%s: %s in %s", tt.at, id, body)
			}
		}
		if body != nil && !json.Valid(body) {
			t.Errorf("%s", body)
		}
		if (body == nil) != (tt.present == nil) {
			t.Errorf("%s: body %q", tt.at, body)
		}
		Settle(results, connector.Result{Class: connector.Throttled, Code: "x"})
		for i, want := range tt.want {
			if want == connector.Delivered {
				want = connector.Throttled
			}
			if results[i].Class != want {
				t.Errorf("settled: event %d is %+v, want %s", i, results[i], want)
			}
		}
	}
}

// What has no received_at, or one by a clock that is fast, is not sent as from the
// future, which Google Analytics does not take.
func TestNoEventIsFromTheFuture(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]connector.Delivery{
		"nobody knows when it was received": stored(func(e *event.Event) { e.Timestamp, e.ReceivedAt = "9999-12-31T23:59:59Z", "" }),
		"our clock is fast":                 stored(func(e *event.Event) { e.Timestamp, e.ReceivedAt = "", "2026-11-23T12:00:05Z" }),
		"both are fast":                     stored(func(e *event.Event) { e.Timestamp, e.ReceivedAt = "2026-11-24T12:00:00Z", "2026-11-23T12:00:05Z" }),
	} {
		body, result := one(t, planner(t, nil), d)
		if want := fmt.Sprintf(`"timestamp_micros":%d}`, noon.UnixMicro()); result.Class != connector.Delivered || !strings.Contains(body, want) {
			t.Errorf("%s: %+v, %s", name, result, body)
		}
	}
}

// Pages and screens have their name for a title, unless it says nothing.
func TestTitles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind, name, data string
		want             string
	}{
		{event.TypePage, "Pricing", `{}`, `"page_title":"Pricing"`},
		{event.TypePage, "Pricing", `{"title":"Our prices"}`, `"page_title":"Our prices"`},
		{event.TypePage, "page", `{}`, ""},
		{event.TypeScreen, "Cart", `{}`, `"screen_name":"Cart"`},
		{event.TypeScreen, "screen", `{"screen_name":"Basket"}`, `"screen_name":"Basket"`},
		{event.TypeScreen, "screen", `{}`, ""},
	} {
		body, _ := one(t, planner(t, nil), stored(func(e *event.Event) { e.Type, e.Name, e.Data = tt.kind, tt.name, []byte(tt.data) }))
		if !strings.Contains(body, tt.want) || strings.Contains(body, "page_title") != strings.Contains(tt.want, "page_title") || strings.Contains(body, "screen_name") != strings.Contains(tt.want, "screen_name") {
			t.Errorf("%+v: %s", tt, body)
		}
	}
}

func TestCallsHoldOneUserEachAndKeepTheOrderOfKeys(t *testing.T) {
	t.Parallel()
	user := func(user, anonymous string) connector.Delivery {
		return stored(func(e *event.Event) { e.UserID, e.AnonymousID = user, anonymous })
	}
	var sixty []connector.Delivery
	for range 60 {
		sixty = append(sixty, user("u1", "a1"))
	}
	for _, tt := range []struct {
		name   string
		events []connector.Delivery
		want   string
	}{
		{"users apart", []connector.Delivery{user("u1", "a1"), user("u2", "a2"), user("u1", "a1"), user("u2", "a2")}, "[[0 2] [1 3]]"},
		{"one key that changes its client", []connector.Delivery{user("u1", "a1"), user("u1", "a2"), user("u1", "a1"), user("u1", "a1")}, "[[0] [1] [2 3]]"},
		{"properties apart", []connector.Delivery{withContext(`{"traits":{"plan":"free"}}`), withContext(`{"traits":{"plan":"pro"}}`)}, "[[0] [1]]"},
		{"25 a call", sixty, "25 25 10"},
		{"130 kB a call", []connector.Delivery{withData(heavy(150)), withData(heavy(150)), withData(heavy(5))}, "[[0] [1 2]]"},
	} {
		plan := planner(t, nil).Plan(tt.events)
		var calls [][]int
		var sizes []string
		for _, c := range plan.Calls {
			calls, sizes = append(calls, c.Events), append(sizes, fmt.Sprint(len(c.Events)))
			if body, _ := c.Payload.(*Batch).Body(noon, "ENFORCE_RECOMMENDATIONS"); len(body) >= 130_000 {
				t.Errorf("%s: %d bytes", tt.name, len(body))
			}
		}
		if got := fmt.Sprint(calls); got != tt.want && strings.Join(sizes, " ") != tt.want {
			t.Errorf("%s: %s, want %s; %+v", tt.name, got, tt.want, plan.Done)
		}
	}
	if _, result := one(t, planner(t, nil), withData(heavy(200))); result.Code != "too_large" || result.Class != connector.Permanent {
		t.Errorf("%+v", result)
	}
}

// heavy is data with n items of some 700 bytes.
func heavy(n int) string {
	item := `{"item_id":"x"`
	for i := range 6 {
		item += fmt.Sprintf(`,"field%d":%q`, i, strings.Repeat("v", 100))
	}
	return `{"items":[` + strings.Repeat(item+`},`, n-1) + item + `}]}`
}

func TestSettingsNameTheirFaults(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"event_id_parameter":                         {EventIDParameter: "Event-ID"},
		"event_id_parameter:":                        {EventIDParameter: "ga_event"},
		"event_id_parameter: Google Analytics knows": {EventIDParameter: "engagement_time_msec"},
		"currency": {Currency: "euro"},
		"mapping":  {Mapping: mapping.Settings{Properties: map[string]*string{"x": new(string)}}},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// check fails the test if a plan has a body that Google would not take.
func check(t testing.TB, p *Planner, events []connector.Delivery) (planned int) {
	t.Helper()
	for _, call := range p.Plan(events).Calls {
		body, _ := call.Payload.(*Batch).Body(noon, "RELAXED")
		if err := simulator.Validate("ga4.mp-collect.request", body); err != nil {
			t.Errorf("%v\n%.3000s", err, body)
		}
		if len(body) >= 130_000 {
			t.Errorf("%d bytes", len(body))
		}
		planned += len(call.Events)
	}
	return planned
}

func TestEveryBodyFitsTheSchema(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	planners := []*Planner{
		planner(t, nil),
		planner(t, func(o *Options) { o.Ecommerce, o.UserData, o.WithoutIdentity = false, true, PerEvent }),
		planner(t, func(o *Options) { o.Currency, o.EventIDParameter, o.UserData = "EUR", "", true }),
		planner(t, func(o *Options) { o.App = true }),
	}
	if n := check(t, planners[0], connectortest.Odd()); n < 10 {
		t.Errorf("%d odd events were planned", n)
	}
	planned := 0
	for range 150 {
		events := make([]connector.Delivery, 1+random.IntN(60))
		for i := range events {
			events[i] = stored(func(e *event.Event) { wild(random, e) })
		}
		planned += check(t, planners[random.IntN(len(planners))], events)
	}
	if planned < 400 {
		t.Errorf("%d events were planned", planned)
	}
}

// wild makes an event as senders send them, with whatever may be in it.
func wild(r *rand.Rand, e *event.Event) {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	e.ID = strings.Repeat("i", 1+r.IntN(150))
	e.Type = pick(event.TypeTrack, event.TypeTrack, event.TypeTrack, event.TypePage, event.TypeScreen, event.TypeGroup, event.TypeIdentify)
	e.Name = pick("Order Completed", "Product Added", "purchase", "view_item_list", "search", "error", "ga_x", "button_clicked", "Sign Up", "日本", "_x", strings.Repeat("n", 60), "a.b/c-d", "Promotion Viewed")
	e.UserID, e.AnonymousID = pick("", "u1", "größe", strings.Repeat("u", 300)), pick("", "a1", "GA1.1.2.3", "0123456789abcdef0123456789abcdef")
	e.Timestamp = pick("", "2026-11-23T11:00:00Z", "2030-01-01T00:00:00Z", "1999-01-01T00:00:00Z", "2026-11-22T11:00:00.5+05:30")
	e.IP = pick("", "203.0.113.7")
	e.Data = []byte(object(r, 3))
	e.Context = []byte(`{"traits":` + object(r, 1) + `,"page":` + object(r, 1) + `,"ga":` + object(r, 1) + `,"consent":` + object(r, 0) + `,"os":` + object(r, 1) + `,"userAgent":` + value(r, 0) + `}`)
}

var words = []string{
	"value", "currency", "items", "products", "session_id", "engagement_time_msec", "page_location", "page_title", "page_referrer", "screen_name", "order_id", "total", "revenue",
	"name", "price", "quantity", "product_id", "sku", "item_id", "query", "url", "title", "referrer", "email", "phone", "plan", "Plan", "user_id", "first_open_time", "firebase_x", "google_y", "ga_z", "_a", "gtag.x",
	"日本", "", "a b", "client_id", "app_instance_id", "version", "event_id", "group_id", "ad_user_data", "long_long_long_long_long_long_long_long_long_name", "index", "category", "a", "b", "c", "d", "e", "f",
}

func object(r *rand.Rand, depth int) string {
	n, used := r.IntN(8), map[string]bool{}
	if r.IntN(10) == 0 {
		n = 40
	}
	var members []string
	for range n {
		name := words[r.IntN(len(words))]
		if !used[name] {
			used[name] = true
			quoted, _ := json.Marshal(name)
			members = append(members, string(quoted)+":"+value(r, depth))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func value(r *rand.Rand, depth int) string {
	switch n := r.IntN(14); {
	case n == 0:
		return "null"
	case n < 3:
		return []string{"0", "-0", "1", "2e3", "12.50", "-3", "12345678901234567890.5", "1e4"}[r.IntN(8)]
	case n == 3:
		return []string{"true", "false"}[r.IntN(2)]
	case n < 6 && depth > 0:
		return object(r, depth-1)
	case n < 8 && depth > 0:
		var elements []string
		for range r.IntN(5) {
			elements = append(elements, value(r, depth-1))
		}
		return "[" + strings.Join(elements, " , ") + "]"
	case n == 8:
		return `"` + strings.Repeat([]string{"x", "ü", "\\u00e9", "\\n", "😀", `\"`}[r.IntN(6)], r.IntN(1500)) + `"`
	}
	return []string{`""`, `"EUR"`, `"eur"`, `"1.5"`, `"granted"`, `"12"`, `"007"`, `"x@example.com"`, `"+43 1 2345678"`, `"https://x.example/?q=1"`, `"\ud83d\ude00"`}[r.IntN(11)]
}

func FuzzPlan(f *testing.F) {
	f.Add("Order Completed", `{"products":[{"sku":"a","price":"1"}],"total":1,"currency":"EUR"}`, `{"traits":{"a":1}}`)
	f.Add("x", `{"a":{"b":[1,2,{"c":null}]},"value":"1."}`, `{"ga":{"session_id":"x"}}`)
	p := planner(f, func(o *Options) { o.UserData = true })
	f.Fuzz(func(t *testing.T, name, data, context string) {
		d := stored(func(e *event.Event) {
			e.Name, e.Data, e.Context, e.UserID = name, []byte(data), []byte(context), "u1"
		})
		parsed, err := event.ParseSent(d.Raw, event.Limits{})
		if err != nil {
			return
		}
		parsed.ReceivedAt = d.Event.ReceivedAt
		check(t, p, []connector.Delivery{{Event: parsed, Raw: d.Raw}})
	})
}

func BenchmarkPlan(b *testing.B) {
	for _, bb := range []struct {
		name   string
		events []connector.Delivery
	}{
		{"plain", connectortest.Plain(250)},
		{"shop", shop(250)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			connectortest.BenchmarkPlan(b, bb.events, planner(b, nil).Plan)
		})
	}
}

// shop returns orders of 50 users.
func shop(n int) []connector.Delivery {
	events := make([]connector.Delivery, n)
	for i := range events {
		events[i] = stored(func(e *event.Event) {
			e.ID, e.Name, e.UserID, e.AnonymousID = fmt.Sprintf("0198c0de-0000-7000-8000-%012d", i), "Order Completed", fmt.Sprintf("u%d", i%50), fmt.Sprintf("a%d", i%50)
			e.Data = fmt.Appendf(nil, `{"order_id":"o%d","total":120.50,"currency":"EUR","coupon":"SPRING","products":[{"product_id":"p1","name":"Green tea","price":3.20,"quantity":2,"category":"Drinks"},{"product_id":"p2","name":"Mug","price":12,"quantity":1,"category":"Kitchen"}],"shippingMethod":"post","newsletter":true}`, i)
			e.Context = []byte(`{"ip":"203.0.113.7","locale":"de-AT","userAgent":"Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0","page":{"url":"https://shop.example/checkout","title":"Checkout","referrer":"https://shop.example/cart"},"traits":{"plan":"pro","seats":3}}`)
		})
	}
	return events
}

// What is faster than looking a name up rests on what the file says.
func TestReservedParametersBeginWithAReservedPrefix(t *testing.T) {
	t.Parallel()
	var file struct {
		Names    []string `json:"param_names"`
		Prefixes []string `json:"param_prefixes"`
		Users    []string `json:"user_property_prefixes"`
	}
	if err := json.Unmarshal(reservedFile, &file); err != nil || len(file.Names) == 0 {
		t.Fatal(err)
	}
	for _, name := range slices.Concat(file.Names, file.Prefixes) {
		if !reserved.param(name) {
			t.Errorf("%s is not reserved", name)
		}
	}
	for _, name := range file.Users {
		if !reserved.property(name) {
			t.Errorf("%s is not reserved", name)
		}
	}
}
