package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// large is how many events the largest requests of the flood have: about 5 MB.
const large = 5000

// TestMemoryStaysUnderItsCeiling floods the gateway for some seconds, with
// connections that do not heed Retry-After, while a destination that wants
// everything is down: memory stays below the ceiling, every answer is 202, 429
// or 503, and what was answered 202 is there.
func TestMemoryStaysUnderItsCeiling(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the peak of a process is read from /proc")
	}
	const ceiling = 192 << 20
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := down.Addr().String()
	if err := down.Close(); err != nil {
		t.Fatal(err)
	}
	docs := everythingToWarehouse
	docs.rules = `[{"destination_name":"warehouse","enabled_events":["kept"]},{"destination_name":"down","enabled_events":["*"]}]`
	docs.destinations = `[{"destination_name":"warehouse","connector":"sqlite"},
		{"destination_name":"down","connector":"webhook","settings":{"url":"http://` + address + `/","allow_private":true}}]`
	p := start(t, dataFolder(t, docs), "SLUICE_MEMORY_LIMIT="+strconv.Itoa(ceiling))

	f := flood{until: time.Now().Add(6 * time.Second), statuses: map[int]int{}}
	gateway, err := url.Parse(p.gateway)
	if err != nil {
		t.Fatal(err)
	}
	var senders sync.WaitGroup
	for i := range 160 {
		size := 100 // events of 1 KB in a request
		if i%10 == 0 {
			size = large // a few senders of large requests
		}
		senders.Go(func() { f.send(gateway.Host, i, size) })
	}
	senders.Wait()

	t.Logf("answers: %v", f.statuses)
	for status, n := range f.statuses {
		if status != http.StatusAccepted && status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
			t.Errorf("%d answers were %d", n, status)
		}
	}
	if f.statuses[http.StatusAccepted] == 0 || len(f.kept) == 0 {
		t.Error("nothing was accepted")
	}
	if len(f.faults) > 0 {
		t.Errorf("%d connections failed, the first with %v", len(f.faults), f.faults[0])
	}
	p.alive()
	l := p.await("the warehouse to be done", func(l ledger) bool { return l.Destinations["warehouse"].settled() && l.InFlight == 0 })
	if l.Stored < uint64(f.events) {
		t.Errorf("%d events were answered 202 and %d are stored", f.events, l.Stored)
	}
	if d := l.Destinations["down"]; d.Delivered != 0 || d.Dead+d.Waiting+d.Retrying+d.Unrouted != l.Stored {
		t.Errorf("the destination that is down: %+v", d)
	}
	missing := maps.Clone(f.kept)
	for _, r := range warehouse(t, p.dir) {
		delete(missing, r.id)
	}
	if len(missing) > 0 {
		t.Errorf("%d of %d events that were answered 202 are not in the warehouse", len(missing), len(f.kept))
	}
	peak := peakMemory(t, p.cmd.Process.Pid)
	t.Logf("peak %d MiB, ceiling %d MiB, %d events stored", peak>>20, ceiling>>20, l.Stored)
	if peak > ceiling {
		t.Errorf("memory peaked at %d MiB, over the ceiling of %d MiB", peak>>20, ceiling>>20)
	}
	p.stop()
}

// flood is what the senders of the test above share.
type flood struct {
	until time.Time

	mu       sync.Mutex
	statuses map[int]int
	faults   []error
	events   int             // answered 202
	kept     map[string]bool // ids of the events for the warehouse, answered 202
}

// send is one connection: the same bytes again and again, and now and then an
// event whose id is remembered.
func (f *flood) send(address string, sender, size int) {
	padding := strings.Repeat("x", 900)
	var batch bytes.Buffer
	batch.WriteByte('[')
	for i := range size {
		if i > 0 {
			batch.WriteByte(',')
		}
		fmt.Fprintf(&batch, `{"name":"bulk","user_id":"user-%d-%d","data":{"padding":%q}}`, sender, i, padding)
	}
	batch.WriteByte(']')
	bulk := request(batch.Bytes())

	var conn net.Conn
	var reader *bufio.Reader
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for i := 0; time.Now().Before(f.until); i++ {
		if conn == nil {
			var err error
			if conn, err = net.Dial("tcp", address); err != nil {
				f.failed(err)
				return
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			reader = bufio.NewReader(conn)
		}
		what, events, id := bulk, size, ""
		if i%4 == 0 {
			id = fmt.Sprintf("kept-%d-%d", sender, i)
			what, events = request(fmt.Appendf(nil, `{"name":"kept","id":%q}`, id)), 1
		}
		_, writeErr := conn.Write(what)
		// A gateway that refuses a large body answers without reading it all,
		// and closes: the answer may be there all the same.
		resp, err := http.ReadResponse(reader, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		switch {
		case err == nil:
		case writeErr != nil && events == large:
			_ = conn.Close()
			conn = nil
			continue
		default:
			f.failed(errors.Join(writeErr, err))
			return
		}
		f.answered(resp.StatusCode, events, id)
		if resp.Close {
			_ = conn.Close()
			conn = nil
		}
	}
}

func request(body []byte) []byte {
	return append(fmt.Appendf(nil, "POST /v1/events HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n", writeKey, len(body)), body...)
}

func (f *flood) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, err)
}

func (f *flood) answered(status, events int, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses[status]++
	if status != http.StatusAccepted {
		return
	}
	f.events += events
	if id != "" {
		if f.kept == nil {
			f.kept = map[string]bool{}
		}
		f.kept[id] = true
	}
}

// peakMemory returns the most memory that a process has had resident.
func peakMemory(t *testing.T, pid int) int { return memoryOf(t, pid, "VmHWM:") }

// memoryOf returns a line of /proc/PID/status, in bytes.
func memoryOf(t *testing.T, pid int, name string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, name); ok {
			kilobytes, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(value, "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatalf("no %s in /proc", name)
	return 0
}
