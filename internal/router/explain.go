package router

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Explanation is what one rule says of an event, and why.
type Explanation struct {
	Rule
	// Matches says that the rule by itself wants the event.
	Matches bool
	// Sends says that the event goes to the destination by this rule: it is
	// the first of the destination's rules that matches.
	Sends bool
	// Reason is in plain words: the first reason why the rule does not match,
	// what made it match, or why it does not send.
	Reason string
	// Out is what would be sent, if Sends.
	Out []byte
	// Err is the failure that would make the event a dead letter, if the rule
	// matches and cannot do its transform.
	Err error
}

// Explain says of each rule, in order, what it makes of an event. It agrees
// with Route.Apply and counts nothing. The error says that the event cannot be
// read.
func (t *Table) Explain(raw []byte) ([]Explanation, error) {
	var d reading
	if err := d.parse(raw); err != nil {
		return nil, err
	}
	explanations := make([]Explanation, len(t.rules))
	winners := map[string]string{}
	for i, r := range t.rules {
		x := &explanations[i]
		x.Rule = r.describe()
		var err error
		if x.Matches, x.Reason, err = r.explain(raw, &d); err != nil {
			return nil, err
		}
		if !x.Matches {
			continue
		}
		if winner, taken := winners[r.destination]; taken {
			x.Reason = winner + " matches first: the event is sent once"
			continue
		}
		winners[r.destination] = r.name
		x.Out, x.Err = r.output(raw, &d)
		x.Sends = x.Err == nil
	}
	return explanations, nil
}

// explain returns whether a rule matches, and the reason.
func (r *rule) explain(raw []byte, d *reading) (matches bool, reason string, err error) {
	name := d.event.Name
	pattern, selected := r.names.match(name)
	excluding, excluded := r.except.match(name)
	switch {
	case !r.enabled:
		return false, "the rule is disabled", nil
	case len(r.enabledEvents) == 0:
		return false, "enabled_events is empty: the rule wants nothing", nil
	case !selected:
		return false, fmt.Sprintf("name %s is not in enabled_events", quote(name)), nil
	case excluded:
		return false, fmt.Sprintf("name %s is excluded by disabled_events: %s", quote(name), quote(excluding)), nil
	}
	v, err := r.decide(raw, d)
	if err != nil {
		return false, "", err
	}
	switch v.outcome {
	case sampledOut:
		return false, fmt.Sprintf("sampled out: partition key %s is at %.4f, the sample ends at %v",
			quote(d.event.PartitionKey()), v.at, r.sample), nil
	case whenFalse:
		return false, "when is false" + r.when.values(d), nil
	case whenFailed:
		return false, "when failed: " + plain(v.failure) + r.when.values(d), nil
	}
	reasons := []string{fmt.Sprintf("name %s is in enabled_events: %s", quote(name), quote(pattern))}
	if r.sample < 1 {
		reasons = append(reasons, fmt.Sprintf("in the sample: %.4f of %v", v.at, r.sample))
	}
	if r.when != nil {
		reasons = append(reasons, "when is true"+r.when.values(d))
	}
	return true, strings.Join(reasons, "; "), nil
}

// values shows what an expression reads of an event.
func (x *expression) values(d *reading) string {
	if len(x.paths) == 0 {
		return ""
	}
	list := make([]string, len(x.paths))
	for i, p := range x.paths {
		list[i] = p.source + " is " + p.value(d)
	}
	return " (" + strings.Join(list, ", ") + ")"
}

func (p path) value(d *reading) string {
	at := place{field: p.tokens[0]}
	for _, t := range p.tokens[1:] {
		at.path = append(at.path, newToken(t))
	}
	value, ok := at.get(&d.event)
	if !ok {
		return "absent"
	}
	return clip(string(value), 80)
}

// plain gives the message of an evaluation that failed, as an operator reads
// it.
func plain(err error) string {
	message := err.Error()
	if strings.HasPrefix(message, "no such overload") {
		return message + ": the types do not fit; numbers of events are doubles, write 2.0 for 2 in arithmetic"
	}
	return message
}

// WriteExplanations writes explanations for people, a few lines per rule.
func WriteExplanations(w io.Writer, explanations []Explanation) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	sent := 0
	for _, x := range explanations {
		word := "no"
		switch {
		case x.Sends:
			word = "sends"
			sent++
		case x.Err != nil:
			word = "fails"
		case x.Matches:
			word = "after"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", word, x.Name, x.Reason)
		if x.Err != nil {
			fmt.Fprintf(tw, "\t\tdead letter: %v\n", x.Err)
		}
		if x.Sends {
			fmt.Fprintf(tw, "\t\t→ %s\n", x.Out)
		}
	}
	if sent == 0 {
		fmt.Fprintln(tw, "No rule sends this event: it is counted as filtered.")
	}
	return tw.Flush()
}
