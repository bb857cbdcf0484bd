package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// bind mounts a directory at a new one, until the end of the test.
func bind(t testing.TB, dir, at string) string {
	t.Helper()
	return mounted(t, makeDir(t, at), "mount", "--bind", dir, at)
}

func mounted(t testing.TB, at string, argv ...string) string {
	t.Helper()
	btrfstest.Run(t, argv...)
	t.Cleanup(func() { btrfstest.Unmount(t, at) })
	return at
}

// subvolume makes a subvolume.
func subvolume(t testing.TB, path string) string {
	t.Helper()
	btrfstest.Run(t, "btrfs", "subvolume", "create", path)
	return path
}

// TestMountsOfDestinations backs up to folders that mounts lead to in the ways of the table.
func TestMountsOfDestinations(t *testing.T) {
	t.Parallel()
	for name, mount := range map[string]func(t *testing.T, disk *btrfstest.FS, at string) (folder string){
		"bind mount of a directory": func(t *testing.T, disk *btrfstest.FS, at string) string {
			return bind(t, makeDir(t, filepath.Join(disk.Dir, "some", "directory")), at)
		},
		"bind mount of a directory in a mounted subvolume": func(t *testing.T, disk *btrfstest.FS, at string) string {
			subvolume(t, filepath.Join(disk.Dir, "vol"))
			disk.Mount(t, at+"-vol", "subvol=vol")
			return bind(t, makeDir(t, filepath.Join(at+"-vol", "some", "directory")), at)
		},
		"bind mount of a directory in a nested subvolume": func(t *testing.T, disk *btrfstest.FS, at string) string {
			makeDir(t, filepath.Join(disk.Dir, "a", "b"))
			subvolume(t, filepath.Join(disk.Dir, "a", "b", "outer"))
			inner := subvolume(t, filepath.Join(makeDir(t, filepath.Join(disk.Dir, "a", "b", "outer", "c")), "inner"))
			return bind(t, makeDir(t, filepath.Join(inner, "d", "e")), at)
		},
		"bind mount over a mount of the same filesystem": func(t *testing.T, disk *btrfstest.FS, at string) string {
			disk.Mount(t, at)
			return bind(t, makeDir(t, filepath.Join(disk.Dir, "some", "directory")), at)
		},
		"bind mount with strange characters": func(t *testing.T, disk *btrfstest.FS, at string) string {
			return bind(t, makeDir(t, filepath.Join(disk.Dir, "some \\ 'dir'\n\"ectory\"")), at+" $HOME\n\\040\t'x'\"y\"")
		},
		"subvol= mount": func(t *testing.T, disk *btrfstest.FS, at string) string {
			subvolume(t, filepath.Join(disk.Dir, "vol"))
			disk.Mount(t, at, "subvol=vol")
			return at
		},
		"subvolid= mount": func(t *testing.T, disk *btrfstest.FS, at string) string {
			id := btrfstest.Run(t, "btrfs", "inspect-internal", "rootid", subvolume(t, filepath.Join(disk.Dir, "vol")))
			disk.Mount(t, at, "subvolid="+id)
			return at
		},
		"mount over a mount": func(t *testing.T, disk *btrfstest.FS, at string) string {
			disk.Mount(t, at)
			makeDir(t, filepath.Join(at, "usb"))
			mounted(t, at, "mount", "-t", "tmpfs", "tmpfs", at)
			disk.Mount(t, filepath.Join(at, "usb"))
			return filepath.Join(at, "usb")
		},
		"mount over another btrfs": func(t *testing.T, disk *btrfstest.FS, at string) string {
			smallFS(t).Mount(t, at)
			disk.Mount(t, at)
			return at
		},
		"mount point with strange characters": func(t *testing.T, disk *btrfstest.FS, at string) string {
			at += " with space\nnewline\\backslash\\040#"
			disk.Mount(t, at)
			return at
		},
		"symbolic link": func(t *testing.T, disk *btrfstest.FS, at string) string {
			symlink(t, disk.Dir, at)
			return at
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := newSource(t, smallFS(t).Dir, "home")
			destination := filepath.Join(mount(t, smallFS(t), filepath.Join(t.TempDir(), "usb")), "backups")
			backUpTwice(t, source, destination)
		})
	}
}

// backUpTwice makes a complete backup and an increment.
func backUpTwice(t testing.TB, source, destination string) {
	t.Helper()
	first := backUp(t, exitDone, march(1), source, destination).Snapshot
	write(t, filepath.Join(source, "file"), "changed")
	r := backUp(t, exitDone, march(2), source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot+"<"+first)
	want(t, "backups", names(t, destination), first, r.Snapshot)
	for _, name := range []string{first, r.Snapshot} {
		isCopy(t, source, destination, name)
	}
}

// TestOneDiskMountedTwiceGetsIncrements has a copy of each parent on the same disk, outside of the mount that the other is received in.
func TestOneDiskMountedTwiceGetsIncrements(t *testing.T) {
	t.Parallel()
	disk, at := smallFS(t), t.TempDir()
	source := newSource(t, smallFS(t).Dir, "home")
	var places []string
	for _, name := range []string{"a", "b", "c"} {
		subvolume(t, filepath.Join(disk.Dir, name))
		disk.Mount(t, filepath.Join(at, name), "subvol="+name)
		places = append(places, filepath.Join(at, name, "backups"))
	}
	places = append(places, bind(t, makeDir(t, filepath.Join(disk.Dir, "d", "e")), filepath.Join(at, "d")))
	btrfstest.Run(t, "dd", "if=/dev/urandom", "of="+filepath.Join(source, "file"), "bs=1M", "count=2")
	last := backUp(t, exitDone, march(1), append([]string{source}, places...)...).Snapshot
	for day := range 2 {
		// the data is in the parent only, from where it is cloned
		btrfstest.Run(t, "cp", "--reflink=always", filepath.Join(source, "file"), filepath.Join(source, fmt.Sprint("copy", day)))
		btrfstest.Run(t, "dd", "if=/dev/urandom", "of="+filepath.Join(source, "file"), "bs=1M", "count=2", "conv=notrunc")
		r := backUp(t, exitDone, march(day+2), append([]string{source}, places...)...)
		for _, place := range places {
			want(t, "transfers", r.to(t, place).transfers(), r.Snapshot+"<"+last)
			isCopy(t, source, place, r.Snapshot)
		}
		last = r.Snapshot
	}
}

// TestMountsOfSources backs up subvolumes that mounts lead to in the ways of the table.
func TestMountsOfSources(t *testing.T) {
	t.Parallel()
	for name, mount := range map[string]func(t *testing.T, disk *btrfstest.FS, at string) (source string){
		"bind mount of the subvolume": func(t *testing.T, disk *btrfstest.FS, at string) string {
			return bind(t, newSource(t, disk.Dir, "home"), at)
		},
		"bind mount of a directory above it": func(t *testing.T, disk *btrfstest.FS, at string) string {
			newSource(t, makeDir(t, filepath.Join(disk.Dir, "some", "directory")), "home")
			return filepath.Join(bind(t, filepath.Join(disk.Dir, "some"), at), "directory", "home")
		},
		"subvol= mount": func(t *testing.T, disk *btrfstest.FS, at string) string {
			newSource(t, disk.Dir, "home")
			disk.Mount(t, at, "subvol=home")
			return at
		},
		"subvolid= mount of the subvolume above it": func(t *testing.T, disk *btrfstest.FS, at string) string {
			outer := subvolume(t, filepath.Join(disk.Dir, "outer"))
			newSource(t, outer, "home")
			disk.Mount(t, at, "subvolid="+btrfstest.Run(t, "btrfs", "inspect-internal", "rootid", outer))
			return filepath.Join(at, "home")
		},
		"top level": func(t *testing.T, disk *btrfstest.FS, at string) string {
			write(t, filepath.Join(disk.Dir, "file"), "content")
			return disk.Dir
		},
		"mount over a mount": func(t *testing.T, disk *btrfstest.FS, at string) string {
			newSource(t, disk.Dir, "home")
			disk.Mount(t, at)
			mounted(t, at, "mount", "-t", "tmpfs", "tmpfs", at)
			disk.Mount(t, filepath.Join(at, "home"), "subvol=home")
			return filepath.Join(at, "home")
		},
		"mount point with strange characters": func(t *testing.T, disk *btrfstest.FS, at string) string {
			newSource(t, disk.Dir, "home")
			at += " with space\nnewline\\backslash\\040#"
			disk.Mount(t, at, "subvol=home")
			return at
		},
		"symbolic link": func(t *testing.T, disk *btrfstest.FS, at string) string {
			symlink(t, newSource(t, disk.Dir, "home"), at)
			return at
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := mount(t, smallFS(t), filepath.Join(t.TempDir(), "mount"))
			backUpTwice(t, source, filepath.Join(smallFS(t).Dir, "backups"))
		})
	}
}

func TestSnapshotFolderInAnotherMountOfTheFilesystem(t *testing.T) {
	t.Parallel()
	disk := smallFS(t)
	newSource(t, disk.Dir, "@home")
	source := filepath.Join(t.TempDir(), "home")
	disk.Mount(t, source, "subvol=@home")
	folder := filepath.Join(disk.Dir, "snapshots")
	destination := filepath.Join(smallFS(t).Dir, "backups")

	first := backUp(t, exitDone, march(1), "-f", folder, source, destination).Snapshot
	r := backUp(t, exitDone, march(2), "-f", folder, source, destination)
	want(t, "transfers", r.to(t, destination).transfers(), r.Snapshot+"<"+first)
	want(t, "snapshots", names(t, folder), first, r.Snapshot)
	btrfstest.Equal(t, filepath.Join(folder, r.Snapshot), filepath.Join(destination, r.Snapshot))
}

func TestDirectoryBesideAMountOfSimilarNameIsNotOnIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	smallFS(t).Mount(t, filepath.Join(dir, "back"))
	mounted(t, makeDir(t, filepath.Join(dir, "backups")), "mount", "-t", "tmpfs", "tmpfs", filepath.Join(dir, "backups"))
	source := newSource(t, smallFS(t).Dir, "home")

	r := backUp(t, exitFailed, march(1), source, filepath.Join(dir, "backups", "home"))
	failures := r.to(t, filepath.Join(dir, "backups", "home")).Failures
	if len(failures) != 1 || !strings.Contains(failures[0].Error, "not on a btrfs filesystem") || failures[0].Hint == "" {
		t.Fatalf("failures: %+v", failures)
	}
	want(t, "created", names(t, filepath.Join(dir, "backups")))
	expect(t, exitFailed, invoke(t, nil, "--engine", "btrfs", filepath.Join(dir, "backups")), "not on a btrfs filesystem")
}

func TestSourceThatIsMountedReadOnlyIsAClearError(t *testing.T) {
	t.Parallel()
	disk := smallFS(t)
	home := newSource(t, disk.Dir, "home")
	source := filepath.Join(t.TempDir(), "home")
	disk.Mount(t, source, "ro", "subvol=home")
	before := allIn(t, home)

	expect(t, exitFailed, invoke(t, nil, source), "btrfs-backup: error: ", source, "read-only file system")
	unchanged(t, before, home)
}

func TestDestinationThatIsTheSnapshotFolderIsRefused(t *testing.T) {
	t.Parallel()
	disk := smallFS(t)
	source := newSource(t, disk.Dir, "home")
	taken := series(t, 2, source)
	folder := filepath.Join(source, "snapshot")
	alias := bind(t, disk.Dir, filepath.Join(t.TempDir(), "alias"))

	for _, destination := range []string{folder, filepath.Join(alias, "home", "snapshot")} {
		r := backUp(t, exitFailed, march(3), "-S", "-n1", source, destination)
		failures := r.to(t, destination).Failures
		if len(failures) != 1 || !strings.Contains(failures[0].Error, "is the snapshot folder of the source") {
			t.Fatalf("failures: %+v", failures)
		}
		want(t, "snapshots", names(t, folder), taken...)
	}
}

func TestNestedSubvolumesAreNamedUntilTheyAreKnown(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	subvolume(t, filepath.Join(makeDir(t, filepath.Join(source, "var", "lib")), "images"))
	subvolume(t, filepath.Join(source, "work"))
	subvolume(t, filepath.Join(source, "work", "deeper")) // no matter of this source
	snapshotByHand(t, source, filepath.Join(makeDir(t, filepath.Join(source, ".snapshots", "1")), "snapshot"))
	snapshotByHand(t, filepath.Join(source, "work"), filepath.Join(source, "work of yesterday"))

	nested := []string{"var/lib/images", "work", "work of yesterday"}
	named := func(times int, environ []string, options ...string) {
		t.Helper()
		stderr := expect(t, exitDone, invoke(t, environ, append(options, source, destination, destination+"2")...)).stderr
		for _, name := range nested {
			if n := strings.Count(stderr, `"`+name+`"`); n != times {
				t.Errorf("%s is named %d times:\n%s", name, n, stderr)
			}
		}
	}
	named(1, march(1), "--quiet")
	named(0, march(2))
	named(1, march(3), "--dry-run")
	want(t, "nested", backUp(t, exitDone, march(4), source).Nested, nested...)
}

func TestFolderOfADiskThatIsNotMountedIsNotFilled(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{".", "backups"} {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			root, usb := smallFS(t), smallFS(t)
			source := newSource(t, root.Dir, "home")
			mountPoint := filepath.Join(root.Dir, "usb")
			usb.Mount(t, mountPoint)
			destination := filepath.Join(mountPoint, folder)
			taken := series(t, 2, source, destination)

			btrfstest.Unmount(t, mountPoint)
			r := backUp(t, exitFailed, march(3), source, destination)
			unsent := r.Snapshot
			failures := r.to(t, destination).Failures
			if len(failures) != 1 || !strings.Contains(failures[0].Hint, "is its disk mounted?") {
				t.Fatalf("failures: %+v", failures)
			}
			want(t, "entries of the mount point", everything(t, mountPoint))

			usb.Mount(t, mountPoint)
			r = backUp(t, exitDone, march(4), source, destination)
			want(t, "transfers", r.to(t, destination).transfers(), unsent+"<"+taken[1], r.Snapshot+"<"+unsent)
		})
	}
}
