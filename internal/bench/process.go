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

// result is one run of one workload against one target.
type result struct {
	measured
	// cpu is the user and system time of the server per event, from the first
	// event to the moment when all were dealt with, reading and filtering
	// included.
	cpu time.Duration
	// received is what the sink got, sinkCPU what it used of the load's core, 1
	// being all of it for as long as the load took.
	received received
	sinkCPU  float64
}

// run measures a target.
func (b bench) run(ctx context.Context, t target, w workload) (result, error) {
	switch {
	case t.sluice == "":
		return b.runBare(ctx, w)
	case t.kinesis.shards > 0:
		return b.runKinesis(ctx, t, w)
	}
	return b.runSluice(ctx, t, w)
}

// runBare measures the bare handler.
func (b bench) runBare(ctx context.Context, w workload) (r result, err error) {
	cmd, addr, err := b.startSelf(ctx, b.serverAt, "bare")
	if err != nil {
		return r, err
	}
	defer end(cmd)
	before := cpuOf(cmd.Process.Pid)
	if r.measured, err = b.runLoad(ctx, target{}, w, addr, "none"); err != nil {
		return r, err
	}
	r.cpu = (cpuOf(cmd.Process.Pid) - before) / time.Duration(r.AllEvents)
	return r, nil
}

// startSelf starts a part of this program and returns its address.
func (b bench) startSelf(ctx context.Context, cpu int, args ...string) (cmd *exec.Cmd, addr string, err error) {
	cmd = exec.CommandContext(ctx, b.self, args...)
	cmd.Env = append(os.Environ(), procs)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := startOn(cmd, cpu); err != nil {
		return nil, "", err
	}
	addr, err = bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		end(cmd)
		return nil, "", fmt.Errorf("start %s: %w", args[0], err)
	}
	return cmd, strings.TrimSpace(addr), nil
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// runKinesis measures the gateway in front of a sink. The sink must have got
// every event that was answered, and each of them once.
func (b bench) runKinesis(ctx context.Context, t target, w workload) (r result, err error) {
	cmd, addr, err := b.startSelf(ctx, b.loadAt, "sink", "-latency", t.kinesis.latency.String(), "-shards", strconv.Itoa(t.kinesis.shards))
	if err != nil {
		return r, err
	}
	defer end(cmd)
	t.env = append(kinesisEnv(addr), t.env...)
	if r, err = b.runSluice(ctx, t, w); err != nil {
		return r, err
	}
	r.sinkCPU = cpuOf(cmd.Process.Pid).Seconds() / (b.warmup + b.duration).Seconds()
	if err := get(ctx, "http://"+addr, &r.received); err != nil {
		return r, fmt.Errorf("sink: %w", err)
	}
	if r.Answered != r.received.tally {
		return r, fmt.Errorf("the events that were answered are not those that the sink got: %+v and %+v", r.Answered, r.received.tally)
	}
	return r, nil
}

// kinesisEnv makes an AWS SDK call the sink, whatever else is configured on
// this machine.
func kinesisEnv(addr string) []string {
	return []string{
		"SLUICE_STREAM=kinesis://" + streamName,
		"AWS_ENDPOINT_URL_KINESIS=http://" + addr,
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench", "AWS_SESSION_TOKEN=",
		"AWS_PROFILE=", "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
		"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=false", "AWS_EC2_METADATA_DISABLED=true",
	}
}

// runSluice measures sluice on an empty data folder.
func (b bench) runSluice(ctx context.Context, t target, w workload) (r result, err error) {
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(data)
	const key = "wk_bench_0123456789abcdef0123456789abcdef"
	if err := writeDocuments(data, key, t.schemas); err != nil {
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
	cmd := exec.CommandContext(ctx, b.binary, t.sluice)
	cmd.Env = append(append(os.Environ(), procs, "SLUICE_ADDR=127.0.0.1:0", "SLUICE_ADMIN_ADDR=127.0.0.1:0", "SLUICE_DATA_DIR="+data), t.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := startOn(cmd, b.serverAt); err != nil {
		return r, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); close(ended) }()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if stop := <-ended; err == nil && stop != nil {
			err = fmt.Errorf("stop: %w", stop)
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
	go func() { profiled <- b.takeProfile(ctx, place.Admin, t, w) }()
	before := cpuOf(cmd.Process.Pid)
	if r.measured, err = b.runLoad(ctx, t, w, gateway.Host, key); err != nil {
		return r, err
	}
	if err := <-profiled; err != nil {
		return r, err
	}
	if err := settle(ctx, place.Admin, t, r.AllEvents); err != nil {
		return r, err
	}
	r.cpu = (cpuOf(cmd.Process.Pid) - before) / time.Duration(r.AllEvents)
	return r, nil
}

// takeProfile writes a CPU profile of the measured time of a target, if that
// was asked for. A later round replaces it.
func (b bench) takeProfile(ctx context.Context, admin string, t target, w workload) error {
	if b.profiles == "" {
		return nil
	}
	seconds := max(1, int((b.warmup + b.duration).Seconds()))
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
	file, err := os.Create(filepath.Join(b.profiles, strings.NewReplacer(", ", "-", " ", "-").Replace(w.name+", "+t.name)+".pprof"))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, resp.Body)
	return errors.Join(err, file.Close())
}

// writeDocuments makes a key with limits that are on and never reached, a
// destination whose rule wants none of the events and, if wanted, schemas.
func writeDocuments(data, key string, schemas bool) error {
	sum := sha256.Sum256([]byte(key))
	documents := map[string]string{
		"keys.json": `{"keys":[{"id":"bench","kind":"write","source":"bench","sha256":"` + hex.EncodeToString(sum[:]) +
			`","events":["*"],"rate":{"per_second":100000000,"burst":100000000}}]}`,
		"rules.json":        `[{"destination_name":"warehouse","enabled_events":["never_sent"]}]`,
		"destinations.json": `[{"destination_name":"warehouse","connector":"sqlite"}]`,
	}
	if schemas {
		var err error
		if documents["schemas.json"], err = buildSchemas(); err != nil {
			return err
		}
	}
	for name, text := range documents {
		if err := os.WriteFile(filepath.Join(data, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// buildSchemas returns a document with a schema for the events of the load, and
// 49 for others.
func buildSchemas() (string, error) {
	const contract = `{"type":"object","required":["product_id","name","price","currency"],"additionalProperties":false,"properties":{` +
		`"product_id":{"type":"string","pattern":"^sku-[0-9]{6}$"},"name":{"type":"string","minLength":1,"maxLength":200},` +
		`"category":{"enum":["bags","shoes","coats"]},"price":{"type":"number","minimum":0},"currency":{"enum":["EUR","USD"]},` +
		`"position":{"type":"integer","minimum":0},"in_stock":{"type":"boolean"},` +
		`"tags":{"type":"array","items":{"type":"string"},"maxItems":10,"uniqueItems":true}}}`
	type entry struct {
		Name   string          `json:"name"`
		Mode   string          `json:"mode"`
		Schema json.RawMessage `json:"schema"`
	}
	entries := []entry{{Name: "product_viewed", Mode: "reject", Schema: json.RawMessage(contract)}}
	for n := 1; n < 50; n++ {
		entries = append(entries, entry{Name: fmt.Sprintf("other_%d", n), Mode: "reject", Schema: json.RawMessage(contract)})
	}
	doc, err := json.Marshal(map[string]any{"schemas": entries})
	return string(doc), err
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

// settled reports whether every event is on the stream, and has been read and
// filtered where that is for the process to do.
func (s statement) settled(t target) bool {
	if s.Stored != s.Accepted {
		return false
	}
	d, delivers := s.Destinations["warehouse"]
	return delivers == (t.sluice == oneMachine.sluice) && (!delivers || d.Unrouted == 0 && d.Filtered == s.Stored)
}

// settle waits until every event has been dealt with, and checks that the
// ledger accounts for all that were answered.
func settle(ctx context.Context, admin string, t target, events int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var s statement
		if err := get(ctx, admin+"/api/ledger", &s); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		switch {
		case s.Residual != 0:
			return fmt.Errorf("ledger: the residual is %d: %+v", s.Residual, s)
		case s.Accepted != events:
			return fmt.Errorf("ledger: %d events were answered and %d accepted", events, s.Accepted)
		case s.settled(t):
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ledger: not settled: %+v", s)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// get reads a JSON document.
func get(ctx context.Context, url string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// runLoad runs the load in a process of its own.
func (b bench) runLoad(ctx context.Context, t target, w workload, addr, key string) (m measured, err error) {
	cmd := exec.CommandContext(ctx, b.self, "load", "-addr", addr, "-key", key,
		"-ids="+strconv.FormatBool(t.sluice != ""), "-own-ids="+strconv.FormatBool(t.ownIDs),
		"-connections", strconv.Itoa(w.connections), "-per-request", strconv.Itoa(w.perRequest), "-rate", strconv.Itoa(w.rate),
		"-warmup", b.warmup.String(), "-duration", b.duration.String())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := startOn(cmd, b.loadAt); err != nil {
		return m, err
	}
	if err := cmd.Wait(); err != nil {
		return m, errors.Join(err, errors.New(strings.TrimSpace(stderr.String())))
	}
	err = json.Unmarshal(stdout.Bytes(), &m)
	return m, err
}
