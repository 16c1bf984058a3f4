package interop

import (
	"fmt"
	"slices"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/testenv"
)

// TestTheLoopThatPutsStraightToTheStreamFlowsThrough runs the loop with which
// back ends send since before there was a gateway, on boto3 as it comes from
// PyPI.
func TestTheLoopThatPutsStraightToTheStreamFlowsThrough(t *testing.T) {
	t.Parallel()
	server := newEndpoint(t, 2, false)
	cmd := command(t, testenv.Python(t, "testdata/python/requirements.txt"), "testdata/python/put.py", streamName)
	cmd.Env = environment(append(server.Env(), "AWS_DEFAULT_REGION=eu-west-1")...) // boto3 reads no AWS_REGION
	talk(t, cmd, nil)

	names := map[string]bool{}
	for _, r := range server.readAll(t) {
		for sub, data := range stream.Deaggregate(stream.Record{PartitionKey: r.PartitionKey, Data: r.Data}) {
			e, err := event.ParseStored(data)
			if err != nil {
				t.Fatalf("%v in %s", err, data)
			}
			var i int
			if _, err := fmt.Sscanf(e.Name, "event-%d", &i); err != nil {
				t.Fatalf("name %q: %v", e.Name, err)
			}
			names[e.Name] = true
			sent := fmt.Sprintf(`{"name":"event-%d","data":{"square":%d}}`, i, i*i)
			if sub != 0 || string(data) != sent || string(e.Data) != fmt.Sprintf(`{"square":%d}`, i*i) {
				t.Errorf("user record %d is %s with data %s, sent was %s", sub, data, e.Data, sent)
			}
			if got := kclRead(r.record, r.shard); len(got) != 1 || !slices.Equal(got[0].Data, data) {
				t.Errorf("%s: a reader gets %+v", sent, got)
			}
		}
	}
	if len(names) != 300 {
		t.Errorf("%d events came through of 300", len(names))
	}
}
