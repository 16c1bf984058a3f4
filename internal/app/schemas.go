package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/eventsluice/sluice/internal/connector/sqlite"
	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/schema"
)

const (
	// violationsFile keeps the groups of violations; it is written every
	// violationsInterval, if there were new ones, and at the end: a crash
	// forgets the last of them.
	violationsFile     = "violations.json"
	violationsInterval = 30 * time.Second

	defaultViolations = 100
)

// loadViolations goes on with the tally that the last process has kept. What
// cannot be read is no reason not to start: it is told and begun anew.
func (p *program) loadViolations() {
	p.tally = schema.NewTally()
	name := filepath.Join(p.settings.DataDir, violationsFile)
	text, err := os.ReadFile(name)
	if err == nil {
		err = p.tally.Load(text)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.log.Warn("violations of schemas begin anew: those of the last process cannot be read", "file", name, "error", err)
	}
}

func (p *program) saveViolations() error {
	return p.tally.Keep(func(text []byte) error {
		return document.WriteFile(filepath.Join(p.settings.DataDir, violationsFile), text)
	})
}

// violationsPage is the answer of GET /api/violations.
type violationsPage struct {
	// Violations are groups, the last seen first; Total is how many there are.
	Violations []schema.Group `json:"violations"`
	Total      int            `json:"total"`
}

func (p *program) violations(w http.ResponseWriter, r *http.Request) {
	limit, err := queryInt(r, "limit", defaultViolations, schema.MostGroups)
	if err != nil {
		writeProblem(w, err)
		return
	}
	var page violationsPage
	page.Violations, page.Total = p.tally.Groups(r.URL.Query().Get("name"), limit)
	writeJSON(w, page)
}

// PrintViolations prints the violations that the running process has seen, of
// one event name or all.
func PrintViolations(ctx context.Context, s Settings, name string, limit int, asJSON bool, out io.Writer) error {
	c, err := dialRunning(ctx, s)
	if err != nil {
		return err
	}
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if name != "" {
		query.Set("name", name)
	}
	var page violationsPage
	if err := c.get(ctx, "/api/violations", query, &page); err != nil {
		return err
	}
	if asJSON {
		return writeIndented(out, page)
	}
	if len(page.Violations) == 0 {
		fmt.Fprintln(out, "no violations")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SCHEMA\tMODE\tPLACE\tRULE\tEXPECTED\tGOT\tEVENTS\tLAST SEEN\tSOURCES\tSDKS\tEXAMPLE")
	for _, g := range page.Violations {
		sdks := make([]string, 0, len(g.SDKs))
		for _, sdk := range g.SDKs {
			sdks = append(sdks, strings.TrimSpace(sdk.Name+" "+sdk.Version))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", printable(schema.Label(g.Name, g.Version)), g.Mode, printable(g.Pointer), g.Rule,
			printable(clip(g.Expected, 60)), printable(g.Example.Got), g.Count, g.LastSeen.UTC().Format(time.RFC3339),
			dash(printable(strings.Join(g.Sources, ","))), dash(printable(clip(strings.Join(sdks, ", "), 80))), dash(printable(g.Example.EventID)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if more := page.Total - len(page.Violations); more > 0 {
		fmt.Fprintf(out, "%d more; see --limit\n", more)
	}
	return nil
}

// Input is a file, by its name, that a command has read.
type Input struct {
	Name string
	Text []byte
}

// CheckSchemas says on out what is wrong with documents of schemas, and in what
// events are not what the document of the settings says. It returns ErrSaid if
// anything is wrong.
func CheckSchemas(ctx context.Context, s Settings, inputs []Input, out io.Writer) error {
	var set *schema.Set
	bad := false
	for _, in := range inputs {
		if isSchemas(in.Text) {
			bad = !checkDocument(in, out) || bad
			continue
		}
		if set == nil {
			doc, err := ReadDocument(ctx, s.Schemas)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("no schemas document at %s: `sluice up` makes one, --schemas names another", s.Schemas)
			}
			if err != nil {
				return err
			}
			if set, err = schema.Parse(doc); err != nil {
				return fmt.Errorf("schemas %s:\n%w", s.Schemas, err)
			}
		}
		good, err := checkEvents(in, set, out)
		if err != nil {
			return fmt.Errorf("%s: %w", in.Name, err)
		}
		bad = !good || bad
	}
	if bad {
		return ErrSaid
	}
	return nil
}

// isSchemas tells a document of schemas from events: it has schemas and no name.
func isSchemas(text []byte) bool {
	found := false
	err := event.Members(bytes.TrimPrefix(bytes.TrimSpace(text), []byte("\xef\xbb\xbf")), func(name string, _ []byte) bool {
		found = found || name == "schemas"
		return name != "name" && name != "events"
	})
	return err == nil && found
}

func checkDocument(in Input, out io.Writer) bool {
	set, faults, hints := schema.Check(in.Text)
	for _, h := range hints {
		fmt.Fprintf(out, "%s: hint: %v\n", in.Name, h)
	}
	if len(faults) > 0 {
		for line := range strings.Lines(faults.Error() + "\n") {
			fmt.Fprintf(out, "%s: %s", in.Name, line)
		}
		return false
	}
	fmt.Fprintf(out, "%s: %d schemas, no faults\n", in.Name, set.Len())
	return true
}

// checkEvents says what is wrong with each event, and how many there were.
func checkEvents(in Input, set *schema.Set, out io.Writer) (good bool, err error) {
	var right, wrong, without, unread int
	var r schema.Report
	err = eventsIn(in.Text, func(n int, ev *event.Event, invalid *event.Invalid) {
		where := fmt.Sprintf("%s: event %d", in.Name, n)
		if invalid != nil {
			unread++
			fmt.Fprintf(out, "%s: %s\n", where, printable(invalid.Error()))
			return
		}
		where += " " + printable(ev.Name)
		if ev.ID != "" {
			where += " " + printable(ev.ID)
		}
		switch e := set.Check(ev, &r); {
		case e == nil && set.Has(ev.Name):
			right++
		case e == nil:
			without++
		default:
			wrong++
			for i := range r.Violations {
				v := &r.Violations[i]
				fmt.Fprintf(out, "%s: %s %s (schema %s, %s)\n", where, printable(v.Pointer), printable(v.Detail()), printable(e.Label()), e.Mode)
			}
		}
	})
	if err != nil {
		return false, err
	}
	fmt.Fprintf(out, "%s: %d events: %d as their schema says, %d not, %d without a schema, %d unreadable\n",
		in.Name, right+wrong+without+unread, right, wrong, without, unread)
	return wrong+unread == 0, nil
}

// eventsIn calls yield for the events of a file, counted from 1: JSON lines, an
// array, an object with "events", or one event.
func eventsIn(text []byte, yield func(n int, ev *event.Event, invalid *event.Invalid)) error {
	var r event.SentReader
	r.Reset(text, event.FormOf(bytes.TrimLeft(text, "\r\n\t ")), event.Limits{})
	var ev event.Event
	for n := 1; ; n++ {
		ok, invalid, _ := r.Next(&ev)
		if !ok {
			return r.Err()
		}
		yield(n, &ev, invalid)
	}
}

// InferOptions say what schemas are inferred from.
type InferOptions struct {
	// Name, if not empty, is the only event name.
	Name string
	// From is where the events are: "" is the running process, FromWarehouse the
	// embedded warehouse; Input is a file in place of both.
	From  string
	Input *Input
	// Seen is how many events have to have a member before it is required.
	Seen int
	// Limit is the most events of the warehouse, the newest.
	Limit int
}

// DefaultSeen is InferOptions.Seen unless somebody says otherwise.
const DefaultSeen = schema.DefaultSeen

// FromWarehouse is InferOptions.From for the embedded warehouse.
const FromWarehouse = "warehouse"

// InferSchemas prints a document of schemas that the events seen agree with, in
// mode observe. What was left out is said on errs.
func InferSchemas(ctx context.Context, s Settings, o InferOptions, out, errs io.Writer) error {
	in := &schema.Inference{Seen: o.Seen}
	events, unread := 0, 0
	add := func(ev *event.Event) {
		if o.Name == "" || ev.Name == o.Name {
			events++
			in.Add(ev)
		}
	}
	var err error
	switch {
	case o.Input != nil:
		err = eventsIn(o.Input.Text, func(_ int, ev *event.Event, invalid *event.Invalid) {
			if invalid != nil {
				unread++
				return
			}
			add(ev)
		})
	case o.From == FromWarehouse:
		err = eventsOfWarehouse(ctx, s, o, add)
	default:
		err = eventsOfProcess(ctx, s, add)
	}
	if err != nil {
		return err
	}
	if unread > 0 {
		fmt.Fprintf(errs, "%d events cannot be read and were left out\n", unread)
	}
	if in.Skipped > 0 {
		fmt.Fprintf(errs, "%d events were left out: of versions that cannot be named, or of too many names\n", in.Skipped)
	}
	if events == 0 {
		return errors.New("there are no events to infer schemas from")
	}
	doc, err := in.Document()
	if err != nil {
		return err
	}
	_, err = out.Write(doc)
	return err
}

// eventsOfProcess calls add for the newest events of the running process.
func eventsOfProcess(ctx context.Context, s Settings, add func(*event.Event)) error {
	c, err := dialRunning(ctx, s)
	if err != nil {
		return err
	}
	var page struct {
		Events []storedEvent `json:"events"`
	}
	if err := c.get(ctx, "/api/events", url.Values{"limit": {strconv.Itoa(mostEvents)}}, &page); err != nil {
		return err
	}
	for i := len(page.Events) - 1; i >= 0; i-- { // in the order in which they came
		ev, err := event.ParseStored(page.Events[i].Event)
		if err != nil {
			continue // another writer's, and no event to the router either
		}
		add(&ev)
	}
	return nil
}

// eventsOfWarehouse calls add for the newest events of the embedded warehouse.
func eventsOfWarehouse(ctx context.Context, s Settings, o InferOptions, add func(*event.Event)) error {
	path := sqlite.PathOf(nil, s.DataDir)
	if destinations, err := readDestinations(ctx, s); err == nil {
		for _, d := range slices.Backward(destinations) { // the first counts
			if d.Connector == sqlite.Kind {
				path = sqlite.PathOf(d.Settings, s.DataDir)
			}
		}
	}
	return sqlite.Read(ctx, path, o.Name, o.Limit, func(ev *event.Event) error {
		add(ev)
		return nil
	})
}
