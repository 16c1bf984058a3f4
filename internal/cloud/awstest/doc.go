// Package awstest is what the doubles of AWS share: a Host, which is an address
// on loopback or in memory, checks that calls are signed, counts them, and makes
// go wrong what a test asks for.
//
// It owns what is the same for every service: connections, stages of a call,
// faults, and when they strike. The services own what they store and how they
// answer; a Fault that is about what they store is made by them, with Effect.
//
//	trouble := server.Fail(awstest.Disconnect(awstest.AfterStoring).On("SendMessageBatch").Times(2))
//
// It knows neither us nor the SDK.
package awstest
