package lambdatest

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// Error is an answer that refuses a call. It is not what a function makes of an
// event: see Response.FunctionError.
type Error = awstest.Error

// What Lambda refuses calls with. Source: API reference, Invoke; wordings are
// those that users report.
var (
	// Throttled is what a function without a free environment answers.
	Throttled = &Error{Code: "TooManyRequestsException", Status: http.StatusTooManyRequests, Message: "Rate Exceeded."}
	// CallerThrottled is what one who calls too often is answered.
	CallerThrottled = &Error{Code: Throttled.Code, Status: Throttled.Status, Message: "Rate exceeded"}

	ServiceFailure = &Error{Code: "ServiceException", Status: http.StatusInternalServerError, Message: "An error occurred and the request cannot be processed."}
	Unavailable    = &Error{Code: "ServiceUnavailableException", Status: http.StatusServiceUnavailable, Message: "Service is unavailable, please retry."}
	AccessDenied   = &Error{Code: "AccessDeniedException", Status: http.StatusForbidden, Message: "User: arn:aws:sts::" + awstest.Account + ":assumed-role/router/router is not authorized to perform: lambda:InvokeFunction on this resource because no identity-based policy allows the lambda:InvokeFunction action"}
	NotFound       = &Error{Code: "ResourceNotFoundException", Status: http.StatusNotFound, Message: "Function not found."}
)

// closing ends what was running when the server was closed.
var closing = &Error{Code: Unavailable.Code, Status: Unavailable.Status, Message: "the server is closing"}

// retryAfter is what Lambda asks of one it throttles, in seconds.
const retryAfter = "1"

func refuse(code string, status int, format string, args ...any) *Error {
	return &Error{Code: code, Status: status, Message: fmt.Sprintf(format, args...)}
}

func notFound(arn string) *Error { return NotFound.With("Function not found: " + arn) }

func badParameter(format string, args ...any) *Error {
	return refuse("InvalidParameterValueException", http.StatusBadRequest, format, args...)
}

// refused answers with an error; nil is an answer without a body.
func refused(err *Error) *awstest.Answer {
	if err == nil {
		return &awstest.Answer{}
	}
	switch err.Code { // what is said of every service, as Lambda says it
	case "RequestEntityTooLarge":
		err = checkSize(maxSyncBytes+1, maxSyncBytes)
	case "MissingAuthenticationTokenException", "IncompleteSignatureException", awstest.InvalidSignature.Code,
		awstest.ExpiredToken.Code, awstest.UnrecognizedClient.Code:
		err = refuse(err.Code, http.StatusForbidden, "%s", err.Message)
	}
	a := &awstest.Answer{Status: err.Status, ContentType: "application/json", Header: http.Header{"X-Amzn-Errortype": {err.Code}}}
	fields := map[string]string{"Type": "User", "Message": err.Message}
	if err.Status >= http.StatusInternalServerError {
		fields["Type"] = "Service"
	}
	if err.Code == Throttled.Code { // which writes message small
		delete(fields, "Message")
		fields["message"] = err.Message
		fields["Reason"] = "ReservedFunctionConcurrentInvocationLimitExceeded"
		if err == CallerThrottled {
			fields["Reason"] = "CallerRateLimitExceeded"
		}
		a.Header["Retry-After"] = []string{retryAfter}
	}
	a.Body, _ = json.Marshal(fields)
	return a
}
