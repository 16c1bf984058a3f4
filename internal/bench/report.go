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

// comparison holds the rounds of one workload: results[i] are those of its
// target i, the first the bare handler's. What has the same index in them ran
// one right after the other.
type comparison struct {
	workload workload
	results  [][]result
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

// ratio returns the median over the rounds of a target's value to that of the
// bare handler.
func (c comparison) ratio(target int, value func(result) float64) float64 {
	ratios := make([]float64, len(c.results[target]))
	for round, r := range c.results[target] {
		ratios[round] = value(r) / value(c.results[0][round])
	}
	return median(ratios, func(r float64) float64 { return r })
}

func requestRate(r result) float64 { return float64(r.Requests) / r.Elapsed.Seconds() }
func cpuMicros(r result) float64   { return float64(r.cpu) / float64(time.Microsecond) }
func p50(r result) float64         { return float64(r.P50) / float64(time.Millisecond) }
func p99(r result) float64         { return float64(r.P99) / float64(time.Millisecond) }
func loadCPU(r result) float64     { return (r.CPU + r.sinkCPU) * 100 }

// report prints the medians as a table in Markdown.
func report(out io.Writer, o options, all []comparison) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %s/%s; server on one core, load and sink on another; %d-byte events; medians of %d rounds of %v\n\n",
		cpuModel(), runtime.Version(), runtime.GOOS, runtime.GOARCH, eventBytes, o.rounds, o.duration)
	b.WriteString("| workload | server | requests/s | events/s | p50 ms | p99 ms | CPU µs/event | rate : bare | CPU : bare | load's core |\n")
	b.WriteString("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, c := range all {
		for i, t := range c.workload.targets {
			runs := c.results[i]
			rate := median(runs, requestRate)
			ratios := " | "
			if i > 0 && !t.half { // a paced load does not show what a server can do
				ratios = fmt.Sprintf("%.2f | %.2f", c.ratio(i, requestRate), c.ratio(i, cpuMicros))
			}
			fmt.Fprintf(&b, "| %s | %s | %.0f | %.0f | %.2f | %.2f | %.2f | %s | %.0f %% |\n", c.workload.name, t.name,
				rate, rate*float64(c.workload.perRequest), median(runs, p50), median(runs, p99),
				median(runs, cpuMicros), ratios, median(runs, loadCPU))
		}
	}
	b.WriteString("\nEvery answer was 202. After every round the ledger accounted for every event, residual 0, and Kinesis had got each of its events once.\n")
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
