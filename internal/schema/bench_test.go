package schema

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/testenv"
)

// orderSchema is the contract of an order: 18 properties, an object and an
// array of objects in it, enum, patterns, formats, ranges.
const orderSchema = `{
 "type":"object","required":["order_id","currency","total","products","customer","placed_at"],"additionalProperties":false,
 "properties":{
  "order_id":{"type":"string","pattern":"^ord_[0-9a-z]{8,20}$"},
  "checkout_id":{"type":"string","format":"uuid"},
  "placed_at":{"type":"string","format":"date-time"},
  "currency":{"enum":["EUR","USD","GBP","CHF","SEK"]},
  "total":{"type":"number","minimum":0},
  "revenue":{"type":"number","minimum":0},
  "shipping":{"type":"number","minimum":0},
  "tax":{"type":"number","minimum":0},
  "discount":{"type":["number","null"],"minimum":0},
  "coupon":{"type":["string","null"],"maxLength":32},
  "affiliation":{"type":"string","maxLength":64},
  "items":{"type":"integer","minimum":1},
  "gift":{"type":"boolean"},
  "channel":{"type":"string","enum":["web","app","store"]},
  "page":{"type":"string","format":"uri"},
  "tags":{"type":"array","items":{"type":"string"},"maxItems":10,"uniqueItems":true},
  "customer":{"type":"object","required":["email"],"properties":{"email":{"type":"string","format":"email"},"country":{"type":"string","pattern":"^[A-Z]{2}$"}}},
  "products":{"type":"array","minItems":1,"items":{"$ref":"#/$defs/product"}}},
 "$defs":{"product":{"type":"object","required":["sku","price","quantity"],"properties":{
  "sku":{"type":"string","minLength":3},"name":{"type":"string"},"price":{"type":"number","exclusiveMinimum":0},"quantity":{"type":"integer","minimum":1}}}}}`

// order is the data of an order; with the rest of its event it has 500 bytes.
const order = `{"order_id":"ord_8f3kq01z","placed_at":"2026-11-23T10:00:00.123Z","currency":"EUR","total":49.9,"revenue":41.93,"tax":7.97,` +
	`"coupon":null,"items":3,"gift":false,"channel":"web","customer":{"email":"ann@shop.example","country":"DE"},` +
	`"products":[{"sku":"A-100","price":19.95,"quantity":2},{"sku":"B-7","price":10,"quantity":1}]}`

// fifty is a document of fifty schemas, of which one is for orders.
func fifty(t testing.TB, schema string) *Set {
	var b strings.Builder
	b.WriteString(`{"schemas":[`)
	for i := range 50 {
		if i > 0 {
			b.WriteByte(',')
		}
		name := fmt.Sprintf("event_%d", i)
		if i == 25 {
			name = "order_completed"
		}
		fmt.Fprintf(&b, `{"name":%q,"mode":"reject","schema":%s}`, name, schema)
	}
	b.WriteString(`]}`)
	set, err := Parse([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func orderEvent(t testing.TB, data string) event.Event {
	raw := `{"id":"01980000-0000-7000-8000-000000000001","name":"order_completed","user_id":"user-1",` +
		`"context":{"library":{"name":"x","version":"1"}},"data":` + data + `}`
	ev, err := event.ParseSent([]byte(raw), event.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// BenchmarkCheck is what an event of 500 bytes costs with fifty schemas loaded.
func BenchmarkCheck(b *testing.B) {
	unevaluated := strings.Replace(orderSchema, `"additionalProperties"`, `"unevaluatedProperties"`, 1)
	for _, load := range []struct {
		name, schema, data string
		right              bool
	}{
		{"right", orderSchema, order, true},
		{"wrong", orderSchema, strings.Replace(order, `"EUR"`, `"EURO"`, 1), false},
		{"library", unevaluated, order, true},
	} {
		b.Run(load.name, func(b *testing.B) {
			set, ev := fifty(b, load.schema), orderEvent(b, load.data)
			var r Report
			b.ReportAllocs()
			begin := testenv.CPUTime()
			for b.Loop() {
				if (set.Check(&ev, &r) == nil) != load.right {
					b.Fatal(r.Violations)
				}
			}
			b.ReportMetric(float64(testenv.CPUTime()-begin)/float64(b.N), "cpu-ns/op")
		})
	}
	b.Run("no schema", func(b *testing.B) {
		set, ev := fifty(b, orderSchema), orderEvent(b, order)
		ev.Name = "other"
		var r Report
		b.ReportAllocs()
		for b.Loop() {
			set.Check(&ev, &r)
		}
	})
	// What the same costs if the event is decoded and the library checks it.
	b.Run("decode and library", func(b *testing.B) {
		var schema any
		if err := json.Unmarshal([]byte(orderSchema), &schema); err != nil {
			b.Fatal(err)
		}
		lib, err := compileLibrary(schema)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		begin := testenv.CPUTime()
		defer func() { b.ReportMetric(float64(testenv.CPUTime()-begin)/float64(b.N), "cpu-ns/op") }()
		for b.Loop() {
			var value any
			if json.Unmarshal([]byte(order), &value) != nil || lib.Validate(value) != nil {
				b.Fatal("wrong")
			}
		}
	})
}

// BenchmarkParse is what reading a document of fifty schemas costs.
func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		fifty(b, orderSchema)
	}
}
