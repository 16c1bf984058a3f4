package httpcall

import "github.com/eventsluice/sluice/internal/connector"

// Vendor is embedded by connectors that call one API: it has those methods of
// connector.Connector that say what the connector is, and Close.
type Vendor struct {
	// Name is the connector's name in the destinations file; Mapping changes when
	// the mapping of an event to a call changes.
	Name, Mapping string
	Allows        connector.Limits
	API           *API
}

// Kind implements connector.Connector.
func (v *Vendor) Kind() string { return v.Name }

// Version implements connector.Connector.
func (v *Vendor) Version() string { return v.Mapping }

// Limits implements connector.Connector.
func (v *Vendor) Limits() connector.Limits { return v.Allows }

// Close implements connector.Connector.
func (v *Vendor) Close() error {
	v.API.Close()
	return nil
}
