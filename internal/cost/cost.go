// Package cost estimates what a million events cost on AWS: for this system as
// its template deploys it, and for API Gateway in front of a stream that gets
// one record for each event, read one by one.
//
// It multiplies counts by list prices and does nothing else. Both come from
// files that say where each number is from: the counts which command measured
// it and when, the prices where they stand, since when, and whether that was
// AWS's own list. A count that nobody has measured is not replaced by a guess:
// what it decides is left out, and the result says "at least" and names it.
//
// Not in it, for either system: free tiers and discounts, data transfer out
// (the answers to senders), storage (S3, logs, longer retention of the stream),
// and what the destinations themselves cost.
package cost

import (
	"slices"
)

// Values of Config.
const (
	Provisioned = "provisioned"
	OnDemand    = "on-demand"

	Invoke  = "invoke"
	Queue   = "queue"
	Ordered = "ordered"

	REST = "rest"
	HTTP = "http"

	ByEvent  = "event"
	ByRecord = "record"
)

// Config says what is estimated.
type Config struct {
	// Rates are in events a second, all month long.
	Rates []int `json:"rate" validate:"min=1,max=10,dive,min=1,max=1000000"`
	// EventBytes is the size of an event as its sender posts it.
	EventBytes int `json:"event_bytes" validate:"min=1,max=1000000"`
	// Destinations is how many each event goes to.
	Destinations int `json:"destinations" validate:"min=1,max=1000"`
	// MaxBatches are max_batch of the rules, each of them one estimate of this
	// system.
	MaxBatches []int `json:"max_batch" validate:"min=1,max=5,dive,min=1,max=10000"`
	// Stream is Provisioned or OnDemand (Standard).
	Stream string `json:"stream" validate:"oneof=provisioned on-demand"`
	// Delivery is how this system hands events to connectors: Invoke, by way
	// of a standard Queue, or of an Ordered (FIFO) one.
	Delivery string `json:"delivery" validate:"oneof=invoke queue ordered"`
	// Front is the kind of API Gateway that this system is compared with: REST
	// or HTTP.
	Front string `json:"front" validate:"oneof=rest http"`
	// BackupUnit is what Firehose rounds up to 5 KB: ByEvent, or ByRecord. AWS
	// does not say which it is for the events of an aggregated record; ByEvent
	// is the dearer.
	BackupUnit string `json:"backup_unit" validate:"oneof=event record"`
	// DeadLetters is the share of deliveries that end as dead letters.
	DeadLetters float64 `json:"dead_letters" validate:"min=0,max=1"`
}

// Default returns the configuration of the table in docs/cost.md.
func Default() Config {
	return Config{
		Rates: []int{100, 1_000, 10_000}, EventBytes: 500, Destinations: 1, MaxBatches: []int{1, 100},
		Stream: Provisioned, Delivery: Invoke, Front: REST, BackupUnit: ByEvent, DeadLetters: 0.001,
	}
}

// Validate reports all faults.
func (c Config) Validate() error { return check(&c) }

// Report is what Estimate found.
type Report struct {
	Config   Config   `json:"config"`
	Currency string   `json:"currency"`
	Systems  []System `json:"systems"`
	// NotMeasured are the counts that are missing where the report says "at
	// least", NotVerified the prices used that AWS's own list was not read for.
	NotMeasured []string `json:"not_measured"`
	NotVerified []string `json:"not_verified"`
	// PricesFrom and PricesTo are the oldest and the newest date of a verified
	// price that was used.
	PricesFrom string `json:"prices_from"`
	PricesTo   string `json:"prices_to"`

	counts map[string]Count
}

// System is one of those compared, at each rate.
type System struct {
	Name      string     `json:"name"`
	Estimates []Estimate `json:"estimates"`
}

// Estimate is what a million events cost that come at a rate.
type Estimate struct {
	Rate   int     `json:"rate"`
	Stages []Stage `json:"stages"`
	Sum
}

// Stage is a part of a system.
type Stage struct {
	Name  string `json:"name"`
	Terms []Term `json:"terms"`
	Sum
}

// Sum is in USD per million events; unless it is complete, that is the least.
type Sum struct {
	USD      float64 `json:"usd"`
	Complete bool    `json:"complete"`
}

// Term is one product of a quantity and a price.
type Term struct {
	What string `json:"what"`
	// Quantity and USD are for a million events, and null if a count is not
	// measured.
	Quantity *float64 `json:"quantity"`
	Unit     string   `json:"unit"`
	// Price is the member of the price file, Each what one unit costs.
	Price       string   `json:"price"`
	Each        float64  `json:"each"`
	USD         *float64 `json:"usd"`
	NotMeasured []string `json:"not_measured,omitempty"`
}

// amount is a quantity that is unknown if counts are missing.
type amount struct {
	n       float64
	missing []string
}

func known(n float64) amount { return amount{n: n} }

func (a amount) times(others ...amount) amount {
	for _, b := range others {
		a.n *= b.n
		a.missing = union(a.missing, b.missing)
	}
	return a
}

func (a amount) plus(b amount) amount {
	return amount{n: a.n + b.n, missing: union(a.missing, b.missing)}
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
