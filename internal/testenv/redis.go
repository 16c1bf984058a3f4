package testenv

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// RedisProgram is the environment variable that names a server program to be
// used instead of the redis-server, or valkey-server, in PATH: another version.
const RedisProgram = "SLUICE_TEST_REDIS"

// RedisServer is a private Redis, which can go away and come back.
type RedisServer struct {
	// Addr is its host and port, which stay the same when it is back.
	Addr string

	t       testing.TB
	program string
	options []string
	mu      sync.Mutex
	running *exec.Cmd
	end     func() error // closes the input of the keeper
}

// URL returns the server's address as a setting.
func (r *RedisServer) URL() string { return "redis://" + r.Addr }

// Redis starts a Redis for one test, which ends with it, or with the test
// binary, however that ends. It listens on a port of 127.0.0.1 and keeps
// nothing. options are those of its command line, such as --requirepass.
func Redis(t testing.TB, options ...string) *RedisServer {
	t.Helper()
	program, err := findRedis()
	if err != nil {
		missing(t, err.Error())
	}
	r := &RedisServer{t: t, program: program, options: options}
	t.Cleanup(r.Kill)
	// Between finding a free port and using it somebody else may take it.
	const attempts = 5
	for range attempts {
		if r.Addr, err = freePort(); err != nil {
			break
		}
		if err = r.start(); err == nil {
			return r
		}
	}
	t.Fatalf("private Redis: %v", err)
	return nil
}

func findRedis() (string, error) {
	names := []string{"redis-server", "valkey-server"}
	if name := os.Getenv(RedisProgram); name != "" {
		names = []string{name}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("Redis is not installed (no " + strings.Join(names, " or ") + " in PATH)")
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Start starts the server again, empty, at the address that it had.
func (r *RedisServer) Start() {
	r.t.Helper()
	if err := r.start(); err != nil {
		r.t.Fatalf("private Redis: %v", err)
	}
}

// Kill ends the server at once, as a crash does. What it held is gone.
func (r *RedisServer) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil {
		return
	}
	_ = r.end()
	_ = r.running.Wait()
	r.running = nil
}

// redisKeeper runs the server until its input ends, which happens when Kill
// says so or the test binary ends.
const redisKeeper = `"$@" &
read -r _
kill -KILL $!
wait $!`

func (r *RedisServer) start() error {
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return err
	}
	dir := r.t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{
		"-c", redisKeeper, "sh", r.program, "--bind", "127.0.0.1", "--port", port, "--dir", dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}, r.options...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.mu.Lock()
	r.running, r.end = cmd, input.Close
	r.mu.Unlock()
	if err := r.waitReady(log.Name()); err != nil {
		r.Kill()
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}

// waitReady returns when the server answers; also that a password is needed is
// an answer.
func (r *RedisServer) waitReady(log string) error {
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ping(r.Addr)
		if err == nil {
			return nil
		}
		if text, _ := os.ReadFile(log); strings.Contains(string(text), "Address already in use") {
			return errors.New("the port was taken meanwhile")
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			return fmt.Errorf("the server does not answer: %w", err)
		}
	}
}

func ping(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "+PONG") && !strings.HasPrefix(line, "-NOAUTH") {
		err = fmt.Errorf("it says %q", line)
	}
	return err
}
