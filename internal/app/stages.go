package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// stages run side by side and are stopped one after another, in the order of
// the data, so that what one has accepted can still pass through the next.
type stages struct {
	log    *slog.Logger
	list   []*stage
	failed chan error // the first stage to end with an error by itself
}

type stage struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func newStages(log *slog.Logger) *stages {
	return &stages{log: log, failed: make(chan error, 1)}
}

// start runs a stage until stop cancels its context. Stages stop in the order
// in which they were started here, so the first to be started is the listener
// and the last is telemetry; run must not need a later stage to begin.
func (s *stages) start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	st := &stage{name: name, cancel: cancel, done: make(chan struct{})}
	s.list = append(s.list, st)
	go func() {
		defer close(st.done)
		st.err = run(ctx)
		if st.err != nil && ctx.Err() == nil {
			select {
			case s.failed <- fmt.Errorf("%s: %w", name, st.err):
			default:
			}
		}
	}()
}

// stop ends the stages one after another. What is not done by the deadline is
// left behind and named in the error: the process is about to end.
func (s *stages) stop(timeout time.Duration) error {
	deadline, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var faults []error
	for _, st := range s.list {
		begun := time.Now()
		st.cancel()
		select {
		case <-st.done:
			if st.err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", st.name, st.err))
			}
			s.log.Debug("stopped", "stage", st.name, "took", time.Since(begun))
		case <-deadline.Done():
			faults = append(faults, fmt.Errorf("%s: not stopped within %v", st.name, timeout))
		}
	}
	return errors.Join(faults...)
}
