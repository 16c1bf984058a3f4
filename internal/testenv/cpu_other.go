//go:build !unix

package testenv

import "time"

// CPUTime is not known here: zero.
func CPUTime() time.Duration { return 0 }
