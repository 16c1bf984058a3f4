package app

import (
	"context"
	"errors"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/telemetry"
)

// gauges is a set of instruments that are read together when somebody asks for
// the metrics. Nothing is counted twice: the stages keep the figures.
type gauges struct {
	meter  metric.Meter
	all    []metric.Observable
	faults []error
}

func (g *gauges) counter(name, help string) metric.Int64ObservableCounter {
	c, err := g.meter.Int64ObservableCounter(name, metric.WithDescription(help))
	g.all, g.faults = append(g.all, c), append(g.faults, err)
	return c
}

func (g *gauges) gauge(name, help string) metric.Int64ObservableGauge {
	c, err := g.meter.Int64ObservableGauge(name, metric.WithDescription(help))
	g.all, g.faults = append(g.all, c), append(g.faults, err)
	return c
}

func (g *gauges) seconds(name, help string) metric.Float64ObservableCounter {
	c, err := g.meter.Float64ObservableCounter(name, metric.WithDescription(help), metric.WithUnit("s"))
	g.all, g.faults = append(g.all, c), append(g.faults, err)
	return c
}

// register tells the meter which figures there are and where to read them.
func (p *program) register(meter metric.Meter) error {
	g := &gauges{meter: meter}
	observe := []func(metric.Observer){
		p.ledgerMetrics(g), p.producerMetrics(g), p.dedupMetrics(g), p.host.metrics(g), p.edgeMetrics(g), p.documentMetrics(g), p.deliveryMetrics(g),
	}
	if err := errors.Join(g.faults...); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, read := range observe {
			read(o)
		}
		return nil
	}, g.all...)
	return err
}

func (p *program) ledgerMetrics(g *gauges) func(metric.Observer) {
	received := g.counter("sluice.events.received", "Events received from senders with a valid key.")
	rejected := g.counter("sluice.events.rejected", "Events turned away, by reason.")
	accepted := g.counter("sluice.events.accepted", "Events that became durable.")
	stored := g.counter("sluice.events.stored", "Events that the stream has taken since it began.")
	residual := g.gauge("sluice.ledger.residual", "Events that the sums of the ledger miss. Not 0 for minutes: events are lost or counted twice.")
	destination := g.gauge("sluice.destination.events", "Events of the ledger by destination and state.")
	return func(o metric.Observer) {
		s := p.books.Statement()
		o.ObserveInt64(received, int64(s.Received))
		o.ObserveInt64(accepted, int64(s.Accepted))
		o.ObserveInt64(stored, int64(s.Stored))
		o.ObserveInt64(residual, int64(s.Residual))
		for reason, n := range p.intake.RejectedBy {
			o.ObserveInt64(rejected, int64(n), labels("reason", reason.String()))
		}
		for name, d := range s.Destinations {
			for state, n := range destinationStates(d) {
				o.ObserveInt64(destination, int64(n), labels("destination", name, "state", state))
			}
		}
	}
}

func destinationStates(d ledger.Destination) map[string]uint64 {
	return map[string]uint64{
		"filtered": d.Filtered, "delivered": d.Delivered, "retrying": d.Retrying, "waiting": d.Waiting, "dead": d.Dead,
		"unrouted": d.Unrouted, "skipped": d.Skipped, "purged": d.Purged, "replayed": d.Replayed,
	}
}

func (p *program) producerMetrics(g *gauges) func(metric.Observer) {
	calls := g.counter("sluice.producer.calls", "Writes to the stream.")
	callTime := g.seconds("sluice.producer.call_time", "Time that writes to the stream took, together.")
	records := g.counter("sluice.producer.records", "Records stored; accepted events divided by it is the fill.")
	bytes := g.counter("sluice.producer.bytes", "Bytes of records stored.")
	failures := g.counter("sluice.producer.record_failures", "Attempts to store a record that failed, by what is known of it.")
	putTime := g.seconds("sluice.producer.put_time", "Time that requests waited for their events to be durable, together.")
	puts := g.counter("sluice.producer.puts", "Requests that waited for their events to be durable.")
	abandoned := g.counter("sluice.producer.puts_abandoned", "Requests that were answered before the fate of their events was known.")
	buffered := g.gauge("sluice.producer.buffered_bytes", "Memory that holds events on their way to the stream.")
	waiting := g.gauge("sluice.producer.waiting_events", "Events on their way to the stream.")
	return func(o metric.Observer) {
		s := p.producer.Stats()
		o.ObserveInt64(calls, int64(s.Calls))
		o.ObserveFloat64(callTime, s.CallTime.Seconds())
		o.ObserveInt64(records, int64(s.Records))
		o.ObserveInt64(bytes, int64(s.Bytes))
		o.ObserveInt64(failures, int64(s.Throttled), labels("reason", "throttled"))
		o.ObserveInt64(failures, int64(s.Unavailable), labels("reason", "unavailable"))
		o.ObserveInt64(failures, int64(s.Ambiguous), labels("reason", "ambiguous"))
		o.ObserveInt64(failures, int64(s.TooLarge), labels("reason", "too_large"))
		o.ObserveInt64(puts, int64(s.Puts))
		o.ObserveFloat64(putTime, s.PutTime.Seconds())
		o.ObserveInt64(abandoned, int64(s.Abandoned))
		o.ObserveInt64(buffered, int64(s.BufferedBytes))
		o.ObserveInt64(waiting, int64(s.WaitingEvents+s.FlyingEvents))
	}
}

// histograms adds the metrics whose buckets the stages count.
func (p *program) histograms() {
	var answers []telemetry.Series
	for _, a := range p.edge.AnswerTimes() {
		answers = append(answers, telemetry.Series{Labels: attributes("route", a.Route, "class", a.Class), Histogram: a.Times})
	}
	p.tele.Histograms("sluice.gateway.answer_time", "Time from the header of a request to the end of its answer.", telemetry.Seconds, answers...)
	sizes := p.producer.Sizes()
	p.tele.Histograms("sluice.producer.call_records", "Records of a write to the stream.", telemetry.Records, telemetry.Series{Histogram: sizes.RecordsPerCall})
	p.tele.Histograms("sluice.producer.call_size", "Bytes of a write to the stream.", telemetry.Bytes, telemetry.Series{Histogram: sizes.BytesPerCall})
	p.tele.Histograms("sluice.producer.record_events", "Events of a stored record: its fill.", telemetry.Events, telemetry.Series{Histogram: sizes.EventsPerRecord})
}

// labels makes the attributes of an observation from pairs of key and value.
func labels(pairs ...string) metric.MeasurementOption {
	return metric.WithAttributes(attributes(pairs...)...)
}

func attributes(pairs ...string) []attribute.KeyValue {
	attributes := make([]attribute.KeyValue, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		attributes = append(attributes, attribute.String(pairs[i], pairs[i+1]))
	}
	return attributes
}

// oneIf is a condition as a gauge shows it.
func oneIf(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

func statusText(status int) string { return strconv.Itoa(status) }

func (p *program) documentMetrics(g *gauges) func(metric.Observer) {
	stale := g.gauge("sluice.document.stale", "1 while a newer version of a document is not in force because it is bad.")
	return func(o metric.Observer) {
		for name, status := range p.documentStatus() {
			o.ObserveInt64(stale, oneIf(status.Error != ""), labels("document", name))
		}
	}
}
