package awstest

import (
	"net/http"
	"strings"
	"time"
)

// maxSkew is how far a signature may be from the server's time.
const maxSkew = 5 * time.Minute

const amzTime = "20060102T150405Z"

// checkSigned checks that a request has a signature of version 4 for a service,
// for this region (empty is any) and not made long ago. The signature itself is
// not verified: nobody but the server knows which keys there are.
func checkSigned(r *http.Request, service, region string, now time.Time) *Error {
	authorization := r.Header.Get("Authorization")
	if authorization == "" {
		return &Error{"MissingAuthenticationTokenException", http.StatusBadRequest, "Missing Authentication Token"}
	}
	incomplete := &Error{"IncompleteSignatureException", http.StatusBadRequest, "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' parameters, and existence of 'X-Amz-Date'."}
	fields, ok := strings.CutPrefix(authorization, "AWS4-HMAC-SHA256 ")
	if !ok {
		return incomplete
	}
	var credential, headers, signature string
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			headers = value
		case "Signature":
			signature = value
		}
	}
	signedAt, err := time.Parse(amzTime, r.Header.Get("X-Amz-Date"))
	if err != nil || headers == "" || len(signature) != 64 {
		return incomplete
	}
	// key / date / region / service / aws4_request
	scope := strings.Split(credential, "/")
	switch {
	case len(scope) != 5 || scope[4] != "aws4_request":
		return incomplete
	case scope[3] != service:
		return InvalidSignature.With("Credential should be scoped to correct service: '" + service + "'. ")
	case region != "" && scope[2] != region:
		return InvalidSignature.With("Credential should be scoped to a valid region, not '" + scope[2] + "'. ")
	}
	now = now.UTC()
	switch at := signedAt.Format(amzTime); {
	case signedAt.Before(now.Add(-maxSkew)):
		return InvalidSignature.With("Signature expired: " + at + " is now earlier than " + now.Add(-maxSkew).Format(amzTime) + " (" + now.Format(amzTime) + " - 5 min.)")
	case signedAt.After(now.Add(maxSkew)):
		return InvalidSignature.With("Signature not yet current: " + at + " is still later than " + now.Add(maxSkew).Format(amzTime) + " (" + now.Format(amzTime) + " + 5 min.)")
	}
	return nil
}

// AccessKey returns the access key that a request is signed with; empty if it is
// not signed.
func AccessKey(r *http.Request) string {
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(scope, "/")
	return key
}

// Sign gives a request what stands for a signature of now: in its form, and with
// the scope of a service and a region. It is for tests of doubles that speak
// plain HTTP to them.
func Sign(r *http.Request, service, region string) {
	now := time.Now().UTC()
	r.Header.Set("X-Amz-Date", now.Format(amzTime))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"+now.Format("20060102")+"/"+region+"/"+service+
		"/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature="+strings.Repeat("0a", 32))
}
