package event

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestThePartitionKeyIsTheMostPersonalIDThereIs(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]Event{
		"user":  {UserID: "user", AnonymousID: "anonymous", ID: "id"},
		"anon":  {AnonymousID: "anon", ID: "id"},
		"event": {ID: "event"},
		"":      {Name: "n"},
	} {
		if got := e.PartitionKey(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// Others read the stored form too: its members and their order never change.
func TestTheStoredFormOfAnEventWithEveryField(t *testing.T) {
	t.Parallel()
	e := Event{
		ID: "i", Type: TypePage, Name: "n", UserID: "u", AnonymousID: "a",
		Timestamp: "2026-11-23T10:00:00+01:00", ReceivedAt: "2026-11-23T10:00:00.125Z", Source: "web", IP: "192.0.2.1",
		Traceparent: traceparent, Data: json.RawMessage(`{"d":1.50}`), Context: json.RawMessage(`{"c":{}}`),
	}
	const want = `{"id":"i","type":"page","name":"n","user_id":"u","anonymous_id":"a","timestamp":"2026-11-23T10:00:00+01:00",` +
		`"received_at":"2026-11-23T10:00:00.125Z","source":"web","ip":"192.0.2.1","traceparent":"` + traceparent + `",` +
		`"data":{"d":1.50},"context":{"c":{}}}`
	stored := e.Append(nil)
	if string(stored) != want {
		t.Errorf("stored as\n%s\nwant\n%s", stored, want)
	}
	if got, err := ParseStored(stored); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("read as %+v, %v", got, err)
	}
}

func TestATraceparentIsWhatTheStandardSays(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		traceparent: true,
		"00-00000000000000000000000000000001-0000000000000001-00": true,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": false,
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g": false,
		"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01": false,
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": false,
		traceparent + "-00": false,
		traceparent[:54]:    false,
		"":                  false,
	} {
		if got := IsTraceparent(s); got != want {
			t.Errorf("%q: %t", s, got)
		}
	}
}

// Buckets, lanes and samples of what is stored depend on these values.
func TestHashesNeverChange(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]uint64{
		"":                                     0xefd01f60ba992926,
		"a":                                    0x82a2a958a9bece5b,
		"user-183467":                          0x6394d92e06578459,
		"0198a3c0-5b7e-7d43-9d1e-3f0a5c8d7e21": 0xa55e30760772d8cb,
		"ключ":                                 0x590520d718275ed5,
	} {
		if got := Hash(key); got != want {
			t.Errorf("%q: %#x", key, got)
		}
	}
}

func TestDerivedIDsNeverChange(t *testing.T) {
	t.Parallel()
	const shard, sequence = "shardId-000000000000", "49590338271490256608559692538361571095921575989136588898"
	seen := map[string]bool{}
	for _, tt := range []struct {
		shard, sequence string
		sub             int
		want            string
	}{
		{shard, sequence, 0, "c6f06ee3-affb-8099-ade8-a8edb160b3cd"},
		{shard, sequence, 1, "0f8682d5-c328-8687-91fc-82b6060fa977"},
		{shard, sequence + "1", 0, "7cab9b63-40d9-82bd-a6b5-2124d33ea997"},
		{"shardId-000000000001", sequence, 0, "57013d7d-62c6-8b88-85ef-ed284c80a8f2"},
	} {
		got := DeriveID(tt.shard, tt.sequence, tt.sub)
		id, err := uuid.Parse(got)
		if got != tt.want || err != nil || id.Version() != 8 || id.Variant() != uuid.RFC4122 || seen[got] {
			t.Errorf("%+v: %s, %v", tt, got, err)
		}
		seen[got] = true
	}
}

func TestNamedIDsAreOfTheSourceAndItsID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, tt := range []struct{ source, id, want string }{
		{"/orders", "7", "35788c72-a386-8529-b471-29de234f5807"},
		{"/parcels", "7", "e1eae789-7dff-8b87-8201-62f1c1e5982f"},
		{"/orders7", "", "029d25f7-c8bb-8744-80a0-3b0635af31cf"},
		{"/orders", "\x007", "ff441b78-882b-8fb5-947e-a782a862f90a"},
		{"/orders\x00", "7", "562e7bf7-de16-8d17-b963-219a5a2253e1"},
		{strings.Repeat("s", 2000), "7", "0d0f5824-5c7f-8943-8ef3-fad6736f41dd"},
	} {
		got := string(AppendNamedID(nil, tt.source, tt.id))
		id, err := uuid.Parse(got)
		if got != tt.want || err != nil || id.Version() != 8 || id.Variant() != uuid.RFC4122 || seen[got] {
			t.Errorf("%.20q %q: %s, %v", tt.source, tt.id, got, err)
		}
		seen[got] = true
	}
}

func TestNewIDsAreUniqueAndGrow(t *testing.T) {
	t.Parallel()
	const goroutines, n = 4, 2000
	var (
		wg  sync.WaitGroup
		ids [goroutines][]string
	)
	for g := range goroutines {
		wg.Go(func() {
			for range n {
				ids[g] = append(ids[g], NewID())
			}
		})
	}
	wg.Wait()
	for _, own := range ids {
		if !slices.IsSorted(own) {
			t.Error("the ids of one goroutine do not grow")
		}
	}
	all := slices.Concat(ids[:]...)
	slices.Sort(all)
	if len(slices.Compact(all)) != goroutines*n {
		t.Error("an id came twice")
	}
	id, err := uuid.Parse(all[0])
	if err != nil || id.Version() != 7 || id.String() != all[0] {
		t.Errorf("%s: %v", all[0], err)
	}
}

func TestTimestampsAreRealTimes(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"2026-11-23T10:00:00Z":                          true,
		"2026-11-23T10:00:00.1Z":                        true,
		"2026-11-23T23:59:59.123456789123+23:59":        true,
		"2024-02-29T00:00:00-00:00":                     true,
		"2000-02-29T00:00:00Z":                          true,
		"0000-01-01T00:00:00Z":                          true,
		"2026-02-29T00:00:00Z":                          false,
		"1900-02-29T00:00:00Z":                          false,
		"2026-04-31T00:00:00Z":                          false,
		"2026-00-01T00:00:00Z":                          false,
		"2026-13-01T00:00:00Z":                          false,
		"2026-01-00T00:00:00Z":                          false,
		"2026-01-32T00:00:00Z":                          false,
		"2026-01-01T24:00:00Z":                          false,
		"2026-01-01T00:60:00Z":                          false,
		"2026-01-01T00:00:60Z":                          false,
		"2026-01-01T00:00:00":                           false,
		"2026-01-01T00:00:00+24:00":                     false,
		"2026-01-01T00:00:00+00:60":                     false,
		"2026-01-01T00:00:00+0000":                      false,
		"2026-01-01T00:00:00.Z":                         false,
		"2026-01-01T00:00:00,5Z":                        false,
		"2026-01-01T00:00:00.5":                         false,
		"2026-01-01t00:00:00z":                          false,
		"2026-01-01 00:00:00Z":                          false,
		"2026-01-01T00:00Z":                             false,
		"2026-01-01":                                    false,
		"-026-01-01T00:00:00Z":                          false,
		"2026-01-01T00:00:00ZZ":                         false,
		"20-6-01-01T00:00:00Z":                          false,
		"2026-01-01T00:00:00" + strings.Repeat("0", 20): false,
		"": false,
	} {
		if got := isTimestamp([]byte(s)); got != want {
			t.Errorf("%q: %t", s, got)
		}
		if err := new(time.Time).UnmarshalText([]byte(s)); err != nil && want {
			t.Errorf("%q: the library says %v", s, err)
		}
	}
}

func TestTheNameIsFoundWithoutReadingTheRest(t *testing.T) {
	t.Parallel()
	e := Event{ID: "i", Type: TypeTrack, Name: "n"}
	for raw, want := range map[string]string{
		string(e.Append(nil)):                                  "n",
		string(e.Append(nil)[:35]):                             "n",
		`{"id":"i","type":"track","name":"caf\u00e9"}`:         "café",
		`{"id":"i","type":"track","name":"café"}`:              "café",
		`{"id":"\u0069","type":"track","name":"n"}`:            "n",
		`{"data":{"name":"x"},"n\u0061me":"n"}`:                "n",
		` {"name" : "n", `:                                     "n",
		`{"name":""}`:                                          "",
		`{"name":5}`:                                           "",
		`{"data":{"name":"x"}}`:                                "",
		`{"id":"i","type":"track","name":"n`:                   "",
		"{\"id\":\"i\",\"type\":\"track\",\"name\":\"n\xff\"}": "",
		`[]`: "",
		``:   "",
	} {
		if got, ok := Name([]byte(raw)); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %t", raw, got, ok)
		}
	}
}
