// Package destination lets connectors deliver to AWS: it opens the buckets and
// databases that they name, and knows all connectors that work everywhere.
package destination

import (
	"context"

	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/cloud/statement"
	"github.com/eventsluice/sluice/internal/connector/catalog"
	"github.com/eventsluice/sluice/internal/connector/redshift"
	"github.com/eventsluice/sluice/internal/connector/s3"
)

// Catalog returns the connectors that work on one machine and on Lambda. Those to
// AWS read the configuration of the SDK, with these options, when they make their
// first call.
func Catalog(options ...sdk.Option) catalog.Catalog {
	return catalog.New(catalog.AWS{
		Bucket: func(ctx context.Context, l s3.Location) (s3.Bucket, error) {
			return object.OpenBucket(ctx, object.Location(l), options...)
		},
		Redshift: func(ctx context.Context, t redshift.Target) (redshift.Bucket, redshift.Database, error) {
			bucket, err := object.OpenBucket(ctx, object.Location{Bucket: t.Bucket, Region: t.Region}, options...)
			if err != nil {
				return nil, nil, err
			}
			database, err := statement.Open(ctx, statement.Target{
				Region: t.Region, Cluster: t.Cluster, Workgroup: t.Workgroup,
				Database: t.Database, DBUser: t.DBUser, SecretARN: t.SecretARN,
			}, options...)
			if err != nil {
				return nil, nil, err
			}
			return bucket, warehouse{database}, nil
		},
	})
}

// warehouse is a Database in the words of the connector.
type warehouse struct{ *statement.Database }

func (w warehouse) Outcome(ctx context.Context, id string) (redshift.Outcome, error) {
	outcome, err := w.Database.Outcome(ctx, id)
	return redshift.Outcome(outcome), err
}
