package kinesistest

import "net/http"

// Error is an answer that refuses a call, or one record of a PutRecords call.
type Error struct {
	Code    string // the exception, such as "ResourceNotFoundException"
	Status  int    // of the HTTP answer; default 400
	Message string
}

// Error makes it one.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// What Kinesis refuses calls with. Names are those of the API reference;
// statuses and wordings are those that users report, where they do.
var (
	Throughput = &Error{"ProvisionedThroughputExceededException", http.StatusBadRequest, "Rate exceeded for shard shardId-000000000000 in stream under account " + account + "."}
	Limit      = &Error{"LimitExceededException", http.StatusBadRequest, "Rate exceeded for account " + account + "."}

	Internal    = &Error{"InternalFailure", http.StatusInternalServerError, "Internal Service Failure"}
	Unavailable = &Error{"ServiceUnavailable", http.StatusServiceUnavailable, "The request has failed due to a temporary failure of the server."}

	ExpiredToken       = &Error{"ExpiredTokenException", http.StatusBadRequest, "The security token included in the request is expired"}
	UnrecognizedClient = &Error{"UnrecognizedClientException", http.StatusBadRequest, "The security token included in the request is invalid."}
	InvalidSignature   = &Error{"InvalidSignatureException", http.StatusBadRequest, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}
	AccessDenied       = &Error{"AccessDeniedException", http.StatusBadRequest, "User: arn:aws:iam::" + account + ":user/gateway is not authorized to perform this operation because no identity-based policy allows it"}

	KMSAccessDenied = &Error{"KMSAccessDeniedException", http.StatusBadRequest, "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."}
	KMSDisabled     = &Error{"KMSDisabledException", http.StatusBadRequest, "The customer master key is disabled."}
	KMSThrottling   = &Error{"KMSThrottlingException", http.StatusBadRequest, "Rate exceeded"}

	NotFound = &Error{"ResourceNotFoundException", http.StatusBadRequest, "Stream under account " + account + " not found."}
)

// untold stands for a record whose result says nothing.
var untold = &Error{}

// with returns the error with another message.
func (e *Error) with(message string) *Error { return &Error{e.Code, e.Status, message} }

func invalid(message string) *Error {
	return &Error{"ValidationException", http.StatusBadRequest, message}
}

// violation is how Kinesis words a breach of the API model.
func violation(value, field, constraint string) *Error {
	return invalid("1 validation error detected: Value '" + value + "' at '" + field + "' failed to satisfy constraint: " + constraint)
}

func badArgument(message string) *Error {
	return &Error{"InvalidArgumentException", http.StatusBadRequest, message}
}

func inUse(message string) *Error {
	return &Error{"ResourceInUseException", http.StatusBadRequest, message}
}

func noStream(name string) *Error {
	return NotFound.with("Stream " + name + " under account " + account + " not found.")
}

func noShard(id, name string) *Error {
	return NotFound.with("Could not find shard " + id + " in stream " + name + " under account " + account + ".")
}

func throttled(shard, name string) *Error {
	return Throughput.with("Rate exceeded for shard " + shard + " in stream " + name + " under account " + account + ".")
}
