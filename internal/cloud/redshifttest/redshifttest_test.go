package redshifttest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/testenv"
)

// files are a bucket.
type files map[string]string

func (f files) Keys(bucket string) ([]string, error) {
	if bucket != "lake" {
		return nil, fmt.Errorf("no bucket %s", bucket)
	}
	keys := make([]string, 0, len(f))
	for key := range f {
		keys = append(keys, key)
	}
	return keys, nil
}

func (f files) Get(_, key string) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, f[key])
	err := w.Close()
	return b.Bytes(), err
}

// do makes a call and returns the answer, and the code of an error.
func (s *Server) do(t *testing.T, operation string, in any) (out map[string]any, code string) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("X-Amz-Target", target+operation)
	awstest.Sign(r, "redshift-data", "us-east-1")
	answer, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	code, _ = out["__type"].(string)
	return out, code
}

func input(statements ...string) map[string]any {
	return map[string]any{"ClusterIdentifier": "analytics", "Database": "dev", "Sqls": statements}
}

// outcome begins a batch and waits for its end.
func (s *Server) outcome(t *testing.T, statements ...string) (status, text string) {
	t.Helper()
	out, code := s.do(t, "BatchExecuteStatement", input(statements...))
	if code != "" {
		t.Fatalf("%s: %v", code, out)
	}
	for {
		said, _ := s.do(t, "DescribeStatement", map[string]any{"Id": out["Id"]})
		if status, _ = said["Status"].(string); status != Submitted && status != Started {
			text, _ = said["Error"].(string)
			return status, text
		}
		<-time.After(5 * time.Millisecond) // the database is a real one
	}
}

const (
	stage = `CREATE TEMP TABLE "stage" ("id" VARCHAR(4), "nth" BIGINT, "data" SUPER)`
	keep  = `CREATE TABLE "kept" AS SELECT * FROM "stage"`
)

func load(address string) string {
	return `COPY "stage" ("id", "nth", "data") FROM '` + address + `' IAM_ROLE default FORMAT JSON 'auto' GZIP COMPUPDATE OFF STATUPDATE OFF`
}

func TestCopyReadsAllObjectsWithThePrefixAndRefusesWhatRedshiftWould(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, address string
		files         files
		wantRows      int
		want          string // of the error
	}{
		{"one", "s3://lake/a/1", files{"a/1": `{"id":"e1","nth":0,"data":{"x":[1.50]}}` + "\n" + `{"id":"e2","data":{},"more":1}`}, 2, ""},
		{"a prefix", "s3://lake/a/1", files{"a/1": `{"id":"e1"}`, "a/10": `{"id":"e2"}`, "a/2": `{"id":"e3"}`}, 2, ""},
		{"none", "s3://lake/a/1", files{}, 0, "The specified S3 prefix 'a/1' does not exist"},
		{"no bucket", "s3://nowhere/a", files{}, 0, "NoSuchBucket"},
		{"bytes, not characters", "s3://lake/a", files{"a": `{"id":"größ"}`}, 0, "Load into table 'stage' failed"},
		{"a null byte", "s3://lake/a", files{"a": `{"id":"a\u0000"}`}, 0, "Load into table 'stage' failed"},
		{"a null byte in SUPER", "s3://lake/a", files{"a": `{"id":"a","data":{"x":["\u0000"]}}`}, 0, "Load into table 'stage' failed"},
		{"no JSON", "s3://lake/a", files{"a": `{"id":`}, 0, "Load into table 'stage' failed"},
		{"a number for text", "s3://lake/a", files{"a": `{"id":1}`}, 0, "Load into table 'stage' failed"},
		{"more than 4 MiB", "s3://lake/a", files{"a": `{"id":"a","data":"` + strings.Repeat("x", maxRow) + `"}`}, 0, "Load into table 'stage' failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := New(t, Config{Postgres: testenv.Postgres(t), Buckets: c.files})
			status, text := s.outcome(t, stage, load(c.address), keep)
			if c.want != "" {
				if status != Failed || !strings.Contains(text, c.want) {
					t.Errorf("%s: %s, want %q", status, text, c.want)
				}
				if status, text := s.outcome(t, `SELECT 1 FROM "kept"`); status != Failed || !strings.Contains(text, `relation "kept" does not exist`) {
					t.Errorf("something is done: %s, %s", status, text)
				}
				return
			}
			if status != Finished {
				t.Fatalf("%s: %s", status, text)
			}
			if status, text := s.outcome(t, fmt.Sprintf(`SELECT 1 / (SELECT (count(*) = %d)::int FROM "kept")`, c.wantRows)); status != Finished {
				t.Errorf("not %d rows: %s", c.wantRows, text)
			}
		})
	}
}

func TestAPrimaryKeyIsNotEnforced(t *testing.T) {
	t.Parallel()
	s := New(t, Config{Postgres: testenv.Postgres(t), Buckets: files{}})
	status, text := s.outcome(t, "CREATE TABLE IF NOT EXISTS \"t\" (\n\t\"id\" VARCHAR(10) NOT NULL,\n\t\"data\" SUPER,\n\tPRIMARY KEY (\"id\")\n) DISTKEY (\"id\") SORTKEY (\"id\")",
		`INSERT INTO t VALUES ('a', '{}'), ('a', '{}')`)
	if status != Finished {
		t.Errorf("%s: %s", status, text)
	}
}

func TestCallsThatTheDataAPIWouldRefuseAreRefused(t *testing.T) {
	t.Parallel()
	s := New(t, Config{Postgres: testenv.Postgres(t), Buckets: files{}, MaxActive: 1})
	for name, change := range map[string]func(in map[string]any){
		"no statements":         func(in map[string]any) { in["Sqls"] = []string{} },
		"too many":              func(in map[string]any) { in["Sqls"] = make([]string, 41) },
		"a long one":            func(in map[string]any) { in["Sqls"] = []string{strings.Repeat("x", maxStatement+1)} },
		"a long token":          func(in map[string]any) { in["ClientToken"] = strings.Repeat("t", 65) },
		"no database":           func(in map[string]any) { delete(in, "Database") },
		"no cluster":            func(in map[string]any) { delete(in, "ClusterIdentifier") },
		"two":                   func(in map[string]any) { in["WorkgroupName"] = "w" },
		"two ways to log in":    func(in map[string]any) { in["DbUser"], in["SecretArn"] = "u", "s" },
		"a user of a workgroup": func(in map[string]any) { delete(in, "ClusterIdentifier"); in["WorkgroupName"], in["DbUser"] = "w", "u" },
	} {
		in := input("SELECT 1")
		change(in)
		if _, code := s.do(t, "BatchExecuteStatement", in); code != "ValidationException" {
			t.Errorf("%s: %q", name, code)
		}
	}
	for _, operation := range []string{"DescribeStatement", "CancelStatement"} {
		if _, code := s.do(t, operation, map[string]any{"Id": "x"}); code != "ResourceNotFoundException" {
			t.Errorf("%s: %q", operation, code)
		}
	}
	release := s.Hold()
	first, _ := s.do(t, "BatchExecuteStatement", input("SELECT 1"))
	if _, code := s.do(t, "BatchExecuteStatement", input("SELECT 1")); code != TooManyStatements.Code {
		t.Errorf("a second active batch: %q", code)
	}
	release()
	for {
		if said, _ := s.do(t, "DescribeStatement", map[string]any{"Id": first["Id"]}); said["Status"] == Finished {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	if _, code := s.do(t, "CancelStatement", map[string]any{"Id": first["Id"]}); code != "ValidationException" {
		t.Errorf("cancelled after its end: %q", code)
	}
	if all := s.Batches(Finished); len(all) != 1 {
		t.Errorf("%d batches are finished", len(all))
	}
}

func TestABatchThatRunsIsStopped(t *testing.T) {
	t.Parallel()
	s := New(t, Config{Postgres: testenv.Postgres(t), Buckets: files{}})
	out, _ := s.do(t, "BatchExecuteStatement", input("SELECT pg_sleep(60)"))
	for {
		said, _ := s.do(t, "DescribeStatement", map[string]any{"Id": out["Id"]})
		if said["Status"] == Started {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	if _, code := s.do(t, "CancelStatement", map[string]any{"Id": out["Id"]}); code != "" {
		t.Error(code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		if said, _ := s.do(t, "DescribeStatement", map[string]any{"Id": out["Id"]}); said["Status"] == Aborted {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("it goes on")
		}
	}
}
