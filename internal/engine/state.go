package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

const (
	stateName   = "SLUICE_STATE"
	statePrefix = "sluice.state."
	// destinationPrefix is before the token of a destination's name.
	destinationPrefix = statePrefix + "destination."
)

// stateStream keeps one message per subject: the newest. It is read through
// the stream's leader (no AllowDirect), so that a state read is the state.
func stateStream(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              stateName,
		Description:       "Sluice: how far each destination is, and the census",
		Subjects:          []string{statePrefix + ">"},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		MaxBytes:          -1,
		MaxMsgsPerSubject: 1,
		MaxMsgSize:        int32(cfg.MaxMessageBytes + messageOverhead),
		// No message here has an id.
		Duplicates: time.Second,
	}
}

// Destination keeps what one destination must not forget.
type Destination struct {
	engine  *Engine
	name    string
	subject string
	parked  *Queue
	dead    *Queue

	mu sync.Mutex
	// revision is the sequence number of the state that this process loaded or
	// saved last; 0 if there was none. A save by anybody else makes ours fail.
	revision uint64
}

var _ delivery.Store = (*Destination)(nil)

// savedState is the JSON that is kept.
type savedState struct {
	Destination string         `json:"destination"`
	State       delivery.State `json:"state"`
	// Write is unique, so that a writer who lost the reply knows its own.
	Write string `json:"write"`
}

// Destination returns the store of the destination of that name, whatever the
// name. Nothing is created before something is kept.
func (e *Engine) Destination(name string) *Destination {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.destinations[name]
	if d == nil {
		d = &Destination{
			engine:  e,
			name:    name,
			subject: destinationPrefix + token(name),
			parked:  e.newQueue(parkedQueue, name),
			dead:    e.newQueue(deadQueue, name),
		}
		e.destinations[name] = d
	}
	return d
}

// Parked implements delivery.Store.
func (d *Destination) Parked() deadletter.Queue { return d.parked }

// Dead implements delivery.Store.
func (d *Destination) Dead() deadletter.Queue { return d.dead }

// LoadState implements delivery.Store.
func (d *Destination) LoadState(ctx context.Context) (delivery.State, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	saved, revision, err := d.load(ctx)
	if err != nil {
		return delivery.State{}, false, err
	}
	d.revision = revision
	return saved.State, revision != 0, nil
}

func (d *Destination) load(ctx context.Context) (saved savedState, revision uint64, err error) {
	m, err := d.engine.state.GetLastMsgForSubject(ctx, d.subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return saved, 0, nil
	}
	if err != nil {
		return saved, 0, unavailable(err, "load the state of %s", d.name)
	}
	if err := json.Unmarshal(m.Data, &saved); err != nil {
		return saved, 0, fmt.Errorf("state of %s: %w", d.name, err)
	}
	return saved, m.Sequence, nil
}

// SaveState implements delivery.Store.
func (d *Destination) SaveState(ctx context.Context, s delivery.State) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	saved := savedState{Destination: d.name, State: s, Write: nuid.Next()}
	data, err := json.Marshal(saved)
	if err != nil {
		return fmt.Errorf("state of %s: %w", d.name, err)
	}
	if err := d.engine.host.ready(); err != nil {
		return unavailable(err, "save the state of %s", d.name)
	}
	revision, err := d.engine.small.send(ctx, &nats.Msg{Subject: d.subject, Data: data, Header: nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(d.revision, 10)}}}, d.engine.cfg.ackTimeout)
	if err == nil {
		d.revision = revision
		return nil
	}
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && !overtaken(refused) {
		return fmt.Errorf("save the state of %s: %w", d.name, refusal(refused))
	}
	// Overtaken, or the reply was lost: what stands there now says which.
	now, revision, loadErr := d.load(ctx)
	switch {
	case loadErr != nil:
		return fmt.Errorf("save the state of %s: %w", d.name,
			&fault.Error{Kind: fault.Ambiguous, Err: errors.Join(err, loadErr)})
	case now.Write == saved.Write:
		d.revision = revision
		return nil
	case revision != d.revision:
		return fmt.Errorf("save the state of %s: %w", d.name,
			&fault.Error{Kind: fault.Conflict, Detail: "another process works for this destination", Err: err})
	}
	return fmt.Errorf("save the state of %s: %w", d.name, &fault.Error{Kind: fault.Ambiguous, Err: err})
}

// overtaken tells that the subject has a newer message than expected.
func overtaken(err *jetstream.APIError) bool {
	return err.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		err.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// Destinations returns the names of all destinations that have kept anything,
// sorted, also of those that are not configured any more.
func (e *Engine) Destinations(ctx context.Context) ([]string, error) {
	var names []string
	info, err := e.state.Info(ctx, jetstream.WithSubjectFilter(destinationPrefix+"*"))
	if err != nil {
		return nil, unavailable(err, "list destinations")
	}
	for subject := range info.State.Subjects {
		m, err := e.state.GetLastMsgForSubject(ctx, subject)
		if err != nil {
			return nil, unavailable(err, "list destinations")
		}
		var saved savedState
		if err := json.Unmarshal(m.Data, &saved); err != nil {
			return nil, fmt.Errorf("state at %s: %w", subject, err)
		}
		names = append(names, saved.Destination)
	}
	// Letters may have been kept before the first state was.
	list := e.js.ListStreams(ctx, jetstream.WithStreamListSubject(queuePrefix+">"))
	for s := range list.Info() {
		if name := s.Config.Metadata[destinationMetadata]; name != "" && strings.HasPrefix(s.Config.Name, queueStreamPrefix) {
			names = append(names, name)
		}
	}
	if err := list.Err(); err != nil {
		return nil, unavailable(err, "list destinations")
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
