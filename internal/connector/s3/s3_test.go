package s3

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/fault"
)

const someSettings = `{"bucket":"lake","access_key_id":"AKIDEXAMPLE","secret_access_key":"wJalrXUtnFEMI"}`

func TestAFileWhoseFateIsNotKnownIsLookedForAndWrittenAgain(t *testing.T) {
	t.Parallel()
	ambiguous, away := kind(fault.Ambiguous), kind(fault.Unavailable)
	for _, c := range []struct {
		name        string
		puts, looks []error
		lost        bool // what fails is written all the same
		want        connector.Class
		wantPuts    int
	}{
		{name: "written at once", want: connector.Delivered, wantPuts: 1},
		{name: "the answer is lost, and the file is there", puts: []error{ambiguous}, lost: true, want: connector.Delivered, wantPuts: 1},
		{name: "it is not there", puts: []error{ambiguous}, want: connector.Delivered, wantPuts: 2},
		{name: "nobody says whether it is there", puts: []error{ambiguous}, looks: []error{away}, lost: true, want: connector.Delivered, wantPuts: 2},
		{name: "looking is forbidden", puts: []error{ambiguous}, looks: []error{kind(fault.Forbidden)}, lost: true, want: connector.Delivered, wantPuts: 2},
		{name: "an error nobody has classified", puts: []error{errors.New("?")}, want: connector.Delivered, wantPuts: 2},
		{name: "a refusal that does not last says nothing of the first", puts: []error{ambiguous, away}, want: connector.Delivered, wantPuts: 3},
		{name: "refusals do not take back the first", puts: []error{ambiguous, away, away}, want: connector.Ambiguous, wantPuts: 3},
		{name: "nor does one that lasts", puts: []error{ambiguous, kind(fault.Forbidden)}, want: connector.Ambiguous, wantPuts: 2},
		{name: "no answer at all", puts: []error{ambiguous, ambiguous, ambiguous}, looks: []error{away, away, away}, lost: true, want: connector.Ambiguous, wantPuts: 3},
		{name: "not stored is not tried again here", puts: []error{away}, want: connector.Retryable, wantPuts: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := &memory{puts: c.puts, looks: c.looks, lost: c.lost}
				conn := open(t, m, someSettings)
				call := conn.Plan(connectortest.Plain(3)).Calls[0]
				for _, r := range conn.Send(t.Context(), call) {
					if r.Class != c.want {
						t.Errorf("%s (%s), want %s", r.Class, r.Message, c.want)
					}
				}
				if len(m.tried) != c.wantPuts {
					t.Errorf("%d writes, want %d", len(m.tried), c.wantPuts)
				}
				if len(slices.Compact(m.tried)) > 1 || len(slices.CompactFunc(m.bodies, bytes.Equal)) > 1 {
					t.Error("another key or other bytes")
				}
			})
		})
	}
}

func TestEachKindOfFaultHasItsClassAndNamesItsSetting(t *testing.T) {
	t.Parallel()
	for k, want := range map[fault.Kind]struct {
		class   connector.Class
		setting string
	}{
		fault.Throttled:       {connector.Throttled, ""},
		fault.Unavailable:     {connector.Retryable, ""},
		fault.TooLarge:        {connector.TooLarge, ""},
		fault.Unauthenticated: {connector.Auth, "access_key_id"},
		fault.Forbidden:       {connector.Auth, "bucket"},
		fault.NotFound:        {connector.Auth, "bucket"},
		fault.Invalid:         {connector.Auth, "region, endpoint, storage_class or kms_key_id"},
	} {
		err := fault.New(k, "the store repeats wJalrXUtnFEMI")
		conn := open(t, &memory{puts: []error{err}}, someSettings)
		r := conn.Send(t.Context(), conn.Plan(connectortest.Plain(1)).Calls[0])[0]
		if r.Class != want.class || !strings.HasPrefix(r.Message, want.setting) || !strings.Contains(r.Message, "the store repeats") {
			t.Errorf("%s: %s (%s), want %s with %q", k, r.Class, r.Message, want.class, want.setting)
		}
		if strings.Contains(r.Message, "wJalr") {
			t.Errorf("%s: the secret is shown: %s", k, r.Message)
		}
		if (r.RetryAfter > 0) != (k == fault.Throttled) {
			t.Errorf("%s: a wait of %v", k, r.RetryAfter)
		}
	}
}

func TestABucketThatDoesNotOpenIsTriedAgain(t *testing.T) {
	t.Parallel()
	m, opens := &memory{}, 0
	var got Location
	conn, err := Spec(func(_ context.Context, l Location) (Bucket, error) {
		got = l
		if opens++; opens == 1 {
			return nil, fault.New(fault.Invalid, "no AWS region is set")
		}
		return m, nil
	}).New([]byte(`{"bucket":"lake","region":"eu-central-1","endpoint":"http://127.0.0.1:9000","access_key_id":"a","secret_access_key":"b","storage_class":"STANDARD_IA","kms_key_id":"k"}`), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	call := conn.Plan(connectortest.Plain(1)).Calls[0]
	for _, want := range []connector.Class{connector.Auth, connector.Delivered, connector.Delivered} {
		if r := conn.Send(t.Context(), call)[0]; r.Class != want {
			t.Errorf("%s (%s), want %s", r.Class, r.Message, want)
		}
	}
	if opens != 2 {
		t.Errorf("opened %d times, want 2", opens)
	}
	want := Location{"lake", "eu-central-1", "http://127.0.0.1:9000", "a", "b", "STANDARD_IA", "k"}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestCheckSaysWhatWasFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want connector.Class
		says string
	}{
		{nil, connector.Delivered, "lake"},
		{kind(fault.Forbidden), connector.Delivered, "may not be listed"},
		{kind(fault.NotFound), connector.Auth, "bucket"},
		{kind(fault.Unauthenticated), connector.Auth, "access_key_id"},
		{kind(fault.Ambiguous), connector.Retryable, "the store says"},
	} {
		r := open(t, &memory{checked: c.err}, someSettings).Check(t.Context())
		if r.Class != c.want || !strings.Contains(r.Message, c.says) {
			t.Errorf("%v: %s (%s), want %s", c.err, r.Class, r.Message, c.want)
		}
	}
}

func TestSettingsNameEveryFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		settings string
		want     []string // what each line begins with
	}{
		{`{}`, []string{"bucket: is required"}},
		{`{"bucket":"Not A Bucket","prefix":"/x","endpoint":"ftp://x"}`, []string{"bucket: ", "prefix: ", "endpoint: "}},
		{`{"bucket":"lake","prefix":"a//b"}`, []string{"prefix: "}},
		{`{"bucket":"lake","prefix":"a\nb"}`, []string{"prefix: "}},
		{`{"bucket":"lake","prefix":"` + strings.Repeat("p", 512) + `"}`, []string{"prefix: "}},
		{`{"bucket":"lake","format":"csv","partition":"week","compression":"lzo","storage_class":"COLD"}`, []string{"format: ", "partition: ", "compression: ", "storage_class: "}},
		{`{"bucket":"lake","max_events":0,"linger":"16m"}`, []string{"max_events: ", "linger: "}},
		{`{"bucket":"lake","access_key_id":"a"}`, []string{"secret_access_key: "}},
		{`{"bucket":"lake","secret_access_key":"b"}`, []string{"access_key_id: "}},
		{`{"bucket":"lake","endpoint":"http://s3.example.com"}`, []string{"endpoint: "}},
		{`{"bucket":"lake","endpoint":"https://user:pass@s3.example.com"}`, []string{"endpoint: "}},
		{`{"bucket":"lake","endpoint":"https://s3.example.com:9000"}`, nil},
		{`{"bucket":"lake","endpoint":"http://localhost:9000"}`, nil},
		{`{"bucket":"lake","endpoint":"http://[::1]:9000"}`, nil},
		{`{"bucket":"lake"}`, nil},
	} {
		_, err := Spec(nil).New([]byte(c.settings), connector.Env{})
		var lines []string
		if err != nil {
			lines = strings.Split(err.Error(), "\n")
		}
		if len(lines) != len(c.want) {
			t.Errorf("%s: %v, want %q", c.settings, err, c.want)
			continue
		}
		slices.Sort(lines)
		slices.Sort(c.want)
		for i := range lines {
			if !strings.HasPrefix(lines[i], c.want[i]) {
				t.Errorf("%s: %q, want %q", c.settings, lines[i], c.want[i])
			}
		}
	}
}
