package main

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // Kinesis places records by it
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"
)

// streamName is the stream that the sink is.
const streamName = "bench"

// payloadUnit is what a PUT payload unit holds. Source: Kinesis pricing page,
// "25 KB payload chunks", a KB being 1,024 bytes there (read 2026-11).
const payloadUnit = 25 << 10

// received is what a sink got.
type received struct {
	// Calls to PutRecords carried Records records of Bytes bytes, data and
	// partition keys; Units are their PUT payload units, Kilobytes what they
	// are on demand, each record a whole number of them.
	Calls     int `json:"calls"`
	Records   int `json:"records"`
	Bytes     int `json:"bytes"`
	Units     int `json:"units"`
	Kilobytes int `json:"kilobytes"`
	// tally is of the events in the records.
	tally
}

// serveSink is a Kinesis endpoint that numbers and counts what it gets, and
// keeps nothing. It answers a call when its latency is over. Its first line of
// output is its address; a GET tells what it has received.
func serveSink(ctx context.Context, args []string, out io.Writer) error {
	s := sink{}
	flags := flag.NewFlagSet("sink", flag.ContinueOnError)
	flags.DurationVar(&s.latency, "latency", 0, "")
	flags.IntVar(&s.shards, "shards", 1, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return serve(ctx, out, &s)
}

type sink struct {
	latency time.Duration
	shards  int
	bodies  sync.Pool // of *bytes.Buffer

	mu    sync.Mutex
	total received
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch {
	case r.Method == http.MethodGet:
		s.mu.Lock()
		total := s.total
		s.mu.Unlock()
		answer(w, total)
	case operation == "DescribeStreamSummary":
		answer(w, map[string]any{"StreamDescriptionSummary": map[string]any{
			"StreamName": streamName, "StreamARN": "arn:aws:kinesis:us-east-1:123456789012:stream/" + streamName,
			"StreamStatus": "ACTIVE", "OpenShardCount": s.shards, "RetentionPeriodHours": 24,
			"StreamCreationTimestamp": 1.7e9, "EnhancedMonitoring": []any{},
		}})
	case operation == "ListShards":
		answer(w, map[string]any{"Shards": s.list()})
	case operation == "PutRecords":
		s.putRecords(w, r)
	default:
		refuse(w, "UnknownOperationException", "the sink knows PutRecords, DescribeStreamSummary and ListShards")
	}
}

func (s *sink) putRecords(w http.ResponseWriter, r *http.Request) {
	body, ok := s.bodies.Get().(*bytes.Buffer)
	if !ok {
		body = new(bytes.Buffer)
	}
	defer s.bodies.Put(body)
	body.Reset()
	body.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead)
	if _, err := body.ReadFrom(r.Body); err != nil {
		return
	}
	call := received{Calls: 1}
	var shards []int
	err := eachRecord(body.Bytes(), func(key []byte, record encoded) error {
		size := len(key) + record.size()
		call.Records++
		call.Bytes += size
		call.Units += (size + payloadUnit - 1) / payloadUnit
		call.Kilobytes += (size + 1<<10 - 1) >> 10
		shards = append(shards, s.shardOf(key))
		return call.countRecord(record)
	})
	if err != nil {
		refuse(w, "SerializationException", err.Error())
		return
	}
	s.mu.Lock()
	first := s.total.Records
	s.total.Calls += call.Calls
	s.total.Records += call.Records
	s.total.Bytes += call.Bytes
	s.total.Units += call.Units
	s.total.Kilobytes += call.Kilobytes
	s.total.join(call.tally)
	s.mu.Unlock()
	if s.latency > 0 {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(s.latency):
		}
	}
	b := []byte(`{"FailedRecordCount":0,"Records":[`)
	for i, shard := range shards {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"SequenceNumber":"49%054d","ShardId":"`+shardFormat+`"}`, first+i, shard)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_, _ = w.Write(append(b, "]}"...))
}

const shardFormat = "shardId-%012d"

// width is how many values of the first half of a hash each shard takes; the
// last takes those left over too.
func (s *sink) width() uint64 { return math.MaxUint64 / uint64(s.shards) }

func (s *sink) shardOf(key []byte) int {
	hash := md5.Sum(key) //nolint:gosec // as above
	return min(int(binary.BigEndian.Uint64(hash[:])/s.width()), s.shards-1)
}

// list returns the shards as ListShards does.
func (s *sink) list() []any {
	begin := func(shard int) *big.Int {
		n := new(big.Int).SetUint64(s.width() * uint64(shard))
		if shard == s.shards {
			n.Lsh(big.NewInt(1), 64)
		}
		return n.Lsh(n, 64)
	}
	all := make([]any, s.shards)
	for i := range all {
		last := begin(i + 1)
		last.Sub(last, big.NewInt(1))
		all[i] = map[string]any{
			"ShardId":             fmt.Sprintf(shardFormat, i),
			"HashKeyRange":        map[string]string{"StartingHashKey": begin(i).String(), "EndingHashKey": last.String()},
			"SequenceNumberRange": map[string]string{"StartingSequenceNumber": fmt.Sprintf("49%054d", 0)},
		}
	}
	return all
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(v)
}

// refuse answers with an error that an SDK understands and does not try again.
func refuse(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}
