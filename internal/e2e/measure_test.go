package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// What stands in for the network: Lambda takes an invocation, and a vendor an
// event, after so long.
const (
	invokeLatency = 10 * time.Millisecond
	vendorLatency = 50 * time.Millisecond
)

// BenchmarkFunctions measures what router and connector are billed for, with one
// event and with a hundred to an invocation, and writes the log that Lambda would
// have of each to the folder that SLUICE_MEASURE names, for `sluice cost measure`:
//
//	SLUICE_MEASURE=bin/measured go test ./internal/e2e -run '^$' -bench Functions -benchtime 300x
func BenchmarkFunctions(b *testing.B) {
	dir := os.Getenv("SLUICE_MEASURE")
	if dir == "" {
		dir = b.TempDir()
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("..", "..", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	built, err := builtFunctions()
	if err != nil {
		b.Fatal(err)
	}
	a := cloudtest.New(b, cloudtest.Config{Queues: []sqstest.Queue{{Name: "dead"}}, Buckets: []string{"rules"}})
	a.Lambda.Fail(lambdatest.Delay(invokeLatency))
	vendor := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(vendorLatency) }))
	b.Cleanup(vendor.Close)
	rule := fmt.Sprintf(`[{"destination_name":"crm","destination_arn":%q,"enabled_events":["*"],"max_batch":100}]`, a.Lambda.ARN("sink", "prod"))
	if err := a.Buckets.Put("rules", "rules.json", []byte(rule)); err != nil {
		b.Fatal(err)
	}
	prod := map[string]string{"prod": "1"}
	for _, f := range []lambdatest.Function{
		{Name: "sink", Aliases: prod, Handler: func(context.Context, []byte) ([]byte, error) { return nil, nil }},
		{
			Name: "router", Aliases: prod, Bootstrap: filepath.Join(built, "router"), MemoryMB: 512, Timeout: time.Minute,
			Env: slices.Concat(a.Env(), []string{"RULES_BUCKET=rules", "RULES_KEY=rules.json", "DEAD_LETTER_QUEUE=" + a.Queues.ARN("dead")}),
		},
		{
			Name: "connector", Aliases: prod, Bootstrap: filepath.Join(built, "connector"), MemoryMB: 256, Timeout: time.Minute,
			Env: slices.Concat(a.Env(), []string{"CONNECTOR=webhook", fmt.Sprintf(`SETTINGS={"url":%q,"allow_private":true}`, vendor.URL), "DESTINATION=crm", "DEAD_LETTER_QUEUE=" + a.Queues.ARN("dead")}),
		},
	} {
		if err := a.Lambda.CreateFunction(f); err != nil {
			b.Fatal(err)
		}
	}
	for _, events := range []int{1, 100} {
		for name, payload := range map[string][]byte{"router": recordsOf(events), "connector": arrayOf(events)} {
			b.Run(fmt.Sprintf("%s/%d", name, events), func(b *testing.B) {
				memory := map[string]int{"router": 512, "connector": 256}[name]
				start := len(a.Lambda.Log(name))
				// written returns the log since the start, when it has the metrics
				// of so many invocations: it comes through a pipe.
				written := func(invocations int) string {
					for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
						text := a.Lambda.Log(name)[start:]
						if strings.Count(text, `"Events":`) >= invocations && strings.HasSuffix(text, "\n") {
							return text
						}
						if time.Now().After(deadline) {
							b.Fatalf("the log has no %d invocations", invocations)
						}
					}
				}
				from := 0
				var log strings.Builder
				var billed time.Duration
				for n := range b.N + 1 {
					began := time.Now()
					answer, err := a.Lambda.Invoke(name+":prod", payload)
					took := time.Since(began)
					if err != nil || answer.FunctionError != "" {
						b.Fatalf("%+v, %v", answer, err)
					}
					if n == 0 { // it may have started the process
						from = len(written(1))
						b.ResetTimer()
						continue
					}
					millis := (took + time.Millisecond - 1) / time.Millisecond
					billed += millis * time.Millisecond
					fmt.Fprintf(&log, "REPORT RequestId: %08d\tDuration: %.2f ms\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB\n",
						n, float64(took)/float64(time.Millisecond), millis, memory, functionMemory(b, filepath.Join(built, name)))
				}
				b.ReportMetric(float64(billed.Milliseconds())/float64(b.N), "billed-ms/invocation")
				text := written(b.N + 1)[from:] + log.String()
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.log", name, events)), []byte(text), 0o600); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// functionMemory returns the most memory that the processes of a program have used, in
// MiB.
func functionMemory(b *testing.B, program string) int {
	b.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		b.Fatal(err)
	}
	most := 0
	for _, exe := range processes {
		if target, err := os.Readlink(exe); err != nil || target != program {
			continue // another's, or it has ended
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(exe), "status"))
		if err != nil {
			continue
		}
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		var kilobytes int
		if _, err := fmt.Sscan(peak, &kilobytes); err != nil {
			b.Fatalf("%s: %v", exe, err)
		}
		most = max(most, kilobytes/1024)
	}
	if most == 0 {
		b.Fatalf("no process runs %s", program)
	}
	return most
}

// storedEvent is an event of about 500 bytes, as the gateway stores it.
func storedEvent(n int) string {
	return fmt.Sprintf(`{"id":"0198c0de-0000-7000-8000-%012d","type":"track","name":"clicked","user_id":"u%d","timestamp":"2026-11-23T10:00:00Z","received_at":"2026-11-23T10:00:00.123Z","source":"web","data":{"page":"/pricing","n":%d,"pad":%q},"context":{"locale":"en"}}`,
		n, n%50, n, strings.Repeat("x", 240))
}

func arrayOf(n int) []byte {
	if n == 1 {
		return []byte(storedEvent(1))
	}
	var all []string
	for i := range n {
		all = append(all, storedEvent(i))
	}
	return []byte("[" + strings.Join(all, ",") + "]")
}

// recordsOf is what a Kinesis event source hands over: a record for each event.
func recordsOf(n int) []byte {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"u%d","sequenceNumber":"4959%08d","data":%q,"approximateArrivalTimestamp":1790000000.123},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000000:4959%08d","eventName":"aws:kinesis:record","invokeIdentityArn":"arn:aws:iam::123456789012:role/router","awsRegion":"us-east-1","eventSourceARN":"arn:aws:kinesis:us-east-1:123456789012:stream/events"}`,
			i%50, i, base64.StdEncoding.EncodeToString([]byte(storedEvent(i))), i))
	}
	return []byte(`{"Records":[` + strings.Join(all, ",") + `]}`)
}
