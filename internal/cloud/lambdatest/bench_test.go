package lambdatest_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
)

// What one invocation costs beside the work of its function.
func BenchmarkInvocation(b *testing.B) {
	payload := []byte(`{"event":"Order Completed","properties":{"total":42}}`)
	handler := func(context.Context, []byte) ([]byte, error) { return nil, nil }
	for _, process := range []bool{false, true} {
		f := lambdatest.Function{Name: "f", Handler: handler, Concurrency: 2}
		if process {
			f.Handler, f.Bootstrap, f.Env = nil, executable(b), []string{"BOOTSTRAP=quiet"}
		}
		name := map[bool]string{false: "handler", true: "process"}[process]
		b.Run(name+"/asynchronously", func(b *testing.B) {
			s := lambdatest.New(b, lambdatest.Config{Functions: []lambdatest.Function{f}})
			for b.Loop() {
				if _, err := s.InvokeAsync("f", payload); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.Drain(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(s.Stats("f").Invocations)/b.Elapsed().Seconds(), "invocations/s")
		})
		b.Run(name+"/over HTTP", func(b *testing.B) {
			s := lambdatest.New(b, lambdatest.Config{Functions: []lambdatest.Function{f}})
			c := s.Client()
			defer c.CloseIdleConnections()
			for b.Loop() {
				if a := post(b.Context(), b, c, s.URL()+invocationsOf("f"), "RequestResponse", string(payload)); a.status != http.StatusOK {
					b.Fatal(a)
				}
			}
		})
	}
	b.Run("handler/from Kinesis", func(b *testing.B) {
		streams := kinesistest.New(b, kinesistest.Config{Streams: []kinesistest.Stream{{Name: "events"}}})
		s := lambdatest.New(b, lambdatest.Config{Functions: []lambdatest.Function{{Name: "f", Handler: handler}}})
		r := &rig{t: b, streams: streams}
		var texts []string
		for b.Loop() {
			texts = append(texts, fmt.Sprintf("u%d:%0500d", len(texts)%100, 0))
		}
		r.put(texts...)
		b.ResetTimer()
		began := time.Now()
		if _, err := s.MapKinesis(lambdatest.KinesisSource{Function: "f", Server: streams, Stream: "events"}); err != nil {
			b.Fatal(err)
		}
		if err := s.Drain(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(texts))/time.Since(began).Seconds(), "records/s")
	})
}
