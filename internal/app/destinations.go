package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/go-playground/validator/v10"

	"github.com/eventsluice/sluice/internal/connector"
)

// Destination is one entry of the destinations document.
type Destination struct {
	Name        string          `json:"destination_name" validate:"required,max=64,destination_name"`
	Connector   string          `json:"connector" validate:"required,connector"`
	Settings    json.RawMessage `json:"settings"`
	Retry       RetrySettings   `json:"retry"`
	Concurrency int             `json:"concurrency" validate:"min=0,max=1024"`
	Rate        RateSettings    `json:"rate"`
	// Start is where a new destination begins: "oldest" (the default) or
	// "now".
	Start string `json:"start" validate:"omitempty,oneof=oldest now"`
	// Ambiguous is what happens to an event whose delivery was written and not
	// answered, at a destination that does not know duplicates: "retry" (the
	// default) or "dead".
	Ambiguous string `json:"ambiguous" validate:"omitempty,oneof=retry dead"`
}

// RetrySettings bound the attempts of a destination. Zero fields take the
// defaults of package delivery.
type RetrySettings struct {
	MaxAttempts int      `json:"max_attempts" validate:"min=0,max=1000000"`
	BaseDelay   Duration `json:"base_delay" validate:"min=0"`
	MaxDelay    Duration `json:"max_delay" validate:"min=0"`
}

// RateSettings bound the events per second sent to a destination. Zero is no
// bound.
type RateSettings struct {
	PerSecond float64 `json:"per_second" validate:"min=0"`
	Burst     int     `json:"burst" validate:"min=0"`
}

// Duration is a time.Duration written as in "1.5s".
type Duration time.Duration

// Duration returns d as a time.Duration.
func (d Duration) Duration() time.Duration { return time.Duration(d) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf(`%q is not a duration such as "10s"`, text)
	}
	*d = Duration(parsed)
	return nil
}

// destinationName is what names a destination: it stands in metrics, subjects
// and file names.
var destinationName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

var destinationValidator = sync.OnceValue(func() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return name
	})
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	must(v.RegisterValidation("destination_name", func(f validator.FieldLevel) bool {
		return destinationName.MatchString(f.Field().String())
	}))
	must(v.RegisterValidation("connector", func(f validator.FieldLevel) bool {
		_, known := connectors()[f.Field().String()]
		return known
	}))
	return v
})

// ParseDestinations reads a destinations document. The error names every fault
// of it. Connectors are made once to check their settings, and not connected.
func ParseDestinations(doc []byte, dataDir string) ([]Destination, error) {
	var raw []json.RawMessage
	if err := decodeStrict(doc, &raw); err != nil {
		return nil, fmt.Errorf("not a JSON array of destinations: %w", err)
	}
	var faults []error
	names := map[string]bool{}
	destinations := make([]Destination, 0, len(raw))
	for i, entry := range raw {
		var d Destination
		if err := decodeStrict(entry, &d); err != nil {
			faults = append(faults, fmt.Errorf("destinations[%d]: %w", i, err))
			continue
		}
		where := fmt.Sprintf("destinations[%d] %q", i, d.Name)
		if err := destinationValidator().Struct(d); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", where, explainValidation(err)))
			continue
		}
		if names[d.Name] {
			faults = append(faults, fmt.Errorf("%s: the name is taken by an earlier destination", where))
		}
		names[d.Name] = true
		if err := deliveryConfig(&d).Validate(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", where, err))
			continue
		}
		made, err := d.connect(dataDir, quietLogger())
		if err != nil {
			for fault := range strings.SplitSeq(err.Error(), "\n") { // one for each setting that is wrong
				faults = append(faults, fmt.Errorf("%s: %s", where, fault))
			}
			continue
		}
		if err := made.Close(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", where, err))
		}
		destinations = append(destinations, d)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return destinations, nil
}

func (d *Destination) connect(dataDir string, log *slog.Logger) (connector.Connector, error) {
	settings := d.Settings
	if len(settings) == 0 {
		settings = json.RawMessage(`{}`)
	}
	return connectors()[d.Connector].New(settings, connector.Env{Destination: d.Name, DataDir: dataDir, Log: log})
}

// same reports whether a running destination can go on under a new document.
func (d *Destination) same(other *Destination) bool { return reflect.DeepEqual(d, other) }

func explainValidation(err error) error {
	fields, ok := errors.AsType[validator.ValidationErrors](err)
	if !ok {
		return err
	}
	var faults []string
	for _, f := range fields {
		_, pointer, _ := strings.Cut(f.Namespace(), ".")
		pointer = "/" + strings.ReplaceAll(pointer, ".", "/")
		var want string
		switch f.Tag() {
		case "required":
			want = "is required"
		case "connector":
			want = fmt.Sprintf("is %q; the connectors are %s", f.Value(), strings.Join(connectors().Kinds(), ", "))
		case "destination_name":
			want = fmt.Sprintf("is %q; it starts with a letter or digit and has only letters, digits, _ . and -", f.Value())
		case "oneof":
			want = fmt.Sprintf("is %q; right would be one of %s", f.Value(), f.Param())
		case "min":
			want = fmt.Sprintf("is %v; the least is %s", f.Value(), f.Param())
		case "max":
			want = fmt.Sprintf("is %v; the most is %s", f.Value(), f.Param())
		default:
			want = fmt.Sprintf("is %v, which fails %s", f.Value(), f.Tag())
		}
		faults = append(faults, pointer+" "+want)
	}
	return errors.New(strings.Join(faults, "; "))
}

func decodeStrict(doc []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("it is empty")
		}
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}
