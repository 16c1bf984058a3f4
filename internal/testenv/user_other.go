//go:build !unix

package testenv

import "syscall"

func unprivileged(...string) (*syscall.SysProcAttr, error) { return nil, nil }
