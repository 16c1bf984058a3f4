package router

import (
	"context"
	"log/slog"
	"os"

	"github.com/eventsluice/sluice/internal/cloud/lambdahost"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
)

// Main runs the function in its Lambda environment. It returns only if it cannot
// start.
func Main() error {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctx := context.Background()
	cfg, err := sdk.Load(ctx, log)
	if err != nil {
		return err
	}
	f, err := New(cfg, os.LookupEnv, log, os.Stdout)
	if err != nil {
		return err
	}
	// The time before the first event costs nothing: the rules are read in it.
	// Without them each invocation looks again, and fails until there are some.
	if _, err := f.Rules(ctx); err != nil {
		log.Error("there are no rules yet: batches fail until there are", "error", err)
	}
	lambdahost.Start(f.Handle)
	return nil
}
