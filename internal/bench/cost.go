package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
)

// costName is what -only knows the count of records by.
const costName = "Kinesis cost"

// costRates are the events per second for which records are counted.
var costRates = []int{100, 1_000, 10_000}

// cost is what Kinesis bills for single events that come at a rate.
type cost struct {
	shards     int
	aggregated result
	// alone is one record per event.
	alone result
}

// costs sends single events at each rate to a gateway whose Kinesis answers
// after 10 ms, and lets the sink count. Nothing is timed, so nothing is pinned.
func (b bench) costs(ctx context.Context) ([]cost, error) {
	b.serverAt, b.loadAt, b.warmup, b.profiles = anyCPU, anyCPU, 0, ""
	var table []cost
	for _, rate := range costRates {
		fmt.Fprintf(os.Stderr, "bench: %s, %d events/s\n", costName, rate)
		// Connections enough for each event to be sent when it is due, and few
		// enough for none to be idle so long that the gateway closes it.
		w := workload{name: costName, connections: max(16, rate/10), perRequest: 1, rate: rate}
		t := kinesis10
		// Enough for one record per event, for a shard takes 1,000 a second, and
		// the same for both, for more shards have more buckets.
		t.kinesis.shards = 1 + (rate-1)/1000
		c := cost{shards: t.kinesis.shards}
		var err error
		if c.aggregated, err = b.run(ctx, t, w); err != nil {
			return nil, fmt.Errorf("%s, %d events/s: %w", costName, rate, err)
		}
		// One record of a bucket is in flight at a time, and here that is one
		// event: with the buckets of the shards 10,000 a second would not pass.
		t.env = []string{"SLUICE_AGGREGATION=off", "SLUICE_BUCKETS=500"}
		if c.alone, err = b.run(ctx, t, w); err != nil {
			return nil, fmt.Errorf("%s, %d events/s, one record per event: %w", costName, rate, err)
		}
		table = append(table, c)
	}
	return table, nil
}

// reportCosts prints the counts for a million events as a table in Markdown.
func reportCosts(out io.Writer, table []cost) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nCounted by the sink, answering after %v, for a million single events of %d bytes:\n\n", kinesis10.kinesis.latency, eventBytes)
	b.WriteString("| events/s | shards | records | payload units | calls | events per record | one record per event: records | payload units | calls |\n")
	b.WriteString("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, c := range table {
		a, o := c.aggregated.received, c.alone.received
		fmt.Fprintf(&b, "| %.0f | %d | %d | %d | %d | %.1f | %d | %d | %d |\n", requestRate(c.aggregated), c.shards,
			a.million(a.Records), a.million(a.Units), a.million(a.Calls), float64(a.Events)/float64(a.Records),
			o.million(o.Records), o.million(o.Units), o.million(o.Calls))
	}
	b.WriteString("\nBytes of an event on the stream, partition keys included, and as they are billed on demand:\n\n")
	b.WriteString("| events/s | bytes | whole KB of each record | one record per event: bytes | whole KB of each record |\n")
	b.WriteString("| ---: | ---: | ---: | ---: | ---: |\n")
	for _, c := range table {
		a, o := c.aggregated.received, c.alone.received
		fmt.Fprintf(&b, "| %.0f | %.1f | %.3f | %.1f | %.3f |\n", requestRate(c.aggregated),
			a.each(a.Bytes), a.each(a.Kilobytes), o.each(o.Bytes), o.each(o.Kilobytes))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// million returns how many of n there are for a million events.
func (r received) million(n int) int { return int(float64(n)/float64(r.Events)*1e6 + 0.5) }

// each returns how many of n there are for an event.
func (r received) each(n int) float64 { return float64(n) / float64(r.Events) }
