// Package interop shows that what Sluice puts on a Kinesis stream and what
// AWS's own libraries put there are understood by both sides: the Kinesis
// Producer Library and the Kinesis Client Library (Java), the aggregation
// module for Node.js, and boto3. It shows too that sqstest, our double of SQS, is
// what the AWS SDKs for Go and Python expect, and behaves as moto, a double that
// is not ours. It has tests only.
//
// The libraries run as they come from their registries, in versions that the
// lock files in testdata pin; a machine that lacks their language skips those
// tests. What needs a stream runs against kinesistest.
package interop

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/stream"
)

// record is a record of a stream, as a reader gets it.
type record struct {
	Shard          string `json:"shard"`
	PartitionKey   string `json:"partitionKey"`
	SequenceNumber string `json:"sequenceNumber"`
	Data           []byte `json:"data"`
}

func (r record) users() []stream.UserRecord {
	return stream.AppendUserRecords(nil, stream.Record{PartitionKey: r.PartitionKey, Data: r.Data})
}

// aggregated reports whether r is an aggregate: a plain record is its own only
// user record.
func (r record) aggregated() bool {
	users := r.users()
	return len(users) != 1 || !bytes.Equal(users[0].Data, r.Data)
}

// written is a record as our producer writes it, and the events in it.
type written struct {
	name   string
	key    string
	events []string
}

func (w written) record() record {
	var a stream.Aggregate
	a.Reset(w.key, stream.KPL)
	for _, e := range w.events {
		a.Add([]byte(e))
	}
	return record{PartitionKey: w.key, SequenceNumber: "49650000000000000000000000000000000000000000000000000002", Data: a.Seal()}
}

// users is what a reader has to make of it.
func (w written) users() []stream.UserRecord {
	users := make([]stream.UserRecord, len(w.events))
	for i, e := range w.events {
		users[i] = stream.UserRecord{PartitionKey: w.key, SubSequence: i, Data: []byte(e)}
	}
	return users
}

// ours are records of every kind that our producer writes.
func ours() []written {
	event := func(i int) string {
		return fmt.Sprintf(`{"id":"%d","type":"track","name":"order_placed","user_id":"u%d","data":{"n":%d},"context":{}}`, i, i%7, i)
	}
	var thousand []string
	for i := range 1000 {
		thousand = append(thousand, event(i))
	}
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	return []written{
		{"one event, which is written as it is", "b0", thousand[:1]},
		{"two events", "b1", thousand[:2]},
		{"a thousand events", "b65535", thousand},
		{"unicode", "b2", []string{`{"name":"gekauft","data":{"wer":"Änn 😀","was":"日本語"}}`, `{"name":"` + "\u2028" + `"}`}},
		{"one event without a byte", "b3", []string{""}},
		{"events without a byte", "b4", []string{"", "{}", ""}},
		{"bytes that are no text", "b5", []string{string(everyByte), "\x00", "\xff\xfe"}},
		{"lengths where a varint grows", "b6", []string{strings.Repeat("x", 124), strings.Repeat("y", 125), strings.Repeat("z", 16380), strings.Repeat("w", 16381)}},
		{"as large as a record of a stream is by default", "b7", []string{strings.Repeat("x", 1<<19), strings.Repeat("y", 1<<19-100)}},
		{"an event that looks like an aggregate", "b8", []string{string(written{key: "b1", events: thousand[:2]}.record().Data)}},
		{"the longest key", strings.Repeat("ключ", 64), thousand[:3]},
	}
}

// compare wants the same user records in the same order.
func compare(t *testing.T, got, want []stream.UserRecord) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d user records, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].PartitionKey != want[i].PartitionKey || got[i].ExplicitHashKey != want[i].ExplicitHashKey ||
			got[i].SubSequence != want[i].SubSequence || !bytes.Equal(got[i].Data, want[i].Data) {
			t.Errorf("user record %d is %s, want %s", i, show(got[i]), show(want[i]))
		}
	}
}

func show(u stream.UserRecord) string {
	return fmt.Sprintf("%d: key %q, hash key %q, %d bytes %.80q", u.SubSequence, u.PartitionKey, u.ExplicitHashKey, len(u.Data), u.Data)
}

// command returns a program around one of AWS's libraries.
func command(t *testing.T, path string, args ...string) *exec.Cmd {
	t.Helper()
	// Long, for machines may be slow and busy.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = environment("AWS_EC2_METADATA_DISABLED=true")
	cmd.WaitDelay = time.Second // for what it has started itself
	return cmd
}

// talk runs a program, gives it lines and returns those that it prints.
func talk(t *testing.T, cmd *exec.Cmd, lines []string) string {
	t.Helper()
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	return strings.TrimSuffix(stdout.String(), "\n")
}

// answers is the lines that a program prints, one for each line that it gets.
func answers(t *testing.T, cmd *exec.Cmd, lines []string) []string {
	t.Helper()
	printed := strings.Split(talk(t, cmd, lines), "\n")
	if len(printed) != len(lines) {
		t.Fatalf("%s printed %d lines for %d:\n%.1000s", cmd, len(printed), len(lines), strings.Join(printed, "\n"))
	}
	return printed
}

// environment is that of the test, without what it says of AWS and of proxies,
// and with more.
func environment(more ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(v), "=")
		return strings.HasPrefix(name, "AWS_") || strings.HasSuffix(name, "_PROXY")
	})
	return append(env, more...)
}

func encode(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

func decode(t *testing.T, text string) []byte {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func unmarshal(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %.200s", err, text)
	}
}
