package receive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"

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

// linux/btrfs_tree.h: BTRFS_INODE_*
const (
	noCowItem      = 1 << 1
	noCompressItem = 1 << 3
)

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
	t      *testing.T
	dir    string
	made   int
	result receive.Result // of what was received last
}

func newPlace(t *testing.T) *place { return &place{t: t, dir: btrfstest.New(t, 512<<20).Dir} }

// receive receives a stream that begins with the first of the commands.
func (p *place) receive(commands ...[]byte) (root string, err error) {
	p.t.Helper()
	p.made++
	name := fmt.Sprint("s", p.made)
	p.result, err = receive.Stream(context.Background(), open(p.t, p.dir), bytes.NewReader(streamtest.Stream(2, commands...)), receive.Options{Name: name})
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
