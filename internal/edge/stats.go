package edge

import (
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/eventsluice/sluice/internal/edge/limit"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/telemetry/histogram"
)

// statuses are those that the gateway answers with.
var statuses = [...]int{
	http.StatusOK, http.StatusAccepted, http.StatusNoContent, http.StatusMultiStatus,
	http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
	http.StatusMethodNotAllowed, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
	http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusTooManyRequests,
	http.StatusInternalServerError, http.StatusServiceUnavailable,
}

// counters count requests, not events: those are the ledger's.
type counters struct {
	byStatus         [routes][len(statuses)]atomic.Uint64
	byCode           [codes]atomic.Uint64
	bytesIn          atomic.Uint64
	bytesDecoded     atomic.Uint64
	quarantineFailed atomic.Uint64
	answerTimes      [routes][len(classes)]*histogram.Histogram
}

// classes are the first digits of statuses, as metrics name them.
var classes = [...]string{"", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (c *counters) init() {
	for rt := range c.answerTimes {
		for class := range c.answerTimes[rt] {
			c.answerTimes[rt][class] = histogram.New(histogram.Durations)
		}
	}
}

func (c *counters) request(rt route, status int, why code, took time.Duration) {
	c.answerTimes[rt][status/100].Observe(uint64(took))
	if i := slices.Index(statuses[:], status); i >= 0 {
		c.byStatus[rt][i].Add(1)
	}
	if why != codeNone {
		c.byCode[why].Add(1)
	}
}

// Stats is what the gateway has counted since its start.
type Stats struct {
	// Requests by route and status; those that never happened are left out.
	Requests []RequestCount
	// Refused counts whole requests by the code of their problem document.
	Refused map[string]uint64
	// WouldRefuse counts what restrictions in mode observe have let pass.
	WouldRefuse []source.Observation
	// BytesIn are the bytes of bodies as sent, BytesDecoded those after
	// decompression.
	BytesIn, BytesDecoded uint64
	// QuarantineFailed counts rejected events that could not be kept.
	QuarantineFailed uint64
	// Limits is what the limits hold, and how their sharing goes.
	Limits limit.Stats
	// InFlight is how many bytes of Config.MaxInFlight are in use now.
	InFlight int64
}

// RequestCount is a number of requests.
type RequestCount struct {
	Route  string
	Status int
	Count  uint64
}

// Stats returns the counters. It is safe for concurrent use.
func (e *Edge) Stats() Stats {
	s := Stats{
		Refused: map[string]uint64{}, BytesIn: e.stats.bytesIn.Load(), BytesDecoded: e.stats.bytesDecoded.Load(),
		QuarantineFailed: e.stats.quarantineFailed.Load(), InFlight: e.inFlight.Load(),
		Limits: e.limits.Stats(),
	}
	if keys := e.keys(); keys != nil {
		s.WouldRefuse = keys.Observed()
	}
	for rt := range routes {
		for i, status := range statuses {
			if n := e.stats.byStatus[rt][i].Load(); n > 0 {
				s.Requests = append(s.Requests, RequestCount{Route: rt.String(), Status: status, Count: n})
			}
		}
	}
	for c := codeNone + 1; c < codes; c++ {
		if n := e.stats.byCode[c].Load(); n > 0 {
			s.Refused[c.String()] = n
		}
	}
	return s
}

// AnswerTimes are the times from the header of a request to the end of its
// answer, in nanoseconds.
type AnswerTimes struct {
	// Route and Class are those of requests and answers: "events", "2xx".
	Route, Class string
	Times        *histogram.Histogram
}

// AnswerTimes returns those of every route and class.
func (e *Edge) AnswerTimes() []AnswerTimes {
	var all []AnswerTimes
	for rt := range routes {
		for class, name := range classes {
			if name != "" {
				all = append(all, AnswerTimes{Route: rt.String(), Class: name, Times: e.stats.answerTimes[rt][class]})
			}
		}
	}
	return all
}
