package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// comparison holds the rounds of one workload; bare[i] and sluice[i] ran one
// right after the other.
type comparison struct {
	workload workload
	bare     []result
	sluice   []result
}

// median returns the middle of what value says of each element.
func median[T any](all []T, value func(T) float64) float64 {
	values := make([]float64, len(all))
	for i, one := range all {
		values[i] = value(one)
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}

// pairs returns the median of the ratio sluice to bare over the pairs.
func (c comparison) pairs(value func(result) float64) float64 {
	ratios := make([]float64, len(c.bare))
	for i := range c.bare {
		ratios[i] = value(c.sluice[i]) / value(c.bare[i])
	}
	return median(ratios, func(r float64) float64 { return r })
}

func requestRate(r result) float64 { return float64(r.Requests) / r.Elapsed.Seconds() }
func cpuMicros(r result) float64   { return float64(r.cpu) / float64(time.Microsecond) }
func p50(r result) float64         { return float64(r.P50) / float64(time.Millisecond) }
func p99(r result) float64         { return float64(r.P99) / float64(time.Millisecond) }
func loadCPU(r result) float64     { return r.CPU * 100 }

// report prints the medians as a table in Markdown.
func report(out io.Writer, o options, all []comparison) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %s/%s; server on one core, load on another; %d-byte events; medians of %d rounds of %v\n\n",
		cpuModel(), runtime.Version(), runtime.GOOS, runtime.GOARCH, eventBytes, o.rounds, o.duration)
	b.WriteString("| workload | server | requests/s | events/s | p50 ms | p99 ms | CPU µs/event | load's core |\n")
	b.WriteString("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, c := range all {
		for _, line := range []struct {
			server string
			runs   []result
		}{{"bare handler", c.bare}, {"sluice", c.sluice}} {
			rate := median(line.runs, requestRate)
			fmt.Fprintf(&b, "| %s | %s | %.0f | %.0f | %.2f | %.2f | %.2f | %.0f %% |\n", c.workload.name, line.server,
				rate, rate*float64(c.workload.perRequest), median(line.runs, p50), median(line.runs, p99),
				median(line.runs, cpuMicros), median(line.runs, loadCPU))
		}
		fmt.Fprintf(&b, "| | sluice : bare | %.2f | %.2f | %.1f | %.1f | %.2f | |\n",
			c.pairs(requestRate), c.pairs(requestRate), c.pairs(p50), c.pairs(p99), c.pairs(cpuMicros))
	}
	b.WriteString("\nEvery answer was 2xx, and after every round the ledger accounted for every event: residual 0.\n")
	_, err := io.WriteString(out, b.String())
	return err
}

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.SplitSeq(string(text), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}
