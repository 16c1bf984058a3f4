package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
)

// errNotRunning says that no process runs on the data folder.
var errNotRunning = errors.New("no sluice is running here")

// errNoAnswer says that a request to the admin API was not answered.
var errNoAnswer = errors.New("the admin API does not answer")

// client speaks to the admin API of a running process.
type client struct {
	base  string
	token string
	http  *http.Client
}

// dial finds the process that runs on the data folder of the settings. It
// returns errNotRunning if there is none.
func dial(ctx context.Context, s Settings) (*client, error) {
	place, err := readRunFile(s.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNotRunning
	}
	if err != nil {
		return nil, err
	}
	c := &client{base: place.Admin, token: s.AdminToken, http: &http.Client{}}
	probe, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = c.get(probe, "/livez", nil, nil)
	if errors.Is(err, errNoAnswer) {
		// A process that was killed leaves its file behind.
		return nil, errNotRunning
	}
	return c, err
}

// dialRunning is dial for commands that can do nothing without such a process.
func dialRunning(ctx context.Context, s Settings) (*client, error) {
	c, err := dial(ctx, s)
	if errors.Is(err, errNotRunning) {
		err = fmt.Errorf("%w: nothing answers for the data folder %s", err, s.DataDir)
	}
	return c, err
}

// get makes one request and decodes its answer. An answer that is not 2xx
// becomes the fault that its problem document names.
func (c *client) get(ctx context.Context, path string, query url.Values, into any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	response, err := c.open(ctx, http.MethodGet, path, nil, "application/json")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// open makes a request and returns its answer, which is 2xx.
func (c *client) open(ctx context.Context, method, path string, body any, accept string) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accept)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, errors.Join(errNoAnswer, err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	var p problem
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAdminBody)).Decode(&p); err != nil || p.Detail == "" {
		return nil, fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	return nil, p.fault()
}

// fault is the error that a problem document was made of.
func (p *problem) fault() error {
	for kind, status := range statusOf {
		if status == p.Status {
			return &fault.Error{Kind: kind, Err: errors.New(strings.TrimPrefix(p.Detail, kind.String()+": "))}
		}
	}
	return errors.New(p.Detail)
}

// PrintLedger prints the ledger of the running process, as JSON if asked to.
// It returns ErrSaid if the ledger has a residual.
func PrintLedger(ctx context.Context, s Settings, asJSON bool, out io.Writer) error {
	c, err := dialRunning(ctx, s)
	if err != nil {
		return err
	}
	var statement ledger.Statement
	if err := c.get(ctx, "/api/ledger", nil, &statement); err != nil {
		return err
	}
	if asJSON {
		err = writeIndented(out, statement)
	} else {
		err = writeLedger(out, statement)
	}
	if err == nil && statement.Residual != 0 {
		return ErrSaid
	}
	return err
}

func writeLedger(out io.Writer, s ledger.Statement) error {
	fmt.Fprintf(out, "received %d = rejected %d + accepted %d", s.Received, s.Rejected, s.Accepted)
	if s.InFlight > 0 {
		fmt.Fprintf(out, " + in flight %d", s.InFlight)
	}
	fmt.Fprintf(out, "; stored %d; spooled %d", s.Stored, s.Spooled)
	if s.Refused > 0 {
		fmt.Fprintf(out, "; refused %d", s.Refused)
	}
	if s.Duplicates > 0 {
		fmt.Fprintf(out, "; duplicates %d", s.Duplicates)
	}
	fmt.Fprintf(out, "; residual %d\n", s.Residual)
	if len(s.Destinations) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	names := make([]string, 0, len(s.Destinations))
	for name := range s.Destinations {
		names = append(names, name)
	}
	slices.Sort(names)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "destination\trouted\tfiltered\tdelivered\tretrying\twaiting\tdead\tunrouted\tskipped\tpurged\treplayed\t")
	for _, name := range names {
		d := s.Destinations[name]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", name,
			d.Routed, d.Filtered, d.Delivered, d.Retrying, d.Waiting, d.Dead, d.Unrouted, d.Skipped, d.Purged, d.Replayed)
	}
	return w.Flush()
}

// dataFolderExists tells a folder that was never used from one that is idle.
func dataFolderExists(s Settings) error {
	if _, err := os.Stat(s.DataDir); err != nil {
		return fmt.Errorf("%w, and there is no data folder: %w", errNotRunning, err)
	}
	return nil
}
