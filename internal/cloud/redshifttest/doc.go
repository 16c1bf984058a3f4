// Package redshifttest is a double of Amazon Redshift behind its Data API:
// BatchExecuteStatement, DescribeStatement and CancelStatement, with tokens,
// asynchronous batches that are one transaction each, and COPY from S3. The
// statements run on a real PostgreSQL.
//
// It owns what differs between the two: SUPER is jsonb, keys of distribution and
// sorting are left out, a primary key is not enforced, the length of a VARCHAR is
// in bytes where COPY checks it, COPY reads all objects with a prefix, and errors
// are worded as Redshift words them. Statements that Redshift would not take may
// pass all the same.
//
// It knows neither us nor the SDK.
package redshifttest
