package redrive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/eventsluice/sluice/internal/cloud/letters"
	"github.com/eventsluice/sluice/internal/deadletter"
)

// Actions of a Request.
const (
	Count  = "count"
	List   = "list"
	Backup = "backup"
	Replay = "replay"
	Purge  = "purge"
)

// Request is what the function is invoked with.
type Request struct {
	// Queue is a dead letter queue: URL, ARN or name, or s3://bucket/prefix for
	// the objects of on-failure destinations. Needed.
	Queue string
	// Action is one of the constants. Needed.
	Action string
	// Filter selects letters. Default: all.
	Filter deadletter.Filter
	// To is where a replay sends letters: see deadletter.Target. Default: the
	// destination that failed.
	To deadletter.Target
	// Rate is the most letters per second, Limit the most letters in all. Zero
	// is no bound; List has 100 then.
	Rate  float64
	Limit int
	// DryRun counts, shows a sample, and changes nothing.
	DryRun bool
	// Delete purges letters once they are safe in a backup.
	Delete bool
	// Yes is needed to purge.
	Yes bool
}

// member is one of a Request: how it is read, and the actions that it means
// something to.
type member struct {
	into any
	is   func() bool // given, and not as its zero value
	of   []string
}

// mostListed is the most letters of a list.
const mostListed = 1000

// parse reads a request. The error has a line for everything that is wrong with
// it.
func parse(payload []byte) (Request, error) {
	var r Request
	members := map[string]member{
		"queue":   {into: &r.Queue},
		"action":  {into: &r.Action},
		"filter":  {nil, func() bool { return !r.Filter.IsZero() }, []string{List, Backup, Replay, Purge}},
		"to":      {&r.To, func() bool { return r.To != "" }, []string{Replay}},
		"rate":    {&r.Rate, func() bool { return r.Rate != 0 }, []string{Replay, Purge}},
		"limit":   {&r.Limit, func() bool { return r.Limit != 0 }, []string{List, Replay, Purge}},
		"dry_run": {&r.DryRun, func() bool { return r.DryRun }, []string{Replay, Purge}},
		"delete":  {&r.Delete, func() bool { return r.Delete }, []string{Backup}},
		"yes":     {&r.Yes, func() bool { return r.Yes }, []string{Purge}},
	}
	var faults []error
	given := object(payload, "", &faults)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		m, known := members[name]
		switch {
		case !known:
			faults = append(faults, fmt.Errorf("%s is no member; right would be %s", name, strings.Join(slices.Sorted(maps.Keys(members)), ", ")))
		case name == "filter":
			r.Filter = parseFilter(given[name], &faults)
		default:
			decode(name, given[name], m.into, &faults)
		}
	}
	actions := []string{Count, List, Backup, Replay, Purge}
	if !slices.Contains(actions, r.Action) {
		faults = append(faults, fmt.Errorf("action is %q; right would be %s", r.Action, strings.Join(actions, ", ")))
	} else {
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if m := members[name]; m.is != nil && m.is() && !slices.Contains(m.of, r.Action) {
				faults = append(faults, fmt.Errorf("%s means nothing to %s; it is for %s", name, r.Action, strings.Join(m.of, ", ")))
			}
		}
	}
	switch {
	case r.Queue == "":
		faults = append(faults, errors.New(`queue is ""; right would be the URL, the ARN or the name of a dead letter queue, or s3://bucket/prefix`))
	case !letters.IsName(r.Queue):
		r.Queue = "sqs:" + r.Queue
	}
	order := r.order()
	if err := order.Validate(); err != nil {
		faults = append(faults, err)
	}
	if r.Action == List && r.Limit > mostListed {
		faults = append(faults, fmt.Errorf("limit is %d; a list has at most %d letters", r.Limit, mostListed))
	}
	if r.Action == Purge && !r.Yes && !r.DryRun {
		faults = append(faults, errors.New(`purge deletes events for good: look with "dry_run":true, keep them with backup, and say "yes":true if you are sure`))
	}
	return r, errors.Join(faults...)
}

func (r *Request) order() deadletter.Order {
	return deadletter.Order{Filter: r.Filter, To: r.To, Rate: r.Rate, Limit: r.Limit, DryRun: r.DryRun}
}

// object reads an object and returns its members.
func object(raw []byte, name string, faults *[]error) map[string]json.RawMessage {
	var members map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader(raw))
	err := d.Decode(&members)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows it")
		}
	}
	if err != nil || members == nil {
		if name == "" {
			name = "the payload"
		}
		*faults = append(*faults, fmt.Errorf("%s is not a JSON object", name))
	}
	return members
}

func decode(name string, raw json.RawMessage, into any, faults *[]error) {
	if err := json.Unmarshal(raw, into); err != nil {
		*faults = append(*faults, fmt.Errorf("%s is %.100s, of the wrong type", name, raw))
	}
}

func parseFilter(raw json.RawMessage, faults *[]error) (f deadletter.Filter) {
	members := map[string]any{
		"class": &f.Class, "event_name": &f.EventName, "event_id": &f.EventID, "since": &f.Since, "until": &f.Until, "ids": &f.IDs,
	}
	given := object(raw, "filter", faults)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		into, known := members[name]
		if !known {
			*faults = append(*faults, fmt.Errorf("filter.%s is no member; right would be %s", name, strings.Join(slices.Sorted(maps.Keys(members)), ", ")))
			continue
		}
		decode("filter."+name, given[name], into, faults)
	}
	return f
}
