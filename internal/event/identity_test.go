package event

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
)

// plainIdentity is IdentityOf in the words of its comment.
func plainIdentity(e *Event) Identity {
	inside := func(s string) string {
		quoted := string(AppendString(nil, s))
		return quoted[1 : len(quoted)-1]
	}
	sum := sha256.Sum256([]byte(inside(e.Source) + "\x00" + inside(e.ID)))
	return Identity(sum[:16])
}

func TestTheIdentityIsThatOfIDAndSourceAlone(t *testing.T) {
	t.Parallel()
	order := Event{ID: "order-1", Type: TypeTrack, Name: "order_placed", Source: "web"}
	for name, tc := range map[string]struct {
		change func(*Event)
		same   bool
	}{
		"another time and other data": {func(e *Event) {
			e.ReceivedAt, e.Data = "2026-11-26T10:00:00Z", json.RawMessage(`{"n":2}`)
		}, true},
		"another name and user":    {func(e *Event) { e.Name, e.UserID = "order_changed", "ann" }, true},
		"another id":               {func(e *Event) { e.ID = "order-2" }, false},
		"another source":           {func(e *Event) { e.Source = "erp" }, false},
		"no source":                {func(e *Event) { e.Source = "" }, false},
		"a source in the data":     {func(e *Event) { e.Data = json.RawMessage(`{"a":1,"source":"erp"}`) }, true},
		"a name like a source":     {func(e *Event) { e.Name = `","source":"erp` }, true},
		"a user that ends oddly":   {func(e *Event) { e.UserID = `x\` }, true},
		"a user that is a comma":   {func(e *Event) { e.UserID = `,` }, true},
		"an id with quotes":        {func(e *Event) { e.ID = `order-1","source":"web` }, false},
		"an id with a zero byte":   {func(e *Event) { e.ID = "order\x00-1" }, false},
		"a name that is data":      {func(e *Event) { e.Name = `,"data":` }, true},
		"a source with a quote":    {func(e *Event) { e.Source = `we"b` }, false},
		"an id longer than a page": {func(e *Event) { e.ID = strings.Repeat("x", 5000) }, false},
	} {
		want := plainIdentity(&order)
		e := order
		tc.change(&e)
		got, ok := IdentityOf(e.Append(nil))
		if !ok {
			t.Errorf("%s: no identity", name)
			continue
		}
		if from, ok := IdentityFrom(e.Source, e.Append(nil)); got != plainIdentity(&e) || !ok || from != got {
			t.Errorf("%s: not the hash of source and id", name)
		}
		if (got == want) != tc.same {
			t.Errorf("%s: the same identity: %v, want %v", name, got == want, tc.same)
		}
	}
}

func TestWhatIsNoStoredEventHasNoIdentity(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"", "{}", `{"id":"`, `{"id":"a"}`, `{"id":"","type":"track","data":{},"context":{}}`,
		`{"id":"a\","data":{}}`, `{"name":"a","id":"b","data":{}}`, `{"id":"a","source":"w`, `{"id":"a","source"`,
	} {
		if _, ok := IdentityOf([]byte(raw)); ok {
			t.Errorf("%q has one", raw)
		}
	}
}

func TestTheIdentityAllocatesNothing(t *testing.T) {
	raw := (&Event{ID: NewID(), Type: TypeTrack, Name: "order_placed", UserID: "ann", Source: "web"}).Append(nil)
	if n := testing.AllocsPerRun(100, func() { IdentityOf(raw); IdentityFrom("web", raw) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzIdentityOf(f *testing.F) {
	f.Add("order-1", "web", "order_placed", "ann", []byte(`{"a":",\"data\":"}`))
	f.Add(`a"b`, `c\`, `,"source":"x"`, "\x00", []byte(`{}`))
	f.Fuzz(func(t *testing.T, id, source, name, user string, raw []byte) {
		IdentityOf(raw) // whatever it is
		e := Event{ID: id, Type: TypeTrack, Name: name, UserID: user, Source: source, IP: "::1"}
		got, ok := IdentityOf(e.Append(nil))
		if ok != (id != "") {
			t.Fatalf("id %q: %v", id, ok)
		}
		if from, known := IdentityFrom(source, e.Append(nil)); ok && got != plainIdentity(&e) || known != ok || from != got {
			t.Fatalf("the identity of %q of %q is another", id, source)
		}
	})
}

func BenchmarkIdentity(b *testing.B) {
	e, err := ParseStored(stored(b))
	if err != nil {
		b.Fatal(err)
	}
	e.Source, e.ReceivedAt = "web", "2026-11-23T10:00:00.123Z"
	raw := e.Append(nil)
	for name, hash := range map[string]func() (Identity, bool){
		"of":   func() (Identity, bool) { return IdentityOf(raw) },
		"from": func() (Identity, bool) { return IdentityFrom("web", raw) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := hash(); !ok {
					b.Fatal("no identity")
				}
			}
		})
	}
}
