package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector/hubspot"
	"github.com/eventsluice/sluice/internal/connector/mailchimp"
	"github.com/eventsluice/sluice/internal/simulator"
)

// simulatedPrefix and the vendor's name make the name of a destination that leads
// to a simulated vendor.
const simulatedPrefix = "simulated-"

// simulated are the vendors that a process simulates for itself, for people who
// try it out without an account: each listens on a port of this machine, and has
// a destination that gets every event it can make use of.
type simulated []simulatedVendor

type simulatedVendor struct {
	vendor *simulator.Vendor
	server *server
}

// simulate opens the vendors. They serve when start has been called.
func simulate(kinds []string) (all simulated, err error) {
	for _, kind := range kinds {
		vendor, err := simulator.New(kind)
		if err != nil {
			return all, err
		}
		server, err := listen("127.0.0.1:0", &http.Server{Handler: vendor, ReadHeaderTimeout: 10 * time.Second}, time.Second)
		if err != nil {
			return all, fmt.Errorf("simulated %s: %w", kind, err)
		}
		all = append(all, simulatedVendor{vendor, server})
	}
	return all, nil
}

// close ends the listening of vendors that were not started.
func (all simulated) close() {
	for _, v := range all {
		_ = v.server.listener.Close() // one that has been served from is closed already
	}
}

func (all simulated) start(stages *stages) {
	for _, v := range all {
		stages.start("simulated "+v.vendor.Kind(), v.server.Run)
	}
}

// destinations returns a destinations document with one more for each vendor.
func (all simulated) destinations(doc []byte) []byte {
	return all.extend(doc, func(v simulatedVendor) any {
		return map[string]any{
			"destination_name": simulatedPrefix + v.vendor.Kind(), "connector": v.vendor.Kind(),
			"settings": v.vendor.Settings(v.server.url()), "retry": map[string]string{"base_delay": "100ms", "max_delay": "5s"},
		}
	})
}

// knownUsers is the condition of vendors that know people by their address: what
// visitors do who have not said who they are is not for them.
const knownUsers = "has(event.data.email) || has(event.context.traits) && has(event.context.traits.email)"

// rules returns a rules document with one more for each vendor.
func (all simulated) rules(doc []byte) []byte {
	return all.extend(doc, func(v simulatedVendor) any {
		rule := map[string]any{"destination_name": simulatedPrefix + v.vendor.Kind(), "enabled_events": []string{"*"}}
		if kind := v.vendor.Kind(); kind == hubspot.Kind || kind == mailchimp.Kind {
			rule["when"] = knownUsers
		}
		return rule
	})
}

// extend adds an entry for each vendor to a JSON array. What is no array is left
// to whoever reads it.
func (all simulated) extend(doc []byte, entry func(simulatedVendor) any) []byte {
	body, isArray := bytes.CutSuffix(bytes.TrimSpace(doc), []byte("]"))
	if len(all) == 0 || !isArray || !json.Valid(doc) {
		return doc
	}
	out := slices.Clone(bytes.TrimRight(body, " \t\r\n"))
	for _, v := range all {
		if !bytes.HasSuffix(out, []byte("[")) {
			out = append(out, ',')
		}
		text, err := json.Marshal(entry(v))
		if err != nil {
			panic(err) // it is made of strings, and of JSON
		}
		out = append(out, text...)
	}
	return append(out, ']')
}

// greet says where the vendors are.
func (all simulated) greet(out io.Writer) {
	if len(all) == 0 {
		return
	}
	width := 0
	for _, v := range all {
		width = max(width, len(v.vendor.Kind()))
	}
	fmt.Fprintf(out, "Simulated vendors, which get what is sent from now on; open one to see what has arrived:\n\n")
	for _, v := range all {
		fmt.Fprintf(out, "  %s%s  %s/\n", v.vendor.Kind(), strings.Repeat(" ", width-len(v.vendor.Kind())), v.server.url())
	}
	fmt.Fprintln(out)
}
