package app

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/eventsluice/sluice/internal/edge"
	"github.com/eventsluice/sluice/internal/edge/limit"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/schema"
)

// readyTimeout bounds a look at the stream for /readyz.
const readyTimeout = 2 * time.Second

// edgeConfig divides the memory of the process: a quarter is for requests that
// are being worked on, an eighth for events on their way to the stream (see
// open), and the rest for the destinations, the stream itself and the runtime.
func (p *program) edgeConfig() edge.Config {
	s := p.settings
	return edge.Config{
		MaxBody:        int64(s.MaxBody),
		Limits:         event.Limits{MaxBytes: int(s.MaxEvent)},
		MaxInFlight:    int64(s.MemoryLimit / 4),
		StoreTimeout:   s.RequestTimeout,
		AddressRate:    limit.Rate{PerSecond: s.AddressRate},
		SharedLimits:   p.limits,
		TrustedProxies: s.TrustedProxies,
		Contracts:      p.contracts,
		Protocols:      s.Protocols,
		Ready:          p.notReady,
		Tracer:         p.tele.Tracer,
		Log:            p.log,
	}
}

// notReady returns why the gateway should get no traffic.
func (p *program) notReady(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return p.host.notReady(ctx)
}

func (p *program) edgeMetrics(g *gauges) func(metric.Observer) {
	requests := g.counter("sluice.gateway.requests", "Requests by route and status.")
	refused := g.counter("sluice.gateway.requests_refused", "Requests refused as a whole, by the code of the problem document.")
	bytesIn := g.counter("sluice.gateway.body_bytes", "Bytes of request bodies as sent.")
	decoded := g.counter("sluice.gateway.decoded_bytes", "Bytes of request bodies after decompression.")
	wouldRefuse := g.counter("sluice.gateway.would_refuse", "Requests, and events, that restrictions in mode observe have let pass, by key and restriction.")
	issuerFailing := g.gauge("sluice.gateway.issuer_failing", "1 while the public keys of a token issuer cannot be fetched, by the address of its JWKS.")
	inFlight := g.gauge("sluice.gateway.in_flight_bytes", "Memory of the requests that are being worked on.")
	shared := g.gauge("sluice.limits.shared", "1 while rate limits are shared through Redis, 0 while this gateway keeps its own because Redis does not answer; only with SLUICE_REDIS.")
	fallbacks := g.counter("sluice.limits.fallbacks", "Requests whose limits this gateway judged alone because Redis did not answer; only with SLUICE_REDIS.")
	buckets := g.gauge("sluice.limits.buckets", "Keys, addresses, users and event names whose limits are remembered, by kind.")
	unkept := g.counter("sluice.quarantine.failed", "Rejected events that the quarantine could not take.")
	checked := g.counter("sluice.schema.checked", "Events that have a schema.")
	violated := g.counter("sluice.schema.violations", "Events that were not what their schema says, by its mode.")
	discarded := g.counter("sluice.quarantine.discarded", "Rejected events pushed out of the quarantine by newer ones.")
	return func(o metric.Observer) {
		s := p.edge.Stats()
		for _, r := range s.Requests {
			o.ObserveInt64(requests, int64(r.Count), labels("route", r.Route, "status", statusText(r.Status)))
		}
		for code, n := range s.Refused {
			o.ObserveInt64(refused, int64(n), labels("code", code))
		}
		for _, w := range s.WouldRefuse {
			o.ObserveInt64(wouldRefuse, int64(w.Count), labels("key", w.Key, "restriction", w.Restriction.String()))
		}
		for _, issuer := range p.keys.Get().Issuers() {
			o.ObserveInt64(issuerFailing, oneIf(issuer.Failing), labels("jwks", issuer.JWKS))
		}
		o.ObserveInt64(bytesIn, int64(s.BytesIn))
		o.ObserveInt64(decoded, int64(s.BytesDecoded))
		o.ObserveInt64(inFlight, s.InFlight)
		if s.Limits.Shares {
			o.ObserveInt64(shared, oneIf(s.Limits.Shared))
			o.ObserveInt64(fallbacks, int64(s.Limits.Fallbacks))
		}
		for kind, n := range s.Limits.Buckets {
			o.ObserveInt64(buckets, int64(n), labels("kind", kind))
		}
		o.ObserveInt64(unkept, int64(s.QuarantineFailed))
		contracts := p.contracts.Stats()
		o.ObserveInt64(checked, int64(contracts.Checked))
		for mode, n := range contracts.Violated {
			o.ObserveInt64(violated, int64(n), labels("mode", schema.Mode(mode).String()))
		}
		o.ObserveInt64(discarded, int64(p.engine.Quarantine().Discarded()))
	}
}
