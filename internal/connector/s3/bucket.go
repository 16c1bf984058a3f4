package s3

import "context"

// Bucket is where files are put. The kind of an error, fault.KindOf, says what
// became of a write: Ambiguous (and Internal) that it may be done, every other
// that it is not. Unauthenticated, Forbidden, NotFound and Invalid say that
// credentials, rights, the bucket or the way to it are wrong, Throttled that the
// store asks for patience. The error's Detail is for the operator and holds no
// secret.
type Bucket interface {
	// Put writes an object, in place of another that has the key. When it
	// returns nil the object is durable. It tries once.
	Put(ctx context.Context, key string, body []byte, contentType string) error
	// Has reports whether the object with the key has exactly this body.
	Has(ctx context.Context, key string, body []byte) (bool, error)
	// Check asks whether the bucket is there and may be listed under a prefix.
	Check(ctx context.Context, prefix string) error
}

// Location says which bucket is meant, and how objects are kept in it. Empty
// fields leave it to the environment of the program and to the bucket.
type Location struct {
	Bucket, Region, Endpoint     string
	AccessKeyID, SecretAccessKey string
	StorageClass, KMSKeyID       string
}

// Open returns a Bucket. It may read the program's configuration, but calls
// nobody. Its error is that of a Bucket.
type Open func(ctx context.Context, l Location) (Bucket, error)
