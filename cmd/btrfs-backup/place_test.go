package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"btrfs-backup/transport/ssh"
)

func TestPlacesAreWhatTheirUsersMean(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("a:b", 0o755); err != nil {
		t.Fatal(err)
	}
	machine := func(user, host string, port int) *ssh.Target {
		return &ssh.Target{User: user, Host: host, Port: port}
	}
	tests := map[string]place{
		"/home":                             {path: "/home"},
		"home":                              {path: filepath.Join(dir, "home")},
		"./nas:/x":                          {path: filepath.Join(dir, "nas:/x")},
		"/a:/b":                             {path: "/a:/b"},
		"a:b":                               {path: filepath.Join(dir, "a:b")},
		"ssh://nas":                         {machine: machine("", "nas", 0), path: "/"},
		"ssh://NAS/Backup/":                 {machine: machine("", "nas", 0), path: "/Backup"},
		"ssh://me@nas:2222/a/../b//c":       {machine: machine("me", "nas", 2222), path: "/b/c"},
		"ssh://nas/a?b#c%20d":               {machine: machine("", "nas", 0), path: "/a?b#c%20d"},
		"ssh://nas/two words;$x*'\"\n\xff`": {machine: machine("", "nas", 0), path: "/two words;$x*'\"\n\xff`"},
		"ssh://me@[fe80::1%eth0]:22/x":      {machine: machine("me", "fe80::1%eth0", 22), path: "/x"},
		"ssh://[::1]/x":                     {machine: machine("", "::1", 0), path: "/x"},
		"ssh://a@b@nas/x":                   {machine: machine("a@b", "nas", 0), path: "/x"},
		"nas:/backup home":                  {machine: machine("", "nas", 0), path: "/backup home"},
		"me@nas:/x:y":                       {machine: machine("me", "nas", 0), path: "/x:y"},
		"me@[::1]:/x":                       {machine: machine("me", "::1", 0), path: "/x"},
		"shell://cat >'a b' | x":            {command: "cat >'a b' | x"},
		"nas::photos":                       {module: "rsync://nas/photos"},
		"me@NAS::photos/a b/../c/":          {module: "rsync://me@nas/photos/c"},
		"me@[::1]::photos":                  {module: "rsync://me@[::1]/photos"},
		"rsync://me@nas:8730/photos/?#":     {module: "rsync://me@nas:8730/photos/?#"},
		"./nas::photos":                     {path: filepath.Join(dir, "nas::photos")},
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			got, err := parsePlace(text)
			if err != nil {
				t.Fatal(err)
			}
			same := (got.machine == nil) == (want.machine == nil) && (got.machine == nil || *got.machine == *want.machine)
			if !same || got.path != want.path || got.command != want.command || got.module != want.module {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestPlacesThatMeanNothingAreRefusedWithAHint(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, text := range []string{
		"ssh://", "ssh:///x", "ssh://me@/x", "ssh://nas:x/y", "ssh://nas:0/x", "ssh://nas:65536/x", "ssh://me:secret@nas/x",
		"ssh://-oProxyCommand=x/y", "ssh://-x@nas/y", "ssh://[::1]x/y", "ssh://::1/x",
		"nas:", "nas:x", "nas:22:/x", "-x:/y", "@nas:x", "shell://", "shell:// ",
		"nas::", "::photos", "rsync://", "rsync://nas", "rsync://nas/", "rsync://nas/..", "rsync://nas:x/photos", "-x::photos",
	} {
		t.Run(text, func(t *testing.T) {
			got, err := parsePlace(text)
			var usage *usageError
			if !errors.As(err, &usage) || usage.Hint() == "" {
				t.Errorf("%+v, error %v", got, err)
			}
		})
	}
}

func TestATunnelEndsAtTheDaemonAsItsOtherEndSeesIt(t *testing.T) {
	for module, want := range map[string]string{
		"rsync://nas/photos":            "localhost:873",
		"rsync://me@nas:8730/photos":    "localhost:8730",
		"rsync://inner/photos":          "inner:873",
		"rsync://[fe80::1]:8730/photos": "[fe80::1]:8730",
	} {
		if got := tunnelEnd(module, ssh.Target{User: "me", Host: "nas"}); got != want {
			t.Errorf("%s: %s, want %s", module, got, want)
		}
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]float64{
		"1": 1, "500K": 500 << 10, "10M": 10 << 20, "10m": 10 << 20, "1.5G": 1.5 * (1 << 30), "2MiB": 2 << 20, "1KB": 1 << 10,
	} {
		var got rateFlag
		if err := got.Set(text); err != nil || float64(got) != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "M", "fast", "10X", "1e99", "NaN", "10MM", "Inf"} {
		var got rateFlag
		if err := got.Set(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
