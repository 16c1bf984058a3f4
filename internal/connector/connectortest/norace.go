//go:build !race

package connectortest

// ordealEvents is how many events an Ordeal has.
const ordealEvents = 10_000
