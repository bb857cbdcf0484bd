package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

// A copyRig is a directory that is no subvolume, and a folder that it is copied to.
type copyRig struct {
	testing.TB
	kind                string // of the destination's filesystem
	destinationFS       *btrfstest.FS
	source, destination string
	state               string // what this machine remembers
	runs                *int   // each is an hour later than the one before
}

// kinds are the filesystems that backups are kept on in different ways: subvolumes, links, links and shared extents.
var copyKinds = []string{"btrfs", "ext4", "xfs"}

const copyRigSize = 400 << 20

// newCopyRig makes a rig with an empty source, on ext4.
func newCopyRig(t testing.TB, kind string) *copyRig {
	t.Helper()
	r := &copyRig{TB: t, kind: kind, destinationFS: newFSOf(t, kind, copyRigSize), state: t.TempDir(), runs: new(int)}
	r.source = filepath.Join(btrfstest.NewOther(t, "ext4", copyRigSize).Dir, "source")
	r.destination = filepath.Join(r.destinationFS.Dir, "backups")
	btrfstest.Check(t, os.Mkdir(r.source, 0o755))
	return r
}

func newFSOf(t testing.TB, kind string, size int64) *btrfstest.FS {
	t.Helper()
	if kind == "btrfs" {
		return btrfstest.New(t, size)
	}
	return btrfstest.NewOther(t, kind, size)
}

// onEachKind runs a test for each kind of filesystem.
func onEachKind(t *testing.T, test func(r *copyRig)) {
	for _, kind := range copyKinds {
		t.Run(kind, func(t *testing.T) { test(newCopyRig(t, kind)) })
	}
}

// commandTo prepares a run with all of its arguments, an hour after the one before.
func (r *copyRig) commandTo(environ []string, args ...string) *exec.Cmd {
	*r.runs++
	now := time.Date(2026, 1, 1, *r.runs, 0, 0, 0, time.UTC)
	cmd := exec.Command("btrfs-backup", args...)
	cmd.Env = append(os.Environ(), testOnlyNow+"="+now.Format(time.RFC3339), "TZ=UTC", "XDG_STATE_HOME="+r.state)
	cmd.Env = append(cmd.Env, environ...)
	return cmd
}

// command prepares a run from the source to the destination.
func (r *copyRig) command(environ []string, options ...string) *exec.Cmd {
	return r.commandTo(environ, slices.Concat(options, []string{r.source, r.destination})...)
}

// run copies the source to the destination.
func (r *copyRig) run(options ...string) result {
	r.Helper()
	return invokeCmd(r, r.command(nil, options...))
}

// saves fails the test unless a run makes a complete backup; it gives its path.
func (r *copyRig) saves(options ...string) string {
	r.Helper()
	before := r.backups()
	expect(r, exitDone, r.run(options...))
	after := r.backups()
	if len(after) == 0 || slices.Contains(before, after[len(after)-1]) {
		r.Fatalf("no backup was made: before %v, after %v", before, after)
	}
	if left := unfinishedCopies(r, r.destination); len(left) > 0 {
		r.Fatalf("left unfinished: %v", left)
	}
	return filepath.Join(r.destination, after[len(after)-1])
}

// backups gives the final names in the destination, sorted.
func (r *copyRig) backups() []string {
	r.Helper()
	if !exists(r.destination) {
		return nil
	}
	return slices.DeleteFunc(names(r, r.destination), func(name string) bool { return !finalName.MatchString(name) })
}

func unfinishedCopies(t testing.TB, folder string) []string {
	t.Helper()
	return slices.DeleteFunc(names(t, folder), func(name string) bool {
		return !strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".incoming") && !strings.HasSuffix(name, ".deleting")
	})
}

// at gives a path in the source.
func (r *copyRig) at(path ...string) string {
	return filepath.Join(append([]string{r.source}, path...)...)
}

// write makes or replaces a file in the source.
func (r *copyRig) write(path, content string) {
	r.Helper()
	btrfstest.Check(r, os.MkdirAll(filepath.Dir(r.at(path)), 0o755))
	btrfstest.Check(r, os.WriteFile(r.at(path), []byte(content), 0o644))
}

// reference keeps the source as it is now, to be compared with later.
func (r *copyRig) reference() string {
	r.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(r.source), "reference")
	btrfstest.Check(r, err)
	btrfstest.Run(r, "rsync", "-aHAX", "--numeric-ids", "--sparse", r.source+"/", dir+"/")
	return dir
}

// history is all that can be seen of backups from outside, by path.
type history map[string]string

// historyOf looks at each file in a backup. The number of links is not the backup's own, nor, with it, the change time.
func historyOf(t testing.TB, backup string) history {
	t.Helper()
	h := make(history)
	btrfstest.Check(t, filepath.WalkDir(backup, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		h[path] = fmt.Sprintf("inode %d mode %o owner %d:%d size %d time %d.%09d rdev %d", st.Ino, st.Mode, st.Uid, st.Gid, st.Size,
			st.Mtim.Sec, st.Mtim.Nsec, st.Rdev)
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil
		}
		content, err := os.ReadFile(path)
		h[path] += fmt.Sprintf(" content %x", sha256.Sum256(content))
		return err
	}))
	return h
}

// unchanged fails the test unless the backups look as they did.
func (h history) unchanged(t testing.TB, backup string) {
	t.Helper()
	now := historyOf(t, backup)
	if maps.Equal(h, now) {
		return
	}
	for path, was := range h {
		if now[path] != was {
			t.Errorf("%s was %s, and is %s", path, was, now[path])
		}
	}
	for path := range now {
		if _, known := h[path]; !known {
			t.Errorf("%s was added", path)
		}
	}
}
