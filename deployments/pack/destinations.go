package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// destination is an entry of the destinations document, as on one machine.
type destination struct {
	Name      string          `json:"destination_name"`
	Connector string          `json:"connector"`
	Settings  json.RawMessage `json:"settings"`
	Retry     struct {
		MaxAttempts int    `json:"max_attempts"`
		BaseDelay   string `json:"base_delay"`
		MaxDelay    string `json:"max_delay"`
	} `json:"retry"`
	Ambiguous string `json:"ambiguous"`
	// What has no effect on AWS.
	Concurrency json.RawMessage `json:"concurrency"`
	Rate        json.RawMessage `json:"rate"`
	Start       json.RawMessage `json:"start"`
}

const (
	// mostDestinations fit a stack: each takes six dynamic references, of which
	// a template may have 60. Source: CloudFormation user guide, quotas (read
	// 2026-11).
	mostDestinations = 10
	// mostValue is what an SSM parameter of the standard tier holds. Source:
	// Systems Manager user guide, parameter tiers (read 2026-11).
	mostValue = 4096
)

// destinationName is what the template accepts: names become part of logical
// ids there.
var destinationName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,23}$`)

// reserved are names that functions of the stack have already.
var reserved = []string{"router", "redrive", "gateway", "events", "archive", "dead"}

// packDestinations reads a destinations document and writes the SSM parameters
// of each destination as files, DIR/NAME/PARAMETER. It prints the names with
// commas between them, as the template's parameter wants them, and on lines of
// their own, with "note: " before them, what is in the document and has no
// effect on AWS.
func packDestinations(dir, file string, out io.Writer) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	all, err := parseDestinations(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var names, notes []string
	for _, d := range all {
		for parameter, value := range d.parameters() {
			path := filepath.Join(dir, d.Name, parameter)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
				return err
			}
		}
		names = append(names, d.Name)
		notes = append(notes, d.notes()...)
	}
	fmt.Fprintln(out, strings.Join(names, ","))
	for _, note := range notes {
		fmt.Fprintln(out, "note:", note)
	}
	return nil
}

// parseDestinations reads a document and returns all its faults at once.
func parseDestinations(text []byte) ([]destination, error) {
	var all []destination
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&all); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is more after the array")
	}
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(all) == 0 {
		bad("there is no destination in it; a stack has at least one")
	}
	if len(all) > mostDestinations {
		bad("%d destinations; a stack has at most %d", len(all), mostDestinations)
	}
	seen := map[string]string{}
	for _, name := range reserved {
		seen[name] = "a name that the stack uses itself"
	}
	for i := range all {
		d := &all[i]
		if !destinationName.MatchString(d.Name) {
			bad("destination %d: destination_name %q; on AWS it is a letter and then letters and digits, at most 24", i, d.Name)
		}
		// Names of queues and functions may differ in case only, but people
		// would mix them up.
		key := strings.ToLower(d.Name)
		if taken := seen[key]; taken != "" {
			bad("destination %d: destination_name %q is %s", i, d.Name, taken)
		}
		seen[key] = "taken by one before it"
		switch d.Connector {
		case "":
			bad("%s: connector is missing", d.Name)
		case "sqlite":
			bad("%s: connector sqlite writes to a file on one machine; on AWS use postgres, or read the archive bucket", d.Name)
		}
		var settings map[string]json.RawMessage
		if len(d.Settings) == 0 {
			d.Settings = json.RawMessage("{}")
		}
		if err := json.Unmarshal(d.Settings, &settings); err != nil || settings == nil {
			bad("%s: settings is not a JSON object", d.Name)
		}
		if d.Retry.MaxAttempts < 0 {
			bad("%s: retry.max_attempts is %d", d.Name, d.Retry.MaxAttempts)
		}
		for _, delay := range []struct{ name, value string }{{"base_delay", d.Retry.BaseDelay}, {"max_delay", d.Retry.MaxDelay}} {
			if parsed, err := time.ParseDuration(delay.value); delay.value != "" && (err != nil || parsed <= 0) {
				bad("%s: retry.%s is %q; right would be a duration such as \"10s\"", d.Name, delay.name, delay.value)
			}
		}
		if d.Ambiguous != "" && d.Ambiguous != "retry" && d.Ambiguous != "dead" {
			bad("%s: ambiguous is %q; right would be \"retry\" or \"dead\"", d.Name, d.Ambiguous)
		}
		if n := len(d.parameters()["settings"]); n > mostValue {
			bad("%s: settings has %d bytes; SSM keeps at most %d", d.Name, n, mostValue)
		}
	}
	return all, errors.Join(faults...)
}

// parameters returns the values of /sluice/ENVIRONMENT/NAME/PARAMETER. What the
// document leaves out is what package delivery does without it.
func (d *destination) parameters() map[string]string {
	or := func(value, fallback string) string {
		if value == "" || value == "0" {
			return fallback
		}
		return value
	}
	var settings bytes.Buffer
	if err := json.Compact(&settings, d.Settings); err != nil {
		settings.Write(d.Settings) // it has been reported
	}
	return map[string]string{
		"connector":          d.Connector,
		"settings":           settings.String(),
		"retry-max-attempts": or(strconv.Itoa(d.Retry.MaxAttempts), "350"),
		"retry-base-delay":   or(d.Retry.BaseDelay, "1s"),
		"retry-max-delay":    or(d.Retry.MaxDelay, "10m"),
		"ambiguous":          or(d.Ambiguous, "dead"),
	}
}

// notes returns what is in the entry and has no effect on AWS.
func (d *destination) notes() []string {
	var notes []string
	for _, member := range []struct {
		name  string
		value json.RawMessage
	}{{"concurrency", d.Concurrency}, {"rate", d.Rate}, {"start", d.Start}} {
		if len(member.value) > 0 {
			notes = append(notes, fmt.Sprintf("%s: %s has no effect on AWS", d.Name, member.name))
		}
	}
	return notes
}
