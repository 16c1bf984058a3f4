package fanout_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/router/fanout"
)

func TestEventsOfAKeyAreHandedOverOneAfterAnotherAndKeysSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAWS(t)
		a.takes = 10 * time.Millisecond
		var events []string
		for n := range 60 {
			events = append(events, stored(n, fmt.Sprintf("u%d", n%6)))
		}
		began := time.Now()
		o := process(t, open(t, a, fanout.Config{}), both(t), plain(events...))
		if o.Failed != "" || o.Records != 60 || o.Events != 60 || o.Destinations["crm"].Routed != 60 || o.Destinations["mail"].Routed != 60 || o.Sends != 120 {
			t.Errorf("%+v", o)
		}
		for _, arn := range []string{crm, mail} {
			last := map[string]int{}
			for _, e := range a.got[arn] {
				if e.Data.N < last[e.UserID] {
					t.Errorf("%s: %d after %d of %s", arn, e.Data.N, last[e.UserID], e.UserID)
				}
				last[e.UserID] = e.Data.N
			}
		}
		if took := time.Since(began); took > 600*time.Millisecond || a.most < 4 {
			t.Errorf("took %v, %d at once: one after another", took, a.most)
		}
	})
}

func TestWhatIsThrottledIsTriedAgainUntilItIsTaken(t *testing.T) {
	t.Parallel()
	for _, kind := range []fault.Kind{fault.Throttled, fault.Unavailable, fault.Internal} {
		synctest.Test(t, func(t *testing.T) {
			a := newAWS(t)
			a.answer = func(_ string, _ fanout.Message, n int) (error, bool) {
				if n < 6 {
					return refuse(kind), false
				}
				return nil, true
			}
			o := process(t, open(t, a, fanout.Config{}), toCRM(t, ""), plain(stored(1, "u"), stored(2, "u")))
			if o.Failed != "" || o.Attempts != 12 || !slices.Equal(a.numbers(crm), []int{1, 2}) {
				t.Errorf("%s: %+v, got %v", kind, o, a.numbers(crm))
			}
		})
	}
}

func TestALostAnswerMakesADuplicateWithTheSameID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAWS(t)
		a.answer = func(_ string, _ fanout.Message, n int) (error, bool) {
			if n == 1 {
				return refuse(fault.Ambiguous), true
			}
			return nil, true
		}
		o := process(t, open(t, a, fanout.Config{}), toCRM(t, ""), plain(stored(1, "u")))
		if o.Failed != "" || len(a.got[crm]) != 2 || a.messages[crm][0].ID != a.messages[crm][1].ID || o.Destinations["crm"].Routed != 1 {
			t.Errorf("%+v, %+v", o, a.messages[crm])
		}
	})
}

// One destination throttles for longer than the invocation lasts. The shard is
// read again from the first event it has not taken; the other destination does
// not get those twice.
func TestADestinationThatTakesNothingInTimeIsReportedByItsFirstRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAWS(t)
		away := true
		a.answer = func(arn string, m fanout.Message, _ int) (error, bool) {
			if away && arn == mail && bytes.Contains(m.Payload, []byte(`"user_id":"slow"`)) {
				return refuse(fault.Throttled), false
			}
			return nil, true
		}
		f := open(t, a, fanout.Config{})
		records := plain(stored(0, "u"), stored(1, "u"), stored(2, "slow"), stored(3, "u"), stored(4, "slow"), stored(5, "v"))
		o := process(t, f, both(t), records)
		if o.Failed != records[2].Sequence || o.Records != 2 || o.Events != 2 || o.Destinations["mail"].Routed != 2 || !strings.Contains(o.Why.Error(), "THROTTLED") {
			t.Fatalf("%+v", o)
		}
		away = false
		o = process(t, f, both(t), records[2:])
		if o.Failed != "" || o.Destinations["crm"].Routed != 4 || o.Destinations["mail"].Routed != 4 {
			t.Errorf("the second time: %+v", o)
		}
		for _, arn := range []string{crm, mail} {
			got := a.numbers(arn)
			slices.Sort(got)
			if !slices.Equal(got, []int{0, 1, 2, 3, 4, 5}) {
				t.Errorf("%s got %v", arn, got)
			}
		}
	})
}

// The time is over while one user's events are throttled: of the events behind
// them no more than the window were sent, and are sent again.
func TestFewEventsAreSentAheadOfOneThatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAWS(t)
		a.answer = func(_ string, m fanout.Message, _ int) (error, bool) {
			if bytes.Contains(m.Payload, []byte(`"user_id":"slow"`)) {
				return refuse(fault.Throttled), false
			}
			return nil, true
		}
		events := []string{stored(0, "u0"), stored(1, "slow")}
		for n := 2; n < 500; n++ {
			events = append(events, stored(n, fmt.Sprintf("u%d", n%40)))
		}
		o := process(t, open(t, a, fanout.Config{Window: 100}), both(t), plain(events...))
		if o.Records != 1 {
			t.Errorf("%+v", o)
		}
		for _, arn := range []string{crm, mail} {
			if n := slices.Max(a.numbers(arn)); n > 101 || len(a.got[arn]) < 90 {
				t.Errorf("%s got %d events, the last is number %d", arn, len(a.got[arn]), n)
			}
		}
	})
}

func TestWhatCannotBeReadIsADeadLetterWithItsBytesAndHoldsUpNothing(t *testing.T) {
	t.Parallel()
	a := newAWS(t)
	damaged := aggregated(2, stored(3, "u"), stored(4, "u"))
	damaged.Data[len(damaged.Data)-1] ^= 1
	records := []fanout.Record{
		record(0, "p", []byte(stored(1, "u"))),
		record(1, "p", []byte("\x00not JSON")),
		damaged,
		aggregated(3, stored(5, "u"), `{"data":{}}`, stored(6, "u")),
	}
	o := process(t, open(t, a, fanout.Config{}), both(t), records)
	if o.Failed != "" || o.Events != 6 || o.Unreadable != 3 || o.Destinations["crm"].Routed != 3 {
		t.Errorf("%+v", o)
	}
	if got := a.numbers(crm); !slices.Equal(got, []int{1, 5, 6}) {
		t.Errorf("got %v", got)
	}
	want := [][]byte{records[1].Data, damaged.Data, []byte(`{"data":{}}`)}
	for i, l := range a.letters {
		if !bytes.Equal(l.Raw, want[i]) || l.Class != "permanent" || l.Code != "unreadable" || l.Destination != "" || !strings.Contains(l.Message, records[i+1].Sequence) {
			t.Errorf("%+v", l)
		}
	}
	if len(a.letters) != 3 || a.letters[2].ID != records[3].Shard+":"+records[3].Sequence+":1" {
		t.Errorf("letters %+v", a.letters)
	}
}

func TestWithoutADeadLetterQueueTheRecordIsReported(t *testing.T) {
	t.Parallel()
	a := newAWS(t)
	f, err := fanout.New(a, nil, nil, fanout.Config{})
	if err != nil {
		t.Fatal(err)
	}
	records := plain(stored(1, "u"), "rubbish", stored(2, "u"))
	o := process(t, f, both(t), records)
	if o.Failed != records[1].Sequence || o.Records != 1 || !strings.Contains(o.Why.Error(), "no dead letter queue") {
		t.Errorf("%+v", o)
	}
}

func TestARecordWhoseDeadLetterIsNotStoredIsReadAgain(t *testing.T) {
	t.Parallel()
	a := newAWS(t)
	a.bury = func(n int, _ deadletter.Letter) error {
		if n == 2 {
			return refuse(fault.Unavailable)
		}
		return nil
	}
	f := open(t, a, fanout.Config{})
	records := plain("bad 1", stored(1, "u"), "bad 2", "bad 3", stored(2, "u"))
	o := process(t, f, both(t), records)
	if o.Failed != records[2].Sequence || o.Unreadable != 1 || len(a.letters) != 2 {
		t.Fatalf("%+v, %d letters", o, len(a.letters))
	}
	o = process(t, f, both(t), records[2:])
	if o.Failed != "" || o.Unreadable != 2 || len(a.letters) != 3 || len(a.got[crm]) != 2 {
		t.Errorf("the second time: %+v, %d letters, got %v", o, len(a.letters), a.numbers(crm))
	}
}

// The queue for dead letters does not answer: the outcome is reported in time.
func TestTheOutcomeIsReportedInTimeThoughNothingAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAWS(t)
		a.takes = time.Hour
		f, err := fanout.New(a, a, hanging{}, fanout.Config{})
		if err != nil {
			t.Fatal(err)
		}
		records := plain("rubbish", stored(1, "u"))
		o := process(t, f, toCRM(t, ""), records)
		if o.Failed != records[0].Sequence || o.Records != 0 {
			t.Errorf("%+v", o)
		}
	})
}

// hanging is a grave that does not answer.
type hanging struct{}

func (hanging) Bury(ctx context.Context, letters []deadletter.Letter) []error {
	<-ctx.Done()
	return slices.Repeat([]error{ctx.Err()}, len(letters))
}

// A rule names a function that does not exist, or that the router may not
// invoke.
func TestEventsOfADestinationThatCanNeverTakeThemAreDeadLetters(t *testing.T) {
	t.Parallel()
	for kind, class := range map[fault.Kind]string{fault.NotFound: "permanent", fault.Forbidden: "auth"} {
		synctest.Test(t, func(t *testing.T) {
			a := newAWS(t)
			a.answer = func(arn string, _ fanout.Message, _ int) (error, bool) {
				if arn == crm {
					return refuse(kind), false
				}
				return nil, true
			}
			var log bytes.Buffer
			events := []string{}
			for n := range 50 {
				events = append(events, stored(n, "u"))
			}
			o := process(t, open(t, a, fanout.Config{Log: slog.New(slog.NewTextHandler(&log, nil))}), both(t), plain(events...))
			if o.Failed != "" || o.Destinations["crm"].DeadLetters != 50 || o.Destinations["mail"].Routed != 50 || o.Attempts != 53 {
				t.Errorf("%s: %+v", kind, o)
			}
			for i, l := range a.letters {
				if l.Class != class || l.Code != kind.String() || l.ARN != crm || l.Destination != "crm" || string(l.Event) != events[i] || l.EventID != fmt.Sprintf("e%d", i) || l.Rule != "rules[0] crm" {
					t.Errorf("%+v", l)
				}
			}
			if n := strings.Count(log.String(), "cannot be reached"); n != 1 {
				t.Errorf("%d lines: %s", n, &log)
			}
		})
	}
}

// A new policy takes moments until it is known everywhere.
func TestARefusalThatPassesCostsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAWS(t)
		a.answer = func(_ string, _ fanout.Message, n int) (error, bool) {
			if n < 3 {
				return refuse(fault.Forbidden), false
			}
			return nil, true
		}
		o := process(t, open(t, a, fanout.Config{}), toCRM(t, ""), plain(stored(1, "u"), stored(2, "u")))
		if o.Failed != "" || len(a.letters) != 0 || len(a.got[crm]) != 2 {
			t.Errorf("%+v, letters %+v", o, a.letters)
		}
	})
}

func TestWhatIsTooLargeIsClaimed(t *testing.T) {
	t.Parallel()
	large := fmt.Sprintf(`{"id":"e1","type":"track","name":"upload","user_id":"u","data":{"n":1,"text":%q},"context":{}}`, strings.Repeat("x", 2000))
	for name, c := range map[string]struct {
		claims bool
		fails  error
		cfg    fanout.Config
		answer func(string, fanout.Message, int) (error, bool)
		dead   string // Code of the letter
		says   string
	}{
		"by the limit":            {claims: true, cfg: fanout.Config{MaxPayload: 1000}},
		"by the answer":           {claims: true, answer: func(_ string, m fanout.Message, _ int) (error, bool) { return largerThan(m, 1500) }},
		"without a bucket":        {cfg: fanout.Config{MaxPayload: 1000}, dead: "too_large", says: "CLAIM_BUCKET"},
		"a bucket that is closed": {claims: true, fails: refuse(fault.Forbidden), cfg: fanout.Config{MaxPayload: 1000}, dead: "claim", says: "FORBIDDEN"},
		"the claim too":           {claims: true, answer: func(_ string, m fanout.Message, _ int) (error, bool) { return largerThan(m, 10) }, dead: "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAWS(t)
			a.answer = c.answer
			a.claim = func(string) error { return c.fails }
			var claims fanout.Claims
			if c.claims {
				claims = a
			}
			f, err := fanout.New(a, claims, a, c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			records := plain(large, stored(2, "u"))
			if name == "the claim too" {
				records = records[:1]
			}
			o := process(t, f, toCRM(t, ""), records)
			if o.Failed != "" {
				t.Fatalf("%+v", o)
			}
			if c.dead == "" {
				if got := a.numbers(crm); !slices.Equal(got, []int{1, 2}) || len(a.letters) != 0 {
					t.Errorf("got %v, letters %+v", got, a.letters)
				}
				if _, ok := event.ParseClaim(a.messages[crm][0].Payload); !ok {
					t.Errorf("sent %.100s", a.messages[crm][0].Payload)
				}
				return
			}
			if len(a.letters) != 1 || a.letters[0].Code != c.dead || string(a.letters[0].Event) != large || !strings.Contains(a.letters[0].Message, c.says) {
				t.Errorf("letters %.300s", fmt.Sprintf("%+v", a.letters))
			}
		})
	}
}

func largerThan(m fanout.Message, most int) (error, bool) {
	if len(m.Payload) > most {
		return refuse(fault.TooLarge), false
	}
	return nil, true
}

func TestMaxBatchFillsMessagesWithinTheirLimit(t *testing.T) {
	t.Parallel()
	a := newAWS(t)
	var events []string
	for n := range 1000 {
		events = append(events, stored(n, fmt.Sprintf("u%d", n%50)))
	}
	table := toCRM(t, `,"max_batch":100`)
	o := process(t, open(t, a, fanout.Config{MaxPayload: 8000}), table, []fanout.Record{aggregated(0, events[:400]...), aggregated(1, events[400:]...)})
	if o.Failed != "" || len(a.got[crm]) != 1000 || o.Destinations["crm"].Routed != 1000 {
		t.Errorf("%+v", o)
	}
	last := map[string]int{}
	for _, e := range a.got[crm] {
		if e.Data.N < last[e.UserID] {
			t.Errorf("%d after %d of %s", e.Data.N, last[e.UserID], e.UserID)
		}
		last[e.UserID] = e.Data.N
	}
	size := 0
	for _, m := range a.messages[crm] {
		if len(m.Payload) > 8000 || m.Payload[0] != '[' {
			t.Errorf("a message of %d bytes", len(m.Payload))
		}
		size += len(m.Payload)
	}
	// Each of ten lanes ends with a message that is not full.
	if most := size/8000 + 1 + 10; len(a.messages[crm]) > most {
		t.Errorf("%d messages, %d would do", len(a.messages[crm]), most)
	}
}

func TestAMessageThatIsRefusedIsHalvedUntilTheCulpritIsAlone(t *testing.T) {
	t.Parallel()
	for _, kind := range []fault.Kind{fault.TooLarge, fault.Invalid} {
		a := newAWS(t)
		a.answer = func(_ string, m fanout.Message, _ int) (error, bool) {
			if bytes.Contains(m.Payload, []byte(`"n":13}`)) {
				return refuse(kind), false
			}
			return nil, true
		}
		var events []string
		for n := range 32 {
			events = append(events, stored(n, "u"))
		}
		f, err := fanout.New(a, nil, a, fanout.Config{})
		if err != nil {
			t.Fatal(err)
		}
		o := process(t, f, toCRM(t, `,"max_batch":32`), plain(events...))
		if o.Failed != "" || len(a.letters) != 1 || a.letters[0].EventID != "e13" || len(a.got[crm]) != 31 || !slices.IsSorted(a.numbers(crm)) {
			t.Errorf("%s: %+v; letters %+v; got %v", kind, o, a.letters, a.numbers(crm))
		}
	}
}

// boto3 and the KPL write events of their own making, without an id.
func TestAnEventWithoutAnIDGetsTheSameOneEachTimeItIsRead(t *testing.T) {
	t.Parallel()
	a := newAWS(t)
	foreign := []string{`{"name":"event-1","data":{"square": 1},"tenant":"t1"}`, `{"data":{"n":2},"name":"event-2"}`}
	records := []fanout.Record{record(0, "PK-1", []byte(foreign[0])), aggregated(1, foreign...)}
	process(t, open(t, a, fanout.Config{}), toCRM(t, ""), records)
	process(t, open(t, a, fanout.Config{}), toCRM(t, ""), records)
	got := a.got[crm]
	if len(got) != 6 {
		t.Fatalf("got %+v", got)
	}
	want := []string{
		event.DeriveID(records[0].Shard, records[0].Sequence, 0),
		event.DeriveID(records[1].Shard, records[1].Sequence, 0), event.DeriveID(records[1].Shard, records[1].Sequence, 1),
	}
	slices.Sort(want)
	for _, part := range [][]sent{got[:3], got[3:]} {
		var ids []string
		for _, e := range part {
			ids = append(ids, e.ID)
		}
		if slices.Sort(ids); !slices.Equal(ids, want) {
			t.Errorf("ids %v, want %v", ids, want)
		}
	}
	var first map[string]any
	for _, m := range a.messages[crm] {
		if bytes.Contains(m.Payload, []byte(`"event-1"`)) {
			if err := json.Unmarshal(m.Payload, &first); err != nil {
				t.Fatal(err)
			}
		}
	}
	if fmt.Sprint(first["context"]) != "map[extra:map[tenant:t1]]" || first["received_at"] == nil {
		t.Errorf("%v", first)
	}
}

func TestWhatTheRulesFilterAndCannotTransformIsCounted(t *testing.T) {
	t.Parallel()
	a := newAWS(t)
	table := parse(t, `[{"destination_name":"crm","destination_arn":"`+crm+`","enabled_events":["clicked"],"when":"event.data.n > 1","transform":{"set":{"/data/n/deep":1}}},
		{"destination_name":"mail","destination_arn":"`+mail+`","enabled_events":["nothing"]}]`)
	o := process(t, open(t, a, fanout.Config{}), table, plain(stored(1, "u"), stored(2, "u")))
	if o.Destinations["crm"] != (fanout.Counts{Filtered: 1, DeadLetters: 1}) || o.Destinations["mail"] != (fanout.Counts{Filtered: 2}) {
		t.Errorf("%+v", o)
	}
	if len(a.letters) != 1 || a.letters[0].Code != "transform" || a.letters[0].ARN != crm || string(a.letters[0].Event) != stored(2, "u") {
		t.Errorf("%+v", a.letters)
	}
}

func TestMessagesOfAFIFOQueueWithSeveralEventsHaveGroupsThatNeverChange(t *testing.T) {
	t.Parallel()
	a := newAWS(t)
	table := parse(t, `[{"destination_name":"mail","destination_arn":"`+fifo+`","enabled_events":["*"],"max_batch":10}]`)
	groups := map[string]string{}
	for size := 1; size < 400; size *= 3 {
		var events []string
		for n := range size {
			events = append(events, stored(n, fmt.Sprintf("u%d", n%37)))
		}
		a.messages, a.got = map[string][]fanout.Message{}, map[string][]sent{}
		process(t, open(t, a, fanout.Config{}), table, plain(events...))
		for _, m := range a.messages[fifo] {
			var many []sent
			if err := json.Unmarshal(m.Payload, &many); err != nil {
				t.Fatal(err)
			}
			for _, e := range many {
				if was := groups[e.UserID]; was != "" && was != m.Key {
					t.Fatalf("%s was in group %q and is in %q", e.UserID, was, m.Key)
				}
				groups[e.UserID] = m.Key
			}
		}
	}
}

func TestABatchWithoutADeadlineEndsWhenAllIsSettled(t *testing.T) {
	t.Parallel()
	a := newAWS(t)
	o := open(t, a, fanout.Config{}).Process(t.Context(), toCRM(t, ""), plain(stored(1, "u")))
	if o.Failed != "" || len(a.got[crm]) != 1 {
		t.Errorf("%+v", o)
	}
}

func TestConfigsThatCannotBeUsedAreRefused(t *testing.T) {
	t.Parallel()
	_, err := fanout.New(nil, nil, nil, fanout.Config{MaxPayload: -1, MaxInFlight: -1, MaxLanes: -1, Window: -1, Reserve: -1})
	for _, field := range []string{"MaxPayload", "MaxInFlight", "MaxLanes", "Window", "Reserve"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named: %v", field, err)
		}
	}
}
