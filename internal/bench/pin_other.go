//go:build !linux

package main

import "os/exec"

const canPin = false

func startOn(cmd *exec.Cmd, _ int) error { return cmd.Start() }
