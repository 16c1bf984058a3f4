package app

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/event"
)

// readDestinations reads the destinations document of the settings.
func readDestinations(ctx context.Context, s Settings) ([]Destination, error) {
	doc, err := ReadDocument(ctx, s.Destinations)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no destinations document %s: start `sluice up` once, or give --destinations", s.Destinations)
	}
	if err != nil {
		return nil, err
	}
	destinations, err := ParseDestinations(doc, s.DataDir)
	if err != nil {
		return nil, fmt.Errorf("destinations %s:\n%w", s.Destinations, err)
	}
	return destinations, nil
}

// ListDestinations prints how each destination is: of the running process, or,
// if none runs, what the document says.
func ListDestinations(ctx context.Context, s Settings, asJSON bool, out io.Writer) error {
	c, err := dial(ctx, s)
	if errors.Is(err, errNotRunning) {
		destinations, err := readDestinations(ctx, s)
		if err != nil {
			return err
		}
		return listIdle(destinations, asJSON, out)
	}
	if err != nil {
		return err
	}
	var answer struct {
		Destinations []destinationStatus `json:"destinations"`
	}
	if err := c.get(ctx, "/api/destinations", nil, &answer); err != nil {
		return err
	}
	if asJSON {
		return writeIndented(out, answer.Destinations)
	}
	now := time.Now()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DESTINATION\tCONNECTOR\tSTATE\tEVENTS/S\tSUCCESS\tOLDEST WAITING\tREASON OR LAST ERROR")
	for _, d := range answer.Destinations {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Name, d.Connector, d.State,
			rateText(d.Rate), shareText(d.SuccessShare), ageText(now, d.OldestUnsettled), dash(printable(clip(cmp.Or(d.Reason, d.LastError), 120))))
	}
	return w.Flush()
}

func rateText(perSecond float64) string { return fmt.Sprintf("%.1f", perSecond) }

func shareText(share *float64) string {
	if share == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100**share)
}

func ageText(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return now.Sub(then).Round(time.Second).String()
}

// listIdle prints destinations that nobody delivers to now.
func listIdle(destinations []Destination, asJSON bool, out io.Writer) error {
	type idle struct {
		Name      string `json:"destination_name"`
		Connector string `json:"connector"`
		State     string `json:"state"`
	}
	all := make([]idle, len(destinations))
	for i, d := range destinations {
		all[i] = idle{d.Name, d.Connector, "not running"}
	}
	if asJSON {
		return writeIndented(out, all)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DESTINATION\tCONNECTOR\tSTATE")
	for _, d := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", d.Name, d.Connector, d.State)
	}
	return w.Flush()
}

// OperateDestination pauses or resumes a destination of the running process.
// The reason of a pause may be empty.
func OperateDestination(ctx context.Context, s Settings, name, verb, reason string, out io.Writer) error {
	c, err := dialRunning(ctx, s)
	if err != nil {
		return err
	}
	response, err := c.open(ctx, http.MethodPost, "/api/destinations/"+url.PathEscape(name)+"/"+verb, pauseOrder{reason}, "application/json")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var status destinationStatus
	if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is %s", name, status.State)
	if status.Reason != "" {
		fmt.Fprintf(out, ": %s", printable(status.Reason))
	}
	_, err = fmt.Fprintln(out)
	return err
}

// callPatience bounds one check or test of a destination.
const callPatience = 2 * time.Minute

// CheckDestinations says of each destination of the document, or of the one that
// is named, whether its settings are right and, where the destination can be
// asked without sending an event, what it says. It returns ErrSaid if one is not
// well.
func CheckDestinations(ctx context.Context, s Settings, name string, out io.Writer) error {
	destinations, err := readDestinations(ctx, s)
	if err != nil {
		return err
	}
	if name != "" {
		d, err := find(destinations, name)
		if err != nil {
			return err
		}
		destinations = []Destination{*d}
	}
	well := true
	for i := range destinations {
		d := &destinations[i]
		result, asked, err := d.check(ctx, s.DataDir)
		switch {
		case err != nil:
			return fmt.Errorf("destination %q: %w", d.Name, err)
		case !asked:
			fmt.Fprintf(out, "%s (%s): the settings are right; a %s cannot be asked without an event: sluice destinations test %s\n", d.Name, d.Connector, d.Connector, d.Name)
		case result.Class.Settled():
			fmt.Fprintf(out, "%s (%s): ok: %s\n", d.Name, d.Connector, printable(cmp.Or(result.Message, "the destination takes the credentials")))
		default:
			well = false
			fmt.Fprintf(out, "%s (%s): %s: %s\n", d.Name, d.Connector, result.Class, printable(result.Message))
		}
	}
	if !well {
		return ErrSaid
	}
	return nil
}

// check asks a destination without sending an event, if it can be asked.
func (d *Destination) check(ctx context.Context, dataDir string) (result connector.Result, asked bool, err error) {
	conn, err := d.connect(dataDir, quietLogger())
	if err != nil {
		return result, false, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	checker, ok := conn.(connector.Checker)
	if !ok {
		return result, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	return checker.Check(ctx), true, nil
}

func find(destinations []Destination, name string) (*Destination, error) {
	if i := slices.IndexFunc(destinations, func(d Destination) bool { return d.Name == name }); i >= 0 {
		return &destinations[i], nil
	}
	var names []string
	for _, d := range destinations {
		names = append(names, d.Name)
	}
	return nil, fmt.Errorf("there is no destination %q; the document has %s", name, cmp.Or(strings.Join(names, ", "), "none"))
}

// testEvent is what TryDestination sends if it is given no event.
const testEvent = `{"name":"sluice_test","user_id":"sluice-test","data":{"test":true,"sent_by":"sluice destinations test"},` +
	`"context":{"traits":{"email":"sluice-test@example.com"}}}`

// TryDestination sends an event to a destination, past the stream and its
// account, and explains the answer. sent is the event as a sender writes it; nil
// is a marked test event. It returns ErrSaid if the destination does not have the
// event afterwards.
func TryDestination(ctx context.Context, s Settings, name string, sent []byte, out io.Writer) (err error) {
	destinations, err := readDestinations(ctx, s)
	if err != nil {
		return err
	}
	d, err := find(destinations, name)
	if err != nil {
		return err
	}
	if sent == nil {
		sent = []byte(testEvent)
	}
	ev, err := event.ParseSent(bytes.TrimSpace(sent), event.Limits{})
	if err != nil {
		return fmt.Errorf("the event: %w", err)
	}
	now := time.Now().UTC().Format(time.RFC3339Nano)
	ev.ID, ev.ReceivedAt = cmp.Or(ev.ID, event.NewID()), now
	ev.Timestamp = cmp.Or(ev.Timestamp, now)
	conn, err := d.connect(s.DataDir, quietLogger())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	stored := ev.Append(nil)
	fmt.Fprintf(out, "event      %s\nto         %s (%s@%s)\n", stored, d.Name, conn.Kind(), conn.Version())
	result, kept, err := tryOut(ctx, conn, connector.Delivery{Event: ev, Raw: stored, Rule: "test", Attempt: 1})
	if err != nil {
		return err
	}
	explain(out, result, kept)
	if result.Class != connector.Delivered && result.Class != connector.Duplicate {
		return ErrSaid
	}
	return nil
}

// tryOut delivers one event, or tries it in the way that its destination has for
// that; then the destination does not keep it.
func tryOut(ctx context.Context, conn connector.Connector, d connector.Delivery) (result connector.Result, kept bool, err error) {
	if tester, ok := conn.(connector.Tester); ok {
		return tester.Test(ctx, d), false, nil
	}
	g := guard.New(conn, 1, nil, quietLogger())
	plan, err := g.Plan([]connector.Delivery{d})
	if err != nil {
		return result, true, err
	}
	if len(plan.Done) > 0 {
		return plan.Done[0].Result, true, nil
	}
	results, _ := g.Send(ctx, plan.Calls[0])
	if len(results) == 0 {
		return result, true, ctx.Err()
	}
	return results[0], true, nil
}

// meanings say what Sluice does about an outcome.
var meanings = map[connector.Class]string{
	connector.Delivered: "the destination has the event",
	connector.Duplicate: "the destination had an event of this id, and ignores it",
	connector.Dropped:   "the mapping leaves such events out: they count as filtered",
	connector.Permanent: "such an event can never be accepted: it becomes a dead letter at once",
	connector.TooLarge:  "the event is too large for the destination: it becomes a dead letter",
	connector.Auth:      "credentials, address or schema are wrong: the destination pauses and keeps its events until that is corrected",
	connector.Throttled: "the destination asks for patience: events wait, and less is sent",
	connector.Retryable: "the destination could not take it now: the event is tried again, with growing pauses",
	connector.Ambiguous: "the answer was lost: the destination may have the event; it is sent again if the destination knows duplicates, and is a dead letter otherwise",
}

func explain(out io.Writer, r connector.Result, kept bool) {
	meaning := meanings[r.Class]
	if r.Class == connector.Delivered && !kept {
		meaning = "the destination would take the event; it was validated, and is not kept"
	}
	fmt.Fprintf(out, "outcome    %s: %s\n", r.Class, meaning)
	if r.Status != 0 {
		fmt.Fprintf(out, "status     %s\n", statusText(r.Status))
	}
	if r.Code != "" || r.Message != "" {
		fmt.Fprintf(out, "because    %s\n", printable(strings.TrimLeft(r.Code+": "+r.Message, ": ")))
	}
	if r.RetryAfter > 0 {
		fmt.Fprintf(out, "wait       %s\n", r.RetryAfter)
	}
	for _, part := range []struct{ name, text string }{{"request", r.Request}, {"answer", r.Response}} {
		if part.text != "" {
			fmt.Fprintf(out, "\n%s\n  %s\n", part.name, strings.ReplaceAll(strings.TrimSpace(lines(part.text)), "\n", "\n  "))
		}
	}
}

// lines is printable with its line breaks.
func lines(text string) string {
	parts := strings.Split(text, "\n")
	for i := range parts {
		parts[i] = printable(parts[i])
	}
	return strings.Join(parts, "\n")
}
