// Package testenv finds the external parts that some tests need, starts them
// where they have to run, and brings what they need from a registry: a private
// PostgreSQL server and a private Redis; Node.js, Java and Python with their
// packages; Chromium; programs in Go.
//
// A machine that lacks a part skips the tests that need it, with one line that
// says so. With CI=true in the environment nothing is skipped: there a missing
// part is a failure.
package testenv

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// Node returns the path of Node.js.
func Node(t testing.TB) string {
	t.Helper()
	return program(t, "node", "Node.js")
}

// Curl looks for curl, which the scripts of the examples call.
func Curl(t testing.TB) {
	t.Helper()
	program(t, "curl", "curl")
}

// program returns the path of a program that is part of a product.
func program(t testing.TB, name, product string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, product+" is not installed (no "+name+" in PATH)")
	}
	return path
}

// missing ends a test for which a part is missing.
func missing(t testing.TB, what string) {
	t.Helper()
	if required() {
		t.Fatalf("%s, and with CI=true no test is skipped", what)
	}
	t.Skip(what)
}

// required reports whether CI is set to something true.
func required() bool {
	ci, err := strconv.ParseBool(os.Getenv("CI"))
	return ci && err == nil
}
