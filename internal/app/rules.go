package app

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/eventsluice/sluice/internal/router"
)

// CheckRules says on out what is wrong with a rules document. It returns
// ErrSaid if the document cannot be used. Destinations are compared with the
// destinations document of the settings where there is one.
func CheckRules(ctx context.Context, doc []byte, s Settings, out io.Writer) error {
	var names []string
	if text, err := ReadDocument(ctx, s.Destinations); err == nil {
		destinations, err := ParseDestinations(text, s.DataDir)
		if err != nil {
			return fmt.Errorf("destinations %s: %w", s.Destinations, err)
		}
		names = make([]string, 0, len(destinations))
		for _, d := range destinations {
			names = append(names, d.Name)
		}
	}
	report := router.Check(doc, names)
	if _, err := report.WriteTo(out); err != nil {
		return err
	}
	if !report.OK() {
		return ErrSaid
	}
	return nil
}

// ExplainRules says on out which rules of a document want an event, which do
// not and why, and what would be sent.
func ExplainRules(doc, event []byte, out io.Writer) error {
	table, err := router.Parse(doc)
	if err != nil {
		return err
	}
	explanations, err := table.Explain(bytes.TrimSpace(event))
	if err != nil {
		return fmt.Errorf("the event: %w", err)
	}
	return router.WriteExplanations(out, explanations)
}
