package cloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/eventsluice/sluice/internal/fault"
)

// failure is a call that did not work.
type failure struct {
	// kind is what is known of a write: Throttled and Unavailable say that
	// nothing was stored, TooLarge that one of the records was the reason for
	// it, Ambiguous that any of them may have been stored.
	kind fault.Kind
	// text is one line for the operator: what is wrong and, if it does not pass
	// by itself, what to do. It holds no secret: of what AWS says only what
	// cannot hold one is repeated, for the message about a signature holds the
	// session token.
	text string
	// trouble says that somebody must act, and topic is the same for all
	// failures of which it is enough to report one.
	trouble bool
	topic   string
	err     error
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() error { return f.err }

// stream is how texts call the stream.
func (k *Kinesis) stream() string { return fmt.Sprintf("stream %q", k.label) }

// failure classifies the error of a call that came as far as a says.
func (k *Kinesis) failure(a *attempt, err error) *failure {
	f := &failure{kind: fault.Unavailable, err: err}
	api, isAPI := errors.AsType[smithy.APIError](err)
	answer, answered := errors.AsType[*smithyhttp.ResponseError](err)
	switch {
	case !a.sent.Load() && timedOut(err):
		f.text = fmt.Sprintf("%s in %s: the time was over before the call was sent; if that goes on, the search for AWS credentials hangs", k.stream(), k.region)
	case !a.sent.Load():
		k.unsent(f, err)
	case isAPI:
		k.refused(f, err, api, answer)
	case answered && answer.HTTPStatusCode() != 0:
		k.stranger(f, answer.HTTPStatusCode())
	case !a.connected.Load():
		k.unreachable(f, err)
	default:
		f.kind = fault.Ambiguous
		f.text = fmt.Sprintf("%s in %s: no answer: %s", k.stream(), k.region, oneLine(cause(err).Error()))
	}
	return f
}

// fateByStatus returns what an error's status says of a write. A request that
// is refused as the client's fault was not carried out; 408 says only that
// somebody on the way lost patience.
func fateByStatus(status int) fault.Kind {
	if status >= 400 && status < 500 && status != http.StatusRequestTimeout {
		return fault.Unavailable
	}
	return fault.Ambiguous
}

// stranger: what answered is not Kinesis.
func (k *Kinesis) stranger(f *failure, status int) {
	f.kind = fateByStatus(status)
	f.act("stranger", "%s in %s: an answer that is not Kinesis's, with status %d: check AWS_ENDPOINT_URL and proxies", k.stream(), k.region, status)
	f.trouble = f.kind == fault.Unavailable // others may pass
}

// unsent: the SDK could not make the call, mostly for want of credentials.
func (k *Kinesis) unsent(f *failure, err error) {
	why, credentials := strings.CutPrefix(cause(err).Error(), "get identity: ")
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		why = api.ErrorCode()
	}
	if !credentials {
		f.act("endpoint", "%s in %s cannot be called: check AWS_ENDPOINT_URL (%s)", k.stream(), k.region, oneLine(why))
		return
	}
	why = strings.TrimPrefix(why, "get credentials: failed to refresh cached credentials, ")
	f.act("credentials", "there are no AWS credentials for %s in %s: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role (%s)", k.stream(), k.region, oneLine(why))
}

// unreachable: there was no connection, so nothing was written.
func (k *Kinesis) unreachable(f *failure, err error) {
	why := oneLine(cause(err).Error())
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		f.act("host", "there is no host %s: check AWS_REGION (%s) and AWS_ENDPOINT_URL", dns.Name, k.region)
		return
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		f.act("certificate", "the certificate of the endpoint of %s in %s is not trusted: check the clock of this machine, AWS_CA_BUNDLE and AWS_ENDPOINT_URL (%s)", k.stream(), k.region, why)
		return
	}
	f.text = fmt.Sprintf("%s in %s cannot be reached: %s", k.stream(), k.region, why)
}

// refused: the service answered with an error of its own.
func (k *Kinesis) refused(f *failure, err error, api smithy.APIError, answer *smithyhttp.ResponseError) {
	code := api.ErrorCode()
	operation := "the call"
	if op, ok := errors.AsType[*smithy.OperationError](err); ok {
		operation = op.Operation()
	}
	if _, throttled := retry.DefaultThrottleErrorCodes[code]; throttled || code == "KMSThrottlingException" {
		f.kind = fault.Throttled
		f.text = fmt.Sprintf("%s in %s: %s is throttled (%s)", k.stream(), k.region, operation, code)
		return
	}
	status := 0
	if answer != nil {
		status = answer.HTTPStatusCode()
	}
	f.kind = fateByStatus(status)
	if code == "RequestTimeout" || code == "RequestTimeoutException" {
		f.kind = fault.Ambiguous // whatever its status
	}
	if skew := skew(answer); f.kind == fault.Unavailable && (skewed(code, api.ErrorMessage()) || skew.Abs() > maxSkew && signature(code)) {
		f.act("clock", "the clock of this machine is wrong%s, and AWS refuses what it signs: set it (NTP)", by(skew))
		return
	}
	switch code {
	case "ResourceNotFoundException":
		if operation == "GetShardIterator" {
			f.text = fmt.Sprintf("%s in %s: the shard does not exist, or not any more", k.stream(), k.region)
			return
		}
		f.act(code, "%s does not exist in %s: create it, or check AWS_REGION", k.stream(), k.region)
	case "ResourceInUseException":
		f.act(code, "%s in %s is not ACTIVE: it is being created or deleted", k.stream(), k.region)
	case "ExpiredTokenException", "ExpiredToken":
		f.act(code, "the AWS session token has expired: get new credentials for %s in %s", k.stream(), k.region)
	case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "MissingAuthenticationTokenException", "MissingAuthenticationToken", "IncompleteSignatureException", "IncompleteSignature":
		f.act(code, "AWS does not know the access key of the credentials: check AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN and AWS_REGION (%s)", k.region)
	case "InvalidSignatureException", "SignatureDoesNotMatch":
		if strings.HasPrefix(api.ErrorMessage(), "Credential should be scoped to a valid region") {
			f.act("region", "the endpoint is not that of %s: check AWS_REGION and AWS_ENDPOINT_URL", k.region)
			return
		}
		f.act(code, "the secret access key does not belong to the access key id: check AWS_SECRET_ACCESS_KEY")
	case "AccessDeniedException", "AccessDenied", "NotAuthorized":
		f.act(code+operation, "the AWS credentials may not call kinesis:%s on %s in %s: allow it in their policy", operation, k.stream(), k.region)
	case "OptInRequired", "SubscriptionRequiredException":
		f.act(code, "the AWS account is not signed up for Kinesis in %s: opt in to the region, or check AWS_REGION", k.region)
	case "KMSAccessDeniedException":
		f.act(code, "the AWS credentials may not use the KMS key of %s in %s: allow kms:GenerateDataKey to write and kms:Decrypt to read", k.stream(), k.region)
	case "KMSDisabledException":
		f.act(code, "the KMS key of %s in %s is disabled: enable it", k.stream(), k.region)
	case "KMSInvalidStateException":
		f.act(code, "the KMS key of %s in %s is in a state in which it cannot be used, such as pending deletion: restore it, or encrypt the stream with another one", k.stream(), k.region)
	case "KMSNotFoundException":
		f.act(code, "the KMS key of %s in %s does not exist: encrypt the stream with another one", k.stream(), k.region)
	case "KMSOptInRequired":
		f.act(code, "the AWS account is not signed up for KMS, which encrypts %s in %s: sign up", k.stream(), k.region)
	case "ValidationException", "InvalidArgumentException":
		if operation == "PutRecords" {
			if aboutSize(api.ErrorMessage()) {
				f.kind = fault.TooLarge
			}
			// The message may repeat what was sent.
			f.text = fmt.Sprintf("%s in %s: %s is refused as invalid (%s)", k.stream(), k.region, operation, code)
			return
		}
		f.text = fmt.Sprintf("%s in %s: %s is refused as invalid: %s", k.stream(), k.region, operation, oneLine(api.ErrorMessage()))
	case "ExpiredIteratorException":
		f.text = fmt.Sprintf("%s in %s: the place of the reader has expired", k.stream(), k.region)
	default:
		f.act(code, "%s in %s: %s failed: %s, status %d", k.stream(), k.region, operation, oneLine(code), status)
		f.trouble = f.kind == fault.Unavailable // others may pass
	}
}

// act makes f one that somebody must act on.
func (f *failure) act(topic, format string, args ...any) {
	f.trouble, f.topic, f.text = true, topic, fmt.Sprintf(format, args...)
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

// maxSkew is how wrong a clock is before AWS refuses what it signs: five
// minutes, less what answers take.
const maxSkew = 4 * time.Minute

// skewed reports whether AWS says that a signature is of another time.
func skewed(code, message string) bool {
	switch code {
	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
		return true
	case "InvalidSignatureException", "SignatureDoesNotMatch":
		return strings.HasPrefix(message, "Signature expired") || strings.HasPrefix(message, "Signature not yet current")
	}
	return false
}

// signature reports whether a code may stand for a clock that is wrong.
func signature(code string) bool {
	switch code {
	case "InvalidSignatureException", "SignatureDoesNotMatch", "AccessDeniedException", "IncompleteSignatureException":
		return true
	}
	return false
}

// skew returns how far the clock of the service is ahead, 0 if it does not say.
func skew(answer *smithyhttp.ResponseError) time.Duration {
	if answer == nil || answer.Response == nil {
		return 0
	}
	theirs, err := http.ParseTime(answer.Response.Header.Get("Date"))
	if err != nil {
		return 0
	}
	return time.Until(theirs)
}

// by says how wrong the clock is.
func by(skew time.Duration) string {
	switch d := skew.Abs().Round(time.Minute); {
	case d < time.Minute:
		return ""
	case skew > 0:
		return fmt.Sprintf(" (%v behind)", d)
	default:
		return fmt.Sprintf(" (%v ahead)", d)
	}
}

// timedOut reports whether a call ended with its context.
func timedOut(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// cause returns what an error of the SDK is about, without the names of the
// layers that it came through.
func cause(err error) error {
	if send, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		err = send.Err
	}
	if op, ok := errors.AsType[*smithy.OperationError](err); ok {
		err = op.Err
	}
	return err
}

// oneLine makes a text one that a log can hold.
func oneLine(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
