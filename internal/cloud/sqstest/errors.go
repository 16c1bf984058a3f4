package sqstest

import (
	"cmp"
	"fmt"
	"net/http"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// Error is an answer that refuses a call, or one entry of a batch.
type Error = awstest.Error

// What SQS refuses calls with, beside what every service does. Names are those
// of the API reference, statuses those of its model; wordings are those that users
// report, or our own.
var (
	Throttled  = &Error{Code: "RequestThrottled", Status: http.StatusForbidden, Message: "Rate exceeded"}
	NoQueue    = &Error{Code: "QueueDoesNotExist", Message: "The specified queue does not exist."}
	OverLimit  = &Error{Code: "OverLimit", Status: http.StatusForbidden, Message: "Too many messages in flight"}
	BadReceipt = &Error{Code: "ReceiptHandleIsInvalid", Status: http.StatusNotFound, Message: "The input receipt handle is invalid."}

	KMSThrottled    = &Error{Code: "KmsThrottled", Message: "Rate exceeded"}
	KMSAccessDenied = &Error{Code: "KmsAccessDenied", Message: "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."}
)

func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// badValue is how SQS refuses a parameter.
func badValue(format string, args ...any) *Error {
	return refuse("InvalidParameterValue", format, args...)
}

func missing(parameter string) *Error {
	return refuse("MissingParameter", "The request must contain the parameter %s.", parameter)
}

// queryCodes are the codes of the older query protocol, where they are others.
// Source: the awsQueryError traits of the SQS model.
var queryCodes = map[string]string{
	"BatchEntryIdsNotDistinct":     "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
	"BatchRequestTooLong":          "AWS.SimpleQueueService.BatchRequestTooLong",
	"EmptyBatchRequest":            "AWS.SimpleQueueService.EmptyBatchRequest",
	"InvalidBatchEntryId":          "AWS.SimpleQueueService.InvalidBatchEntryId",
	"KmsAccessDenied":              "KMS.AccessDeniedException",
	"KmsThrottled":                 "KMS.ThrottlingException",
	"PurgeQueueInProgress":         "AWS.SimpleQueueService.PurgeQueueInProgress",
	"QueueDeletedRecently":         "AWS.SimpleQueueService.QueueDeletedRecently",
	"QueueDoesNotExist":            "AWS.SimpleQueueService.NonExistentQueue",
	"QueueNameExists":              "QueueAlreadyExists",
	"TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
}

func queryCode(code string) string { return cmp.Or(queryCodes[code], code) }

// shapeOf is how the JSON protocol names an error: two that the model does not
// have are called otherwise.
func shapeOf(code string) string {
	switch code {
	case "InvalidParameterValue":
		return "com.amazon.coral.service#InvalidParameterValueException"
	case "MissingParameter":
		return "com.amazon.coral.service#MissingRequiredParameterException"
	}
	return "com.amazonaws.sqs#" + code
}
