package app

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/eventsluice/sluice/internal/cloud/destination"
	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/catalog"
	"github.com/eventsluice/sluice/internal/connector/settings"
	"github.com/eventsluice/sluice/internal/connector/sqlite"
)

// connectors are the connectors of this build, by the name that a destination
// gives in its field "connector".
var connectors = sync.OnceValue(func() catalog.Catalog {
	all := destination.Catalog()
	all.Add(sqlite.Spec())
	return all
})

// describedConnector is a connector in the output of ListConnectors.
type describedConnector struct {
	Kind     string             `json:"connector"`
	Summary  string             `json:"summary"`
	Dedup    string             `json:"dedup"`
	Order    string             `json:"order"`
	Limits   string             `json:"limits"`
	Settings []describedSetting `json:"settings"`
}

type describedSetting struct {
	Name     string          `json:"name"`
	Type     string          `json:"type"`
	Required bool            `json:"required,omitempty"`
	Default  json.RawMessage `json:"default,omitempty"`
	Doc      string          `json:"doc"`
}

func describeConnector(spec connector.Spec) describedConnector {
	d := describedConnector{Kind: spec.Kind, Summary: spec.Summary, Dedup: spec.Dedup, Order: spec.Order, Limits: spec.Limits}
	for _, f := range settings.Describe(spec.Settings) {
		d.Settings = append(d.Settings, describedSetting{Name: f.Name, Type: f.Type, Required: f.Required, Default: json.RawMessage(f.Default), Doc: f.Doc})
	}
	return d
}

// ListConnectors prints the connectors that there are, or all about one of them:
// its settings, and what its destination can do.
func ListConnectors(kind string, asJSON bool, out io.Writer) error {
	if kind == "" {
		return listConnectors(asJSON, out)
	}
	spec, ok := connectors()[kind]
	if !ok {
		return fmt.Errorf("there is no connector %q; there are %s", kind, strings.Join(connectors().Kinds(), ", "))
	}
	d := describeConnector(spec)
	if asJSON {
		return writeIndented(out, d)
	}
	fmt.Fprintf(out, "%s: %s\n\n", d.Kind, d.Summary)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, fact := range [][2]string{{"duplicates", d.Dedup}, {"order", d.Order}, {"limits", d.Limits}} {
		fmt.Fprintf(w, "%s\t%s\n", fact[0], fact[1])
	}
	fmt.Fprintln(w, "\nSETTING\tDEFAULT\tMEANING")
	for _, s := range d.Settings {
		value := cmp.Or(string(s.Default), "-")
		if s.Required {
			value = "required"
		}
		fmt.Fprintf(w, "%s\t%s\t%s (%s)\n", s.Name, value, s.Doc, s.Type)
	}
	return w.Flush()
}

func listConnectors(asJSON bool, out io.Writer) error {
	all := []describedConnector{}
	for _, spec := range connectors().Specs() {
		all = append(all, describeConnector(spec))
	}
	if asJSON {
		return writeIndented(out, all)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONNECTOR\tEVENTS GO TO\tDUPLICATES ARE KNOWN BY")
	for _, d := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", d.Kind, d.Summary, d.Dedup)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "\nSettings and limits of one: sluice connectors KIND")
	return err
}

// writeIndented prints a value as JSON for a person or a program.
func writeIndented(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
