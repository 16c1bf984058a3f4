package router

import (
	"bytes"
	"os"
	"testing"
)

func TestExplainSaysWhyInPlainWords(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("testdata/explain/rules.json")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("testdata/explain/event.json")
	if err != nil {
		t.Fatal(err)
	}
	explanations, err := parse(t, string(doc)).Explain(raw)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := WriteExplanations(&b, explanations); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/explain/explained.txt", b.String())
}

func TestExplainCountsNothing(t *testing.T) {
	t.Parallel()
	table := parse(t, everything)
	if _, err := table.Explain(stored("a", `{}`, "")); err != nil {
		t.Fatal(err)
	}
	for _, s := range table.Stats() {
		if s.Matched+s.WhenFalse+s.WhenFailed+s.SampledOut+s.Failed != 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestExplainRefusesWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "{}", "[]", "nothing", `{"name":7}`} {
		if x, err := parse(t, everything).Explain([]byte(raw)); err == nil {
			t.Errorf("%q: %+v", raw, x)
		}
	}
}

func TestNothingSentIsSaid(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := WriteExplanations(&b, nil); err != nil || b.String() != "No rule sends this event: it is counted as filtered.\n" {
		t.Errorf("%q %v", b.String(), err)
	}
}

func TestCheckWarnsOfWhatIsRarelyMeant(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("testdata/check/rules.json")
	if err != nil {
		t.Fatal(err)
	}
	report := Check(doc, []string{"crm", "warehouse", "unused"})
	if !report.OK() {
		t.Errorf("faults: %v", report.Faults)
	}
	var b bytes.Buffer
	if n, err := report.WriteTo(&b); err != nil || int(n) != b.Len() {
		t.Fatalf("WriteTo = %d, %v", n, err)
	}
	golden(t, "testdata/check/report.txt", b.String())
}

func TestCheckListsFaultsAndWarningsTogether(t *testing.T) {
	t.Parallel()
	report := Check([]byte(`[{"destination_name":"crm","enabled_events":["*"],"sample":0},{"enabled_events":7}]`), nil)
	if report.OK() || len(report.Faults) != 2 || len(report.Warnings) != 1 || report.Rules != 2 || report.Destinations != 1 {
		t.Errorf("%+v", report)
	}
}

func TestAGoodDocumentHasNothingToReport(t *testing.T) {
	t.Parallel()
	report := Check([]byte(`[{"destination_name":"crm","enabled_events":["order_*","signed_up"],"disabled_events":["order_draft"]},
		{"destination_name":"crm","enabled_events":["*"]}]`), []string{"crm"})
	if len(report.Faults)+len(report.Warnings) != 0 {
		t.Errorf("%+v", report)
	}
}
