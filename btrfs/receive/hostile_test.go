package receive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"

	"golang.org/x/sys/unix"
)

// A yard is a filesystem on which streams are received into one directory, and where nothing else is to change.
type yard struct {
	t       testing.TB
	top     string
	in      string
	outside map[string]string
}

// newYard has a parent with what streams may be led by.
func newYard(t testing.TB) *yard {
	t.Helper()
	y := &yard{t: t, top: btrfstest.New(t, 256<<20).Dir}
	y.in = y.top + "/in"
	check(t, os.MkdirAll(y.top+"/outside/dir", 0o755))
	check(t, os.Mkdir(y.in, 0o755))
	check(t, os.WriteFile(y.top+"/outside/file", bytes.Repeat([]byte("theirs"), 2000), 0o644))
	check(t, btrfs.Create(open(t, y.top), "other"))
	check(t, os.WriteFile(y.top+"/other/file", bytes.Repeat([]byte("secret"), 2000), 0o600))
	check(t, y.receiveAs("parent", append([][]byte{streamtest.Encode(sendstream.CmdSubvol, text(sendstream.AttrPath, "parent"),
		streamtest.UUID(sendstream.AttrUUID, parentUUID), number(sendstream.AttrCtransid, 5))}, y.parent()...)))
	y.outside = y.look()
	return y
}

var parentUUID = btrfs.UUID{0xaa, 9}

func (y *yard) parent() [][]byte {
	return [][]byte{
		mkfile("f"), write("f", blocks("abc"), 0), mkfile("mine"), mkdir("empty"), mkdir("d"), mkfile("d/f"), write("d/f", "inside", 0),
		streamtest.Symlink("up", ".."), streamtest.Symlink("out", y.top+"/outside"), streamtest.Symlink("file", y.top+"/outside/file"),
		streamtest.Makes(sendstream.CmdMknod, "null", number(sendstream.AttrMode, unix.S_IFCHR|0o666), number(sendstream.AttrRdev, unix.Mkdev(1, 3))),
		streamtest.Makes(sendstream.CmdMkfifo, "pipe"), streamtest.Makes(sendstream.CmdMksock, "socket"),
	}
}

func (y *yard) receiveAs(name string, commands [][]byte) error {
	_, err := y.stream(name, streamtest.Stream(3, commands...))
	return err
}

func (y *yard) stream(name string, stream []byte) (receive.Result, error) {
	y.t.Helper()
	return receive.Stream(context.Background(), open(y.t, y.in), bytes.NewReader(stream), receive.Options{Name: name})
}

// try receives commands upon the parent, takes away what was made of them, and fails if anything else was changed.
func (y *yard) try(commands ...[]byte) error {
	y.t.Helper()
	err := y.receiveAs("new", append([][]byte{streamtest.SnapshotOf(parentUUID)}, commands...))
	y.end(err)
	return err
}

func (y *yard) end(err error) {
	y.t.Helper()
	if _, missing := os.Lstat(y.in + "/new"); missing == nil {
		y.endOf("new", err)
	}
	y.isUntouched()
}

// endOf takes away what was made under a name, which must not count as a backup after an error.
func (y *yard) endOf(name string, err error) {
	y.t.Helper()
	dir := open(y.t, y.in)
	s, infoErr := btrfs.InfoAt(dir, name)
	check(y.t, infoErr)
	if err != nil && (s.ReadOnly || !s.ReceivedUUID.IsZero()) {
		y.t.Errorf("%s counts as a backup, after %v", name, err)
	}
	check(y.t, btrfs.Delete(dir, name))
}

func (y *yard) isUntouched() {
	y.t.Helper()
	now := y.look()
	for _, path := range slices.Sorted(maps.Keys(y.outside)) {
		if now[path] != y.outside[path] {
			y.t.Errorf("%s was\n%s, is\n%s", path, y.outside[path], now[path])
		}
	}
	if len(now) != len(y.outside) {
		y.t.Errorf("%d things are there instead of %d", len(now), len(y.outside))
	}
}

// look describes all that is to stay as it is.
func (y *yard) look() map[string]string {
	y.t.Helper()
	seen := make(map[string]string)
	check(y.t, filepath.WalkDir(y.top, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if path == y.in {
			return nil
		}
		about := fmt.Sprint(st.Ino, st.Mode, st.Nlink, st.Uid, st.Gid, st.Rdev, st.Size, st.Mtim, st.Ctim)
		if e.Type().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			about += fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		seen[path] = about
		return nil
	}))
	return seen
}

// A pathed command has a path in one of its attributes.
func pathed(kind sendstream.CommandType, at sendstream.AttrType, path string) []byte {
	all := []streamtest.Attribute{number(sendstream.AttrIno, 300), number(sendstream.AttrMode, unix.S_IFCHR|0o600), number(sendstream.AttrRdev, 1),
		number(sendstream.AttrUID, 1), number(sendstream.AttrGID, 1), number(sendstream.AttrSize, 1), number(sendstream.AttrFileOffset, 0),
		text(sendstream.AttrXattrName, "user.x"), text(sendstream.AttrXattrData, "x"), streamtest.Time(sendstream.AttrAtime, time.Unix(1, 2)),
		streamtest.Time(sendstream.AttrMtime, time.Unix(1, 2)), number(sendstream.AttrCloneLen, block),
		streamtest.UUID(sendstream.AttrCloneUUID, parentUUID), number(sendstream.AttrCloneCtransid, 5), number(sendstream.AttrCloneOffset, 0),
		streamtest.Number32(sendstream.AttrFallocateMode, 0), number(sendstream.AttrFileattr, 0)}
	for _, other := range streamtest.PathAttributes {
		if other != at {
			all = append(all, text(other, map[bool]string{true: "f", false: "fresh"}[other == sendstream.AttrPath || other == sendstream.AttrClonePath]))
		}
	}
	all = append(all, text(at, path))
	return streamtest.Encode(kind, append(all, streamtest.Rest([]byte("data")))...)
}

// pathsOf are the attributes of commands that hold paths within the subvolume.
func pathsOf(kind sendstream.CommandType) []sendstream.AttrType {
	switch kind {
	case sendstream.CmdRename:
		return []sendstream.AttrType{sendstream.AttrPath, sendstream.AttrPathTo}
	case sendstream.CmdLink:
		return []sendstream.AttrType{sendstream.AttrPath, sendstream.AttrPathLink}
	case sendstream.CmdClone:
		return []sendstream.AttrType{sendstream.AttrPath, sendstream.AttrClonePath}
	}
	return []sendstream.AttrType{sendstream.AttrPath}
}

func TestNoPathLeavesTheSubvolume(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	bad := []string{"..", ".", "/", "/etc", "../x", "a/../../x", "d/..", "./f", "d/.", "d//f", "d/", "f\x00", "\x00", "d/../f", "//", "../parent/f",
		"up/parent/f", "up/x", "out/file", "out/new", "out/dir", "null/x", "pipe/x", "f/x", strings.Repeat("n", 256), strings.Repeat("d/", 2500) + "f"}
	for kind := sendstream.CmdMkfile; kind <= sendstream.CmdEnableVerity; kind++ {
		if kind == sendstream.CmdEnd {
			continue
		}
		for _, at := range pathsOf(kind) {
			for _, path := range bad {
				if y.try(pathed(kind, at, path)) == nil {
					t.Errorf("%v with %.40q as attribute %d is received", kind, path, at)
				}
			}
			ofRoot := at == sendstream.AttrPath && slices.Contains([]sendstream.CommandType{sendstream.CmdChmod, sendstream.CmdChown,
				sendstream.CmdUtimes, sendstream.CmdSetXattr, sendstream.CmdRemoveXattr, sendstream.CmdFileattr}, kind)
			if err := y.try(setXattr("", "user.x", "1"), pathed(kind, at, "")); (err == nil) != ofRoot {
				t.Errorf("%v with an empty attribute %d: %v", kind, at, err)
			}
		}
	}
}

// What is refused with a bad path is received with a good one.
func TestCleanPathsAreReceived(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	for kind, path := range map[sendstream.CommandType]string{
		sendstream.CmdMkfile: "d/x", sendstream.CmdMkdir: "...", sendstream.CmdMknod: "..x", sendstream.CmdMkfifo: "x..", sendstream.CmdMksock: "d/.x",
		sendstream.CmdSymlink: "\xff\n", sendstream.CmdRename: "d/f", sendstream.CmdUnlink: "d/f", sendstream.CmdRmdir: "empty", sendstream.CmdSetXattr: "d/f",
		sendstream.CmdWrite: "d/f", sendstream.CmdClone: "d/f", sendstream.CmdTruncate: "d/f", sendstream.CmdChmod: "d/f", sendstream.CmdChown: "d/f",
		sendstream.CmdUtimes: "d/f", sendstream.CmdFallocate: "d/f", sendstream.CmdFileattr: "d/f",
	} {
		if err := y.try(pathed(kind, sendstream.AttrPath, path)); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
	}
	check(t, y.try(link("d/"+strings.Repeat("n", 255), "f")))
	check(t, y.try(pathed(sendstream.CmdClone, sendstream.AttrClonePath, "f")))
}

// Data is neither written to nor taken of what is no regular file; nor is what it would lead to touched by any command.
func TestTrapsAreNotOpened(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	for _, path := range []string{"file", "out", "up", "null", "pipe", "socket", "d"} {
		for _, kind := range []sendstream.CommandType{sendstream.CmdWrite, sendstream.CmdTruncate, sendstream.CmdFallocate, sendstream.CmdClone,
			sendstream.CmdUpdateExtent, sendstream.CmdEncodedWrite, sendstream.CmdEnableVerity} {
			if y.try(pathed(kind, sendstream.AttrPath, path)) == nil {
				t.Errorf("%v of %s is received", kind, path)
			}
		}
		if y.try(pathed(sendstream.CmdClone, sendstream.AttrClonePath, path)) == nil {
			t.Errorf("data of %s is taken", path)
		}
		for kind := sendstream.CmdMkfile; kind <= sendstream.CmdSymlink; kind++ {
			if y.try(pathed(kind, sendstream.AttrPath, path)) == nil {
				t.Errorf("%v over %s is received", kind, path)
			}
		}
		for _, kind := range []sendstream.CommandType{sendstream.CmdChmod, sendstream.CmdChown, sendstream.CmdUtimes, sendstream.CmdSetXattr,
			sendstream.CmdFileattr, sendstream.CmdLink, sendstream.CmdRename, sendstream.CmdUnlink} {
			_ = y.try(pathed(kind, sendstream.AttrPath, path)) // it may be possible, and changes nothing outside
		}
	}
}

func TestOnlyWhatSendersWriteIsReceived(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	twice := func(kind sendstream.CommandType, a streamtest.Attribute) []byte {
		return streamtest.Encode(kind, text(sendstream.AttrXattrName, "user.x"), text(sendstream.AttrXattrData, "x"), a, a)
	}
	for name, command := range map[string][]byte{
		"a path twice":            twice(sendstream.CmdSetXattr, text(sendstream.AttrPath, "f")),
		"a command 0":             do(0, "f"),
		"an unknown command":      do(sendstream.CmdEnableVerity+1, "f"),
		"an unknown attribute":    do(sendstream.CmdChmod, "f", number(sendstream.AttrMode, 0), number(100, 0)),
		"an attribute 0":          do(sendstream.CmdChmod, "f", number(sendstream.AttrMode, 0), number(0, 0)),
		"a second subvolume":      streamtest.Subvol(),
		"a second snapshot":       streamtest.SnapshotOf(parentUUID),
		"a short number":          do(sendstream.CmdChmod, "f", text(sendstream.AttrMode, "1234567")),
		"a long number":           do(sendstream.CmdChmod, "f", text(sendstream.AttrMode, "123456789")),
		"a missing number":        do(sendstream.CmdChmod, "f"),
		"a short time":            do(sendstream.CmdUtimes, "f", text(sendstream.AttrAtime, "12345678901"), text(sendstream.AttrMtime, "123456789012")),
		"a short UUID":            do(sendstream.CmdClone, "mine", number(sendstream.AttrFileOffset, 0), number(sendstream.AttrCloneLen, block), text(sendstream.AttrCloneUUID, "123"), number(sendstream.AttrCloneCtransid, 5), text(sendstream.AttrClonePath, "f"), number(sendstream.AttrCloneOffset, 0)),
		"a file as device":        streamtest.Makes(sendstream.CmdMknod, "x", number(sendstream.AttrMode, unix.S_IFREG), number(sendstream.AttrRdev, 0)),
		"a target with NUL":       streamtest.Symlink("s", "a\x00"),
		"an empty target":         streamtest.Symlink("s", ""),
		"an attribute with NUL":   setXattr("f", "user.x\x00y", "1"),
		"an attribute of nothing": setXattr("f", "", "1"),
		"data of another":         streamtest.CloneFrom(streamtest.OwnUUID, "../../other/file"),
		"data of nobody":          streamtest.CloneFrom(btrfs.UUID{}, "f"),
		"a write behind all":      write("f", "x", 1<<63),
		"a write at the end":      write("f", "xyz", 1<<63-1),
		"a file without end":      truncate("f", 1<<63),
		"space without end":       fallocate("f", 0, 1<<62, 1<<62),
		"space of 8 EiB":          fallocate("f", 0, 0, 1<<63-1),
		"space of nothing":        fallocate("f", 0, 0, 0),
		"space in an unknown way": fallocate("f", 1<<30, 0, 1),
		"an extent of no payload": do(sendstream.CmdUpdateExtent, "f", number(sendstream.AttrFileOffset, 0), number(sendstream.AttrSize, 1)),
		"an extent without end":   do(sendstream.CmdUpdateExtent, "f", number(sendstream.AttrFileOffset, 0), number(sendstream.AttrSize, 1<<63)),
	} {
		if y.try(command) == nil {
			t.Errorf("%s is received", name)
		}
	}
	for name, c := range map[string][4]uint64{ // offset, length, at
		"from without end": {1 << 63, block, 0}, "to without end": {0, block, 1 << 63}, "length without end": {0, 1 << 63, 0},
		"from and length beyond": {1<<63 - block, block, 0}, "to and length beyond": {0, block, 1<<63 - block}, "all": {1<<64 - block, block, 0},
		"odd, across the end": {1, 3 * block, 0}, "odd, far": {1<<63 - 1, 1<<63 - 1, 1},
	} {
		command := do(sendstream.CmdClone, "mine", number(sendstream.AttrFileOffset, c[2]), number(sendstream.AttrCloneLen, c[1]),
			streamtest.UUID(sendstream.AttrCloneUUID, parentUUID), number(sendstream.AttrCloneCtransid, 5), text(sendstream.AttrClonePath, "f"),
			number(sendstream.AttrCloneOffset, c[0]))
		if y.try(command) == nil {
			t.Errorf("a clone %s is received", name)
		}
	}
	other, err := btrfs.Info(open(t, y.top+"/other"))
	check(t, err)
	if y.try(streamtest.CloneFrom(other.UUID, "file")) == nil {
		t.Error("data of another subvolume is taken")
	}
	check(t, y.try(streamtest.CloneFrom(parentUUID, "f")))
	for _, target := range []string{"/etc", "../../x", "a//b", "."} {
		check(t, y.try(streamtest.Symlink("s", target)))
	}
}

// What is said of compressed data is not believed: neither lengths nor content take more memory than the greatest extent.
func TestCompressedDataMayLie(t *testing.T) {
	y := newYard(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const most = btrfs.LargestEncoded
	garbage := []byte(strings.Repeat("\x78\x9c\xff\xff\xff\x7f\x28\xb5\x2f\xfd\x00", 1000)[:2*block])
	zeros := make([]byte, block)
	for _, kind := range []uint32{0, 1, 2, 3, 7, 8} { // linux/btrfs.h: BTRFS_ENCODED_IO_COMPRESSION_*, none, zlib, zstd, LZO by sector, one too many
		for _, data := range [][]byte{garbage, zeros, garbage[1:], nil, garbage[6:]} {
			for _, lengths := range [][3]uint64{ // skip, length, whole
				{0, most, most}, {0, most + 1, most + 1}, {1, most, most}, {most, 0, most}, {0, 1<<63 - 1, 1<<63 - 1}, {0, 1 << 63, 1 << 63}, {1 << 63, 1 << 63, 0},
				{0, 5, 0}, {0, 0, 0}, {block, block, 2 * block}, {1, 1, 3},
			} {
				valid := lengths[2] <= most && lengths[0] <= lengths[2] && lengths[1] <= lengths[2]-lengths[0]
				for _, at := range []uint64{0, 1, 1<<63 - block} {
					err := y.receiveAs("new", [][]byte{streamtest.SnapshotOf(parentUUID), encoded("mine", at, kind, lengths[0], lengths[1], lengths[2], data)})
					if err == nil && !valid {
						t.Errorf("data in way %d with lengths %v at %d is received", kind, lengths, at)
					}
					check(t, btrfs.Delete(open(t, y.in), "new"))
				}
			}
		}
	}
	y.end(nil)
	if y.try(do(sendstream.CmdEncodedWrite, "mine", number(sendstream.AttrFileOffset, 0), number(sendstream.AttrUnencodedFileLen, 1),
		number(sendstream.AttrUnencodedLen, 1), number(sendstream.AttrUnencodedOffset, 0), streamtest.Number32(sendstream.AttrEncryption, 1),
		streamtest.Rest(zeros))) == nil {
		t.Error("encrypted data is received")
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 100<<20 {
		t.Errorf("%d MiB more were taken", grown>>20)
	}
}

func TestManyRenamesEnd(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	var commands [][]byte
	for i := range 50_000 {
		commands = append(commands, move("d", fmt.Sprint("d", i)), move(fmt.Sprint("d", i), "d"))
	}
	check(t, y.try(commands...))
}
