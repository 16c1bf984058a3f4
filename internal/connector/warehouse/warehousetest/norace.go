//go:build !race

package warehousetest

// events is how many events an Ordeal has.
const events = 10_000
