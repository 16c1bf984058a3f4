package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/eventsluice/sluice/internal/edge/source"
)

// NewKey is what `sluice keys new` asks for.
type NewKey struct {
	ID      string
	Kind    string
	Source  string
	Origins []string
	Events  []string
	Rate    float64
	Burst   int
	Expires time.Duration // zero: never
}

// AddKey makes a key, adds its hash to the keys document, and prints the key,
// which nobody can find out again.
func AddKey(ctx context.Context, s Settings, n NewKey, out io.Writer) error {
	var expires time.Time
	if n.Expires > 0 {
		expires = time.Now().Add(n.Expires).UTC().Truncate(time.Second)
	}
	entry, key := source.New(n.ID, source.Kind(n.Kind), expires)
	entry.Source, entry.Origins, entry.Events = n.Source, n.Origins, n.Events
	if n.Rate > 0 {
		entry.Rate = &source.Rate{PerSecond: n.Rate, Burst: n.Burst}
	}
	if !isObject(s.Keys) {
		if err := os.MkdirAll(filepath.Dir(s.Keys), 0o700); err != nil {
			return err
		}
	}
	if err := addKey(ctx, s.Keys, entry); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, key)
	return err
}

// ListKeys prints the keys document without anything secret.
func ListKeys(ctx context.Context, s Settings, out io.Writer) error {
	doc, err := ReadDocument(ctx, s.Keys)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no keys document at %s: `sluice up` or `sluice keys new` makes one", s.Keys)
	}
	if err != nil {
		return err
	}
	keys, err := source.Parse(doc, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Keys, err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tSOURCE\tSTATE\tORIGINS\tEVENTS\tRATE")
	for _, k := range keys.List() {
		rate := "-"
		if k.Rate != nil {
			rate = fmt.Sprintf("%g/s, burst %d", k.Rate.PerSecond, k.Rate.Burst)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Kind, k.Source, k.State(time.Now()), list(k.Origins), list(k.Events), rate)
	}
	return w.Flush()
}

func list(values []string) string {
	if len(values) == 0 {
		return "any"
	}
	return strings.Join(values, ",")
}
