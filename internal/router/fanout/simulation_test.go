package fanout_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/router/fanout"
)

var (
	simSeeds = flag.Int("sim.seeds", 30, "seeds to simulate")
	simSeed  = flag.Uint64("sim.seed", 0, "the one seed to simulate")
)

// A shard is read as an event source reads it, with destinations, bucket and
// dead letter queue that fail in every way, and processes that come and go.
// Every event reaches every destination or is a dead letter, those of a key in
// order, and the sums are right.
func TestSimulation(t *testing.T) {
	t.Parallel()
	if *simSeed != 0 {
		synctest.Test(t, func(t *testing.T) { simulate(t, *simSeed) })
		return
	}
	for seed := range uint64(*simSeeds) {
		if ok := t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed+1) })
		}); !ok {
			t.Fatalf("run again with -sim.seed=%d", seed+1)
		}
	}
}

func simulate(t *testing.T, seed uint64) {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	chance := func(p float64) bool {
		mu.Lock()
		defer mu.Unlock()
		return random.Float64() < p
	}
	kinds := []fault.Kind{fault.Throttled, fault.Unavailable, fault.Internal, fault.Ambiguous, fault.Ambiguous}
	// bad is how likely an attempt fails; now and then everything does.
	bad := random.Float64() * 0.5
	a := newAWS(t)
	a.takes = time.Duration(random.IntN(20)) * time.Millisecond
	a.answer = func(_ string, m fanout.Message, _ int) (error, bool) {
		if largest := 4000; len(m.Payload) > largest {
			return refuse(fault.TooLarge), false
		}
		if !chance(bad) {
			return nil, true
		}
		mu.Lock()
		kind := kinds[random.IntN(len(kinds))]
		mu.Unlock()
		return refuse(kind), kind == fault.Ambiguous && chance(0.5)
	}
	a.bury = func(int, deadletter.Letter) error {
		if chance(bad / 2) {
			return refuse(fault.Ambiguous)
		}
		return nil
	}
	a.claim = func(string) error {
		if chance(bad) {
			return refuse(fault.Unavailable)
		}
		return nil
	}
	table := parse(t, fmt.Sprintf(`[{"destination_name":"crm","destination_arn":%q,"enabled_events":["*"]},
		{"destination_name":"mail","destination_arn":%q,"enabled_events":["*"],"max_batch":%d},
		{"destination_name":"fifo","destination_arn":%q,"enabled_events":["*"],"when":"event.data.n %% 2 == 0 || true","max_batch":%d}]`,
		crm, mail, 1+random.IntN(40), fifo, 1+random.IntN(10)))
	var records []fanout.Record
	readable, unreadable := 0, 0
	for i := range 5 + random.IntN(60) {
		var events []string
		for range 1 + random.IntN(12) {
			switch random.IntN(30) {
			case 0:
				events = append(events, "rubbish")
				unreadable++
			case 1:
				events = append(events, fmt.Sprintf(`{"id":"e%d","type":"track","name":"upload","user_id":"large","data":{"n":%d,"text":"%5000d"},"context":{}}`, readable, readable, 0))
				readable++
			default:
				events = append(events, stored(readable, fmt.Sprintf("u%d", random.IntN(20))))
				readable++
			}
		}
		records = append(records, aggregated(i, events...))
	}
	open := func() *fanout.Fanout {
		f, err := fanout.New(a, a, a, fanout.Config{MaxPayload: 5000, MaxInFlight: 1 + random.IntN(20), MaxLanes: 1 + random.IntN(16), Window: 1 + random.IntN(100)})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := open()
	var events, dead uint64
	routed := map[string]uint64{}
	for round := 0; len(records) > 0; round++ {
		if round > 500 {
			t.Fatalf("%d records are left after %d rounds", len(records), round)
		}
		if random.IntN(4) == 0 {
			f = open() // another process: what the first remembered is gone
		}
		batch := records[:min(len(records), 1+random.IntN(20))]
		o := process(t, f, table, batch)
		events += o.Events
		dead += o.Unreadable
		for name, c := range o.Destinations {
			routed[name] += c.Routed
			dead += c.DeadLetters
		}
		switch {
		case o.Failed == "" && o.Records != len(batch), o.Failed != "" && batch[o.Records].Sequence != o.Failed:
			t.Fatalf("%d records are settled of %d, failed %q", o.Records, len(batch), o.Failed)
		}
		records = records[o.Records:]
	}
	if want := uint64(readable + unreadable); events != want {
		t.Errorf("%d events are settled of %d", events, want)
	}
	letters := map[string]bool{}
	for _, l := range a.letters {
		letters[l.ID] = true
	}
	if uint64(len(letters)) != dead || unreadable > len(letters) {
		t.Errorf("%d dead letters, %d counted, %d events are unreadable", len(letters), dead, unreadable)
	}
	for arn, name := range map[string]string{crm: "crm", mail: "mail", fifo: "fifo"} {
		if routed[name] != uint64(readable) {
			t.Errorf("%d events were routed to %s of %d", routed[name], name, readable)
		}
		first := map[int]bool{}
		last := map[string]int{}
		for _, e := range a.got[arn] {
			if first[e.Data.N] {
				continue // a repeat
			}
			first[e.Data.N] = true
			if was, ok := last[e.UserID]; ok && e.Data.N < was {
				t.Errorf("%s got %d after %d of %s", name, e.Data.N, was, e.UserID)
			}
			last[e.UserID] = e.Data.N
		}
		if len(first) != readable {
			t.Errorf("%s got %d events of %d", name, len(first), readable)
		}
	}
}
