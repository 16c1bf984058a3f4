package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/stream"
)

// PeekOptions say what of a Kinesis stream is shown.
type PeekOptions struct {
	// From is oldest, latest, a time, how long ago (2h), or a sequence number
	// of the shard.
	From string
	// Shard, if not empty, is the only one, with those that came of it.
	Shard string
	// Follow goes on with what comes. Limit, if not 0, ends it after so many
	// events.
	Follow bool
	Limit  int
	// EventsOnly prints the events and not where they stand.
	EventsOnly bool
}

// position is where reading starts.
func (o PeekOptions) position() (cloud.Position, error) {
	switch {
	case o.From == "oldest":
		return cloud.Oldest(), nil
	case o.From == "latest":
		return cloud.Latest(), nil
	case o.Shard != "" && strings.Trim(o.From, "0123456789") == "":
		return cloud.At(o.From), nil
	}
	if ago, err := time.ParseDuration(o.From); err == nil && ago > 0 {
		return cloud.Since(time.Now().Add(-ago)), nil
	}
	at, err := time.Parse(time.RFC3339, o.From)
	if err != nil {
		return cloud.Position{}, fmt.Errorf(`--from %q: right would be "oldest", "latest", "2h", "2026-11-23T10:00:00Z", or with --shard a sequence number`, o.From)
	}
	return cloud.Since(at), nil
}

// Validate reports what cannot be used.
func (o PeekOptions) Validate() error {
	_, err := o.position()
	if err == nil && o.Limit < 0 {
		err = fmt.Errorf("--limit %d: right would be 1 or more, or 0 for no limit", o.Limit)
	}
	return err
}

// peeked is one line of what Peek prints.
type peeked struct {
	Shard string `json:"shard"`
	// Sequence is that of the record, SubSequence the place of the event in it.
	Sequence     string    `json:"sequence"`
	SubSequence  int       `json:"sub_sequence"`
	ArrivedAt    time.Time `json:"arrived_at"`
	PartitionKey string    `json:"partition_key"`
	HashKey      string    `json:"explicit_hash_key,omitempty"`
	// Event is what the writer put there, if it is JSON; else Data is.
	Event json.RawMessage `json:"event,omitempty"`
	Data  []byte          `json:"data,omitempty"`
}

// Peek prints the events of a Kinesis stream as lines of JSON, whoever wrote
// them: plain records, and those that hold several.
func Peek(ctx context.Context, s Settings, o PeekOptions, out io.Writer) error {
	name, ok := s.kinesisName()
	if !ok {
		return fmt.Errorf("SLUICE_STREAM=%q is not on Kinesis: look at its events in the console or with GET /api/events of the admin address", s.Stream)
	}
	from, err := o.position()
	if err != nil {
		return err
	}
	k, err := cloud.Open(ctx, cloud.Config{Stream: name})
	if err != nil {
		return err
	}
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	left := o.Limit
	var parts []stream.UserRecord
	var failed error
	err = k.Read(ctx, cloud.ReadOptions{Shard: o.Shard, From: from, Follow: o.Follow}, func(r cloud.ReadRecord) bool {
		parts = stream.AppendUserRecords(parts[:0], stream.Record{PartitionKey: r.PartitionKey, Data: r.Data})
		for i := range parts {
			line := peeked{
				Shard: r.Shard, Sequence: r.Sequence, SubSequence: parts[i].SubSequence, ArrivedAt: r.ArrivedAt.UTC(),
				PartitionKey: parts[i].PartitionKey, HashKey: parts[i].ExplicitHashKey,
			}
			if json.Valid(parts[i].Data) {
				line.Event = parts[i].Data
			} else {
				line.Data = parts[i].Data
			}
			if o.EventsOnly && line.Event != nil {
				failed = lines.Encode(line.Event)
			} else {
				failed = lines.Encode(line)
			}
			if left--; failed != nil || left == 0 {
				return false
			}
		}
		return true
	})
	switch {
	case failed != nil:
		return failed
	case ctx.Err() != nil:
		return nil //nolint:nilerr // interrupted: that is how following ends
	}
	return err
}
