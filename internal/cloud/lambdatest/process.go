package lambdatest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// process is an environment that is a process, with a runtime API of its own.
//
//	starting -> taken <-> settling -> idle -> taken ...
//
// It is ended from any of these.
type process struct {
	*function
	version string
	command *exec.Cmd
	output  *lines
	api     *http.Server
	conns   connections
	work    chan *invocation // taken by the call to next that waits
	ready   chan struct{}    // closed by the first call to next
	gone    chan struct{}    // closed when the process has ended
	how     string           // it ended; set before gone is closed

	// f.mu guards these.
	state   state
	current *invocation // until the next call to next
	timer   *time.Timer // that ends current's time
	started time.Time
	broken  *Response // what the init phase said of itself
}

type state int

const (
	starting state = iota
	taken          // somebody has an invocation for it, or is about to
	settling       // answered, and not back for the next
	idle
	ended
)

// Paths of the runtime API. Source: developer guide, "Using the Lambda runtime
// API for custom runtimes".
const (
	runtimePath    = "/2018-06-01/runtime/"
	invocationPath = runtimePath + "invocation/"
)

// maxErrorBytes is more than a function has to say of its error.
const maxErrorBytes = 256 << 10

// startProcess starts a process and waits until it asks for an event.
func (f *function) startProcess(version string) (environment, *Response) {
	e, err := f.launch(version)
	if err != nil {
		r := failed("Runtime.InvalidEntrypoint", "%s", err)
		return nil, &r
	}
	timer := time.NewTimer(maxInit)
	defer timer.Stop()
	select {
	case <-e.ready:
		return e, nil
	case <-timer.C:
		e.kill()
		<-e.gone
		r := failed("Sandbox.Timedout", "Error: init phase timed out after %.2f seconds", maxInit.Seconds())
		return nil, &r
	case <-e.gone:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.broken != nil {
		return nil, e.broken
	}
	r := failed("Runtime.ExitError", "Error: Runtime exited with error: %s", e.how)
	return nil, &r
}

func (f *function) launch(version string) (*process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &process{
		function: f, version: version, output: &lines{function: f},
		work: make(chan *invocation), ready: make(chan struct{}), gone: make(chan struct{}),
	}
	e.api = &http.Server{Handler: e, ReadHeaderTimeout: time.Minute, ConnState: e.conns.state}
	path, err := filepath.Abs(f.Bootstrap)
	if err != nil {
		return nil, err
	}
	// The context is there for its end: Close ends what is left.
	e.command = exec.CommandContext(f.server.ctx, path)
	e.command.Dir = filepath.Dir(path)
	e.command.Env = e.environ(l.Addr().String())
	e.command.Stdout, e.command.Stderr = e.output, e.output
	e.command.WaitDelay = time.Second // for what a child of it holds open
	e.started = time.Now()
	failed := make(chan error, 1)
	if !f.server.spawn(func() { e.live(l, failed) }) {
		_ = l.Close()
		return nil, closing
	}
	return e, <-failed
}

// live is the life of a process.
func (e *process) live(l net.Listener, failed chan<- error) {
	err := e.command.Start()
	failed <- err
	if err != nil {
		_ = l.Close()
		return
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = e.api.Serve(l) // ends with the process, and says nothing else
	}()
	e.reap()
	<-served
	e.conns.Wait()
}

// environ is what Lambda sets, and the function's own. Source: developer guide,
// "Defined runtime environment variables".
func (e *process) environ(api string) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"TZ=:UTC",
		"LANG=en_US.UTF-8",
		"AWS_LAMBDA_RUNTIME_API=" + api,
		"AWS_LAMBDA_FUNCTION_NAME=" + e.Name,
		"AWS_LAMBDA_FUNCTION_VERSION=" + e.version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=" + strconv.Itoa(e.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/" + e.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME=" + e.started.UTC().Format("2006/01/02") + "/[" + e.version + "]" + strings.ReplaceAll(uuid(), "-", ""),
		"AWS_EXECUTION_ENV=AWS_Lambda_provided.al2023",
		"LAMBDA_TASK_ROOT=" + e.command.Dir,
		"LAMBDA_RUNTIME_DIR=" + e.command.Dir,
		"_HANDLER=bootstrap",
	}
	return append(append(env, e.server.Env()...), e.Env...)
}

// reap waits for the end of the process, and ends what belongs to it.
func (e *process) reap() {
	err := e.command.Wait()
	e.output.end()
	e.how = "exit status 0"
	if err != nil {
		e.how = err.Error()
	}
	e.mu.Lock()
	e.end()
	if e.timer != nil {
		e.timer.Stop()
	}
	e.mu.Unlock()
	close(e.gone)
	_ = e.api.Close()
}

func (e *process) kill() {
	e.mu.Lock()
	e.end()
	e.mu.Unlock()
	_ = e.command.Process.Kill()
}

// end makes it one that nobody uses any more. e.mu is held.
func (e *process) end() {
	switch p := e.pool(e.version); e.state {
	case settling:
		p.settled(nil)
	case idle:
		p.forget(e)
	}
	e.state = ended
}

func (e *process) do(i *invocation) (Response, bool) {
	e.mu.Lock()
	if e.state == ended {
		e.mu.Unlock()
		return Response{}, false
	}
	e.state, e.current = taken, i
	i.Deadline = time.Now().Add(e.Timeout)
	e.timer = time.AfterFunc(e.Timeout, func() { e.expire(i) })
	e.mu.Unlock()
	select {
	case e.work <- i:
	case <-e.gone:
		return Response{}, false
	}
	select {
	case r := <-i.done:
		return r, true
	case <-e.gone:
		i.answer(exited(i, e.how)) // unless it was answered just before
		return <-i.done, true
	}
}

// expire ends the time of an invocation: also that of one which has answered
// and does not come back for the next.
func (e *process) expire(i *invocation) {
	e.mu.Lock()
	mine := e.current == i && e.state != ended
	e.mu.Unlock()
	if !mine {
		return
	}
	if i.answer(timedOut(i, e.Timeout)) {
		e.count(func(s *Stats) { s.Timeouts++ })
		e.log.add(fmt.Appendf(nil, "%s %s Task timed out after %.2f seconds\n", time.Now().UTC().Format(time.RFC3339Nano), i.RequestID, e.Timeout.Seconds()))
	}
	e.kill()
}

// ServeHTTP is the runtime API.
func (e *process) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodGet && r.URL.Path == invocationPath+"next":
		e.next(w, r)
		return
	case r.Method != http.MethodPost:
	case r.URL.Path == runtimePath+"init/error":
		e.initFailed(w, r)
		return
	default:
		id, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, invocationPath), "/")
		switch what {
		case "response":
			e.answered(w, r, id, maxSyncBytes, func(b []byte) Response { return Response{Payload: b} })
			return
		case "error":
			e.answered(w, r, id, maxErrorBytes, func(b []byte) Response { return Response{Payload: b, FunctionError: "Unhandled"} })
			return
		}
	}
	reject(w, http.StatusNotFound, "InvalidPath", r.Method+" "+r.URL.Path)
}

// next hands out an invocation, when there is one.
func (e *process) next(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	unanswered := e.current
	if e.timer != nil {
		e.timer.Stop()
	}
	e.current, e.timer = nil, nil
	switch p := e.pool(e.version); e.state {
	case starting:
		e.state = taken // by the one who started it
		e.stats.InitDurations = append(e.stats.InitDurations, time.Since(e.started))
		close(e.ready)
	case settling:
		e.state = idle
		p.settled(e)
	case taken:
		if unanswered != nil {
			e.state = idle
			p.ready(e)
		}
	}
	e.mu.Unlock()
	if unanswered != nil {
		unanswered.answer(failed("Runtime.NoResponse", "RequestId: %s Error: the runtime asked for the next event without an answer", unanswered.RequestID))
	}
	select {
	case i := <-e.work:
		h := w.Header()
		h["Content-Type"] = []string{"application/json"}
		h["Content-Length"] = []string{strconv.Itoa(len(i.payload))}
		h["Lambda-Runtime-Aws-Request-Id"] = []string{i.RequestID}
		h["Lambda-Runtime-Deadline-Ms"] = []string{strconv.FormatInt(i.Deadline.UnixMilli(), 10)}
		h["Lambda-Runtime-Invoked-Function-Arn"] = []string{i.FunctionARN}
		h["Lambda-Runtime-Trace-Id"] = []string{traceID(i.RequestID)}
		_, _ = w.Write(i.payload)
	case <-e.gone:
	case <-r.Context().Done():
	}
}

// answered takes the answer to the invocation that runs.
func (e *process) answered(w http.ResponseWriter, r *http.Request, id string, limit int64, make func([]byte) Response) {
	var b bytes.Buffer
	_, err := b.ReadFrom(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return // the process is ending
	}
	response := make(b.Bytes())
	large := int64(b.Len()) > limit
	if large {
		response = tooLarge()
	}
	e.mu.Lock()
	i := e.current
	if i == nil || i.RequestID != id || e.state != taken {
		e.mu.Unlock()
		reject(w, http.StatusBadRequest, "InvalidRequestID", "no invocation "+id+" runs here")
		return
	}
	if i.doomed {
		e.end()
		e.mu.Unlock()
		i.answer(exited(i, "signal: killed"))
		e.kill()
		return
	}
	e.state = settling
	e.pool(e.version).settling++
	e.mu.Unlock()
	i.answer(response)
	if large {
		reject(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "Exceeded maximum allowed payload size")
		return
	}
	accept(w)
}

// initFailed takes what a function says that cannot start.
func (e *process) initFailed(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxErrorBytes))
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != starting {
		reject(w, http.StatusForbidden, "InvalidStateTransition", "the init phase is over")
		return
	}
	e.broken = &Response{Payload: b, FunctionError: "Unhandled"}
	accept(w)
}

func accept(w http.ResponseWriter) {
	w.Header()["Content-Type"] = []string{"application/json"}
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`)
}

func reject(w http.ResponseWriter, status int, kind, message string) {
	w.Header()["Content-Type"] = []string{"application/json"}
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errorMessage":%q,"errorType":%q}`, message, kind)
}

// traceID makes an X-Ray trace of a request.
func traceID(requestID string) string {
	hex := strings.ReplaceAll(requestID, "-", "")
	return "Root=1-" + hex[:8] + "-" + hex[8:] + ";Parent=" + hex[16:] + ";Sampled=0"
}

// connections are those of an http.Server, which itself does not wait for them.
// Wait is for when it serves no more.
type connections struct{ sync.WaitGroup }

func (c *connections) state(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		c.Add(1)
	case http.StateClosed, http.StateHijacked:
		c.Done()
	}
}
