package app

import "runtime/debug"

// version is set by the build: -ldflags "-X github.com/eventsluice/sluice/internal/app.version=v1.2.3".
var version string

// Version returns the version of this build: the one that the build was given,
// else the one that the Go toolchain knows.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 && v == "(devel)" {
			v += " " + s.Value[:12]
		}
	}
	return v
}
