//go:build unix

package testenv

import (
	"syscall"
	"time"
)

// CPUTime is what the process has used of the processors. On a machine that is
// shared it says more than the clock.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
