//go:build unix

package engine

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/stream"
)

// cpuTime is what this process has used, in user and system mode.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPutRecords is one write in flight, as the producer does it. The
// column cpu-µs/op is the whole process: client, server and kernel.
func BenchmarkPutRecords(b *testing.B) {
	for _, size := range []int{500, 5 << 10, 50 << 10, 500 << 10} {
		for _, n := range []int{1, 16} {
			b.Run(fmt.Sprintf("bytes=%d/records=%d", size, n), func(b *testing.B) {
				e := open(b, Config{Dir: b.TempDir(), MaxBytes: 64 << 30})
				rs := make([]stream.Record, n)
				for i := range rs {
					rs[i] = stream.Record{PartitionKey: "bucket", Data: make([]byte, size/n), Events: 100 / n}
				}
				put(b, e.Events(), rs)
				runtime.GC()
				b.ReportAllocs()
				b.SetBytes(int64(size))
				before := cpuTime(b)
				for b.Loop() {
					put(b, e.Events(), rs)
				}
				b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	const size = 50 << 10
	e := open(b, Config{Dir: b.TempDir(), MaxBytes: 64 << 30})
	rs := []stream.Record{{PartitionKey: "bucket", Data: make([]byte, size), Events: 100}}
	for range 1000 {
		put(b, e.Events(), rs)
	}
	b.SetBytes(1000 * size)
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		read(b, e.Events(), 0, 1000)
	}
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1e3/float64(b.N)/1000, "cpu-µs/entry")
}

func BenchmarkQueue(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("letters=%d", n), func(b *testing.B) {
			e := open(b, Config{Dir: b.TempDir(), MaxBytes: 64 << 30})
			q := e.Destination("crm").Parked()
			ls := letters("7", n)
			names := make([]string, n)
			for i := range ls {
				ls[i].Raw = make([]byte, 500)
				names[i] = ls[i].ID
			}
			var putting, deleting time.Duration
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				t0 := time.Now()
				if err := q.Put(b.Context(), ls); err != nil {
					b.Fatal(err)
				}
				t1 := time.Now()
				if err := q.Delete(b.Context(), names); err != nil {
					b.Fatal(err)
				}
				putting += t1.Sub(t0)
				deleting += time.Since(t1)
			}
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1e3/float64(b.N*n), "cpu-µs/letter")
			b.ReportMetric(float64(putting.Microseconds())/float64(b.N*n), "put-µs/letter")
			b.ReportMetric(float64(deleting.Microseconds())/float64(b.N*n), "delete-µs/letter")
		})
	}
}
