package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/testenv"
)

// patience bounds every wait for the program. It is generous: machines that
// run tests are busy.
const patience = 90 * time.Second

// process is one running sluice.
type process struct {
	t       *testing.T
	dir     string // its data folder
	env     []string
	cmd     *exec.Cmd
	out     testenv.Log
	gateway string
	admin   string
	killed  bool
	done    chan struct{} // closed when it has ended
	err     error         // how it ended, after done
}

// launch starts sluice on a data folder and ports that the system chooses, and
// does not wait for it. env are settings such as "SLUICE_MAX_BODY=1MiB".
func launch(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	return launchCommand(t, "up", dir, env...)
}

// launchCommand is launch for "up" or "gateway".
func launchCommand(t *testing.T, command, dir string, env ...string) *process {
	t.Helper()
	// A process that was killed leaves it behind.
	if err := os.Remove(runFile(dir)); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	p := &process{t: t, dir: dir, env: env, done: make(chan struct{})}
	p.cmd = exec.Command(binary, command)
	p.cmd.Env = append(cleanEnv(), "SLUICE_ADDR=127.0.0.1:0", "SLUICE_ADMIN_ADDR=127.0.0.1:0", "SLUICE_DATA_DIR="+dir)
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		killed := p.killed
		p.kill()
		if t.Failed() && !killed {
			text := p.out.String()
			t.Logf("sluice said, at its end:\n%s", text[max(0, len(text)-8<<10):])
		}
	})
	return p
}

// cleanEnv is the environment without the settings of sluice.
func cleanEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SLUICE_") {
			env = append(env, v)
		}
	}
	return env
}

func runFile(dir string) string { return filepath.Join(dir, "run.json") }

// start starts sluice and waits until it is ready.
func start(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	return startCommand(t, "up", dir, env...)
}

// startCommand is start for "up" or "gateway".
func startCommand(t *testing.T, command, dir string, env ...string) *process {
	t.Helper()
	p := launchCommand(t, command, dir, env...)
	if !p.waitReady() {
		t.Fatalf("sluice did not become ready: %v\n%s", p.err, &p.out)
	}
	return p
}

// waitReady waits until the gateway answers, and returns false if the process
// ends or patience does.
func (p *process) waitReady() bool {
	deadline := time.After(patience)
	for {
		if p.readPlace() && p.ready() {
			return true
		}
		select {
		case <-p.done:
			return false
		case <-deadline:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// readPlace learns the addresses from run.json, once it is there.
func (p *process) readPlace() bool {
	text, err := os.ReadFile(runFile(p.dir))
	if err != nil {
		return false
	}
	var place struct {
		Gateway string `json:"gateway"`
		Admin   string `json:"admin"`
		PID     int    `json:"pid"`
	}
	if json.Unmarshal(text, &place) != nil || place.PID != p.cmd.Process.Pid {
		return false
	}
	p.gateway, p.admin = place.Gateway, place.Admin
	contract.Watch(p.gateway)
	contract.Ignore(p.admin) // a gateway may have had this port before
	return true
}

func (p *process) ready() bool {
	resp, err := http.Get(p.gateway + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

// stop ends the process as an operator does and wants it to end well.
func (p *process) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("sluice did not stop after SIGTERM")
	}
	if p.err != nil {
		p.t.Fatalf("sluice ended with %v", p.err)
	}
}

// kill ends the process as nothing can catch.
func (p *process) kill() {
	p.killed = true
	_ = p.cmd.Process.Kill()
	<-p.done
}

// alive fails the test if the process has ended.
func (p *process) alive() {
	p.t.Helper()
	select {
	case <-p.done:
		p.t.Fatalf("sluice has ended: %v", p.err)
	default:
	}
	if !p.ready() {
		p.t.Fatal("the gateway is not ready")
	}
}

// documents are the files that a data folder begins with.
type documents struct {
	keys, rules, destinations string
}

const (
	writeKey  = "wk_e2e_0123456789abcdefghijklmnopqrstuv"
	secretKey = "sk_e2e_0123456789abcdefghijklmnopqrstuv"
)

// everythingToWarehouse is what a first run makes, with keys that tests know.
var everythingToWarehouse = documents{
	keys: `{"keys":[{"id":"web","kind":"write","sha256":"` + hash(writeKey) + `"},` +
		`{"id":"backend","kind":"secret","sha256":"` + hash(secretKey) + `"}]}`,
	rules:        `[{"destination_name":"warehouse","enabled_events":["*"]}]`,
	destinations: `[{"destination_name":"warehouse","connector":"sqlite"}]`,
}

func hash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// dataFolder makes a data folder with documents in it.
func dataFolder(t *testing.T, d documents) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"keys.json": d.keys, "rules.json": d.rules, "destinations.json": d.destinations} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// answer is what the gateway says.
type answer struct {
	status int
	header http.Header
	body   string

	Accepted int       `json:"accepted"`
	Rejected int       `json:"rejected"`
	IDs      []*string `json:"ids"`
	Errors   []struct {
		Index   int    `json:"index"`
		Pointer string `json:"pointer"`
		Code    string `json:"code"`
	} `json:"errors"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// post sends a body to the events route with the write key.
func (p *process) post(body string) answer {
	p.t.Helper()
	return p.send("/v1/events", body, nil)
}

// send posts a body; header may replace the key and the content type.
func (p *process) send(path, body string, header http.Header) answer {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.gateway+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+writeKey)
	req.Header.Set("Content-Type", "application/json")
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(text)}
	if err := json.Unmarshal(text, &a); err != nil {
		p.t.Fatalf("%d %s: %v", a.status, text, err)
	}
	return a
}

// run runs a command of the binary on the data folder of the process and
// returns what it printed and its exit status.
func (p *process) run(args ...string) (stdout, stderr string, status int) {
	p.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(append(cleanEnv(), "SLUICE_DATA_DIR="+p.dir), p.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
