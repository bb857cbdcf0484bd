package btrfs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

const testSize = 256 << 20

var check, open = btrfstest.Check, btrfstest.Open

// newDir makes a directory and opens it.
func newDir(t testing.TB, path ...string) *os.File {
	t.Helper()
	dir := filepath.Join(path...)
	check(t, os.MkdirAll(dir, 0o755))
	return open(t, dir)
}

// newSubvolume makes a subvolume and opens it.
func newSubvolume(t testing.TB, path ...string) *os.File {
	t.Helper()
	full := filepath.Join(path...)
	check(t, btrfs.Create(open(t, filepath.Dir(full)), filepath.Base(full)))
	return open(t, full)
}

func snapshot(t testing.TB, source, dir *os.File, name string) *os.File {
	t.Helper()
	check(t, btrfs.Snapshot(source, dir, name))
	return open(t, filepath.Join(dir.Name(), name))
}

func info(t testing.TB, dir *os.File) btrfs.Subvolume {
	t.Helper()
	s, err := btrfs.Info(dir)
	check(t, err)
	return s
}

func list(t testing.TB, dir *os.File) btrfs.Listing {
	t.Helper()
	listing, err := btrfs.List(dir)
	check(t, err)
	return listing
}

// ids gives the IDs of subvolumes, in order.
func ids(subvolumes []btrfs.Subvolume) []uint64 {
	ids := make([]uint64, len(subvolumes))
	for i, s := range subvolumes {
		ids[i] = s.ID
	}
	slices.Sort(ids)
	return ids
}

// names gives the names of subvolumes, in order.
func names(subvolumes []btrfs.Subvolume) []string {
	names := make([]string, len(subvolumes))
	for i, s := range subvolumes {
		names[i] = s.Name
	}
	slices.Sort(names)
	return names
}

func find(t testing.TB, subvolumes []btrfs.Subvolume, id uint64) btrfs.Subvolume {
	t.Helper()
	i := slices.IndexFunc(subvolumes, func(s btrfs.Subvolume) bool { return s.ID == id })
	if i < 0 {
		t.Fatalf("subvolume %d is not listed", id)
	}
	return subvolumes[i]
}

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Lstat(path, &st))
	return st.Ino
}

var shown = regexp.MustCompile(`(?m)^\t([A-Z][A-Za-z ]*): +\t+(.*)$`)

// show describes a subvolume by what `btrfs subvolume show` and stat tell. Its generation is not what ChangedIn is.
func show(t testing.TB, path string) btrfs.Subvolume {
	t.Helper()
	fields := make(map[string]string)
	for _, m := range shown.FindAllStringSubmatch(btrfstest.Run(t, "btrfs", "subvolume", "show", path), -1) {
		if _, seen := fields[m[1]]; !seen {
			fields[m[1]] = m[2]
		}
	}
	number := func(key string) uint64 {
		n, err := strconv.ParseUint(fields[key], 10, 64)
		check(t, err)
		return n
	}
	uuid := func(key string) (u btrfs.UUID) {
		check(t, u.UnmarshalText([]byte(strings.Trim(fields[key], "-"))))
		return u
	}
	created, err := time.Parse("2006-01-02 15:04:05 -0700", fields["Creation time"])
	check(t, err)
	return btrfs.Subvolume{
		ID: number("Subvolume ID"), Container: number("Parent ID"), DirID: inode(t, filepath.Dir(path)), Name: filepath.Base(path),
		UUID: uuid("UUID"), ParentUUID: uuid("Parent UUID"), ReceivedUUID: uuid("Received UUID"),
		ReadOnly:  fields["Flags"] == "readonly",
		CreatedIn: number("Gen at creation"), SentIn: number("Send transid"),
		Created: created,
	}
}

// asShown drops of s what `btrfs subvolume show` does not tell.
func asShown(s btrfs.Subvolume) btrfs.Subvolume {
	s.Created = s.Created.Truncate(time.Second)
	s.ChangedIn, s.ReceivedIn, s.AlteredIn = 0, 0, 0
	s.Changed, s.ReceivedAt = time.Time{}, time.Time{}
	return s
}

// equal compares subvolumes whose times may differ in their locations.
func equal(a, b btrfs.Subvolume) bool {
	for _, s := range []*btrfs.Subvolume{&a, &b} {
		s.Created, s.Changed, s.ReceivedAt = s.Created.UTC(), s.Changed.UTC(), s.ReceivedAt.UTC()
	}
	return a == b
}

// receive sends snapshots, each as an increment to the one before it, into dir.
func receive(t testing.TB, dir string, snapshots ...*os.File) {
	t.Helper()
	const script = `dir=$1; shift; btrfs send -q "$@" | btrfs receive -q "$dir"`
	var parent []string
	for _, s := range snapshots {
		btrfstest.Run(t, slices.Concat([]string{"sh", "-c", script, "sh", dir}, parent, []string{s.Name()})...)
		parent = []string{"-p", s.Name()}
	}
}

// An ordinary user of the tests.
const userID = 4711

// asUser calls f with the rights of an ordinary user, which f must not pass to other goroutines.
func asUser(t testing.TB, f func()) {
	t.Helper()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread, which alone loses its rights, ends with this goroutine
		for _, set := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
			if _, _, errno := unix.RawSyscall(set, userID, userID, userID); errno != 0 {
				err = errno
				return
			}
		}
		f()
	}()
	<-done
	check(t, err)
}
