package interop

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/testenv"
)

// update writes testdata/kpl anew, from what the library writes now.
var update = flag.Bool("update", false, "write the fixtures of the Kinesis Producer Library anew")

// kplFixture holds a handful as the library, in the version of its name, wrote
// it to a stream of one shard.
const kplFixture = "testdata/kpl/1.0.7.json"

// handful are user records of every kind, as somebody hands them to KPL.
func handful() []stream.UserRecord {
	const lowest, highest = "0", "340282366920938463463374607431768211455"
	return []stream.UserRecord{
		{PartitionKey: "u1", Data: []byte(`{"name":"login","data":{"user":"u1"}}`)},
		{PartitionKey: "u9", Data: []byte(`{"name":"file_downloaded","data":{"file":"a.pdf","bytes":1234}}`)},
		{PartitionKey: "u1", Data: []byte(`{"name":"logout","data":{}}`)},
		{PartitionKey: "u2", ExplicitHashKey: lowest, Data: []byte(`{"name":"login","data":{"hash_key":"lowest"}}`)},
		{PartitionKey: "u2", ExplicitHashKey: highest, Data: []byte(`{"name":"login","data":{"hash_key":"highest"}}`)},
		{PartitionKey: "ключ-😀", Data: []byte(`{"name":"gekauft","data":{"wer":"Änn 😀","was":"日本語"}}`)},
		{PartitionKey: "u3", Data: []byte{}},
		{PartitionKey: "u3", Data: []byte("\x00\xff\xfe\n\t")},
		{PartitionKey: strings.Repeat("k", 256), Data: []byte(`{"name":"the longest key"}`)},
	}
}

func readKPLFixture(t *testing.T) []record {
	t.Helper()
	text, err := os.ReadFile(kplFixture)
	if err != nil {
		t.Fatal(err)
	}
	var records []record
	unmarshal(t, string(text), &records)
	return records
}

func TestWeReadWhatTheProducerLibraryWrote(t *testing.T) {
	t.Parallel()
	compareKPL(t, readKPLFixture(t), handful())
}

func TestWeReadWhatTheProducerLibraryWrites(t *testing.T) {
	t.Parallel()
	// KPL's aggregates are up to 50 KiB, and what is larger goes alone.
	thousands := []stream.UserRecord{{PartitionKey: "large", Data: bytes.Repeat([]byte("x"), 60_000)}}
	for i := range 5000 {
		thousands = append(thousands, stream.UserRecord{
			PartitionKey: fmt.Sprintf("user-%d", i%97),
			Data:         fmt.Appendf(nil, `{"id":"%d","name":"order_placed","data":{"n":%d}}`, i, i),
		})
	}
	t.Run("a handful", func(t *testing.T) {
		t.Parallel()
		records := kplWrites(t, 1, handful())
		compareKPL(t, records, handful())
		if *update {
			text, err := json.MarshalIndent(records, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(kplFixture, append(text, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("thousands over four shards", func(t *testing.T) {
		t.Parallel()
		records := kplWrites(t, 4, thousands)
		compareKPL(t, records, thousands)
		if len(records) > len(thousands)/10 {
			t.Errorf("%d records for %d user records: it did not aggregate", len(records), len(thousands))
		}
	})
}

// kplWrites has the library itself write user records to a stream, and returns
// the records that are on it then.
func kplWrites(t *testing.T, shards int, users []stream.UserRecord) []record {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the program that KPL brings along is run on Linux only")
	}
	server := newEndpoint(t, shards, true)
	_, port, _ := strings.Cut(server.Addr(), ":")
	cmd := java(t, "Produce.java", port, streamName, testenv.Folder(t, "kpl"))
	var lines []string
	for _, u := range users {
		lines = append(lines, u.PartitionKey+"\t"+u.ExplicitHashKey+"\t"+encode(u.Data))
	}
	places := answers(t, cmd, lines)
	var records []record
	for _, r := range server.readAll(t) {
		if r.users()[0].PartitionKey != "warm-up" {
			records = append(records, r.record)
		}
	}
	for _, place := range places {
		if !slices.ContainsFunc(records, func(r record) bool { return r.Shard+"\t"+r.SequenceNumber == place }) {
			t.Fatalf("KPL says that it wrote to %q, and no record is there", place)
		}
	}
	return records
}

// compareKPL wants in the records what was handed to the library, in any order
// (it writes from many threads), and some of it aggregated.
func compareKPL(t *testing.T, records []record, handed []stream.UserRecord) {
	t.Helper()
	var got []stream.UserRecord
	plain, aggregated := 0, 0
	for _, r := range records {
		users := r.users()
		if r.aggregated() {
			aggregated++
		} else {
			plain++
			// Its explicit hash key said where it went, and is not kept.
			for _, h := range handed {
				if h.PartitionKey == users[0].PartitionKey && bytes.Equal(h.Data, users[0].Data) {
					users[0].ExplicitHashKey = h.ExplicitHashKey
				}
			}
		}
		for i, u := range users {
			if u.SubSequence != i {
				t.Errorf("record %s: user record %d has sub-sequence number %d", r.SequenceNumber, i, u.SubSequence)
			}
			u.SubSequence = 0
			got = append(got, u)
		}
	}
	if aggregated == 0 {
		t.Error("no record is an aggregate")
	}
	t.Logf("%d plain, %d aggregated", plain, aggregated)
	want := slices.Clone(handed)
	for _, users := range [][]stream.UserRecord{got, want} {
		slices.SortFunc(users, func(a, b stream.UserRecord) int {
			return strings.Compare(a.PartitionKey+a.ExplicitHashKey+string(a.Data), b.PartitionKey+b.ExplicitHashKey+string(b.Data))
		})
	}
	compare(t, got, want)
}
