//go:build race

package connectortest

// ordealEvents is fewer than without the race detector, which makes each cost
// twenty times as much: `make simulate` has them all.
const ordealEvents = 2_500
