package testenv

import (
	"os/exec"
	"testing"
)

// chromiums are the names under which Chromium, or a browser made of it, is
// installed.
var chromiums = []string{"chromium", "chromium-browser", "google-chrome-stable", "google-chrome"}

// Chromium returns the path of Chromium.
func Chromium(t testing.TB) string {
	t.Helper()
	for _, name := range chromiums {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, "Chromium is not installed (no chromium in PATH)")
	return ""
}
