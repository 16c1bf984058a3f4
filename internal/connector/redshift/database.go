package redshift

import "context"

// Target says which bucket and database are meant. Empty fields leave it to the
// environment of the program.
type Target struct {
	Region, Bucket              string
	Cluster, Workgroup          string
	Database, DBUser, SecretARN string
}

// Open returns a Bucket and a Database. It may read the program's configuration,
// but calls nobody. Its error is that of a Database.
type Open func(ctx context.Context, t Target) (Bucket, Database, error)

// Bucket is where files wait to be loaded. Its errors are as those of Database.
type Bucket interface {
	// Put writes an object, in place of another that has the key. When it
	// returns nil the object is durable.
	Put(ctx context.Context, key string, body []byte, contentType string) error
	// Delete deletes an object.
	Delete(ctx context.Context, key string) error
	// Check asks whether the bucket is there and may be listed under a prefix.
	Check(ctx context.Context, prefix string) error
}

// Database runs statements in the background. The kind of an error,
// fault.KindOf, says what became of the call: Ambiguous (and Internal) that it
// may be done, every other that it is not. Unauthenticated, Forbidden, NotFound
// and Invalid say that credentials, rights, the database or the way to it are
// wrong, Throttled that it asks for patience. The error's Detail is for the
// operator and holds no secret. Each call is tried once.
type Database interface {
	// Begin starts statements, one after another as one transaction: if one
	// fails, nothing of them is done. A call with the same token as one before
	// starts nothing and returns its id.
	Begin(ctx context.Context, token string, statements []string) (id string, err error)
	// Outcome asks how far a batch is.
	Outcome(ctx context.Context, id string) (Outcome, error)
	// Cancel asks for a batch to be stopped. Its outcome says whether it was.
	Cancel(ctx context.Context, id string) error
}

// Outcome is how far a batch is.
type Outcome struct {
	// Status is one of those of the Data API: finished, failed and aborted have
	// constants, with every other the batch goes on.
	Status string
	// Rows are how many rows each statement has returned or changed, -1 if that
	// is not known.
	Rows []int64
	// Error is what the database says of a batch that failed.
	Error string
}

// Statuses of a batch that has ended. Source: Redshift Data API,
// DescribeStatement (read 2026-11).
const (
	finished = "FINISHED"
	failed   = "FAILED"
	aborted  = "ABORTED" // stopped by somebody: nothing of it is done
)
