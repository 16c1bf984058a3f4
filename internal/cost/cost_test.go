package cost

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func embedded(t *testing.T) (Prices, Counts) {
	t.Helper()
	p, err := EmbeddedPrices()
	if err != nil {
		t.Fatal(err)
	}
	c, err := EmbeddedCounts()
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

// set gives a count a value, as if it had been measured.
func set(c *Count, value float64) {
	c.Value, c.Kind = &value, measured
}

func newSheet(p *Prices, c *Counts, rate int) *sheet {
	config := Default()
	config.EventBytes = 600
	return &sheet{prices: p, counts: c, config: config, rate: float64(rate), hours: million / float64(rate) / 3600, used: map[string]Price{}}
}

// at returns the estimate of a system by its name at a rate.
func at(t *testing.T, r *Report, system string, rate int) Estimate {
	t.Helper()
	for _, s := range r.Systems {
		for _, e := range s.Estimates {
			if s.Name == system && e.Rate == rate {
				return e
			}
		}
	}
	t.Fatalf("no estimate of %s at %d events/s", system, rate)
	return Estimate{}
}

// last returns what the stage that was added last costs.
func (s *sheet) last() float64 { return s.stages[len(s.stages)-1].USD }

func TestUnitsAreRoundedUpAsTheyAreBilled(t *testing.T) {
	t.Parallel()
	const kb = 1024
	for name, c := range map[string]struct {
		of    func(int) int
		wants map[int]int
	}{
		"payload units of 25 KB":  {payloadUnits, map[int]int{0: 1, 1: 1, 25 * kb: 1, 25*kb + 1: 2, 45 * kb: 2, kb * kb: 41}},
		"whole KB on demand":      {kilobytes, map[int]int{1: 1, 500: 1, kb: 1, kb + 1: 2, 4*kb + 512: 5}},
		"SQS chunks of 64 KB":     {queueRequests, map[int]int{0: 1, 1: 1, 64 * kb: 1, 64*kb + 1: 2, 256 * kb: 4, kb * kb: 16}},
		"Firehose steps of 5 KB":  {backupBytes, map[int]int{1: 5 * kb, 3 * kb: 5 * kb, 5 * kb: 5 * kb, 5*kb + 1: 10 * kb, 12 * kb: 15 * kb}},
		"asynchronous invocation": {asyncRequests, map[int]int{0: 1, 1: 1, 256 * kb: 1, 256*kb + 1: 2, 320 * kb: 2, 320*kb + 1: 3, kb * kb: 13}},
	} {
		for n, want := range c.wants {
			if got := c.of(n); got != want {
				t.Errorf("%s: %d bytes are %d, want %d", name, n, got, want)
			}
		}
	}
	for took, want := range map[time.Duration]int{
		0: 1, time.Nanosecond: 1, time.Millisecond: 1, time.Millisecond + 1: 2, 15740 * time.Microsecond: 16, time.Second: 1000,
	} {
		if got := BilledMillis(took); got != want {
			t.Errorf("%v are billed as %d ms, want %d", took, got, want)
		}
	}
}

func TestAMonthIsSplitOverTheTiersOfAPrice(t *testing.T) {
	t.Parallel()
	tiers := []tier{{from: 0}, {from: 333}, {from: 1000}, {from: 20_000}}
	for monthly, want := range map[float64][]float64{
		100:    {100, 0, 0, 0},
		333:    {333, 0, 0, 0},
		334:    {333, 1, 0, 0},
		1000:   {333, 667, 0, 0},
		26_280: {333, 667, 19_000, 6280},
	} {
		if got := blend(monthly, tiers); !slices.Equal(got, want) {
			t.Errorf("%v: %v, want %v", monthly, got, want)
		}
	}
}

// The table was made by hand, before there was this package, for events of 600
// bytes and without logs, addresses and the cost of waiting for a measurement.
// It says what each stage assumes; its digits are those it was rounded to.
func TestAgreesWithATableThatWasMadeByHand(t *testing.T) {
	t.Parallel()
	prices, base := embedded(t)
	rates := []int{100, 1000, 10_000}
	for _, c := range []struct {
		name string
		set  func(*Counts)
		on   func(*sheet)
		want [3]string
	}{
		{
			// Two tasks, four at the highest rate; no addresses; the load
			// balancer's units by its bytes, 1,200 for each event.
			name: "two Fargate tasks of half a vCPU behind a load balancer",
			set: func(c *Counts) {
				set(&c.TaskAddresses, 0)
				set(&c.BalancerAddresses, 0)
				set(&c.RequestHead, 300)
				set(&c.Answer, 300)
				set(&c.EventsByConnection, 1e6)
			},
			on:   (*sheet).gateway,
			want: [3]string{"0.18", "0.026", "0.012"},
		},
		{
			name: "provisioned, a record per event",
			on: func(s *sheet) {
				s.stream(flow{shards: max(1, int(s.rate)/1000), written: Written{PayloadUnits: million}})
			},
			want: [3]string{"0.056", "0.018", "0.018"},
		},
		{
			name: "provisioned, 40 events in a record of 25 KB",
			on: func(s *sheet) {
				s.stream(flow{shards: max(1, 7*int(s.rate)/10_000), written: Written{PayloadUnits: million / 40}})
			},
			want: [3]string{"0.042", "0.005", "0.003"},
		},
		{
			name: "on demand, a record per event, written",
			on:   func(s *sheet) { s.config.Stream = OnDemand; s.stream(flow{written: Written{EventKilobytes: 1}}) },
			want: [3]string{"0.187", "0.087", "0.077"},
		},
		{
			name: "on demand, 40 events in a record of 24 KB, written",
			on: func(s *sheet) {
				s.config.Stream = OnDemand
				s.stream(flow{written: Written{EventKilobytes: 24.0 / 40}})
			},
			want: [3]string{"0.157", "0.057", "0.047"},
		},
		{
			name: "router, batch 1, 8 ms, 256 MB",
			set:  func(c *Counts) { set(&c.RouterMillis1, 8); set(&c.RouterMemory, 256) },
			on:   func(s *sheet) { s.router(flow{batch: 1}, false) },
			want: [3]string{"0.227", "0.227", "0.227"},
		},
		{
			name: "router, batch 100, 30 ms, 256 MB",
			set:  func(c *Counts) { set(&c.RouterMillis100, 30); set(&c.RouterMemory, 256) },
			on:   func(s *sheet) { s.router(flow{batch: 100}, false) },
			want: [3]string{"0.003", "0.003", "0.003"},
		},
		{
			name: "connector for each event, 50 ms, 128 MB",
			set:  func(c *Counts) { set(&c.ConnectorMillis1, 50); set(&c.ConnectorMemory, 128) },
			on:   func(s *sheet) { s.deliver(flow{batch: 1, group: 1, eventOut: 600}, Invoke) },
			want: [3]string{"0.283", "0.283", "0.283"},
		},
		{
			name: "connector for 50 events, 200 ms, 128 MB",
			set: func(c *Counts) {
				set(&c.ConnectorMillis1, 200)
				set(&c.ConnectorMillis100, 200)
				set(&c.ConnectorMemory, 128)
			},
			on:   func(s *sheet) { s.deliver(flow{batch: 100, group: 50, eventOut: 600}, Invoke) },
			want: [3]string{"0.011", "0.011", "0.011"},
		},
		{
			name: "backup, each event rounded up",
			on:   func(s *sheet) { s.backup(flow{eventOut: 600}) },
			want: [3]string{"0.138", "0.138", "0.138"},
		},
		{
			name: "backup, each record of 50 KB rounded up",
			on: func(s *sheet) {
				s.config.BackupUnit = ByRecord
				s.backup(flow{written: Written{Records: million * 600 / 50_000, EventBytes: 600}})
			},
			want: [3]string{"0.017", "0.017", "0.017"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			counts := base
			if c.set != nil {
				c.set(&counts)
			}
			for i, rate := range rates {
				s := newSheet(&prices, &counts, rate)
				c.on(s)
				got := s.last()
				if s.config.Stream == OnDemand { // the table has no readers
					terms := s.stages[len(s.stages)-1].Terms
					got = *terms[0].USD + *terms[1].USD
				}
				_, decimals, _ := strings.Cut(c.want[i], ".")
				if text := strconv.FormatFloat(got, 'f', len(decimals), 64); text != c.want[i] {
					t.Errorf("%d events/s: %v, want %s", rate, got, c.want[i])
				}
			}
		})
	}
	// Requests in front: the table has the first tier at every rate. Only at
	// 100 events/s is that so; a month of 1,000 events/s has 2.6 billion.
	for _, c := range []struct {
		front string
		rate  int
		want  float64
	}{{REST, 100, 3.50}, {REST, 1000, 2.6285}, {REST, 10_000, 2.1970}, {HTTP, 100, 1.00}, {HTTP, 1000, 0.9114}, {HTTP, 10_000, 0.9011}} {
		s := newSheet(&prices, &base, c.rate)
		s.config.Front = c.front
		s.plain()
		if got := s.stages[0].USD; math.Abs(got-c.want) > 0.00005 {
			t.Errorf("API Gateway %s at %d events/s: %.5f, want %.4f", c.front, c.rate, got, c.want)
		}
	}
}

func TestHTTPRequestsAreMeteredByHalfMegabytes(t *testing.T) {
	t.Parallel()
	prices, counts := embedded(t)
	for bytes, want := range map[int]float64{512 << 10: 1, 512<<10 + 1: 2} {
		s := newSheet(&prices, &counts, 1)
		s.config.Front, s.config.EventBytes = HTTP, bytes
		s.plain()
		if got := s.stages[0].USD; math.Abs(got-want) > 1e-9 {
			t.Errorf("%d bytes: %v, want %v", bytes, got, want)
		}
	}
}

// complete returns counts in which nothing is missing. The durations are made
// up for tests alone.
func complete(c Counts) Counts {
	for count, value := range map[*Count]float64{
		&c.RouterMillis1: 8, &c.RouterMillis100: 30, &c.RouterLog: 400,
		&c.ConnectorMillis1: 50, &c.ConnectorMillis100: 250, &c.ConnectorLog: 300,
	} {
		set(count, value)
	}
	return c
}

// incomplete returns counts in which all is missing that may be.
func incomplete(c Counts) Counts {
	for name, count := range fields[Count](&c) {
		if _, may := mayBeUnknown[name]; may {
			*count = Count{Unit: count.Unit, Kind: notMeasured, How: count.How, Command: "c", member: name}
		}
	}
	return c
}

func TestSumsAreThoseOfTheirTerms(t *testing.T) {
	t.Parallel()
	prices, counts := embedded(t)
	for _, change := range []func(*Config){
		func(*Config) {},
		func(c *Config) { c.Stream, c.Delivery, c.Destinations = OnDemand, Queue, 3 },
		func(c *Config) { c.Delivery, c.BackupUnit, c.EventBytes = Ordered, ByRecord, 5000 },
		func(c *Config) { c.Front, c.Rates, c.EventBytes = HTTP, []int{1, 7, 250, 60_000}, 900_000 },
	} {
		config := Default()
		change(&config)
		for _, known := range []bool{true, false} {
			with := incomplete(counts)
			if known {
				with = complete(counts)
			}
			r, err := Make(config, prices, with)
			if err != nil {
				t.Fatal(err)
			}
			if known != (len(r.NotMeasured) == 0) {
				t.Errorf("not measured: %v", r.NotMeasured)
			}
			for _, s := range r.Systems {
				for _, e := range s.Estimates {
					if e.Complete != known {
						t.Errorf("%s at %d: complete %v", s.Name, e.Rate, e.Complete)
					}
					var all float64
					for _, stage := range e.Stages {
						var sum float64
						for _, term := range stage.Terms {
							if (term.USD == nil) != (len(term.NotMeasured) > 0) || (term.USD == nil) != (term.Quantity == nil) {
								t.Errorf("%s, %s: %+v", stage.Name, term.What, term)
							}
							if term.USD == nil {
								continue
							}
							if got := *term.Quantity * term.Each; got != *term.USD || got < 0 || math.IsInf(got, 0) || math.IsNaN(got) {
								t.Errorf("%s, %s: %v x %v is not %v", stage.Name, term.What, *term.Quantity, term.Each, *term.USD)
							}
							sum += *term.USD
						}
						if sum != stage.USD {
							t.Errorf("%s: %v, and its terms %v", stage.Name, stage.USD, sum)
						}
						all += stage.USD
					}
					if all != e.USD {
						t.Errorf("%s at %d: %v, and its stages %v", s.Name, e.Rate, e.USD, all)
					}
				}
			}
		}
	}
}

func TestBatchesCostLessAndMoreDestinationsMore(t *testing.T) {
	t.Parallel()
	prices, counts := embedded(t)
	counts = complete(counts)
	for _, delivery := range []string{Invoke, Queue, Ordered} {
		config := Default()
		config.Delivery, config.MaxBatches = delivery, []int{1, 10, 100, 1000}
		r, err := Make(config, prices, counts)
		if err != nil {
			t.Fatal(err)
		}
		for _, rate := range config.Rates {
			before := math.Inf(1)
			for _, s := range r.Systems {
				e := at(t, r, s.Name, rate)
				if e.USD > before {
					t.Errorf("%s, %s at %d events/s: %v after %v", delivery, s.Name, rate, e.USD, before)
				}
				before = e.USD
			}
		}
		more := config
		more.Destinations = 2
		r2, err := Make(more, prices, counts)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range r2.Systems {
			for j, e := range s.Estimates {
				if e.USD <= r.Systems[i].Estimates[j].USD {
					t.Errorf("%s, %s: a second destination costs nothing", delivery, s.Name)
				}
			}
		}
	}
}

// What the sink counted is what the sizes say, so that they may stand in for it
// at sizes that were not measured.
func TestCountedPayloadUnitsAreThoseOfTheMeanSize(t *testing.T) {
	t.Parallel()
	_, counts := embedded(t)
	for _, r := range counts.Producer.Rates {
		for name, w := range map[string]Written{"aggregated": r.Aggregated, "alone": r.Alone} {
			mean := w.EventBytes * million / float64(w.Records)
			units := w.Records * payloadUnits(ceil(mean))
			if math.Abs(float64(units-w.PayloadUnits)) > 0.001*float64(w.PayloadUnits) {
				t.Errorf("%d events/s, %s: %d payload units of records of %.0f bytes, counted %d", r.Rate, name, units, mean, w.PayloadUnits)
			}
			if billed := w.EventKilobytes * kilobyte; billed < w.EventBytes || billed > w.EventBytes+kilobyte*float64(w.Records)/million {
				t.Errorf("%d events/s, %s: %.1f bytes are billed as %.1f", r.Rate, name, w.EventBytes, billed)
			}
		}
	}
}

func TestTheCountsOfARateAreOfTheHighestMeasuredBelowIt(t *testing.T) {
	t.Parallel()
	_, counts := embedded(t)
	for rate, want := range map[int]int{1: 100, 100: 100, 999: 100, 1000: 1000, 9999: 1000, 10_000: 10_000, 500_000: 10_000} {
		if got := counts.producerAt(rate); got.Rate != want {
			t.Errorf("%d events/s: those of %d, want %d", rate, got.Rate, want)
		}
	}
}

func TestAQueueTakesTenMessagesACall(t *testing.T) {
	t.Parallel()
	prices, counts := embedded(t)
	counts = complete(counts)
	for _, c := range []struct {
		name             string
		flow             flow
		calls, requests  float64
		eventsOfACall    float64
		connectorEntries float64
	}{
		{"single events", flow{batch: 100, group: 1, eventOut: 620}, 100_000, 100_000, 10, 100_000},
		{"ten events in a message: the ten of a call exceed a chunk of 64 KB hardly", flow{batch: 100, group: 10, eventOut: 620}, 10_000, 10_000, 100, 10_000},
		{"ten events of 1 KB: 100 KB are two chunks", flow{batch: 100, group: 10, eventOut: 1024}, 10_000, 20_000, 100, 10_000},
		{"a slow stream: one event at a time", flow{batch: 1, group: 1, eventOut: 620}, million, million, 1, million},
		{"300 KB: three fit into a call of 1 MiB, 15 chunks", flow{batch: 100, group: 1, eventOut: 300 << 10}, million / 3.0, million / 3.0 * 15, 3, million / 3.0},
	} {
		s := newSheet(&prices, &counts, 1000)
		after := s.deliver(c.flow, Ordered)
		delivery, connector := s.stages[0].Terms, s.stages[1].Terms
		if *delivery[0].Quantity != c.requests || *delivery[1].Quantity != c.requests || *delivery[2].Quantity != c.calls ||
			after.group != c.eventsOfACall || *connector[0].Quantity != c.connectorEntries {
			t.Errorf("%s: sends %v, receives %v, deletes %v, %v events a call, %v invocations", c.name,
				*delivery[0].Quantity, *delivery[1].Quantity, *delivery[2].Quantity, after.group, *connector[0].Quantity)
		}
		if delivery[0].Price != "sqs_fifo_request" {
			t.Errorf("price %s", delivery[0].Price)
		}
	}
}

func TestLargePayloadsAreSeveralRequests(t *testing.T) {
	t.Parallel()
	prices, counts := embedded(t)
	s := newSheet(&prices, &counts, 1000)
	s.deliver(flow{batch: 100, group: 100, eventOut: 5000}, Invoke) // 488 KB: one, and four of 64 KB
	if got := *s.stages[0].Terms[0].Quantity; got != 4*10_000 {
		t.Errorf("%v requests above 256 KB, want 40,000", got)
	}
}

func TestConfigurationsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"rate":         func(c *Config) { c.Rates = nil },
		"rate[1]":      func(c *Config) { c.Rates = []int{1, 0} },
		"event_bytes":  func(c *Config) { c.EventBytes = 2_000_000 },
		"destinations": func(c *Config) { c.Destinations = 0 },
		"max_batch[0]": func(c *Config) { c.MaxBatches = []int{-1} },
		"stream":       func(c *Config) { c.Stream = "free" },
		"delivery":     func(c *Config) { c.Delivery = "" },
		"front":        func(c *Config) { c.Front = "alb" },
		"backup_unit":  func(c *Config) { c.BackupUnit = "file" },
		"dead_letters": func(c *Config) { c.DeadLetters = 1.1 },
	} {
		c := Default()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

// update says that golden files are written anew.
var update = os.Getenv("SLUICE_UPDATE") == "1"

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if update {
		if err := os.WriteFile(name, got, 0o644); err != nil { //nolint:gosec // a file of the repository
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what is printed (SLUICE_UPDATE=1 writes it):\n%s", name, got)
	}
}

func TestTheTableIsPrintedAsBefore(t *testing.T) {
	t.Parallel()
	prices, counts := embedded(t)
	for name, c := range map[string]struct {
		change func(*Config)
		counts Counts
	}{
		"complete":  {func(*Config) {}, complete(counts)},
		"on-demand": {func(c *Config) { c.Stream, c.Delivery, c.Front, c.Destinations = OnDemand, Ordered, HTTP, 2 }, counts},
	} {
		config := Default()
		c.change(&config)
		r, err := Make(config, prices, c.counts)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := r.WriteText(&out); err != nil {
			t.Fatal(err)
		}
		if err := r.WriteExplanation(&out); err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("testdata", name+".golden"), out.Bytes())
	}
}

// The document shows what the command prints, between two comments.
func TestTheDocumentHasTheTableOfThisBuild(t *testing.T) {
	t.Parallel()
	prices, counts := embedded(t)
	r, err := Make(Default(), prices, counts)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("..", "..", "docs", "cost.md")
	doc, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- sluice cost -->\n", "<!-- end -->\n"
	head, rest, found := strings.Cut(string(doc), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no %q … %q", name, begin, end)
	}
	golden(t, name, []byte(head+begin+out.String()+end+tail))
}

func TestJSONHasEveryTermAndNullForWhatIsNotMeasured(t *testing.T) {
	t.Parallel()
	prices, counts := embedded(t)
	r, err := Make(Default(), prices, counts)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	e := at(t, &back, SluiceName(100), 1000)
	i := slices.IndexFunc(e.Stages, func(s Stage) bool { return s.Name == "router" })
	duration := e.Stages[i].Terms[1]
	if e.Complete != (len(back.NotMeasured) == 0) {
		t.Errorf("complete %v, not measured %v", e.Complete, back.NotMeasured)
	}
	if want := counts.RouterMillis100.Value == nil; (duration.USD == nil) != want || slices.Contains(duration.NotMeasured, "router_billed_ms_100") != want {
		t.Errorf("%+v", duration)
	}
}

func TestNoFigureIsMadeUpForWhatIsNotMeasured(t *testing.T) {
	t.Parallel()
	prices, counts := embedded(t)
	r, err := Make(Default(), prices, incomplete(counts))
	if err != nil {
		t.Fatal(err)
	}
	if want := slices.Sorted(maps.Keys(mayBeUnknown)); !slices.Equal(r.NotMeasured, want) {
		t.Errorf("not measured %v, want %v", r.NotMeasured, want)
	}
	var out bytes.Buffer
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "| all ") && strings.Count(line, atLeast) != 3 {
			t.Errorf("a sum without what is not measured passes for whole: %s", line)
		}
	}
	for member := range mayBeUnknown {
		if !strings.Contains(out.String(), "\n- "+member+", ") {
			t.Errorf("does not say that %s is not measured", member)
		}
	}
	if got := (Sum{}).text(); got != notMeasured {
		t.Errorf("a sum of which nothing is known is %q", got)
	}
}
