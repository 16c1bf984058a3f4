package connector

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/lambdahost"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
)

// startTime bounds the start. Lambda gives it ten seconds. Source: Lambda
// developer guide, "Lambda execution environment lifecycle" (read 2026-11).
const startTime = 9 * time.Second

// Main runs the function in its Lambda environment. It returns only if it cannot
// start.
func Main() error {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	cfg, err := sdk.Load(ctx, log)
	if err != nil {
		return err
	}
	f, err := New(ctx, cfg, os.Environ(), log, os.Stdout)
	if err != nil {
		return err
	}
	lambdahost.Start(f.Handle)
	return nil
}
