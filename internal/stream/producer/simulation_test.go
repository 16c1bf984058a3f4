package producer_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

// TestSimulation lets senders put events through a producer onto a stream that
// fails in every way a stream can, and checks the promises of the package
// comment. A seed decides the configuration, what is sent and what fails.
func TestSimulation(t *testing.T) { streamtest.Simulate(t, 100, simulate) }

func simulate(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	pick := func(values ...int) int { return values[rng.IntN(len(values))] }
	cfg := producer.Config{
		Buckets:           pick(1, 2, 7, 16, 40),
		Format:            stream.Format(rng.IntN(2)),
		OneEventPerRecord: rng.IntN(6) == 0,
		MaxCallRecords:    pick(1, 3, 500),
		MaxRecordBytes:    pick(600, 2000, 20_000),
		MaxInFlightCalls:  pick(1, 1, 2, 4),
		Stagger:           time.Duration(pick(0, 0, 5, 50)) * time.Millisecond,
		CallTimeout:       500 * time.Millisecond,
		DrainTimeout:      time.Duration(pick(1, 5, 60)) * time.Second,
		Retry:             retry.Policy{MaxAttempts: pick(0, 0, 3), MaxDelay: time.Second},
	}
	cfg.MaxCallBytes = cfg.MaxRecordBytes * pick(1, 3, 20)
	cfg.MaxBufferedBytes = max(cfg.MaxRecordBytes, pick(50_000, 200_000, 1<<20))

	outage := time.Now().Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
	outageEnd := outage.Add(time.Duration(pick(0, 0, 1, 5, 1000)) * time.Second)
	memory := streamtest.NewMemory(t, streamtest.Limits{
		MaxCallRecords: cfg.MaxCallRecords, MaxCallBytes: cfg.MaxCallBytes, MaxRecordBytes: cfg.MaxRecordBytes,
	})
	sky := streamtest.NewWeather(memory, rand.New(rand.NewPCG(seed, 2)), streamtest.WeatherConfig{
		Limit:  max(450, cfg.MaxRecordBytes/pick(1, 1, 1, 3)),
		Faulty: []float64{0, 0.1, 0.5, 0.9}[rng.IntN(4)],
		Down:   func(now time.Time) bool { return !now.Before(outage) && now.Before(outageEnd) },
	})
	intake := new(ledger.Intake)
	p, err := producer.New(streamtest.Watch(t, sky, memory.Limits()), intake, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.Run(ctx) // it may well end with events undecided
	}()

	account := func() {
		s := p.Stats()
		if s.Events != s.Accepted+s.Rejected+s.Undecided+uint64(s.WaitingEvents+s.FlyingEvents) {
			t.Errorf("the account does not add up: %+v", s)
		}
		if held := s.BufferedBytes + s.FreeBytes; held > cfg.MaxBufferedBytes*4/3+cfg.MaxRecordBytes {
			t.Errorf("%d bytes are held, the bound is %d", held, cfg.MaxBufferedBytes)
		}
	}
	senders := make([]*streamtest.Sender, pick(1, 4, 12))
	var group sync.WaitGroup
	for i := range senders {
		s := streamtest.NewSender(t, i, rand.New(rand.NewPCG(seed, uint64(100+i))), p.Put)
		senders[i] = s
		group.Go(func() {
			for range 20 {
				s.Put()
				account()
			}
		})
	}
	if rng.IntN(3) > 0 { // else stop in the middle
		group.Wait()
	} else {
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
	}
	stop()
	group.Wait()
	<-ended
	sky.Clear()
	account()

	s := p.Stats()
	if s.WaitingEvents != 0 || s.FlyingEvents != 0 || s.FlyingCalls != 0 || s.Resting != 0 || s.BufferedBytes != 0 {
		t.Errorf("something is left after Run: %+v", s)
	}
	checkIntake(t, s, intake)
	events := memory.Events()
	copies := streamtest.Copies(events)
	if n := uint64(len(copies)); n < s.Accepted || n > s.Accepted+s.Undecided {
		t.Errorf("%d events on the stream, accepted %d, undecided %d", n, s.Accepted, s.Undecided)
	}
	for data, n := range copies {
		if unknown := sky.Unknown([]byte(data)); n > 1+unknown {
			t.Errorf("%s was written %d times after %d unknown outcomes", name(t, []byte(data)), n, unknown)
		}
	}
	if n := uint64(len(events)); s.Undecided == 0 && n > s.Accepted+s.Repeated {
		t.Errorf("%d copies on the stream, accepted %d and at most %d repeated", n, s.Accepted, s.Repeated)
	}
	total, positions := uint64(0), streamtest.Positions(t, events)
	for _, s := range senders {
		total += uint64(s.Sent())
		s.Check(positions, nil)
	}
	if s.Events != total {
		t.Errorf("%d events were put, %d counted", total, s.Events)
	}
}
