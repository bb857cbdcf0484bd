package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// remote is a machine that is this one, behind a real sshd.
type remote struct {
	*sshtest.Server
	options []string // of the program, to reach it
}

// newRemote starts an sshd whose sessions find this program in PATH.
func newRemote(t testing.TB, o sshtest.Options) *remote {
	t.Helper()
	o.Env = append(o.Env, "PATH="+os.Getenv("PATH"))
	r := &remote{Server: sshtest.Start(t, o)}
	for _, option := range r.Options() {
		r.options = append(r.options, "--ssh-opt", option)
	}
	return r
}

// place names a directory as one of the remote.
func (r *remote) place(dir string) string {
	return fmt.Sprintf("ssh://%s@%s:%d%s", r.User, r.Host, r.Port, dir)
}

func (r *remote) arguments(args ...string) []string {
	return append(append([]string{}, r.options...), args...)
}

func TestBackupsGoToAndFromOtherMachines(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	r := newRemote(t, sshtest.Options{})
	local := func(dir string) string { return dir }
	ways := map[string]struct{ source, destination func(string) string }{
		"push":             {local, r.place},
		"pull":             {r.place, local},
		"remote to remote": {r.place, r.place},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			source, destination := newPair(t)
			for generation := range int64(3) {
				if generation > 0 {
					btrfstest.Change(t, source, generation)
				}
				succeed(t, r.arguments(way.source(source), way.destination(destination))...)
			}
			snapshots := names(t, filepath.Join(source, "snapshot"))
			if len(snapshots) != 3 {
				t.Fatalf("snapshots: %v", snapshots)
			}
			for _, name := range snapshots {
				isCopy(t, source, destination, name)
			}
		})
	}
}
