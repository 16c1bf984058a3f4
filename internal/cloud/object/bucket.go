package object

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/fault"
)

// Location says which bucket a connector delivers to, and how objects are kept
// in it. Empty fields leave it to the environment and to the bucket.
type Location struct {
	Bucket, Region, Endpoint     string
	AccessKeyID, SecretAccessKey string
	StorageClass, KMSKeyID       string
}

// Bucket is where connectors put files. Its methods are safe for concurrent
// use. Their errors are those of sdk.AsFault, and they try once: who calls knows
// what a second attempt means.
type Bucket struct {
	client   *Client
	location Location
}

// OpenBucket opens a bucket. It reads the configuration of the SDK, with these
// options, and makes no call.
func OpenBucket(ctx context.Context, l Location, options ...sdk.Option) (*Bucket, error) {
	options = slices.Clone(options) // the caller's may have room behind them
	if l.Region != "" {
		options = append(options, config.WithRegion(l.Region))
	}
	if l.AccessKeyID != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(l.AccessKeyID, l.SecretAccessKey, "")))
	}
	cfg, err := sdk.Load(ctx, nil, options...)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Detail: sdk.OneLine(err.Error()), Err: err}
	}
	return &Bucket{location: l, client: New(cfg, func(o *s3.Options) {
		o.Retryer = aws.NopRetryer{}
		if l.Endpoint != "" {
			o.BaseEndpoint = &l.Endpoint
			// Stores of others do not all know the checksums that the SDK adds.
			// The signature covers the body too.
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
	})}, nil
}

// digestKey is the metadata of an object that holds the SHA-256 of its body, in
// hex: an ETag is a digest of some objects only.
const digestKey = "sha256"

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

func (b *Bucket) subject(key string) sdk.Subject {
	s := b.client.subject(b.location.Bucket, key)
	known := s.Known
	s.Known = func(f *sdk.Failure, r sdk.Refusal) bool {
		if r.Status == http.StatusServiceUnavailable {
			// Of S3 and of what stands before a store: it was not served.
			f.Kind = fault.Unavailable
			f.Text = fmt.Sprintf("%s in %s: S3 is unavailable (%s)", s.Name, s.Region, sdk.OneLine(r.Code))
			return true
		}
		return known(f, r)
	}
	return s
}

// Put writes an object, in place of another that has the key. When it returns
// nil the object is durable.
func (b *Bucket) Put(ctx context.Context, key string, body []byte, contentType string) error {
	in := &s3.PutObjectInput{
		Bucket: &b.location.Bucket, Key: &key, Body: bytes.NewReader(body), ContentType: &contentType,
		Metadata:     map[string]string{digestKey: digest(body)},
		StorageClass: types.StorageClass(b.location.StorageClass),
	}
	if id := b.location.KMSKeyID; id != "" {
		in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryptionAwsKms, &id
	}
	_, err := sdk.Call(ctx, b.subject(key), b.client.client.PutObject, in)
	return sdk.AsFault(err)
}

// Has reports whether the object with the key is one that Put wrote with this
// body.
func (b *Bucket) Has(ctx context.Context, key string, body []byte) (bool, error) {
	out, err := sdk.Call(ctx, b.subject(key), b.client.client.HeadObject, &s3.HeadObjectInput{Bucket: &b.location.Bucket, Key: &key})
	if fault.KindOf(err) == fault.NotFound {
		return false, nil
	}
	if err != nil {
		return false, sdk.AsFault(err)
	}
	return aws.ToInt64(out.ContentLength) == int64(len(body)) && out.Metadata[digestKey] == digest(body), nil
}

// Delete deletes an object; one that does not exist is deleted too.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	_, err := sdk.Call(ctx, b.subject(key), b.client.client.DeleteObject, &s3.DeleteObjectInput{Bucket: &b.location.Bucket, Key: &key})
	return sdk.AsFault(err)
}

// Check asks whether the bucket is there and may be listed under a prefix.
func (b *Bucket) Check(ctx context.Context, prefix string) error {
	_, err := sdk.Call(ctx, b.subject(prefix), b.client.client.ListObjectsV2, &s3.ListObjectsV2Input{
		Bucket: &b.location.Bucket, Prefix: &prefix, MaxKeys: aws.Int32(1),
	})
	return sdk.AsFault(err)
}
