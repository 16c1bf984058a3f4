package lambdatest_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

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
			for range b.N { // and not b.Loop: the time until all have run counts
				if _, err := s.InvokeAsync("f", payload); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.Drain(b.Context()); err != nil {
				b.Fatal(err)
			}
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
		texts := numbered("u%d:"+strings.Repeat("x", 500), b.N)
		r.put(texts...)
		b.ResetTimer()
		if _, err := s.MapKinesis(lambdatest.KinesisSource{Function: "f", Server: streams, Stream: "events"}); err != nil {
			b.Fatal(err)
		}
		if err := s.Drain(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
}
