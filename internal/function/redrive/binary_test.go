package redrive_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/function/redrive"
)

// The built binary, run as Lambda runs it.
func TestTheBuiltFunctionAnswers(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds the binary")
	}
	bootstrap := filepath.Join(t.TempDir(), "bootstrap")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "lambda.norpc", "-o", bootstrap, "../../../cmd/redrive").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := &rig{T: t, aws: cloudtest.New(t, cloudtest.Config{
		Queues: []sqstest.Queue{{Name: dead}, {Name: feed}}, Buckets: []string{backups},
	})}
	err := r.aws.Lambda.CreateFunction(lambdatest.Function{
		Name: "redrive", Bootstrap: bootstrap, Timeout: time.Minute, Env: append(r.aws.Env(), "BACKUP_BUCKET="+backups),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.bury(0, 120)
	answer, err := r.aws.Lambda.Invoke("redrive", []byte(`{"queue":"`+dead+`","action":"replay"}`))
	if err != nil || answer.FunctionError != "" {
		t.Fatalf("%s, %v", answer.Payload, err)
	}
	var a redrive.Answer
	if err := json.Unmarshal(answer.Payload, &a); err != nil || !a.Done || a.Progress.Done != 120 {
		t.Errorf("%s: %v", answer.Payload, err)
	}
	if sent, left := r.ids(feed), r.ids(dead); len(sent) != 120 || len(left) != 0 || len(r.backedUp(a)) != 120 {
		t.Errorf("%d sent, %d left, %d backed up", len(sent), len(left), len(r.backedUp(a)))
	}
	answer, err = r.aws.Lambda.Invoke("redrive", []byte(`{"queue":"`+dead+`","action":"empty"}`))
	if err != nil || answer.FunctionError == "" || !strings.Contains(string(answer.Payload), "count, list, backup, replay, purge") {
		t.Errorf("%s, %v", answer.Payload, err)
	}
}
