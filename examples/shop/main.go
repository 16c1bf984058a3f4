// Command shop prints what happened in a shop during the last day, as events of
// the gateway, one per line: visits, products looked at, carts, orders, and
// customers who sign up. The same seed gives the same day.
//
//	go run ./examples/shop | curl -H "Authorization: Bearer $KEY" \
//	  -H "Content-Type: application/x-ndjson" --data-binary @- http://localhost:8080/v1/events
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

// event is an event as a sender writes it.
type event struct {
	Type        string         `json:"type,omitempty"`
	Name        string         `json:"name"`
	UserID      string         `json:"user_id,omitempty"`
	AnonymousID string         `json:"anonymous_id"`
	Timestamp   time.Time      `json:"timestamp"`
	Data        map[string]any `json:"data"`
	Context     map[string]any `json:"context"`
}

type product struct {
	id, name, category string
	price              float64
}

var products = []product{
	{"p-101", "Espresso beans", "coffee", 14.90},
	{"p-102", "Filter beans", "coffee", 12.50},
	{"p-201", "Hand grinder", "equipment", 89.00},
	{"p-202", "Gooseneck kettle", "equipment", 59.90},
	{"p-301", "Cup, blue", "tableware", 11.00},
	{"p-302", "Cup, größer & weiß", "tableware", 13.00},
}

var agents = []string{
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile/15E148 Safari/604.1",
}

// visit is one customer in the shop, at a moment of it.
type visit struct {
	*rand.Rand
	out     *[]event
	n       int
	at      time.Time
	user    string // known after sign-up
	context map[string]any
}

func (v *visit) happens(kind, name string, data map[string]any) {
	v.at = v.at.Add(time.Duration(5+v.IntN(90)) * time.Second)
	*v.out = append(*v.out, event{
		Type: kind, Name: name, UserID: v.user, AnonymousID: fmt.Sprintf("a-%05d", v.n),
		Timestamp: v.at, Data: data, Context: maps.Clone(v.context), // of now: the customer may sign up later
	})
}

func (v *visit) page(title, path string) {
	v.happens("page", title, map[string]any{"url": "https://shop.example" + path, "path": path, "title": title})
}

// day fills in the visits of a day that ends at a time.
func day(r *rand.Rand, visits int, end time.Time) []event {
	var events []event
	for n := range visits {
		// Most people come in the evening.
		at := end.Add(-24*time.Hour + time.Duration(float64(23*time.Hour)*max(r.Float64(), r.Float64())))
		v := &visit{Rand: r, out: &events, n: n, at: at.Truncate(time.Millisecond)}
		v.context = map[string]any{
			"userAgent": agents[r.IntN(len(agents))], "ip": fmt.Sprintf("203.0.113.%d", 1+r.IntN(250)), "locale": "de-AT",
			"page": map[string]any{"url": "https://shop.example/", "referrer": "https://search.example/"},
		}
		if r.IntN(4) == 0 {
			v.context["campaign"] = map[string]any{"source": "newsletter", "medium": "email", "name": "autumn"}
		}
		v.comes()
	}
	slices.SortStableFunc(events, func(a, b event) int {
		return cmp.Or(a.Timestamp.Compare(b.Timestamp), cmp.Compare(a.AnonymousID, b.AnonymousID))
	})
	return events
}

// comes is what one customer does.
func (v *visit) comes() {
	v.page("Home", "/")
	if v.IntN(3) == 0 {
		v.signsUp()
	}
	var cart []product
	for range 1 + v.IntN(4) {
		p := products[v.IntN(len(products))]
		v.page(p.name, "/products/"+p.id)
		v.happens("", "Product Viewed", p.data())
		if v.IntN(2) == 0 {
			v.happens("", "Product Added", p.data())
			cart = append(cart, p)
		}
	}
	if len(cart) == 0 || v.IntN(3) == 0 {
		return
	}
	if v.user == "" {
		v.signsUp()
	}
	items, total := make([]map[string]any, len(cart)), 0.0
	for i, p := range cart {
		items[i] = p.data()
		total += p.price
	}
	v.happens("", "Order Completed", map[string]any{
		"order_id": fmt.Sprintf("o-%05d", v.n), "total": total, "currency": "EUR", "coupon": nil, "products": items,
	})
}

func (v *visit) signsUp() {
	v.user = fmt.Sprintf("u-%05d", v.n)
	email := fmt.Sprintf("customer-%05d@example.com", v.n)
	v.context["traits"] = map[string]any{"email": email}
	v.happens("identify", "identify", map[string]any{"email": email, "firstName": fmt.Sprintf("Customer %d", v.n), "plan": "free"})
	v.happens("", "Signed Up", map[string]any{"method": "email"})
}

func (p product) data() map[string]any {
	return map[string]any{"product_id": p.id, "name": p.name, "category": p.category, "price": p.price, "currency": "EUR"}
}

func main() {
	visits := flag.Int("visits", 250, "how many customers come")
	seed := flag.Uint64("seed", 1, "which day it is")
	flag.Parse()
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	for _, e := range day(rand.New(rand.NewPCG(*seed, 0)), *visits, time.Now().UTC()) {
		if err := encoder.Encode(e); err != nil {
			fmt.Fprintln(os.Stderr, "shop:", err)
			os.Exit(1)
		}
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}
