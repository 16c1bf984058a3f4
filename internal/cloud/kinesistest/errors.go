package kinesistest

import "github.com/eventsluice/sluice/internal/cloud/awstest"

// Error is an answer that refuses a call, or one record of a PutRecords call.
type Error = awstest.Error

// What Kinesis refuses calls with. Names are those of the API reference;
// statuses and wordings are those that users report, where they do.
var (
	Throughput = &Error{Code: "ProvisionedThroughputExceededException", Message: "Rate exceeded for shard shardId-000000000000 in stream under account " + account + "."}
	Limit      = &Error{Code: "LimitExceededException", Message: "Rate exceeded for account " + account + "."}

	Internal    = awstest.Internal
	Unavailable = awstest.Unavailable

	ExpiredToken       = awstest.ExpiredToken
	UnrecognizedClient = awstest.UnrecognizedClient
	InvalidSignature   = awstest.InvalidSignature
	AccessDenied       = awstest.AccessDenied

	KMSAccessDenied = &Error{Code: "KMSAccessDeniedException", Message: "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."}
	KMSDisabled     = &Error{Code: "KMSDisabledException", Message: "The customer master key is disabled."}
	KMSThrottling   = &Error{Code: "KMSThrottlingException", Message: "Rate exceeded"}

	NotFound = &Error{Code: "ResourceNotFoundException", Message: "Stream under account " + account + " not found."}
)

// untold stands for a record whose result says nothing.
var untold = &Error{}

func invalid(message string) *Error {
	return &Error{Code: "ValidationException", Message: message}
}

// violation is how Kinesis words a breach of the API model.
func violation(value, field, constraint string) *Error {
	return invalid("1 validation error detected: Value '" + value + "' at '" + field + "' failed to satisfy constraint: " + constraint)
}

func badArgument(message string) *Error {
	return &Error{Code: "InvalidArgumentException", Message: message}
}

func inUse(message string) *Error {
	return &Error{Code: "ResourceInUseException", Message: message}
}

func noStream(name string) *Error {
	return NotFound.With("Stream " + name + " under account " + account + " not found.")
}

func noShard(id, name string) *Error {
	return NotFound.With("Could not find shard " + id + " in stream " + name + " under account " + account + ".")
}

func throttled(shard, name string) *Error {
	return Throughput.With("Rate exceeded for shard " + shard + " in stream " + name + " under account " + account + ".")
}
