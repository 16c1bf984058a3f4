package source

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mine is a document that a person has written, in a style of their own.
var mine = "{\n\t\"keys\" : [ {\"id\":\"a\", \"kind\":\"write\",\n\t\t\"sha256\" : \"" + strings.ToUpper(Hash("a")) + "\" ,\"origins\":[\"*\"]\n\t},\n" +
	"\t{ \"kind\":\"secret\", \"id\":\"b\",\"disabled\" : false, \"sha256\":\"" + Hash("b") + "\",\n\t  \"previous\": [ {\"sha256\":\"" + Hash("b1") +
	"\",\"expires_at\":\"2026-11-23T11:00:00Z\"}, {\"sha256\":\"" + Hash("b2") + "\",\"expires_at\":\"2026-11-23T13:00:00Z\"}\t] }\n   ]   }\n\n"

func TestRevokeChangesOneByteRange(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"a": strings.Replace(mine, "[\"*\"]\n\t}", "[\"*\"],\"disabled\":true\n\t}", 1),
		"b": strings.Replace(mine, "\"disabled\" : false", "\"disabled\" : true", 1),
	} {
		got, err := Revoke([]byte(mine), id)
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s", id, err, got)
			continue
		}
		again, err := Revoke(got, id)
		if err != nil || mustParse(t, nil, "%s", again).Find([]byte(id)).State(noon) != Disabled {
			t.Errorf("%s again: %v\n%s", id, err, again)
		}
	}
	if _, err := Revoke([]byte(mine), "c"); err == nil || !strings.Contains(err.Error(), `there is no key "c"`) {
		t.Errorf("an unknown key: %v", err)
	}
	for _, bad := range []string{``, `{`, `{"keys":{}}`, `{"keys":[{"id":"a"}]}`} {
		if got, err := Revoke([]byte(bad), "a"); err == nil {
			t.Errorf("%s became %s", bad, got)
		}
	}
}

func TestRotateKeepsTheOldValueForAWhile(t *testing.T) {
	t.Parallel()
	got, err := Rotate([]byte(mine), "b", Hash("b0"), time.Hour, noon)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(mine, Hash("b"), Hash("b0"), 1)
	from, to := strings.Index(want, "[ {\"sha256\""), strings.Index(want, "\t] }")+2
	want = want[:from] + `[{"sha256":"` + Hash("b") + `","expires_at":"2026-11-23T13:00:00Z"},{"sha256":"` + Hash("b2") + `","expires_at":"2026-11-23T13:00:00Z"}]` + want[to:]
	if string(got) != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
	keys := mustParse(t, nil, "%s", got)
	for value, ends := range map[string]time.Time{"b0": {}, "b": noon.Add(time.Hour), "b2": noon.Add(time.Hour)} {
		k := keys.Find([]byte(value))
		if k == nil || k.ID != "b" || k.State(noon) != Active || k.Replaced() != (value != "b0") {
			t.Fatalf("%s is %+v", value, k)
		}
		if value != "b0" && (k.State(ends.Add(-1)) != Active || k.State(ends) != Expired) {
			t.Errorf("%s does not end at %v", value, ends)
		}
	}
	if keys.Find([]byte("b1")) != nil {
		t.Error("a value that had ended is still there")
	}
	if len(keys.List()) != 2 {
		t.Errorf("%d keys", len(keys.List()))
	}

	// A key without older values gets them after its hash; without overlap it
	// gets none, and the old value ends at once.
	got, err = Rotate([]byte(mine), "a", Hash("a0"), time.Hour, noon)
	want = strings.Replace(mine, `"`+strings.ToUpper(Hash("a"))+`"`, `"`+Hash("a0")+`","previous":[{"sha256":"`+Hash("a")+`","expires_at":"2026-11-23T13:00:00Z"}]`, 1)
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	got, err = Rotate([]byte(mine), "a", Hash("a0"), 0, noon)
	if err != nil || string(got) != strings.Replace(mine, strings.ToUpper(Hash("a")), Hash("a0"), 1) {
		t.Errorf("%v\n%s", err, got)
	}
	if keys := mustParse(t, nil, "%s", got); keys.Find([]byte("a")) != nil || keys.Find([]byte("a0")) == nil {
		t.Error("the old value is known without an overlap, or the new one is not")
	}
}

func TestRotateRefusesWhatHasNothingToRotate(t *testing.T) {
	t.Parallel()
	document := `{"keys":[{"id":"off","kind":"write","sha256":"` + Hash("off") + `","disabled":true},
		{"id":"old","kind":"write","sha256":"` + Hash("old") + `","expires_at":"2026-11-23T12:00:00Z"},
		{"id":"app","kind":"token","issuer":"i","audience":["a"],"jwks":"https://i.example/"}]}`
	for id, want := range map[string]string{"off": "disabled", "old": "expired", "app": "kind token", "nobody": "there is no key"} {
		if got, err := Rotate([]byte(document), id, Hash("new"), time.Hour, noon); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\n%s", id, err, got)
		}
	}
	if _, err := Rotate([]byte(mine), "a", Hash("b"), time.Hour, noon); err == nil {
		t.Error("two keys have one value")
	}
}

func TestAChangeThatWouldHaveNoEffectIsRefused(t *testing.T) {
	t.Parallel()
	// Of two members with one name the last counts.
	twice := `{"keys":[{"id":"a","kind":"write","disabled":false,"sha256":"` + Hash("a") + `","disabled":false}]}`
	got, err := Revoke([]byte(twice), "a")
	if err != nil || mustParse(t, nil, "%s", got).List()[0].State(noon) != Disabled {
		t.Errorf("%v\n%s", err, got)
	}
	twoLists := `{"keys":[],"keys":[{"id":"a","kind":"write","sha256":"` + Hash("a") + `"}]}`
	entry, _ := New("b", Write, time.Time{})
	if got, err := Add([]byte(twoLists), entry); err == nil {
		t.Errorf("added to a list that does not count:\n%s", got)
	}
	if got, err := Revoke([]byte(twoLists), "a"); err != nil || mustParse(t, nil, "%s", got).List()[0].State(noon) != Disabled {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestChangeFileLeavesAFileAloneThatItCannotChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, []byte(mine), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := ChangeFile(path, func(d []byte) ([]byte, error) { return Revoke(d, "nobody") }); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if doc, _ := os.ReadFile(path); string(doc) != mine {
		t.Errorf("changed to %s", doc)
	}
	if err := ChangeFile(path, func(d []byte) ([]byte, error) { return Revoke(d, "a") }); err != nil {
		t.Error(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestParseNamesTheFaultsOfRestrictions(t *testing.T) {
	t.Parallel()
	_, err := Parse(fmt.Appendf(nil, `{"keys":[
		{"id":"a","kind":"secret","sha256":%q,"previous":[{"sha256":"sk_secret","expires_at":"2027-01-01T00:00:00Z"},{"sha256":%q}],
		 "ips":["10.0.0.1/8","::ffff:10.0.0.0/104","10.0.0.0/33","fe80::1%%eth0","example.com",""],
		 "signature":{"secret":["whsec_short","env:","file:x","sk_secret"],"tolerance":"1.5s","colour":"red"},
		 "modes":{"ips":"on","origins":"observe","colours":"off","signature":"observe","rate":"observe"},
		 "issuer":"https://id.example","user_claim":"sub","token":"nobody"},
		{"id":"b","kind":"write","sha256":["wk_secret"],"signature":{"secret":7},"ips":[],"modes":{"token":"off"}},
		{"id":"c","kind":"write","sha256":%q,"previous":[{"sha256":%q,"expires_at":"2027-01-01T00:00:00Z"}],"signature":{}},
		{"id":"d","kind":"write","sha256":%q,"previous":[{"sha256":"wk_secret","until":"x"}],"signature":"whsec_secret"},
		{"id":"e","kind":"token","sha256":%q,"jwks":"http://id.example/","token":"a"},
		{"id":"f","kind":"token","issuer":"i","audience":["x",""],"jwks":"https://i.example/"},
		{"id":"g","kind":"token","issuer":"i","audience":["y","x"],"jwks":"file:x","signature":{"secret":[]}},
		{"id":"h","kind":"write","sha256":"0x%s"},
		{"id":"i","kind":"write"}]}`,
		Hash("a"), Hash("x"), Hash("c"), Hash("a"), Hash("d"), Hash("e"), Hash("h")[2:]), nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`key "a": previous[0].sha256: must be the SHA-256 of the key`,
		`key "a": previous[1].expires_at: is missing`,
		`key "a": ips[0]: "10.0.0.1/8" has bits beyond its length: want 10.0.0.0/8`,
		`key "a": ips[1]: "::ffff:10.0.0.0/104" is IPv4 in IPv6`,
		`key "a": ips[2]: "10.0.0.0/33" is not a range`,
		`key "a": ips[3]: "fe80::1%eth0" is not a range`,
		`key "a": ips[4]: "example.com" is not a range`,
		`key "a": ips[5]: "" is not a range`,
		`key "a": signature.secret[0]: must be whsec_ and base64`,
		`key "a": signature.secret[1]: must be whsec_`,
		`key "a": signature.secret[3]: must be whsec_`,
		`key "a": signature.tolerance: must be whole seconds`,
		`key "a": signature.colour: unknown field`,
		`key "a": modes.ips: must be off, observe or enforce, not "on"`,
		`key "a": modes.origins: the key has no such restriction`,
		`key "a": modes.colours: unknown restriction: the restrictions are origins, events, ips`,
		`key "a": modes.rate: the key has no such restriction`,
		`key "a": issuer: is for keys of kind token only`,
		`key "a": user_claim: is for keys of kind token only`,
		`key "a": token: there is no key of kind token with the id "nobody"`,
		`key "b": sha256: must be a string`,
		`key "b": signature.secret: must be a string, or an array of strings`,
		`key "b": ips: is empty`,
		`key "b": modes.token: the key has no such restriction`,
		`key "c": previous[0].sha256: key "a" has the same`,
		`key "c": signature.secret: is missing`,
		`key "d": previous: must be like`,
		`key "d": signature: must be like`,
		`key "e": sha256: is not for keys of kind token`,
		`key "e": issuer: is missing`,
		`key "e": audience: is missing`,
		`key "e": jwks: must be https, http on loopback, or file:PATH`,
		`key "e": token: is not for keys of kind token`,
		`key "f": audience[1]: is missing`,
		`key "g": audience[1]: key "f" has the same issuer and this audience`,
		`key "g": signature.secret: is empty`,
		`key "h": sha256: must be the SHA-256`,
		`key "i": sha256: is missing`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing: %s", want)
		}
	}
	for _, secret := range []string{"sk_secret", "wk_secret", "whsec_s"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error has %s, which may be a secret", secret)
		}
	}
	if t.Failed() {
		t.Logf("got:\n%v", err)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	keys := mustParse(t, nil, `{"keys":[{"id":"k","kind":"write","sha256":%q,"origins":["https://a.example"],"events":["a"],"ips":["10.0.0.0/8"],"user_rate":{"per_second":1},
		"modes":{"origins":"observe","events":"off","ips":"enforce","user_rate":"observe"}}]}`, Hash("k"))
	k := keys.Find([]byte("k"))
	for r, want := range map[Restriction]Mode{
		RestrictOrigins: Observe, RestrictEvents: Off, RestrictIPs: Enforce, RestrictUserRate: Observe, RestrictRate: Enforce, RestrictSignature: Enforce,
	} {
		if got := k.Mode(r); got != want {
			t.Errorf("%s: %s, want %s", r, got, want)
		}
	}
	// What is not enforced must not be stopped by a preflight either.
	if !k.AllowsOrigin("https://b.example") || k.OriginListed("https://b.example") || !keys.AllowsOrigin("https://b.example") {
		t.Error("an origin that is observed is not allowed, or listed")
	}
	if !k.AllowsEvent("b") || k.EventListed("b") {
		t.Error("an event name that is off is not allowed, or listed")
	}
}

func TestWhatIsObservedIsCountedAndLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	document := `{"keys":[{"id":"k","kind":"write","sha256":%q,"ips":["10.0.0.0/8"],"modes":{"ips":%q}}]}`
	keys := mustParse(t, nil, document, Hash("k"), "observe")
	k := keys.Find([]byte("k"))
	lines := 0
	for i := range 150 { // for two and a half minutes
		if _, log := k.WouldRefuse(RestrictIPs, noon.Add(time.Duration(i)*time.Second)); log {
			lines++
		}
	}
	if lines != 3 {
		t.Errorf("%d lines", lines)
	}
	// A document that enforces it does not forget.
	after := mustParse(t, keys, document, Hash("k"), "enforce")
	want := Observation{Key: "k", Restriction: RestrictIPs, Count: 150}
	if got := after.Observed(); len(got) != 1 || got[0] != want {
		t.Errorf("%+v", got)
	}
}

func TestAddressesAreInRangesOrNot(t *testing.T) {
	t.Parallel()
	keys := mustParse(t, nil, `{"keys":[{"id":"k","kind":"write","sha256":%q,"ips":["10.0.0.0/8","192.0.2.7","2001:db8::/32"]},
		{"id":"any","kind":"write","sha256":%q}]}`, Hash("k"), Hash("any"))
	k := keys.Find([]byte("k"))
	for address, want := range map[string]bool{
		"10.255.255.255": true, "11.0.0.0": false, "192.0.2.7": true, "192.0.2.8": false, "2001:db8:ffff::1": true, "2001:db9::1": false, "::ffff:10.0.0.1": false,
	} {
		if k.AddressListed(netip.MustParseAddr(address)) != want {
			t.Errorf("%s: %v", address, !want)
		}
	}
	if k.AddressListed(netip.Addr{}) || !keys.Find([]byte("any")).AddressListed(netip.Addr{}) {
		t.Error("no address is in no range, and in all of a key without ranges")
	}
}

// FuzzEdit changes any document: what is not the key that was meant stays as it
// is.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(mine), "a")
	f.Add([]byte(mine), "b")
	f.Add([]byte(`{"keys":[{"id":"a","kind":"write","sha256":"`+Hash("a")+`","previous":[],"previous":[]}]}`), "a")
	f.Add([]byte(`{"keys":[{"disabled":false,"id":"é","kind":"write","sha256":"`+Hash("a")+`"}]}`), "é")
	f.Fuzz(func(t *testing.T, document []byte, id string) {
		keys, err := Parse(document, nil)
		if err != nil {
			return
		}
		same := func(changed []byte) *Keys {
			after, err := Parse(changed, nil)
			if err != nil || len(after.list) != len(keys.list) {
				t.Fatalf("%v\n%s\nbecame\n%s", err, document, changed)
			}
			for i, k := range after.list {
				if was := keys.list[i]; k.ID != was.ID || k.ID != id && (k.SHA256 != was.SHA256 || k.Disabled != was.Disabled || len(k.Previous) != len(was.Previous)) {
					t.Fatalf("%+v became %+v", was, k)
				}
			}
			return after
		}
		if changed, err := Revoke(document, id); err == nil {
			same(changed)
		}
		if changed, err := Rotate(document, id, Hash("a new value of the test"), time.Hour, noon); err == nil {
			if k := same(changed).Find([]byte("a new value of the test")); k == nil || k.ID != id {
				t.Fatalf("%s has no new value:\n%s", id, changed)
			}
		}
	})
}
