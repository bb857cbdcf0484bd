package receive_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/btrfs/receive"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/btrfs/sendstream/streamtest"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Commands of protocol 2, shorter.
var text, number = streamtest.Text, streamtest.Number

func do(kind sendstream.CommandType, path string, more ...streamtest.Attribute) []byte {
	return streamtest.Encode(kind, append([]streamtest.Attribute{text(sendstream.AttrPath, path)}, more...)...)
}

func mkdir(path string) []byte { return streamtest.Makes(sendstream.CmdMkdir, path) }
func move(from, to string) []byte {
	return do(sendstream.CmdRename, from, text(sendstream.AttrPathTo, to))
}
func link(path, existing string) []byte {
	return do(sendstream.CmdLink, path, text(sendstream.AttrPathLink, existing))
}
func unlink(path string) []byte { return do(sendstream.CmdUnlink, path) }
func write(path, data string, offset uint64) []byte {
	return do(sendstream.CmdWrite, path, number(sendstream.AttrFileOffset, offset), streamtest.Rest([]byte(data)))
}
func truncate(path string, size uint64) []byte {
	return do(sendstream.CmdTruncate, path, number(sendstream.AttrSize, size))
}
func chmod(path string, mode uint64) []byte {
	return do(sendstream.CmdChmod, path, number(sendstream.AttrMode, mode))
}
func chown(path string, uid, gid uint64) []byte {
	return do(sendstream.CmdChown, path, number(sendstream.AttrUID, uid), number(sendstream.AttrGID, gid))
}
func setXattr(path, name, value string) []byte {
	return do(sendstream.CmdSetXattr, path, text(sendstream.AttrXattrName, name), text(sendstream.AttrXattrData, value))
}
func removeXattr(path, name string) []byte {
	return do(sendstream.CmdRemoveXattr, path, text(sendstream.AttrXattrName, name))
}
func utimes(path string, at time.Time) []byte {
	return do(sendstream.CmdUtimes, path, streamtest.Time(sendstream.AttrAtime, at.Add(time.Hour)), streamtest.Time(sendstream.AttrMtime, at),
		streamtest.Time(sendstream.AttrCtime, at))
}
func fileattr(path string, item uint64) []byte {
	return do(sendstream.CmdFileattr, path, number(sendstream.AttrFileattr, item))
}
func fallocate(path string, mode uint32, offset, size uint64) []byte {
	return do(sendstream.CmdFallocate, path, streamtest.Number32(sendstream.AttrFallocateMode, mode), number(sendstream.AttrFileOffset, offset),
		number(sendstream.AttrSize, size))
}

// encoded writes what is a part of data that is compressed as a whole.
func encoded(path string, offset uint64, kind uint32, skip, length, whole uint64, data []byte) []byte {
	return do(sendstream.CmdEncodedWrite, path, number(sendstream.AttrFileOffset, offset), number(sendstream.AttrUnencodedFileLen, length),
		number(sendstream.AttrUnencodedLen, whole), number(sendstream.AttrUnencodedOffset, skip), streamtest.Number32(sendstream.AttrCompression, kind),
		streamtest.Rest(data))
}

// place is where streams are received, each under a name of its own.
type place struct {
	t    *testing.T
	dir  string
	made int
}

func newPlace(t *testing.T) *place { return &place{t: t, dir: btrfstest.New(t, 512<<20).Dir} }

// receive receives a stream that begins with the first of the commands.
func (p *place) receive(commands ...[]byte) (root string, err error) {
	p.t.Helper()
	p.made++
	name := fmt.Sprint("s", p.made)
	_, err = receive.Stream(context.Background(), open(p.t, p.dir), bytes.NewReader(streamtest.Stream(2, commands...)), receive.Options{Name: name})
	return filepath.Join(p.dir, name), err
}

func (p *place) must(commands ...[]byte) (root string) {
	p.t.Helper()
	root, err := p.receive(commands...)
	check(p.t, err)
	return root
}

// whole receives a complete subvolume.
func (p *place) whole(commands ...[]byte) string {
	p.t.Helper()
	return p.must(append([][]byte{streamtest.Subvol()}, commands...)...)
}

// on receives an increment upon the last of the complete ones.
func (p *place) on(commands ...[]byte) string {
	p.t.Helper()
	return p.must(append([][]byte{streamtest.SnapshotOf(streamtest.OwnUUID)}, commands...)...)
}

// state describes a file: type, mode, owner, size.
func state(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Lstat(path, &st))
	return fmt.Sprintf("%o %d:%d %d", st.Mode, st.Uid, st.Gid, st.Size)
}

func wantState(t *testing.T, path, want string) {
	t.Helper()
	if got := state(t, path); got != want {
		t.Errorf("%s: %s, want %s", path, got, want)
	}
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	check(t, err)
	if string(got) != want {
		t.Errorf("%s holds %d bytes that begin with %.20q, want %d that begin with %.20q", path, len(got), got, len(want), want)
	}
}

func xattr(t *testing.T, path, name string) (value string, ok bool) {
	t.Helper()
	buffer := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(path, name, buffer)
	if errors.Is(err, unix.ENODATA) {
		return "", false
	}
	check(t, err)
	return string(buffer[:n]), true
}

func wantXattr(t *testing.T, path, name, want string) {
	t.Helper()
	if got, ok := xattr(t, path, name); got != want || !ok {
		t.Errorf("%s of %s is %q, %t", name, path, got, ok)
	}
}

func wantAbsent(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%s is there: %v", path, err)
	}
}

func TestNodesAreMadeWhereTheyAreToBe(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	device := uint64(unix.Mkdev(300, 70_000))
	mknod := func(path string, mode, device uint64) []byte {
		return streamtest.Makes(sendstream.CmdMknod, path, number(sendstream.AttrMode, mode), number(sendstream.AttrRdev, device))
	}
	root := p.whole(
		mkfile("stays"), write("stays", "data", 0), chmod("stays", 0o640),
		mkfile("o1"), move("o1", "file"), chmod("file", 0o4711),
		mkdir("o2"), move("o2", "dir"), chmod("dir", 0o1777),
		mknod("o3", unix.S_IFCHR|0o600, device), move("o3", "dir/char"), chmod("dir/char", 0o666),
		mknod("o4", unix.S_IFBLK, device), move("o4", "dir/block"),
		streamtest.Makes(sendstream.CmdMkfifo, "o5"), move("o5", "dir/fifo"),
		streamtest.Makes(sendstream.CmdMksock, "o6"), move("o6", "dir/socket"),
		streamtest.Symlink("o7", "../any\n\xff"), move("o7", "dir/symlink"), chown("dir/symlink", 5, 6),
	)
	for path, want := range map[string]string{
		"stays": "100640 0:0 4", "file": "104711 0:0 0", "dir/char": "20666 0:0 0", "dir/block": "60600 0:0 0", "dir/fifo": "10600 0:0 0",
		"dir/socket": "140600 0:0 0", "dir/symlink": "120777 5:6 8",
	} {
		wantState(t, filepath.Join(root, path), want)
	}
	if got := state(t, root+"/dir"); !strings.HasPrefix(got, "41777 ") {
		t.Errorf("directory: %s", got)
	}
	var st unix.Stat_t
	check(t, unix.Lstat(root+"/dir/char", &st))
	if uint64(st.Rdev) != device {
		t.Errorf("device %#x, want %#x", st.Rdev, device)
	}
	if target, err := os.Readlink(root + "/dir/symlink"); err != nil || target != "../any\n\xff" {
		t.Errorf("target %q, %v", target, err)
	}
}

func TestTemporaryNamesMayLast(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	root := p.whole(
		mkdir("o1"), mkfile("o2"), move("o2", "o1/inside"), write("o1/inside", "1", 0),
		mkfile("o3"), link("linked", "o3"), write("o3", "2", 0), move("o3", "late"),
		mkdir("a"), mkdir("o4"), move("o4", "a/b"), move("o1", "a/b/c"), write("a/b/c/inside", "x", 1),
		mkfile("old"), write("old", "old", 0), link("kept", "old"),
		mkfile("o5"), move("o5", "old"), write("old", "new", 0), // over what has the name
	)
	wantContent(t, root+"/a/b/c/inside", "1x")
	wantContent(t, root+"/linked", "2")
	wantContent(t, root+"/late", "2")
	wantContent(t, root+"/old", "new")
	wantContent(t, root+"/kept", "old")
	for _, name := range []string{"o1", "o2", "o3", "o4", "o5"} {
		wantAbsent(t, filepath.Join(root, name))
	}
}

func TestNamesMayChangeBetweenWrites(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	long := strings.Repeat("x", 40_000)
	root := p.whole(
		mkdir("d"), mkdir("d/e"), mkfile("d/e/f"), write("d/e/f", "1", 0),
		move("d", "moved"), write("moved/e/f", "2", 1),
		mkdir("d"), mkdir("d/e"), mkfile("d/e/f"), write("d/e/f", "other", 0), // by a path that was another's
		mkfile("gone"), write("gone", long, 0), link("stays", "gone"), unlink("gone"),
		mkfile("gone"), write("gone", "again", 0), write("stays", "end", 40_000),
		mkdir("r"), mkfile("r/f"), write("r/f", "1", 0), unlink("r/f"), do(sendstream.CmdRmdir, "r"), mkfile("r"), write("r", "no directory", 0),
	)
	wantContent(t, root+"/moved/e/f", "12")
	wantContent(t, root+"/d/e/f", "other")
	wantContent(t, root+"/gone", "again")
	wantContent(t, root+"/stays", long+"end")
	wantContent(t, root+"/r", "no directory")
}

// Not all directories are kept open. That of one name may be the next to be closed when that of the other is opened.
func TestNamesMayChangeBetweenManyDirectories(t *testing.T) {
	t.Parallel()
	const many = 100
	var commands [][]byte
	for i := range many {
		commands = append(commands, mkdir(fmt.Sprint(i)), mkfile(fmt.Sprint(i, "/f")))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		from, to := random.IntN(many), random.IntN(many)
		commands = append(commands, link(fmt.Sprint(to, "/", i), fmt.Sprint(from, "/f")), move(fmt.Sprint(to, "/", i), fmt.Sprint(from, "/", i)))
	}
	newPlace(t).whole(commands...)
}

func TestErrorsNameTheCommand(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, c := range []struct {
		name    string
		command []byte
		number  int64
		path    string
		err     error
	}{
		{"link over a name", link("a", "b"), 4, "a", unix.EEXIST},
		{"write to nothing", write("c", "x", 0), 4, "c", unix.ENOENT},
		{"remove what is not there", unlink("c/d"), 4, "c/d", unix.ENOENT},
		{"remove what is not empty", do(sendstream.CmdRmdir, ""), 4, "", nil},
		{"no such attribute", removeXattr("a", "user.no"), 4, "a", unix.ENODATA},
		{"data that is nowhere", do(sendstream.CmdUpdateExtent, "a", number(sendstream.AttrFileOffset, 0), number(sendstream.AttrSize, 5)), 4, "a", nil},
		{"unknown", do(99, "a"), 4, "", nil},
		{"a second subvolume", streamtest.Subvol(), 4, "x", nil},
	} {
		root, err := p.receive(streamtest.Subvol(), mkfile("a"), mkfile("b"), c.command, chmod("a", 0))
		var told *receive.Error
		if !errors.As(err, &told) || told.Number != c.number || told.Path != c.path || c.err != nil && !errors.Is(told.Err, c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
		wantUnfinished(t, root)
	}
}

// wantUnfinished fails if something counts as a backup.
func wantUnfinished(t *testing.T, root string) {
	t.Helper()
	s, err := btrfs.Info(open(t, root))
	check(t, err)
	if s.ReadOnly || !s.ReceivedUUID.IsZero() {
		t.Errorf("it counts as a backup: %+v", s)
	}
}

func TestAStreamEndsWithEnd(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	stream := streamtest.Stream(2, streamtest.Subvol(), mkfile("a"))
	const end = 10
	_, err := receive.Stream(context.Background(), open(t, p.dir), bytes.NewReader(stream[:len(stream)-end]), receive.Options{})
	if err == nil {
		t.Error("it was received")
	}
	wantUnfinished(t, p.dir+"/x")
}

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

func TestDataOfAllKinds(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	large := strings.Repeat("0123456789abcdef", 8<<10) // 128 KiB, more than a length of protocol 1 can tell
	root := p.whole(
		mkfile("large"), write("large", large, 3),
		mkfile("shorter"), write("shorter", "12345", 0), truncate("shorter", 3), write("shorter", "x", 5),
		mkfile("sparse"), write("sparse", "end", 1<<40), truncate("sparse", 1<<41),
		mkfile("punched"), write("punched", blocks("abcd"), 0),
		fallocate("punched", unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, block, 2*block),
		mkfile("reserved"), write("reserved", "x", 0), fallocate("reserved", unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20),
		mkfile("extended"), fallocate("extended", 0, 0, 1<<20),
	)
	wantContent(t, root+"/large", "\x00\x00\x00"+large)
	wantContent(t, root+"/shorter", "123\x00\x00x")
	wantContent(t, root+"/punched", "a"+blocks("a")[1:]+blocks("\x00\x00d"))
	wantContent(t, root+"/reserved", "x")
	for name, want := range map[string]int64{"sparse": 1 << 41, "reserved": 1, "extended": 1 << 20} {
		st, err := os.Lstat(filepath.Join(root, name))
		check(t, err)
		if st.Size() != want {
			t.Errorf("%s has %d bytes, want %d", name, st.Size(), want)
		}
	}
	for name, want := range map[string]int64{"sparse": 8, "punched": 2 * block / 512, "reserved": 2048, "extended": 2048} {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(root, name), &st))
		if st.Blocks != want {
			t.Errorf("%s takes %d sectors, want %d", name, st.Blocks, want)
		}
	}
}

// The kernel takes compressed data as it is only where it is aligned, and where the file has checksums.
func TestCompressedDataIsWrittenInAnyCase(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	plain := strings.Repeat("all work and no play\n", 6000)[:100<<10]
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, err := w.Write([]byte(plain))
	check(t, errors.Join(err, w.Close()))
	data := append(packed.Bytes(), make([]byte, block-packed.Len()%block)...)
	const kind, whole = 1, 100 << 10 // linux/btrfs.h: BTRFS_ENCODED_IO_COMPRESSION_ZLIB
	const zstdKind = 2
	encoder, err := zstd.NewWriter(nil)
	check(t, err)
	short := encoder.EncodeAll([]byte(blocks("z")), nil)
	root := p.whole(
		mkfile("all"), encoded("all", 0, kind, 0, whole, whole, data),
		mkfile("part"), encoded("part", 2*block, kind, block, 3*block, whole, data),
		mkfile("end"), encoded("end", 0, kind, 0, whole-7, whole-7, data),
		mkfile("odd"), write("odd", "x", 0), encoded("odd", 1, kind, 5, 1000, whole, data),
		mkfile("short"), write("short", "x", 0), encoded("short", 1, zstdKind, 0, block+9, block+9, append(short, make([]byte, block-len(short))...)),
		mkfile("over"), write("over", blocks("abc"), 0), encoded("over", block, kind, 0, block, whole, data),
	)
	wantContent(t, root+"/all", plain)
	wantContent(t, root+"/part", blocks("\x00\x00")+plain[block:4*block])
	wantContent(t, root+"/end", plain[:whole-7])
	wantContent(t, root+"/odd", "x"+plain[5:1005])
	wantContent(t, root+"/short", "x"+blocks("z")+strings.Repeat("\x00", 9))
	wantContent(t, root+"/over", blocks("a")+plain[:block]+blocks("c"))
	file := open(t, root+"/all")
	extents, err := btrfs.Extents(file, 0, whole)
	check(t, err)
	if len(extents) != 1 || extents[0].Compression != btrfs.Zlib {
		t.Errorf("it was not written as it is: %+v", extents)
	}
}

func TestClonesHaveWhatTheirSourceHadThen(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	commands := [][]byte{mkfile("source"), write("source", blocks("ab"), 0)}
	const copies = 40
	for i := range copies { // each time, the source is written to while the copy may not have been made yet
		name := fmt.Sprint("copy", i)
		commands = append(commands, mkfile(name), clone("source", 0, 2*block, name, 0), write("source", strings.Repeat(string(rune('A'+i)), block), 0))
	}
	root := p.whole(append(commands, mkfile("tail"), write("tail", blocks("x"), 0), write("source", "end", 2*block),
		clone("source", block, block+3, "tail", block), clone("tail", 0, block, "tail", 3*block))...)
	want := blocks("ab")
	for i := range copies {
		wantContent(t, filepath.Join(root, fmt.Sprint("copy", i)), want)
		want = strings.Repeat(string(rune('A'+i)), block) + blocks("b")
	}
	wantContent(t, root+"/tail", blocks("xb")+"end"+strings.Repeat("\x00", block-3)+blocks("x"))
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
		wantFlags(t, root, btrfs.ImmutableFlag)
		wantFlags(t, root+"/d", btrfs.ImmutableFlag)
		wantFlags(t, root+"/other", btrfs.ImmutableFlag)
		root = p.must(streamtest.SnapshotOf(streamtest.OwnUUID), fileattr("other", 0), write("other", "x", 0))
		wantFlags(t, root+"/other", 0)
	}
}

// A directory whose files were not to be copied on write may be one whose files are compressed now: what excludes the other comes later.
func TestCompressionTakesThePlaceOfNoCow(t *testing.T) {
	t.Parallel()
	const noCow = 1 << 1 // linux/btrfs_tree.h: BTRFS_INODE_NODATACOW
	p := newPlace(t)
	p.whole(mkdir("d"), mkfile("f"), fileattr("d", noCow), fileattr("f", noCow))
	root := p.on(setXattr("d", "btrfs.compression", "zstd"), fileattr("d", 0), setXattr("f", "btrfs.compression", "lzo"), fileattr("f", 0))
	for name, want := range map[string]string{"d": "zstd", "f": "lzo"} {
		wantXattr(t, filepath.Join(root, name), "btrfs.compression", want)
		wantFlags(t, filepath.Join(root, name), 0)
	}
}

func wantFlags(t *testing.T, path string, want btrfs.Flags) {
	t.Helper()
	got, err := btrfs.FlagsOf(open(t, path))
	check(t, err)
	if got != want {
		t.Errorf("%s has flags %v, want %v", path, got, want)
	}
}

// A copy that has been sent on, or is sent back, is known by the UUID of what it is a copy of. The transaction is then that of another
// filesystem.
func TestParentsAreFoundByWhatTheyAreACopyOf(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	altered := filepath.Base(p.whole(mkfile("f"), write("f", "right", 0)))
	dir := open(t, p.dir)
	check(t, btrfs.SetReadOnly(dir, altered, false))
	time.Sleep(10 * time.Millisecond) // the clock of files is coarse
	check(t, os.WriteFile(filepath.Join(p.dir, altered, "f"), []byte("wrong"), 0o644))
	check(t, btrfs.SetReadOnly(dir, altered, true))
	btrfstest.Run(t, "sync", "-f", p.dir)
	first := p.whole(mkfile("f"), write("f", "right", 0))
	if _, err := p.receive(streamtest.SnapshotOf(btrfs.UUID{1}), chmod("f", 0)); !errors.Is(err, receive.ErrNoParent) {
		t.Errorf("of what is not there: %v", err)
	}
	root := p.on(chmod("f", 0o600)) // the transaction is not that of the copy
	wantContent(t, root+"/f", "right")

	own, err := btrfs.Info(open(t, first))
	check(t, err)
	root = p.must(streamtest.SnapshotOf(own.UUID), chmod("f", 0o640))
	wantState(t, root+"/f", "100640 0:0 5")

	check(t, btrfs.SetReadOnly(open(t, p.dir), filepath.Base(first), false))
	if _, err := p.receive(streamtest.SnapshotOf(own.UUID), chmod("f", 0)); !errors.Is(err, receive.ErrNoParent) {
		t.Errorf("of what can be changed: %v", err)
	}
}
