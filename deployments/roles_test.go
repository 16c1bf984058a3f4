package deployments

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// permission is one line of testdata/permissions.json: what a role may do, who
// does it and why.
type permission struct {
	Action   string `json:"action"`
	Resource string `json:"resource"`
	// By is "function" if our code makes the call, or the service that makes it
	// with this role.
	By  string `json:"by"`
	Why string `json:"why"`
}

func (p permission) String() string { return p.Action + " on " + p.Resource }

// permissions returns what the roles of a template allow, by role: its own
// policies, and those that are attached to it.
func permissions(t *testing.T, made *template) map[string][]string {
	t.Helper()
	allowed := map[string][]string{}
	add := func(role string, policy any) {
		for _, statement := range each(at(policy, "Statement")) {
			if text(at(statement, "Effect")) != "Allow" {
				t.Errorf("%s: a statement that does not allow: %s", role, text(statement))
			}
			for _, member := range []string{"NotAction", "NotResource", "Principal"} {
				if at(statement, member) != nil {
					t.Errorf("%s: a statement with %s: %s", role, member, text(statement))
				}
			}
			for _, action := range each(at(statement, "Action")) {
				for _, on := range each(at(statement, "Resource")) {
					allowed[role] = append(allowed[role], text(action)+" on "+text(on))
				}
			}
		}
	}
	for _, role := range made.of("AWS::IAM::Role") {
		allowed[role] = []string{}
		for _, policy := range each(made.Resources[role].Properties["Policies"]) {
			if policy != nil {
				add(role, at(policy, "PolicyDocument"))
			}
		}
		for _, managed := range each(made.Resources[role].Properties["ManagedPolicyArns"]) {
			if choice := each(at(managed, "Fn::If")); len(choice) == 3 {
				managed = choice[1] // what the operator adds
			}
			if managed != nil {
				allowed[role] = append(allowed[role], "managed on "+text(managed))
			}
		}
	}
	for _, policy := range made.of("AWS::IAM::Policy") {
		for _, role := range each(made.Resources[policy].Properties["Roles"]) {
			add(text(role), made.Resources[policy].Properties["PolicyDocument"])
		}
	}
	return allowed
}

func TestEachRoleAllowsWhatTheTableSaysAndNoMore(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/permissions.json")
	if err != nil {
		t.Fatal(err)
	}
	var table map[string][]permission
	if err := json.Unmarshal(raw, &table); err != nil {
		t.Fatal(err)
	}
	allowed := permissions(t, expand(t, "crm,mail"))
	for role, lines := range allowed {
		// What one connector may do is what each may, with its own name.
		key := role
		for _, name := range []string{"crm", "mail"} {
			if strings.HasPrefix(role, "ConnectorRole") && strings.HasSuffix(role, name) {
				key = "ConnectorRole"
				for i := range lines {
					lines[i] = strings.ReplaceAll(lines[i], name, "NAME")
				}
			}
		}
		var want []string
		for _, p := range table[key] {
			if p.Why == "" || p.By == "" {
				t.Errorf("%s: %s: nobody says by whom and why", key, p)
			}
			for _, name := range []string{"crm", "mail"} {
				if key != "ConnectorRole" && strings.Contains(p.Resource, "NAME") {
					want = append(want, strings.ReplaceAll(p.String(), "NAME", name))
				}
			}
			if key == "ConnectorRole" || !strings.Contains(p.Resource, "NAME") {
				want = append(want, p.String())
			}
		}
		slices.Sort(lines)
		slices.Sort(want)
		for _, line := range lines {
			if !slices.Contains(want, line) {
				t.Errorf("%s allows what is not in the table: %s", role, line)
			}
		}
		for _, line := range want {
			if !slices.Contains(lines, line) {
				t.Errorf("%s does not allow: %s", role, line)
			}
		}
		if repeated := len(lines) - len(slices.Compact(slices.Clone(lines))); repeated > 0 {
			t.Errorf("%s says %d things twice", role, repeated)
		}
	}
	for key := range table {
		if key != "ConnectorRole" && allowed[key] == nil {
			t.Errorf("the table has a role that is not in the template: %s", key)
		}
	}
}

func TestRolesNameWhatTheyAllow(t *testing.T) {
	t.Parallel()
	for role, lines := range permissions(t, expand(t, "crm,mail")) {
		for _, line := range lines {
			action, on, _ := strings.Cut(line, " on ")
			if strings.Contains(action, "*") {
				t.Errorf("%s: %s", role, line)
			}
			// Signing in to a registry knows no resources.
			if on == "*" && action != "ecr:GetAuthorizationToken" {
				t.Errorf("%s: %s", role, line)
			}
		}
	}
}

func TestOnlyTheServiceThatNeedsARoleTakesIt(t *testing.T) {
	t.Parallel()
	made := expand(t, "crm,mail")
	for _, role := range made.of("AWS::IAM::Role") {
		want := "lambda.amazonaws.com"
		switch role {
		case "GatewayRole", "GatewayStartRole":
			want = "ecs-tasks.amazonaws.com"
		case "ArchiveRole":
			want = "firehose.amazonaws.com"
		case "ShiftRole":
			want = "codedeploy.amazonaws.com"
		}
		var who []string
		for _, statement := range each(at(made.Resources[role].Properties["AssumeRolePolicyDocument"], "Statement")) {
			who = append(who, fmt.Sprint(text(at(statement, "Action")), " by ", text(at(statement, "Principal", "Service"))))
		}
		if !slices.Equal(who, []string{"sts:AssumeRole by " + want}) {
			t.Errorf("%s: %v, want %s", role, who, want)
		}
	}
}
