package cost

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// member returns the value of a key of a mapping, nil if there is none.
func member(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// resources calls do with each resource, and whether there is one for each
// destination.
func resources(n *yaml.Node, perDestination bool, do func(kind string, properties *yaml.Node, perDestination bool)) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		if strings.HasPrefix(name, "Fn::ForEach::") {
			resources(value.Content[2], true, do)
			continue
		}
		do(member(value, "Type").Value, member(value, "Properties"), perDestination)
	}
}

// What the counts call deployed is what the template deploys.
func TestDeployedCountsAreThoseOfTheTemplate(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "deployments", "sluice.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	parameter := func(name string) string {
		n := member(member(member(doc.Content[0], "Parameters"), name), "Default")
		if n == nil {
			t.Fatalf("the template has no parameter %s with a default", name)
		}
		return n.Value
	}
	number := func(name string) float64 {
		x, err := strconv.ParseFloat(parameter(name), 64)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	addresses := 0.0
	if parameter("AssignPublicIp") == "ENABLED" {
		addresses = 1
	}
	want := map[string]float64{
		"gateway_use": number("CpuTarget") / 100, "gateway_task_vcpu": number("GatewayCpu") / 1024, "gateway_task_gb": number("GatewayMemory") / 1024,
		"gateway_tasks_min": number("MinTasks"), "gateway_task_addresses": addresses,
		"router_batch": number("BatchSize"), "router_memory_mb": number("RouterMemory"), "connector_memory_mb": number("ConnectorMemory"),
		"alarm_metrics": 0, "alarm_metrics_per_destination": 0, "dashboards": 0,
	}
	resources(member(doc.Content[0], "Resources"), false, func(kind string, properties *yaml.Node, perDestination bool) {
		switch kind {
		case "AWS::CloudWatch::Dashboard":
			want["dashboards"]++
		case "AWS::CloudWatch::Alarm":
			// An alarm on a sum of metrics is billed for each of them.
			metrics := 1.0
			if list := member(properties, "Metrics"); list != nil {
				metrics = 0
				for _, m := range list.Content {
					if member(m, "MetricStat") != nil {
						metrics++
					}
				}
			}
			if perDestination {
				want["alarm_metrics_per_destination"] += metrics
			} else {
				want["alarm_metrics"] += metrics
			}
		}
	})
	_, counts := embedded(t)
	for name, c := range fields[Count](&counts) {
		expected, known := want[name]
		switch {
		case known && (*c.Value != expected || c.Kind != deployed):
			t.Errorf("%s is %v (%s) in counts.json, and the template has %v", name, *c.Value, c.Kind, expected)
		case !known && c.Kind == deployed && !byCode[name]:
			t.Errorf("%s is called deployed, and nothing proves it", name)
		}
	}
}

// byCode are set by the programs and not by the template.
var byCode = map[string]bool{"metrics": true, "metrics_per_destination": true, "rules_interval_seconds": true}
