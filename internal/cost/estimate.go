package cost

import (
	"fmt"
	"math"
	"slices"
)

// million is the events that everything is counted for.
const million = 1_000_000

// What a shard takes, and how Lambda reads it.
const (
	// Source: Kinesis API reference, PutRecords (read 2026-11). A MB is taken
	// for the smaller 10^6 bytes.
	shardRecords = 1000
	shardBytes   = 1_000_000

	// invokeLimit is the most that an asynchronous invocation may carry, and
	// the messages of one call to SQS together. Source: Lambda API reference,
	// Invoke; SQS API reference, SendMessageBatch (read 2026-11).
	invokeLimit = 1 << 20

	// queueBatch is the most messages of one call, and of a batch that a FIFO
	// queue gives to Lambda. Source: SQS API reference (read 2026-11).
	queueBatch = 10

	// shardPolls is how often in a second Lambda looks at a shard. Source:
	// Lambda developer guide, "Using AWS Lambda with Amazon Kinesis" (its text
	// of 2023).
	shardPolls = 1

	// httpUnit is what HTTP APIs are metered in. Source: API Gateway pricing
	// page (read in a copy of 2026-09-20).
	httpUnit = 512 * kilobyte

	// readers of the stream: the router, and Firehose for the backup.
	readers = 2
)

// sheet is one estimate being made.
type sheet struct {
	prices *Prices
	counts *Counts
	config Config
	rate   float64
	// hours are what a million events take at the rate.
	hours  float64
	stages []Stage
	used   map[string]Price
}

// flow is how events move through a system.
type flow struct {
	shards   int
	written  Written
	eventOut int // bytes of an event as it is handed on
	// batch is the events that the router gets in an invocation, group those
	// that a connector gets.
	batch, group float64
}

// Make estimates what a million events cost.
func Make(config Config, prices Prices, counts Counts) (*Report, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	r := &Report{Config: config, Currency: prices.Currency, counts: map[string]Count{}, NotMeasured: []string{}, NotVerified: []string{}}
	for member, c := range fields[Count](&counts) {
		r.counts[member] = *c
	}
	used := map[string]Price{}
	system := func(name string, estimate func(*sheet)) {
		s := System{Name: name}
		for _, rate := range config.Rates {
			sh := &sheet{prices: &prices, counts: &counts, config: config, rate: float64(rate), hours: million / float64(rate) / 3600, used: used}
			estimate(sh)
			e := Estimate{Rate: rate, Stages: sh.stages, Sum: Sum{Complete: true}}
			for _, stage := range sh.stages {
				e.add(stage.Sum)
				for _, t := range stage.Terms {
					r.NotMeasured = union(r.NotMeasured, t.NotMeasured)
				}
			}
			s.Estimates = append(s.Estimates, e)
		}
		r.Systems = append(r.Systems, s)
	}
	system(PlainName(config.Front), (*sheet).plain)
	for _, most := range config.MaxBatches {
		system(SluiceName(most), func(s *sheet) { s.sluice(most) })
	}
	for member, p := range used {
		if !*p.Verified {
			r.NotVerified = append(r.NotVerified, member)
			continue
		}
		if r.PricesFrom == "" || p.Date < r.PricesFrom {
			r.PricesFrom = p.Date
		}
		r.PricesTo = max(r.PricesTo, p.Date)
	}
	slices.Sort(r.NotVerified)
	return r, nil
}

// PlainName returns the name of what this system is compared with.
func PlainName(front string) string {
	kind := map[string]string{REST: "REST", HTTP: "HTTP"}[front]
	return fmt.Sprintf("API Gateway (%s), a record per event, batch size 1", kind)
}

// SluiceName returns the name of this system with a max_batch.
func SluiceName(maxBatch int) string { return fmt.Sprintf("sluice, max_batch %d", maxBatch) }

func (s *Sum) add(part Sum) {
	s.USD += part.USD
	s.Complete = s.Complete && part.Complete
}

// stage adds a part of the system. Terms that cost nothing because there is
// none of them stay, so that --explain shows that they were thought of.
func (s *sheet) stage(name string, terms ...Term) {
	stage := Stage{Name: name, Terms: terms, Sum: Sum{Complete: true}}
	for _, t := range terms {
		if t.USD == nil {
			stage.Complete = false
			continue
		}
		stage.USD += *t.USD
	}
	s.stages = append(s.stages, stage)
}

func (s *sheet) term(what string, quantity amount, price Price) Term {
	s.used[price.member] = price
	t := Term{What: what, Unit: price.Unit, Price: price.member, Each: price.each(), NotMeasured: quantity.missing}
	if len(quantity.missing) == 0 {
		usd := quantity.n * price.each()
		t.Quantity, t.USD = &quantity.n, &usd
	}
	return t
}

// tiered splits a number of requests that is the same for every million over
// the tiers of a month at the rate.
func (s *sheet) tiered(what string, requests float64, tiers []tier) []Term {
	monthly := s.rate * 3600 * hoursPerMonth * requests / million
	var terms []Term
	for i, part := range blend(monthly, tiers) {
		if part > 0 {
			terms = append(terms, s.term(what, known(part/monthly*requests), tiers[i].price))
		}
	}
	return terms
}

// plain is API Gateway, which puts each request into the stream as one record,
// and functions that get and hand on one event at a time. They take as long as
// those of this system do with one event, and write no log of their own.
func (s *sheet) plain() {
	bytes := s.config.EventBytes
	f := flow{
		shards: max(1, ceil(s.rate/shardRecords), ceil(s.rate*float64(bytes)/shardBytes)),
		written: Written{
			Records: million, PayloadUnits: million * payloadUnits(bytes), Calls: million,
			EventBytes: float64(bytes), EventKilobytes: float64(kilobytes(bytes)),
		},
		eventOut: bytes, batch: 1, group: 1,
	}
	if s.config.Front == HTTP {
		s.stage("front door", s.tiered("requests", million*float64(chunks(bytes, httpUnit)), s.prices.http())...)
	} else {
		s.stage("front door", s.tiered("requests", million, s.prices.rest())...)
	}
	s.stream(f)
	s.router(f, false)
	s.deliver(f, Invoke)
	s.deadLetters(f)
	s.backup(f)
	s.logs(f, known(0), known(0))
	c := s.counts
	s.watch(0, c.PlainAlarms.n()+c.PlainAlarmsByDestination.n()*s.destinations(), c.PlainDashboards.n())
}

// sluice is this system as its template deploys it.
func (s *sheet) sluice(maxBatch int) {
	row := s.counts.producerAt(int(s.rate))
	grown := float64(s.config.EventBytes - s.counts.Producer.EventBytes)
	written := row.Aggregated
	written.EventBytes += grown
	if grown != 0 {
		// Only the number of records was measured; what one bills follows from
		// its mean size, on demand rounded up by half a KB on average.
		mean := written.EventBytes * million / float64(written.Records)
		written.PayloadUnits = written.Records * payloadUnits(ceil(mean))
		written.EventKilobytes = (mean/kilobyte + 0.5) * float64(written.Records) / million
		if written.Records == million {
			written.EventKilobytes = float64(kilobytes(ceil(mean)))
		}
	}
	f := flow{
		shards:   max(1, ceil(s.rate*written.EventBytes/shardBytes), ceil(s.rate*float64(written.Records)/million/shardRecords)),
		written:  written,
		eventOut: ceil(row.Alone.EventBytes + grown),
	}
	// A batch is RouterBatch records, which may hold many events each; taking
	// each for one event is the dearest case. Lambda waits for no more than its
	// next look at the shard brings.
	f.batch = max(1, min(s.counts.RouterBatch.n(), s.rate/float64(f.shards)/shardPolls))
	f.group = min(float64(maxBatch), f.batch, max(1, math.Floor(invokeLimit/float64(f.eventOut))))

	s.gateway()
	s.stream(f)
	s.router(f, true)
	f = s.deliver(f, s.config.Delivery, s.idle()...)
	s.deadLetters(f)
	s.backup(f)
	s.logs(f, s.counts.RouterLog.amount(), s.counts.ConnectorLog.amount())
	c := s.counts
	s.watch(c.Metrics.n()+c.MetricsByDestination.n()*s.destinations(), c.Alarms.n()+c.AlarmsByDestination.n()*s.destinations(), c.Dashboards.n())
}

// producerAt returns what was counted at a rate, or at the highest below it:
// the slower events come, the fewer share a record. Below the lowest it is that.
func (c *Counts) producerAt(rate int) ProducerRate {
	row := c.Producer.Rates[0]
	for _, r := range c.Producer.Rates {
		if r.Rate <= rate {
			row = r
		}
	}
	return row
}

func (s *sheet) destinations() float64 { return float64(s.config.Destinations) }

// gateway is the tasks on Fargate behind a load balancer.
func (s *sheet) gateway() {
	c := s.counts
	tasks := max(math.Ceil(c.TasksMin.n()), math.Ceil(s.rate/(c.GatewayRate.n()*c.TaskCPU.n()*c.GatewayUse.n())))
	connections := s.rate / c.EventsByConnection.n()
	units := max(connections/unitConnections, connections*c.ConnectionLife.n()/unitActive,
		s.rate*3600*(c.RequestHead.n()+float64(s.config.EventBytes)+c.Answer.n())/unitBytes)
	s.stage("front door",
		s.term(fmt.Sprintf("vCPU of %d tasks", int(tasks)), known(tasks*c.TaskCPU.n()*s.hours), s.prices.FargateCPU),
		s.term(fmt.Sprintf("memory of %d tasks", int(tasks)), known(tasks*c.TaskGB.n()*s.hours), s.prices.FargateGB),
		s.term("load balancer", known(s.hours), s.prices.Balancer),
		s.term(fmt.Sprintf("%.1f capacity units", units), known(units*s.hours), s.prices.BalancerUnit),
		s.term("public addresses", known((c.BalancerAddresses.n()+tasks*c.TaskAddresses.n())*s.hours), s.prices.Address),
	)
}

func (s *sheet) stream(f flow) {
	if s.config.Stream == OnDemand {
		s.stage("stream",
			s.term("stream", known(s.hours), s.prices.StreamHour),
			s.term("written, whole KB", known(f.written.EventKilobytes*million*kilobyte/gigabyte), s.prices.StreamIn),
			s.term(fmt.Sprintf("read by %d", readers), known(f.written.EventBytes*million*readers/gigabyte), s.prices.StreamOut),
		)
		return
	}
	s.stage("stream",
		s.term(counted(f.shards, "shard"), known(float64(f.shards)*s.hours), s.prices.Shard),
		s.term("payload units", known(float64(f.written.PayloadUnits)), s.prices.PayloadUnit),
	)
}

func (s *sheet) router(f flow, readsRules bool) {
	c := s.counts
	invocations := million / f.batch
	terms := []Term{
		s.term("requests of "+events(f.batch), known(invocations), s.prices.LambdaRequest),
		s.term("duration", gbSeconds(invocations, f.batch, c.RouterMillis1, c.RouterMillis100, c.RouterMemory), s.prices.LambdaGBSecond),
	}
	if readsRules {
		// One router runs for each shard.
		looks := min(invocations, float64(f.shards)*s.hours*3600/c.RulesInterval.n())
		terms = append(terms, s.term("looks at the rules", known(looks), s.prices.ObjectGet))
	}
	s.stage("router", terms...)
}

// gbSeconds returns what invocations of so many events take, between and beyond
// the two sizes that were measured along a straight line.
func gbSeconds(invocations, events float64, one, hundred, memory Count) amount {
	var millis amount
	switch events {
	case 1:
		millis = one.amount()
	case 100:
		millis = hundred.amount()
	default:
		part := (events - 1) / 99
		millis = one.amount().times(known(1 - part)).plus(hundred.amount().times(known(part)))
	}
	return millis.times(known(invocations/1000), memory.amount(), known(1.0/1024))
}

// deliver is the way from the router to the connectors, and the connectors;
// idle is what that costs when there is nothing. It returns the flow with the
// events that a connector gets in an invocation.
func (s *sheet) deliver(f flow, delivery string, idle ...Term) flow {
	payload := ceil(f.group * float64(f.eventOut))
	invocations := million / f.group * s.destinations()
	if delivery == Invoke {
		more := float64(asyncRequests(payload) - 1)
		s.stage("delivery", append(idle, s.term("requests of payloads above 256 KB", known(more*invocations), s.prices.LambdaRequest))...)
	} else {
		price, kind := s.prices.Queue, "standard queue"
		if delivery == Ordered {
			price, kind = s.prices.OrderedQueue, "FIFO queue"
		}
		messages := max(1, math.Floor(min(queueBatch, f.batch/f.group, invokeLimit/float64(payload))))
		f.group *= messages
		invocations /= messages
		requests := float64(queueRequests(int(messages) * payload))
		s.stage("delivery", append(idle,
			s.term(fmt.Sprintf("%s, sending %g messages a call", kind, messages), known(invocations*requests), price),
			s.term("receiving as many", known(invocations*requests), price),
			s.term("deleting as many", known(invocations), price),
		)...)
	}
	c := s.counts
	s.stage("connector",
		s.term("requests of "+events(f.group), known(invocations), s.prices.LambdaRequest),
		s.term("duration", gbSeconds(invocations, f.group, c.ConnectorMillis1, c.ConnectorMillis100, c.ConnectorMemory), s.prices.LambdaGBSecond),
	)
	return f
}

// idle is what Lambda asks the two queues of each connector, one of each kind,
// while they are empty.
func (s *sheet) idle() []Term {
	calls := known(s.counts.QueueIdle.n() * s.hours * 3600 * s.destinations())
	return []Term{
		s.term("looks at empty standard queues", calls, s.prices.Queue),
		s.term("looks at empty FIFO queues", calls, s.prices.OrderedQueue),
	}
}

// deadLetters are sent one by one, and taken out ten by ten.
func (s *sheet) deadLetters(f flow) {
	letters := million * s.destinations() * s.config.DeadLetters
	one, ten := float64(queueRequests(f.eventOut)), float64(queueRequests(queueBatch*f.eventOut))
	s.stage("dead letters",
		s.term("sending", known(letters*one), s.prices.Queue),
		s.term("receiving ten a call", known(letters/queueBatch*ten), s.prices.Queue),
		s.term("deleting ten a call", known(letters/queueBatch), s.prices.Queue),
	)
}

func (s *sheet) backup(f flow) {
	bytes, what := million*float64(backupBytes(f.eventOut)), "Firehose, each event rounded up"
	if s.config.BackupUnit == ByRecord {
		records := float64(f.written.Records)
		bytes, what = records*float64(backupBytes(ceil(f.written.EventBytes*million/records))), "Firehose, each record rounded up"
	}
	s.stage("backup", s.term(what, known(bytes/gigabyte), s.prices.Backup))
}

// logs are the lines that Lambda writes for each invocation, and those of the
// functions.
func (s *sheet) logs(f flow, router, connector amount) {
	routers, connectors := known(million/f.batch/gigabyte), known(million/f.group*s.destinations()/gigabyte)
	s.stage("logs",
		s.term("START, END and REPORT", s.counts.PlatformLog.amount().times(known(routers.n+connectors.n)), s.prices.Logs),
		s.term("the router's own", router.times(routers), s.prices.Logs),
		s.term("the connectors' own", connector.times(connectors), s.prices.Logs),
	)
}

// watch is billed by the month, however many events there are.
func (s *sheet) watch(metrics, alarms, dashboards float64) {
	months := s.hours / hoursPerMonth
	s.stage("metrics, alarms",
		s.term(counted(int(metrics), "metric"), known(metrics*months), s.prices.Metric),
		s.term("alarms of "+counted(int(alarms), "metric"), known(alarms*months), s.prices.Alarm),
		s.term(counted(int(dashboards), "dashboard"), known(dashboards*months), s.prices.Dashboard),
	)
}

func ceil(x float64) int { return int(math.Ceil(x)) }

// events says how many there are on average.
func events(n float64) string {
	if n == 1 {
		return "1 event"
	}
	return fmt.Sprintf("%g events", math.Round(n*10)/10)
}
