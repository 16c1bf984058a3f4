package awstest

import "net/http"

// Account is the owner of all that is in a double.
const Account = "123456789012"

// Error is an answer that refuses a call, or a part of one.
type Error struct {
	Code    string // the exception, such as "ResourceNotFoundException"
	Status  int    // of the HTTP answer; default 400
	Message string
}

// Error makes it one.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// With returns the error with another message.
func (e *Error) With(message string) *Error { return &Error{e.Code, e.Status, message} }

// What every service refuses calls with. Source: API reference of Kinesis,
// common errors; statuses and wordings are those that users report.
var (
	Internal    = &Error{"InternalFailure", http.StatusInternalServerError, "Internal Service Failure"}
	Unavailable = &Error{"ServiceUnavailable", http.StatusServiceUnavailable, "The request has failed due to a temporary failure of the server."}
	Throttling  = &Error{"ThrottlingException", http.StatusBadRequest, "Rate exceeded"}

	ExpiredToken       = &Error{"ExpiredTokenException", http.StatusBadRequest, "The security token included in the request is expired"}
	UnrecognizedClient = &Error{"UnrecognizedClientException", http.StatusBadRequest, "The security token included in the request is invalid."}
	InvalidSignature   = &Error{"InvalidSignatureException", http.StatusBadRequest, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}
	AccessDenied       = &Error{"AccessDeniedException", http.StatusBadRequest, "User: arn:aws:iam::" + Account + ":user/gateway is not authorized to perform this operation because no identity-based policy allows it"}
)
