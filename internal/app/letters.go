package app

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

const (
	defaultLetters = 100
	mostLetters    = 1000

	deadPath       = "/api/deadletters"
	quarantinePath = "/api/quarantine"

	jsonLines = "application/x-ndjson"
)

// order is the body of a replay or a purge.
type order struct {
	Destination string `json:"destination,omitempty"`
	deadletter.Order
}

// step is one line of the progress of an order.
type step struct {
	deadletter.Progress
	// Problem ends the progress of an order that failed.
	Problem *problem `json:"problem,omitempty"`
}

// handleLetters serves the dead letters and the quarantine, in the same way.
func (p *program) handleLetters(mux *http.ServeMux) {
	for path, desk := range map[string]deadletter.Desk{
		deadPath:       deadDesk{p},
		quarantinePath: quarantineDesk{queue: p.engine.Quarantine(), readmit: p.edge.Readmit},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { p.listLetters(w, r, path, desk) })
		mux.HandleFunc("POST "+path+"/replay", func(w http.ResponseWriter, r *http.Request) { carryOut(w, r, desk.Replay) })
		mux.HandleFunc("POST "+path+"/purge", func(w http.ResponseWriter, r *http.Request) { carryOut(w, r, desk.Purge) })
	}
	mux.HandleFunc("GET "+deadPath+"/{destination}/{id}", func(w http.ResponseWriter, r *http.Request) { showLetter(w, r, deadDesk{p}) })
	mux.HandleFunc("GET "+quarantinePath+"/{id}", func(w http.ResponseWriter, r *http.Request) {
		showLetter(w, r, quarantineDesk{queue: p.engine.Quarantine()})
	})
}

func (p *program) listLetters(w http.ResponseWriter, r *http.Request, path string, desk deadletter.Desk) {
	ctx := r.Context()
	f, err := parseFilter(r.URL.Query())
	if err != nil {
		writeProblem(w, err)
		return
	}
	limit, err := queryInt(r, "limit", defaultLetters, mostLetters)
	if err != nil {
		writeProblem(w, err)
		return
	}
	var after uint64
	if text := r.URL.Query().Get("after"); text != "" {
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			writeProblem(w, fault.New(fault.Invalid, "query after=%q: right would be the \"next\" of an earlier page", text))
			return
		}
	}
	destination := r.URL.Query().Get("destination")
	var page deadletter.Page
	if destination == "" && path == deadPath {
		page, err = p.allLetters(ctx, desk, f, limit)
	} else {
		page, err = desk.List(ctx, destination, f, after, limit)
	}
	if err != nil {
		writeProblem(w, err)
		return
	}
	writeJSON(w, page)
}

// allLetters lists the first letters of every destination.
func (p *program) allLetters(ctx context.Context, desk deadletter.Desk, f deadletter.Filter, limit int) (deadletter.Page, error) {
	all := deadletter.Page{Letters: []deadletter.Letter{}}
	names, err := p.engine.Destinations(ctx)
	if err != nil {
		return all, err
	}
	for _, name := range names {
		if len(all.Letters) == limit {
			break
		}
		page, err := desk.List(ctx, name, f, 0, limit-len(all.Letters))
		if err != nil {
			return all, err
		}
		all.Letters = append(all.Letters, page.Letters...)
	}
	return all, nil
}

func showLetter(w http.ResponseWriter, r *http.Request, desk deadletter.Desk) {
	letter, err := desk.Get(r.Context(), r.PathValue("destination"), r.PathValue("id"))
	if err != nil {
		writeProblem(w, err)
		return
	}
	writeJSON(w, letter)
}

// carryOut carries out an order and answers with its progress: all of it as
// JSON lines to who accepts them, the end of it to everybody else. A client
// that goes away interrupts the order; giving it again goes on.
func carryOut(w http.ResponseWriter, r *http.Request, act func(context.Context, string, deadletter.Order, func(deadletter.Progress)) (deadletter.Progress, error)) {
	var o order
	if err := readJSON(r, &o); err != nil {
		writeProblem(w, err)
		return
	}
	if !strings.Contains(r.Header.Get("Accept"), jsonLines) {
		progress, err := act(r.Context(), o.Destination, o.Order, nil)
		if err != nil {
			writeProblem(w, err)
			return
		}
		writeJSON(w, progress)
		return
	}
	w.Header().Set("Content-Type", jsonLines)
	lines, control := json.NewEncoder(w), http.NewResponseController(w)
	progress, err := act(r.Context(), o.Destination, o.Order, func(p deadletter.Progress) {
		_ = lines.Encode(step{Progress: p}) // a client that has gone needs no progress
		_ = control.Flush()
	})
	last := step{Progress: progress}
	if err != nil {
		last.Problem = problemOf(err)
	}
	_ = lines.Encode(last) // likewise
}

// The parameters that make a Filter in a query. Those of a Filter's JSON form
// have the same names.
func filterQuery(f deadletter.Filter) url.Values {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("class", f.Class)
	set("event_name", f.EventName)
	set("event_id", f.EventID)
	if !f.Since.IsZero() {
		q.Set("since", f.Since.Format(time.RFC3339Nano))
	}
	if !f.Until.IsZero() {
		q.Set("until", f.Until.Format(time.RFC3339Nano))
	}
	if len(f.IDs) > 0 {
		q["id"] = f.IDs
	}
	return q
}

func parseFilter(q url.Values) (f deadletter.Filter, err error) {
	f.Class, f.EventName, f.EventID, f.IDs = q.Get("class"), q.Get("event_name"), q.Get("event_id"), q["id"]
	for name, at := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if text := q.Get(name); text != "" {
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				return f, fault.New(fault.Invalid, "query %s=%q: right would be a time such as 2026-11-23T10:00:00Z", name, text)
			}
		}
	}
	return f, nil
}
