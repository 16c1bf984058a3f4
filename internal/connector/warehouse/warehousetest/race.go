//go:build race

package warehousetest

// events is fewer than without the race detector, which makes each cost many times
// as much: `make simulate` has them all.
const events = 2_500
