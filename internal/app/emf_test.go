package app

import (
	"encoding/json"
	"testing"

	"github.com/eventsluice/sluice/internal/ledger"
)

// Counters are of the time since the last line; what is spooled and what the sums
// miss is of now.
func TestALineOfMetricsSaysWhatHasHappenedSinceTheLast(t *testing.T) {
	t.Parallel()
	line := metricsLine("gateway",
		ledger.Statement{Received: 10, Accepted: 8, Rejected: 2, Stored: 7, Spooled: 1},
		ledger.Statement{Received: 25, Accepted: 20, Rejected: 5, Stored: 15, Spooled: 5, Residual: 3})
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	for name, want := range map[string]any{"Program": "gateway", "Accepted": 12.0, "Rejected": 3.0, "Stored": 8.0, "Spooled": 5.0, "Residual": 3.0} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
