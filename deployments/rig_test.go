// Package deployments holds the templates of CloudFormation and what deploys
// them. Its tests look at the templates as CloudFormation would, and deploy them
// to an emulator of AWS.
package deployments

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eventsluice/sluice/internal/testenv"
)

// python returns a command of the tests' Python.
func python(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), testenv.Python(t, "testdata/requirements.txt"), args...)
}

// output runs a command and returns what it wrote to standard output.
func output(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, &stderr)
	}
	return out
}

// template is a template whose loops are gone.
type template struct {
	Parameters map[string]struct {
		Type    string
		Default any
	}
	Conditions map[string]any
	Resources  map[string]*resource
	Outputs    map[string]struct{ Value any }
}

type resource struct {
	Type                                               string
	Condition, DependsOn, DeletionPolicy, UpdatePolicy any
	UpdateReplacePolicy                                any
	Properties                                         map[string]any
}

var (
	expanding sync.Mutex
	expanded  = map[string][]byte{}
)

// expand returns sluice.yaml as it is for these destinations, comma-separated.
func expand(t *testing.T, destinations string) *template {
	t.Helper()
	expanding.Lock()
	defer expanding.Unlock()
	if expanded[destinations] == nil {
		expanded[destinations] = output(t, python(t, "testdata/expand.py", "sluice.yaml", "Destinations="+destinations))
	}
	var made template
	if err := json.Unmarshal(expanded[destinations], &made); err != nil {
		t.Fatal(err)
	}
	return &made
}

// of returns the names of the resources of a type, sorted.
func (t *template) of(kind string) []string {
	var names []string
	for name, r := range t.Resources {
		if r.Type == kind {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// text writes a value as somebody would who reads the template: Stream.Arn for a
// GetAtt, Stream for a Ref, and texts put together.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []any:
		var parts []string
		for _, one := range v {
			parts = append(parts, text(one))
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		if ref, ok := v["Ref"]; ok {
			return text(ref)
		}
		if att, ok := v["Fn::GetAtt"].([]any); ok {
			return text(att[0]) + "." + text(att[1])
		}
		if sub, ok := v["Fn::Sub"].(string); ok {
			return strings.NewReplacer("${", "", "}", "").Replace(sub)
		}
		if join, ok := v["Fn::Join"].([]any); ok {
			var parts []string
			for _, one := range join[1].([]any) {
				parts = append(parts, text(one))
			}
			return strings.Join(parts, text(join[0]))
		}
		raw, _ := json.Marshal(v) // of what came as JSON
		return string(raw)
	}
	return fmt.Sprint(v)
}

// at follows members and returns what is there, nil if there is none.
func at(v any, members ...string) any {
	for _, m := range members {
		object, _ := v.(map[string]any)
		v = object[m]
	}
	return v
}

// each returns the elements of a list, or the value itself if it is none.
func each(v any) []any {
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}
