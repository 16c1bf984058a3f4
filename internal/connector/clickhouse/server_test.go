package clickhouse

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eventsluice/sluice/internal/testenv"
)

// server is a database of its own on ClickHouse's engine, behind a front that
// checks user and password as ClickHouse does, and loses answers as networks do.
type server struct {
	*httptest.Server
	engine   string // address of the engine
	database string
	user     string
	password string

	mu      sync.Mutex
	lose    int // answers of the next calls
	inserts int // that were carried out
}

var databases atomic.Int64

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{engine: engine(t), database: fmt.Sprintf("test_%d", databases.Add(1)), user: "sluice", password: "pa55 w:rd/with@signs?"}
	s.exec(t, "CREATE DATABASE "+s.database)
	s.Server = httptest.NewServer(http.HandlerFunc(s.front))
	t.Cleanup(s.Close)
	return s
}

// settings lead a connector to the server, unless one of those given says else.
func (s *server) settings(t testing.TB, changes map[string]any) []byte {
	t.Helper()
	settings := map[string]any{"url": s.URL, "user": s.user, "password": s.password, "table": s.database + ".events"}
	maps.Copy(settings, changes)
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// exec carries statements out, and returns the answer to the last.
func (s *server) exec(t testing.TB, statements ...string) (answer string) {
	t.Helper()
	for _, statement := range statements {
		resp, err := http.Post(s.engine, "", strings.NewReader(strings.ReplaceAll(statement, "{db}", s.database)))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s %v", statement, resp.StatusCode, text, err)
		}
		answer = string(text)
	}
	return answer
}

// count returns how many rows there are; how is "" or " FINAL".
func (s *server) count(t testing.TB, how string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s.exec(t, "SELECT count() FROM {db}.events"+how)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// unescaped reads a text of TabSeparated.
var unescaped = strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r", `\0`, "\x00", `\'`, `'`)

// loses makes the answers of the next n calls get lost.
func (s *server) loses(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lose = n
}

func (s *server) front(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if r.Header.Get("X-ClickHouse-User") != s.user || r.Header.Get("X-ClickHouse-Key") != s.password {
		exceptionAnswer(w, http.StatusForbidden, 516, "sluice: Authentication failed: password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)")
		return
	}
	status, header, answer, err := s.forward(r, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if query := r.URL.Query(); status == http.StatusOK && query.Has("insert_deduplication_token") {
		s.mu.Lock()
		s.inserts++
		s.mu.Unlock()
	}
	s.mu.Lock()
	lose := s.lose > 0
	if lose {
		s.lose--
	}
	s.mu.Unlock()
	if lose {
		panic(http.ErrAbortHandler)
	}
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

// exceptionAnswer answers as ClickHouse does with an error.
func exceptionAnswer(w http.ResponseWriter, status, code int, text string) {
	w.Header().Set("X-ClickHouse-Exception-Code", fmt.Sprint(code))
	w.WriteHeader(status)
	fmt.Fprintf(w, "Code: %d. DB::Exception: %s (version 26.5.1.1)\n", code, text)
}

func (s *server) forward(r *http.Request, body []byte) (status int, header http.Header, answer []byte, err error) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, s.engine+"?"+r.URL.RawQuery, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Content-Encoding", r.Header.Get("Content-Encoding"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, answer, err
}

// engine returns the address of testdata/server.py. It is started by the first
// test and ends with the test binary, however that ends.
func engine(t testing.TB) string {
	t.Helper()
	python := testenv.Python(t, "testdata/requirements.txt")
	starting.Do(func() { address, startError = start(python) })
	if startError != nil {
		t.Fatalf("ClickHouse's engine: %v", startError)
	}
	return address
}

var (
	starting   sync.Once
	address    string
	startError error
)

func start(python string) (string, error) {
	var faults bytes.Buffer
	cmd := exec.Command(python, "testdata/server.py")
	cmd.Stderr = &faults
	// The pipe is never written to. It ends with this process.
	_, err := cmd.StdinPipe()
	output, pipeError := cmd.StdoutPipe()
	if err := errors.Join(err, pipeError); err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	port, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("it does not start: %w\n%s", cmp.Or(cmd.Wait(), err), faults.Bytes())
	}
	go func() { _ = cmd.Wait() }() // holds the pipe
	return "http://127.0.0.1:" + strings.TrimSpace(port) + "/", nil
}
