package mixpanel

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
)

// leastWait is the wait of an answer that does not say: "We recommend starting
// with a backoff of 2s". Source: Mixpanel, Import Events (read 2026-11).
const leastWait = 2 * time.Second

// answer is what the body of an answer says.
type answer struct {
	// Taken is false if the body says that something is wrong, or nothing.
	Taken bool
	// Error is the message about the call as a whole.
	Error string
	// Failed are the elements that were refused.
	Failed []failure
	// Imported is how many were taken. Of a call that Mixpanel has taken none of, it
	// may not be said.
	Imported int
}

// failure is an element that was refused.
type failure struct {
	// Index is its place in the call, -1 if that is not said; ID its $insert_id.
	Index          int
	ID             string
	Field, Message string
}

// decode reads the body of an answer: the JSON of /import, that of /engage and
// /groups with verbose=1, and the "1" or "0" of these without it. What it cannot
// read has said nothing.
func decode(body []byte) answer {
	var a answer
	switch body = bytes.TrimSpace(body); {
	case len(body) == 0:
		return a
	case body[0] != '{':
		a.Taken = string(body) == "1"
		if string(body) == "0" {
			a.Error = "no element of the call is valid"
		}
		return a
	}
	var said struct {
		Status   json.RawMessage `json:"status"`
		Error    *string         `json:"error"`
		Imported *int            `json:"num_records_imported"` // of /import
		Good     *int            `json:"num_good_events"`      // of /engage and /groups
		Failed   []struct {
			Index   *int    `json:"index"`
			PageID  *string `json:"$insert_id"` // as Import Events has it
			FileID  *string `json:"insert_id"`  // as the OpenAPI file has it
			Field   string  `json:"field"`
			Message string  `json:"message"`
		} `json:"failed_records"`
	}
	if json.Unmarshal(body, &said) != nil {
		return a
	}
	if said.Error != nil {
		a.Error = *said.Error
	}
	for _, count := range [...]*int{said.Good, said.Imported} {
		if count != nil {
			a.Imported = *count
		}
	}
	for _, f := range said.Failed {
		failed := failure{Index: -1, Field: f.Field, Message: f.Message}
		if f.Index != nil {
			failed.Index = *f.Index
		}
		for _, id := range [...]*string{f.FileID, f.PageID} {
			if id != nil {
				failed.ID = *id
			}
		}
		a.Failed = append(a.Failed, failed)
	}
	switch string(said.Status) {
	case `1`, `"OK"`, `"ok"`:
		a.Taken = a.Error == "" && len(a.Failed) == 0
	case `0`:
		if a.Error == "" {
			a.Error = "no element of the call is valid"
		}
	}
	return a
}

// outcome returns the result of each of the n events of a call.
func outcome(x *httpcall.Exchange, b *batch, n int) []connector.Result {
	class := x.Class()
	if x.Err != nil {
		return connector.All(n, x.Outcome())
	}
	said := decode(x.Body)
	isYes := class == connector.Delivered
	switch {
	case isYes && said.Taken:
		return connector.All(n, x.Outcome())
	case isYes && said.Error == "" && len(said.Failed) == 0:
		// It was taken, most likely. To send it again does no harm.
		return connector.All(n, x.Result(connector.Ambiguous, "unreadable", "the body of the answer does not say that the call was taken"))
	case isYes, x.Status == http.StatusBadRequest:
		return refusals(x, b, n, said)
	case x.Status == http.StatusNotFound, x.Status == http.StatusMethodNotAllowed:
		return connector.All(n, x.Result(connector.Auth, "", "there is no Mixpanel at this address: look at the setting endpoint"))
	}
	result := x.Result(class, "", said.Error)
	if class == connector.Throttled || class == connector.Retryable {
		result.RetryAfter = max(result.RetryAfter, leastWait)
	}
	return connector.All(n, result)
}

// refusals returns the results of a call of which something was refused: the
// elements that the answer names are, and the others were taken, if it says that
// so many were. If it names none, or took less than it should have, those without
// a result are sent again in halves, so that after a few calls what is wrong is
// alone. That is class too_large, whatever the size: it costs no attempt, and an
// event that is alone becomes a dead letter.
func refusals(x *httpcall.Exchange, b *batch, n int, said answer) []connector.Result {
	results := make([]connector.Result, n)
	seen := make(map[failure]connector.Result) // excerpts are dear, and most failures alike
	named := 0
	var byID map[string]int // made if there is need
	for _, f := range said.Failed {
		i := f.Index
		if i < 0 || i >= n {
			if byID == nil {
				byID = b.ids()
			}
			var ok bool
			if i, ok = byID[f.ID]; !ok {
				continue
			}
		}
		if i >= n || results[i].Class == connector.Permanent {
			continue
		}
		kind := failure{Field: f.Field, Message: f.Message}
		result, ok := seen[kind]
		if !ok {
			result = x.Result(connector.Permanent, f.Field, f.text())
			seen[kind] = result
		}
		results[i] = result
		named++
	}
	rest := connector.Result{Class: connector.Delivered, Status: x.Status}
	if named == 0 || said.Imported < n-named {
		rest = x.Result(connector.TooLarge, "batch_refused", said.text())
		if n == 1 {
			rest = x.Result(connector.Permanent, "refused", said.text())
		}
	}
	for i := range results {
		if results[i].Class != connector.Permanent {
			results[i] = rest
		}
	}
	return results
}

func (f *failure) text() string {
	switch {
	case f.Message != "":
		return f.Message
	case f.Field != "":
		return f.Field + " is refused"
	}
	return "the record is refused"
}

func (a *answer) text() string {
	if a.Error != "" {
		return a.Error
	}
	return "the call is refused, and the answer does not say which event is meant"
}

// ids returns the elements by their $insert_id.
func (b *batch) ids() map[string]int {
	var elements []struct {
		Properties struct {
			InsertID string `json:"$insert_id"`
		} `json:"properties"`
	}
	_ = json.Unmarshal(b.body, &elements) // profiles have none
	ids := make(map[string]int, len(elements))
	for i := range slices.Backward(elements) { // of two the first
		if id := elements[i].Properties.InsertID; id != "" {
			ids[id] = i
		}
	}
	return ids
}
