package router

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Report is what Check found.
type Report struct {
	// Rules and Destinations count what the document has, as far as it could
	// be read.
	Rules        int
	Destinations int
	// Faults keep the document from being used.
	Faults []Fault
	// Warnings do not, but what they name is rarely meant.
	Warnings []Fault
}

// OK reports whether the document can be used.
func (r Report) OK() bool { return len(r.Faults) == 0 }

// Check examines a rules document. destinations are the names of those that
// are configured; nil if that is not known.
func Check(doc []byte, destinations []string) Report {
	c := &collector{rule: -1}
	rules := parseRules(c, doc)
	report := Report{Rules: len(rules)}
	named := map[string]bool{}
	for _, r := range rules {
		named[r.destination] = true
	}
	delete(named, "")
	report.Destinations = len(named)
	if err, ok := c.err().(Faults); ok {
		report.Faults = err
	}
	w := &collector{}
	for i, r := range rules {
		w.rule, w.destination = r.index, r.destination
		warnRule(w, r)
		if destinations != nil && r.destination != "" && !slices.Contains(destinations, r.destination) {
			w.add("/destination_name", "no destination of this name is configured", "configured: "+join(destinations))
		}
		warnEarlier(w, r, rules[:i])
	}
	w.rule, w.destination = -1, ""
	if len(report.Faults) == 0 {
		for _, d := range destinations {
			if !named[d] {
				w.addf("", "add a rule, or nothing is delivered to it", "no rule names the destination %s", quote(d))
			}
		}
	}
	if err, ok := w.err().(Faults); ok {
		report.Warnings = err
	}
	return report
}

// warnRule warns of what one rule says by itself.
func warnRule(c *collector, r *rule) {
	if !r.enabled {
		c.add("/enabled", "the rule is disabled", "")
	}
	if r.placeholder {
		c.add("/destination_arn", quote(r.arn)+" still has the words of an example in it", "fill in region and account for AWS")
	}
	if r.sample == 0 {
		c.add("/sample", "is 0: the rule wants nothing", "")
	}
	if r.enabledEvents != nil && len(r.enabledEvents) == 0 {
		c.add("/enabled_events", "is empty: the rule wants nothing", "")
	}
	for i, p := range r.enabledEvents {
		at := fmt.Sprintf("/enabled_events/%d", i)
		if by, ok := coveredBy(p, r.disabledEvents); ok {
			c.add(at, quote(p)+" can never match: disabled_events excludes it by "+quote(by), "remove one of the two")
		} else if by, ok := coveredBy(p, slices.Concat(r.enabledEvents[:i], r.enabledEvents[i+1:])); ok && (by != p || slices.Contains(r.enabledEvents[:i], p)) {
			c.add(at, quote(p)+" is covered by "+quote(by)+" already", "remove it")
		}
	}
	for i, p := range r.disabledEvents {
		if !slices.ContainsFunc(r.enabledEvents, func(e string) bool { return overlap(p, e) }) {
			c.add(fmt.Sprintf("/disabled_events/%d", i), quote(p)+" excludes nothing that enabled_events selects", "remove it")
		}
	}
}

// warnEarlier warns of rules before this one that leave nothing to it or
// contradict it.
func warnEarlier(c *collector, r *rule, earlier []*rule) {
	if !r.enabled {
		return
	}
	unreached, by := 0, ""
	for _, p := range r.enabledEvents {
		for _, e := range earlier {
			if e.destination == r.destination && e.takes(p) {
				unreached++
				by = e.name
				break
			}
		}
	}
	if unreached > 0 && unreached == len(r.enabledEvents) {
		c.add("", "the rule is never reached: "+by+" takes the events before it", "put the narrower rule first")
	}
	for _, e := range earlier {
		if e.destination == r.destination && e.arn != "" && r.arn != "" && e.arn != r.arn {
			c.add("/destination_arn", "is another than that of "+e.name, "a destination has one connector; check that this is meant")
			return
		}
	}
}

// takes reports whether a rule wants every event that a pattern selects.
func (r *rule) takes(pattern string) bool {
	if !r.enabled || !r.unconditional() {
		return false
	}
	_, ok := coveredBy(pattern, r.enabledEvents)
	return ok && !slices.ContainsFunc(r.disabledEvents, func(d string) bool { return overlap(d, pattern) })
}

// coveredBy returns the pattern of a list that selects all that p selects.
func coveredBy(p string, list []string) (string, bool) {
	for _, q := range list {
		if prefix, ok := strings.CutSuffix(q, "*"); q == p || ok && strings.HasPrefix(strings.TrimSuffix(p, "*"), prefix) {
			return q, true
		}
	}
	return "", false
}

// overlap reports whether two patterns select a name both.
func overlap(p, q string) bool {
	_, pq := coveredBy(p, []string{q})
	_, qp := coveredBy(q, []string{p})
	return pq || qp
}

func join(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// WriteTo writes the report for people: one line per fault and warning, and a
// last line that sums up.
func (r Report) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "fault    %s\n", f.Error())
	}
	for _, f := range r.Warnings {
		fmt.Fprintf(&b, "warning  %s\n", f.Error())
	}
	verdict := "can be used"
	if !r.OK() {
		verdict = "cannot be used"
	}
	fmt.Fprintf(&b, "%s for %s: %s, %s; the document %s\n",
		count(r.Rules, "rule"), count(r.Destinations, "destination"),
		count(len(r.Faults), "fault"), count(len(r.Warnings), "warning"), verdict)
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
