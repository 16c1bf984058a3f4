// Package catalog is the list of connectors: what every program that delivers
// can deliver to. A connector gets its line in New, and that is all it takes to
// turn it on, on one machine and on Lambda alike.
package catalog

import (
	"maps"
	"slices"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/amplitude"
	"github.com/eventsluice/sluice/internal/connector/clickhouse"
	"github.com/eventsluice/sluice/internal/connector/ga4"
	"github.com/eventsluice/sluice/internal/connector/gtm"
	"github.com/eventsluice/sluice/internal/connector/hubspot"
	"github.com/eventsluice/sluice/internal/connector/mailchimp"
	"github.com/eventsluice/sluice/internal/connector/mixpanel"
	"github.com/eventsluice/sluice/internal/connector/postgres"
	"github.com/eventsluice/sluice/internal/connector/redshift"
	"github.com/eventsluice/sluice/internal/connector/s3"
	"github.com/eventsluice/sluice/internal/connector/slack"
	"github.com/eventsluice/sluice/internal/connector/webhook"
)

// Catalog holds connectors by their kind.
type Catalog map[string]connector.Spec

// AWS is how connectors get to what they deliver to on AWS.
type AWS struct {
	Bucket   s3.Open
	Redshift redshift.Open
}

// New returns the connectors that work everywhere.
func New(aws AWS) Catalog {
	return Of(
		amplitude.Spec(),
		clickhouse.Spec(),
		ga4.Spec(),
		gtm.Spec(),
		hubspot.Spec(),
		mailchimp.Spec(),
		mixpanel.Spec(),
		postgres.Spec(),
		redshift.Spec(aws.Redshift),
		s3.Spec(aws.Bucket),
		slack.Spec(),
		webhook.Spec(),
	)
}

// Of returns a Catalog of some connectors.
func Of(specs ...connector.Spec) Catalog {
	c := make(Catalog, len(specs))
	c.Add(specs...)
	return c
}

// Add adds connectors.
func (c Catalog) Add(specs ...connector.Spec) {
	for _, spec := range specs {
		c[spec.Kind] = spec
	}
}

// Kinds returns the names of the connectors, sorted.
func (c Catalog) Kinds() []string { return slices.Sorted(maps.Keys(c)) }

// Specs returns the connectors, sorted by name.
func (c Catalog) Specs() []connector.Spec {
	specs := make([]connector.Spec, 0, len(c))
	for _, kind := range c.Kinds() {
		specs = append(specs, c[kind])
	}
	return specs
}
