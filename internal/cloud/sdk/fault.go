package sdk

import (
	"strings"

	"github.com/eventsluice/sluice/internal/fault"
)

// AsFault returns the error of a call for those who know kinds of faults and
// not AWS: a *fault.Error whose Detail is the Failure's text. Where somebody
// must act its kind says on what, and that nothing was written:
//
//	Unauthenticated  credentials: there are none, or AWS does not know them
//	Forbidden        what they may do
//	NotFound         what is called does not exist
//	Invalid          another setting, such as region or endpoint
//
// Other kinds are the Failure's. An error that is no Failure stays what it is.
func AsFault(err error) error {
	f := AsFailure(err)
	if f == nil {
		return err
	}
	kind := f.Kind
	if f.Trouble && kind == fault.Unavailable {
		kind = toActOn(f.Topic)
	}
	return &fault.Error{Kind: kind, Detail: f.Text, Err: err}
}

func toActOn(topic string) fault.Kind {
	switch topic {
	case "credentials", "clock", "ExpiredTokenException", "ExpiredToken",
		"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId",
		"MissingAuthenticationTokenException", "MissingAuthenticationToken", "IncompleteSignatureException", "IncompleteSignature",
		"InvalidSignatureException", "SignatureDoesNotMatch":
		return fault.Unauthenticated
	case "ResourceNotFoundException":
		return fault.NotFound
	}
	if strings.HasPrefix(topic, "AccessDenied") || strings.HasPrefix(topic, "NotAuthorized") {
		return fault.Forbidden
	}
	return fault.Invalid
}
