package sdk

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

// Failure is a call that did not work.
type Failure struct {
	// Kind is what is known of a write: Throttled and Unavailable say that
	// nothing was stored, Ambiguous that all of it may have been. A Known of the
	// Subject sets others.
	Kind fault.Kind
	// Text is one line for the operator: what is wrong and, if it does not pass
	// by itself, what to do. It holds no secret: of what AWS says only what
	// cannot hold one is repeated, for the message about a signature holds the
	// session token.
	Text string
	// Trouble says that somebody must act, and Topic is the same for all
	// failures of which it is enough to report one.
	Trouble bool
	Topic   string
	// Err is the SDK's.
	Err error
}

func (f *Failure) Error() string { return f.Text }

// Unwrap gives fault.KindOf the kind, and errors.As the SDK's error.
func (f *Failure) Unwrap() []error {
	kind := &fault.Error{Kind: f.Kind, Detail: f.Text, Err: f.Err}
	if f.Err == nil {
		return []error{kind}
	}
	return []error{kind, f.Err}
}

// Act makes f one that somebody must act on.
func (f *Failure) Act(topic, format string, args ...any) {
	f.Trouble, f.Topic, f.Text = true, topic, fmt.Sprintf(format, args...)
}

// Subject is what calls are about, for the words of their failures.
type Subject struct {
	// Service is what policies call the service, such as "kinesis", and Title
	// what people call it, such as "Kinesis".
	Service, Title string
	// Name is what is called, such as `stream "events"`.
	Name   string
	Region string
	// Known puts refusals of the service into words, and says what they mean.
	// It returns false for those that it does not know. It may be nil.
	Known func(f *Failure, r Refusal) bool
}

// Refusal is an error that the service answered with.
type Refusal struct {
	// Code is the service's, Operation the SDK's name of the call.
	Code, Operation string
	// Message may repeat what was sent.
	Message string
	// Status is the HTTP status, 0 if there was none.
	Status int
}

// where is how texts call the subject.
func (s Subject) where() string { return s.Name + " in " + s.Region }

// Failure classifies the error of a call that came as far as a says.
func (s Subject) Failure(a *Attempt, err error) *Failure {
	f := &Failure{Kind: fault.Unavailable, Err: err}
	api, isAPI := errors.AsType[smithy.APIError](err)
	answer, answered := errors.AsType[*smithyhttp.ResponseError](err)
	switch {
	case !a.sent.Load() && timedOut(err):
		f.Text = fmt.Sprintf("%s: the time was over before the call was sent; if that goes on, the search for AWS credentials hangs", s.where())
	case !a.sent.Load():
		s.unsent(f, err)
	case isAPI:
		s.refused(f, err, api, answer)
	case answered && answer.HTTPStatusCode() != 0:
		s.stranger(f, answer.HTTPStatusCode())
	case !a.connected.Load():
		s.unreachable(f, err)
	default:
		f.Kind = fault.Ambiguous
		f.Text = fmt.Sprintf("%s: no answer: %s", s.where(), OneLine(cause(err).Error()))
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

// stranger: what answered is not the service.
func (s Subject) stranger(f *Failure, status int) {
	f.Kind = fateByStatus(status)
	f.Act("stranger", "%s: an answer that is not %s's, with status %d: check AWS_ENDPOINT_URL and proxies", s.where(), s.Title, status)
	f.Trouble = f.Kind == fault.Unavailable // others may pass
}

// unsent: the SDK could not make the call, mostly for want of credentials.
func (s Subject) unsent(f *Failure, err error) {
	why, credentials := strings.CutPrefix(cause(err).Error(), "get identity: ")
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		why = api.ErrorCode()
	}
	if !credentials {
		f.Act("endpoint", "%s cannot be called: check AWS_ENDPOINT_URL (%s)", s.where(), OneLine(why))
		return
	}
	why = strings.TrimPrefix(why, "get credentials: failed to refresh cached credentials, ")
	f.Act("credentials", "there are no AWS credentials for %s: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role (%s)", s.where(), OneLine(why))
}

// unreachable: there was no connection, so nothing was written.
func (s Subject) unreachable(f *Failure, err error) {
	why := OneLine(cause(err).Error())
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		f.Act("host", "there is no host %s: check AWS_REGION (%s) and AWS_ENDPOINT_URL", dns.Name, s.Region)
		return
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		f.Act("certificate", "the certificate of the endpoint of %s is not trusted: check the clock of this machine, AWS_CA_BUNDLE and AWS_ENDPOINT_URL (%s)", s.where(), why)
		return
	}
	f.Text = fmt.Sprintf("%s cannot be reached: %s", s.where(), why)
}

// refused: the service answered with an error of its own.
func (s Subject) refused(f *Failure, err error, api smithy.APIError, answer *smithyhttp.ResponseError) {
	code := api.ErrorCode()
	operation := "the call"
	if op, ok := errors.AsType[*smithy.OperationError](err); ok {
		operation = op.Operation()
	}
	if _, throttled := retry.DefaultThrottleErrorCodes[code]; throttled || code == "KMSThrottlingException" {
		f.Kind = fault.Throttled
		f.Text = fmt.Sprintf("%s: %s is throttled (%s)", s.where(), operation, code)
		return
	}
	status := 0
	if answer != nil {
		status = answer.HTTPStatusCode()
	}
	f.Kind = fateByStatus(status)
	if code == "RequestTimeout" || code == "RequestTimeoutException" {
		f.Kind = fault.Ambiguous // whatever its status
	}
	if skew := skew(answer); f.Kind == fault.Unavailable && (skewed(code, api.ErrorMessage()) || skew.Abs() > maxSkew && signature(code)) {
		f.Act("clock", "the clock of this machine is wrong%s, and AWS refuses what it signs: set it (NTP)", by(skew))
		return
	}
	if s.Known != nil && s.Known(f, Refusal{Code: code, Operation: operation, Message: api.ErrorMessage(), Status: status}) {
		return
	}
	switch code {
	case "ResourceNotFoundException":
		f.Act(code, "%s does not exist in %s: create it, or check AWS_REGION", s.Name, s.Region)
	case "ExpiredTokenException", "ExpiredToken":
		f.Act(code, "the AWS session token has expired: get new credentials for %s", s.where())
	case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "MissingAuthenticationTokenException", "MissingAuthenticationToken", "IncompleteSignatureException", "IncompleteSignature":
		f.Act(code, "AWS does not know the access key of the credentials: check AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN and AWS_REGION (%s)", s.Region)
	case "InvalidSignatureException", "SignatureDoesNotMatch":
		if strings.HasPrefix(api.ErrorMessage(), "Credential should be scoped to a valid region") {
			f.Act("region", "the endpoint is not that of %s: check AWS_REGION and AWS_ENDPOINT_URL", s.Region)
			return
		}
		f.Act(code, "the secret access key does not belong to the access key id: check AWS_SECRET_ACCESS_KEY")
	case "AccessDeniedException", "AccessDenied", "NotAuthorized":
		f.Act(code+operation, "the AWS credentials may not call %s:%s on %s: allow it in their policy", s.Service, operation, s.where())
	case "OptInRequired", "SubscriptionRequiredException":
		f.Act(code, "the AWS account is not signed up for %s in %s: opt in to the region, or check AWS_REGION", s.Title, s.Region)
	default:
		f.Act(code, "%s: %s failed: %s, status %d", s.where(), operation, OneLine(code), status)
		f.Trouble = f.Kind == fault.Unavailable // others may pass
	}
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

// OneLine makes a text one that a log can hold.
func OneLine(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// AsFailure returns the Failure in err's chain, nil if there is none.
func AsFailure(err error) *Failure {
	f, _ := errors.AsType[*Failure](err)
	return f
}
