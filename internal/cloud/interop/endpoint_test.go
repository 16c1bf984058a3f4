package interop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

const streamName = "events"

// endpoint is a stream to write to and to read from.
type endpoint struct {
	*kinesistest.Server
	client *kinesis.Client
}

func newEndpoint(t *testing.T, shards int, withTLS bool) endpoint {
	t.Helper()
	server := kinesistest.New(t, kinesistest.Config{TLS: withTLS, Streams: []kinesistest.Stream{{Name: streamName, Shards: shards}}})
	transport := &http.Transport{}
	if withTLS {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(server.Certificate())
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return endpoint{server, kinesis.New(kinesis.Options{
		BaseEndpoint: aws.String(server.URL()),
		Region:       "eu-west-1",
		HTTPClient:   &http.Client{Transport: transport},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	})}
}

// shards returns all shards, parents before children.
func (e endpoint) shards(t *testing.T) []types.Shard {
	t.Helper()
	page, err := e.client.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: aws.String(streamName)})
	if err != nil {
		t.Fatal(err)
	}
	all := page.Shards
	if page.NextToken != nil {
		t.Fatalf("more than %d shards", len(all))
	}
	// They come by number, and a child's is above those of its parents.
	for i, s := range all {
		for _, parent := range []*string{s.ParentShardId, s.AdjacentParentShardId} {
			at := slices.IndexFunc(all, func(s types.Shard) bool { return parent != nil && *s.ShardId == *parent })
			if parent != nil && (at < 0 || at >= i) {
				t.Fatalf("%s stands before its parent %s", *s.ShardId, *parent)
			}
		}
	}
	return all
}

// readAll reads the stream as KCL does: each shard from its oldest record to its
// end, parents before their children.
func (e endpoint) readAll(t *testing.T) []placed {
	t.Helper()
	var all []placed
	for _, s := range e.shards(t) {
		from, err := e.client.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{
			StreamName: aws.String(streamName), ShardId: s.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})
		if err != nil {
			t.Fatal(err)
		}
		for at := from.ShardIterator; at != nil; {
			page, err := e.client.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: at})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Records {
				all = append(all, placed{
					record: record{Shard: *s.ShardId, PartitionKey: *r.PartitionKey, SequenceNumber: *r.SequenceNumber, Data: r.Data},
					shard:  rangeOf(t, s),
				})
			}
			at = page.NextShardIterator
			if len(page.Records) == 0 && aws.ToInt64(page.MillisBehindLatest) == 0 {
				break // an open shard has no end
			}
		}
	}
	return all
}

func rangeOf(t *testing.T, s types.Shard) hashRange {
	t.Helper()
	return hashRange{number(t, s.HashKeyRange.StartingHashKey), number(t, s.HashKeyRange.EndingHashKey)}
}

func number(t *testing.T, decimal *string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(aws.ToString(decimal), 10)
	if !ok {
		t.Fatalf("%q is no hash key", aws.ToString(decimal))
	}
	return n
}
