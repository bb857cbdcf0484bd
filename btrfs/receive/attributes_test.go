package receive_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"

	"golang.org/x/sys/unix"
)

func TestAttributesOfAllKinds(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	long, large := "user."+strings.Repeat("n", 250), strings.Repeat("v", 15_900)
	root := p.whole(
		mkfile("f"), setXattr("f", long, large), setXattr("f", "user.empty", ""), setXattr("f", "user.gone", "1"), removeXattr("f", "user.gone"),
		setXattr("f", "user.twice", "1"), setXattr("f", "user.twice", "2"),
		streamtest.Symlink("s", "f"), setXattr("s", "trusted.s", "of the link"),
		streamtest.Makes(sendstream.CmdMkfifo, "p"), setXattr("p", "trusted.p", "of the pipe"),
		setXattr("", "user.root", "of the root"),
	)
	wantXattr(t, root+"/f", long, large)
	wantXattr(t, root+"/f", "user.empty", "")
	wantXattr(t, root+"/f", "user.twice", "2")
	wantXattr(t, root+"/s", "trusted.s", "of the link")
	wantXattr(t, root+"/p", "trusted.p", "of the pipe")
	wantXattr(t, root, "user.root", "of the root")
	for _, name := range []string{"user.gone", "trusted.s"} {
		if value, ok := xattr(t, root+"/f", name); ok {
			t.Errorf("%s is %q", name, value)
		}
	}
}

func TestAttributesGrowBeyondTheirBlock(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	small, large := strings.Repeat("s", 1700), strings.Repeat("l", 15_000)
	commands, grow := [][]byte{mkfile("f"), mkdir("d")}, [][]byte{write("f", "x", 0)}
	const names = "abcdefgh"
	for _, path := range []string{"f", "d"} {
		for _, name := range names {
			commands, grow = append(commands, setXattr(path, "user."+string(name), small)), append(grow, setXattr(path, "user."+string(name), large))
		}
	}
	p.whole(commands...)
	root := p.on(grow...)
	for _, path := range []string{"f", "d"} {
		for _, name := range names {
			wantXattr(t, filepath.Join(root, path), "user."+string(name), large)
		}
	}
}

// A directory passes attributes on to what is made in it, as the sender did not mean.
func TestNothingIsInherited(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	acl := string(namedACL)
	makeAll := func(prefix string) [][]byte {
		return [][]byte{
			mkfile("o1"), move("o1", prefix+"file"), write(prefix+"file", "x", 0), chmod(prefix+"file", 0o644),
			mkdir("o2"), move("o2", prefix+"dir"), chmod(prefix+"dir", 0o755),
			streamtest.Makes(sendstream.CmdMkfifo, "o3"), move("o3", prefix+"fifo"), chmod(prefix+"fifo", 0o644),
			streamtest.Symlink("o4", "file"), move("o4", prefix+"symlink"),
		}
	}
	commands := append([][]byte{mkdir("d"), mkdir("d/e")}, makeAll("d/e/1")...)
	commands = append(commands, setXattr("d/e", "system.posix_acl_default", acl), setXattr("d/e", "btrfs.compression", "zstd"),
		setXattr("", "system.posix_acl_default", acl), setXattr("", "btrfs.compression", "lzo"))
	root := p.whole(append(append(commands, makeAll("d/e/2")...), makeAll("3")...)...)
	for _, prefix := range []string{"d/e/1", "d/e/2", "3"} {
		for _, name := range []string{"file", "dir", "fifo", "symlink"} {
			path := filepath.Join(root, prefix+name)
			for _, attribute := range []string{"system.posix_acl_access", "system.posix_acl_default", "btrfs.compression"} {
				buffer := make([]byte, 100)
				if n, err := unix.Lgetxattr(path, attribute, buffer); err == nil {
					t.Errorf("%s has %s: %q", path, attribute, buffer[:n])
				}
			}
		}
		wantState(t, filepath.Join(root, prefix+"file"), "100644 0:0 1")
	}
	wantXattr(t, root+"/d/e", "btrfs.compression", "zstd")
	root = p.on(append([][]byte{removeXattr("", "system.posix_acl_default"), setXattr("3file", "system.posix_acl_access", acl)}, makeAll("4")...)...)
	wantXattr(t, root+"/3file", "system.posix_acl_access", acl)
	wantState(t, root+"/4file", "100644 0:0 1")
}

// namedACL gives user 4321 rights. linux/posix_acl_xattr.h
var namedACL = []byte("\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x05\x00\xe1\x10\x00\x00" +
	"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff")

func TestModesSurviveOwnersAndACLs(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	capability := "\x01\x00\x00\x02\x00\x04" + strings.Repeat("\x00", 14) // linux/capability.h: struct vfs_cap_data
	const file = "security.capability"
	p.whole(
		mkfile("setid"), chown("setid", 1, 2), chmod("setid", 0o6755),
		mkdir("dir"), chown("dir", 1, 2), chmod("dir", 0o3775),
		mkfile("acl"), setXattr("acl", "system.posix_acl_access", string(namedACL)), chmod("acl", 0o640),
		mkfile("capable"), write("capable", "1", 0), chown("capable", 1, 2), chmod("capable", 0o755), setXattr("capable", file, capability),
	)
	// The sender tells what changed: the owner, but neither mode nor attributes. Capabilities it tells again.
	root := p.on(chown("setid", 3, 4), chown("dir", 3, 4), write("capable", "2", 0), chown("capable", 3, 4), setXattr("capable", file, capability))
	wantState(t, root+"/setid", "106755 3:4 0")
	if got := state(t, root+"/dir"); got != "43775 3:4 0" {
		t.Errorf("directory: %s", got)
	}
	wantState(t, root+"/acl", "100640 0:0 0")
	wantState(t, root+"/capable", "100755 3:4 1")
	wantXattr(t, root+"/capable", file, capability)
}

func TestTimesAreThoseOfTheStream(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	early, late := time.Date(1931, 2, 3, 4, 5, 6, 789_012_345, time.UTC), time.Date(2222, 2, 3, 4, 5, 6, 999_999_999, time.UTC)
	root := p.whole(
		mkfile("f"), mkdir("d"), streamtest.Symlink("s", "f"), utimes("s", late), utimes("", early),
		write("f", "x", 0), truncate("f", 9), utimes("f", early), utimes("d", late), mkfile("o1"), move("o1", "d/late"), utimes("d", early),
	)
	on := p.on(mkfile("o2"), unlink("o2"), chmod("f", 0o600))
	for path, want := range map[string]time.Time{root: early, root + "/f": early, root + "/s": late, root + "/d": early, on: early} {
		var st unix.Stat_t
		check(t, unix.Lstat(path, &st))
		modified, read := time.Unix(st.Mtim.Unix()), time.Unix(st.Atim.Unix())
		if !modified.Equal(want) || !read.Equal(want.Add(time.Hour)) {
			t.Errorf("%s: %v and %v, want %v", path, modified.UTC(), read.UTC(), want)
		}
	}
}

func TestFlagsComeLast(t *testing.T) {
	t.Parallel()
	const immutable, appendOnly, noDump = 1 << 6, 1 << 7, 1 << 8 // linux/btrfs_tree.h: BTRFS_INODE_*
	p := newPlace(t)
	root := p.whole(
		mkfile("f"), setXattr("f", "btrfs.compression", "lzo"), fileattr("f", immutable|noDump), write("f", "x", 0), utimes("f", time.Unix(5, 6)),
		mkfile("a"), fileattr("a", appendOnly), write("a", "12", 0), truncate("a", 1),
		mkdir("d"), fileattr("d", immutable), mkfile("o1"), move("o1", "d/inside"), move("f", "d/f"),
	)
	wantFlags(t, root+"/d/f", btrfs.ImmutableFlag|btrfs.NoDumpFlag)
	wantFlags(t, root+"/d", btrfs.ImmutableFlag)
	wantFlags(t, root+"/a", btrfs.AppendFlag)
	wantXattr(t, root+"/d/f", "btrfs.compression", "lzo")
	wantContent(t, root+"/d/f", "x")
	wantContent(t, root+"/a", "1")
}

func TestNoDeviceIsOpenedForItsFlags(t *testing.T) {
	t.Parallel()
	const noDump, nobodys = 1 << 8, 240 << 8 // a device without a driver: to open it would fail
	p := newPlace(t)
	p.whole(streamtest.Makes(sendstream.CmdMknod, "device", streamtest.Number(sendstream.AttrMode, unix.S_IFCHR|0o600),
		streamtest.Number(sendstream.AttrRdev, nobodys)), fileattr("device", noDump))
}

func TestWhatIsImmutableInTheParentCanBeChanged(t *testing.T) {
	t.Parallel()
	const immutable, appendOnly = 1 << 6, 1 << 7 // linux/btrfs_tree.h: BTRFS_INODE_*
	changes := map[string][]byte{
		"write": write("d/f", "2", 0), "truncate": truncate("a", 0), "mode": chmod("d/f", 0o640), "times": utimes("a", time.Unix(5, 6)),
		"attribute": setXattr("d", "user.a", "1"), "link": link("l", "d/f"), "remove": unlink("a"), "rename": move("d/f", "f"),
		"rename over": move("free", "a"), "owner": chown("a", 1, 1), "make": mkfile("d/new"), "of the root": chmod("", 0o711),
	}
	for name, change := range changes {
		p := newPlace(t)
		p.whole(mkdir("d"), mkfile("d/f"), write("d/f", "1", 0), mkfile("a"), mkfile("free"), mkfile("other"),
			fileattr("", immutable), fileattr("d", immutable), fileattr("d/f", immutable), fileattr("a", appendOnly), fileattr("other", immutable))
		root, err := p.receive(streamtest.SnapshotOf(streamtest.OwnUUID), change)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantFlags(t, root, 0) // else it could not be renamed
		wantFlags(t, root+"/d", btrfs.ImmutableFlag)
		wantFlags(t, root+"/other", btrfs.ImmutableFlag)
		root = p.must(streamtest.SnapshotOf(streamtest.OwnUUID), fileattr("other", 0), write("other", "x", 0))
		wantFlags(t, root+"/other", 0)
	}
}

func TestTheRootIsNotImmutableAsThatOfItsParent(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	dir := open(t, p.dir)
	check(t, btrfs.Create(dir, "own"))
	own := open(t, p.dir+"/own")
	check(t, btrfs.SetFlags(own, btrfs.ImmutableFlag|btrfs.NoDumpFlag))
	check(t, btrfs.Snapshot(own, dir, "parent"))
	parent, err := btrfs.Info(open(t, p.dir+"/parent"))
	check(t, err)
	for _, change := range [][]byte{chmod("", 0o700), mkfile("a")} {
		wantFlags(t, p.must(streamtest.SnapshotOf(parent.UUID), change), btrfs.NoDumpFlag)
	}
}

// A directory whose files were not to be copied on write may be one whose files are compressed now: what excludes the other comes later.
func TestCompressionTakesThePlaceOfNoCow(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.whole(mkdir("d"), mkfile("f"), fileattr("d", noCowItem), fileattr("f", noCowItem))
	root := p.on(setXattr("d", "btrfs.compression", "zstd"), fileattr("d", 0), setXattr("f", "btrfs.compression", "lzo"), fileattr("f", 0))
	for name, want := range map[string]string{"d": "zstd", "f": "lzo"} {
		wantXattr(t, filepath.Join(root, name), "btrfs.compression", want)
		wantFlags(t, filepath.Join(root, name), 0)
	}
}

// Nor does it pass on flags, which a file keeps when it has content, and which exclude what the stream sets.
func TestNoFlagsAreInherited(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.whole(mkdir("d"), mkdir("m"), setXattr("d", "system.posix_acl_default", string(namedACL)), fileattr("d", noCowItem), fileattr("m", noCompressItem),
		fileattr("", noCowItem))
	var commands [][]byte
	for _, prefix := range []string{"", "d/", "m/"} {
		commands = append(commands, mkfile("o1"), move("o1", prefix+"file"), setXattr(prefix+"file", "btrfs.compression", "zstd"), write(prefix+"file", "x", 0),
			mkdir("o2"), move("o2", prefix+"dir"), mkfile("o3"), move("o3", prefix+"dir/below"), write(prefix+"dir/below", "x", 0))
	}
	root := p.on(commands...)
	for _, prefix := range []string{"", "d/", "m/"} {
		wantXattr(t, filepath.Join(root, prefix, "file"), "btrfs.compression", "zstd")
		for _, name := range []string{"file", "dir", "dir/below"} {
			wantFlags(t, filepath.Join(root, prefix, name), 0)
		}
	}
	wantFlags(t, root, btrfs.NoCowFlag)
	wantFlags(t, root+"/d", btrfs.NoCowFlag)
	wantFlags(t, root+"/m", btrfs.NoCompressFlag)
	if p.result.Uncompressed != 0 {
		t.Errorf("not compressed: %d", p.result.Uncompressed)
	}
}

// A file that has content without checksums stays so, whatever the sender has done to its own.
func TestWhatCannotBeCompressedIsCounted(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.whole(mkfile("f"), mkfile("g"), mkfile("other"), mkdir("d"), fileattr("f", noCowItem), fileattr("g", noCowItem), fileattr("d", noCowItem))
	root := p.on(
		write("f", "1", 0), setXattr("f", "btrfs.compression", "zstd"), write("f", "2", 1), removeXattr("f", "btrfs.compression"),
		write("g", "3", 0), write("other", "4", 0), setXattr("g", "btrfs.compression", "none"), removeXattr("g", "btrfs.compression"),
		removeXattr("other", "btrfs.compression"), fileattr("g", noCompressItem), fileattr("d", noCompressItem),
	)
	if p.result.Uncompressed != 2 {
		t.Errorf("not compressed: %d", p.result.Uncompressed)
	}
	wantContent(t, root+"/f", "12")
	wantContent(t, root+"/g", "3")
	wantFlags(t, root+"/f", btrfs.NoCowFlag)
	wantFlags(t, root+"/g", btrfs.NoCowFlag)
	wantFlags(t, root+"/d", btrfs.NoCompressFlag)
	root = p.on(fileattr("d", 0))
	wantFlags(t, root+"/d", 0)
}

// Where the kernel has no fs-verity, that is what is told: what was sealed would not be so in the backup.
func TestFilesAreSealed(t *testing.T) {
	t.Parallel()
	const sha256, attrVerity = 1, 0x100000 // linux/fsverity.h, linux/stat.h: STATX_ATTR_VERITY
	p := newPlace(t)
	root, err := p.receive(streamtest.Subvol(), mkfile("f"), write("f", blocks("ab"), 0), do(sendstream.CmdEnableVerity, "f",
		text(sendstream.AttrVerityAlgorithm, string(rune(sha256))), streamtest.Number32(sendstream.AttrVerityBlockSize, block),
		text(sendstream.AttrVeritySalt, "salt"), text(sendstream.AttrVeritySignature, "")), utimes("f", time.Unix(5, 6)))
	var told *receive.Error
	if errors.As(err, &told) {
		if !errors.Is(err, unix.EOPNOTSUPP) || told.Number != 4 || !strings.Contains(err.Error(), `enable_verity of "f": this kernel or filesystem has no fs-verity`) {
			t.Error(err)
		}
		wantUnfinished(t, root)
		return
	}
	check(t, err)
	var st unix.Statx_t
	check(t, unix.Statx(unix.AT_FDCWD, root+"/f", 0, 0, &st))
	if st.Attributes&attrVerity == 0 {
		t.Error("not sealed")
	}
	wantContent(t, root+"/f", blocks("ab"))
}

func wantFlags(t *testing.T, path string, want btrfs.Flags) {
	t.Helper()
	got, err := btrfs.FlagsOf(open(t, path))
	check(t, err)
	if got != want {
		t.Errorf("%s has flags %v, want %v", path, got, want)
	}
}
