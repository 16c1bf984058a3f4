package redrive

import (
	"context"
	"log/slog"
	"os"

	"github.com/eventsluice/sluice/internal/cloud/lambdahost"
	"github.com/eventsluice/sluice/internal/cloud/letters"
)

// Main runs the function in its Lambda environment. It returns only if it cannot
// start.
func Main() error {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	setup, backups, err := Setup(os.LookupEnv)
	if err != nil {
		return err
	}
	setup.Log = log
	clients, err := letters.Dial(context.Background(), setup)
	if err != nil {
		return err
	}
	lambdahost.Start(New(clients, backups, letters.Options{}, log).Handle)
	return nil
}
