package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStagesStopInTheOrderOfTheData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStages(slog.New(slog.DiscardHandler))
		var stopped []string
		for _, name := range []string{"listener", "producer", "stream"} {
			s.start(name, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second) // what it still has to do
				stopped = append(stopped, name)
				return nil
			})
		}
		if err := s.stop(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		if want := []string{"listener", "producer", "stream"}; !slices.Equal(stopped, want) {
			t.Errorf("stopped %v, want %v", stopped, want)
		}
	})
}

func TestAStageThatHangsIsNamedAndDoesNotHoldUpTheStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStages(slog.New(slog.DiscardHandler))
		release := make(chan struct{})
		s.start("connectors", func(context.Context) error { <-release; return nil })
		begun := time.Now()
		err := s.stop(5 * time.Second)
		if err == nil || !strings.Contains(err.Error(), "connectors") || time.Since(begun) != 5*time.Second {
			t.Errorf("stop = %v after %v", err, time.Since(begun))
		}
		close(release)
	})
}

func TestAStageThatFailsEndsTheProgram(t *testing.T) {
	t.Parallel()
	s := newStages(slog.New(slog.DiscardHandler))
	s.start("stream", func(context.Context) error { return errors.New("disk gone") })
	if err := <-s.failed; err == nil || !strings.Contains(err.Error(), "stream: disk gone") {
		t.Errorf("failed with %v", err)
	}
}
