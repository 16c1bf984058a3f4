package deployments

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// lint returns what cfn-lint finds, with the rules for two regions that differ in
// what they have. There are no exceptions.
func lint(t *testing.T, files ...string) string {
	t.Helper()
	args := []string{"-c", "from cfnlint.runner import main; main()", "-r", "us-east-1", "eu-central-1", "-t"}
	out, err := python(t, append(args, files...)...).CombinedOutput()
	if err == nil && len(out) > 0 || err != nil && !strings.Contains(string(out), ".yaml:") {
		t.Fatalf("cfn-lint: %v\n%s", err, out)
	}
	return string(out)
}

func TestTheLinterFindsNothing(t *testing.T) {
	t.Parallel()
	if found := lint(t, "artifacts.yaml", "sluice.yaml"); found != "" {
		t.Error(found)
	}
}

func TestALinterThatFindsNothingWouldFindThis(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "sluice.yaml")
	for name, change := range map[string][2]string{
		"a runtime that is no more":      {"Runtime: provided.al2023", "Runtime: provided"},
		"a response type that is none":   {"[ReportBatchItemFailures]", "[ReportBatchItemFailure]"},
		"a reference to nothing, looped": {`Ref: !Sub "ConnectorAlias${Name}"`, `Ref: !Sub "ConnectorAliases${Name}"`},
	} {
		changed := strings.Replace(string(text), change[0], change[1], 1)
		if changed == string(text) {
			t.Fatalf("%s: there is no %s", name, change[0])
		}
		if err := os.WriteFile(broken, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if lint(t, broken) == "" {
			t.Errorf("%s: not found", name)
		}
	}
}

func TestAStackHasRoomForTheMostDestinations(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 10 { // of which pack/destinations.go takes no more
		names = append(names, fmt.Sprintf("destinationwithlongname%c", 'a'+i))
	}
	made := expand(t, strings.Join(names, ","))
	raw, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	// Source of the limits: CloudFormation user guide, quotas (read 2026-11).
	for what, n := range map[string][2]int{
		"resources":          {len(made.Resources), 500},
		"dynamic references": {strings.Count(string(raw), "{{resolve:"), 60},
		"outputs":            {len(made.Outputs), 200},
		"parameters":         {len(made.Parameters), 200},
		"bytes":              {len(raw), 1_000_000},
	} {
		t.Logf("%d %s of %d", n[0], what, n[1])
		if n[0] > n[1] {
			t.Errorf("%d %s, more than %d", n[0], what, n[1])
		}
	}
	// All inline policies of a role together. Source: IAM user guide, IAM and
	// STS quotas (read 2026-11).
	for role, lines := range permissions(t, made) {
		if n := len(strings.Join(lines, "")); n > 10_240 {
			t.Errorf("%s: about %d characters of policies, more than 10240", role, n)
		}
	}
}

func TestEveryFunctionIsDeployedTheSameWay(t *testing.T) {
	t.Parallel()
	made := expand(t, "crm,mail")
	functions := made.of("AWS::Lambda::Function")
	if want := []string{"ConnectorFunctioncrm", "ConnectorFunctionmail", "RedriveFunction", "RouterFunction"}; !slices.Equal(functions, want) {
		t.Fatalf("functions %v, want %v", functions, want)
	}
	for _, name := range functions {
		stem := strings.Replace(name, "Function", "%s", 1)
		same := func(kind string) *resource { return made.Resources[fmt.Sprintf(stem, kind)] }
		f := made.Resources[name].Properties
		for member, want := range map[string]string{
			"Runtime": "provided.al2023", "Handler": "bootstrap", "Architectures": "arm64",
			"Role":             fmt.Sprintf(stem, "Role") + ".Arn",
			"DeadLetterConfig": fmt.Sprintf(`{"TargetArn":{"Fn::GetAtt":[%q,"Arn"]}}`, fmt.Sprintf(stem, "DeadLetters")),
			"LoggingConfig":    fmt.Sprintf(`{"LogGroup":{"Ref":%q}}`, fmt.Sprintf(stem, "Logs")),
		} {
			if got := text(f[member]); got != want {
				t.Errorf("%s: %s is %s, want %s", name, member, got, want)
			}
		}
		if got := text(same("DeadLetters").Properties["MessageRetentionPeriod"]); got != "1.2096e+06" {
			t.Errorf("%s: dead letters are kept for %s s, want 14 days", name, got)
		}
		if same("DeadLetters").DeletionPolicy != "RetainExceptOnCreate" {
			t.Errorf("%s: its dead letters go with the stack", name)
		}
		logs := same("Logs").Properties
		if got := text(logs["LogGroupName"]); got != "/aws/lambda/"+text(f["FunctionName"]) || text(logs["RetentionInDays"]) != "LogDays" {
			t.Errorf("%s: log group %s, kept %s", name, got, text(logs["RetentionInDays"]))
		}
		// A release is a version: of its number the function and the version know.
		if got := text(at(f, "Environment", "Variables", "SLUICE_RELEASE")); got != "Release" {
			t.Errorf("%s: SLUICE_RELEASE is %q", name, got)
		}
		version := same("Version")
		if got := text(version.Properties["Description"]); got != "release Release" || version.UpdateReplacePolicy != "Retain" {
			t.Errorf("%s: version %q, replaced with %v", name, got, version.UpdateReplacePolicy)
		}
		alias := same("Alias")
		if text(alias.Properties["Name"]) != "Environment" || text(alias.Properties["FunctionVersion"]) != fmt.Sprintf(stem, "Version")+".Version" {
			t.Errorf("%s: alias %v", name, alias.Properties)
		}
		if name != "RedriveFunction" { // which nobody is in the middle of
			shift := at(alias.UpdatePolicy, "CodeDeployLambdaAliasUpdate")
			if got := text(at(shift, "DeploymentGroupName")); got != fmt.Sprintf(stem, "Shift") {
				t.Errorf("%s: its alias is shifted by %q", name, got)
			}
			alarms := at(same("Shift").Properties, "AlarmConfiguration", "Alarms")
			if got := text(at(each(alarms)[0], "Name")); got != fmt.Sprintf(stem, "Failing") {
				t.Errorf("%s: a shift ends with %q", name, got)
			}
		}
		invokes := same("Invokes").Properties
		if got := text(invokes["FunctionName"]); got != name {
			t.Errorf("%s: asynchronous invocations of %q", name, got)
		}
	}
	for _, source := range made.of("AWS::Lambda::EventSourceMapping") {
		s := made.Resources[source].Properties
		if got := text(s["FunctionName"]); !strings.Contains(got, "Alias") {
			t.Errorf("%s invokes %s, which is no alias", source, got)
		}
		if got := text(s["FunctionResponseTypes"]); got != "ReportBatchItemFailures" {
			t.Errorf("%s: response types %q", source, got)
		}
	}
}

// TestAMessageComesBackAfterSixTimeouts: AWS advises so for a queue that feeds a
// function. Source: Lambda developer guide, "Using Lambda with Amazon SQS" (read
// 2026-11).
func TestAMessageComesBackAfterSixTimeouts(t *testing.T) {
	t.Parallel()
	for _, queue := range []string{"ConnectorQueuecrm", "ConnectorOrderedcrm"} {
		want := `{"Fn::FindInMap":["Visibility",{"Ref":"ConnectorTimeout"},"Seconds"]}`
		if got := text(expand(t, "crm").Resources[queue].Properties["VisibilityTimeout"]); got != want {
			t.Errorf("%s: %s, want %s", queue, got, want)
		}
	}
	raw := output(t, python(t, "testdata/expand.py", "sluice.yaml"))
	var made struct {
		Mappings struct {
			Visibility map[string]struct{ Seconds int }
		}
		Parameters struct {
			ConnectorTimeout struct{ AllowedValues []string }
		}
	}
	if err := json.Unmarshal(raw, &made); err != nil {
		t.Fatal(err)
	}
	if len(made.Parameters.ConnectorTimeout.AllowedValues) != len(made.Mappings.Visibility) {
		t.Error("a timeout without a visibility, or the other way round")
	}
	for timeout, visibility := range made.Mappings.Visibility {
		if n, err := strconv.Atoi(timeout); err != nil || visibility.Seconds < 6*n {
			t.Errorf("timeout %s s, visibility %d s", timeout, visibility.Seconds)
		}
	}
}

// variable finds the names of variables in the source of a program.
var variable = regexp.MustCompile(`"([A-Z][A-Z0-9_]*[A-Z0-9])"`)

// source returns the texts that look like names of variables in the files of a
// folder, tests left out.
func source(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %d files", dir, err, len(files))
	}
	names := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range variable.FindAllStringSubmatch(string(raw), -1) {
			names[m[1]] = true
		}
	}
	return names
}

func TestFunctionsGetTheVariablesThatTheyRead(t *testing.T) {
	t.Parallel()
	made := expand(t, "crm")
	for name, c := range map[string]struct {
		dir string
		// defaults are variables whose default is right.
		defaults []string
	}{
		"RouterFunction":       {"../internal/function/router", []string{"RULES_INTERVAL"}},
		"ConnectorFunctioncrm": {"../internal/function/connector", []string{"AWS_LAMBDA_FUNCTION_NAME", "CONCURRENCY"}},
		"RedriveFunction":      {"../internal/function/redrive", nil},
	} {
		read := source(t, c.dir)
		given, _ := at(made.Resources[name].Properties, "Environment", "Variables").(map[string]any)
		for v := range given {
			if !read[v] && v != "SLUICE_RELEASE" {
				t.Errorf("%s: nothing reads %s", name, v)
			}
		}
		for v := range read {
			if given[v] == nil && !slices.Contains(c.defaults, v) {
				t.Errorf("%s: reads %s, which nobody sets", name, v)
			}
		}
	}
}

func TestTheGatewayGetsSettingsThatItKnows(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../internal/app/settings.go")
	if err != nil {
		t.Fatal(err)
	}
	container := each(expand(t, "crm").Resources["GatewayTask"].Properties["ContainerDefinitions"])[0]
	set := map[string]string{}
	for _, v := range each(at(container, "Environment")) {
		name := text(at(v, "Name"))
		set[name] = text(at(v, "Value"))
		flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "SLUICE_"), "_", "-"))
		if !strings.Contains(string(raw), fmt.Sprintf("%q", flag)) {
			t.Errorf("the gateway has no setting %s", name)
		}
	}
	for name, want := range map[string]string{
		"SLUICE_STREAM": "kinesis://Stream", "SLUICE_KEYS": "s3://RulesBucket/keys.json", "SLUICE_PROTOCOLS": "GatewayProtocols",
		// A 2xx must be true, and the disk of a task goes with it.
		"SLUICE_SPOOL":      "off",
		"SLUICE_ADMIN_ADDR": "127.0.0.1:8081",
	} {
		if set[name] != want {
			t.Errorf("%s is %q, want %q", name, set[name], want)
		}
	}
	stop := at(container, "StopTimeout")
	if set["SLUICE_STOP_TIMEOUT"] != "30s" || text(stop) != "60" {
		t.Errorf("a stop may take %s, and is killed after %s s", set["SLUICE_STOP_TIMEOUT"], text(stop))
	}
}

func TestBucketsAreClosed(t *testing.T) {
	t.Parallel()
	made := expand(t, "crm")
	buckets := made.of("AWS::S3::Bucket")
	if len(buckets) != 3 {
		t.Fatalf("buckets %v", buckets)
	}
	for _, name := range buckets {
		b := made.Resources[name]
		for _, member := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			if at(b.Properties, "PublicAccessBlockConfiguration", member) != true {
				t.Errorf("%s: %s is not true", name, member)
			}
		}
		if b.Properties["BucketEncryption"] == nil || b.DeletionPolicy != "RetainExceptOnCreate" || b.UpdateReplacePolicy != "Retain" {
			t.Errorf("%s: encryption %v, deleted %v, replaced %v", name, b.Properties["BucketEncryption"], b.DeletionPolicy, b.UpdateReplacePolicy)
		}
		policy := made.Resources[name+"Policy"]
		if policy == nil {
			t.Fatalf("%s has no policy", name)
		}
		statement := each(at(policy.Properties["PolicyDocument"], "Statement"))[0]
		if text(policy.Properties["Bucket"]) != name || text(at(statement, "Effect")) != "Deny" ||
			text(at(statement, "Condition")) != `{"Bool":{"aws:SecureTransport":"false"}}` ||
			text(at(statement, "Resource")) != name+".Arn, "+name+".Arn/*" {
			t.Errorf("%s: %s", name, text(statement))
		}
	}
	if got := text(at(made.Resources["RulesBucket"].Properties, "VersioningConfiguration", "Status")); got != "Enabled" {
		t.Errorf("versions of the rules: %q", got)
	}
}

func TestTheRouterReadsTheStreamAsItShould(t *testing.T) {
	t.Parallel()
	s := expand(t, "crm").Resources["RouterSource"].Properties
	for member, want := range map[string]string{
		"StartingPosition": "TRIM_HORIZON", "BatchSize": "BatchSize", "BisectBatchOnFunctionError": "true",
		"MaximumRetryAttempts": "RouterRetries", "MaximumRecordAgeInSeconds": "RecordAgeSeconds",
		"DestinationConfig": `{"OnFailure":{"Destination":{"Fn::GetAtt":["LettersBucket","Arn"]}}}`,
		"MetricsConfig":     `{"Metrics":["EventCount"]}`, // RouterGaveUp watches them
	} {
		if got := text(s[member]); got != want {
			t.Errorf("%s is %s, want %s", member, got, want)
		}
	}
}
