package deployments

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/testenv"
)

// account is AWS for a test, and a machine that has credentials for it.
type account struct {
	t   *testing.T
	env []string
}

// newAccount starts the emulator.
func newAccount(t *testing.T) *account {
	t.Helper()
	cmd := python(t, "testdata/aws.py")
	var log bytes.Buffer
	cmd.Stderr = &log
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text := log.String()
			t.Logf("the end of the emulator's log:\n%s", text[max(0, len(text)-5000):])
		}
	})
	endpoint, err := bufio.NewReader(pipe).ReadString('\n')
	if err != nil {
		t.Fatalf("the emulator did not start: %v\n%s", err, &log)
	}
	// A virtual environment that was moved has scripts that do not start; its
	// Python does.
	bin := t.TempDir()
	script := "#!/bin/sh\nexec '" + testenv.Python(t, "testdata/requirements.txt") + "' -m awscli \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "aws"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return &account{t, append(clean(t),
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "AWS_ENDPOINT_URL="+strings.TrimSpace(endpoint),
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=us-east-1",
	)}
}

// clean returns what a build needs of the environment, and nothing of AWS.
func clean(t *testing.T) []string {
	t.Helper()
	home := t.TempDir()
	env := []string{"HOME=" + home, "AWS_CONFIG_FILE=" + filepath.Join(home, "none"), "AWS_EC2_METADATA_DISABLED=true"}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOSUMDB", "GOTOOLCHAIN"} {
		value := strings.TrimSpace(string(output(t, exec.CommandContext(t.Context(), "go", "env", name))))
		env = append(env, name+"="+value)
	}
	return env
}

// deploy runs the script and returns what it said.
func (a *account) deploy(env ...string) (string, error) {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), "./deploy")
	cmd.Env = append(slices.Clone(a.env), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// aws asks the emulator and fills in an answer.
func (a *account) aws(into any, args ...string) {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), "aws", args...)
	cmd.Env = append(slices.Clone(a.env), "AWS_DEFAULT_OUTPUT=json", "AWS_DEFAULT_REGION=us-east-1")
	for _, v := range cmd.Env {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			cmd.Path = filepath.Join(strings.Split(path, string(os.PathListSeparator))[0], "aws")
			cmd.Err = nil
		}
	}
	if err := json.Unmarshal(output(a.t, cmd), into); err != nil {
		a.t.Fatalf("aws %s: %v", strings.Join(args, " "), err)
	}
}

// object returns an object of a bucket.
func (a *account) object(bucket, key string) string {
	a.t.Helper()
	file := filepath.Join(a.t.TempDir(), "object")
	var answer struct{}
	a.aws(&answer, "s3api", "get-object", "--bucket", bucket, "--key", key, file)
	text, err := os.ReadFile(file)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}

func TestDeployToAnEmulator(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("deploy is a script of bash")
	}
	a := newAccount(t)
	const image = "IMAGE=123456789012.dkr.ecr.us-east-1.amazonaws.com/sluice-artifacts@sha256:" +
		"0000000000000000000000000000000000000000000000000000000000000000"
	var certificate struct{ CertificateArn string }
	a.aws(&certificate, "acm", "request-certificate", "--domain-name", "events.example")
	settings := []string{"STACK=sluice-prod", image, "DESTINATIONS=deployments/testdata/destinations.json", "PARAMETERS=CertificateArn=" + certificate.CertificateArn}

	said, err := a.deploy(settings...)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, want := range []string{"crm: rate has no effect on AWS", "GatewayUrl\thttps://", "ConnectorcrmOrdered\tarn:aws:sqs:us-east-1:123456789012:sluice-prod-crm.fifo", "send an event:\ncurl "} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}

	// Every resource of the template was created.
	var listed struct {
		StackResourceSummaries []struct{ LogicalResourceId, PhysicalResourceId, ResourceType string }
	}
	a.aws(&listed, "cloudformation", "list-stack-resources", "--stack-name", "sluice-prod")
	created := map[string]string{}
	for _, r := range listed.StackResourceSummaries {
		created[r.LogicalResourceId] = r.PhysicalResourceId
	}
	for name, r := range expand(t, "crm,mail").Resources {
		if created[name] == "" {
			t.Errorf("%s, a %s, was not created", name, r.Type)
		}
	}

	// What the functions got.
	type configuration struct {
		Version, Runtime string
		Architectures    []string
		DeadLetterConfig struct{ TargetArn string }
		Environment      struct{ Variables map[string]string }
	}
	var crm configuration
	a.aws(&crm, "lambda", "get-function-configuration", "--function-name", "sluice-prod-crm:prod")
	for name, want := range map[string]string{
		"CONNECTOR": "webhook", "DESTINATION": "crm", "RETRY_MAX_ATTEMPTS": "20", "RETRY_BASE_DELAY": "2s", "RETRY_MAX_DELAY": "5m", "AMBIGUOUS": "dead",
		"SETTINGS":    `{"url":"https://crm.example/hook","secret":"secretsmanager:sluice/prod/crm/webhook#secret"}`,
		"RETRY_QUEUE": "arn:aws:sqs:us-east-1:123456789012:" + queueName(created["ConnectorQueuecrm"]), "CLAIM_BUCKET": created["LettersBucket"],
		"DEAD_LETTER_QUEUE": "arn:aws:sqs:us-east-1:123456789012:" + queueName(created["ConnectorDeadLetterscrm"]),
	} {
		if got := crm.Environment.Variables[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if crm.Version != "1" || crm.Runtime != "provided.al2023" || !slices.Equal(crm.Architectures, []string{"arm64"}) {
		t.Errorf("crm: %+v", crm)
	}
	var mail configuration
	a.aws(&mail, "lambda", "get-function-configuration", "--function-name", "sluice-prod-mail:prod")
	if v := mail.Environment.Variables; v["AMBIGUOUS"] != "dead" || v["RETRY_MAX_ATTEMPTS"] != "350" {
		t.Errorf("mail: %v", v)
	}

	// The first documents: rules that route everything, and the key that the
	// line with curl has.
	rules := created["RulesBucket"]
	var first []map[string]any
	if err := json.Unmarshal([]byte(a.object(rules, "rules.json")), &first); err != nil {
		t.Fatal(err)
	}
	if len(first) != 2 || first[0]["destination_arn"] != "arn:aws:lambda:us-east-1:123456789012:function:sluice-prod-crm:prod" || first[0]["enabled"] != true {
		t.Errorf("rules.json: %v", first)
	}
	key := regexp.MustCompile(`Bearer (wk_\S+)"`).FindStringSubmatch(said)
	if key == nil {
		t.Fatalf("there is no key in\n%s", said)
	}
	sum := sha256.Sum256([]byte(key[1]))
	if keys := a.object(rules, "keys.json"); !strings.Contains(keys, hex.EncodeToString(sum[:])) {
		t.Errorf("keys.json does not have the key that was shown: %s", keys)
	}

	// The same again changes nothing, and the documents are the operator's.
	edited := filepath.Join(t.TempDir(), "rules.json")
	if err := os.WriteFile(edited, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	var put struct{}
	a.aws(&put, "s3api", "put-object", "--bucket", rules, "--key", "rules.json", "--body", edited)
	before := said
	if said, err = a.deploy(settings...); err != nil || !strings.Contains(said, "No changes to deploy. Stack sluice-prod is up to date") {
		t.Errorf("the second time: %v\n%s\nthe first time:\n%s", err, said, before)
	}
	if got := a.object(rules, "rules.json"); got != "[]" {
		t.Errorf("rules.json was overwritten: %s", got)
	}

	// Other settings are a new release: new versions, to which the aliases move.
	changed := filepath.Join(t.TempDir(), "destinations.json")
	document, err := os.ReadFile("testdata/destinations.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(changed, bytes.ReplaceAll(document, []byte("https://mail.example/events"), []byte("https://mail.example/v2")), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err = a.deploy("STACK=sluice-prod", image, "DESTINATIONS="+changed); err != nil {
		t.Fatalf("with other settings: %v\n%s", err, said)
	}
	a.aws(&mail, "lambda", "get-function-configuration", "--function-name", "sluice-prod-mail:prod")
	if mail.Version != "2" || mail.Environment.Variables["SETTINGS"] != `{"url":"https://mail.example/v2"}` {
		t.Errorf("the alias has version %s with %s", mail.Version, mail.Environment.Variables["SETTINGS"])
	}
	a.aws(&mail, "lambda", "get-function-configuration", "--function-name", "sluice-prod-mail:1")
	if got := mail.Environment.Variables["SETTINGS"]; got != `{"url":"https://mail.example/events"}` {
		t.Errorf("version 1, to go back to, has %s", got)
	}

	if said, err = a.deploy("STACK=sluice-prod", image, "ENVIRONMENT=dev"); err == nil || !strings.Contains(said, "stack sluice-prod is of environment prod, not dev") {
		t.Errorf("into another environment: %v\n%s", err, said)
	}
}

// queueName returns the name in the URL of a queue.
func queueName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

func TestDeploySaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("deploy is a script of bash")
	}
	a := newAccount(t)
	nowhere := slices.DeleteFunc(slices.Clone(a.env), func(v string) bool { return strings.HasPrefix(v, "AWS_REGION=") })
	stranger := append(slices.DeleteFunc(slices.Clone(a.env), func(v string) bool { return strings.HasPrefix(v, "AWS_ENDPOINT_URL=") }), "AWS_ENDPOINT_URL=http://127.0.0.1:1")
	bare := slices.DeleteFunc(slices.Clone(a.env), func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	bad := filepath.Join(t.TempDir(), "destinations.json")
	if err := os.WriteFile(bad, []byte(`[{"destination_name":"my-crm","connector":"sqlite","settings":[]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	withoutAWS := t.TempDir() // what deploy needs until it looks for it
	for _, program := range []string{"bash", "dirname"} {
		path, err := exec.LookPath(program)
		if err == nil {
			err = os.Symlink(path, filepath.Join(withoutAWS, program))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		env, more []string
		want      []string
	}{
		"no stack":         {a.env, nil, []string{"name the stack: make deploy STACK=sluice-prod"}},
		"a bad stack":      {a.env, []string{"STACK=Sluice_Prod"}, []string{"STACK=Sluice_Prod: right would be"}},
		"no region":        {nowhere, []string{"STACK=s"}, []string{"no region: set AWS_REGION"}},
		"no credentials":   {stranger, []string{"STACK=s", "AWS_MAX_ATTEMPTS=1"}, []string{"no credentials that AWS accepts"}},
		"no AWS CLI":       {append(slices.Clone(bare), "PATH="+withoutAWS), []string{"STACK=s"}, []string{"the AWS CLI is not installed"}},
		"bad destinations": {a.env, []string{"STACK=s", "DESTINATIONS=" + bad}, []string{`destination_name "my-crm"`, "sqlite writes to a file", "settings is not a JSON object"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one := &account{t, c.env}
			said, err := one.deploy(c.more...)
			if err == nil {
				t.Errorf("it went on:\n%s", said)
			}
			for _, want := range c.want {
				if !strings.Contains(said, want) {
					t.Errorf("it does not say %q:\n%s", want, said)
				}
			}
		})
	}
}
