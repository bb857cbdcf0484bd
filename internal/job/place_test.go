package job

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
)

func TestPlacesAreWhatTheirUsersMean(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("a:b", 0o755); err != nil {
		t.Fatal(err)
	}
	machine := func(user, host string, port int, path string) Machine {
		return Machine{ssh.Target{User: user, Host: host, Port: port}, path}
	}
	tests := map[string]Place{
		"/home":                             Local{"/home"},
		"home":                              Local{filepath.Join(dir, "home")},
		"./nas:/x":                          Local{filepath.Join(dir, "nas:/x")},
		"/a:/b":                             Local{"/a:/b"},
		"a:b":                               Local{filepath.Join(dir, "a:b")},
		"ssh://nas":                         machine("", "nas", 0, "/"),
		"ssh://NAS/Backup/":                 machine("", "nas", 0, "/Backup"),
		"ssh://me@nas:2222/a/../b//c":       machine("me", "nas", 2222, "/b/c"),
		"ssh://nas/a?b#c%20d":               machine("", "nas", 0, "/a?b#c%20d"),
		"ssh://nas/two words;$x*'\"\n\xff`": machine("", "nas", 0, "/two words;$x*'\"\n\xff`"),
		"ssh://me@[fe80::1%eth0]:22/x":      machine("me", "fe80::1%eth0", 22, "/x"),
		"ssh://[::1]/x":                     machine("", "::1", 0, "/x"),
		"ssh://a@b@nas/x":                   machine("a@b", "nas", 0, "/x"),
		"nas:/backup home":                  machine("", "nas", 0, "/backup home"),
		"me@nas:/x:y":                       machine("me", "nas", 0, "/x:y"),
		"me@[::1]:/x":                       machine("me", "::1", 0, "/x"),
		"shell://cat >'a b' | x":            Command{"cat >'a b' | x"},
		"nas::photos":                       Daemon{"rsync://nas/photos"},
		"me@NAS::photos/a b/../c/":          Daemon{"rsync://me@nas/photos/c"},
		"me@[::1]::photos":                  Daemon{"rsync://me@[::1]/photos"},
		"rsync://me@nas:8730/photos/?#":     Daemon{"rsync://me@nas:8730/photos/?#"},
		"./nas::photos":                     Local{filepath.Join(dir, "nas::photos")},
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			got, err := ParsePlace(text)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("%#v, want %#v", got, want)
			}
			if again, err := ParsePlace(got.String()); err != nil || again != want {
				t.Errorf("as %s it is %#v, %v", got, again, err)
			}
		})
	}
}

func TestPlacesThatMeanNothingAreRefusedWithAHint(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, text := range []string{
		"", "ssh://", "ssh:///x", "ssh://me@/x", "ssh://nas:x/y", "ssh://nas:0/x", "ssh://nas:65536/x", "ssh://me:secret@nas/x",
		"ssh://-oProxyCommand=x/y", "ssh://-x@nas/y", "ssh://[::1]x/y", "ssh://::1/x",
		"nas:", "nas:x", "nas:22:/x", "-x:/y", "@nas:x", "shell://", "shell:// ",
		"nas::", "::photos", "rsync://", "rsync://nas", "rsync://nas/", "rsync://nas/..", "rsync://nas:x/photos", "-x::photos",
		"S3://nas.example/bucket/x", "s3:/bucket/x", "https://nas.example/bucket/x", "http://nas.example:9000/bucket", "Store:/x", "SSH://nas/x",
		"store+ssh:/nas/x", "STORE+SSH://nas/x", "Rsync://nas/photos",
	} {
		t.Run(text, func(t *testing.T) {
			got, err := ParsePlace(text)
			if got != nil || err == nil || hint.Of(err) == "" {
				t.Errorf("%#v, error %v", got, err)
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
		if got := daemonSeenFrom(ssh.Target{User: "me", Host: "nas"}, Daemon{module}); got != want {
			t.Errorf("%s: %s, want %s", module, got, want)
		}
	}
}
