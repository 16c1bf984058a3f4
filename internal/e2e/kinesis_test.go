package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/stream"
)

const kinesisStream = "events"

// newKinesis starts an endpoint with a stream of two shards.
func newKinesis(t *testing.T) *kinesistest.Server {
	return kinesistest.New(t, kinesistest.Config{Streams: []kinesistest.Stream{{Name: kinesisStream, Shards: 2}}})
}

// onKinesis are the settings of a gateway before an endpoint.
func onKinesis(server *kinesistest.Server, more ...string) []string {
	return slices.Concat(server.Env(), []string{"SLUICE_STREAM=kinesis://" + kinesisStream}, more)
}

// gateway starts a gateway before an endpoint.
func gateway(t *testing.T, dir string, server *kinesistest.Server, more ...string) *process {
	t.Helper()
	return startCommand(t, "gateway", dir, onKinesis(server, more...)...)
}

// streamed returns the events on a stream, those of a shard in its order, each
// at its first copy. With unique it wants no second one.
func streamed(t *testing.T, server *kinesistest.Server, unique bool) []row {
	t.Helper()
	var rows []row
	seen := map[string]bool{}
	for _, record := range server.Records(kinesisStream) {
		for _, raw := range stream.Deaggregate(stream.Record{PartitionKey: record.PartitionKey, Data: record.Data}) {
			var e struct {
				ID     string          `json:"id"`
				Name   string          `json:"name"`
				UserID string          `json:"user_id"`
				Source string          `json:"source"`
				Data   json.RawMessage `json:"data"`
			}
			if err := json.Unmarshal(raw, &e); err != nil {
				t.Fatalf("%q is on the stream: %v", raw, err)
			}
			if seen[e.ID] {
				if unique {
					t.Errorf("%s is on the stream twice", e.ID)
				}
				continue
			}
			seen[e.ID] = true
			rows = append(rows, row{id: e.ID, name: e.Name, userID: e.UserID, source: e.Source, data: string(e.Data)})
		}
	}
	return rows
}

// numbered posts events of a few users, one request each, and returns how they
// were acknowledged.
func (p *process) numbered(from, to int) (acks map[string]int) {
	p.t.Helper()
	acks = map[string]int{}
	for n := from; n < to; n++ {
		a := p.post(fmt.Sprintf(`{"id":"e%04d","name":"numbered","user_id":"u%d","data":{"n": %d}}`, n, n%7, n))
		if a.status != http.StatusAccepted {
			p.t.Fatalf("event %d: %d %s", n, a.status, a.body)
		}
		var ack struct {
			Ack string `json:"ack"`
		}
		if err := json.Unmarshal([]byte(a.body), &ack); err != nil {
			p.t.Fatal(err)
		}
		acks[ack.Ack]++
	}
	return acks
}

// wantNumbered wants the events of numbered on the stream, those of a user in
// order, with the bytes of their data as sent.
func wantNumbered(t *testing.T, rows []row, n int) {
	t.Helper()
	if len(rows) != n {
		t.Errorf("%d events are on the stream, want %d", len(rows), n)
	}
	last := map[string]string{}
	for _, r := range rows {
		if r.id <= last[r.userID] {
			t.Errorf("%s stands behind %s", r.id, last[r.userID])
		}
		last[r.userID] = r.id
		var number int
		if _, err := fmt.Sscanf(r.id, "e%d", &number); err != nil || r.data != fmt.Sprintf(`{"n": %d}`, number) {
			t.Errorf("%s has the data %s", r.id, r.data)
		}
	}
}

func TestAGatewayPutsEventsOnKinesis(t *testing.T) {
	t.Parallel()
	server := newKinesis(t)
	p := gateway(t, dataFolder(t, everythingToWarehouse), server)
	if acks := p.numbered(0, 60); acks["stream"] != 60 {
		t.Errorf("acknowledged by %v, want all by the stream", acks)
	}
	var batch []string
	for n := 60; n < 400; n++ {
		batch = append(batch, fmt.Sprintf(`{"id":"e%04d","name":"numbered","user_id":"u%d","data":{"n": %d}}`, n, n%7, n))
	}
	if a := p.post("[" + strings.Join(batch, ",") + "]"); a.status != http.StatusAccepted || a.Accepted != 340 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	wantNumbered(t, streamed(t, server, true), 400)
	if records := len(server.Records(kinesisStream)); records > 60+16 {
		t.Errorf("a batch of 340 events and 60 single ones took %d records", records)
	}
	if l := p.ledger(); l.Stored != 400 || l.Spooled != 0 {
		t.Errorf("%+v", l)
	}
	if a := p.post(`[{"id":"good","name":"n"},{"name":""}]`); a.status != http.StatusMultiStatus || a.Accepted != 1 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if out := p.must("quarantine", "list"); !strings.Contains(out, "/name") {
		t.Errorf("the rejected event is not in the quarantine:\n%s", out)
	}
	var problem struct {
		Detail string `json:"detail"`
	}
	if code := p.get("/api/events", &problem); code != http.StatusNotFound || !strings.Contains(problem.Detail, "sluice stream peek") {
		t.Errorf("GET /api/events: %d %+v", code, problem)
	}

	// The ledger goes on after a restart.
	p.stop()
	p = gateway(t, p.dir, server)
	if l := p.ledger(); l.Stored != 401 || l.Rejected != 1 {
		t.Errorf("after a restart: %+v", l)
	}
}

func TestEventsAreSpooledWhileKinesisIsAway(t *testing.T) {
	t.Parallel()
	server := newKinesis(t)
	p := gateway(t, dataFolder(t, everythingToWarehouse), server)
	p.numbered(0, 20)
	server.Stop()
	if acks := p.numbered(20, 120); acks["spool"] != 100 {
		t.Errorf("acknowledged by %v, want all by the spool", acks)
	}
	if l := p.ledger(); l.Stored != 20 || l.Spooled != 100 {
		t.Errorf("%+v", l)
	}
	if !p.ready() {
		t.Error("the gateway is not ready, though it takes events")
	}
	if out := p.must("spool", "show"); !strings.Contains(out, "100 events") || !strings.Contains(out, "away since") {
		t.Errorf("spool show: %s", out)
	}
	if out := p.must("spool", "list", "--limit", "3"); strings.Count(out, "\n") != 4 || !strings.Contains(out, "e0020") {
		t.Errorf("spool list:\n%s", out)
	}

	// A crash loses nothing of it, and the folder can be looked at meanwhile.
	p.kill()
	file := filepath.Join(t.TempDir(), "spool.jsonl")
	if out := p.must("spool", "export", file); !strings.Contains(out, "100 events") {
		t.Errorf("spool export: %s", out)
	}
	if text, err := os.ReadFile(file); err != nil || strings.Count(string(text), "\n") != 100 || !strings.Contains(string(text), `"id":"e0119"`) {
		t.Errorf("the export has %d lines, %v", strings.Count(string(text), "\n"), err)
	}
	if _, stderr, status := p.run("spool", "export", file); status != 1 || !strings.Contains(stderr, "exists") {
		t.Errorf("an export over a file: %d %s", status, stderr)
	}

	// A start while it is away goes on spooling, behind what there is.
	p = gateway(t, p.dir, server)
	if acks := p.numbered(120, 140); acks["spool"] != 20 {
		t.Errorf("acknowledged by %v, want all by the spool", acks)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	p.await("the spool to be empty", func(l ledger) bool { return l.Spooled == 0 })
	if acks := p.numbered(140, 150); acks["stream"] != 10 {
		t.Errorf("acknowledged by %v, want all by the stream again", acks)
	}
	wantNumbered(t, streamed(t, server, false), 150)
	p.stop()
}

func TestAFullSpoolIsSaidAndTakesEventsAgainWhenItHasDrained(t *testing.T) {
	t.Parallel()
	server := newKinesis(t)
	p := gateway(t, dataFolder(t, everythingToWarehouse), server, "SLUICE_SPOOL_LIMIT=16MiB", "SLUICE_REQUEST_TIMEOUT=1s")
	server.Stop()
	padding := strings.Repeat("x", 200_000)
	var accepted []string
	var a answer
	// A busy machine may answer 503 before, for want of time.
	for n := 0; a.status != http.StatusServiceUnavailable || p.ready(); n++ {
		if n == 300 {
			t.Fatalf("%d events were accepted, and the spool is not full", len(accepted))
		}
		id := fmt.Sprintf("e%04d", n)
		if a = p.post(fmt.Sprintf(`{"id":%q,"name":"numbered","user_id":"u","data":{"padding":%q}}`, id, padding)); a.status == http.StatusAccepted {
			accepted = append(accepted, id)
		}
	}
	if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 1 || wait > 30 {
		t.Errorf("after %d events: %d %s, Retry-After %q", len(accepted), a.status, a.body, a.header.Get("Retry-After"))
	}
	if len(accepted) < 40 {
		t.Errorf("a spool of 16 MiB took %d events of 200 kB", len(accepted))
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	p.await("the spool to be empty", func(l ledger) bool { return l.Spooled == 0 && l.InFlight == 0 })
	p.until("the gateway to be ready", p.ready)
	if a := p.post(`{"id":"after","name":"n","user_id":"u"}`); a.status != http.StatusAccepted {
		t.Errorf("after the outage: %d %s", a.status, a.body)
	}
	there := map[string]bool{}
	for _, r := range streamed(t, server, false) {
		there[r.id] = true
	}
	for _, id := range accepted {
		if !there[id] {
			t.Errorf("%s was answered 202 and is not on the stream", id)
		}
	}
	p.stop()
}

func TestAThrottledShardSpoolsItsOwnEventsAlone(t *testing.T) {
	t.Parallel()
	server := newKinesis(t)
	p := gateway(t, dataFolder(t, everythingToWarehouse), server)
	throttled := server.Shards(kinesisStream)[0].ID
	trouble := server.Fail(kinesistest.Throttle(throttled))
	acks := p.numbered(0, 70)
	if acks["spool"] == 0 || acks["stream"] == 0 {
		t.Errorf("acknowledged by %v, want some by each", acks)
	}
	for _, r := range server.Records(kinesisStream) {
		if r.Shard == throttled {
			t.Errorf("a record is in the shard that takes none")
		}
	}
	trouble.Off()
	p.await("the spool to be empty", func(l ledger) bool { return l.Spooled == 0 })
	wantNumbered(t, streamed(t, server, true), 70)
	p.stop()
}

func TestWithoutASpoolSendersAreToldWhileKinesisIsAway(t *testing.T) {
	t.Parallel()
	server := newKinesis(t)
	// Longer than a record rests between two attempts: when Kinesis is back, no
	// request must be given up for that.
	p := gateway(t, dataFolder(t, everythingToWarehouse), server, "SLUICE_SPOOL=off", "SLUICE_REQUEST_TIMEOUT=5s")
	p.numbered(0, 5)
	trouble := server.Fail(kinesistest.Throttle())
	a := p.post(`{"id":"refused","name":"n"}`)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
	}
	trouble.Off()
	p.numbered(5, 10)
	p.await("nothing to be in flight", func(l ledger) bool { return l.InFlight == 0 })
	if _, stderr, status := p.run("spool", "show"); status != 1 || !strings.Contains(stderr, "no spool") {
		t.Errorf("spool show: %d %s", status, stderr)
	}
	p.stop()
	wantNumbered(t, slices.DeleteFunc(streamed(t, server, true), func(r row) bool { return r.id == "refused" }), 10)
}

func TestWithoutAggregationEachEventIsARecord(t *testing.T) {
	t.Parallel()
	server := newKinesis(t)
	p := gateway(t, dataFolder(t, everythingToWarehouse), server, "SLUICE_AGGREGATION=off", "SLUICE_BUCKETS=64")
	var batch []string
	for n := range 50 {
		batch = append(batch, fmt.Sprintf(`{"id":"e%04d","name":"numbered","user_id":"u%d","data":{"n": %d}}`, n, n%7, n))
	}
	if a := p.post("[" + strings.Join(batch, ",") + "]"); a.status != http.StatusAccepted {
		t.Fatalf("%d %s", a.status, a.body)
	}
	records := server.Records(kinesisStream)
	for _, r := range records {
		if !json.Valid(r.Data) {
			t.Errorf("a record is not JSON: %q", r.Data)
		}
	}
	if len(records) != 50 {
		t.Errorf("%d records for 50 events", len(records))
	}
	wantNumbered(t, streamed(t, server, true), 50)
	p.stop()
}

func TestAStartThatCannotReachItsStreamSaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		command string
		env     func(*kinesistest.Server) []string
		fault   *kinesistest.Fault
		status  int
		want    string
	}{
		"no such stream": {status: 1, env: func(s *kinesistest.Server) []string { return onKinesis(s, "SLUICE_STREAM=kinesis://nothere") }, want: "nothere"},
		"not a name":     {status: 2, env: func(s *kinesistest.Server) []string { return onKinesis(s, "SLUICE_STREAM=kinesis://a b") }, want: `right would be "kinesis://events"`},
		"no region": {status: 1, env: func(s *kinesistest.Server) []string {
			return onKinesis(s, "AWS_REGION=", "AWS_CONFIG_FILE=/nonexistent")
		}, want: "AWS_REGION"},
		"no credentials": {status: 1, env: func(s *kinesistest.Server) []string {
			return onKinesis(s, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=")
		}, want: "credentials"},
		"expired token":         {status: 1, fault: new(kinesistest.Calls(kinesistest.ExpiredToken)), want: "expired"},
		"everything on Kinesis": {command: "up", status: 2, want: "sluice gateway"},
		"spool is the data": {status: 2, env: func(s *kinesistest.Server) []string {
			return onKinesis(s, "SLUICE_SPOOL="+os.TempDir(), "SLUICE_DATA_DIR="+os.TempDir())
		}, want: "folder of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newKinesis(t)
			env := onKinesis(server)
			if c.env != nil {
				env = c.env(server)
			}
			if c.fault != nil {
				server.Fail(*c.fault)
			}
			command := "gateway"
			if c.command != "" {
				command = c.command
			}
			p := launchCommand(t, command, dataFolder(t, everythingToWarehouse), env...)
			select {
			case <-p.done:
			case <-time.After(patience):
				t.Fatal("it runs")
			}
			if got := p.cmd.ProcessState.ExitCode(); got != c.status || !strings.Contains(p.out.String(), c.want) {
				t.Errorf("exit status %d, want %d and %q:\n%s", got, c.status, c.want, &p.out)
			}
		})
	}
}

func TestTroubleWithTheCredentialsIsSaidAndNothingIsLost(t *testing.T) {
	t.Parallel()
	server := newKinesis(t)
	p := gateway(t, dataFolder(t, everythingToWarehouse), server)
	p.numbered(0, 10)
	trouble := server.Fail(kinesistest.Calls(kinesistest.ExpiredToken))
	if acks := p.numbered(10, 40); acks["spool"] == 0 {
		t.Errorf("acknowledged by %v", acks)
	}
	resp, err := http.Get(p.gateway + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	var ready struct {
		Reasons []string `json:"reasons"`
	}
	err = json.NewDecoder(resp.Body).Decode(&ready)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(strings.Join(ready.Reasons, " "), "expired") {
		t.Errorf("readyz: %d %v, %v", resp.StatusCode, ready.Reasons, err)
	}
	if said := strings.Count(p.out.String(), "the stream cannot be used"); said != 1 {
		t.Errorf("it is said %d times, want once:\n%s", said, &p.out)
	}
	trouble.Off()
	p.await("the spool to be empty", func(l ledger) bool { return l.Spooled == 0 })
	p.until("the gateway to be ready", p.ready)
	wantNumbered(t, streamed(t, server, true), 40)
	p.stop()
}

func TestPeekShowsWhatIsOnTheStream(t *testing.T) {
	t.Parallel()
	server := newKinesis(t)
	p := gateway(t, dataFolder(t, everythingToWarehouse), server)
	p.numbered(0, 30)
	lines := strings.Split(strings.TrimSpace(p.must("stream", "peek")), "\n")
	ids := map[string]bool{}
	for _, line := range lines {
		var got struct {
			Shard        string    `json:"shard"`
			Sequence     string    `json:"sequence"`
			ArrivedAt    time.Time `json:"arrived_at"`
			PartitionKey string    `json:"partition_key"`
			Event        struct {
				ID string `json:"id"`
			} `json:"event"`
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if got.Shard == "" || got.Sequence == "" || got.PartitionKey == "" || got.ArrivedAt.IsZero() {
			t.Errorf("%s", line)
		}
		ids[got.Event.ID] = true
	}
	if len(lines) != 30 || len(ids) != 30 {
		t.Errorf("%d lines, %d events, want 30", len(lines), len(ids))
	}
	if got := strings.Count(p.must("stream", "peek", "--events", "--limit", "7"), "\n"); got != 7 {
		t.Errorf("--limit 7 printed %d lines", got)
	}
	if _, stderr, status := p.run("stream", "peek", "--from", "yesterday"); status != 2 || !strings.Contains(stderr, "oldest") {
		t.Errorf("a wrong --from: %d %s", status, stderr)
	}
	if out := p.must("stream", "peek", "--from", "1h", "--shard", server.Shards(kinesisStream)[1].ID); len(out) == 0 || strings.Contains(out, server.Shards(kinesisStream)[0].ID) {
		t.Errorf("--shard printed %s", out)
	}
	p.stop()
}

// kinesisCrashes is how often the gateway is killed.
const kinesisCrashes = 20

// TestNothingAnsweredIsLostByACrashBeforeKinesis is the crash test with Kinesis
// as the stream, which fails in its own ways meanwhile.
func TestNothingAnsweredIsLostByACrashBeforeKinesis(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	chance := rand.New(rand.NewPCG(seed, 0))
	server := newKinesis(t)
	dir := dataFolder(t, everythingToWarehouse)
	load := newCrashLoad(seed)
	load.start(6)
	weather := []kinesistest.Fault{
		kinesistest.Records(2, kinesistest.Throughput),
		kinesistest.Records(1, kinesistest.Internal),
		kinesistest.Throttle(server.Shards(kinesisStream)[0].ID),
		kinesistest.Disconnect(kinesistest.BeforeStoring).Times(3),
		kinesistest.Disconnect(kinesistest.AfterStoring).Times(3),
		kinesistest.CutAnswer().Times(3),
		kinesistest.Calls(kinesistest.Unavailable).Times(20),
		kinesistest.Delay(30 * time.Millisecond),
	}
	for round := range kinesisCrashes {
		server.Heal()
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		for range chance.IntN(3) {
			server.Fail(weather[chance.IntN(len(weather))].On("PutRecords"))
		}
		p := launchCommand(t, "gateway", dir, onKinesis(server)...)
		if !p.waitReady() {
			t.Fatalf("round %d: the gateway did not start again: %v\n%s", round, p.err, &p.out)
		}
		p.ledger()
		load.open(p.gateway)
		wait(time.Duration(chance.IntN(600)) * time.Millisecond)
		if chance.IntN(3) == 0 {
			server.Stop()
			wait(time.Duration(chance.IntN(1500)) * time.Millisecond)
		}
		p.kill()
		load.shut()
	}
	server.Heal()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	p := gateway(t, dir, server)
	load.open(p.gateway)
	events := load.finish()
	l := p.await("the spool to be empty", func(l ledger) bool { return l.Spooled == 0 && l.InFlight == 0 })
	p.stop()
	answered := answeredOf(events)
	t.Logf("%d events answered of %d sent; %+v", answered, len(events), l)
	if answered < kinesisCrashes*10 {
		t.Errorf("only %d events were answered: this proves little", answered)
	}
	faults := faultsOf(events, streamed(t, server, false))
	for _, fault := range faults[:min(20, len(faults))] {
		t.Error(fault)
	}
}
