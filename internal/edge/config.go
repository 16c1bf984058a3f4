package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/edge/limit"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/schema"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
)

// Config is what an operator may set. The zero value is ready for use.
type Config struct {
	// MaxBody bounds a request's body in bytes, as it is sent and again after
	// decompression. Default 10 MiB. The SDKs send up to 512,000 bytes and one
	// event more.
	MaxBody int64
	// MaxUnauthenticatedBody bounds, both ways, a body that must be read
	// before its key is known, since the key is in it. Default 2 MiB.
	MaxUnauthenticatedBody int64
	// MaxRatio is how many times its size a body may grow by decompression,
	// beyond the first MiB. Default 250; repetitive JSON reaches about 100.
	MaxRatio int
	// MaxEvents bounds the events of one request. Default 10,000.
	MaxEvents int
	// Limits bound one event. Defaults: those of event.Limits, 1,000,000 bytes
	// and 64 levels.
	Limits event.Limits
	// MaxInFlight bounds the memory of all requests that are being worked on,
	// in bytes: twice the body, 40 KiB for each request, 0.5 KiB for each event
	// of a batch, 1 KiB for each rejected one. Above it the answer is 503.
	// Default 256 MiB.
	MaxInFlight int64

	// StoreTimeout is how long a request waits for its events to be durable.
	// Then the answer is 503, and the events may or may not be stored.
	// Default 10s.
	StoreTimeout time.Duration
	// HeaderTimeout is how long a sender may take for the header of a request.
	// Default 5s.
	HeaderTimeout time.Duration
	// BodyTimeout is how long a sender may take for a body, and BodyRate how
	// many bytes buy a second more. Defaults 10s and 16 KiB.
	BodyTimeout time.Duration
	BodyRate    int64
	// IdleTimeout is how long a connection is kept without a request. Default
	// 75s: more than the 60s after which load balancers let go, so that they
	// do and not the gateway (a request that meets a closing connection fails).
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds the header of a request. Default 32 KiB.
	MaxHeaderBytes int

	// AddressRate limits the requests of one address (IPv6: one /64). The zero
	// value is no limit: whole companies share an address, and so do the
	// servers behind a proxy that is not trusted.
	AddressRate limit.Rate
	// MaxBuckets bounds how many addresses, users and event names are
	// remembered for their limits, of each of them; those that have not been
	// seen for longest leave first, and begin with a full bucket when they are
	// back. Default 100,000, which take 10 MB at most, of each.
	MaxBuckets int
	// SharedLimits is where several gateways keep their limits together. Nil:
	// each for itself.
	SharedLimits *limit.Redis
	// TrustedProxies are the peers whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix

	// Contracts checks events against their schemas. Nil: there are none.
	Contracts *schema.Contracts

	// Protocols are those read besides our own, Segment's and CloudEvents: some
	// of Jitsu, Snowplow, PostHog and Mixpanel. The paths of the others do not
	// exist. Nil means DefaultProtocols, an empty list none.
	Protocols []string

	// Ready returns why the gateway should get no traffic now, or nothing.
	// Nil: it is always ready. It is called by GET /readyz.
	Ready func(context.Context) []string
	// Tracer makes a span per request that sends events. Nil: none, and events
	// carry the span that the request names, if that is sampled.
	Tracer *tracing.Tracer
	// Log gets a line per request at debug; of those that were not served (503)
	// at info, ten a second at most; at error where the gateway is at fault.
	// Default slog.Default().
	Log *slog.Logger
}

// withDefaults returns the configuration with every default in place.
func (c Config) withDefaults() Config {
	c.MaxBody = orDefault(c.MaxBody, 10<<20)
	c.MaxUnauthenticatedBody = min(orDefault(c.MaxUnauthenticatedBody, 2<<20), c.MaxBody)
	c.MaxRatio = orDefault(c.MaxRatio, 250)
	c.MaxEvents = orDefault(c.MaxEvents, 10_000)
	c.Limits.MaxBytes = orDefault(c.Limits.MaxBytes, 1_000_000)
	c.Limits.MaxDepth = orDefault(c.Limits.MaxDepth, 64)
	c.MaxInFlight = orDefault(c.MaxInFlight, 256<<20)
	c.StoreTimeout = orDefault(c.StoreTimeout, 10*time.Second)
	c.HeaderTimeout = orDefault(c.HeaderTimeout, 5*time.Second)
	c.BodyTimeout = orDefault(c.BodyTimeout, 10*time.Second)
	c.BodyRate = orDefault(c.BodyRate, 16<<10)
	c.IdleTimeout = orDefault(c.IdleTimeout, 75*time.Second)
	c.MaxHeaderBytes = orDefault(c.MaxHeaderBytes, 32<<10)
	c.MaxBuckets = orDefault(c.MaxBuckets, 100_000)
	if c.Protocols == nil {
		c.Protocols = DefaultProtocols
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Validate reports every setting that cannot be used.
func (c Config) Validate() error {
	var faults []error
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"MaxBody", c.MaxBody},
		{"MaxUnauthenticatedBody", c.MaxUnauthenticatedBody},
		{"MaxRatio", int64(c.MaxRatio)},
		{"MaxEvents", int64(c.MaxEvents)},
		{"MaxInFlight", c.MaxInFlight},
		{"StoreTimeout", int64(c.StoreTimeout)},
		{"HeaderTimeout", int64(c.HeaderTimeout)},
		{"BodyTimeout", int64(c.BodyTimeout)},
		{"BodyRate", c.BodyRate},
		{"IdleTimeout", int64(c.IdleTimeout)},
		{"MaxHeaderBytes", int64(c.MaxHeaderBytes)},
		{"MaxBuckets", int64(c.MaxBuckets)},
		{"AddressRate.Burst", int64(c.AddressRate.Burst)},
	} {
		if f.value < 0 {
			faults = append(faults, fmt.Errorf("%s is %d: it must not be negative", f.name, f.value))
		}
	}
	if c.AddressRate.PerSecond < 0 {
		faults = append(faults, fmt.Errorf("AddressRate.PerSecond is %v: it must not be negative", c.AddressRate.PerSecond))
	}
	for _, name := range c.Protocols {
		if !slices.Contains(Protocols, name) {
			faults = append(faults, fmt.Errorf("Protocols has %q: it must be one of %s", name, strings.Join(Protocols, ", ")))
		}
	}
	if d := c.withDefaults(); d.MaxInFlight < roomFor(d.MaxBody) {
		faults = append(faults, fmt.Errorf("MaxInFlight is %d: a body of MaxBody takes %d", d.MaxInFlight, roomFor(d.MaxBody)))
	}
	return errors.Join(faults...)
}
