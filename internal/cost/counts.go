package cost

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
)

//go:embed counts.json
var embeddedCounts []byte

// Kinds of counts.
const (
	measured    = "measured"
	notMeasured = "not measured"
	deployed    = "deployed"
	assumed     = "assumed"
)

// Count is a number that an estimate needs, and where it is from.
type Count struct {
	// Value is null if Kind is "not measured".
	Value *float64 `json:"value" validate:"omitempty,min=0,max=1e12"`
	Unit  string   `json:"unit" validate:"required"`
	// Kind is "measured"; "not measured"; "deployed", which is how the template
	// sets it; or "assumed", which nobody has measured and no template sets.
	Kind string `json:"kind" validate:"required"`
	// How says what was counted, or why this much is assumed.
	How string `json:"how" validate:"required"`
	// Command measures it, and Date is when it did.
	Command string `json:"command,omitempty"`
	Date    string `json:"date,omitempty" validate:"omitempty,datetime=2006-01-02"`

	member string
}

// amount returns the count as a quantity that may be unknown.
func (c Count) amount() amount {
	if c.Value == nil {
		return amount{missing: []string{c.member}}
	}
	return amount{n: *c.Value}
}

// n returns a count that is always known.
func (c Count) n() float64 { return *c.Value }

// Counts are the numbers that an estimate needs besides prices. Each is one
// member of the file of counts, which has all of them and no other.
type Counts struct {
	// Producer is what the gateway writes to the stream.
	Producer Producer `json:"producer"`

	GatewayRate        Count `json:"gateway_events_per_vcpu"`
	GatewayUse         Count `json:"gateway_use"`
	TaskCPU            Count `json:"gateway_task_vcpu"`
	TaskGB             Count `json:"gateway_task_gb"`
	TasksMin           Count `json:"gateway_tasks_min"`
	TaskAddresses      Count `json:"gateway_task_addresses"`
	BalancerAddresses  Count `json:"load_balancer_addresses"`
	RequestHead        Count `json:"request_head_bytes"`
	Answer             Count `json:"answer_bytes"`
	EventsByConnection Count `json:"events_per_connection"`
	ConnectionLife     Count `json:"connection_seconds"`

	RouterBatch     Count `json:"router_batch"`
	RouterMemory    Count `json:"router_memory_mb"`
	RouterMillis1   Count `json:"router_billed_ms_1"`
	RouterMillis100 Count `json:"router_billed_ms_100"`
	RouterLog       Count `json:"router_log_bytes"`
	RulesInterval   Count `json:"rules_interval_seconds"`

	ConnectorMemory    Count `json:"connector_memory_mb"`
	ConnectorMillis1   Count `json:"connector_billed_ms_1"`
	ConnectorMillis100 Count `json:"connector_billed_ms_100"`
	ConnectorLog       Count `json:"connector_log_bytes"`

	QueueIdle   Count `json:"queue_idle_calls"`
	PlatformLog Count `json:"platform_log_bytes"`

	Metrics              Count `json:"metrics"`
	MetricsByDestination Count `json:"metrics_per_destination"`
	Alarms               Count `json:"alarm_metrics"`
	AlarmsByDestination  Count `json:"alarm_metrics_per_destination"`
	Dashboards           Count `json:"dashboards"`

	PlainAlarms              Count `json:"plain_alarm_metrics"`
	PlainAlarmsByDestination Count `json:"plain_alarm_metrics_per_destination"`
	PlainDashboards          Count `json:"plain_dashboards"`
}

// Producer holds what the sink of the benchmark counted for events of one size
// at several rates.
type Producer struct {
	EventBytes int    `json:"event_bytes" validate:"min=1,max=1000000"`
	How        string `json:"how" validate:"required"`
	Command    string `json:"command" validate:"required"`
	Date       string `json:"date" validate:"datetime=2006-01-02"`
	// Rates are in ascending order.
	Rates []ProducerRate `json:"rates" validate:"min=1,dive"`
}

// ProducerRate is what a million events became that came at a rate.
type ProducerRate struct {
	// Rate is in events a second, Shards those of the stream at that time.
	Rate       int     `json:"rate" validate:"min=1,max=1000000000"`
	Shards     int     `json:"shards" validate:"min=1,max=1000000000"`
	Aggregated Written `json:"aggregated"`
	// Alone is one record for each event.
	Alone Written `json:"alone"`
}

// Written are records on the stream, for a million events.
type Written struct {
	Records      int `json:"records" validate:"min=1,max=1000000"`
	PayloadUnits int `json:"payload_units" validate:"min=1,max=1000000000"`
	Calls        int `json:"calls" validate:"min=1,max=1000000000"`
	// EventBytes are of an event on the stream, its share of format and
	// partition keys included.
	EventBytes float64 `json:"event_bytes" validate:"gt=0,max=1e9"`
	// EventKilobytes are its share of the records, each of which is a whole
	// number of them.
	EventKilobytes float64 `json:"event_kilobytes" validate:"gt=0,max=1e9"`
}

// EmbeddedCounts returns the counts of this build.
func EmbeddedCounts() (Counts, error) { return parseCounts(embeddedCounts) }

// ReadCounts reads a file of counts. The error names every member that is
// missing, unknown, given twice or wrong.
func ReadCounts(r io.Reader) (Counts, error) {
	doc, err := limited(r)
	if err != nil {
		return Counts{}, err
	}
	return parseCounts(doc)
}

func parseCounts(doc []byte) (Counts, error) {
	var c Counts
	if err := decode(doc, &c); err != nil {
		return Counts{}, err
	}
	var faults []error
	for member, n := range fields[Count](&c) {
		n.member = member
		if err := n.check(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", member, err))
		}
	}
	for i, r := range c.Producer.Rates {
		if least := min(r.Aggregated.EventBytes, r.Alone.EventBytes); least < float64(c.Producer.EventBytes) {
			faults = append(faults, fmt.Errorf("producer.rates[%d]: event_bytes is %v, less than what was posted", i, least))
		}
		if i > 0 && r.Rate <= c.Producer.Rates[i-1].Rate {
			faults = append(faults, fmt.Errorf("producer.rates[%d].rate: is %d; rates must ascend", i, r.Rate))
		}
	}
	return c, errors.Join(faults...)
}

// check says what is wrong with a count beyond its tags.
func (c *Count) check() error {
	switch c.Kind {
	case measured:
		if c.Command == "" || c.Date == "" {
			return errors.New("is measured, and does not say by which command and when")
		}
	case notMeasured:
		if c.Command == "" || c.Date != "" || c.Value != nil {
			return errors.New("is not measured: it has a command that would, but no value and no date")
		}
		if !mayBeUnknown[c.member] {
			return errors.New("must be known; only durations and log bytes of functions may be not measured")
		}
		return nil
	case deployed, assumed:
	default:
		return fmt.Errorf("kind is %q; right would be one of %q, %q, %q, %q", c.Kind, measured, notMeasured, deployed, assumed)
	}
	if c.Value == nil {
		return fmt.Errorf("has no value, and its kind is %q", c.Kind)
	}
	if *c.Value < leastDivisor && divisors[c.member] {
		return fmt.Errorf("value is %v; the least is %v", *c.Value, leastDivisor)
	}
	return nil
}

// divisors are what something is divided by; each is leastDivisor at least.
var divisors = map[string]bool{
	"gateway_events_per_vcpu": true, "gateway_use": true, "gateway_task_vcpu": true,
	"events_per_connection": true, "router_batch": true, "rules_interval_seconds": true,
}

const leastDivisor = 0.001

// mayBeUnknown are what only a log of the functions tells.
var mayBeUnknown = map[string]bool{
	"router_billed_ms_1": true, "router_billed_ms_100": true, "router_log_bytes": true,
	"connector_billed_ms_1": true, "connector_billed_ms_100": true, "connector_log_bytes": true,
}
