package router

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/grave"
	"github.com/eventsluice/sluice/internal/cloud/lambdahost"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

// burial is where the dead letters of the router go.
type burial struct {
	grave    grave.Grave
	function *Function
}

// Bury implements fanout.Grave. A letter that is too large for a message, where
// there is no bucket for claims, becomes a note that says where on the stream its
// record is: `sluice dlq` reads it back until the retention of the stream ends.
func (b *burial) Bury(ctx context.Context, letters []deadletter.Letter) []error {
	errs := b.grave.Bury(ctx, letters)
	for i := range letters {
		if fault.KindOf(errs[i]) == fault.TooLarge {
			errs[i] = b.note(ctx, &letters[i], errs[i])
		}
	}
	return errs
}

// note is what a Kinesis event source leaves of records that it gives up. Source:
// Lambda developer guide, "Retain discarded batch records for a Kinesis Data
// Streams event source" (read 2026-11).
type note struct {
	RequestContext struct {
		RequestID string `json:"requestId"`
		Function  string `json:"functionArn"`
		Condition string `json:"condition"`
		Invokes   int    `json:"approximateInvokeCount"`
	} `json:"requestContext"`
	ResponseContext struct {
		Status int    `json:"statusCode"`
		Error  string `json:"functionError"`
	} `json:"responseContext"`
	Version   string    `json:"version"`
	Timestamp time.Time `json:"timestamp"`
	Batch     struct {
		Shard  string    `json:"shardId"`
		Start  string    `json:"startSequenceNumber"`
		End    string    `json:"endSequenceNumber"`
		First  time.Time `json:"approximateArrivalOfFirstRecord"`
		Last   time.Time `json:"approximateArrivalOfLastRecord"`
		Size   int       `json:"batchSize"`
		Stream string    `json:"streamArn"`
	} `json:"KinesisBatchInfo"`
}

func (b *burial) note(ctx context.Context, l *deadletter.Letter, why error) error {
	// The id of a letter of package fanout begins with shard and sequence number.
	shard, rest, _ := strings.Cut(l.ID, ":")
	sequence, _, _ := strings.Cut(rest, ":")
	b.function.mu.Lock()
	stream := b.function.stream
	b.function.mu.Unlock()
	if stream == "" || shard == "" || sequence == "" {
		return why
	}
	var n note
	n.RequestContext.Function, n.RequestContext.RequestID = lambdahost.Invoked(ctx)
	n.RequestContext.Condition, n.RequestContext.Invokes = "EventTooLarge", 1
	n.ResponseContext.Status = 413
	n.ResponseContext.Error = fmt.Sprintf("event %s: %s; it is too large for a dead letter too: it is read from the stream, as long as that keeps it", l.EventID, l.Message)
	n.Version, n.Timestamp = "1.0", l.LastTry
	n.Batch.Shard, n.Batch.Start, n.Batch.End, n.Batch.Size, n.Batch.Stream = shard, sequence, sequence, 1, stream
	n.Batch.First, n.Batch.Last = l.FirstSeen, l.FirstSeen
	body, err := json.Marshal(n)
	if err != nil {
		return err
	}
	_, err = b.grave.Queue.Put(ctx, b.grave.Ref, []queue.Message{{
		Body: queue.Body(body), Group: shard, Dedup: sequence,
		Attributes: map[string]string{"Destination": l.Destination, "Class": l.Class},
	}})
	return err
}
