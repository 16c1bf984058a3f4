package cost

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// edit returns the document with a member at a path changed: replaced by a
// value, or taken out if there is none. Path elements are names of objects.
func edit(t *testing.T, doc []byte, path, value string) []byte {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal(doc, &object); err != nil {
		t.Fatal(err)
	}
	name, rest, deeper := strings.Cut(path, ".")
	switch {
	case deeper:
		object[name] = edit(t, object[name], rest, value)
	case value == "":
		delete(object, name)
	default:
		object[name] = json.RawMessage(value)
	}
	out, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// paths returns the members of an object and of the objects in it.
func paths(t *testing.T, doc []byte) []string {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal(doc, &object); err != nil {
		t.Fatal(err)
	}
	var all []string
	for name, value := range object {
		all = append(all, name)
		if strings.HasPrefix(strings.TrimSpace(string(value)), "{") {
			for _, inner := range paths(t, value) {
				all = append(all, name+"."+inner)
			}
		}
	}
	return all
}

func bothFiles() map[string]struct {
	doc  []byte
	read func([]byte) error
} {
	return map[string]struct {
		doc  []byte
		read func([]byte) error
	}{
		"prices": {embeddedPrices, func(doc []byte) error { _, err := ReadPrices(strings.NewReader(string(doc))); return err }},
		"counts": {embeddedCounts, func(doc []byte) error { _, err := ReadCounts(strings.NewReader(string(doc))); return err }},
	}
}

func TestEveryMissingUnknownOrEmptyMemberIsNamed(t *testing.T) {
	t.Parallel()
	for file, r := range bothFiles() {
		if err := r.read(r.doc); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all := paths(t, r.doc)
		if len(all) < 100 {
			t.Fatalf("%s: only %d members", file, len(all))
		}
		for _, path := range all {
			// Prices are all read alike, and so are counts.
			if name, _, deeper := strings.Cut(path, "."); deeper && name != "firehose_gb" && name != "answer_bytes" && name != "producer" {
				continue
			}
			names := func(err error) bool {
				_, member, deeper := strings.Cut(path, ".")
				// A measured count without its date is named by the count.
				return err != nil && (strings.Contains(err.Error(), path+": ") ||
					deeper && (member == "date" || member == "command") && strings.Contains(err.Error(), strings.TrimSuffix(path, "."+member)+": "))
			}
			if optional := file == "counts" && (strings.HasSuffix(path, ".command") || strings.HasSuffix(path, ".date")); !optional {
				if err := r.read(edit(t, r.doc, path, "")); !names(err) || !strings.Contains(err.Error(), "is missing") {
					t.Errorf("%s without %s: %v", file, path, err)
				}
			}
			other := "true"
			if strings.HasSuffix(path, ".verified") {
				other = "7"
			}
			if err := r.read(edit(t, r.doc, path, other)); !names(err) {
				t.Errorf("%s, %s of another kind: %v", file, path, err)
			}
			if err := r.read(edit(t, r.doc, path+"_", `7`)); err == nil || !strings.Contains(err.Error(), path+"_: unknown member") {
				t.Errorf("%s with %s_: %v", file, path, err)
			}
		}
	}
}

func TestEveryFaultOfAFileIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	doc := edit(t, embeddedPrices, "firehose_gb.value", "-1")
	doc = edit(t, doc, "lambda_request.date", `"26 November"`)
	doc = edit(t, doc, "kinesis_shard_hour.per", `0`)
	doc = edit(t, doc, "sqs_fifo_request.source", `""`)
	doc = edit(t, doc, "currency", `"EUR"`)
	_, err := parsePrices(doc)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"firehose_gb.value: is -1", "lambda_request.date: is", "kinesis_shard_hour.per: is 0", "sqs_fifo_request.source: must not be empty", "currency: is"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not say %q:\n%v", want, err)
		}
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != 5 {
		t.Errorf("%d faults:\n%v", got, err)
	}
}

func TestFilesThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ doc, want string }{
		"empty":                {"", "not JSON"},
		"cut short":            {string(embeddedCounts[:200]), "not JSON"},
		"two documents":        {string(embeddedCounts) + "{}", "not JSON"},
		"an array":             {"[]", "the document: must be an object"},
		"given twice":          {strings.Replace(string(embeddedCounts), "{", `{"metrics":{"value":1,"unit":"u","kind":"deployed","how":"h"},`, 1), "metrics: given twice"},
		"too large":            {strings.Repeat(" ", 1<<20) + string(embeddedCounts), "more than"},
		"measured, no command": {string(edit(t, embeddedCounts, "answer_bytes.command", "")), "answer_bytes: is measured, and does not say"},
		"measured, no date":    {string(edit(t, embeddedCounts, "answer_bytes.date", "")), "answer_bytes: is measured, and does not say"},
		"measured, no value":   {string(edit(t, embeddedCounts, "answer_bytes.value", "null")), "answer_bytes: has no value"},
		"guessed":              {string(edit(t, embeddedCounts, "metrics.kind", `"guessed"`)), "metrics: kind is \"guessed\""},
		"negative":             {string(edit(t, embeddedCounts, "metrics.value", "-1")), "metrics.value: is -1"},
		"divides by zero":      {string(edit(t, embeddedCounts, "router_batch.value", "0")), "router_batch: value is 0; the least is 0.001"},
		"must be known": {string(edit(t, embeddedCounts, "router_batch",
			`{"value":null,"unit":"records","kind":"not measured","how":"h","command":"c"}`)), "router_batch: must be known"},
		"not measured, with a value": {string(edit(t, embeddedCounts, "router_log_bytes",
			`{"value":5,"unit":"bytes","kind":"not measured","how":"h","command":"c"}`)), "router_log_bytes: is not measured"},
		"too many":                 {string(edit(t, embeddedCounts, "metrics.value", "1e13")), "metrics.value: is 1e+13"},
		"events that shrink":       {strings.Replace(string(embeddedCounts), `"event_bytes": 500`, `"event_bytes": 5000`, 1), "producer.rates[0]: event_bytes is 619.2, less"},
		"rates in disorder":        {strings.Replace(string(embeddedCounts), `"rate": 100,`, `"rate": 5000,`, 1), "rates must ascend"},
		"no rates":                 {string(edit(t, embeddedCounts, "producer.rates", "[]")), "producer.rates: is []"},
		"more records than events": {strings.Replace(string(embeddedCounts), `"records": 1000000`, `"records": 1000001`, 1), "alone.records: is 1000001"},
		"member of a rate":         {strings.Replace(string(embeddedCounts), `"shards": 10`, `"shard": 10`, 1), "producer.rates[2].shards: is missing"},
		"null in a rate":           {strings.Replace(string(embeddedCounts), `"shards": 10`, `"shards": null`, 1), "producer.rates[2].shards: is null"},
	} {
		if _, err := ReadCounts(strings.NewReader(c.doc)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Every price of the build says whether it was verified, and those that were
// not are found in a report that uses them.
func TestPricesThatAreNotVerifiedAreNamed(t *testing.T) {
	t.Parallel()
	prices, counts := embedded(t)
	r, err := Make(Default(), prices, counts)
	if err != nil {
		t.Fatal(err)
	}
	for member, p := range fields[Price](&prices) {
		if named := slices.Contains(r.NotVerified, member); named && *p.Verified {
			t.Errorf("%s is verified, and named", member)
		}
	}
	f := false
	prices.Shard.Verified = &f
	if r, err = Make(Default(), prices, counts); err != nil || !slices.Contains(r.NotVerified, "kinesis_shard_hour") {
		t.Errorf("not verified: %v, %v", r.NotVerified, err)
	}
}

// usable fails if numbers that were accepted give a report that is none.
func usable(t *testing.T, prices Prices, counts Counts) {
	t.Helper()
	for _, size := range []int{1, 500, 1_000_000} {
		config := Default()
		config.EventBytes, config.Delivery = size, Ordered
		r, err := Make(config, prices, counts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("numbers that are accepted give no numbers: %v", err)
		}
		for _, s := range r.Systems {
			for _, e := range s.Estimates {
				if e.USD < 0 {
					t.Errorf("%s costs %v", s.Name, e.USD)
				}
			}
		}
	}
}

func FuzzReadCounts(f *testing.F) {
	f.Add(embeddedCounts)
	f.Add([]byte(`{"producer":{"rates":[null,{}]},"metrics":{"value":1e999}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		counts, err := parseCounts(doc)
		if err != nil {
			return
		}
		prices, err := EmbeddedPrices()
		if err != nil {
			t.Fatal(err)
		}
		usable(t, prices, counts)
	})
}

func FuzzReadPrices(f *testing.F) {
	f.Add(embeddedPrices)
	f.Add([]byte(`{"currency":"USD","kinesis_shard_hour":{"value":1,"per":1,"verified":null}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		prices, err := parsePrices(doc)
		if err != nil {
			return
		}
		counts, err := EmbeddedCounts()
		if err != nil {
			t.Fatal(err)
		}
		usable(t, prices, counts)
	})
}
