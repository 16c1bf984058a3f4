package lambdatest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
)

// bootstrap is the program of a function: this test binary, started again. It
// speaks the runtime API by itself.
func bootstrap(kind string) {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/"
	post := func(path, body string) int {
		resp, err := http.Post(base+path, "application/json", strings.NewReader(body))
		if err != nil {
			os.Exit(7)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.StatusCode
	}
	switch kind {
	case "exits":
		fmt.Println("no rules")
		os.Exit(3)
	case "reports":
		post("init/error", `{"errorMessage":"no rules","errorType":"Init"}`)
		os.Exit(1)
	}
	fmt.Println("started")
	for n := 1; ; n++ {
		resp, err := http.Get(base + "invocation/next")
		if err != nil {
			os.Exit(7)
		}
		payload, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
		var command string
		_ = json.Unmarshal(payload, &command)
		switch command {
		case "error":
			post("invocation/"+id+"/error", `{"errorMessage":"broken","errorType":"E"}`)
		case "panic":
			post("invocation/"+id+"/error", `{"errorMessage":"goexit","errorType":"P","stackTrace":[]}`)
			os.Exit(1)
		case "exit":
			os.Stdout.WriteString("without a line feed")
			os.Exit(4)
		case "hang":
			fmt.Println("hanging")
			select {}
		case "answer and hang":
			post("invocation/"+id+"/response", `"answered"`)
			select {}
		case "answer and exit":
			post("invocation/"+id+"/response", `"answered"`)
			os.Exit(0)
		case "no answer":
		case "two answers":
			post("invocation/"+id+"/response", `"first"`)
			os.Stdout.WriteString("second: " + strconv.Itoa(post("invocation/"+id+"/response", `"second"`)) + "\n")
		case "another's answer":
			os.Stdout.WriteString("another's: " + strconv.Itoa(post("invocation/none/response", `""`)) + "\n")
			post("invocation/"+id+"/response", `"mine"`)
		case "large":
			post("invocation/"+id+"/response", `"`+strings.Repeat("x", 6<<20)+`"`)
		case "wrong paths":
			for _, path := range []string{"", "invocation/" + id, "invocation/next", "init/error"} {
				os.Stdout.WriteString(path + ": " + strconv.Itoa(post(path, "{}")) + "\n")
			}
			post("invocation/"+id+"/response", `"done"`)
		case "environment":
			env, _ := json.Marshal(os.Environ())
			post("invocation/"+id+"/response", string(env))
		default:
			out, _ := json.Marshal(map[string]any{
				"n": n, "pid": os.Getpid(), "payload": json.RawMessage(payload),
				"id": id, "arn": resp.Header.Get("Lambda-Runtime-Invoked-Function-Arn"),
				"deadline": resp.Header.Get("Lambda-Runtime-Deadline-Ms"), "trace": resp.Header.Get("Lambda-Runtime-Trace-Id"),
			})
			if kind != "quiet" {
				os.Stderr.WriteString("echo " + string(payload) + "\n")
			}
			post("invocation/"+id+"/response", string(out))
		}
	}
}

func executable(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// self is a function whose program is this one.
func self(t *testing.T, kind string) lambdatest.Function {
	t.Helper()
	return lambdatest.Function{
		Name: "f", Aliases: map[string]string{"prod": "3"}, Bootstrap: executable(t),
		Env: []string{"BOOTSTRAP=" + kind, "RULES_BUCKET=rules", "GOCOVERDIR=" + t.TempDir()}, Timeout: 30 * time.Second,
	}
}

// echo is what the program answers to what is no command.
type echo struct {
	N, PID          int
	Payload         json.RawMessage
	ID, ARN         string
	Deadline, Trace string
}

func invoke(t *testing.T, s *lambdatest.Server, name, payload string) lambdatest.Response {
	t.Helper()
	r, err := s.Invoke(name, []byte(payload))
	if err != nil {
		t.Fatal(payload, err)
	}
	return r
}

func echoed(t *testing.T, s *lambdatest.Server, name, payload string) (e echo) {
	t.Helper()
	r := invoke(t, s, name, payload)
	if err := json.Unmarshal(r.Payload, &e); err != nil || r.FunctionError != "" {
		t.Fatalf("%s: %+v %s, %v", payload, r, r.Payload, err)
	}
	if e.ID != r.RequestID {
		t.Errorf("the function was told %s, the caller %s", e.ID, r.RequestID)
	}
	return e
}

func TestAProcessIsStartedOnceAndReused(t *testing.T) {
	t.Parallel()
	s := lambdatest.New(t, lambdatest.Config{Functions: []lambdatest.Function{self(t, "echo")}})
	before := time.Now()
	var pid int
	for n := 1; n <= 20; n++ {
		e := echoed(t, s, "f:prod", `{"n":`+strconv.Itoa(n)+`}`)
		if n == 1 {
			pid = e.PID
		}
		if e.N != n || e.PID != pid || string(e.Payload) != `{"n":`+strconv.Itoa(n)+`}` {
			t.Fatalf("invocation %d: %+v", n, e)
		}
		if e.ARN != s.ARN("f", "prod") || !strings.HasPrefix(e.Trace, "Root=1-") {
			t.Errorf("invoked as %s in %s", e.ARN, e.Trace)
		}
		ms, err := strconv.ParseInt(e.Deadline, 10, 64)
		if deadline := time.UnixMilli(ms); err != nil || deadline.Before(before.Add(29*time.Second)) || deadline.After(time.Now().Add(30*time.Second)) {
			t.Errorf("deadline %s, now %s", deadline, time.Now())
		}
	}
	stats := s.Stats("f")
	if stats.ColdStarts != 1 || len(stats.InitDurations) != 1 || stats.Invocations != 20 || stats.Errors != 0 {
		t.Errorf("%+v", stats)
	}
	// A version has environments of its own.
	if e := echoed(t, s, "f", "{}"); e.PID == pid {
		t.Error("$LATEST runs where version 3 does")
	}
	// What a process writes arrives by a pipe of its own, after its answer or before.
	for deadline := time.Now().Add(30 * time.Second); ; {
		log := s.Log("f")
		if strings.Count(log, "started\n") == 2 && strings.Contains(log, `echo {"n":20}`+"\n") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("log: %s", log)
		}
		<-time.After(time.Millisecond)
	}
}

func TestWhatAProcessFindsInItsEnvironment(t *testing.T) {
	t.Parallel()
	f := self(t, "echo")
	f.MemoryMB = 256
	s := lambdatest.New(t, lambdatest.Config{Functions: []lambdatest.Function{f}, Region: "eu-west-1"})
	var env []string
	if err := json.Unmarshal(invoke(t, s, "f:prod", `"environment"`).Payload, &env); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"AWS_LAMBDA_FUNCTION_NAME=f", "AWS_LAMBDA_FUNCTION_VERSION=3", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/f", "_HANDLER=bootstrap", "AWS_REGION=eu-west-1",
		"AWS_ENDPOINT_URL_LAMBDA=" + s.URL(), "RULES_BUCKET=rules", "LAMBDA_TASK_ROOT=" + filepath.Dir(f.Bootstrap),
	} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is not there", want)
		}
	}
	if slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, "HOME=") }) {
		t.Error("the environment of the test is there")
	}
}

func TestHowAProcessFails(t *testing.T) {
	t.Parallel()
	s := lambdatest.New(t, lambdatest.Config{Functions: []lambdatest.Function{self(t, "echo")}})
	pid := echoed(t, s, "f", "{}").PID
	for _, test := range []struct {
		command, payload, kind string
		lives                  bool // the environment
	}{
		{"error", `{"errorMessage":"broken","errorType":"E"}`, "Unhandled", true},
		{"large", `{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291456 bytes).","errorType":"Function.ResponseSizeTooLarge"}`, "Unhandled", true},
		{"no answer", `{"errorMessage":"RequestId: ID Error: the runtime asked for the next event without an answer","errorType":"Runtime.NoResponse"}`, "Unhandled", true},
		{"two answers", `"first"`, "", true},
		{"another's answer", `"mine"`, "", true},
		{"wrong paths", `"done"`, "", true},
		{"panic", `{"errorMessage":"goexit","errorType":"P","stackTrace":[]}`, "Unhandled", false},
		{"exit", `{"errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 4","errorType":"Runtime.ExitError"}`, "Unhandled", false},
		{"answer and exit", `"answered"`, "", false},
	} {
		r := invoke(t, s, "f", `"`+test.command+`"`)
		if got := strings.ReplaceAll(string(r.Payload), r.RequestID, "ID"); got != test.payload || r.FunctionError != test.kind {
			t.Errorf("%s: %s (%s)", test.command, got, r.FunctionError)
		}
		e := echoed(t, s, "f", "{}")
		if lives := e.PID == pid; lives != test.lives {
			t.Errorf("%s: the environment lives: %t", test.command, lives)
		}
		pid = e.PID
	}
	for _, want := range []string{"second: 400\n", "another's: 400\n", "without a line feed\n", ": 404\n", "init/error: 403\n", "invocation/next: 404\n"} {
		if !strings.Contains(s.Log("f"), want) {
			t.Errorf("the log has no %q: %s", want, s.Log("f"))
		}
	}
	stats := s.Stats("f")
	if stats.ColdStarts != 4 || stats.Errors != 5 || stats.Invocations != 19 {
		t.Errorf("%+v", stats)
	}
}

func TestAProcessIsKilledAtItsTimeout(t *testing.T) {
	t.Parallel()
	f := self(t, "echo")
	f.Timeout = 300 * time.Millisecond
	s := lambdatest.New(t, lambdatest.Config{Functions: []lambdatest.Function{f}})
	r := invoke(t, s, "f", `"hang"`)
	if want := `{"errorMessage":"RequestId: ` + r.RequestID + ` Error: Task timed out after 0.30 seconds","errorType":"Sandbox.Timedout"}`; string(r.Payload) != want || r.FunctionError != "Unhandled" {
		t.Errorf("%s (%s)", r.Payload, r.FunctionError)
	}
	// It has answered in time, and is killed all the same: the next invocation
	// waits for it, and then starts another.
	if r := invoke(t, s, "f", `"answer and hang"`); string(r.Payload) != `"answered"` {
		t.Errorf("%s", r.Payload)
	}
	if r := invoke(t, s, "f", `"error"`); string(r.Payload) != `{"errorMessage":"broken","errorType":"E"}` {
		t.Errorf("%s", r.Payload)
	}
	if stats := s.Stats("f"); stats.ColdStarts != 3 || stats.Timeouts != 1 || stats.Errors != 2 {
		t.Errorf("%+v", stats)
	}
	if log := s.Log("f"); strings.Count(log, "Task timed out after 0.30 seconds") != 1 {
		t.Errorf("log: %s", log)
	}
}

func TestAProcessThatCannotStart(t *testing.T) {
	t.Parallel()
	text := filepath.Join(t.TempDir(), "bootstrap")
	if err := os.WriteFile(text, []byte("not a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ kind, path, want string }{
		{"exits", "", `{"errorMessage":"Error: Runtime exited with error: exit status 3","errorType":"Runtime.ExitError"}`},
		{"reports", "", `{"errorMessage":"no rules","errorType":"Init"}`},
		{"no file", text + "s", `no such file`},
		{"no program", text, `exec format error`},
	} {
		f := self(t, test.kind)
		if test.path != "" {
			f.Bootstrap = test.path
		}
		s := lambdatest.New(t, lambdatest.Config{Functions: []lambdatest.Function{f}})
		for range 2 {
			if r := invoke(t, s, "f", "{}"); !strings.Contains(string(r.Payload), test.want) || r.FunctionError != "Unhandled" {
				t.Errorf("%s: %s (%s)", test.kind, r.Payload, r.FunctionError)
			}
		}
		if stats := s.Stats("f"); stats.ColdStarts != 2 || len(stats.InitDurations) != 0 || stats.Errors != 2 {
			t.Errorf("%s: %+v", test.kind, stats)
		}
	}
}

func TestFaultsEndProcesses(t *testing.T) {
	t.Parallel()
	s := lambdatest.New(t, lambdatest.Config{Functions: []lambdatest.Function{self(t, "echo")}})
	pid := echoed(t, s, "f", `"warm"`).PID
	for at, ran := range map[lambdatest.Stage]bool{lambdatest.BeforeRunning: false, lambdatest.AfterRunning: true} {
		trouble := s.FailRuns(lambdatest.Crash(at).Times(1))
		payload := `"crash ` + strconv.Itoa(int(at)) + `"`
		r := invoke(t, s, "f", payload)
		if want := `{"errorMessage":"RequestId: ` + r.RequestID + ` Error: Runtime exited with error: signal: killed","errorType":"Runtime.ExitError"}`; string(r.Payload) != want {
			t.Errorf("%s", r.Payload)
		}
		e := echoed(t, s, "f", "{}") // what was written before it died is there now
		if e.PID == pid || trouble.Hits() != 1 {
			t.Errorf("the environment lives, after %d hits", trouble.Hits())
		}
		if got := strings.Contains(s.Log("f"), "echo "+payload); got != ran {
			t.Errorf("stage %d: it ran: %t", at, got)
		}
		pid = e.PID
	}
	if stats := s.Stats("f"); stats.ColdStarts != 3 {
		t.Errorf("%+v", stats)
	}
}

// Many at once: no more environments than invocations at a time, and each answer
// is of its question.
func TestProcessesServeManyAtOnce(t *testing.T) {
	t.Parallel()
	f := self(t, "echo")
	f.Concurrency = 3
	var lines bytes.Buffer
	var mu sync.Mutex
	f.OnLog = func(line []byte) {
		mu.Lock()
		defer mu.Unlock()
		lines.Write(append(line, '\n'))
	}
	s := lambdatest.New(t, lambdatest.Config{Functions: []lambdatest.Function{f}})
	var wg sync.WaitGroup
	for worker := range 3 {
		wg.Go(func() {
			for n := range 100 {
				payload := fmt.Sprintf(`"%d of %d"`, n, worker)
				if e := echoed(t, s, "f", payload); string(e.Payload) != payload {
					t.Errorf("%s was answered %s", payload, e.Payload)
				}
			}
		})
	}
	wg.Wait()
	stats := s.Stats("f")
	if stats.ColdStarts > 3 || stats.Invocations != 300 || stats.Errors != 0 || stats.Throttles != 0 {
		t.Errorf("%+v", stats)
	}
	s.Close() // everything written has been read
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Count(lines.String(), "echo "); got != 300 || lines.Len() != len(s.Log("f")) {
		t.Errorf("%d lines, log of %d bytes, lines of %d", got, len(s.Log("f")), lines.Len())
	}
}

func TestCloseLeavesNoProcess(t *testing.T) {
	t.Parallel()
	f := self(t, "echo")
	hangs := make(chan struct{})
	f.OnLog = func(line []byte) {
		if string(line) == "hanging" {
			close(hangs)
		}
	}
	s := lambdatest.New(t, lambdatest.Config{Functions: []lambdatest.Function{f}})
	pid := echoed(t, s, "f", "{}").PID
	hanging := make(chan error)
	go func() {
		_, err := s.Invoke("f", []byte(`"hang"`))
		hanging <- err
	}()
	<-hangs
	other := echoed(t, s, "f", "{}").PID
	if other == pid {
		t.Error("two invocations at once in one environment")
	}
	s.Close()
	if err := <-hanging; err == nil {
		t.Error("a function that was cut has a response")
	}
	for _, pid := range []int{pid, other} {
		if p, err := os.FindProcess(pid); err == nil && p.Signal(nothing) == nil {
			t.Errorf("process %d lives", pid)
		}
	}
}
