package producer_test

import (
	"context"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

// rig is a running producer over a stream in memory, inside a synctest bubble.
type rig struct {
	t      *testing.T
	p      *producer.Producer
	memory *streamtest.Memory
	intake *ledger.Intake
	stop   func()
	ended  chan error
}

// start runs a producer; around puts faults between it and the memory.
func start(t *testing.T, cfg producer.Config, around func(streamtest.Stream) streamtest.Stream) *rig {
	t.Helper()
	r := &rig{t: t, intake: new(ledger.Intake), ended: make(chan error, 1)}
	r.memory = streamtest.NewMemory(t, streamtest.Limits{
		MaxCallRecords: cfg.MaxCallRecords, MaxCallBytes: cfg.MaxCallBytes, MaxRecordBytes: cfg.MaxRecordBytes,
	})
	var s streamtest.Stream = r.memory
	if around != nil {
		s = around(s)
	}
	p, err := producer.New(streamtest.Watch(t, s, r.memory.Limits()), r.intake, cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.p = p
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- p.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

// drain stops the producer and returns what Run said.
func (r *rig) drain() error {
	r.stop()
	return <-r.ended
}

// put sends events named user/id and returns their errors.
func (r *rig) put(ctx context.Context, names ...string) []error {
	var b stream.Batch
	for _, name := range names {
		b.Add(sent(name))
	}
	err := r.p.Put(ctx, &b)
	errs := make([]error, b.Len())
	var first error
	for i := range errs {
		errs[i] = b.Err(i)
		if first == nil {
			first = errs[i]
		}
	}
	if err != first { //nolint:errorlint // the very same error, not one that wraps it
		r.t.Errorf("Put returned %v, the first event's error is %v", err, first)
	}
	return errs
}

func (r *rig) mustPut(names ...string) {
	r.t.Helper()
	for i, err := range r.put(r.t.Context(), names...) {
		if err != nil {
			r.t.Errorf("%s: %v", names[i], err)
		}
	}
}

func sent(name string) *event.Event { return streamtest.Sent(name) }

func name(t testing.TB, data []byte) string { return streamtest.Name(t, data) }

// stored returns the names of the events on the stream, in its order.
func (r *rig) stored() []string {
	var names []string
	for _, data := range r.memory.Events() {
		names = append(names, name(r.t, data))
	}
	return names
}

func kinds(errs []error) []string {
	names := make([]string, len(errs))
	for i, err := range errs {
		names[i] = "ok"
		if err != nil {
			names[i] = fault.KindOf(err).String()
		}
	}
	return names
}

// wantIntake checks what was counted.
func (r *rig) wantIntake(accepted, rejected uint64) {
	r.t.Helper()
	s := r.p.Stats()
	if s.Accepted != accepted || s.Rejected != rejected {
		r.t.Errorf("accepted %d, rejected %d, want %d and %d", s.Accepted, s.Rejected, accepted, rejected)
	}
	checkIntake(r.t, s, r.intake)
	if s.Events != s.Accepted+s.Rejected+s.Undecided+uint64(s.WaitingEvents+s.FlyingEvents) {
		r.t.Errorf("the account does not add up: %+v", s)
	}
}

// checkIntake compares what the ledger was told with the producer's figures.
func checkIntake(t *testing.T, s producer.Stats, intake *ledger.Intake) {
	t.Helper()
	balance := intake.Balance()
	var rejected uint64
	for _, n := range balance.Rejected {
		rejected += n
	}
	if balance.Accepted != s.Accepted || rejected != s.Rejected {
		t.Errorf("the ledger was told %+v, the producer has accepted %d and rejected %d", balance, s.Accepted, s.Rejected)
	}
}
