package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/eventsluice/sluice/internal/doctor"
	"github.com/eventsluice/sluice/internal/edge/source"
)

// DoctorOptions is what `sluice doctor` asks for.
type DoctorOptions struct {
	// Gateway is the address that the page sends to; "" for the gateway that
	// runs on the data folder.
	Gateway string
	// Origin is that of the page, Key what it sends with.
	Origin, Key string
}

// ErrNoGateway says that it is not known which gateway to look at.
var ErrNoGateway = errors.New("no sluice runs on the data folder: say with --gateway where one is")

// Examination is one look at a gateway, as a browser meets it.
type Examination struct{ config doctor.Config }

// NewExamination finds what to look at. The error says what is wrong with the
// options.
func NewExamination(ctx context.Context, s Settings, o DoctorOptions) (*Examination, error) {
	c := doctor.Config{Gateway: o.Gateway, Origin: o.Origin, Key: o.Key}
	if place, err := readRunFile(s.DataDir); err == nil {
		c.Direct = place.Gateway
	}
	if c.Gateway == "" {
		if c.Gateway = c.Direct; c.Gateway == "" {
			return nil, ErrNoGateway
		}
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	// The document helps to say what would have to change. Without one, or with
	// one that is bad, the gateway is looked at all the same.
	if document, err := ReadDocument(ctx, s.Keys); err == nil {
		if keys, err := source.Parse(document, nil); err == nil {
			c.Keys, c.KeysName = keys, s.Keys
		}
	}
	return &Examination{c}, nil
}

// Run looks at the gateway and prints what it finds. It returns ErrSaid if
// anything fails.
func (x *Examination) Run(ctx context.Context, out io.Writer) error {
	var counts [doctor.Failure + 1]int
	doctor.Run(ctx, x.config, func(f doctor.Finding) {
		counts[f.Level]++
		printFinding(out, f)
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%d ok, %d warnings, %d fail\n", counts[doctor.OK], counts[doctor.Warning], counts[doctor.Failure])
	if counts[doctor.Failure] > 0 {
		return ErrSaid
	}
	return nil
}

// printFinding prints a line, and what there is to say of it below.
func printFinding(out io.Writer, f doctor.Finding) {
	fmt.Fprintf(out, "%-8s %s: %s\n", f.Level, f.Check, printable(f.Text))
	for _, more := range []struct{ name, text string }{{"browser", f.Browser}, {"why", f.Why}, {"change", f.Change}} {
		if more.text != "" {
			fmt.Fprintf(out, "         %-8s %s\n", more.name, printable(more.text))
		}
	}
}
