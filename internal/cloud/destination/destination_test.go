package destination_test

import (
	"testing"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/redshifttest"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/redshift"
	"github.com/eventsluice/sluice/internal/connector/s3"
)

func TestS3Conforms(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, connectortest.Harness{
		Open: func(t *testing.T) *connectortest.Destination {
			c := newCloud(t)
			enter := func(m func() mode) func(*testing.T) func() {
				return func(*testing.T) func() { return c.set(m()) }
			}
			return &connectortest.Destination{
				Factory:  c.factory(t, s3.Kind),
				Settings: []byte(`{"bucket":"lake","prefix":"events","region":"us-east-1","access_key_id":"AKIDOTHER","secret_access_key":"` + secret + `"}`),
				Secrets:  []string{secret},
				Arrived:  func(t *testing.T) []string { return c.ids(t) },
				Enter: map[connectortest.State]func(*testing.T) func(){
					connectortest.Away: func(*testing.T) func() {
						c.StopS3(true)
						return func() { c.StopS3(false) }
					},
					connectortest.Denied:     enter(func() mode { return mode{refuse: "InvalidAccessKeyId"} }),
					connectortest.Throttling: enter(func() mode { return mode{refuse: "SlowDown"} }),
					connectortest.Hanging:    enter(func() mode { return mode{hang: make(chan struct{})} }),
					connectortest.LostAnswer: enter(func() mode { return mode{lose: true} }),
				},
			}
		},
		Cannot: map[connectortest.State]string{
			connectortest.Fussy: "a bucket takes whatever bytes there are",
		},
	})
}

const warehouseSettings = `{"cluster_identifier":"analytics","database":"dev","db_user":"sluice","table":"public.events",` +
	`"staging_bucket":"lake","staging_prefix":"staging","iam_role":"arn:aws:iam::123456789012:role/redshift-copy"}`

func TestRedshiftConforms(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, connectortest.Harness{
		Open: func(t *testing.T) *connectortest.Destination {
			c := newWarehouse(t)
			enter := func(f awstest.Fault) func(*testing.T) func() {
				return func(*testing.T) func() { return c.redshift.Fail(f).Off }
			}
			return &connectortest.Destination{
				Factory:  c.factory(t, redshift.Kind),
				Settings: []byte(warehouseSettings),
				Secrets:  []string{secret},
				Arrived:  func(t *testing.T) []string { return c.stored(t) },
				Enter: map[connectortest.State]func(*testing.T) func(){
					connectortest.Away: func(t *testing.T) func() {
						c.redshift.Stop()
						return func() {
							if err := c.redshift.Start(); err != nil {
								t.Error(err)
							}
						}
					},
					connectortest.Denied:     enter(awstest.Calls(awstest.AccessDenied)),
					connectortest.Throttling: enter(awstest.Calls(redshifttest.TooManyStatements).On("BatchExecuteStatement")),
					connectortest.Hanging:    enter(awstest.Hang(awstest.BeforeStoring)),
					connectortest.LostAnswer: enter(awstest.Disconnect(awstest.AfterStoring).On("BatchExecuteStatement")),
				},
			}
		},
		Cannot: map[connectortest.State]string{
			connectortest.Fussy: "a row that COPY refuses fails the load, and nobody says which it was: the delivery loop halves the call, see TestARowThatCannotBeLoadedIsFoundByHalving",
		},
	})
}
