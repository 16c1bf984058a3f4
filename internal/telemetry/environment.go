package telemetry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/eventsluice/sluice/internal/telemetry/tracing"
)

// protocol is how a signal goes out by OTLP.
type protocol string

const (
	off      protocol = "" // it does not
	overHTTP protocol = "http/protobuf"
	overGRPC protocol = "grpc"
)

// environment is what the standard variables of OpenTelemetry ask for. Source:
// OpenTelemetry specification, "Environment Variable Specification" and
// "OpenTelemetry Protocol Exporter" (read 2026-11).
type environment struct {
	traces, metrics protocol
	sampling        tracing.Sampling
	// attributes describe the program, beside what it knows by itself.
	attributes []attribute.KeyValue
}

// readEnvironment reads the variables and checks every one that will be used.
// The libraries would go on with a default where a value is bad, and traces
// would go nowhere without anybody knowing why.
func readEnvironment(lookup func(string) (string, bool)) (environment, error) {
	r := &variables{lookup: lookup}
	var env environment
	disabled := r.choice("OTEL_SDK_DISABLED", "false", "true", "false")
	traces, metrics := r.asked("TRACES", "otlp", "none"), r.asked("METRICS", "otlp", "prometheus", "none")
	if disabled != "true" {
		if traces {
			env.traces = r.exporter("TRACES")
			env.sampling = r.sampling()
			r.numbers("OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
		}
		if metrics {
			env.metrics = r.exporter("METRICS")
			r.numbers("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT")
		}
		env.attributes = r.attributes()
	}
	return env, errors.Join(r.faults...)
}

// variables reads environment variables and collects what is wrong with them.
type variables struct {
	lookup func(string) (string, bool)
	faults []error
}

func (r *variables) get(name string) string {
	value, _ := r.lookup(name)
	return strings.TrimSpace(value)
}

// bad notes a fault, once: both signals read some of the variables.
func (r *variables) bad(name, value, format string, args ...any) {
	found := fmt.Errorf("%s=%q: %s", name, value, fmt.Sprintf(format, args...))
	if !slices.ContainsFunc(r.faults, func(e error) bool { return e.Error() == found.Error() }) {
		r.faults = append(r.faults, found)
	}
}

// choice returns one of the values that a variable may have, in lower case.
func (r *variables) choice(name, otherwise string, allowed ...string) string {
	value := strings.ToLower(r.get(name))
	if value == "" {
		return otherwise
	}
	if !slices.Contains(allowed, value) {
		r.bad(name, value, "right would be one of %s", strings.Join(allowed, ", "))
	}
	return value
}

// asked reports whether a signal shall go out by OTLP: its exporter is named,
// or else there is an address for it.
func (r *variables) asked(signal string, allowed ...string) bool {
	exporter := r.choice("OTEL_"+signal+"_EXPORTER", "", allowed...)
	if exporter != "" {
		return exporter == "otlp"
	}
	return r.get("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || r.get("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// exporter checks what the exporter of a signal will read and returns its
// protocol. A variable of the signal goes before that of all signals.
func (r *variables) exporter(signal string) protocol {
	for _, prefix := range []string{"OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_" + signal + "_"} {
		r.endpoint(prefix + "ENDPOINT")
		r.choice(prefix+"COMPRESSION", "", "gzip", "none")
		r.choice(prefix+"INSECURE", "", "true", "false")
		r.numbers(prefix + "TIMEOUT")
		if headers := r.get(prefix + "HEADERS"); !arePairs(headers) {
			r.bad(prefix+"HEADERS", "…", "right would be NAME=VALUE,NAME=VALUE") // they are often secrets
		}
		r.certificates(prefix)
	}
	all := r.choice("OTEL_EXPORTER_OTLP_PROTOCOL", string(overHTTP), string(overHTTP), string(overGRPC))
	return protocol(r.choice("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL", all, string(overHTTP), string(overGRPC)))
}

func (r *variables) endpoint(name string) {
	value := r.get(name)
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		r.bad(name, value, `not the address of a collector; right would be "http://localhost:4318" (gRPC: 4317)`)
	}
}

func (r *variables) certificates(prefix string) {
	if name := prefix + "CERTIFICATE"; r.get(name) != "" {
		pem, err := os.ReadFile(r.get(name))
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = errors.New("no certificate in it")
		}
		if err != nil {
			r.bad(name, r.get(name), "not a file of certificates in PEM: %v", err)
		}
	}
	cert, key := prefix+"CLIENT_CERTIFICATE", prefix+"CLIENT_KEY"
	if r.get(cert) != "" || r.get(key) != "" {
		if _, err := tls.LoadX509KeyPair(r.get(cert), r.get(key)); err != nil {
			r.bad(cert, r.get(cert), "with %s=%q not a certificate and its key in PEM: %v", key, r.get(key), err)
		}
	}
}

// numbers checks variables that are whole numbers of 1 or more.
func (r *variables) numbers(names ...string) {
	for _, name := range names {
		if value := r.get(name); value != "" {
			if n, err := strconv.ParseInt(value, 10, 32); err != nil || n < 1 {
				r.bad(name, value, `not a whole number of 1 or more; right would be "5000"`)
			}
		}
	}
}

// sampling reads which traces are recorded. By default it is every one, but
// for those that began elsewhere and are not recorded there.
func (r *variables) sampling() tracing.Sampling {
	sampler := r.choice("OTEL_TRACES_SAMPLER", "parentbased_always_on",
		"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio")
	root, parentBased := strings.CutPrefix(sampler, "parentbased_")
	s := tracing.Sampling{Ratio: 1, IgnoreParent: !parentBased}
	switch root {
	case "always_off":
		s.Ratio = 0
	case "traceidratio":
		const name = "OTEL_TRACES_SAMPLER_ARG"
		if value := r.get(name); value != "" {
			var err error
			if s.Ratio, err = strconv.ParseFloat(value, 64); err != nil || !(s.Ratio >= 0 && s.Ratio <= 1) {
				r.bad(name, value, `not a share from 0 to 1; right would be "0.01"`)
			}
		}
	}
	return s
}

// attributes reads how the operator describes the program.
func (r *variables) attributes() (attributes []attribute.KeyValue) {
	const name = "OTEL_RESOURCE_ATTRIBUTES"
	value := r.get(name)
	if !arePairs(value) {
		r.bad(name, value, "right would be NAME=VALUE,NAME=VALUE")
		return nil
	}
	for pair := range strings.SplitSeq(value, ",") {
		key, text, _ := strings.Cut(pair, "=")
		if key = strings.TrimSpace(key); key == "" {
			continue
		}
		text, err := url.PathUnescape(strings.TrimSpace(text))
		if err != nil {
			r.bad(name, value, "%v", err)
		}
		attributes = append(attributes, attribute.String(key, text))
	}
	if service := r.get("OTEL_SERVICE_NAME"); service != "" {
		attributes = append(attributes, attribute.String("service.name", service))
	}
	return attributes
}

// arePairs reports whether text is name=value, separated by commas.
func arePairs(text string) bool {
	for pair := range strings.SplitSeq(text, ",") {
		name, _, ok := strings.Cut(pair, "=")
		if pair = strings.TrimSpace(pair); pair != "" && (!ok || strings.TrimSpace(name) == "") {
			return false
		}
	}
	return true
}

// resource describes this process to the collector. The instance keeps the
// figures of several gateways apart.
func (e *environment) resource(ctx context.Context, version string) (*resource.Resource, error) {
	return resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithAttributes(
			attribute.String("service.name", "sluice"),
			attribute.String("service.version", version),
			attribute.String("service.instance.id", uuid.NewString()),
		),
		resource.WithAttributes(e.attributes...),
	)
}
