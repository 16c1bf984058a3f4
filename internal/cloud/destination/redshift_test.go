package destination_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/redshifttest"
	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/redshift"
	"github.com/eventsluice/sluice/internal/event"
)

// exec runs statements on the database behind Redshift.
func (c *cloud) exec(t testing.TB, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), c.postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.Exec(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func wantAll(t *testing.T, results []connector.Result, want connector.Class) {
	t.Helper()
	for i, r := range results {
		if r.Class != want {
			t.Errorf("result %d: %s %s (%s), want %s", i, r.Class, r.Code, r.Message, want)
		}
	}
}

func delivery(e event.Event) connector.Delivery {
	return connector.Delivery{Event: e, Raw: e.Append(nil), Attempt: 1}
}

func TestARowHoldsTheEvent(t *testing.T) {
	t.Parallel()
	c := newWarehouse(t)
	conn := c.open(t, redshift.Kind, warehouseSettings)
	deliveries := []connector.Delivery{
		delivery(event.Event{
			ID: "e1", Type: "track", Name: "order", UserID: "u1", AnonymousID: "a1", Source: "web", IP: "203.0.113.7",
			Timestamp: "2026-11-23T11:00:00.1234567+01:00", ReceivedAt: "2026-11-23T10:00:00.125Z",
			Data: []byte(`{"total": 1.50}`), Context: []byte(`{"locale":"de-AT"}`), Extra: []byte(`"coupon":"X"`),
		}),
		delivery(event.Event{ID: `'"; DROP TABLE events; --\`, Type: "track", Name: `'\`, Timestamp: "0001-01-01T00:00:00Z", Data: []byte("{\"text\":\"a\\u0000b\",\n\"x\":null}")}),
		delivery(event.Event{ID: "e1", Type: "track", Name: "the same id again"}),
	}
	wantAll(t, send(t, conn, deliveries), connector.Delivered)
	rows := c.query(t, `SELECT concat_ws('|', id, type, name, coalesce(user_id,'-'), coalesce(anonymous_id,'-'),
		timestamp AT TIME ZONE 'UTC', coalesce((received_at AT TIME ZONE 'UTC')::text,'-'), coalesce(source,'-'), data, context) FROM events ORDER BY ctid`)
	want := []string{
		`e1|track|order|u1|a1|2026-11-23 10:00:00.123456|2026-11-23 10:00:00.125|web|{"total": 1.50}|{"extra": {"coupon": "X"}, "locale": "de-AT"}`,
		`'"; DROP TABLE events; --\|track|'\|-|-|0001-01-01 00:00:00|-|-|{"x": null, "text": "a` + "\ufffd" + `b"}|{}`,
	}
	if strings.Join(rows, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
	if again := send(t, conn, deliveries[:2]); again[0].Class != connector.Duplicate || again[1].Class != connector.Duplicate {
		t.Errorf("sent again: %+v", again)
	}
	if keys, err := c.Keys("lake"); err != nil || len(keys) != 0 {
		t.Errorf("files are left: %q, %v", keys, err)
	}
	for _, batch := range c.redshift.Batches(redshifttest.Finished) {
		if text := strings.Join(batch, ";"); strings.Contains(text, "e1") || strings.Contains(text, "order") || strings.Contains(text, "coupon") {
			t.Errorf("something of an event is in a statement: %s", text)
		}
	}
}

func TestARowThatCannotBeLoadedIsFoundByHalving(t *testing.T) {
	t.Parallel()
	c := newWarehouse(t)
	// Somebody's own table, with a narrower column and another one.
	c.exec(t, `CREATE TABLE events (loaded timestamptz DEFAULT now(), id text, type text, name varchar(20), user_id text,
		anonymous_id text, "timestamp" timestamptz, received_at timestamptz, source text, data jsonb, context jsonb)`,
		`CREATE TABLE events_sluice_lock (nothing integer)`)
	conn := c.open(t, redshift.Kind, strings.Replace(warehouseSettings, `"table"`, `"create_table":false,"table"`, 1))
	deliveries := connectortest.Plain(9)
	deliveries[4].Event.Name = strings.Repeat("n", 21)
	var halves func(some []connector.Delivery)
	halves = func(some []connector.Delivery) {
		results := send(t, conn, some)
		switch {
		case results[0].Class == connector.TooLarge && len(some) > 1:
			halves(some[:len(some)/2])
			halves(some[len(some)/2:])
		case len(some) == 1 && some[0].Event.ID == deliveries[4].Event.ID:
			wantAll(t, results, connector.Permanent)
			if !strings.Contains(results[0].Message, "too long") {
				t.Errorf("it does not say why: %+v", results[0])
			}
		default:
			wantAll(t, results, connector.Delivered)
		}
	}
	halves(deliveries)
	if n := len(c.stored(t)); n != 8 {
		t.Errorf("%d rows, want 8", n)
	}
	if keys, err := c.Keys("lake"); err != nil || len(keys) != 0 {
		t.Errorf("files are left: %q, %v", keys, err)
	}
}

func TestTheSameEventsInLoadsSideBySideArriveOnce(t *testing.T) {
	t.Parallel()
	c := newWarehouse(t)
	wantAll(t, send(t, c.open(t, redshift.Kind, warehouseSettings), connectortest.Plain(1)), connector.Delivered)
	deliveries := connectortest.Plain(50)
	release := c.redshift.Hold()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			conn := c.open(t, redshift.Kind, warehouseSettings)
			for _, r := range send(t, conn, deliveries[i*5:]) { // each regrouped
				// A file may be deleted before another load of it has read it.
				if !r.Class.Settled() && r.Class != connector.Retryable {
					t.Errorf("%+v", r)
				}
			}
		})
	}
	for c.redshift.Traffic().Calls["BatchExecuteStatement"] < 6 { // two of the first event, with the tables
		<-time.After(time.Millisecond)
	}
	release()
	wg.Wait()
	ids := c.stored(t)
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
	}
	if len(ids) != 51 {
		t.Errorf("%d rows, want 51", len(ids))
	}
}

func TestLostAnswersOfALoadAreMadeUpFor(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(c *cloud){
		"of the file": func(c *cloud) { c.loseOnce(http.MethodPut) },
		"of the beginning": func(c *cloud) {
			c.redshift.Fail(awstest.Disconnect(awstest.AfterStoring).On("BatchExecuteStatement").Times(1))
		},
		"of the outcome":  func(c *cloud) { c.redshift.Fail(awstest.CutAnswer().On("DescribeStatement").Times(2)) },
		"of the deletion": func(c *cloud) { c.loseOnce(http.MethodDelete) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newWarehouse(t)
			conn := c.open(t, redshift.Kind, warehouseSettings)
			lose(c)
			wantAll(t, send(t, conn, connectortest.Plain(3)), connector.Delivered)
			if n := len(c.stored(t)); n != 3 {
				t.Errorf("%d rows, want 3", n)
			}
		})
	}
}

func TestALoadThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	c := newWarehouse(t)
	conn := c.open(t, redshift.Kind, warehouseSettings)
	wantAll(t, send(t, conn, connectortest.Plain(1)), connector.Delivered)
	deliveries := connectortest.Plain(3)
	for _, f := range []struct {
		fault awstest.Fault
		want  connector.Class
	}{
		{redshifttest.FailBatches("ERROR: permission denied for relation events"), connector.Auth},
		{redshifttest.FailBatches("ERROR: 1023 DETAIL: Serializable isolation violation on table - 1"), connector.Retryable},
		{redshifttest.AbortBatches(), connector.Retryable},
		{awstest.Calls(redshifttest.NoCluster), connector.Auth},
	} {
		trouble := c.redshift.Fail(f.fault)
		wantAll(t, send(t, conn, deliveries), f.want)
		trouble.Off()
	}
	if n := len(c.stored(t)); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
	// The database itself refuses in the middle of the transaction.
	c.exec(t, "ALTER TABLE events RENAME COLUMN context TO surroundings")
	wantAll(t, send(t, conn, deliveries), connector.Auth)
	c.exec(t, "ALTER TABLE events RENAME COLUMN surroundings TO context")
	wantAll(t, send(t, conn, deliveries), connector.Delivered)
	if n := len(c.stored(t)); n != 4 {
		t.Errorf("%d rows, want 4", n)
	}
}

func TestALoadThatTakesTooLongIsStopped(t *testing.T) {
	t.Parallel()
	c := newWarehouse(t)
	conn := c.open(t, redshift.Kind, warehouseSettings)
	defer c.redshift.Hold()()
	deliveries := connectortest.Plain(2)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	wantAll(t, conn.Send(ctx, conn.Plan(deliveries).Calls[0]), connector.Retryable)
	if stopped := c.redshift.Batches(redshifttest.Aborted); len(stopped) != 1 {
		t.Errorf("%d batches are stopped", len(stopped))
	}
}

// The rights that the README asks for are enough, as far as PostgreSQL's rules go,
// and without the one on the second table the message says what to look at.
func TestTheRightsOfTheREADMEAreEnough(t *testing.T) {
	t.Parallel()
	c := newWarehouse(t)
	wantAll(t, send(t, c.open(t, redshift.Kind, warehouseSettings), connectortest.Plain(1)), connector.Delivered)
	address, err := url.Parse(c.postgres)
	if err != nil {
		t.Fatal(err)
	}
	role := "loader_" + strings.Trim(address.Path, "/")
	c.exec(t, "CREATE ROLE "+role+" LOGIN PASSWORD 'loader'", "GRANT USAGE ON SCHEMA public TO "+role, "GRANT SELECT, INSERT ON events TO "+role)
	address.User = url.UserPassword(role, "loader")
	c.redshift = redshifttest.New(t, redshifttest.Config{Postgres: address.String(), Buckets: c.Buckets, Region: cloudtest.Region})
	conn := c.open(t, redshift.Kind, warehouseSettings)
	results := send(t, conn, connectortest.Plain(2))
	wantAll(t, results, connector.Auth)
	if !strings.Contains(results[0].Message, "rights") || !strings.Contains(results[0].Message, "events_sluice_lock") {
		t.Errorf("%+v", results[0])
	}
	c.exec(t, "GRANT DELETE ON events_sluice_lock TO "+role)
	wantAll(t, send(t, conn, connectortest.Plain(2)), connector.Delivered)
}

func TestTheConnectorSaysWhatItFinds(t *testing.T) {
	t.Parallel()
	c := newWarehouse(t)
	check := func(settings string) connector.Result {
		return c.open(t, redshift.Kind, settings).(connector.Checker).Check(t.Context())
	}
	for _, want := range []string{"creates it", "can be read"} {
		if r := check(warehouseSettings); r.Class != connector.Delivered || !strings.Contains(r.Message, want) {
			t.Errorf("%+v, want %q", r, want)
		}
		wantAll(t, send(t, c.open(t, redshift.Kind, warehouseSettings), connectortest.Plain(1)), connector.Delivered)
	}
	if r := check(strings.Replace(warehouseSettings, `"lake"`, `"nowhere"`, 1)); r.Class != connector.Auth || !strings.Contains(r.Message, "staging_bucket") {
		t.Errorf("%+v", r)
	}
	if r := c.open(t, "s3", `{"bucket":"lake"}`).(connector.Checker).Check(t.Context()); r.Class != connector.Delivered {
		t.Errorf("%+v", r)
	}
	if r := c.open(t, "s3", `{"bucket":"nowhere"}`).(connector.Checker).Check(t.Context()); r.Class != connector.Auth || !strings.Contains(r.Message, "bucket") {
		t.Errorf("%+v", r)
	}
}

func TestAFileWhoseAnswerIsLostIsThereOnce(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	conn := c.open(t, "s3", `{"bucket":"lake"}`)
	c.loseOnce(http.MethodPut)
	deliveries := connectortest.Plain(5)
	wantAll(t, send(t, conn, deliveries), connector.Delivered)
	if ids := c.ids(t); len(ids) != 5 {
		t.Errorf("%d events, want 5", len(ids))
	}
	wantAll(t, send(t, conn, deliveries), connector.Delivered) // the same call: the same file
	if keys, err := c.Keys("lake"); err != nil || len(keys) != 1 {
		t.Errorf("files %q, %v", keys, err)
	}
}
