package cloud_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

// offline answers every call of the SDK with a body, where it would use its
// HTTP client.
func offline(body string) config.LoadOptionsFunc {
	answer := func(context.Context, middleware.DeserializeInput, middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		return middleware.DeserializeOutput{RawResponse: &smithyhttp.Response{Response: &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)),
		}}}, middleware.Metadata{}, nil
	}
	return config.WithAPIOptions([]func(*middleware.Stack) error{func(s *middleware.Stack) error {
		return s.Deserialize.Add(middleware.DeserializeMiddlewareFunc("offline", answer), middleware.After)
	}})
}

// reply reads requests from a connection as cheaply as can be and answers each
// with a body.
func reply(conn net.Conn, body string) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 1<<20)
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for {
		size := 0
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				break
			}
			if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				size, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
			}
		}
		if _, err := in.Discard(size); err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// loopback starts a server that answers every call with a body, and returns its
// address.
func loopback(b *testing.B, body string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go reply(conn, body)
		}
	}()
	return "http://" + listener.Addr().String()
}

// BenchmarkPutRecords is what a call costs: offline without the network and
// net/http; loopback with both, to a server that does next to nothing; bare is
// net/http sending as many bytes to it, without the SDK.
func BenchmarkPutRecords(b *testing.B) {
	const records = 16
	var entries strings.Builder
	for i := range records {
		fmt.Fprintf(&entries, `,{"SequenceNumber":"4954498513849260829579%034d","ShardId":"shardId-%012d"}`, i, i)
	}
	answer := `{"FailedRecordCount":0,"Records":[` + entries.String()[1:] + `]}`
	server := loopback(b, answer)
	for _, size := range []int{500, 25 << 10} {
		name := fmt.Sprintf("records=%d/bytes=%d/", records, size)
		var call []stream.Record
		for i := range records {
			call = append(call, stream.Record{PartitionKey: producer.BucketKey(i), Data: bytes.Repeat([]byte("x"), size), Events: 1})
		}
		put := func(b *testing.B, k *cloud.Kinesis) {
			b.ReportAllocs()
			for b.Loop() {
				results, err := k.PutRecords(context.Background(), call)
				if err != nil || results[records-1].Err != nil {
					b.Fatal(err, results)
				}
			}
		}
		b.Run(name+"offline", func(b *testing.B) { put(b, client(b, server, offline(answer))) })
		b.Run(name+"loopback", func(b *testing.B) { put(b, client(b, server)) })
		b.Run(name+"bare", func(b *testing.B) {
			body := bytes.Repeat([]byte("x"), records*base64.StdEncoding.EncodedLen(size))
			b.ReportAllocs()
			for b.Loop() {
				response, err := http.Post(server, "application/x-amz-json-1.1", bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, response.Body); err != nil {
					b.Fatal(err)
				}
				response.Body.Close()
			}
		})
	}
}
