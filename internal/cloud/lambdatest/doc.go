// Package lambdatest is an AWS Lambda of our own: it runs the built binaries of
// functions behind the runtime API, or handlers in this process, and is all
// that stands around a function in production: the Invoke call, the queue of
// asynchronous invocations with its retries and dead letters, and the event
// source mappings of Kinesis and SQS. It fails, when asked to, as the real one
// can. Tests of the built program and the example use it.
//
//	lambda := lambdatest.New(t, lambdatest.Config{
//		Queues: queues, // *sqstest.Server
//		Functions: []lambdatest.Function{{
//			Name: "router", Aliases: map[string]string{"prod": "1"},
//			Bootstrap: path, Env: []string{"RULES_BUCKET=rules"},
//		}},
//	})
//	lambda.MapKinesis(lambdatest.KinesisSource{
//		Function: "router:prod", Server: streams, Stream: "events",
//		ReportBatchItemFailures: true, BisectBatchOnFunctionError: true,
//	})
//	... put records ...
//	lambda.Drain(ctx)
//
// It promises what the developer guide says of order, retries, limits and
// shapes. Where the guide is silent it takes the way that is harder on the
// function, and a comment says so. It does not verify signatures, only that a
// call is signed for Lambda, and not long ago. What a process may use of memory
// is told to it, not enforced.
//
// Facts are from the Lambda developer guide and API reference (read 2026-11)
// and from the AWS SDK for Go (lambda v1.114.4, aws-lambda-go v1.55.1).
package lambdatest
