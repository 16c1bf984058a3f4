// Package kinesistest is a Kinesis Data Streams of our own, in memory, that
// speaks the wire protocol (JSON and CBOR) and fails, when asked to, in every
// way the real one can. Tests of the client, tests of the built program, the
// benchmark and the example use it.
//
//	server := kinesistest.New(t, kinesistest.Config{
//		Streams: []kinesistest.Stream{{Name: "events", Shards: 2}},
//	})
//	trouble := server.Fail(kinesistest.Records(3, kinesistest.Throughput).Times(2))
//
// It owns streams, shards and records, which live until the Server is gone: a
// Stop closes the address and keeps them, a Start opens it again. It promises
// what the API reference says of limits, placement, sequence numbers, iterators
// and answers, for the operations in the table of operations.go. It does not
// verify signatures, only that a call is signed, for the service and not long
// ago. Records do not age; a record is there for readers once it has its
// sequence number.
//
// Facts are from the API reference, as the AWS SDK for Go carries it (kinesis
// v1.56.13); wordings of errors are from reports of users, or our own.
package kinesistest
