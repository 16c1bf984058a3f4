//go:build unix

package lambdatest_test

import "syscall"

// nothing is a signal that does nothing: it tells whether a process is there.
const nothing = syscall.Signal(0)
