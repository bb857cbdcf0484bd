package main

import (
	"cmp"
	"runtime/debug"
	"strings"
	"time"
)

// version is set when a release is built, see scripts/release.
var version = ""

// next is the version that is being worked on.
const next = "1.0.0-dev"

func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if version != "" || !ok {
		return cmp.Or(version, next)
	}
	return versionOf(info)
}

// versionOf tells the tag of which the program was built, if there is one, and the commit as far as it is known.
func versionOf(info *debug.BuildInfo) string {
	const untagged, none, modified = "v0.0.0-", "(devel)", "+dirty"
	tag := next
	if v := info.Main.Version; v != "" && v != none && !strings.HasPrefix(v, untagged) {
		tag = strings.TrimSuffix(strings.TrimPrefix(v, "v"), modified)
	}
	vcs := make(map[string]string)
	for _, s := range info.Settings {
		vcs[s.Key] = s.Value
	}
	commit := vcs["vcs.revision"]
	if commit == "" {
		return tag
	}
	about := []string{commit[:min(len(commit), 12)]}
	if at, err := time.Parse(time.RFC3339, vcs["vcs.time"]); err == nil {
		about = append(about, at.Format(time.DateOnly))
	}
	if vcs["vcs.modified"] == "true" {
		about = append(about, "modified")
	}
	return tag + " (" + strings.Join(about, ", ") + ")"
}
