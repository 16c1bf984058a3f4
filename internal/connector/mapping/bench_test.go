package mapping

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

// typical is an event of about 500 bytes of data and context, as a page sends it.
func typical() *event.Event {
	return &event.Event{
		ID: "0198f6a2-0000-7000-8000-000000000001", Type: event.TypeTrack, Name: "order_placed",
		UserID: "u1", AnonymousID: "a1", Source: "shop",
		Timestamp: "2026-11-23T10:00:00.125Z", ReceivedAt: "2026-11-23T10:00:01Z",
		Data: json.RawMessage(`{"order_id":"50314b8e9bcf","total":129.90,"currency":"EUR","coupon":null,` +
			`"items":[{"sku":"A-1","qty":2},{"sku":"B-7","qty":1}],"plan":"pro"}`),
		Context: json.RawMessage(`{"ip":"203.0.113.7","locale":"de-DE","userAgent":"Mozilla/5.0 (X11; Linux x86_64) Firefox/142.0",` +
			`"page":{"url":"https://shop.example/checkout","referrer":"https://www.example.com/","title":"Checkout"},` +
			`"library":{"name":"web","version":"2.1.0"},"traits":{"email":"Ada@Example.com","plan":"pro"},"campaign":{"source":"news"}}`),
	}
}

// tenFields are what a connector maps by default.
func tenFields() Defaults {
	return Defaults{Page: "Viewed %s", Screen: "Viewed %s", Fields: []Field{
		{"$current_url", []string{"/context/page/url"}},
		{"$referrer", []string{"/context/page/referrer"}},
		{"$os", []string{"/context/os/name"}},
		{"$browser", []string{"/context/browser/name"}},
		{"$screen_width", []string{"/context/screen/width"}},
		{"$screen_height", []string{"/context/screen/height"}},
		{"utm_source", []string{"/context/campaign/source", "/context/utm/source"}},
		{"utm_medium", []string{"/context/campaign/medium"}},
		{"mp_lib", []string{"/context/library/name"}},
		{"$app_version", []string{"/context/app/version"}},
	}, Reserved: func(name string) bool { return strings.HasPrefix(name, "$") || name == "time" || name == "distinct_id" }}
}

func ptr(s string) *string { return &s }

func benchmark(b *testing.B, s Settings, d Defaults, e *event.Event) {
	b.Helper()
	m, err := New(s, d)
	if err != nil {
		b.Fatal(err)
	}
	var r Record
	b.ReportAllocs()
	for b.Loop() {
		if res := m.Map(e, &r); res != nil {
			b.Fatal(res)
		}
	}
	b.ReportMetric(float64(len(e.Data)+len(e.Context)), "bytes")
}

var threePointers = map[string]*string{"first_sku": ptr("/data/items/0/sku"), "plan": ptr("/context/traits/plan"), "title": ptr("/context/page/title")}

func BenchmarkMapPlain(b *testing.B) { benchmark(b, Settings{}, Defaults{}, typical()) }

func BenchmarkMapTypical(b *testing.B) {
	benchmark(b, Settings{Properties: threePointers}, tenFields(), typical())
}

func BenchmarkMapPage(b *testing.B) {
	e := typical()
	e.Type, e.Name = event.TypePage, "page"
	benchmark(b, Settings{Properties: threePointers}, tenFields(), e)
}

func BenchmarkMapPrivacy(b *testing.B) {
	benchmark(b, Settings{Properties: threePointers, Privacy: Privacy{
		Drop: []string{"/data/coupon", "/data/absent"}, Hash: []string{"/context/traits/email"}, Salt: "s", IP: "truncate",
	}}, tenFields(), typical())
}

func BenchmarkMapIdentify(b *testing.B) {
	e := typical()
	e.Type, e.Name = event.TypeIdentify, "identify"
	benchmark(b, Settings{Traits: threePointers}, tenFields(), e)
}

func BenchmarkMapOneDropOneHash(b *testing.B) {
	benchmark(b, Settings{Properties: threePointers, Privacy: Privacy{Drop: []string{"/data/coupon"}, Hash: []string{"/context/traits/email"}}}, tenFields(), typical())
}

func BenchmarkMapOneExpression(b *testing.B) {
	benchmark(b, Settings{Properties: map[string]*string{"gross": ptr("= event.data.total * 1.2")}}, tenFields(), typical())
}

func BenchmarkMapFourExpressions(b *testing.B) {
	benchmark(b, Settings{Properties: map[string]*string{
		"gross":   ptr("= event.data.total * 1.2"),
		"domain":  ptr("= event.context.page.url.contains('shop') ? 'shop' : 'other'"),
		"channel": ptr("= 'web'"),
		"skus":    ptr("= event.data.items.map(i, i.sku)"),
	}}, tenFields(), typical())
}

func BenchmarkLookup(b *testing.B) {
	m, err := New(Settings{}, Defaults{})
	if err != nil {
		b.Fatal(err)
	}
	var r Record
	m.Map(typical(), &r)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := m.Lookup(&r, "/context/traits/email"); !ok {
			b.Fatal("nothing there")
		}
	}
}

func BenchmarkSnake(b *testing.B) {
	for _, name := range []string{"order_id", "Order Completed"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Snake(name, 40)
			}
		})
	}
}

func BenchmarkFlatten(b *testing.B) {
	p := Property{"address", []byte(`{"city":"Bonn","zip":"53111","geo":{"lat":50.7,"lon":7.1}}`)}
	b.ReportAllocs()
	for b.Loop() {
		Flatten(p, "_", 3, func(string, []byte) bool { return true })
	}
}
