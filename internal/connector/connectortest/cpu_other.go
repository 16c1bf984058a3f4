//go:build !unix

package connectortest

import (
	"testing"
	"time"
)

var began = time.Now()

// CPUTime is the clock, where the processors do not say.
func CPUTime(testing.TB) time.Duration { return time.Since(began) }
