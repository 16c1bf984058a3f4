package interop

import (
	"crypto/md5"
	"math/big"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/testenv"
)

// hashRange is what one shard takes, both ends included.
type hashRange struct{ start, end *big.Int }

var (
	hashKeys = new(big.Int).Lsh(big.NewInt(1), 128) // how many there are
	middle   = new(big.Int).Rsh(hashKeys, 1)
	whole    = hashRange{new(big.Int), before(hashKeys)}
	lower    = hashRange{new(big.Int), before(middle)}
	upper    = hashRange{middle, before(hashKeys)}
)

func before(k *big.Int) *big.Int { return new(big.Int).Sub(k, big.NewInt(1)) }

func (r hashRange) contains(k *big.Int) bool { return r.start.Cmp(k) <= 0 && k.Cmp(r.end) <= 0 }

// hashKeyOf returns where a user record belongs.
func hashKeyOf(u stream.UserRecord) *big.Int {
	if u.ExplicitHashKey != "" {
		k, _ := new(big.Int).SetString(u.ExplicitHashKey, 10)
		return k
	}
	sum := md5.Sum([]byte(u.PartitionKey))
	return new(big.Int).SetBytes(sum[:])
}

// kclRead is what a KCL application gets of a record of a shard: nothing at
// all, and no error, if any user record of an aggregate belongs to another
// shard. Source: KCL 3.5.1, AggregatorUtil.deaggregate.
func kclRead(r record, shard hashRange) []stream.UserRecord {
	users := r.users()
	if !r.aggregated() {
		return users
	}
	for _, u := range users {
		if !shard.contains(hashKeyOf(u)) {
			return nil
		}
	}
	return users
}

// placed is a record and the range of the shard that it was read from.
type placed struct {
	record
	shard hashRange
}

// kclJudges returns what the Kinesis Client Library itself makes of records.
func kclJudges(t *testing.T, records []placed) [][]stream.UserRecord {
	t.Helper()
	var lines []string
	for _, r := range records {
		lines = append(lines, strings.Join([]string{r.PartitionKey, r.SequenceNumber, encode(r.Data), r.shard.start.String(), r.shard.end.String()}, "\t"))
	}
	all := make([][]stream.UserRecord, len(records))
	i := 0
	for line := range strings.SplitSeq(talk(t, java(t, "Deaggregate.java"), lines), "\n") {
		if line == "" {
			i++
			continue
		}
		field := strings.Split(line, "\t")
		if field[2] != records[i].SequenceNumber {
			t.Fatalf("record %d: sequence number %q, want %q", i, field[2], records[i].SequenceNumber)
		}
		sub, err := strconv.Atoi(field[3])
		if err != nil {
			t.Fatal(err)
		}
		all[i] = append(all[i], stream.UserRecord{PartitionKey: field[0], ExplicitHashKey: field[1], SubSequence: sub, Data: decode(t, field[4])})
	}
	if i != len(records) {
		t.Fatalf("the library answered for %d records of %d", i, len(records))
	}
	return all
}

// java returns a program of testdata/java, to be run with the libraries.
func java(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	classPath := testenv.Java(t, "testdata/java/pom.xml")
	// For programs that end soon: half of the work before they do anything.
	quick := []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"}
	return command(t, "java", append(append(quick, "-cp", classPath, "testdata/java/"+program), args...)...)
}

func TestTheClientLibraryReadsWhatWeWrite(t *testing.T) {
	t.Parallel()
	kinds := ours()
	var records []placed
	for _, w := range kinds {
		// The shard that the record's key belongs to, halved until it is small:
		// as after a hundred splits.
		shard, key := whole, hashKeyOf(stream.UserRecord{PartitionKey: w.key})
		for range 100 {
			center := new(big.Int).Add(shard.start, shard.end)
			center.Rsh(center, 1)
			if key.Cmp(center) <= 0 {
				shard.end = center
			} else {
				shard.start = center.Add(center, big.NewInt(1))
			}
		}
		records = append(records, placed{w.record(), shard})
	}
	for i, got := range kclJudges(t, records) {
		t.Run(kinds[i].name, func(t *testing.T) {
			t.Parallel()
			compare(t, got, kinds[i].users())
		})
	}
}

// TestTheClientLibraryDropsWhatBelongsToAnotherShard is about what our records
// must not be: aggregates of several keys, which readers lose after a split.
// KPL makes such. It also keeps kclRead to what the library does.
func TestTheClientLibraryDropsWhatBelongsToAnotherShard(t *testing.T) {
	t.Parallel()
	mixed := readKPLFixture(t)[0] // of both halves of the hash range
	plain := record{PartitionKey: "u1", SequenceNumber: "1", Data: []byte(`{"name":"order_placed"}`)}
	bucket := written{key: "u1", events: []string{"one", "two"}}.record()
	cases := []struct {
		name string
		placed
		dropped bool
	}{
		{"several keys, before the split", placed{mixed, whole}, false},
		{"several keys, the one half", placed{mixed, lower}, true},
		{"several keys, the other half", placed{mixed, upper}, true},
		{"one event, its half", placed{plain, upper}, false},
		{"one event, which the library does not look at", placed{plain, lower}, false},
		{"one key, its half", placed{bucket, upper}, false},
		{"one key, the other half", placed{bucket, lower}, true},
	}
	records := make([]placed, len(cases))
	for i, c := range cases {
		records[i] = c.placed
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var want []stream.UserRecord
			if !c.dropped {
				want = c.users()
			}
			compare(t, kclRead(c.record, c.shard), want)
		})
	}
	t.Run("by the client library", func(t *testing.T) {
		for i, got := range kclJudges(t, records) {
			compare(t, got, kclRead(records[i].record, records[i].shard))
		}
	})
}
