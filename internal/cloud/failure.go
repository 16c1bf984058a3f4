package cloud

import (
	"fmt"
	"strings"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/fault"
)

// stream is how texts call the stream.
func (k *Kinesis) stream() string { return fmt.Sprintf("stream %q in %s", k.label, k.region) }

// subject is what the calls of k are about.
func (k *Kinesis) subject() sdk.Subject {
	return sdk.Subject{Service: "kinesis", Title: "Kinesis", Name: fmt.Sprintf("stream %q", k.label), Region: k.region, Known: k.known}
}

// known puts the refusals of Kinesis into words. A failure is TooLarge if one
// of the records was the reason for it.
func (k *Kinesis) known(f *sdk.Failure, r sdk.Refusal) bool {
	switch r.Code {
	case "ResourceNotFoundException":
		if r.Operation != "GetShardIterator" {
			return false
		}
		f.Text = fmt.Sprintf("%s: the shard does not exist, or not any more", k.stream())
	case "ResourceInUseException":
		f.Act(r.Code, "%s is not ACTIVE: it is being created or deleted", k.stream())
	case "KMSAccessDeniedException":
		f.Act(r.Code, "the AWS credentials may not use the KMS key of %s: allow kms:GenerateDataKey to write and kms:Decrypt to read", k.stream())
	case "KMSDisabledException":
		f.Act(r.Code, "the KMS key of %s is disabled: enable it", k.stream())
	case "KMSInvalidStateException":
		f.Act(r.Code, "the KMS key of %s is in a state in which it cannot be used, such as pending deletion: restore it, or encrypt the stream with another one", k.stream())
	case "KMSNotFoundException":
		f.Act(r.Code, "the KMS key of %s does not exist: encrypt the stream with another one", k.stream())
	case "KMSOptInRequired":
		f.Act(r.Code, "the AWS account is not signed up for KMS, which encrypts %s: sign up", k.stream())
	case "ValidationException", "InvalidArgumentException":
		if r.Operation == "PutRecords" {
			if aboutSize(r.Message) {
				f.Kind = fault.TooLarge
			}
			// The message may repeat what was sent.
			f.Text = fmt.Sprintf("%s: %s is refused as invalid (%s)", k.stream(), r.Operation, r.Code)
			return true
		}
		f.Text = fmt.Sprintf("%s: %s is refused as invalid: %s", k.stream(), r.Operation, sdk.OneLine(r.Message))
	case "ExpiredIteratorException":
		f.Text = fmt.Sprintf("%s: the place of the reader has expired", k.stream())
	default:
		return false
	}
	return true
}

// aboutSize reports whether the message of a ValidationException is about the
// length of a record's data. The shape is that of all constraints of the API:
// "Value '…' at 'records.2.member.data' failed to satisfy constraint: Member
// must have length less than or equal to 1048576".
func aboutSize(message string) bool {
	message = strings.ToLower(message)
	return strings.Contains(message, "data") && strings.Contains(message, "length less than or equal to") ||
		strings.Contains(message, "record") && strings.Contains(message, "size")
}
