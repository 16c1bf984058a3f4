//go:build !unix

package connectortest

import (
	"testing"
	"time"
)

var began = time.Now()

// cpuTime is the clock, where the processors do not say.
func cpuTime(testing.TB) time.Duration { return time.Since(began) }
