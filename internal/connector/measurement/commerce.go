package measurement

import (
	"strconv"

	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// commerceNames gives the events of the common e-commerce vocabulary the names
// of Google Analytics. Sources: Segment, "Spec: E-Commerce" v2; Google,
// "Recommended events" (read 2026-11).
var commerceNames = map[string]string{
	"products_searched":         "search",
	"product_list_viewed":       "view_item_list",
	"product_clicked":           "select_item",
	"product_viewed":            "view_item",
	"product_added":             "add_to_cart",
	"product_removed":           "remove_from_cart",
	"product_added_to_wishlist": "add_to_wishlist",
	"cart_viewed":               "view_cart",
	"checkout_started":          "begin_checkout",
	"payment_info_entered":      "add_payment_info",
	"order_completed":           "purchase",
	"order_refunded":            "refund",
	"promotion_viewed":          "view_promotion",
	"promotion_clicked":         "select_promotion",
}

// shape is what data of an event of e-commerce looks like.
type shape uint8

const (
	plain  shape = iota
	basket       // several products, in products or items
	single       // one product, whose fields stand in data itself
	promotion
	search
)

var shapes = map[string]shape{
	"search":         search,
	"view_item_list": basket, "view_cart": basket, "begin_checkout": basket, "add_shipping_info": basket,
	"add_payment_info": basket, "purchase": basket, "refund": basket,
	"select_item": single, "view_item": single, "add_to_cart": single, "remove_from_cart": single, "add_to_wishlist": single,
	"view_promotion": promotion, "select_promotion": promotion,
}

// param returns what Google Analytics calls a parameter of such an event.
func (h shape) param(name string) string {
	switch h {
	case basket:
		switch name {
		case "order_id":
			return "transaction_id"
		case "list_id":
			return "item_list_id"
		case "category":
			return "item_list_name"
		case "payment_method":
			return "payment_type"
		case "shipping_method":
			return "shipping_tier"
		}
	case promotion:
		switch name {
		case "name":
			return "promotion_name"
		case "creative":
			return "creative_name"
		case "position":
			return "creative_slot"
		}
	case search:
		if name == "query" {
			return "search_term"
		}
	}
	return name
}

// itemField returns what Google Analytics calls a field of a product, and
// whether it is one that stands in data of an event with a single product.
func itemField(name string) (field string, known bool) {
	switch name {
	case "product_id", "sku":
		return "item_id", true
	case "name":
		return "item_name", true
	case "brand":
		return "item_brand", true
	case "category":
		return "item_category", true
	case "variant":
		return "item_variant", true
	case "position":
		return "index", true
	case "price", "quantity", "coupon", "item_id", "item_name", "item_brand", "item_category", "item_variant":
		return name, true
	case "id":
		return "item_id", false
	}
	return name, false
}

// isAmount reports whether Google Analytics wants a number.
func isAmount(name string) bool {
	switch name {
	case "price", "quantity", "discount", "tax", "shipping", "index":
		return true
	}
	return false
}

// sum makes revenue or total the value of an order that has none.
func (s *scratch) sum() {
	for _, name := range [...]string{paramValue, "revenue", "total"} {
		for i := range s.params {
			if s.params[i].name == name {
				s.params[i].name = paramValue
				return
			}
		}
	}
}

// items writes the products of an event.
func (p *Planner) items(s *scratch, h shape) {
	items := s.take(paramItems)
	if items == nil && h == basket {
		items = s.take("products")
	}
	switch {
	case items != nil:
		p.list(s, paramItems, items)
	case h == single:
		p.item(s)
	}
	for i := range s.params {
		if at := &s.params[i]; !at.taken && isAmount(at.name) {
			if n, ok := number(at.value); ok {
				at.value = n
			}
		}
	}
}

// item writes the one product whose fields stand in data.
func (p *Planner) item(s *scratch) {
	identified := false
	for i := range s.params {
		field, known := itemField(s.params[i].name)
		identified = identified || known && !s.params[i].taken && (field == "item_id" || field == "item_name")
	}
	if !identified || len(s.written) == MaxParams {
		return
	}
	s.add(paramItems)
	s.body = append(mapping.AppendMember(s.body, paramItems, nil), `[{`...)
	params := s.written
	s.written = s.written[len(s.written):]
	for i := range s.params {
		at := &s.params[i]
		if field, known := itemField(at.name); known && !at.taken && !s.has(field) {
			at.taken = true
			p.field(s, field, at.value)
		}
	}
	s.written = params
	s.body = append(s.body, `}]`...)
}

// list writes the items of an event: those that are objects and have an id or a
// name, which Google Analytics asks for.
func (p *Planner) list(s *scratch, name string, value []byte) {
	if len(s.written) == MaxParams || !mapping.IsArray(value) {
		s.leave(name)
		return
	}
	before, params := len(s.body), s.written
	s.body = append(mapping.AppendMember(s.body, name, nil), '[')
	n, i := 0, -1
	_ = event.Elements(value, func(element []byte) bool { // a flaw ends it: events were checked
		i++
		if n == MaxItems {
			s.leave("items beyond 200")
			return false
		}
		start := len(s.body)
		if n > 0 {
			s.body = append(s.body, ',')
		}
		s.written = params[len(params):]
		if !p.object(s, element) {
			s.body = s.body[:start]
			s.leave("items/" + strconv.Itoa(i))
			return true
		}
		n++
		return true
	})
	s.written = params
	if n == 0 {
		s.body = s.body[:before]
		return
	}
	s.body = append(s.body, ']')
	s.add(name)
}

// object writes one item, and reports whether it can be told from others.
func (p *Planner) object(s *scratch, element []byte) bool {
	if !mapping.IsObject(element) {
		return false
	}
	s.body = append(s.body, '{')
	_ = event.Members(element, func(name string, value []byte) bool {
		field := snake(name, MaxName)
		if known, _ := itemField(field); !s.has(known) {
			field = known
		}
		if value[0] == 'n' {
			return true
		}
		if field == "" || reserved.param(field) || s.has(field) || len(s.written) == MaxItemFields || value[0] == '{' || value[0] == '[' {
			s.leave("items/" + name)
			return true
		}
		p.field(s, field, value)
		return true
	})
	s.body = append(s.body, '}')
	return s.has("item_id") || s.has("item_name")
}

// MaxItemFields is the most fields of an item: those that Google Analytics knows
// and 27 of one's own. Source: Analytics Help, "Event collection limits" (read
// 2026-11).
const MaxItemFields = 40

// field writes one field of an item.
func (p *Planner) field(s *scratch, name string, value []byte) {
	if isAmount(name) {
		if n, ok := number(value); ok {
			value = n
		}
	}
	s.add(name)
	s.body = mapping.AppendMember(s.body, name, nil)
	// Of an item, 360 allows no more than others.
	if s.text(value, MaxValue, name == "item_id" || name == "item_name") {
		s.shorten("items/" + name)
	}
}
