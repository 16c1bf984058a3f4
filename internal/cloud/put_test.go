package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
)

// Every way in which a call of two records can end, and what may be said of
// them then: stored, not stored (throttled, unavailable) or unknown (an error
// instead of results, or ambiguous).
func TestAnOutcomeIsNamedForWhatIsKnown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault kinesistest.Fault
		want  string // kinds of the results, or "unknown"
		there int    // records on the stream
	}{
		{name: "nothing is wrong", fault: kinesistest.Delay(time.Millisecond), want: "stored stored", there: 2},

		// Single records.
		{name: "one throttled", fault: kinesistest.Records(1, kinesistest.Throughput), want: "stored throttled", there: 1},
		{name: "all throttled", fault: kinesistest.Throttle(), want: "throttled throttled"},
		{name: "one failed inside", fault: kinesistest.Records(1, kinesistest.Internal), want: "stored unavailable", there: 1},
		{name: "a code that nobody knows", fault: kinesistest.Records(1, &kinesistest.Error{Code: "SomethingNew"}), want: "stored ambiguous", there: 1},
		{name: "the same, and it is stored", fault: kinesistest.Records(1, &kinesistest.Error{Code: "SomethingNew"}).Stored(), want: "stored ambiguous", there: 2},

		// Whole calls that say that nothing was stored.
		{name: "call throttled", fault: kinesistest.Calls(kinesistest.Throughput), want: "throttled throttled"},
		{name: "account throttled", fault: kinesistest.Calls(kinesistest.Limit), want: "throttled throttled"},
		{name: "KMS throttled", fault: kinesistest.Calls(kinesistest.KMSThrottling), want: "throttled throttled"},
		{name: "no such stream", fault: kinesistest.Calls(kinesistest.NotFound), want: "unavailable unavailable"},
		{name: "access denied", fault: kinesistest.Calls(kinesistest.AccessDenied), want: "unavailable unavailable"},
		{name: "token expired", fault: kinesistest.Calls(kinesistest.ExpiredToken), want: "unavailable unavailable"},
		{name: "key disabled", fault: kinesistest.Calls(kinesistest.KMSDisabled), want: "unavailable unavailable"},
		{name: "clock wrong", fault: kinesistest.Skew(time.Hour), want: "unavailable unavailable"},
		{name: "another 4xx", fault: kinesistest.Calls(&kinesistest.Error{Code: "SomethingNew", Status: 403}), want: "unavailable unavailable"},

		// Whole calls of which nothing is known.
		{name: "5xx", fault: kinesistest.Calls(kinesistest.Internal), want: "unknown"},
		{name: "5xx, and stored", fault: kinesistest.Calls(kinesistest.Unavailable).Stored(), want: "unknown", there: 2},
		{name: "a gateway's timeout", fault: kinesistest.Calls(&kinesistest.Error{Code: "RequestTimeout", Status: 408}).Stored(), want: "unknown", there: 2},
		{name: "a timeout with another status", fault: kinesistest.Calls(&kinesistest.Error{Code: "RequestTimeoutException", Status: 400}).Stored(), want: "unknown", there: 2},
		{name: "cut before it was read", fault: kinesistest.Disconnect(kinesistest.BeforeReading), want: "unknown"},
		{name: "cut before it was stored", fault: kinesistest.Disconnect(kinesistest.BeforeStoring), want: "unknown"},
		{name: "cut after it was stored", fault: kinesistest.Disconnect(kinesistest.AfterStoring), want: "unknown", there: 2},
		{name: "no answer, not stored", fault: kinesistest.Hang(kinesistest.BeforeStoring), want: "unknown"},
		{name: "no answer, stored", fault: kinesistest.Hang(kinesistest.AfterStoring), want: "unknown", there: 2},
		{name: "half an answer", fault: kinesistest.CutAnswer(), want: "unknown", there: 2},

		// Answers that are none.
		{name: "a page", fault: kinesistest.Rubbish(kinesistest.HTML), want: "unknown"},
		{name: "a page, and stored", fault: kinesistest.Rubbish(kinesistest.HTML).Stored(), want: "unknown", there: 2},
		{name: "an empty object", fault: kinesistest.Rubbish(kinesistest.EmptyObject), want: "unknown"},
		{name: "nothing", fault: kinesistest.Rubbish(kinesistest.EmptyBody), want: "unknown"},
		{name: "half the JSON", fault: kinesistest.Rubbish(kinesistest.HalfJSON), want: "unknown", there: 2},
		{name: "a result too few", fault: kinesistest.Rubbish(kinesistest.FewerResults), want: "unknown", there: 2},
		{name: "a result too many", fault: kinesistest.Rubbish(kinesistest.MoreResults), want: "unknown", there: 2},
		{name: "results that say nothing", fault: kinesistest.Rubbish(kinesistest.NoSequence), want: "ambiguous ambiguous"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server, k := serve(t, 1)
			server.Fail(c.fault)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			records := []stream.Record{record("b0", "1", "2", "3"), record("b1", "4")}
			results, err := k.PutRecords(ctx, records)
			got := strings.Join(kinds(results), " ")
			if err != nil {
				got = "unknown"
			}
			if got != c.want {
				t.Errorf("got %s (%v, %v), want %s", got, results, err, c.want)
			}
			if n := len(server.Records("events")); n != c.there {
				t.Errorf("%d records are on the stream, want %d", n, c.there)
			}
			var events uint64
			for i, r := range results {
				if r.Err == nil {
					events += uint64(records[i].Events)
				}
			}
			if k.Stored() != events {
				t.Errorf("%d events are counted as stored, want %d", k.Stored(), events)
			}
			if n := server.Stats().Calls["PutRecords"]; n != 1 {
				t.Errorf("%d calls were made, want one: the producer decides about others", n)
			}
			for _, text := range append([]string{fmt.Sprint(err), fmt.Sprint(k.Trouble())}, texts(results)...) {
				if strings.Contains(text, secret) || strings.Contains(text, token) || strings.Contains(text, "\n") {
					t.Errorf("a text holds a secret, or more than a line: %s", text)
				}
			}
		})
	}
}

// texts returns the errors of results.
func texts(results []stream.Result) (all []string) {
	for _, r := range results {
		all = append(all, fmt.Sprint(r.Err))
	}
	return all
}

func TestASequenceNamesShardAndNumber(t *testing.T) {
	t.Parallel()
	server, k := serve(t, 4)
	sequences := mustPut(t, k, record("b0", "1"), record("b1", "2"), record("b2", "3"))
	var there []string
	for _, r := range server.Records("events") {
		there = append(there, r.Shard+":"+r.Sequence)
	}
	slices.Sort(sequences)
	slices.Sort(there)
	if !slices.Equal(sequences, there) {
		t.Errorf("answered %v, on the stream are %v", sequences, there)
	}
}

// Without a connection nothing was sent, however long the system waited for
// one: the spool may take the records without the risk of a duplicate.
func TestWithoutAConnectionNothingWasStored(t *testing.T) {
	t.Parallel()
	server, stopped := serve(t, 1)
	server.Stop()
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		k   *cloud.Kinesis
		ctx context.Context
	}{
		"refused":           {stopped, t.Context()},
		"no such host":      {client(t, server.URL(), noHost()), t.Context()},
		"context is done":   {client(t, "http://"+deaf.Addr().String()), done},
		"no TLS handshake":  {client(t, "https://"+deaf.Addr().String()), short(t)},
		"untrusted":         {client(t, kinesistest.New(t, kinesistest.Config{TLS: true}).URL()), t.Context()},
		"no credentials":    {client(t, server.URL(), config.WithCredentialsProvider(noCredentials{})), t.Context()},
		"credentials hang":  {client(t, server.URL(), config.WithCredentialsProvider(hangingCredentials{})), short(t)},
		"no known endpoint": {client(t, "://"), t.Context()},
	} {
		t.Run(name, func(t *testing.T) {
			results, err := c.k.PutRecords(c.ctx, []stream.Record{record("b0", "1"), record("b1", "2")})
			if err != nil {
				t.Fatalf("unknown (%v), want results", err)
			}
			if got := kinds(results); !slices.Equal(got, []string{"unavailable", "unavailable"}) {
				t.Errorf("%v (%v)", got, results)
			}
		})
	}
}

// short returns a context that is done soon.
func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// A connection that was open when the server went may have carried the call.
func TestAConnectionThatBreaksMayHaveCarriedTheCall(t *testing.T) {
	t.Parallel()
	server, k := serve(t, 1)
	mustPut(t, k, record("b0", "1"))
	server.Fail(kinesistest.Do(server.Stop))
	if results, err := k.PutRecords(t.Context(), []stream.Record{record("b0", "2")}); err == nil {
		t.Errorf("known (%v), want an error", results)
	}
}

// A record above the limit is refused alone, with and without knowing the
// limit of the stream.
func TestARecordThatIsTooLargeFailsAlone(t *testing.T) {
	t.Parallel()
	large := stream.Record{PartitionKey: "b0", Data: make([]byte, 1<<20), Events: 1}
	for _, c := range []struct {
		name     string
		describe bool
		kib      int
		records  []stream.Record
		want     []string
	}{
		{"limit known", true, 1024, []stream.Record{large, record("b1", "1")}, []string{"too_large", "stored"}},
		{"limit known, nothing else", true, 1024, []stream.Record{large}, []string{"too_large"}},
		{"limit not known", false, 1024, []stream.Record{large, record("b1", "1")}, []string{"too_large", "unavailable"}},
		{"limit not known, nothing else", false, 1024, []stream.Record{large}, []string{"too_large"}},
		{"the stream takes larger ones", true, 2048, []stream.Record{large, record("b1", "1")}, []string{"stored", "stored"}},
		{"the stream takes larger ones, not known", false, 2048, []stream.Record{large, record("b1", "1")}, []string{"stored", "stored"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := kinesistest.New(t, kinesistest.Config{Streams: []kinesistest.Stream{{Name: "events", MaxRecordKiB: c.kib}}})
			k := client(t, server.URL())
			if c.describe {
				if d, err := k.Describe(t.Context()); err != nil || d.MaxRecordBytes != c.kib<<10 {
					t.Fatalf("%+v, %v", d, err)
				}
			}
			results, err := k.PutRecords(t.Context(), c.records)
			if err != nil || !slices.Equal(kinds(results), c.want) {
				t.Errorf("got %v (%v, %v), want %v", kinds(results), results, err, c.want)
			}
		})
	}
}

// What is refused by the stream's configuration reads as a line for the log,
// and as one for the sender that tells nothing of the inside.
func TestSendersHearNothingOfTheInside(t *testing.T) {
	t.Parallel()
	server, k := serve(t, 1)
	for _, f := range []kinesistest.Fault{kinesistest.Calls(kinesistest.AccessDenied), kinesistest.Throttle()} {
		trouble := server.Fail(f)
		results, err := k.PutRecords(t.Context(), []stream.Record{record("b0", "1")})
		if err != nil {
			t.Fatal(err)
		}
		e, ok := errors.AsType[*fault.Error](results[0].Err)
		if !ok || e.Err == nil || strings.Contains(e.Detail, "events") || strings.Contains(e.Detail, "AWS") {
			t.Errorf("%+v", results[0].Err)
		}
		trouble.Off()
	}
}
