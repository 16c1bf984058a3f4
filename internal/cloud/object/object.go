// Package object is S3: documents that are read again when they change, payloads
// that are too large for the way they go, and backups.
package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
)

// Scheme begins the name of an object: s3://bucket/key.
const Scheme = "s3://"

// Parse takes the name of an object apart: s3://bucket/key.
func Parse(text string) (bucket, key string, err error) {
	rest, ok := strings.CutPrefix(text, Scheme)
	if ok {
		bucket, key, ok = strings.Cut(rest, "/")
	}
	if !ok || bucket == "" || key == "" {
		return "", "", fmt.Errorf(`%q does not name an object; right would be "s3://bucket/key"`, text)
	}
	return bucket, key, nil
}

// Client calls S3. Its methods are safe for concurrent use.
type Client struct {
	client *s3.Client
	region string
}

// New returns a client. It makes no call.
func New(cfg aws.Config, options ...func(*s3.Options)) *Client {
	return &Client{region: cfg.Region, client: s3.NewFromConfig(cfg, append(options, func(o *s3.Options) {
		o.HTTPClient = sdk.Watched(o.HTTPClient)
		// An endpoint of one's own has no host for each bucket.
		o.UsePathStyle = o.UsePathStyle || o.BaseEndpoint != nil
	})...)}
}

func (c *Client) subject(bucket, key string) sdk.Subject {
	name := fmt.Sprintf("object %q in bucket %q", key, bucket)
	return sdk.Subject{Service: "s3", Title: "S3", Name: name, Region: c.region, Known: func(f *sdk.Failure, r sdk.Refusal) bool {
		switch r.Code {
		case "NoSuchKey", "NotFound":
			f.Kind = fault.NotFound
			f.Act("missing", "there is no %s", name)
		case "NoSuchBucket":
			f.Kind = fault.NotFound
			f.Act("bucket", "there is no bucket %q", bucket)
		case "PreconditionFailed", "ConditionalRequestConflict":
			f.Kind = fault.Conflict
			f.Text = name + " has been changed by somebody else"
		case "AccessDenied", "Forbidden":
			f.Kind = fault.Forbidden
			f.Act("denied"+r.Operation, "the AWS credentials may not call s3:%s on %s, or it does not exist and they may not list the bucket: allow it in their policy", r.Operation, name)
		case "PermanentRedirect", "AuthorizationHeaderMalformed":
			f.Kind = fault.Invalid
			f.Act("region", "bucket %q is not in %s: set AWS_REGION, or use a bucket in that region", bucket, c.region)
		default:
			return false
		}
		return true
	}}
}

// Get returns an object, at most limit bytes of it: a larger one is a
// fault.TooLarge. version is its ETag. If have is not empty and still its ETag,
// the error is document.ErrUnchanged. An object that does not exist is a
// fault.NotFound.
func (c *Client) Get(ctx context.Context, bucket, key, have string, limit int64) (body []byte, version string, err error) {
	in := &s3.GetObjectInput{Bucket: &bucket, Key: &key}
	if have != "" {
		in.IfNoneMatch = &have
	}
	ctx, attempt := sdk.Watch(ctx)
	out, err := c.client.GetObject(ctx, in)
	if err != nil {
		if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok && answer.HTTPStatusCode() == http.StatusNotModified {
			return nil, have, document.ErrUnchanged
		}
		return nil, "", c.subject(bucket, key).Failure(attempt, err)
	}
	defer out.Body.Close()
	body, err = io.ReadAll(io.LimitReader(out.Body, limit+1))
	if err != nil {
		return nil, "", fmt.Errorf("object %q in bucket %q: %w", key, bucket, err)
	}
	if int64(len(body)) > limit {
		return nil, "", fault.New(fault.TooLarge, "object %q in bucket %q has more than %d bytes", key, bucket, limit)
	}
	return body, aws.ToString(out.ETag), nil
}

// Put writes an object. When it returns nil the object is durable. version, if
// not empty, is what it must be now, or the error is a fault.Conflict: an ETag,
// or Absent.
func (c *Client) Put(ctx context.Context, bucket, key string, body []byte, version string) error {
	in := &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body), ContentType: aws.String("application/json")}
	switch version {
	case "":
	case Absent:
		in.IfNoneMatch = aws.String("*")
	default:
		in.IfMatch = &version
	}
	_, err := sdk.Call(ctx, c.subject(bucket, key), c.client.PutObject, in)
	return err
}

// Absent is the version of an object that does not exist.
const Absent = "*"

// Delete deletes an object; one that does not exist is deleted too.
func (c *Client) Delete(ctx context.Context, bucket, key string) error {
	_, err := sdk.Call(ctx, c.subject(bucket, key), c.client.DeleteObject, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
	return err
}

// List returns keys with a prefix in their order, at most 1000, after a key.
func (c *Client) List(ctx context.Context, bucket, prefix, after string) (keys []string, more bool, err error) {
	in := &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix}
	if after != "" {
		in.StartAfter = &after
	}
	out, err := sdk.Call(ctx, c.subject(bucket, prefix), c.client.ListObjectsV2, in)
	if err != nil {
		return nil, false, err
	}
	for i := range out.Contents {
		keys = append(keys, aws.ToString(out.Contents[i].Key))
	}
	return keys, aws.ToBool(out.IsTruncated), nil
}

// Source is the object as a document: its version is its ETag.
func (c *Client) Source(bucket, key string) document.Source {
	return source{c, bucket, key}
}

type source struct {
	client      *Client
	bucket, key string
}

func (s source) String() string { return Scheme + s.bucket + "/" + s.key }

// Read implements document.Source.
func (s source) Read(ctx context.Context, have string) ([]byte, string, error) {
	return s.client.Get(ctx, s.bucket, s.key, have, document.MaxBytes)
}

// maxClaimed bounds a claimed payload: a record of Kinesis, in JSON and base64.
const maxClaimed = 32 << 20

// Claim puts a payload into a bucket and returns the claim of it. The same
// payload under the same key may be put again.
func (c *Client) Claim(ctx context.Context, bucket, key string, payload []byte) (event.Claim, error) {
	return event.NewClaim(bucket, key, payload), c.Put(ctx, bucket, key, payload, "")
}

// Redeem returns the payload of a claim.
func (c *Client) Redeem(ctx context.Context, claim event.Claim) ([]byte, error) {
	payload, _, err := c.Get(ctx, claim.Bucket, claim.Key, "", maxClaimed)
	if err != nil {
		return nil, err
	}
	return payload, claim.Check(payload)
}
