package statement_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/redshifttest"
	"github.com/eventsluice/sluice/internal/cloud/statement"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/testenv"
)

func newServer(t *testing.T) *redshifttest.Server {
	t.Helper()
	return redshifttest.New(t, redshifttest.Config{
		Postgres: testenv.Postgres(t), Buckets: cloudtest.NewMemory(t, nil, "lake"), Region: "us-east-1",
	})
}

func open(t *testing.T, s *redshifttest.Server, change func(*statement.Target)) *statement.Database {
	t.Helper()
	target := statement.Target{Region: "us-east-1", Cluster: "analytics", Database: "dev"}
	if change != nil {
		change(&target)
	}
	d, err := statement.Open(t.Context(), target, config.WithBaseEndpoint(s.URL()),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")),
		config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// outcome waits until a batch has ended.
func outcome(t *testing.T, d *statement.Database, id string) statement.Outcome {
	t.Helper()
	for {
		o, err := d.Outcome(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if o.Status != redshifttest.Submitted && o.Status != redshifttest.Started {
			return o
		}
		<-time.After(5 * time.Millisecond) // the database is a real one
	}
}

func begin(t *testing.T, d *statement.Database, token string, statements ...string) string {
	t.Helper()
	id, err := d.Begin(t.Context(), token, statements)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestABatchIsOneTransactionAndATokenOneBatch(t *testing.T) {
	t.Parallel()
	d := open(t, newServer(t), nil)
	id := begin(t, d, "one", "CREATE TABLE t (n INTEGER)", "INSERT INTO t VALUES (1), (2)")
	if again := begin(t, d, "one", "CREATE TABLE t (n INTEGER)", "INSERT INTO t VALUES (1), (2)"); again != id {
		t.Errorf("the same token began %s and %s", id, again)
	}
	if o := outcome(t, d, id); o.Status != redshifttest.Finished || len(o.Rows) != 2 || o.Rows[1] != 2 || o.Error != "" {
		t.Errorf("%+v", o)
	}
	o := outcome(t, d, begin(t, d, "two", "INSERT INTO t VALUES (3)", "INSERT INTO nowhere VALUES (1)", "INSERT INTO t VALUES (4)"))
	if o.Status != redshifttest.Failed || !strings.Contains(o.Error, `relation "nowhere" does not exist`) {
		t.Errorf("%+v", o)
	}
	if o := outcome(t, d, begin(t, d, "three", "SELECT n FROM t")); o.Status != redshifttest.Finished || o.Rows[0] != 2 {
		t.Errorf("after a batch that failed: %+v", o)
	}
}

func TestABatchThatIsCancelledIsRolledBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	d := open(t, s, func(target *statement.Target) { target.Cluster, target.Workgroup = "", "analytics" })
	release := s.Hold()
	defer release()
	id := begin(t, d, "one", "CREATE TABLE t (n INTEGER)")
	if o, err := d.Outcome(t.Context(), id); err != nil || o.Status != redshifttest.Submitted {
		t.Errorf("%+v, %v", o, err)
	}
	if err := d.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if o := outcome(t, d, id); o.Status != redshifttest.Aborted {
		t.Errorf("%+v", o)
	}
	release()
	if o := outcome(t, d, begin(t, d, "two", "CREATE TABLE t (n INTEGER)")); o.Status != redshifttest.Finished {
		t.Errorf("the next batch: %+v", o)
	}
}

func TestFaultsOfTheAPISayWhatBecameOfTheCall(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	d := open(t, s, nil)
	for _, c := range []struct {
		name  string
		fault awstest.Fault
		want  fault.Kind
		says  string
	}{
		{"too many statements", awstest.Calls(redshifttest.TooManyStatements), fault.Throttled, "too many active statements"},
		{"too many sessions", awstest.Calls(redshifttest.TooManySessions), fault.Throttled, "too many active statements"},
		{"throttled", awstest.Calls(awstest.Throttling), fault.Throttled, "throttled"},
		{"no connection", awstest.Calls(redshifttest.NoConnection), fault.Unavailable, "takes no connection"},
		{"environment", awstest.Calls(redshifttest.Environment), fault.Ambiguous, "BatchExecuteStatementException"},
		{"internal", awstest.Calls(awstest.Internal), fault.Ambiguous, "InternalFailure"},
		{"lost", awstest.Disconnect(awstest.AfterStoring), fault.Ambiguous, "no answer"},
		{"no cluster", awstest.Calls(redshifttest.NoCluster), fault.Invalid, "Redshift endpoint doesn't exist in this region."},
		{"denied", awstest.Calls(awstest.AccessDenied), fault.Forbidden, "redshift-data:BatchExecuteStatement"},
		{"expired", awstest.Calls(awstest.ExpiredToken), fault.Unauthenticated, "expired"},
	} {
		trouble := s.Fail(c.fault)
		_, err := d.Begin(t.Context(), "token "+c.name, []string{"SELECT 1"})
		if fault.KindOf(err) != c.want || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s with %q", c.name, err, c.want, c.says)
		}
		if trouble.Hits() != 1 {
			t.Errorf("%s: %d calls, want one", c.name, trouble.Hits())
		}
		trouble.Off()
	}
	if _, err := d.Outcome(t.Context(), "no such id"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no such batch: %v", err)
	}
	if err := d.Cancel(t.Context(), begin(t, d, "one", "SELECT 1")); err != nil && fault.KindOf(err) != fault.Invalid {
		t.Errorf("cancel: %v", err)
	}
	both := open(t, s, func(target *statement.Target) { target.Workgroup = "w" })
	if _, err := both.Begin(t.Context(), "both", []string{"SELECT 1"}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("cluster and workgroup: %v", err)
	}
	s.Stop()
	if _, err := d.Begin(t.Context(), "away", []string{"SELECT 1"}); fault.KindOf(err) != fault.Unavailable && fault.KindOf(err) != fault.Ambiguous {
		t.Errorf("nobody there: %v", err)
	}
}
