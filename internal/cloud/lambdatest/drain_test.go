package lambdatest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// A stream's function invokes another for each record, which sends a message,
// which a third works on: Drain sees the end of it all, wherever it looks first.
func TestDrainWaitsForWhatComesOfWhatRuns(t *testing.T) {
	var mu sync.Mutex
	var done []string
	var r *rig
	wait := func() { time.Sleep(100 * time.Millisecond) }
	handlers := map[string]lambdatest.Handler{
		"f": func(_ context.Context, payload []byte) ([]byte, error) {
			wait()
			for text := range strings.FieldsSeq(read(string(payload)).texts()) {
				if _, err := r.InvokeAsync("g", []byte(`"`+text+`"`)); err != nil {
					return nil, err
				}
			}
			return nil, nil
		},
		"g": func(_ context.Context, payload []byte) ([]byte, error) {
			wait()
			_, err := r.queues.Send("work", sqstest.Message{Body: string(payload), Delay: 7 * time.Second})
			return nil, err
		},
		"h": func(_ context.Context, payload []byte) ([]byte, error) {
			wait()
			mu.Lock()
			defer mu.Unlock()
			for _, m := range readMessages(string(payload)).Records {
				done = append(done, m.Body)
			}
			return nil, nil
		},
	}
	var config lambdatest.Config
	for name, handler := range handlers {
		config.Functions = append(config.Functions, lambdatest.Function{Name: name, Aliases: map[string]string{"prod": "1"}, Handler: handler})
	}
	inBubble(t, config, func(t *testing.T, made *rig) {
		r = made
		r.mapped(lambdatest.KinesisSource{BatchSize: 3, MaximumBatchingWindow: time.Second})
		if _, err := r.MapQueue(lambdatest.QueueSource{Function: "h", Queue: "work"}); err != nil {
			t.Fatal(err)
		}
		r.drain() // of nothing
		trouble := r.FailRuns(lambdatest.Calls(lambdatest.Throttled).Times(5))
		for n := range 20 {
			r.put(fmt.Sprintf("k%d:%d", n%4, n))
		}
		r.drain()
		if len(done) != 20 || trouble.Hits() != 5 {
			t.Errorf("%d are done, %d hits", len(done), trouble.Hits())
		}
	})
}

func TestDrainGivesUpWithItsContext(t *testing.T) {
	var c calls
	inBubble(t, one(lambdatest.Function{Handler: c.handler(fails)}), func(t *testing.T, r *rig) {
		r.accept("f", "{}")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := r.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v: its second attempt is after a minute", err)
		}
		drained := make(chan error)
		go func() { drained <- r.Drain(t.Context()) }()
		synctest.Wait()
		r.Close()
		if err := <-drained; err == nil {
			t.Error("drained, by Close")
		}
	})
}
