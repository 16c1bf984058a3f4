package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/edge"
	"github.com/eventsluice/sluice/internal/edge/limit"
	"github.com/eventsluice/sluice/internal/simulator"
	"github.com/eventsluice/sluice/internal/stream/dedup"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

// Settings is the configuration of a program. It comes from flags, then from
// the environment, then from the defaults; SLUICE_DATA_DIR and --data-dir are
// the same setting.
type Settings struct {
	Addr       string
	AdminAddr  string
	AdminToken string
	DataDir    string
	Stream     string
	// Spool is the folder of the spool, "" if there is none.
	Spool      string
	SpoolLimit Bytes
	// Aggregation lets events share records on Kinesis.
	Aggregation bool
	// Buckets on Kinesis; 0 follows the shards.
	Buckets int
	// Dedup is how long the id of an event is remembered; 0 if it is not.
	Dedup       time.Duration
	DedupMemory Bytes

	Keys         string
	Rules        string
	Destinations string
	Schemas      string

	// Protocols are those read besides our own, see edge.Config.
	Protocols []string

	// Simulate names the vendors that Up simulates, see package simulator.
	Simulate []string

	TLSCert string
	TLSKey  string

	MemoryLimit Bytes
	DiskLimit   Bytes
	Retention   time.Duration
	MaxBody     Bytes
	MaxEvent    Bytes
	AddressRate float64
	// Redis is the URL of the Redis that gateways share their limits through,
	// "" if each keeps its own; it may hold a password. SharedLimits is the same,
	// read.
	Redis          string
	SharedLimits   limit.RedisConfig
	TrustedProxies []netip.Prefix
	RequestTimeout time.Duration
	StopTimeout    time.Duration

	LogLevel  string
	LogFormat string
	// EMF is the name that CloudWatch gets metrics under; empty for none.
	EMF string
}

// mostEvent is the largest event that fits every host with what the gateway
// adds to it: a record of a Kinesis stream takes 1 MiB by default, and so does
// an asynchronous invocation of a Lambda function.
const mostEvent = 1_000_000

// envPrefix and the upper-cased name of a flag make the name of its variable.
const envPrefix = "SLUICE_"

// Bind declares the settings as flags, with their defaults.
func (s *Settings) Bind(flags *pflag.FlagSet) {
	bind := func(parse func(string) error, value, name, kind, usage string) {
		if err := parse(value); err != nil {
			panic("default of " + name + ": " + err.Error())
		}
		flags.Var(&setting{parse: parse, text: value, kind: kind}, name, usage+" ["+variable(name)+"]")
	}
	bind(address(&s.Addr), ":8080", "addr", "host:port", "address of the gateway")
	bind(address(&s.AdminAddr), "127.0.0.1:8081", "admin-addr", "host:port", "address of console, metrics and admin API; off loopback it needs an admin token")
	bind(text(&s.AdminToken), "", "admin-token", "token", "bearer token of the admin address")
	bind(path(&s.DataDir), "./.sluice", "data-dir", "path", "folder of all that is kept on this machine")
	bind(streamURL(&s.Stream), "embedded:", "stream", "url", "where events are stored: embedded: or kinesis://STREAM-NAME")
	bind(path(&s.Spool), "", "spool", "path", "folder where batches wait while Kinesis does not take them, or off (default <data-dir>/spool)")
	bind(byteSize(&s.SpoolLimit, 16<<20), "1GiB", "spool-limit", "bytes", "budget of the spool on disk; with it used up the gateway answers 503")
	bind(onOff(&s.Aggregation), "on", "aggregation", "on|off", "off writes a record of its own for each event, plain JSON, for readers of Kinesis that know no aggregates")
	bind(count(&s.Buckets, producer.MaxBuckets), "0", "buckets", "n", "buckets on Kinesis: records in flight, each in order; 0 is two for each open shard at the start")
	bind(window(&s.Dedup), dedupOff, "dedup", "duration|off", "how long an event that is sent again under its id is not stored again")
	bind(byteSize(&s.DedupMemory, dedup.MinMemory), "64MiB", "dedup-memory", "bytes", "memory for the ids of stored events, 22 bytes each; full, the oldest are forgotten early")
	bind(documentPath(&s.Keys), "", "keys", "path|s3://…", "keys document (default <data-dir>/keys.json)")
	bind(documentPath(&s.Rules), "", "rules", "path|s3://…", "rules document (default <data-dir>/rules.json)")
	bind(documentPath(&s.Destinations), "", "destinations", "path|s3://…", "destinations document (default <data-dir>/destinations.json)")
	bind(documentPath(&s.Schemas), "", "schemas", "path|s3://…", "schemas document, the contracts that events are held to (default <data-dir>/schemas.json)")
	bind(anyOrNone(&s.Protocols, edge.Protocols...), strings.Join(edge.DefaultProtocols, ","), "protocols", "name,…", "protocols of other collectors that the gateway reads besides Segment's and CloudEvents: "+strings.Join(edge.Protocols, ", ")+", or none")
	bind(anyOf(&s.Simulate, simulator.Kinds()...), "", "simulate", "vendor,…", "with up: simulate vendors on this machine, and deliver every event to them: "+strings.Join(simulator.Kinds(), ", "))
	bind(path(&s.TLSCert), "", "tls-cert", "path", "certificate chain in PEM; with it the gateway speaks TLS")
	bind(path(&s.TLSKey), "", "tls-key", "path", "private key in PEM")
	bind(byteSize(&s.MemoryLimit, 128<<20), "512MiB", "memory-limit", "bytes", "ceiling of memory; the gateway sheds load to stay below it")
	bind(byteSize(&s.DiskLimit, 64<<20), "8GiB", "disk-limit", "bytes", "budget of the event stream on disk; with it used up the gateway answers 503")
	bind(duration(&s.Retention, 0), "168h", "retention", "duration", "how long delivered events are kept to look at, within half of the disk limit")
	bind(byteSize(&s.MaxBody, 1<<10), "10MiB", "max-body", "bytes", "largest request body, before and after decompression")
	bind(byteSize(&s.MaxEvent, 1<<10), "1000000", "max-event", "bytes", "largest event")
	bind(number(&s.AddressRate), "0", "address-rate", "n", "requests per second from one address; 0 is no limit")
	bind(text(&s.Redis), "", "redis", "url", "Redis that gateways share their rate limits through, redis://user:password@host:6379/0, or rediss:// for TLS; with ?cluster=true a cluster")
	bind(prefixes(&s.TrustedProxies), "", "trusted-proxies", "cidr,…", "proxies whose X-Forwarded-For counts")
	bind(duration(&s.RequestTimeout, time.Millisecond), "10s", "request-timeout", "duration", "how long a request waits for its events to be durable before it is answered 503")
	bind(duration(&s.StopTimeout, time.Second), "30s", "stop-timeout", "duration", "how long a stop may take")
	bind(oneOf(&s.LogLevel, "debug", "info", "warn", "error"), "info", "log-level", "level", "debug, info, warn or error")
	bind(text(&s.EMF), "", "emf", "name", "write CloudWatch embedded metrics to stdout once a minute, under this name")
	bind(oneOf(&s.LogFormat, "text", "json"), "text", "log-format", "format", "text or json")
}

func variable(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Fill gives the flags that were not set on the command line the values of
// their environment variables, and checks the settings as a whole. The error
// has one line per fault, each naming the variable, its value and what would
// be right.
func (s *Settings) Fill(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var faults []error
	flags.VisitAll(func(f *pflag.Flag) {
		value, isSetting := f.Value.(*setting)
		if !isSetting || f.Changed {
			return
		}
		env, ok := lookup(variable(f.Name))
		if !ok || env == "" {
			return
		}
		if err := value.Set(env); err != nil {
			if f.Name == "admin-token" {
				env = "…"
			}
			faults = append(faults, fmt.Errorf("%s=%q: %w", variable(f.Name), env, err))
		}
	})
	faults = append(faults, s.readRedis()...)
	if len(faults) == 0 {
		faults = s.check()
	}
	return errors.Join(faults...)
}

// readRedis is not what reads the flag, whose package repeats what it cannot
// read.
func (s *Settings) readRedis() []error {
	if s.Redis == "" {
		return nil
	}
	var err error
	if s.SharedLimits, err = limit.ParseURL(s.Redis); err != nil {
		return []error{fmt.Errorf("SLUICE_REDIS=%q: %w", limit.Masked(s.Redis), err)}
	}
	return nil
}

// check finds the faults that take more than one setting to see, and completes
// the paths that depend on the data folder.
func (s *Settings) check() []error {
	var faults []error
	if (s.TLSCert == "") != (s.TLSKey == "") {
		faults = append(faults, fmt.Errorf("SLUICE_TLS_CERT=%q, SLUICE_TLS_KEY=%q: set both, or neither", s.TLSCert, s.TLSKey))
	}
	if s.AdminToken == "" && !isLoopback(s.AdminAddr) {
		faults = append(faults, fmt.Errorf("SLUICE_ADMIN_ADDR=%q: an address off loopback needs SLUICE_ADMIN_TOKEN; without one use 127.0.0.1:8081", s.AdminAddr))
	}
	if s.AdminToken != "" && len(s.AdminToken) < 16 {
		faults = append(faults, errors.New("SLUICE_ADMIN_TOKEN: too short to be secret; use 16 characters or more, such as the output of: openssl rand -hex 32"))
	}
	if s.MaxEvent > mostEvent {
		faults = append(faults, fmt.Errorf("SLUICE_MAX_EVENT=%s: more than a record of a stream or a Lambda invocation takes; right would be %d or less", s.MaxEvent, mostEvent))
	}
	if s.MaxEvent > s.MaxBody {
		faults = append(faults, fmt.Errorf("SLUICE_MAX_EVENT=%s: more than SLUICE_MAX_BODY=%s; make it at most as large", s.MaxEvent, s.MaxBody))
	}
	if s.MaxBody > s.MemoryLimit/8 {
		faults = append(faults, fmt.Errorf("SLUICE_MAX_BODY=%s: more than an eighth of SLUICE_MEMORY_LIMIT=%s; lower the one or raise the other", s.MaxBody, s.MemoryLimit))
	}
	if s.Dedup > 0 && s.DedupMemory > s.MemoryLimit/4 {
		faults = append(faults, fmt.Errorf("SLUICE_DEDUP_MEMORY=%s: more than a quarter of SLUICE_MEMORY_LIMIT=%s; lower the one or raise the other", s.DedupMemory, s.MemoryLimit))
	}
	for _, d := range []struct {
		path *string
		name string
	}{{&s.Keys, "keys.json"}, {&s.Rules, "rules.json"}, {&s.Destinations, "destinations.json"}, {&s.Schemas, "schemas.json"}} {
		if *d.path == "" {
			*d.path = filepath.Join(s.DataDir, d.name)
		}
	}
	switch s.Spool {
	case "":
		s.Spool = filepath.Join(s.DataDir, "spool")
	case spoolOff:
		s.Spool = ""
	}
	if s.Spool != "" && filepath.Clean(s.Spool) == filepath.Clean(s.DataDir) {
		faults = append(faults, fmt.Errorf("SLUICE_SPOOL=%q: the data folder itself; right would be a folder of its own, such as %q", s.Spool, filepath.Join(s.DataDir, "spool")))
	}
	return faults
}

// spoolOff is the value of SLUICE_SPOOL for no spool.
const spoolOff = "off"

// kinesisName returns the name of the Kinesis stream that the settings name; ok
// is false if they name another host.
func (s *Settings) kinesisName() (name string, ok bool) {
	return strings.CutPrefix(s.Stream, kinesisScheme)
}

const kinesisScheme = "kinesis://"

// CheckUp finds out whether everything can run on this machine as set.
func (s *Settings) CheckUp() error {
	if _, ok := s.kinesisName(); ok {
		return fmt.Errorf("SLUICE_STREAM=%q: what is on Kinesis is delivered by Lambda functions; start the gateway alone (sluice gateway), or use \"embedded:\"", s.Stream)
	}
	return nil
}

// CheckGateway reports what makes no sense for a gateway alone.
func (s *Settings) CheckGateway() error {
	if len(s.Simulate) > 0 {
		return fmt.Errorf("SLUICE_SIMULATE=%q: a gateway alone delivers nothing; use it with sluice up", strings.Join(s.Simulate, ","))
	}
	return nil
}

// setting is a pflag.Value made of a parse function.
type setting struct {
	parse      func(string) error
	text, kind string
}

func (v *setting) Set(text string) error {
	if err := v.parse(text); err != nil {
		return err
	}
	v.text = text
	return nil
}
func (v *setting) String() string { return v.text }
func (v *setting) Type() string   { return v.kind }

// Bytes is a size. It is written as a number with an optional unit: 512MiB,
// 64kB, 1000000.
type Bytes int64

var units = []struct {
	suffix string
	size   int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

func (b Bytes) String() string {
	for _, u := range slices.Backward(units[:4]) {
		if int64(b) >= u.size && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

func parseBytes(text string) (Bytes, error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.size {
			break
		}
		return Bytes(n * u.size), nil
	}
	return 0, errors.New(`not a size; right would be "512MiB", "2GB" or "1000000"`)
}

func byteSize(p *Bytes, least Bytes) func(string) error {
	return func(text string) error {
		n, err := parseBytes(text)
		if err != nil {
			return err
		}
		if n < least {
			return fmt.Errorf("too small; right would be %s or more", least)
		}
		*p = n
		return nil
	}
}

func duration(p *time.Duration, least time.Duration) func(string) error {
	return func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New(`not a duration; right would be "10s" or "168h"`)
		}
		if d < least {
			return fmt.Errorf("too short; right would be %s or more", least)
		}
		*p = d
		return nil
	}
}

// dedupOff is the value of SLUICE_DEDUP for none.
const dedupOff = "off"

// window takes a duration that is worth remembering ids for, or dedupOff.
func window(p *time.Duration) func(string) error {
	const least, most = time.Minute, 30 * 24 * time.Hour
	return func(text string) error {
		if text == dedupOff {
			*p = 0
			return nil
		}
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return errors.New(`neither a duration nor "off"; right would be "1h" or "24h"`)
		case d < least:
			return fmt.Errorf(`too short: senders try again for longer than that; right would be %s or more, such as "1h", or "off"`, least)
		case d > most:
			return fmt.Errorf("too long; right would be %s or less", most)
		}
		*p = d
		return nil
	}
}

func number(p *float64) func(string) error {
	return func(text string) error {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n >= 0 && n <= 1e9) {
			return errors.New(`not a number of 0 or more; right would be "50"`)
		}
		*p = n
		return nil
	}
}

func text(p *string) func(string) error {
	return func(value string) error { *p = value; return nil }
}

func path(p *string) func(string) error {
	return func(value string) error {
		if strings.ContainsRune(value, 0) {
			return errors.New("not a path")
		}
		*p = value
		return nil
	}
}

func documentPath(p *string) func(string) error {
	return func(value string) error {
		if !isObject(value) {
			if strings.Contains(value, "://") {
				return errors.New(`neither a path nor an object; right would be "/etc/sluice/rules.json" or "s3://bucket/rules.json"`)
			}
			return path(p)(value)
		}
		if _, _, err := object.Parse(value); err != nil {
			return err
		}
		*p = value
		return nil
	}
}

func address(p *string) func(string) error {
	return func(value string) error {
		_, port, err := net.SplitHostPort(value)
		if n, convErr := strconv.ParseUint(port, 10, 16); err != nil || convErr != nil || n > 65535 {
			return errors.New(`not host:port; right would be ":8080" or "127.0.0.1:8080"`)
		}
		*p = value
		return nil
	}
}

// kinesisStream is what a stream may be called. Source: Kinesis API reference,
// CreateStream, StreamName (read 2026-11).
var kinesisStream = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)

// streamURL accepts the streams that this build can write to.
func streamURL(p *string) func(string) error {
	return func(value string) error {
		name, kinesis := strings.CutPrefix(value, kinesisScheme)
		switch {
		case value == "embedded:":
		case kinesis && kinesisStream.MatchString(name):
		case kinesis:
			return errors.New(`not the name of a Kinesis stream; right would be "kinesis://events": letters, digits, "_", ".", "-", at most 128`)
		default:
			return errors.New(`not a stream; right would be "embedded:" or "kinesis://events"`)
		}
		*p = value
		return nil
	}
}

func onOff(p *bool) func(string) error {
	return func(value string) error {
		if value != "on" && value != "off" {
			return errors.New(`right would be "on" or "off"`)
		}
		*p = value == "on"
		return nil
	}
}

func count(p *int, most int) func(string) error {
	return func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > most {
			return fmt.Errorf("not a number from 0 to %d", most)
		}
		*p = n
		return nil
	}
}

func prefixes(p *[]netip.Prefix) func(string) error {
	return func(value string) error {
		var all []netip.Prefix
		for field := range strings.SplitSeq(value, ",") {
			field = strings.TrimSpace(field)
			if field == "" {
				continue
			}
			prefix, err := netip.ParsePrefix(field)
			if addr, addrErr := netip.ParseAddr(field); addrErr == nil {
				prefix, err = addr.Prefix(addr.BitLen())
			}
			if err != nil {
				return fmt.Errorf(`%q is not an address or a network; right would be "10.0.0.0/8"`, field)
			}
			all = append(all, prefix)
		}
		*p = all
		return nil
	}
}

func oneOf(p *string, allowed ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("right would be one of %s", strings.Join(allowed, ", "))
		}
		*p = value
		return nil
	}
}

// anyOf takes a list of some of the values, separated by commas.
func anyOf(p *[]string, allowed ...string) func(string) error {
	return func(value string) error {
		var list []string
		for part := range strings.SplitSeq(value, ",") {
			part = strings.TrimSpace(part)
			switch {
			case part == "" && value == "":
			case !slices.Contains(allowed, part):
				return fmt.Errorf("%q is none of %s", part, strings.Join(allowed, ", "))
			case !slices.Contains(list, part):
				list = append(list, part)
			}
		}
		*p = list
		return nil
	}
}

// anyOrNone is anyOf with the word none for no value, and needs one or the
// other.
func anyOrNone(p *[]string, allowed ...string) func(string) error {
	return func(value string) error {
		if value == "none" {
			*p = []string{}
			return nil
		}
		if err := anyOf(p, allowed...)(value); err != nil || value == "" {
			return fmt.Errorf("right would be some of %s, or none", strings.Join(allowed, ", "))
		}
		return nil
	}
}

func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// LookupEnv is how programs read their environment.
var LookupEnv = os.LookupEnv
