package lambdatest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Error is an answer that refuses a call. It is not what a function makes of an
// event: see Response.FunctionError.
type Error struct {
	Code    string // the exception, such as "ResourceNotFoundException"
	Status  int    // of the HTTP answer
	Message string
	// Reason stands in answers that throttle.
	Reason string
	// RetryAfter is sent, in whole seconds, unless it is zero.
	RetryAfter time.Duration
}

// Error makes it one.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// What Lambda refuses calls with. Source: API reference, Invoke; wordings are
// those that users report.
var (
	// Throttled is what a function without a free environment answers.
	Throttled = &Error{
		Code: "TooManyRequestsException", Status: http.StatusTooManyRequests, Message: "Rate Exceeded.",
		Reason: "ReservedFunctionConcurrentInvocationLimitExceeded", RetryAfter: time.Second,
	}
	// CallerThrottled is what one who calls too often is answered.
	CallerThrottled = &Error{
		Code: "TooManyRequestsException", Status: http.StatusTooManyRequests, Message: "Rate Exceeded.",
		Reason: "CallerRateLimitExceeded", RetryAfter: time.Second,
	}
	ServiceFailure = &Error{Code: "ServiceException", Status: http.StatusInternalServerError, Message: "An error occurred and the request cannot be processed."}
	Unavailable    = &Error{Code: "ServiceUnavailableException", Status: http.StatusServiceUnavailable, Message: "Service is unavailable, please retry."}
	AccessDenied   = &Error{Code: "AccessDeniedException", Status: http.StatusForbidden, Message: "User: arn:aws:sts::" + account + ":assumed-role/router/router is not authorized to perform: lambda:InvokeFunction on this resource because no identity-based policy allows the lambda:InvokeFunction action"}
	NotFound       = &Error{Code: "ResourceNotFoundException", Status: http.StatusNotFound, Message: "Function not found."}
)

func refused(code string, status int, format string, args ...any) *Error {
	return &Error{Code: code, Status: status, Message: fmt.Sprintf(format, args...)}
}

func notFound(arn string) *Error {
	return refused(NotFound.Code, http.StatusNotFound, "Function not found: %s", arn)
}

func badParameter(format string, args ...any) *Error {
	return refused("InvalidParameterValueException", http.StatusBadRequest, format, args...)
}

// body is how an error travels. Throttling writes message small.
func (e *Error) body() []byte {
	kind := "User"
	if e.Status >= 500 {
		kind = "Service"
	}
	fields := map[string]string{"Type": kind}
	if e.Reason != "" {
		fields["Reason"], fields["message"] = e.Reason, e.Message
	} else {
		fields["Message"] = e.Message
	}
	b, _ := json.Marshal(fields)
	return b
}
