package main

import (
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

const canPin = true

// startOn starts a command on one core. A child inherits the cores of the
// thread that starts it, so the thread is given the one core and, being good
// for nothing else then, ends with its goroutine.
func startOn(cmd *exec.Cmd, cpu int) error {
	if cpu == anyCPU {
		return cmd.Start()
	}
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		var cores unix.CPUSet
		cores.Set(cpu)
		if err := unix.SchedSetaffinity(0, &cores); err != nil {
			failed <- err
			return
		}
		failed <- cmd.Start()
	}()
	return <-failed
}
