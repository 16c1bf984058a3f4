package app

import (
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/router"
	"github.com/eventsluice/sluice/internal/simulator"
)

func TestEverySimulatedVendorGetsADestinationAndARule(t *testing.T) {
	t.Parallel()
	all, err := simulate(simulator.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	defer all.close()
	for _, doc := range []string{`[]`, " [ ] \n", firstDestinations} {
		destinations, err := ParseDestinations(all.destinations([]byte(doc)), t.TempDir())
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		for _, kind := range simulator.Kinds() {
			if !slices.ContainsFunc(destinations, func(d Destination) bool { return d.Name == "simulated-"+kind && d.Connector == kind }) {
				t.Errorf("no destination leads to the simulated %s", kind)
			}
		}
	}
	table, err := router.Parse(all.rules([]byte(firstRules)))
	if err != nil {
		t.Fatal(err)
	}
	if got := table.Destinations(); len(got) != len(simulator.Kinds())+1 {
		t.Errorf("rules for %v", got)
	}
}

func TestADocumentThatIsNoArrayIsLeftToItsReader(t *testing.T) {
	t.Parallel()
	all, err := simulate([]string{"mixpanel"})
	if err != nil {
		t.Fatal(err)
	}
	defer all.close()
	for _, doc := range []string{``, `{}`, `[1,2`, `1]`, `[{"destination_name":"a",]`} {
		if got := all.destinations([]byte(doc)); string(got) != doc {
			t.Errorf("%q became %q", doc, got)
		}
	}
}

func TestVendorsToSimulateAreNamedOrRefused(t *testing.T) {
	t.Parallel()
	var list []string
	parse := anyOf(&list, "mixpanel", "hubspot", "ga4")
	if err := parse("hubspot, mixpanel,hubspot"); err != nil || !slices.Equal(list, []string{"hubspot", "mixpanel"}) {
		t.Errorf("%v, %v", list, err)
	}
	if err := parse(""); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	for _, bad := range []string{"fax", "mixpanel,,ga4", ","} {
		if err := parse(bad); err == nil || !strings.Contains(err.Error(), "mixpanel, hubspot, ga4") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The vendors that are connected by name have a simulation of the same name: an
// operator can try out whatever needs an account.
func TestASimulatedVendorIsAConnector(t *testing.T) {
	t.Parallel()
	for _, kind := range simulator.Kinds() {
		vendor, err := simulator.New(kind)
		if err != nil {
			t.Fatal(err)
		}
		spec, ok := connectors()[kind]
		if !ok {
			t.Errorf("%s is simulated and is no connector", kind)
			continue
		}
		d := Destination{Name: "x", Connector: spec.Kind, Settings: vendor.Settings("http://127.0.0.1:1")}
		conn, err := d.connect(t.TempDir(), quietLogger())
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if err := conn.Close(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
