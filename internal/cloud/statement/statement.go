// Package statement is the Data API of Redshift: SQL statements that run in the
// background, as one transaction, and are asked after.
package statement

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/redshiftdata"
	"github.com/aws/aws-sdk-go-v2/service/redshiftdata/types"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/fault"
)

// Target says which database is meant, and who calls it. Either Cluster or
// Workgroup is set. Without DBUser and SecretARN the database user is that of the
// AWS identity.
type Target struct {
	Region, Cluster, Workgroup  string
	Database, DBUser, SecretARN string
}

// Outcome is how far a batch is.
type Outcome struct {
	// Status is the Data API's, such as "FINISHED".
	Status string
	// Rows are how many rows each statement has returned or changed, -1 if that
	// is not known.
	Rows []int64
	// Error is what the database says of a batch that failed.
	Error string
}

// Database runs statements. Its methods are safe for concurrent use. Their
// errors are those of sdk.AsFault, and they try once.
type Database struct {
	client *redshiftdata.Client
	target Target
	region string
}

// Open opens a database. It reads the configuration of the SDK, with these
// options, and makes no call.
func Open(ctx context.Context, t Target, options ...sdk.Option) (*Database, error) {
	options = slices.Clone(options) // the caller's may have room behind them
	if t.Region != "" {
		options = append(options, config.WithRegion(t.Region))
	}
	cfg, err := sdk.Load(ctx, nil, options...)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Detail: sdk.OneLine(err.Error()), Err: err}
	}
	return &Database{target: t, region: cfg.Region, client: redshiftdata.NewFromConfig(cfg, func(o *redshiftdata.Options) {
		o.HTTPClient, o.Retryer = sdk.Watched(o.HTTPClient), aws.NopRetryer{}
	})}, nil
}

func (d *Database) subject() sdk.Subject {
	name := fmt.Sprintf("database %q of Redshift %q", d.target.Database, cmp.Or(d.target.Cluster, d.target.Workgroup))
	return sdk.Subject{Service: "redshift-data", Title: "the Redshift Data API", Name: name, Region: d.region, Known: func(f *sdk.Failure, r sdk.Refusal) bool {
		switch r.Code {
		case "ActiveStatementsExceededException", "ActiveSessionsExceededException":
			f.Kind = fault.Throttled
			f.Text = fmt.Sprintf("%s in %s has too many active statements (%s)", name, d.region, r.Code)
		case "ValidationException":
			// Its message is about the call: which cluster, database, user or
			// secret there is not. It does not repeat statements.
			f.Kind = fault.Invalid
			f.Act("call", "%s in %s: %s", name, d.region, sdk.OneLine(r.Message))
		case "DatabaseConnectionException":
			f.Kind = fault.Unavailable
			f.Text = fmt.Sprintf("%s in %s takes no connection", name, d.region)
		default:
			return false
		}
		return true
	}}
}

// optional is nil for an empty string.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Begin starts statements, one after another as one transaction: if one fails,
// nothing of them is done. A call with the same token as one before starts
// nothing and returns its id.
func (d *Database) Begin(ctx context.Context, token string, statements []string) (id string, err error) {
	out, err := sdk.Call(ctx, d.subject(), d.client.BatchExecuteStatement, &redshiftdata.BatchExecuteStatementInput{
		Sqls: statements, ClientToken: &token, StatementName: aws.String("sluice"), Database: &d.target.Database,
		ClusterIdentifier: optional(d.target.Cluster), WorkgroupName: optional(d.target.Workgroup),
		DbUser: optional(d.target.DBUser), SecretArn: optional(d.target.SecretARN),
	})
	if err != nil {
		return "", sdk.AsFault(err)
	}
	return aws.ToString(out.Id), nil
}

// Outcome asks how far a batch is.
func (d *Database) Outcome(ctx context.Context, id string) (Outcome, error) {
	out, err := sdk.Call(ctx, d.subject(), d.client.DescribeStatement, &redshiftdata.DescribeStatementInput{Id: &id})
	if err != nil {
		return Outcome{}, sdk.AsFault(err)
	}
	o := Outcome{Status: string(out.Status), Error: aws.ToString(out.Error)}
	for i := range out.SubStatements {
		s := &out.SubStatements[i]
		o.Rows = append(o.Rows, s.ResultRows)
		if o.Error == "" && s.Status == types.StatementStatusStringFailed {
			o.Error = aws.ToString(s.Error)
		}
	}
	return o, nil
}

// Cancel asks for a batch to be stopped. Its outcome says whether it was.
func (d *Database) Cancel(ctx context.Context, id string) error {
	_, err := sdk.Call(ctx, d.subject(), d.client.CancelStatement, &redshiftdata.CancelStatementInput{Id: &id})
	return sdk.AsFault(err)
}
