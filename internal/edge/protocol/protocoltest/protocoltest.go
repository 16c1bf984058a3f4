// Package protocoltest holds decoders to the contract of package protocol, as
// far as it can be seen without knowing the protocol.
package protocoltest

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// Received is when the requests of Run are received.
var Received = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// Limits are those of the events of Run: low, for a fuzzer to find them.
var Limits = event.Limits{MaxBytes: 4096, MaxDepth: 12}

// Run opens a request and reads its events, twice with the same decoder, and
// checks of each: what comes out good can be stored and read again, and says
// what it is and to whom it belongs within the limits of our own form; what was
// given out as raw is read again with the same result, good or bad, but for
// what clock says. A clock is a time in the envelope, which raw has not. It
// returns the events of the second reading, in their stored form, and the keys
// that were presented.
func Run(t *testing.T, d, again protocol.Decoder, r *protocol.Request, clock bool) (stored [][]byte, keys []string) {
	t.Helper()
	r.Received, r.Limits = Received, Limits
	body := r.Body
	for range 2 {
		stored, keys = nil, nil
		r.Body = bytes.Clone(body) // a decoder may write over it
		if err := d.Open(r, func(key string) { keys = append(keys, key) }); err != nil {
			whole(t, err)
			return nil, keys
		}
		err := d.Events(func(ev *event.Event, invalid *event.Invalid, raw []byte) bool {
			if good := reread(t, again, r, ev, invalid, raw, clock); good != nil {
				stored = append(stored, good)
			}
			return true
		})
		if err != nil {
			whole(t, err)
			stored = nil
		}
		d.Reset(64 << 10)
	}
	return stored, keys
}

// whole checks an error of a whole request.
func whole(t *testing.T, err error) {
	t.Helper()
	if invalid, ok := err.(*event.Invalid); !ok || invalid == nil || invalid.Code == "" || invalid.Detail == "" {
		t.Fatalf("an error of a whole request that says nothing: %#v", err)
	}
}

// reread checks one event and returns its stored form, nil if it is invalid.
func reread(t *testing.T, again protocol.Decoder, r *protocol.Request, ev *event.Event, invalid *event.Invalid, raw []byte, clock bool) []byte {
	t.Helper()
	var second event.Event
	reason := again.Event(r, raw, &second)
	if (invalid == nil) != (reason == nil) {
		t.Fatalf("first %v, then %v: %s", invalid, reason, raw)
	}
	if invalid != nil {
		if invalid.Code == "" || invalid.Detail == "" || invalid.Code != reason.Code {
			t.Fatalf("first %v, then %v: %s", invalid, reason, raw)
		}
		return nil
	}
	if clock {
		second.Timestamp, second.Extra = ev.Timestamp, ev.Extra
	}
	if !reflect.DeepEqual(*ev, second) {
		t.Fatalf("first %+v\nthen %+v\nof %s", *ev, second, raw)
	}
	if ev.Name == "" || ev.Type == "" || len(ev.Name) > protocol.MaxNameBytes || len(ev.ID) > protocol.MaxIDBytes ||
		len(ev.UserID) > protocol.MaxUserBytes || len(ev.AnonymousID) > protocol.MaxUserBytes {
		t.Fatalf("an event that our own form would not allow: %+v", *ev)
	}
	if ev.Source != "" || ev.IP != "" || ev.ReceivedAt != "" || ev.Traceparent != "" {
		t.Fatalf("a field that only the gateway may set: %+v", *ev)
	}
	stored := ev.Append(nil)
	parsed, err := event.ParseStored(stored)
	if err != nil {
		t.Fatalf("%v: %s", err, stored)
	}
	if parsed.Name != ev.Name || parsed.ID != ev.ID || parsed.UserID != ev.UserID || parsed.Timestamp != ev.Timestamp {
		t.Fatalf("stored %+v\nread %+v", *ev, parsed)
	}
	// JSON written anew has at most six bytes for one, and names of ours besides.
	if most := 6*len(raw) + 512; len(stored) > most {
		t.Fatalf("%d bytes became %d: %s", len(raw), len(stored), raw)
	}
	return stored
}

// Want checks the stored form of an event against JSON, in which the members
// may be in any order and those that are empty may be missing.
func Want(t *testing.T, stored []byte, want string) {
	t.Helper()
	var got, wanted map[string]any
	if err := errors.Join(json.Unmarshal(stored, &got), json.Unmarshal([]byte(want), &wanted)); err != nil {
		t.Fatalf("%v\n%s\n%s", err, stored, want)
	}
	for _, name := range []string{"data", "context"} {
		if wanted[name] == nil {
			wanted[name] = map[string]any{}
		}
	}
	if wanted["id"] == nil {
		wanted["id"] = ""
	}
	if !reflect.DeepEqual(got, wanted) {
		t.Errorf("stored %s\nwant   %s", stored, want)
	}
}

// Reject reads one event that is invalid, and checks where and why.
func Reject(t *testing.T, d protocol.Decoder, path, raw, pointer, code string) {
	t.Helper()
	var ev event.Event
	r := protocol.Request{Path: path, Received: Received, Limits: Limits}
	if invalid := d.Event(&r, []byte(raw), &ev); invalid == nil || invalid.Pointer != pointer || invalid.Code != code || invalid.Detail == "" {
		t.Errorf("%.300s: %v, want %s at %s", raw, invalid, code, pointer)
	}
}

// Frugal checks that a decoder that is warm takes a request of a hundred good
// events or more apart without an allocation for each.
func Frugal(t *testing.T, d protocol.Decoder, r *protocol.Request) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	r.Received, r.Limits = Received, Limits
	events := 0
	present := func(string) {}
	yield := func(_ *event.Event, invalid *event.Invalid, _ []byte) bool {
		if events++; invalid != nil {
			t.Error(invalid)
		}
		return invalid == nil
	}
	n := testing.AllocsPerRun(50, func() {
		events = 0
		if err := errors.Join(d.Open(r, present), d.Events(yield)); err != nil {
			t.Error(err)
		}
	})
	if events < 100 || n > 20 {
		t.Errorf("%v allocations for %d events", n, events)
	}
}
