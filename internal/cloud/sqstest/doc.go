// Package sqstest is an SQS of our own, in memory, that speaks the wire protocol
// (AWS JSON 1.0) and fails, when asked to, in every way the real one can. Tests
// of the client, tests of the built programs and the example use it; what stands
// beside SQS, as Lambda's pollers do, calls it from Go.
//
//	server := sqstest.New(t, sqstest.Config{Queues: []sqstest.Queue{
//		{Name: "failed"},
//		{Name: "crm", MaxReceives: 3, DeadLetterQueue: "failed"},
//	}})
//	trouble := server.Fail(sqstest.Entries(3, sqstest.Throttled).Times(2))
//
// It owns queues and messages, which live until the Server is gone: a Stop closes
// the address and keeps them, a Start opens it again. It promises what the API
// reference and the developer guide say of limits, delays, visibility, order,
// deduplication, retention, dead letter queues and answers, for the operations in
// the table of handler.go. Time is time.Now, so that in a synctest bubble it is
// the bubble's.
//
// What AWS leaves open it decides so that mistakes show: a standard queue is
// received from in the order in which it was sent to, and every message of it by
// one receiver at a time, unless the fault Again is on; a receipt from before the
// last receive deletes nothing; counts are exact; a purge is done at once. It does
// not verify signatures, only that a call is signed, for the service and not long
// ago. Policies, encryption and fair queues have no effect, and
// ReceiveRequestAttemptId is ignored.
//
// Facts are from the API reference, as the AWS SDK for Go carries it (sqs
// v1.53.0); wordings of errors are from answers of AWS that others have recorded,
// or our own.
package sqstest
