package event

import "testing"

func TestAClaimIsReadBackAndNothingElseIsOne(t *testing.T) {
	t.Parallel()
	payload := []byte(`{"name":"upload","data":{}}`)
	c := NewClaim("claims", "router/e1", payload)
	got, ok := ParseClaim(c.Payload())
	if !ok || got != c {
		t.Fatalf("%+v, %t", got, ok)
	}
	if err := got.Check(payload); err != nil {
		t.Error(err)
	}
	if got.Check(payload[1:]) == nil || got.Check([]byte(`{"name":"upload","data":[]}`)) == nil {
		t.Error("another object was taken for the payload")
	}
	for _, other := range []string{
		``, `[]`, `null`, `{"claim":null}`, `{"claim":{}}`, `{"claim":{"bucket":"b"}}`,
		`{"name":"claim","claim":{"bucket":"b","key":"k","bytes":1,"sha256":""}}`,
		`{"claim":{"bucket":"b","key":"k","bytes":1,"sha256":""}} {}`,
	} {
		if c, ok := ParseClaim([]byte(other)); ok {
			t.Errorf("%s is taken for the claim %+v", other, c)
		}
	}
}

func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"claim":{"bucket":"b","key":"k","bytes":1,"sha256":"ff"}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, ok := ParseClaim(payload)
		if !ok {
			return
		}
		if again, ok := ParseClaim(c.Payload()); !ok || again != c {
			t.Errorf("%+v becomes %+v, %t", c, again, ok)
		}
	})
}
