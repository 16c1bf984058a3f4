package cloud

import (
	"log/slog"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/fault"
)

// Trouble returns what keeps the stream from being used and somebody must act
// on, nil if the last call worked. What passes by itself, such as throttling
// or an endpoint that is away, is no trouble.
func (k *Kinesis) Trouble() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.trouble == nil {
		return nil
	}
	return k.trouble
}

// note keeps what a call says about the state of the stream; f is nil if it
// worked. It logs changes, and not calls.
func (k *Kinesis) note(f *sdk.Failure) {
	worked := f == nil || f.Kind == fault.Throttled
	if !worked && !f.Trouble {
		return // nothing is known that was not before
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch was := k.trouble; {
	case worked && was != nil:
		k.trouble = nil
		k.log.Info("the stream can be used again", slog.String("stream", k.label))
	case !worked:
		k.trouble = f
		if was == nil || was.Topic != f.Topic {
			k.log.Error("the stream cannot be used", slog.String("stream", k.label), slog.String("reason", f.Text))
		}
	}
}
