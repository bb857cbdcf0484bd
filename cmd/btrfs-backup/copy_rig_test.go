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

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

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

// copyKinds are the filesystems that backups are kept on in different ways: subvolumes, links, links and shared extents.
var copyKinds = []string{"btrfs", "ext4", "xfs"}

// copyRigSize is enough for mkfs.ext4 to make blocks of 4 KiB, which long symbolic links need.
const copyRigSize = 600 << 20

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

// onEachKind runs a test for each kind of filesystem. What does not share contents sees nothing of xfs but links, as on ext4.
func onEachKind(t *testing.T, test func(r *copyRig)) {
	onKinds(t, func(t *testing.T, kind string) {
		if kind == "xfs" {
			btrfstest.OnlyInAll(t)
		}
		test(newCopyRig(t, kind))
	})
}

// onEachKindOfSharing is onEachKind for a test of contents that are shared.
func onEachKindOfSharing(t *testing.T, test func(r *copyRig)) {
	onKinds(t, func(t *testing.T, kind string) { test(newCopyRig(t, kind)) })
}

func onKinds(t *testing.T, test func(t *testing.T, kind string)) {
	for _, kind := range copyKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
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

// unfinishedCopies gives the hidden names of what is not done in a folder, or not deleted.
func unfinishedCopies(t testing.TB, folder string) (left []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	btrfstest.Check(t, err)
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".incoming") || strings.HasSuffix(name, ".deleting")) {
			left = append(left, name)
		}
	}
	return left
}

// newest gives the path of the newest backup.
func (r *copyRig) newest() string {
	r.Helper()
	all := r.backups()
	if len(all) == 0 {
		r.Fatal("there is no backup")
	}
	return filepath.Join(r.destination, all[len(all)-1])
}

// used gives the bytes that the destination's filesystem has given away, when all is written.
func (r *copyRig) used() int64 {
	r.Helper()
	dir := btrfstest.Open(r, r.destinationFS.Dir)
	btrfstest.Check(r, unix.Syncfs(int(dir.Fd())))
	var st unix.Statfs_t
	btrfstest.Check(r, unix.Fstatfs(int(dir.Fd()), &st))
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// takes fails the test unless what is done takes from least to most bytes at the destination.
func (r *copyRig) takes(least, most int64, do func()) {
	r.Helper()
	before := r.used()
	do()
	const own = 256 << 10 // what the filesystem gives back of its own
	if took := r.used() - before; took < least-own || took > most {
		r.Errorf("%d KiB were taken, not between %d and %d", took>>10, least>>10, most>>10)
	}
}

// in gives the rig to a subtest.
func (r *copyRig) in(t testing.TB) *copyRig {
	sub := *r
	sub.TB = t
	return &sub
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
	btrfstest.Run(r, "rsync", "-aHAX", "--numeric-ids", "--sparse", "--modify-window=-1", r.source+"/", dir+"/")
	return dir
}

// equal fails the test unless a backup is a faithful copy, as told by btrfstest.Diff. To root, xfs shows ACLs as attributes, too.
func (r *copyRig) equal(want, got string, ignore ...string) {
	r.Helper()
	diffs, err := btrfstest.Diff(want, got, ignore...)
	btrfstest.Check(r, err)
	diffs = slices.DeleteFunc(diffs, func(d string) bool { return strings.Contains(d, `xattr "trusted.SGI_ACL_`) })
	if len(diffs) > 0 {
		r.Errorf("%s is not a copy of %s, %d differences:\n%s", got, want, len(diffs), strings.Join(diffs[:min(len(diffs), 20)], "\n"))
	}
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
		h[path] = describeFile(t, path)
		return nil
	}))
	return h
}

// describeFile tells what can be seen of a file.
func describeFile(t testing.TB, path string) string {
	t.Helper()
	var st unix.Stat_t
	btrfstest.Check(t, unix.Lstat(path, &st))
	seen := fmt.Sprintf("inode %d mode %o owner %d:%d size %d time %d.%09d rdev %d", st.Ino, st.Mode, st.Uid, st.Gid, st.Size,
		st.Mtim.Sec, st.Mtim.Nsec, st.Rdev)
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		content, err := os.ReadFile(path)
		btrfstest.Check(t, err)
		seen += fmt.Sprintf(" content %x", sha256.Sum256(content))
	}
	return seen
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
