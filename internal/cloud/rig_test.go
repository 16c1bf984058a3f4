package cloud_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

// patience bounds what must happen soon; only a failing test waits for it.
const patience = 20 * time.Second

// secret and token are those of every client: no text may hold them.
const secret, token = "SECRETKEYOFTHETEST", "SESSIONTOKENOFTHETEST"

// at returns how the SDK is told of an endpoint, instead of by the environment.
func at(endpoint string) []func(*config.LoadOptions) error {
	return []func(*config.LoadOptions) error{
		config.WithRegion("us-east-1"),
		config.WithBaseEndpoint(endpoint),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", secret, token)),
		config.WithSharedConfigFiles([]string{}),
		config.WithSharedCredentialsFiles([]string{}),
	}
}

// client opens the stream "events" at an endpoint.
func client(t testing.TB, endpoint string, options ...func(*config.LoadOptions) error) *cloud.Kinesis {
	t.Helper()
	return named(t, endpoint, "events", options...)
}

// named opens a stream at an endpoint.
func named(t testing.TB, endpoint, name string, options ...func(*config.LoadOptions) error) *cloud.Kinesis {
	t.Helper()
	k, err := cloud.Open(context.Background(), cloud.Config{Stream: name, SDK: append(at(endpoint), options...)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// serve starts a server with the stream "events" and opens it.
func serve(t testing.TB, shards int) (*kinesistest.Server, *cloud.Kinesis) {
	t.Helper()
	server := kinesistest.New(t, kinesistest.Config{Streams: []kinesistest.Stream{{Name: "events", Shards: shards}}})
	return server, client(t, server.URL())
}

// noHost finds no host, as a resolver does that is asked for a region that does
// not exist.
func noHost() config.LoadOptionsFunc {
	return config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.DialContext = func(_ context.Context, network, addr string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(addr)
			return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
		}
	}))
}

// record makes a record of some events.
func record(key string, events ...string) stream.Record {
	var a stream.Aggregate
	a.Reset(key, stream.KPL)
	for _, e := range events {
		a.Add([]byte(e))
	}
	return stream.Record{PartitionKey: key, Data: a.Seal(), Events: a.Len()}
}

// mustPut writes records that must all be stored, and returns their sequences.
func mustPut(t testing.TB, k *cloud.Kinesis, records ...stream.Record) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	results, err := k.PutRecords(ctx, records)
	if err != nil {
		t.Fatal(err)
	}
	var sequences []string
	for i, r := range results {
		if r.Err != nil {
			t.Fatalf("record %d: %v", i, r.Err)
		}
		sequences = append(sequences, r.Sequence)
	}
	return sequences
}

// kinds returns what results say, one word for each record.
func kinds(results []stream.Result) (all []string) {
	for _, r := range results {
		if r.Err == nil {
			all = append(all, "stored")
		} else {
			all = append(all, fault.KindOf(r.Err).String())
		}
	}
	return all
}

// positions gives the records of a stream positions, as streamtest wants them:
// in the order in which they are first read. It is shared by the readers, so
// that a record has the same position for all of them.
type positions struct {
	mu   sync.Mutex
	last uint64
	of   map[string]uint64 // by shard and sequence number
}

func (p *positions) number(r cloud.ReadRecord) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := r.Shard + ":" + r.Sequence
	if p.of[id] == 0 {
		p.last++
		p.of[id] = p.last
	}
	return p.of[id]
}

// tail reads a stream in the order of its positions.
type tail struct {
	entries chan stream.Entry
	stop    context.CancelFunc
	ended   chan error
}

// tailOf follows k from its oldest record and passes on what is after a
// position. Another reader may have seen the records of several shards in
// another order: what is too early waits.
func tailOf(k *cloud.Kinesis, p *positions, after uint64) *tail {
	ctx, stop := context.WithCancel(context.Background())
	t := &tail{entries: make(chan stream.Entry), stop: stop, ended: make(chan error, 1)}
	early := map[uint64]stream.Entry{}
	next := uint64(1)
	go func() {
		t.ended <- k.Read(ctx, cloud.ReadOptions{Follow: true}, func(r cloud.ReadRecord) bool {
			n := p.number(r)
			early[n] = stream.Entry{Position: n, StoredAt: r.ArrivedAt, Records: []stream.Record{{PartitionKey: r.PartitionKey, Data: r.Data}}}
			for e, ok := early[next]; ok; e, ok = early[next] {
				delete(early, next)
				next++
				if e.Position <= after {
					continue
				}
				select {
				case t.entries <- e:
				case <-ctx.Done():
					return false
				}
			}
			return true
		})
	}()
	return t
}

func (t *tail) Next(ctx context.Context) (stream.Entry, error) {
	select {
	case e := <-t.entries:
		return e, nil
	case err := <-t.ended:
		t.ended <- err
		return stream.Entry{}, fmt.Errorf("reading ended: %w", err)
	case <-ctx.Done():
		return stream.Entry{}, ctx.Err()
	}
}

func (t *tail) Close() error {
	t.stop()
	<-t.ended
	return nil
}

// host is a stream at an endpoint as streamtest needs it.
func host(t *testing.T, endpoint, name string, limits streamtest.Limits, p *positions) streamtest.Host {
	t.Helper()
	k := named(t, endpoint, name)
	if _, err := k.Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	return streamtest.Host{
		Stream: k,
		Open: func(_ context.Context, after uint64) (stream.Reader, error) {
			return tailOf(k, p, after), nil
		},
		Limits: limits,
		Reopen: func(t *testing.T) streamtest.Host { return host(t, endpoint, name, limits, p) },
	}
}

// logTo returns a logger that writes to a buffer.
func logTo(b *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
