package lambdatest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// latest is the version that can be changed, and what is meant without a
// qualifier.
const latest = "$LATEST"

// Limits of the service. Source: developer guide, "Lambda quotas"; API
// reference, Invoke.
const (
	maxSyncBytes  = 6 << 20 // payload of a synchronous invocation, and of a response
	maxAsyncBytes = 1 << 20 // payload of an asynchronous one
	maxTimeout    = 15 * time.Minute
	maxInit       = 10 * time.Second // of the init phase
)

// Handler is a function in this process. It returns when ctx is done, which is
// at the function's timeout; InvocationOf tells it about its invocation. A panic
// is a function error.
type Handler func(ctx context.Context, payload []byte) ([]byte, error)

// Function is a function and its settings.
type Function struct {
	Name string
	// Aliases are its names for versions, such as {"prod": "3"}. A version
	// exists if an alias points to it; $LATEST always does.
	Aliases map[string]string

	// Bootstrap is the path of the binary, or
	Bootstrap string
	// Handler runs in this process.
	Handler Handler

	// Env is its configuration, as NAME=value. A process gets these, those that
	// Lambda sets, PATH, and nothing else from here.
	Env []string
	// MemoryMB is told to the process. Default 128.
	MemoryMB int
	// Timeout is how long one invocation may take; then its environment is
	// killed. Default 3 s, at most 15 minutes.
	Timeout time.Duration
	// Concurrency is how many invocations may run at once, each in an
	// environment of its own; more are throttled. It is the function's reserved
	// concurrency. Default 10.
	Concurrency int

	// Async is what is done with asynchronous invocations.
	Async Async

	// OnLog is called with each line that a process writes, without its line
	// feed, in its order within one environment. It is called from several
	// goroutines, and does not keep the line.
	OnLog func(line []byte)
}

func (f *Function) settle() error {
	f.MemoryMB = cmp.Or(f.MemoryMB, 128)
	f.Timeout = cmp.Or(f.Timeout, 3*time.Second)
	f.Concurrency = cmp.Or(f.Concurrency, 10)
	switch {
	case !functionName.MatchString(f.Name):
		return fmt.Errorf("%q is no name of a function", f.Name)
	case (f.Bootstrap == "") == (f.Handler == nil):
		return fmt.Errorf("function %s: one of Bootstrap and Handler is wanted", f.Name)
	case f.Timeout < 0 || f.Timeout > maxTimeout:
		return fmt.Errorf("function %s: a timeout of %s is not within 15 minutes", f.Name, f.Timeout)
	case f.Concurrency < 0:
		return fmt.Errorf("function %s: a concurrency of %d", f.Name, f.Concurrency)
	}
	for alias, version := range f.Aliases {
		if !aliasName.MatchString(alias) || !versionNumber.MatchString(version) && version != latest {
			return fmt.Errorf("function %s: %q is no alias of a version %q", f.Name, alias, version)
		}
	}
	return f.Async.settle(f)
}

var (
	functionName  = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	aliasName     = regexp.MustCompile(`^[a-zA-Z0-9_-]*[a-zA-Z_-][a-zA-Z0-9_-]*$`) // not a number
	versionNumber = regexp.MustCompile(`^[1-9][0-9]*$`)
)

// function is a function that runs.
type function struct {
	Function
	server *Server
	arn    string // without a qualifier
	queue  *eventQueue
	log    journal

	mu      sync.Mutex // guards what follows
	running int        // invocations
	pools   map[string]*pool
	stats   Stats
}

// version returns which version a qualifier means; empty is none.
func (f *function) version(qualifier string) string {
	switch {
	case qualifier == "" || qualifier == latest:
		return latest
	case slices.Contains(slices.Collect(maps.Values(f.Aliases)), qualifier):
		return qualifier
	}
	return f.Aliases[qualifier]
}

// qualified is the ARN that an invocation says it was invoked by.
func (f *function) qualified(qualifier string) string {
	if qualifier == "" {
		return f.arn
	}
	return f.arn + ":" + qualifier
}

// target is a function as a call names it.
type target struct {
	*function
	qualifier string
}

// resolve finds the function that a name means: NAME, NAME:QUALIFIER, an ARN, or
// an ARN from the account on.
func (s *Server) resolve(name, qualifier string) (target, *Error) {
	rest := name
	if after, ok := strings.CutPrefix(rest, "arn:aws:lambda:"+s.Region()+":"); ok {
		rest = after
	} else if strings.HasPrefix(rest, "arn:") {
		return target{}, notFound(name)
	}
	if after, ok := strings.CutPrefix(rest, awstest.Account+":function:"); ok {
		rest = after
	} else if rest != name {
		return target{}, notFound(name)
	}
	short, derived, has := strings.Cut(rest, ":")
	if has {
		if derived == "" {
			return target{}, notFound(name)
		}
		if qualifier != "" && qualifier != derived {
			return target{}, badParameter("The derived qualifier from the function name does not match the specified qualifier.")
		}
		qualifier = derived
	}
	s.mu.Lock()
	f := s.functions[short]
	s.mu.Unlock()
	switch {
	case f == nil:
		return target{}, notFound(s.ARN(rest, ""))
	case f.version(qualifier) == "":
		return target{}, notFound(f.qualified(qualifier))
	}
	return target{f, qualifier}, nil
}

// Invocation is what a function is told about an invocation beside its payload.
type Invocation struct {
	RequestID string
	// FunctionARN is the ARN it was invoked by, with its qualifier.
	FunctionARN string
	Deadline    time.Time
}

type invocationKey struct{}

// InvocationOf returns the invocation that a Handler was called for.
func InvocationOf(ctx context.Context) Invocation {
	i, _ := ctx.Value(invocationKey{}).(Invocation)
	return i
}

// Response is what became of an invocation that ran.
type Response struct {
	RequestID string
	// Payload is the function's result, or a document with errorMessage and
	// errorType.
	Payload []byte
	// FunctionError is "Unhandled" if the function failed, and empty otherwise.
	FunctionError string
	// Version is the one that ran.
	Version string
}

// failure is the payload of a function that failed.
type failure struct {
	Message string `json:"errorMessage"`
	Type    string `json:"errorType,omitempty"`
}

// failed makes the response of one.
func failed(kind, format string, args ...any) Response {
	b, _ := json.Marshal(failure{fmt.Sprintf(format, args...), kind})
	return Response{Payload: b, FunctionError: "Unhandled"}
}

// message is what a function that failed said of it.
func (r Response) message() string {
	var f failure
	if json.Unmarshal(r.Payload, &f) != nil {
		return string(r.Payload)
	}
	return f.Message
}

// invocation is one that runs.
type invocation struct {
	Invocation
	payload []byte
	version string
	done    chan Response // with room for one
	once    sync.Once
	doomed  bool // its environment ends with its answer, which nobody hears
}

// answer ends an invocation; only the first counts, and only that returns true.
func (i *invocation) answer(r Response) (first bool) {
	i.once.Do(func() {
		first = true
		i.done <- r
	})
	return first
}

// invoke runs an invocation in an environment, if there is a free one. It is
// not bound to the one who asked: only the function's timeout and the end of
// the server cut it short.
func (f *function) invoke(qualifier, requestID string, payload []byte) (Response, *Error) {
	version := f.version(qualifier)
	if !f.server.enter() {
		return Response{}, closing
	}
	defer f.server.leave()
	plan := f.server.runs.Plan(f.Name, time.Now())
	if err := plan.Refusal(); err != nil {
		f.count(func(s *Stats) { s.refused(err) })
		return Response{}, err
	}
	e, err := f.acquire(version)
	if err != nil {
		f.count(func(s *Stats) { s.refused(err) })
		return Response{}, err
	}
	r := f.run(e, plan, &invocation{
		Invocation: Invocation{RequestID: requestID, FunctionARN: f.qualified(qualifier)},
		payload:    payload, version: version, done: make(chan Response, 1),
		doomed: crashes(plan, AfterRunning),
	})
	r.RequestID, r.Version = requestID, version
	f.release(r)
	if f.server.ctx.Err() != nil {
		return Response{}, closing
	}
	return r, nil
}

// run has an environment do the work, and starts one if e is none.
func (f *function) run(e environment, plan *awstest.Plan, i *invocation) Response {
	for {
		if e == nil {
			var fault *Response
			if e, fault = f.start(i.version); fault != nil {
				return *fault
			}
		}
		if crashes(plan, BeforeRunning) {
			e.kill()
			return exited(i, "signal: killed")
		}
		if r, delivered := e.do(i); delivered {
			return r
		}
		e = nil // it ended while it was idle
	}
}

// exited is the response of an environment that ended under its invocation.
func exited(i *invocation, how string) Response {
	return failed("Runtime.ExitError", "RequestId: %s Error: Runtime exited with error: %s", i.RequestID, how)
}

// timedOut is the response of one that was killed.
func timedOut(i *invocation, after time.Duration) Response {
	return failed("Sandbox.Timedout", "RequestId: %s Error: Task timed out after %.2f seconds", i.RequestID, after.Seconds())
}

// tooLarge is the response instead of one over the limit.
func tooLarge() Response {
	return failed("Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (%d bytes).", maxSyncBytes)
}

func (f *function) count(change func(*Stats)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.stats)
}
