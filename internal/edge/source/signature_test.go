package source

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/edge/source/sourcetest"
)

const (
	secretA = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secretB = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

func noEnvironment(string) (string, bool) { return "", false }

// signing returns a key whose requests must be signed.
func signing(t testing.TB, previous *Keys, signature string) (*Keys, *Key) {
	t.Helper()
	document := fmt.Sprintf(`{"keys":[{"id":"backend","kind":"secret","sha256":%q,"signature":%s}]}`, Hash("k"), signature)
	keys, err := Load([]byte(document), previous, noEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	return keys, keys.Find([]byte("k"))
}

// signed returns the headers that sourcetest.Sign makes.
func signed(lines []string) Signed {
	var values [3]string
	for i, line := range lines {
		_, values[i], _ = strings.Cut(line, ": ")
	}
	return Signed{ID: values[0], Timestamp: values[1], Signature: values[2]}
}

func TestTheVectorsOfStandardWebhooks(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/standard-webhooks.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Secret    string
			ID        string `json:"webhook-id"`
			Timestamp int64  `json:"webhook-timestamp"`
			Body      string
			Signature string `json:"webhook-signature"`
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil || len(file.Vectors) == 0 {
		t.Fatal(err, len(file.Vectors))
	}
	for _, v := range file.Vectors {
		_, k := signing(t, nil, `{"secret":`+strconv.Quote(v.Secret)+`}`)
		h := Signed{ID: v.ID, Timestamp: strconv.FormatInt(v.Timestamp, 10), Signature: v.Signature}
		if _, refusal := k.Verify(h, []byte(v.Body), time.Unix(v.Timestamp, 0)); refusal != nil {
			t.Errorf("%s: %v", v.ID, refusal)
		}
	}
}

func TestASignatureFitsOrIsRefusedForWhatItLacks(t *testing.T) {
	t.Parallel()
	const body = `{"name":"order_paid"}`
	good := signed(sourcetest.Sign("msg_1", noon, body, secretA))
	with := func(change func(*Signed)) Signed {
		s := good
		change(&s)
		return s
	}
	const none = Reasons
	for _, tt := range []struct {
		name    string
		secrets string
		sent    Signed
		body    string
		at      time.Time
		want    Reason
	}{
		{"good", `"` + secretA + `"`, good, body, noon, none},
		{"one of several, with others", `"` + secretA + `"`, with(func(s *Signed) { s.Signature = "v1a,zzz  v2,x v1,short " + s.Signature }), body, noon, none},
		{"by two secrets, the new one is known", `"` + secretB + `"`, signed(sourcetest.Sign("m", noon, body, secretA, secretB)), body, noon, none},
		{"by the old secret, both are known", `["` + secretB + `","` + secretA + `"]`, good, body, noon, none},
		{"an empty body", `"` + secretA + `"`, signed(sourcetest.Sign("m", noon, "", secretA)), "", noon, none},
		{"at the end of the tolerance", `"` + secretA + `"`, good, body, noon.Add(5 * time.Minute), none},
		{"early by the tolerance", `"` + secretA + `"`, good, body, noon.Add(-5 * time.Minute), none},

		{"too old", `"` + secretA + `"`, good, body, noon.Add(5*time.Minute + time.Second), StaleSignature},
		{"of the future", `"` + secretA + `"`, good, body, noon.Add(-5*time.Minute - time.Second), StaleSignature},
		{"of the beginning of time", `"` + secretA + `"`, with(func(s *Signed) { s.Timestamp = "-9223372036854775808" }), body, noon, StaleSignature},
		{"of the end of time", `"` + secretA + `"`, with(func(s *Signed) { s.Timestamp = "9223372036854775807" }), body, noon, StaleSignature},
		{"another secret", `"` + secretB + `"`, good, body, noon, InvalidSignature},
		{"another body", `"` + secretA + `"`, good, body + " ", noon, InvalidSignature},
		{"another id", `"` + secretA + `"`, with(func(s *Signed) { s.ID = "msg_2" }), body, noon, InvalidSignature},
		{"another time", `"` + secretA + `"`, with(func(s *Signed) { s.Timestamp = strconv.FormatInt(noon.Unix()+1, 10) }), body, noon, InvalidSignature},
		{"a time with zeros before it", `"` + secretA + `"`, with(func(s *Signed) { s.Timestamp = "0" + s.Timestamp }), body, noon, InvalidSignature},
		{"a time with a sign", `"` + secretA + `"`, with(func(s *Signed) { s.Timestamp = "+" + s.Timestamp }), body, noon, InvalidSignature},
		{"a time in words", `"` + secretA + `"`, with(func(s *Signed) { s.Timestamp = "2026-11-23T12:00:00Z" }), body, noon, InvalidSignature},
		{"cut off", `"` + secretA + `"`, with(func(s *Signed) { s.Signature = s.Signature[:20] }), body, noon, InvalidSignature},
		{"not base64", `"` + secretA + `"`, with(func(s *Signed) { s.Signature = "v1," + strings.Repeat("!", 44) }), body, noon, InvalidSignature},
		{"33 bytes", `"` + secretA + `"`, with(func(s *Signed) { s.Signature = "v1," + strings.Repeat("A", 44) }), body, noon, InvalidSignature},
		{"without a version", `"` + secretA + `"`, with(func(s *Signed) { s.Signature = strings.TrimPrefix(s.Signature, "v1,") }), body, noon, InvalidSignature},
		{"of another version", `"` + secretA + `"`, with(func(s *Signed) { s.Signature = "v2," + s.Signature[3:] }), body, noon, InvalidSignature},
		{"too many", `"` + secretA + `"`, with(func(s *Signed) { s.Signature = strings.Repeat("v1,"+strings.Repeat("A", 43)+"= ", 16) + s.Signature }), body, noon, InvalidSignature},
		{"a long id", `"` + secretA + `"`, signed(sourcetest.Sign(strings.Repeat("m", 257), noon, body, secretA)), body, noon, InvalidSignature},
		{"no signature", `"` + secretA + `"`, with(func(s *Signed) { s.Signature = "" }), body, noon, MissingSignature},
		{"a blank signature", `"` + secretA + `"`, with(func(s *Signed) { s.Signature = " " }), body, noon, MissingSignature},
		{"no id", `"` + secretA + `"`, with(func(s *Signed) { s.ID = "" }), body, noon, MissingSignature},
		{"no time", `"` + secretA + `"`, with(func(s *Signed) { s.Timestamp = "" }), body, noon, MissingSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, k := signing(t, nil, `{"secret":`+tt.secrets+`}`)
			receipt, refusal := k.Verify(tt.sent, []byte(tt.body), tt.at)
			switch {
			case tt.want == none && refusal != nil:
				t.Fatalf("refused: %v", refusal)
			case tt.want == none:
				receipt.Settle(true)
			case refusal == nil:
				t.Fatal("accepted")
			case refusal.Reason != tt.want:
				t.Errorf("reason %d, want %d: %v", refusal.Reason, tt.want, refusal)
			}
		})
	}
}

func TestASignedRequestIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	keys, k := signing(t, nil, `{"secret":["`+secretA+`","`+secretB+`"],"tolerance":"1m"}`)
	const body = "x"
	h := signed(sourcetest.Sign("msg_1", noon, body, secretA, secretB))
	verify := func(k *Key, h Signed, at time.Time) (*Receipt, Reason) {
		receipt, refusal := k.Verify(h, []byte(body), at)
		if refusal != nil {
			if refusal.Reason == Undecided && refusal.RetryAfter <= 0 {
				t.Errorf("no time to wait: %v", refusal)
			}
			return nil, refusal.Reason
		}
		return receipt, Reasons
	}
	first, _ := verify(k, h, noon)
	if first == nil {
		t.Fatal("refused")
	}
	if _, why := verify(k, h, noon); why != Undecided {
		t.Errorf("beside the first it is %d, want undecided", why)
	}
	first.Settle(false) // 503
	again, why := verify(k, h, noon)
	if again == nil {
		t.Fatalf("after a failure it is refused: %d", why)
	}
	again.Settle(true)
	for name, h := range map[string]Signed{
		"the same":              h,
		"only one signature":    {h.ID, h.Timestamp, strings.Fields(h.Signature)[1]},
		"in another order":      {h.ID, h.Timestamp, strings.Fields(h.Signature)[1] + " " + strings.Fields(h.Signature)[0]},
		"with a signature more": {h.ID, h.Timestamp, h.Signature + " v2,AAAA"},
	} {
		for _, at := range []time.Time{noon, noon.Add(time.Minute)} {
			if _, why := verify(k, h, at); why != ReplayedSignature {
				t.Errorf("%s: %d, want a replay", name, why)
			}
		}
	}
	// The memory outlives the document, and its secrets.
	_, reloaded := signing(t, keys, `{"secret":["`+secretB+`"],"tolerance":"1m"}`)
	if _, why := verify(reloaded, h, noon.Add(time.Minute)); why != ReplayedSignature {
		t.Errorf("after a reload: %d, want a replay", why)
	}
	if _, why := verify(reloaded, h, noon.Add(61*time.Second)); why != StaleSignature {
		t.Errorf("after the tolerance: %d, want stale", why)
	}
	// Another request, and the same of another key, are others.
	if r, why := verify(reloaded, signed(sourcetest.Sign("msg_2", noon, body, secretB)), noon); r == nil {
		t.Errorf("another id: %d", why)
	}
}

func TestOfTwoAtOnceExactlyOnePasses(t *testing.T) {
	t.Parallel()
	_, k := signing(t, nil, `{"secret":"`+secretA+`"}`)
	h := signed(sourcetest.Sign("msg_1", noon, "x", secretA))
	var wg sync.WaitGroup
	passed := make([]bool, 16)
	for i := range passed {
		wg.Go(func() {
			if r, _ := k.Verify(h, []byte("x"), noon); r != nil {
				passed[i] = true
				r.Settle(true)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, p := range passed {
		if p {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d passed", n)
	}
}

func TestTheMemoryForSignaturesIsBoundedAndGivenBack(t *testing.T) {
	t.Parallel()
	w := newWindow()
	w.tolerance.Store(60)
	id := func(i int) (id signatureID) {
		copy(id[:], strconv.Itoa(i))
		return id
	}
	for i := range maxRemembered {
		r, refusal := w.begin(noon.Unix(), id(i), noon)
		if refusal != nil {
			t.Fatalf("%d: %v", i, refusal)
		}
		r.Settle(true)
	}
	if _, refusal := w.begin(noon.Unix(), id(-1), noon); refusal == nil || refusal.Reason != Undecided {
		t.Fatalf("with a full memory: %v", refusal)
	}
	if _, refusal := w.begin(noon.Unix(), id(7), noon); refusal == nil || refusal.Reason != ReplayedSignature {
		t.Errorf("a replay with a full memory: %v", refusal)
	}
	// What is stale is forgotten, slot by slot.
	later := noon.Add(time.Minute + slotSeconds*time.Second)
	r, refusal := w.begin(later.Unix(), id(-1), later)
	if refusal != nil || w.count != 1 || len(w.slots) != 1 {
		t.Fatalf("after the tolerance: %v, %d remembered in %d slots", refusal, w.count, len(w.slots))
	}
	r.Settle(false)
	if w.count != 0 {
		t.Errorf("%d remembered", w.count)
	}
}

func TestSecretsAreFoundWhereTheDocumentSays(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/secret"
	if err := os.WriteFile(file, []byte(secretB+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := func(name string) (string, bool) {
		value, ok := map[string]string{"GOOD": secretA, "SHORT": "whsec_AAAA", "EMPTY": ""}[name]
		return value, ok
	}
	document := func(secret string) []byte {
		return fmt.Appendf(nil, `{"keys":[{"id":"b","kind":"secret","sha256":%q,"signature":{"secret":%s}}]}`, Hash("k"), secret)
	}
	keys, err := Load(document(`["env:GOOD","file:`+file+`"]`), nil, environment)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{secretA, secretB} {
		h := signed(sourcetest.Sign("m"+secret, noon, "x", secret))
		if _, refusal := keys.Find([]byte("k")).Verify(h, []byte("x"), noon); refusal != nil {
			t.Errorf("%v", refusal)
		}
	}
	for secret, want := range map[string]string{
		`"env:NOWHERE"`:              "key \"b\": signature.secret: env:NOWHERE: NOWHERE is not set",
		`"env:SHORT"`:                "the value of SHORT is not whsec_",
		`"env:EMPTY"`:                "the value of EMPTY is not whsec_",
		`"file:/nowhere/at/all"`:     "no such file",
		`"file:` + file + `/../../"`: "signature.secret: file:",
	} {
		_, err := Load(document(secret), nil, environment)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", secret, err, want)
		}
	}
	// Without the secrets, which the operator's commands do not have, the
	// document can be read, and nothing be verified.
	parsed, err := Parse(document(`"env:NOWHERE"`), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, refusal := parsed.Find([]byte("k")).Verify(signed(sourcetest.Sign("m", noon, "x", secretA)), []byte("x"), noon)
	if refusal == nil || refusal.Reason != Undecided {
		t.Errorf("%v", refusal)
	}
}

func TestSecretsMaskThemselves(t *testing.T) {
	t.Parallel()
	_, k := signing(t, nil, `{"secret":"`+secretA+`"}`)
	for _, text := range []string{
		fmt.Sprint(SecretRef(secretA)), fmt.Sprintf("%v %+v %#v %q", Secrets{secretA}, Secrets{secretA}, Secrets{secretA}, Secrets{secretA}),
		fmt.Sprintf("%+v", *k.Signature), fmt.Sprintf("%+v", *k),
	} {
		if strings.Contains(text, secretA[6:]) {
			t.Errorf("%s", text)
		}
	}
	if SecretRef("env:X").String() != "env:X" || SecretRef("file:/x").String() != "file:/x" {
		t.Error("where a secret is should be seen")
	}
}

// FuzzSignature gives any headers to the check: what is accepted is signed, and
// is accepted once.
func FuzzSignature(f *testing.F) {
	good := signed(sourcetest.Sign("msg_1", noon, "body", secretA))
	f.Add(good.ID, good.Timestamp, good.Signature, []byte("body"))
	f.Add(good.ID, good.Timestamp, "v1,AAAA v1, ,v1 v1a,"+good.Signature, []byte("body"))
	f.Add("", "-1", " ", []byte{})
	f.Add(good.ID, "9223372036854775807", good.Signature, []byte("body"))
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		_, k := signing(t, nil, `{"secret":"`+secretA+`"}`)
		h := Signed{id, timestamp, signature}
		receipt, refusal := k.Verify(h, body, noon)
		if refusal != nil {
			if refusal.Detail == "" || refusal.Reason >= Reasons {
				t.Errorf("%+v", refusal)
			}
			return
		}
		at, err := strconv.ParseInt(timestamp, 10, 64)
		if err != nil || at < noon.Unix()-300 || at > noon.Unix()+300 || id == "" {
			t.Errorf("accepted %+v", h)
		}
		mine := strings.TrimPrefix(sourcetest.Sign(id, time.Unix(at, 0), string(body), secretA)[2], "webhook-signature: v1,")
		if strconv.FormatInt(at, 10) == timestamp && !strings.Contains(signature, mine[:42]) {
			t.Errorf("accepted %+v, which is %s", h, mine)
		}
		receipt.Settle(true)
		if _, refusal := k.Verify(h, body, noon); refusal == nil || refusal.Reason != ReplayedSignature {
			t.Errorf("again: %v", refusal)
		}
	})
}

func BenchmarkVerifySignature(b *testing.B) {
	_, k := signing(b, nil, `{"secret":"`+secretA+`"}`)
	body := strings.Repeat("x", 500)
	h := signed(sourcetest.Sign("msg_1", noon, body, secretA))
	raw := []byte(body)
	b.ReportAllocs()
	for b.Loop() {
		receipt, refusal := k.Verify(h, raw, noon)
		if refusal != nil {
			b.Fatal(refusal)
		}
		receipt.Settle(false)
	}
}
