package router

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the .txt files of testdata anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n got:\n%s\nwant:\n%s", file, got, want)
	}
}

func documents(t testing.TB) map[string][]byte {
	files, err := filepath.Glob("testdata/rules/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test documents: %v", err)
	}
	docs := map[string][]byte{}
	for _, file := range files {
		doc, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		docs[strings.TrimSuffix(file, ".json")] = doc
	}
	return docs
}

func TestParseListsEveryFaultOfADocument(t *testing.T) {
	t.Parallel()
	for name, doc := range documents(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			table, err := Parse(doc)
			if !strings.HasPrefix(filepath.Base(name), "bad-") {
				if err != nil {
					t.Fatalf("Parse: %v", err)
				}
				return
			}
			if err == nil || table != nil {
				t.Fatalf("Parse = %v, %v; want faults and no table", table, err)
			}
			faults, ok := errors.AsType[Faults](err)
			if !ok || len(faults) == 0 {
				t.Fatalf("the error is a %T, want Faults", err)
			}
			golden(t, name+".txt", err.Error()+"\n")
		})
	}
}

func TestParseBoundsTheDocument(t *testing.T) {
	t.Parallel()
	const rule = `{"destination_name":"crm","enabled_events":[%s]}`
	names := func(n int) string {
		return strings.TrimSuffix(strings.Repeat(`"order_placed",`, n), ",")
	}
	for _, test := range []struct{ name, doc, want string }{
		{"size", strings.Repeat(" ", MaxDocument) + "[]", "1048578 bytes"},
		{"rules", "[" + strings.TrimSuffix(strings.Repeat(fmt.Sprintf(rule, `"a"`)+",", MaxRules+1), ",") + "]", "501 rules"},
		{"patterns", "[" + fmt.Sprintf(rule, names(MaxPatterns+1)) + "]", "10001 names and patterns"},
		{"length of an expression", `[{"destination_name":"crm","enabled_events":["*"],"when":"` +
			strings.Repeat("event.name == 'a' || ", 300) + `true"}]`, "has 6304 bytes"},
		{"length of all expressions", "[" + strings.TrimSuffix(strings.Repeat(`{"destination_name":"crm","enabled_events":["*"],"when":"true`+
			strings.Repeat(" ", 4000)+`"},`, 17), ",") + "]", "rules[16] crm /when: the expressions up to this one"},
		{"depth of an expression", `[{"destination_name":"crm","enabled_events":["*"],"when":"` +
			strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200) + `"}]`, "recursion limit"},
		{"nodes of an expression", `[{"destination_name":"crm","enabled_events":["*"],"when":"` +
			strings.Repeat("[1,1,1,1].all(x,", 40) + "true" + strings.Repeat(")", 40) + `"}]`, "/when: "},
		{"cost of an expression", `[{"destination_name":"crm","enabled_events":["*"],"when":"` +
			"[" + strings.Repeat("1,", 800) + "1].map(x, [" + strings.Repeat("1,", 900) + `1].map(y, x == y)) == []"}]`, "costs at least"},
		{"operations", `[{"destination_name":"crm","enabled_events":["*"],"transform":{"drop":[` +
			strings.TrimSuffix(strings.Repeat(`"/data/a",`, MaxOperations+1), ",") + `]}}]`, "101 operations"},
		{"value of set", `[{"destination_name":"crm","enabled_events":["*"],"transform":{"set":{"/data/a":"` +
			strings.Repeat("x", MaxSetValue) + `"}}}]`, "16386 bytes"},
		{"depth of a document", strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), "exceeded max depth"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(test.doc))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Parse = %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestParseBoundsTheFaultsItLists(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte("[" + strings.TrimSuffix(strings.Repeat("7,", 300), ",") + "]"))
	faults, _ := errors.AsType[Faults](err)
	if len(faults) != maxFaults+1 || !strings.Contains(err.Error(), "200 more faults") {
		t.Fatalf("%d faults: %v", len(faults), faults[len(faults)-1])
	}
}

func TestAFaultNamesRulePointerAndWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte(`[{"destination_name":"a","enabled_events":["*"]},
		{"sample":2,"enabled_events":["*"],"destination_name":"crm"}]`))
	faults, _ := errors.AsType[Faults](err)
	if len(faults) != 1 {
		t.Fatalf("faults: %v", faults)
	}
	f := faults[0]
	if f.Rule != 1 || f.Destination != "crm" || f.Pointer != "/sample" {
		t.Errorf("fault = %+v", f)
	}
	if want := "rules[1] crm /sample: is 2; want a number from 0 (no event) to 1 (all events)"; f.Error() != want {
		t.Errorf("got  %s\nwant %s", f.Error(), want)
	}
}

func TestRequireARNs(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		"destination-missing-arn": "rules[0] crm /destination_arn: is missing, and AWS needs it",
		"article":                 "rules[2] datawarehouse /destination_arn: \"arn:aws:lambda:region:account-id:",
		"every-member":            "rules[1]", // has both; nothing to say
	} {
		raw := documents(t)["testdata/rules/"+doc]
		table, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		err = table.RequireARNs()
		if doc == "every-member" {
			if err != nil {
				t.Errorf("%s: %v", doc, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
}
