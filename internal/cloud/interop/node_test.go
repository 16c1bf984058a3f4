package interop

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/testenv"
)

// node returns a script of testdata/node, to be run with aws-kinesis-agg.
func node(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	testenv.NodeModules(t, "testdata/node")
	cmd := command(t, testenv.Node(t), script)
	cmd.Dir = "testdata/node"
	return cmd
}

func TestTheNodeModuleReadsWhatWeWrite(t *testing.T) {
	t.Parallel()
	records := ours()
	var lines []string
	for _, w := range records {
		lines = append(lines, marshal(t, w.record()))
	}
	for i, line := range answers(t, node(t, "deaggregate.mjs"), lines) {
		t.Run(records[i].name, func(t *testing.T) {
			t.Parallel()
			var read []struct {
				PartitionKey, SequenceNumber string
				SubSequenceNumber            int // it gives a plain record none
				Data                         []byte
			}
			unmarshal(t, line, &read)
			var got []stream.UserRecord
			for _, u := range read {
				if want := records[i].record().SequenceNumber; u.SequenceNumber != want {
					t.Errorf("sequence number %q, want %q", u.SequenceNumber, want)
				}
				got = append(got, stream.UserRecord{PartitionKey: u.PartitionKey, SubSequence: u.SubSequenceNumber, Data: u.Data})
			}
			compare(t, got, records[i].users())
		})
	}
}

// handed is a user record as the module takes it.
type handed struct {
	PartitionKey    string `json:"partitionKey"`
	ExplicitHashKey string `json:"explicitHashKey,omitempty"`
	Data            []byte `json:"data"`
}

func TestWeReadWhatTheNodeModuleWrites(t *testing.T) {
	t.Parallel()
	many := make([]handed, 1000)
	for i := range many {
		many[i] = handed{PartitionKey: []string{"u1", "u2", "u3"}[i%3], Data: []byte(strings.Repeat("x", i))}
	}
	// The module mixes up keys that look like a small integer, for it keeps
	// them as the names of an object's members. The hash keys here do not.
	const hashKey, another = "340282366920938463463374607431768211455", "170141183460469231731687303715884105728"
	cases := []struct {
		name  string
		users []handed
	}{
		{"one, which it aggregates too", []handed{{"u1", "", []byte(`{"name":"a"}`)}}},
		{"several keys", []handed{{"u1", "", []byte("one")}, {"u2", "", []byte("two")}, {"u1", "", []byte("three")}}},
		{"hash keys", []handed{{"u1", hashKey, []byte("one")}, {"u2", "", []byte("two")}, {"u3", another, []byte("three")}, {"u3", hashKey, []byte("four")}}},
		{"unicode and no text", []handed{{"ключ-😀", "", []byte(`{"name":"日本語"}`)}, {"Änn", "", []byte{0, 0xff, 0xfe}}}},
		{"no data", []handed{{"u1", "", []byte{}}, {"u1", "", []byte{}}}},
		{"many", many},
	}
	var lines []string
	for _, c := range cases {
		lines = append(lines, marshal(t, c.users))
	}
	for i, line := range answers(t, node(t, "aggregate.mjs"), lines) {
		t.Run(cases[i].name, func(t *testing.T) {
			t.Parallel()
			var made record
			unmarshal(t, line, &made)
			var want []stream.UserRecord
			for sub, u := range cases[i].users {
				want = append(want, stream.UserRecord{PartitionKey: u.PartitionKey, ExplicitHashKey: u.ExplicitHashKey, SubSequence: sub, Data: u.Data})
			}
			compare(t, made.users(), want)
		})
	}
}

func TestTheNodeModuleWritesTheBytesThatWeWrite(t *testing.T) {
	t.Parallel()
	aggregates := slices.DeleteFunc(ours(), func(w written) bool { return !w.record().aggregated() })
	var lines []string
	for _, w := range aggregates {
		var users []handed
		for _, e := range w.events {
			users = append(users, handed{PartitionKey: w.key, Data: []byte(e)})
		}
		lines = append(lines, marshal(t, users))
	}
	for i, line := range answers(t, node(t, "aggregate.mjs"), lines) {
		var made record
		unmarshal(t, line, &made)
		if !bytes.Equal(made.Data, aggregates[i].record().Data) {
			t.Errorf("%s: the module writes %.100x, we %.100x", aggregates[i].name, made.Data, aggregates[i].record().Data)
		}
	}
}
