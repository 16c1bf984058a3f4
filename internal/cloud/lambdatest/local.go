package lambdatest

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// local is an environment in this process.
type local struct {
	*function
	version string
}

func (l *local) do(i *invocation) (Response, bool) {
	i.Deadline = time.Now().Add(l.Timeout)
	ctx, cancel := context.WithDeadline(context.WithValue(l.server.ctx, invocationKey{}, i.Invocation), i.Deadline)
	var r Response
	crashed := i.doomed
	ended := make(chan struct{})
	if !l.server.spawn(func() {
		defer cancel()
		defer close(ended)
		var panicked bool
		if r, panicked = l.call(ctx, i.payload); panicked {
			crashed = true
		}
	}) {
		cancel()
		return failed("Runtime.ExitError", "%s", closing), true
	}
	select {
	case <-ended:
	case <-ctx.Done():
		if l.server.ctx.Err() != nil {
			return failed("Runtime.ExitError", "%s", closing), true
		}
	}
	switch {
	case !time.Now().Before(i.Deadline): // it was killed, also if it returns at its deadline
		l.count(func(s *Stats) { s.Timeouts++ })
		return timedOut(i, l.Timeout), true
	case i.doomed:
		return exited(i, "signal: killed"), true
	case !crashed:
		l.mu.Lock()
		l.pool(l.version).ready(l)
		l.mu.Unlock()
	}
	return r, true
}

// kill has nothing to do: who kills an environment does not use it again.
func (l *local) kill() {}

// call calls the handler, and reports whether it panicked.
func (l *local) call(ctx context.Context, payload []byte) (r Response, crashed bool) {
	defer func() {
		if p := recover(); p != nil {
			l.log.add([]byte(fmt.Sprintf("panic: %v\n\n%s", p, debug.Stack())))
			r, crashed = failed("Runtime.Panic", "%v", p), true
		}
	}()
	out, err := l.Handler(ctx, payload)
	switch {
	case err != nil:
		return failed(fmt.Sprintf("%T", err), "%s", err), false
	case len(out) > maxSyncBytes:
		return tooLarge(), false
	case out == nil:
		out = []byte("null")
	}
	return Response{Payload: out}, false
}
