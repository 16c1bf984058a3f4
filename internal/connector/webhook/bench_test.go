package webhook

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
)

// asServer, in the environment, makes the test binary an HTTP server that says
// yes to everything, so that the benchmark can tell our work from the server's.
const asServer = "SLUICE_WEBHOOK_BENCH_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) == "" {
		os.Exit(m.Run())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.WriteHeader(http.StatusNoContent)
	})}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends with the benchmark
		_ = server.Close()
	}()
	_ = server.Serve(listener)
}

// otherProcess starts the server in a process of its own.
func otherProcess(b *testing.B) (address string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), asServer+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// BenchmarkRequests makes calls over HTTP/1.1, 64 of them at once, as the
// delivery loop does with concurrency 64: requests/s is what goes through on
// this machine, and requests/s/core what one core of ours would do if it did
// nothing else.
func BenchmarkRequests(b *testing.B) {
	const inFlight = 64
	for _, bb := range []struct{ name, settings string }{
		{"unsigned", ``},
		{"signed", `,"secret":"` + secretA + `"`},
		{"two secrets", `,"secret":"` + secretA + `","secret_previous":"` + secretB + `"`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			c := open(b, fmt.Sprintf(`{"url":"http://%s/in","allow_private":true%s}`, otherProcess(b), bb.settings))
			events := connectortest.Plain(100)
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			before := connectortest.CPUTime(b)
			var wg sync.WaitGroup
			for range inFlight {
				wg.Go(func() {
					for {
						n := int(next.Add(1))
						if n > b.N {
							return
						}
						i := n % len(events)
						for _, call := range c.Plan(events[i : i+1]).Calls {
							if r := c.Send(b.Context(), call)[0]; r.Class != connector.Delivered {
								b.Error(r)
								return
							}
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
			b.ReportMetric(float64(b.N)/(connectortest.CPUTime(b)-before).Seconds(), "requests/s/core")
		})
	}
}
