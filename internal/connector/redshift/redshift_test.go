package redshift

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/fault"
)

// says is an Outcome of a batch that failed.
func says(text string) Outcome { return Outcome{Status: failed, Error: text} }

var (
	started   = Outcome{Status: "STARTED"}
	committed = Outcome{Status: finished, Rows: []int64{-1, -1, 3, 3, -1}}
	missing   = says(`ERROR: relation "raw.events_sluice_lock" does not exist`)
)

func TestWhatALoadComesTo(t *testing.T) {
	t.Parallel()
	ambiguous := kind(fault.Ambiguous)
	for _, c := range []struct {
		name     string
		fake     *fake
		settings string
		want     connector.Class
		wantCode string
		batches  int
	}{
		{name: "committed", fake: &fake{outcomes: [][]any{{started, started, committed}}}, want: connector.Delivered, batches: 1},
		{name: "all rows were there", fake: &fake{outcomes: [][]any{{Outcome{Status: finished, Rows: []int64{-1, -1, 3, 0, -1}}}}}, want: connector.Duplicate, batches: 1},
		{name: "the answer to the beginning is lost", fake: &fake{begins: []error{ambiguous}, lost: true}, want: connector.Delivered, batches: 1},
		{name: "it never comes", fake: &fake{begins: []error{ambiguous, ambiguous, ambiguous}, lost: true}, want: connector.Ambiguous, wantCode: "ambiguous", batches: 1},
		{name: "too many statements", fake: &fake{begins: []error{kind(fault.Throttled)}}, want: connector.Throttled, wantCode: "throttled"},
		{name: "the API is away", fake: &fake{begins: []error{kind(fault.Unavailable)}}, want: connector.Retryable, wantCode: "unavailable"},
		{name: "there is no such cluster", fake: &fake{begins: []error{kind(fault.Invalid)}}, want: connector.Auth, wantCode: "invalid"},
		{name: "asking fails now and then", fake: &fake{outcomes: [][]any{{kind(fault.Throttled), ambiguous, started, kind(fault.Unavailable), committed}}}, want: connector.Delivered, batches: 1},
		{name: "asking is forbidden", fake: &fake{outcomes: [][]any{{kind(fault.Forbidden)}}}, want: connector.Auth, wantCode: "forbidden", batches: 1},
		{name: "stopped by somebody", fake: &fake{outcomes: [][]any{{started, Outcome{Status: aborted}}}}, want: connector.Retryable, wantCode: "aborted", batches: 1},
		{name: "tables are created", fake: &fake{outcomes: [][]any{{missing}, {started, committed}, {committed}}}, want: connector.Delivered, batches: 3},
		{name: "another created them", fake: &fake{outcomes: [][]any{{missing}, {says(`ERROR: relation "events" already exists`)}, {committed}}}, want: connector.Delivered, batches: 3},
		{name: "they may not be created", fake: &fake{outcomes: [][]any{{missing}, {says("ERROR: permission denied for schema raw")}}}, want: connector.Auth, wantCode: "permission", batches: 2},
		{name: "they are stopped before they are there", fake: &fake{outcomes: [][]any{{missing}, {Outcome{Status: aborted}}, {missing}}}, want: connector.Retryable, wantCode: "aborted", batches: 3},
		{name: "there are too many statements for that", fake: &fake{outcomes: [][]any{{missing}}, begins: []error{nil, kind(fault.Throttled)}}, want: connector.Throttled, wantCode: "throttled", batches: 1},
		{name: "nor should they", settings: `"create_table":false`, fake: &fake{outcomes: [][]any{{missing}}}, want: connector.Auth, wantCode: codeMissing, batches: 1},
		{name: "the file cannot be put", fake: &fake{puts: []error{kind(fault.Forbidden)}}, want: connector.Auth, wantCode: "forbidden"},
		{name: "nobody knows whether it is put", fake: &fake{puts: []error{ambiguous, ambiguous, ambiguous}}, want: connector.Retryable, wantCode: "ambiguous"},
		{name: "it is put again", fake: &fake{puts: []error{ambiguous}}, want: connector.Delivered, batches: 1},
		{name: "it cannot be deleted", fake: &fake{deletes: []error{kind(fault.Forbidden)}}, want: connector.Delivered, batches: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := c.fake
				conn := open(t, f, c.settings)
				plan := conn.Plan(connectortest.Plain(3))
				for _, r := range conn.Send(t.Context(), plan.Calls[0]) {
					if r.Class != c.want || r.Code != c.wantCode {
						t.Errorf("%s %s (%s), want %s %s", r.Class, r.Code, r.Message, c.want, c.wantCode)
					}
					if !r.Class.Settled() && r.Message == "" {
						t.Error("it does not say why")
					}
				}
				if len(f.begun) != c.batches {
					t.Errorf("%d batches, want %d", len(f.begun), c.batches)
				}
				if settled := c.want.Settled(); settled != (len(f.deleted) == 1) {
					t.Errorf("%d files are deleted", len(f.deleted))
				}
			})
		})
	}
}

func TestABatchThatDoesNotEndIsCancelledSoThatItDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		after *Outcome // what it says when it was cancelled
		want  connector.Class
	}{
		{"stopped", &Outcome{Status: aborted}, connector.Retryable},
		{"it was faster", &committed, connector.Delivered},
		{"it goes on", nil, connector.Ambiguous},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fake{outcomes: [][]any{{started}}, cancelled: c.after}
				conn := open(t, f, "")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				r := conn.Send(ctx, conn.Plan(connectortest.Plain(1)).Calls[0])[0]
				if r.Class != c.want {
					t.Errorf("%s (%s), want %s", r.Class, r.Message, c.want)
				}
				if len(f.cancels) != 1 || f.cancels[0].Sub(began) < 45*time.Second || f.cancels[0].Sub(began) > 46*time.Second {
					t.Errorf("cancelled %d times", len(f.cancels))
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestTokensAreOfOneAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{begins: []error{kind(fault.Ambiguous)}, lost: true}
		conn := open(t, f, "")
		call := conn.Plan(connectortest.Plain(2)).Calls[0]
		for range 2 {
			if r := conn.Send(t.Context(), call)[0]; r.Class != connector.Delivered {
				t.Fatalf("%+v", r)
			}
		}
		// The first attempt asked twice, with one token.
		if len(f.tokens) != 3 || f.tokens[0] != f.tokens[1] || f.tokens[1] == f.tokens[2] {
			t.Errorf("tokens %q", f.tokens)
		}
		for _, token := range f.tokens {
			if len(token) > 64 {
				t.Errorf("a token of %d characters", len(token))
			}
		}
		if len(f.objects) != 1 || len(slices.Compact(f.deleted)) != 1 {
			t.Errorf("%d files for the same call, %d deleted", len(f.objects), len(f.deleted))
		}
	})
}

func TestTheSameRowsOfAnotherTableAreAnotherFile(t *testing.T) {
	t.Parallel()
	rows := []row{{id: "e1"}, {id: "e2"}}
	keys := map[string]bool{}
	for _, c := range []*Connector{open(t, nil, ""), open(t, nil, `"table":"raw.others"`), open(t, nil, `"database":"prod"`), open(t, nil, `"cluster_identifier":"other"`)} {
		if key := c.key(rows); keys[key] || !strings.HasPrefix(key, "sluice-staging/") || !strings.HasSuffix(key, "-2.ndjson.gz") || key == c.key(rows[:1]) {
			t.Errorf("key %s", key)
		} else {
			keys[key] = true
		}
	}
}

func TestFailuresOfStatementsHaveTheirClassAndNameTheirSetting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text    string
		want    connector.Class
		setting string
	}{
		{"ERROR: 1023 DETAIL: Serializable isolation violation on table - 108264, transactions forming the cycle are: 1, 2", connector.Retryable, ""},
		{"ERROR: deadlock detected", connector.Retryable, ""},
		{"ERROR: S3ServiceException:Access Denied,Status 403,Error AccessDenied,Rid 1,CanRetry 1", connector.Auth, "iam_role"},
		{"ERROR: S3ServiceException:The specified bucket does not exist,Status 404,Error NoSuchBucket", connector.Auth, "staging_bucket"},
		{"ERROR: S3ServiceException:The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.,Status 301,Error PermanentRedirect", connector.Auth, "staging_bucket"},
		{"ERROR: S3ServiceException:speed limit exceeded,Status 503,Error SlowDown", connector.Retryable, ""},
		{"ERROR: The specified S3 prefix 'sluice-staging/x' does not exist", connector.Retryable, ""},
		{"ERROR: User arn:aws:redshift:us-west-1:123456789012:dbuser:x/y is not authorized to assume IAM Role arn:aws:iam::123456789012:role/r", connector.Auth, "iam_role"},
		{"ERROR: Load into table 'sluice_x' failed.  Check 'sys_load_error_detail' system table for details.", connector.TooLarge, ""},
		{"ERROR: Value too long for type character varying(10)", connector.TooLarge, ""},
		{`ERROR: schema "raw" does not exist`, connector.Auth, "table"},
		{`ERROR: column "ip" of relation "events" does not exist`, connector.Auth, "table"},
		{`ERROR: relation "raw.user_events" does not exist`, connector.Auth, "table, or create_table"},
		{`FATAL: database "prod" does not exist`, connector.Auth, "database"},
		{`FATAL: user "sluice" does not exist`, connector.Auth, "db_user"},
		{"ERROR: permission denied for relation events", connector.Auth, "table"},
		{`ERROR: column "data" is of type character varying but expression is of type super`, connector.Auth, "table"},
		{"ERROR: disk full", connector.Retryable, ""},
		{"", connector.Retryable, ""},
	} {
		r := explainFailure(says(c.text), 3)
		if r.Class != c.want || !strings.HasPrefix(r.Message, c.setting) || !strings.Contains(r.Message, c.text) || r.Message == "" {
			t.Errorf("%s: %s (%s), want %s with %q", c.text, r.Class, r.Message, c.want, c.setting)
		}
		alone := explainFailure(says(c.text), 1)
		if c.want == connector.TooLarge && alone.Class != connector.Permanent || c.want != connector.TooLarge && alone.Class != c.want {
			t.Errorf("%s, one row: %s", c.text, alone.Class)
		}
	}
}

func TestCheckNeedsNoTableThatWillBeCreated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		fake     *fake
		settings string
		want     connector.Class
		says     string
	}{
		{name: "all is well", want: connector.Delivered, says: `"raw"."events"`},
		{name: "no table yet", fake: &fake{outcomes: [][]any{{missing}}}, want: connector.Delivered, says: "creates it"},
		{name: "no table", settings: `"create_table":false`, fake: &fake{outcomes: [][]any{{missing}}}, want: connector.Auth, says: "create_table"},
		{name: "no bucket", fake: &fake{checked: kind(fault.NotFound)}, want: connector.Auth, says: "staging_bucket"},
		{name: "it may not be listed", fake: &fake{checked: kind(fault.Forbidden)}, want: connector.Delivered, says: "can be read"},
		{name: "no rights", fake: &fake{outcomes: [][]any{{says("ERROR: permission denied for relation events")}}}, want: connector.Auth, says: "rights"},
		{name: "no end", fake: &fake{outcomes: [][]any{{started}}}, want: connector.Retryable, says: "had not ended"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := open(t, cmp.Or(c.fake, &fake{}), c.settings).Check(t.Context())
				if r.Class != c.want || !strings.Contains(r.Message, c.says) {
					t.Errorf("%s (%s), want %s with %q", r.Class, r.Message, c.want, c.says)
				}
			})
		})
	}
}

func TestSettingsNameEveryFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		settings string
		want     []string
	}{
		{`{}`, []string{"cluster_identifier: ", "database: ", "iam_role: ", "staging_bucket: "}},
		{good + `,"workgroup_name":"w"}`, []string{"db_user: ", "workgroup_name: "}},
		{good + `,"secret_arn":"arn:aws:secretsmanager:us-east-1:123456789012:secret:x"}`, []string{"secret_arn: "}},
		{`{"workgroup_name":"w","database":"dev","staging_bucket":"It's","staging_prefix":"a'b","iam_role":"arn:aws:iam::1:role/x'","table":"a.b.c"}`,
			[]string{"iam_role: ", "staging_bucket: ", "staging_prefix: ", "table: "}},
		{`{"workgroup_name":"w","database":"dev","staging_bucket":"lake","iam_role":"default","table":"ev\"ents","max_events":0,"linger":"1h"}`,
			[]string{"linger: ", "max_events: ", "table: "}},
		{`{"workgroup_name":"w","database":"dev","staging_bucket":"lake","iam_role":"default","table":"` + strings.Repeat("t", 116) + `"}`, []string{"table: "}},
		{`{"workgroup_name":"w","database":"dev","staging_bucket":"lake","iam_role":"default","table":""}`, []string{"table: "}},
		{`{"workgroup_name":"w","database":"dev","staging_bucket":"lake","iam_role":"default"}`, nil},
		{good + `}`, nil},
	} {
		_, err := Spec(nil).New([]byte(c.settings), connector.Env{})
		var lines []string
		if err != nil {
			lines = strings.Split(err.Error(), "\n")
		}
		slices.Sort(lines)
		if len(lines) != len(c.want) {
			t.Errorf("%s: %v, want %q", c.settings, err, c.want)
			continue
		}
		for i := range lines {
			if !strings.HasPrefix(lines[i], c.want[i]) {
				t.Errorf("%s: %q, want %q", c.settings, lines[i], c.want[i])
			}
		}
	}
}
