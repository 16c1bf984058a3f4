package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/letters"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/engine"
)

// remoteDesk is the Desk of a running process, through its admin API.
type remoteDesk struct {
	*client
	path string // deadPath or quarantinePath
}

var _ deadletter.Desk = remoteDesk{}

func (d remoteDesk) List(ctx context.Context, destination string, f deadletter.Filter, after uint64, limit int) (page deadletter.Page, err error) {
	query := filterQuery(f)
	query.Set("limit", strconv.Itoa(min(limit, mostLetters)))
	if destination != "" {
		query.Set("destination", destination)
	}
	if after > 0 {
		query.Set("after", strconv.FormatUint(after, 10))
	}
	err = d.get(ctx, d.path, query, &page)
	return page, err
}

func (d remoteDesk) Get(ctx context.Context, destination, id string) (letter deadletter.Letter, err error) {
	path := d.path
	if destination != "" {
		path += "/" + url.PathEscape(destination)
	}
	err = d.get(ctx, path+"/"+url.PathEscape(id), nil, &letter)
	return letter, err
}

func (d remoteDesk) Replay(ctx context.Context, destination string, o deadletter.Order, report func(deadletter.Progress)) (deadletter.Progress, error) {
	return d.carryOut(ctx, "/replay", order{Destination: destination, Order: o}, report)
}

func (d remoteDesk) Purge(ctx context.Context, destination string, o deadletter.Order, report func(deadletter.Progress)) (deadletter.Progress, error) {
	return d.carryOut(ctx, "/purge", order{Destination: destination, Order: o}, report)
}

func (d remoteDesk) carryOut(ctx context.Context, what string, o order, report func(deadletter.Progress)) (deadletter.Progress, error) {
	var last step
	response, err := d.open(ctx, http.MethodPost, d.path+what, o, jsonLines)
	if err != nil {
		return last.Progress, err
	}
	defer response.Body.Close()
	lines := json.NewDecoder(response.Body)
	for {
		var next step
		if err := lines.Decode(&next); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return last.Progress, errors.Join(errNoAnswer, err)
		}
		last = next
		if report != nil {
			report(last.Progress)
		}
	}
	if last.Problem != nil {
		return last.Progress, last.Problem.fault()
	}
	return last.Progress, nil
}

// DeskOptions say which desk is opened, and what for.
type DeskOptions struct {
	// Destination decides where the desk is: a queue on AWS has one of its own.
	Destination string
	// Quarantine is that of the rejected events.
	Quarantine bool
	// Visibility and Redeem are those of letters.Options; they mean something
	// on AWS.
	Visibility time.Duration
	Redeem     bool
	// Notices, if not nil, gets what is good to know at the end.
	Notices io.Writer
}

// Validate reports what cannot be used.
func (o DeskOptions) Validate() error { return o.letters().Validate() }

func (o DeskOptions) letters() letters.Options {
	return letters.Options{Visibility: o.Visibility, Redeem: o.Redeem}
}

// OpenDesk returns the Desk of the dead letters, or of the quarantine: of the
// queue on AWS that the destination names, of the process that runs on the data
// folder, or of the folder itself if none does. close frees what it holds.
func OpenDesk(ctx context.Context, s Settings, o DeskOptions) (desk deadletter.Desk, close func() error, err error) {
	if !o.Quarantine && letters.IsName(o.Destination) {
		return openCloudDesk(ctx, s, o)
	}
	c, err := dial(ctx, s)
	if err == nil {
		path := deadPath
		if o.Quarantine {
			path = quarantinePath
		}
		return remoteDesk{client: c, path: path}, func() error { return nil }, nil
	}
	if !errors.Is(err, errNotRunning) {
		return nil, nil, err
	}
	if err := dataFolderExists(s); err != nil {
		return nil, nil, err
	}
	e, err := engine.Open(ctx, engineConfig(s), quietLogger())
	if err != nil {
		return nil, nil, err
	}
	closeEngine := func() error { return e.Close(context.WithoutCancel(ctx)) }
	if o.Quarantine {
		return quarantineDesk{queue: e.Quarantine()}, closeEngine, nil
	}
	return idleDesk{e}, closeEngine, nil
}

// openCloudDesk returns the Desk of dead letters on AWS.
func openCloudDesk(ctx context.Context, s Settings, o DeskOptions) (deadletter.Desk, func() error, error) {
	setup := letters.Setup{Rules: s.Rules, Log: quietLogger()}
	if name, ok := s.kinesisName(); ok {
		setup.Stream = name
	}
	clients, err := letters.Dial(ctx, setup)
	if err != nil {
		return nil, nil, err
	}
	desk, err := letters.NewDesk(clients, o.letters())
	if err != nil {
		return nil, nil, err
	}
	return desk, func() error {
		if n := desk.Elsewhere(); n > 0 && o.Notices != nil {
			fmt.Fprintf(o.Notices, "about %d messages of the queue are held by somebody else, or an answer of SQS was lost: they come back within the visibility timeout, so look again\n", n)
		}
		return desk.Close(ctx)
	}, nil
}
