package schema

import "testing"

func TestBenchmarkEventHasAbout500Bytes(t *testing.T) {
	t.Parallel()
	if ev := orderEvent(t, order); len(ev.Append(nil)) < 480 || len(ev.Append(nil)) > 600 {
		t.Errorf("%d bytes", len(ev.Append(nil)))
	}
}
