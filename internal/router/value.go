package router

import (
	"math"
	"reflect"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/eventsluice/sluice/internal/event"
)

// eventType is the type of the variable event of expressions.
var eventType = cel.ObjectType("sluice.Event")

// fields are the fields of an event that rules can name, in stored order.
var fields = []string{
	"id", "type", "name", "user_id", "anonymous_id", "timestamp", "received_at", "source", "ip", "data", "context",
}

// stringField returns where a field of type string is kept in an event, nil
// for data, context and unknown names.
func stringField(e *event.Event, name string) *string {
	switch name {
	case "id":
		return &e.ID
	case "type":
		return &e.Type
	case "name":
		return &e.Name
	case "user_id":
		return &e.UserID
	case "anonymous_id":
		return &e.AnonymousID
	case "timestamp":
		return &e.Timestamp
	case "received_at":
		return &e.ReceivedAt
	case "source":
		return &e.Source
	case "ip":
		return &e.IP
	}
	return nil
}

// binding shows an event to an expression: it is the value of the variable
// event, and the activation that resolves it. Its fields are read when the
// expression gets to them. It is not safe for concurrent use.
type binding struct {
	event         *event.Event
	data, context object
}

// reset shows another event, or none, and keeps memory.
func (b *binding) reset(e *event.Event) {
	if b.event = e; e == nil {
		b.data.reset(nil)
		b.context.reset(nil)
		return
	}
	b.data.reset(e.Data)
	b.context.reset(e.Context)
}

func (b *binding) ResolveName(name string) (any, bool) { return b, name == "event" }
func (b *binding) Parent() cel.Activation              { return nil }

func (b *binding) ConvertToNative(reflect.Type) (any, error) { return b, nil }
func (b *binding) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return eventType
	}
	return types.NewErr("an event cannot become a %s", t.TypeName())
}
func (b *binding) Equal(other ref.Val) ref.Val { return types.Bool(other == ref.Val(b)) }
func (b *binding) Type() ref.Type              { return eventType }
func (b *binding) Value() any                  { return b }

// provider adds the type of events to the types of CEL.
type provider struct {
	types.Provider
	fields map[string]*types.FieldType
}

func newProvider(base types.Provider) provider {
	p := provider{Provider: base, fields: map[string]*types.FieldType{}}
	object := types.NewMapType(types.StringType, types.DynType)
	for _, name := range fields {
		switch name {
		case "data":
			p.fields[name] = fieldType(object,
				func(b *binding) bool { return b.data.Size() != types.IntZero },
				func(b *binding) ref.Val { return &b.data })
		case "context":
			p.fields[name] = fieldType(object,
				func(b *binding) bool { return b.context.Size() != types.IntZero },
				func(b *binding) ref.Val { return &b.context })
		default:
			p.fields[name] = fieldType(types.StringType,
				func(b *binding) bool { return *stringField(b.event, name) != "" },
				func(b *binding) ref.Val { return types.String(*stringField(b.event, name)) })
		}
	}
	return p
}

func fieldType(t *types.Type, isSet func(*binding) bool, get func(*binding) ref.Val) *types.FieldType {
	return &types.FieldType{
		Type:    t,
		IsSet:   func(target any) bool { return isSet(target.(*binding)) },
		GetFrom: func(target any) (any, error) { return get(target.(*binding)), nil },
	}
}

func (p provider) FindStructType(name string) (*types.Type, bool) {
	if name == eventType.TypeName() {
		return types.NewTypeTypeWithParam(eventType), true
	}
	return p.Provider.FindStructType(name)
}

func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if name == eventType.TypeName() {
		return fields, true
	}
	return p.Provider.FindStructFieldNames(name)
}

func (p provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if name == eventType.TypeName() {
		t, ok := p.fields[field]
		return t, ok
	}
	return p.Provider.FindStructFieldType(name, field)
}

// decode gives the CEL value of JSON text whose syntax has been checked.
// Objects are decoded when they are looked into.
func decode(raw []byte) ref.Val {
	switch raw[0] {
	case '{':
		return &object{raw: raw}
	case '[':
		elements := []ref.Val{}
		if err := event.Elements(raw, func(e []byte) bool {
			elements = append(elements, decode(e))
			return true
		}); err != nil {
			return types.WrapErr(err)
		}
		return types.NewRefValList(types.DefaultTypeAdapter, elements)
	case '"':
		s, err := event.Unquote(raw)
		if err != nil {
			return types.WrapErr(err)
		}
		return types.String(s)
	case 't':
		return types.True
	case 'f':
		return types.False
	case 'n':
		return types.NullValue
	}
	return number(string(raw))
}

// number gives a double, or an int if it is one that a double cannot hold
// exactly. What is beyond a double is infinite.
func number(s string) ref.Val {
	f, _ := strconv.ParseFloat(s, 64)
	if math.Abs(f) >= 1<<53 {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return types.Int(n)
		}
	}
	return types.Double(f)
}

// object is a JSON object as a map of CEL. Its members are found at the first
// look into it and decoded one by one, when they are asked for.
type object struct {
	raw     []byte
	indexed bool
	err     error
	members []objectMember
	// places finds members by key if there are many, so that an expression
	// which looks at an object again and again stays linear.
	places map[string]int
	whole  traits.Mapper
}

type objectMember struct {
	key   string
	raw   []byte
	value ref.Val // nil until it is decoded
}

// reset makes the object another one and keeps the memory of few members.
func (o *object) reset(raw []byte) {
	members := o.members
	clear(members)
	if cap(members) > manyMembers {
		members = nil
	}
	*o = object{raw: raw, members: members[:0]}
}

// manyMembers is where a search in a map gets cheaper than one in a slice.
const manyMembers = 16

func (o *object) index() {
	if o.indexed {
		return
	}
	o.indexed = true
	if len(o.raw) == 0 {
		return
	}
	if o.members == nil {
		o.members = make([]objectMember, 0, manyMembers/2)
	}
	o.err = event.Members(o.raw, func(key string, value []byte) bool {
		o.members = append(o.members, objectMember{key: key, raw: value})
		return true
	})
	if len(o.members) > manyMembers {
		o.places = make(map[string]int, len(o.members))
		for i := range o.members {
			o.places[o.members[i].key] = i
		}
	}
}

// place returns the member with a key, -1 if there is none.
func (o *object) place(key string) int {
	o.index()
	if o.places != nil {
		if i, ok := o.places[key]; ok {
			return i
		}
		return -1
	}
	for i := range o.members {
		if o.members[i].key == key {
			return i
		}
	}
	return -1
}

func (o *object) at(i int) ref.Val {
	m := &o.members[i]
	if m.value == nil {
		m.value = decode(m.raw)
	}
	return m.value
}

// full returns the object as CEL's own map, for all that is asked rarely.
func (o *object) full() traits.Mapper {
	if o.whole == nil {
		o.index()
		m := make(map[ref.Val]ref.Val, len(o.members))
		for i := range o.members {
			m[types.String(o.members[i].key)] = o.at(i)
		}
		o.whole = types.NewRefValMap(types.DefaultTypeAdapter, m)
	}
	return o.whole
}

// Find implements traits.Mapper.
func (o *object) Find(key ref.Val) (ref.Val, bool) {
	s, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	i := o.place(string(s))
	if o.err != nil {
		return types.WrapErr(o.err), false
	}
	if i < 0 {
		return nil, false
	}
	return o.at(i), true
}

// Get implements traits.Indexer.
func (o *object) Get(key ref.Val) ref.Val {
	v, ok := o.Find(key)
	if !ok {
		if v != nil {
			return v
		}
		return types.NewErr("no such key: %v", key.Value())
	}
	return v
}

// Contains implements traits.Container.
func (o *object) Contains(key ref.Val) ref.Val {
	v, ok := o.Find(key)
	if v != nil && types.IsError(v) {
		return v
	}
	return types.Bool(ok)
}

// Size implements traits.Sizer.
func (o *object) Size() ref.Val {
	o.index()
	return types.Int(len(o.members))
}

// Iterator implements traits.Iterable. Names come in the order that they have in
// the event: CEL's own maps have none, and an expression must give the same each
// time.
func (o *object) Iterator() traits.Iterator {
	o.index()
	keys := make([]ref.Val, len(o.members))
	for i := range o.members {
		keys[i] = types.String(o.members[i].key)
	}
	return types.NewRefValList(types.DefaultTypeAdapter, keys).Iterator()
}

func (o *object) ConvertToNative(t reflect.Type) (any, error) { return o.full().ConvertToNative(t) }
func (o *object) ConvertToType(t ref.Type) ref.Val            { return o.full().ConvertToType(t) }
func (o *object) Equal(other ref.Val) ref.Val                 { return o.full().Equal(other) }
func (o *object) Type() ref.Type                              { return types.MapType }
func (o *object) Value() any                                  { return o.full().Value() }
