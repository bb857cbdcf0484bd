package main

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

// A change is one that a history which shares inodes could pass on to older backups.
type change struct {
	name string
	make func(r *copyRig, dir string)
}

// changes act on a directory with the files a and b, a capable one, the links one and two to a file, and the directory d.
var changes = []change{
	{"chmod", func(r *copyRig, dir string) { btrfstest.Check(r, os.Chmod(dir+"/a", 0o600)) }},
	{"chown", func(r *copyRig, dir string) { btrfstest.Check(r, os.Lchown(dir+"/a", 1234, 5678)) }},
	{"chmod of a file with links", func(r *copyRig, dir string) { btrfstest.Check(r, os.Chmod(dir+"/one", 0o600)) }},
	{"ACL", func(r *copyRig, dir string) {
		btrfstest.Check(r, unix.Setxattr(dir+"/a", "system.posix_acl_access", []byte(namedUser), 0))
	}},
	{"chown of a file with a capability", func(r *copyRig, dir string) {
		btrfstest.Check(r, os.Lchown(dir+"/capable", 1234, 5678))
		btrfstest.Check(r, unix.Setxattr(dir+"/capable", "security.capability", []byte(bindService), 0))
	}},
	{"attribute", func(r *copyRig, dir string) {
		btrfstest.Check(r, unix.Setxattr(dir+"/a", "user.new", []byte("value"), 0))
	}},
	{"time", func(r *copyRig, dir string) { btrfstest.Check(r, os.Chtimes(dir+"/a", time.Time{}, time.Unix(1, 1))) }},
	{"rename", func(r *copyRig, dir string) { btrfstest.Check(r, os.Rename(dir+"/a", dir+"/c")) }},
	{"exchange", func(r *copyRig, dir string) {
		btrfstest.Check(r, unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/b", unix.RENAME_EXCHANGE))
	}},
	{"edit", func(r *copyRig, dir string) { r.edit(dir+"/a", os.O_WRONLY, "EDIT") }},
	{"edit of a file with links", func(r *copyRig, dir string) { r.edit(dir+"/one", os.O_WRONLY, "EDIT") }},
	{"append", func(r *copyRig, dir string) { r.edit(dir+"/a", os.O_WRONLY|os.O_APPEND, "more") }},
	{"truncate", func(r *copyRig, dir string) { btrfstest.Check(r, os.Truncate(dir+"/a", 3)) }},
	{"replace", func(r *copyRig, dir string) {
		btrfstest.Check(r, os.WriteFile(dir+"/new", []byte("of other content"), 0o644))
		btrfstest.Check(r, os.Rename(dir+"/new", dir+"/a"))
	}},
	{"link", func(r *copyRig, dir string) { btrfstest.Check(r, os.Link(dir+"/a", dir+"/linked")) }},
	{"link in place of a file", func(r *copyRig, dir string) {
		btrfstest.Check(r, os.Remove(dir+"/b"))
		btrfstest.Check(r, os.Link(dir+"/a", dir+"/b"))
	}},
	{"one file made two", func(r *copyRig, dir string) { r.split(dir, "") }},
	{"one file made two, the first changed", func(r *copyRig, dir string) { r.split(dir, "one") }},
	{"one file made two, the second changed", func(r *copyRig, dir string) { r.split(dir, "two") }},
	{"file to directory", func(r *copyRig, dir string) {
		btrfstest.Check(r, os.Remove(dir+"/a"))
		btrfstest.Check(r, os.MkdirAll(dir+"/a/deep", 0o755))
		btrfstest.Check(r, os.WriteFile(dir+"/a/deep/file", []byte("deep"), 0o644))
	}},
	{"file to symlink", func(r *copyRig, dir string) {
		btrfstest.Check(r, os.Remove(dir+"/a"))
		btrfstest.Check(r, os.Symlink("b", dir+"/a"))
	}},
	{"file to fifo", func(r *copyRig, dir string) {
		btrfstest.Check(r, os.Remove(dir+"/a"))
		btrfstest.Check(r, unix.Mkfifo(dir+"/a", 0o600))
	}},
	{"directory to file", func(r *copyRig, dir string) {
		btrfstest.Check(r, os.RemoveAll(dir+"/d"))
		btrfstest.Check(r, os.WriteFile(dir+"/d", []byte("a file"), 0o644))
	}},
	{"directory to symlink", func(r *copyRig, dir string) {
		btrfstest.Check(r, os.RemoveAll(dir+"/d"))
		btrfstest.Check(r, os.Symlink("/etc", dir+"/d"))
	}},
	{"mode of a directory", func(r *copyRig, dir string) { btrfstest.Check(r, os.Chmod(dir+"/d", 0o700)) }},
	{"delete", func(r *copyRig, dir string) { btrfstest.Check(r, os.Remove(dir+"/a")) }},
}

// namedUser is the ACL u::rw-,u:4321:rw-,g::r--,m::rw-,o::r--.
// linux/posix_acl_xattr.h: struct posix_acl_xattr_header, then entries of tag, permissions and id.
const namedUser = "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x06\x00\xe1\x10\x00\x00" +
	"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x06\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff"

// bindService is cap_net_bind_service=ep.
// linux/capability.h: struct vfs_cap_data, revision 2.
const bindService = "\x01\x00\x00\x02" + "\x00\x04\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// edit writes to a file without replacing it.
func (r *copyRig) edit(path string, flags int, content string) {
	r.Helper()
	f, err := os.OpenFile(path, flags, 0)
	btrfstest.Check(r, err)
	defer f.Close()
	_, err = f.WriteString(content)
	btrfstest.Check(r, err)
}

// split makes two files of the links one and two. The changed one keeps its size and time.
func (r *copyRig) split(dir, changed string) {
	r.Helper()
	btrfstest.Run(r, "cp", "--preserve=all", dir+"/two", dir+"/copy")
	btrfstest.Check(r, os.Rename(dir+"/copy", dir+"/two"))
	if changed != "" {
		info, err := os.Stat(dir + "/" + changed)
		btrfstest.Check(r, err)
		r.edit(dir+"/"+changed, os.O_WRONLY, "EDIT")
		btrfstest.Check(r, os.Chtimes(dir+"/"+changed, time.Time{}, info.ModTime().Add(time.Nanosecond)))
	}
}

// joined gives the files of a backup that need not be the inodes that they are in the source: with --link-dest, rsync links two
// files to one if they were one in the backup before, and nothing tells them apart.
func (r *copyRig) joined() []string {
	if r.kind == "btrfs" {
		return nil
	}
	return []string{"one file made two/two"}
}

// beforeChanges makes a directory for each change.
func (r *copyRig) beforeChanges() {
	r.Helper()
	for _, c := range changes {
		for _, file := range []string{"a", "b", "one", "capable", "d/file"} {
			r.write(c.name+"/"+file, strings.Repeat(c.name+" "+file+" ", 3000))
		}
		btrfstest.Check(r, os.Link(r.at(c.name, "one"), r.at(c.name, "two")))
		btrfstest.Check(r, unix.Setxattr(r.at(c.name, "capable"), "security.capability", []byte(bindService), 0))
	}
}

func TestOlderBackupsStayAsTheyAreWhateverChangesInTheSource(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) { r.keepsOlderBackups(8) })
}

func TestOlderBackupsStayAsTheyAreAfterEachChangeInTheSource(t *testing.T) {
	btrfstest.OnlyInAll(t)
	t.Parallel()
	onEachKind(t, func(r *copyRig) { r.keepsOlderBackups(1) })
}

// keepsOlderBackups makes so many changes before each backup.
func (r *copyRig) keepsOlderBackups(atOnce int) {
	r.beforeChanges()
	type past struct {
		backup, reference string
		history
	}
	first := r.saves()
	all := []past{{first, r.reference(), historyOf(r, first)}}
	for some := range slices.Chunk(changes, atOnce) {
		for _, c := range some {
			c.make(r, r.at(c.name))
		}
		backup := r.saves()
		r.equal(r.source, backup, r.joined()...)
		all[len(all)-1].unchanged(r, all[len(all)-1].backup)
		if r.Failed() {
			r.Fatalf("after: %s", some[len(some)-1].name)
		}
		all = append(all, past{backup, "", historyOf(r, backup)})
	}
	for _, p := range all {
		p.unchanged(r, p.backup)
	}
	r.equal(all[0].reference, first)
	last := all[len(all)-1]
	btrfstest.Run(r, "rsync", "-aHAX", "--delete", "--checksum", first+"/", r.source+"/") // all of it changes back
	r.equal(r.source, r.saves())
	last.unchanged(r, last.backup)
	all[0].unchanged(r, first)
	r.equal(all[0].reference, first)
}

// What an interrupted run left holds links to the backup before it, or the contents of its files.
func TestOlderBackupsStayAsTheyAreWhenAnInterruptedCopyIsResumed(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		r.beforeChanges()
		first := r.saves()
		before, reference := historyOf(r, first), r.reference()
		r.write("new", "since then")
		r.killedAfterRsync()
		for _, c := range changes {
			c.make(r, r.at(c.name))
		}
		if len(unfinishedCopies(r, r.destination)) != 1 {
			r.Fatal("the kill left nothing unfinished")
		}
		r.equal(r.source, r.saves(), r.joined()...)
		before.unchanged(r, first)
		r.equal(reference, first)
	})
}

// killedAfterRsync kills a run whose rsync has copied everything.
func (r *copyRig) killedAfterRsync() {
	r.Helper()
	s := newRsyncShim(r, `"$real" "$@"; echo $$ >"$dir/pid"; exec sleep 1000`)
	run := start(r, r.command(s.environ()))
	pid := shim{s.dir}.pid(r)
	run.signal(syscall.SIGKILL)
	run.wait()
	if !within(func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH }) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		r.Fatal("rsync outlives the run that started it")
	}
}
