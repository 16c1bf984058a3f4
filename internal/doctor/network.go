package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// networkFault says what a request that was not answered looks like in
// Chromium, why it was not, and what would change that.
func networkFault(err error) (browser, why, change string) {
	why = cause(err)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "net::ERR_NAME_NOT_RESOLVED", why, "mend the name in --gateway, or its entry in the DNS"
	case errors.As(err, &dns):
		return "net::ERR_NAME_RESOLUTION_FAILED", why, "ask again when the DNS answers"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "net::ERR_CONNECTION_REFUSED", why, "start the gateway, or mend the port in --gateway"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return "net::ERR_CONNECTION_TIMED_OUT", why, "see whether a firewall drops what is sent to this port"
	case errors.Is(err, syscall.ECONNRESET):
		return "net::ERR_CONNECTION_RESET", why, "see the log of what stands before the gateway"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "net::ERR_EMPTY_RESPONSE", why, "see the log of what stands before the gateway"
	}
	if browser, why, change, ok := certificateFault(err); ok {
		return browser, why, change
	}
	// net/http says it in words only.
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return "net::ERR_SSL_PROTOCOL_ERROR", "what answers at this port speaks no TLS", "use http://, or give the gateway a certificate (SLUICE_TLS_CERT, SLUICE_TLS_KEY)"
	}
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return "net::ERR_SSL_VERSION_OR_CIPHER_MISMATCH", alert.Error(), "let the server speak TLS 1.2 or 1.3"
	}
	return "net::ERR_FAILED", why, "see the log of the gateway"
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// cause is the end of an error: without the method and the URL, which may hold
// the key.
func cause(err error) string {
	text := err.Error()
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return text
		}
		err = inner
		if t := err.Error(); t != "" {
			text = t
		}
	}
}

// certificateFault is networkFault for what is wrong with a certificate; ok is
// false if that is not what is wrong.
func certificateFault(err error) (browser, why, change string, ok bool) {
	const own = "get a certificate that browsers know, from a public authority"
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown):
		return "net::ERR_CERT_AUTHORITY_INVALID", "it is signed by nobody whom browsers know", own + ", or give the machines of the users the one that signed it", true
	case errors.As(err, &name):
		return "net::ERR_CERT_COMMON_NAME_INVALID", name.Error(), "use a name that the certificate has, or get one that has this name", true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "net::ERR_CERT_DATE_INVALID", invalid.Error(), "renew it: a gateway takes the new file within a minute (SLUICE_TLS_CERT)", true
	case errors.As(err, &invalid):
		return "net::ERR_CERT_INVALID", invalid.Error(), own, true
	}
	return "", "", "", false
}

// overlooking returns a client that takes any certificate. It is for a look at
// what else is wrong, after the certificate has been found to be, and sends
// nothing but what it would send in clear: a key of a page, and no events.
func overlooking(c *http.Client) *http.Client {
	transport, ok := c.Transport.(*http.Transport)
	if !ok {
		return c
	}
	transport = transport.Clone()
	if transport.TLSClientConfig == nil {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	transport.TLSClientConfig.InsecureSkipVerify = true // on purpose, see above
	other := *c
	other.Transport = transport
	return &other
}

// certificate says until when the certificate is valid.
func (e *exam) certificate(a *answer) {
	if a.tls == nil || len(a.tls.PeerCertificates) == 0 || e.unverified != nil {
		return
	}
	end := a.tls.PeerCertificates[0].NotAfter
	if left := time.Until(end); left < soon {
		e.warn("certificate", Finding{
			Text:   fmt.Sprintf("it ends at %s", end.UTC().Format(time.RFC3339)),
			Why:    "from then on no browser sends anything",
			Change: "renew it: a gateway takes the new file within a minute (SLUICE_TLS_CERT)",
		})
		return
	}
	e.ok("certificate", "accepted, until "+end.UTC().Format(time.DateOnly))
}
