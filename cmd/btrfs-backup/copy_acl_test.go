package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

// rights are modes with ACLs. A "d:" is for directories only.
var rights = []struct {
	mode uint32
	acl  string
}{
	{0o755, ""}, {0o1777, ""}, {0o1777, "u:1000:rwx"}, {0o1755, "g:1000:r"}, {0o755, "u:1000:rwx"}, {0o6755, "u:1000:rx"},
	{0o755, "u:1000:rx,m::r"}, {0o3770, "u:1000:rwx,d:u:1000:rwx"}, {0o2770, "d:u:1000:rwx,d:m::r"}, {0o070, "u:1000:rx"}, {0o1000, "g:1000:rwx,m::---"},
}

// give gives a file or a directory these rights.
func (r *copyRig) give(path string, mode uint32, acl string) {
	r.Helper()
	btrfstest.Run(r, "setfacl", "-b", path)
	btrfstest.Check(r, unix.Chmod(path, mode))
	if acl == "" {
		return
	}
	info, err := os.Stat(path)
	btrfstest.Check(r, err)
	if info.IsDir() {
		btrfstest.Run(r, "setfacl", "-m", acl, path)
	} else {
		btrfstest.Run(r, "sh", "-c", `setfacl -m "$(echo "$2" | sed 's/,\?d:[^,]*//g; s/^$/m::rwx/')" "$1"`, "-", path, acl)
	}
}

func TestRightsAreKeptWhateverTheyWereBefore(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		each := func(do func(path string, i, j int)) {
			for i := range rights {
				for j := range rights {
					do(r.at(fmt.Sprintf("f%d-%d", i, j)), i, j)
					do(r.at(fmt.Sprintf("d%d-%d", i, j)), i, j)
				}
			}
		}
		for i := range rights {
			for j := range rights {
				r.write(fmt.Sprintf("f%d-%d", i, j), "content")
				btrfstest.Check(r, os.Mkdir(r.at(fmt.Sprintf("d%d-%d", i, j)), 0o700))
			}
		}
		each(func(path string, i, _ int) { r.give(path, rights[i].mode, rights[i].acl) })
		first := r.saves()
		r.equal(r.source, first)
		before := historyOf(r, first)
		each(func(path string, _, j int) { r.give(path, rights[j].mode, rights[j].acl) })
		r.equal(r.source, r.saves())
		before.unchanged(r, first)
	})
}

// ext4 with inodes of 128 bytes knows no times after 2038, and no nanoseconds.
func TestWhatTheDestinationDoesNotKeepIsTold(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	btrfstest.Unmount(r, r.destinationFS.Dir)
	btrfstest.Run(r, "mkfs.ext4", "-q", "-F", "-I", "128", r.destinationFS.Image)
	btrfstest.Run(r, "mount", "-o", "loop", r.destinationFS.Image, r.destinationFS.Dir)
	r.write("kept", "content")
	expect(r, exitDone, r.run("-q"), "the filesystem keeps no nanoseconds of times")
	r.write("future", "content")
	btrfstest.Check(r, os.Chtimes(r.at("future"), time.Time{}, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)))
	for range 2 {
		expect(r, exitPartly, r.run(), "INCOMPLETE", "future: the destination did not keep its time", "use a filesystem at the destination")
	}
	expect(r, exitDone, invoke(r, nil, "verify", r.newest()))
	r.write("another", "content")
	expect(r, exitDone, r.run("--rsync-options", "-rlH --delete"))
}

func TestAFolderThatDoesNotKeepRightsIsRefusedBeforeItsFirstUse(t *testing.T) {
	t.Parallel()
	r := newCopyRig(t, "ext4")
	r.write("key", "secret")
	r.saves()
	used := r.destination
	ntfs := r.destinationFS.Dir + "/ntfs"
	image := r.destinationFS.Dir + "/image"
	btrfstest.Check(r, os.Mkdir(ntfs, 0o755))
	btrfstest.Run(r, "truncate", "-s", "50M", image)
	btrfstest.Run(r, "mkntfs", "-q", "-F", image)
	btrfstest.Run(r, "mount.ntfs-3g", image, ntfs)
	defer btrfstest.Unmount(r, ntfs)
	r.destination = ntfs + "/backups"
	for _, options := range [][]string{{"--dry-run"}, nil} {
		expect(r, exitFailed, r.run(options...), "does not keep them", "hint: ", "--rsync-options")
		if left := names(r, ntfs); len(left) > 0 {
			r.Errorf("the refused run left %v", left)
		}
	}
	expect(r, exitDone, r.run("--rsync-options", "-rltDH --delete"))
	expect(r, exitPartly, r.run(), "key: the destination did not keep its ") // a folder in use goes on
	r.destination = used
	r.saves()
}
