package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cost"
)

// CostOptions are what the cost command is asked for.
type CostOptions struct {
	cost.Config
	// Prices and Counts are files in place of those of this build; "" is none.
	Prices, Counts string
	JSON, Explain  bool
}

// DefaultCost returns the options of the table in docs/cost.md.
func DefaultCost() CostOptions { return CostOptions{Config: cost.Default()} }

// Cost prints what a million events cost on AWS.
func Cost(o CostOptions, out io.Writer) error {
	prices, err := readOr(o.Prices, "prices", cost.EmbeddedPrices, cost.ReadPrices)
	if err != nil {
		return err
	}
	counts, err := readOr(o.Counts, "counts", cost.EmbeddedCounts, cost.ReadCounts)
	if err != nil {
		return err
	}
	report, err := cost.Make(o.Config, prices, counts)
	if err != nil {
		return err
	}
	if o.JSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	if err := report.WriteText(out); err != nil || !o.Explain {
		return err
	}
	return report.WriteExplanation(out)
}

// readOr reads a file, or takes what the build holds if none is named.
func readOr[T any](name, what string, embedded func() (T, error), read func(io.Reader) (T, error)) (value T, err error) {
	if name == "" {
		return embedded()
	}
	file, err := os.Open(name)
	if err != nil {
		return value, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if value, err = read(file); err != nil {
		return value, fmt.Errorf("%s %s:\n  %s", what, name, strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return value, nil
}

// CostMeasurement says what the log of a function is of.
type CostMeasurement = cost.Measurement

// MeasureCost reads the log of a function and prints the members of the file of
// counts that follow from it.
func MeasureCost(m CostMeasurement, log io.Reader, out io.Writer) error {
	m.Date = time.Now()
	sample, err := cost.ReadLog(log)
	if err != nil {
		return err
	}
	text, err := m.Members(sample)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}
