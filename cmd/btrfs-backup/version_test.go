package main

import (
	"runtime/debug"
	"testing"
)

func TestEveryBuildHasAVersion(t *testing.T) {
	t.Parallel()
	commit := []debug.BuildSetting{{Key: "vcs.revision", Value: "b2734dab26896e3b4ae57e223cfc60bd6553e3d7"},
		{Key: "vcs.time", Value: "2026-11-29T12:18:13Z"}, {Key: "vcs.modified", Value: "true"}}
	for _, test := range []struct {
		main     string
		settings []debug.BuildSetting
		want     string
	}{
		{"v1.2.3", nil, "1.2.3"},
		{"v1.2.3+dirty", commit, "1.2.3 (b2734dab2689, 2026-11-29, modified)"},
		{"v1.2.4-0.20261129121813-b2734dab2689", nil, "1.2.4-0.20261129121813-b2734dab2689"},
		{"v0.0.0-20261129121813-b2734dab2689", commit, next + " (b2734dab2689, 2026-11-29, modified)"},
		{"(devel)", commit[:2], next + " (b2734dab2689, 2026-11-29)"},
		{"(devel)", nil, next},
		{"", nil, next},
	} {
		if got := versionOf(&debug.BuildInfo{Main: debug.Module{Version: test.main}, Settings: test.settings}); got != test.want {
			t.Errorf("%s: %q, want %q", test.main, got, test.want)
		}
	}
}
