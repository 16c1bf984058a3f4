package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// anyCPU leaves the choice of the core to the system.
const anyCPU = -1

// procs is GOMAXPROCS of the servers. With 1, a blocking fsync holds the only
// scheduler slot; both servers get the same.
const procs = "GOMAXPROCS=2"

// result is one run of one workload against one server.
type result struct {
	measured
	// cpu is the user and system time of the server per event, from the first
	// event to the moment when all were dealt with, reading and filtering
	// included.
	cpu time.Duration
}

// runBare measures the bare handler.
func runBare(ctx context.Context, o options, self string, w workload) (r result, err error) {
	cmd := exec.CommandContext(ctx, self, "bare")
	cmd.Env = append(os.Environ(), procs)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	if err := startOn(cmd, o.serverAt); err != nil {
		return r, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return r, fmt.Errorf("start: %w", err)
	}
	before := cpuOf(cmd.Process.Pid)
	if r.measured, err = runLoad(ctx, o, self, w, strings.TrimSpace(addr), "none"); err != nil {
		return r, err
	}
	r.cpu = (cpuOf(cmd.Process.Pid) - before) / time.Duration(r.AllEvents)
	return r, nil
}

// runSluice measures sluice on an empty data folder.
func runSluice(ctx context.Context, o options, self, dir string, w workload) (r result, err error) {
	data, err := os.MkdirTemp(dir, "data-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(data)
	const key = "wk_bench_0123456789abcdef0123456789abcdef"
	if err := writeDocuments(data, key); err != nil {
		return r, err
	}
	logName := filepath.Join(data, "log")
	log, err := os.Create(logName)
	if err != nil {
		return r, err
	}
	defer log.Close()
	defer func() {
		if err != nil {
			text, _ := os.ReadFile(logName)
			err = fmt.Errorf("%w\nits log ends:\n%s", err, text[max(0, len(text)-4096):])
		}
	}()
	cmd := exec.CommandContext(ctx, o.binary, "up")
	cmd.Env = append(os.Environ(), procs, "SLUICE_ADDR=127.0.0.1:0", "SLUICE_ADMIN_ADDR=127.0.0.1:0", "SLUICE_DATA_DIR="+data)
	cmd.Stdout, cmd.Stderr = log, log
	if err := startOn(cmd, o.serverAt); err != nil {
		return r, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if stopped := <-ended; err == nil && stopped != nil {
			err = fmt.Errorf("stop: %w", stopped)
		}
	}()
	place, err := waitForPlace(ctx, data, ended)
	if err != nil {
		return r, err
	}
	gateway, err := url.Parse(place.Gateway)
	if err != nil {
		return r, err
	}
	profiled := make(chan error, 1)
	go func() { profiled <- o.takeProfile(ctx, place.Admin, w) }()
	before := cpuOf(cmd.Process.Pid)
	if r.measured, err = runLoad(ctx, o, self, w, gateway.Host, key); err != nil {
		return r, err
	}
	if err := <-profiled; err != nil {
		return r, err
	}
	if err := settle(ctx, place.Admin, r.AllEvents); err != nil {
		return r, err
	}
	r.cpu = (cpuOf(cmd.Process.Pid) - before) / time.Duration(r.AllEvents)
	return r, nil
}

// takeProfile writes a CPU profile of the measured time of a workload, if that
// was asked for. A later round replaces it.
func (o options) takeProfile(ctx context.Context, admin string, w workload) error {
	if o.profiles == "" {
		return nil
	}
	seconds := max(1, int((o.warmup + o.duration).Seconds()))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", admin, seconds), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s", resp.Status)
	}
	file, err := os.Create(filepath.Join(o.profiles, fmt.Sprintf("%d-connections-%d-events.pprof", w.connections, w.perRequest)))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, resp.Body)
	return errors.Join(err, file.Close())
}

// writeDocuments makes a key with limits that are on and never reached, and a
// destination whose rule wants none of the events.
func writeDocuments(data, key string) error {
	sum := sha256.Sum256([]byte(key))
	for name, text := range map[string]string{
		"keys.json": `{"keys":[{"id":"bench","kind":"write","source":"bench","sha256":"` + hex.EncodeToString(sum[:]) +
			`","events":["*"],"rate":{"per_second":100000000,"burst":100000000}}]}`,
		"rules.json":        `[{"destination_name":"warehouse","enabled_events":["never_sent"]}]`,
		"destinations.json": `[{"destination_name":"warehouse","connector":"sqlite"}]`,
	} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// place is what a running sluice writes into its data folder.
type place struct {
	Gateway string `json:"gateway"`
	Admin   string `json:"admin"`
}

func waitForPlace(ctx context.Context, data string, ended <-chan error) (p place, err error) {
	for {
		if text, err := os.ReadFile(filepath.Join(data, "run.json")); err == nil {
			err = json.Unmarshal(text, &p)
			return p, err
		}
		select {
		case <-ctx.Done():
			return p, ctx.Err()
		case err := <-ended:
			return p, fmt.Errorf("ended at its start: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// statement is the part of the ledger that is checked.
type statement struct {
	Accepted     int `json:"accepted"`
	Stored       int `json:"stored"`
	Residual     int `json:"residual"`
	Destinations map[string]struct {
		Filtered int `json:"filtered"`
		Unrouted int `json:"unrouted"`
	} `json:"destinations"`
}

// settle waits until every event has been read and filtered, and checks that
// the ledger accounts for all that were answered.
func settle(ctx context.Context, admin string, events int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/api/ledger", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		var s statement
		err = json.NewDecoder(resp.Body).Decode(&s)
		_ = resp.Body.Close()
		if err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		if s.Residual != 0 {
			return fmt.Errorf("ledger: the residual is %d: %+v", s.Residual, s)
		}
		d := s.Destinations["warehouse"]
		if d.Unrouted == 0 && d.Filtered == s.Stored {
			if s.Accepted != events {
				return fmt.Errorf("ledger: %d events were answered and %d accepted", events, s.Accepted)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ledger: not settled: %+v", s)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// runLoad runs the load in a process of its own.
func runLoad(ctx context.Context, o options, self string, w workload, addr, key string) (m measured, err error) {
	cmd := exec.CommandContext(ctx, self, "load", "-addr", addr, "-key", key,
		"-connections", strconv.Itoa(w.connections), "-per-request", strconv.Itoa(w.perRequest),
		"-warmup", o.warmup.String(), "-duration", o.duration.String())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := startOn(cmd, o.loadAt); err != nil {
		return m, err
	}
	if err := cmd.Wait(); err != nil {
		return m, errors.Join(err, errors.New(strings.TrimSpace(stderr.String())))
	}
	err = json.Unmarshal(stdout.Bytes(), &m)
	return m, err
}
