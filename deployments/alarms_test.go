package deployments

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// metrics are those that an alarm may watch: namespace, name, and the names of
// its dimensions. Source: Lambda developer guide, "Types of metrics for Lambda
// functions"; Kinesis, SQS and Firehose developer guides and the guide of
// Application Load Balancers, "CloudWatch metrics" (read 2026-11); Sluice is
// ours, in internal/function and internal/app.
var metrics = []string{
	"AWS/Lambda Errors FunctionName",
	"AWS/Lambda Throttles FunctionName",
	"AWS/Lambda IteratorAge FunctionName",
	"AWS/Lambda AsyncEventAge FunctionName",
	"AWS/Lambda AsyncEventsDropped FunctionName",
	"AWS/Lambda DeadLetterErrors FunctionName",
	"AWS/Lambda DestinationDeliveryFailures FunctionName",
	"AWS/Lambda DroppedEventCount EventSourceMappingUUID",
	"AWS/Kinesis PutRecords.TotalRecords StreamName",
	"AWS/Kinesis PutRecords.ThrottledRecords StreamName",
	"AWS/Kinesis PutRecords.FailedRecords StreamName",
	"AWS/SQS ApproximateNumberOfMessagesVisible QueueName",
	"AWS/SQS ApproximateAgeOfOldestMessage QueueName",
	"AWS/Firehose DeliveryToS3.DataFreshness DeliveryStreamName",
	"AWS/ApplicationELB RequestCount LoadBalancer",
	"AWS/ApplicationELB HTTPCode_Target_5XX_Count LoadBalancer",
	"AWS/ApplicationELB HTTPCode_ELB_5XX_Count LoadBalancer",
	"AWS/ApplicationELB UnHealthyHostCount LoadBalancer TargetGroup",
	"AWS/ApplicationELB HealthyHostCount LoadBalancer TargetGroup",
	"Sluice DeadLetters Program",
	"Sluice Failed Program",
	"Sluice Residual Program",
}

// watched returns what an alarm watches, a line for each metric, with the values
// of its dimensions.
func watched(alarm map[string]any) (lines []string, values []string) {
	stats := []any{alarm}
	if alarm["Metrics"] != nil {
		stats = nil
		for _, m := range each(alarm["Metrics"]) {
			if metric := at(m, "MetricStat", "Metric"); metric != nil {
				stats = append(stats, metric)
			}
		}
	}
	for _, m := range stats {
		line := text(at(m, "Namespace")) + " " + text(at(m, "MetricName"))
		for _, d := range each(at(m, "Dimensions")) {
			line += " " + text(at(d, "Name"))
			values = append(values, text(at(d, "Value")))
		}
		lines = append(lines, line)
	}
	return lines, values
}

func TestAlarmsWatchMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	made := expand(t, "crm,mail")
	names := made.of("AWS::CloudWatch::Alarm")
	if len(names) < 20 {
		t.Fatalf("only %d alarms", len(names))
	}
	for _, name := range names {
		lines, values := watched(made.Resources[name].Properties)
		for _, line := range lines {
			if !slices.Contains(metrics, line) {
				t.Errorf("%s watches %s", name, line)
			}
		}
		for _, value := range values {
			resource, _, _ := strings.Cut(value, ".")
			if value != "AWS::StackName-gateway" && made.Resources[resource] == nil {
				t.Errorf("%s watches %s, which is not of the template", name, value)
			}
		}
		for _, m := range each(made.Resources[name].Properties["Metrics"]) {
			// An expression with a name that no metric has is never in alarm.
			expression := text(at(m, "Expression"))
			for _, id := range regexp.MustCompile(`\b[a-z]\w*`).FindAllString(expression, -1) {
				if !slices.ContainsFunc(each(made.Resources[name].Properties["Metrics"]), func(other any) bool { return text(at(other, "Id")) == id }) {
					t.Errorf("%s: %s has no %s", name, expression, id)
				}
			}
		}
		if got := text(at(made.Resources[name].Properties, "AlarmActions")); !strings.Contains(got, "AlarmTopicArn") {
			t.Errorf("%s tells nobody: %s", name, got)
		}
	}
}

func TestAllThatCanLoseEventsHasAnAlarm(t *testing.T) {
	t.Parallel()
	made := expand(t, "crm,mail")
	var all []string
	for _, name := range made.of("AWS::CloudWatch::Alarm") {
		lines, values := watched(made.Resources[name].Properties)
		for i, line := range lines {
			if len(lines) == len(values) {
				all = append(all, line+" "+values[i])
			}
		}
	}
	has := func(line string) {
		if !slices.Contains(all, line) {
			t.Errorf("no alarm on %s", line)
		}
	}
	for _, f := range []string{"RouterFunction", "ConnectorFunctioncrm", "ConnectorFunctionmail"} {
		for _, metric := range []string{"Errors", "AsyncEventsDropped", "DeadLetterErrors", "DestinationDeliveryFailures"} {
			has("AWS/Lambda " + metric + " FunctionName " + f)
		}
		has("Sluice Residual Program " + f)
	}
	for _, queue := range made.of("AWS::SQS::Queue") {
		if strings.Contains(queue, "DeadLetters") {
			has("AWS/SQS ApproximateNumberOfMessagesVisible QueueName " + queue + ".QueueName")
		} else {
			has("AWS/SQS ApproximateAgeOfOldestMessage QueueName " + queue + ".QueueName")
		}
	}
	for _, queue := range []string{"RouterDeadLetters", "ConnectorDeadLetterscrm", "ConnectorDeadLettersmail"} {
		has("AWS/SQS ApproximateAgeOfOldestMessage QueueName " + queue + ".QueueName")
	}
	has("AWS/Lambda IteratorAge FunctionName RouterFunction")
	has("AWS/Lambda DroppedEventCount EventSourceMappingUUID RouterSource")
	has("AWS/Kinesis PutRecords.ThrottledRecords StreamName Stream")
	has("AWS/Firehose DeliveryToS3.DataFreshness DeliveryStreamName Archive")
	has("Sluice Residual Program AWS::StackName-gateway")
}

// heading finds the pages of the runbook.
var heading = regexp.MustCompile(`(?m)^## (.+)$`)

func TestEachAlarmHasItsPage(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	at := heading.FindAllSubmatchIndex(raw, -1)
	for i, m := range at {
		end := len(raw)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		// As GitHub makes the name of a heading.
		anchor := strings.ReplaceAll(strings.ToLower(string(raw[m[2]:m[3]])), " ", "-")
		pages[anchor] = string(raw[m[1]:end])
	}
	const link = "https://github.com/eventsluice/sluice/blob/main/docs/runbook.md#"
	made := expand(t, "crm,mail")
	linked := map[string]bool{}
	for _, name := range made.of("AWS::CloudWatch::Alarm") {
		description := text(made.Resources[name].Properties["AlarmDescription"])
		_, anchor, ok := strings.Cut(description, link)
		page := pages[anchor]
		if !ok || page == "" {
			t.Errorf("%s has no page: %s", name, description)
			continue
		}
		linked[anchor] = true
		for _, part := range []string{"**Means**", "**At risk**", "**Look**", "**Do**"} {
			if !strings.Contains(page, part) {
				t.Errorf("the page %q does not say %s", anchor, part)
			}
		}
		// The page names the alarm, as its readers see it.
		suffix := strings.TrimPrefix(text(made.Resources[name].Properties["AlarmName"]), "AWS::StackName-")
		for _, destination := range []string{"crm", "mail"} {
			suffix = strings.Replace(suffix, destination+"-", "DESTINATION-", 1)
		}
		if !strings.Contains(page, fmt.Sprintf("`STACK-%s`", suffix)) {
			t.Errorf("the page %q does not name `STACK-%s`", anchor, suffix)
		}
	}
	for anchor, page := range pages {
		if strings.Contains(page, "**Means**") && !linked[anchor] {
			t.Errorf("the page %q is of no alarm", anchor)
		}
	}
}
