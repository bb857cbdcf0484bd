package receive_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"

	"golang.org/x/sys/unix"
)

// apply receives a stream of such commands, and gives the path of the subvolume.
func apply(t testing.TB, commands ...[]byte) (string, error) {
	t.Helper()
	dir := btrfstest.New(t, 256<<20).Dir
	stream := streamtest.Stream(1, append([][]byte{streamtest.Subvol()}, commands...)...)
	_, err := receive.Stream(context.Background(), open(t, dir), bytes.NewReader(stream), receive.Options{})
	return filepath.Join(dir, "x"), err
}

func mkfile(path string) []byte { return streamtest.Makes(sendstream.CmdMkfile, path) }

// clone takes a range of a file of the subvolume itself.
func clone(from string, offset, length uint64, to string, at uint64) []byte {
	return streamtest.Encode(sendstream.CmdClone, streamtest.Text(sendstream.AttrPath, to), streamtest.Number(sendstream.AttrFileOffset, at),
		streamtest.Number(sendstream.AttrCloneLen, length), streamtest.UUID(sendstream.AttrCloneUUID, streamtest.OwnUUID),
		streamtest.Number(sendstream.AttrCloneCtransid, 7), streamtest.Text(sendstream.AttrClonePath, from),
		streamtest.Number(sendstream.AttrCloneOffset, offset))
}

const block = 4096

func blocks(letters string) string {
	var all strings.Builder
	for _, l := range letters {
		all.WriteString(strings.Repeat(string(l), block))
	}
	return all.String()
}

func TestWhatCannotBeSharedIsCopied(t *testing.T) {
	t.Parallel()
	var all strings.Builder // no two pieces are the same
	for i := range block {
		fmt.Fprintf(&all, "%4d", i)
	}
	long := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	at, err := apply(t, mkfile("a"), streamtest.Write("a", all.String()),
		streamtest.Encode(sendstream.CmdUtimes, streamtest.Text(sendstream.AttrPath, "a"), streamtest.Time(sendstream.AttrAtime, long),
			streamtest.Time(sendstream.AttrMtime, long), streamtest.Time(sendstream.AttrCtime, long)),
		mkfile("b"), clone("a", 100, block, "b", 0), clone("a", 0, 100, "b", 200),
		clone("b", 0, 200, "b", 300), clone("b", 3000, 50, "b", 10))
	check(t, err)
	got, err := os.ReadFile(filepath.Join(at, "b"))
	check(t, err)
	want := []byte(all.String()[100 : 100+block])
	copy(want[200:], all.String()[:100])
	copy(want[300:], want[:200])
	copy(want[10:], want[3000:3050])
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes, not those of the range", len(got))
	}
	var st unix.Stat_t
	check(t, unix.Stat(filepath.Join(at, "a"), &st))
	if read := time.Unix(st.Atim.Unix()); !read.Equal(long) {
		t.Errorf("what was copied has been read at %v", read)
	}
}

// What no sender means must not end in a file that holds something else.
func TestImpossibleClonesAreRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		clone []byte
	}{
		{"behind the end", clone("a", 2*block, block, "b", 0)},
		{"across the end", clone("a", block, 2*block, "b", 0)},
		{"onto itself", clone("a", 0, 2*block, "a", block)},
		{"onto what is before it", clone("a", block, block, "a", 100)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := apply(t, mkfile("a"), streamtest.Write("a", blocks("ab")), mkfile("b"), c.clone); err == nil {
				t.Error("it was received")
			}
		})
	}
}

func TestAttributesByAnotherNameComeAfterData(t *testing.T) {
	t.Parallel()
	capability := "\x01\x00\x00\x02\x00\x20" + strings.Repeat("\x00", 14) // linux/capability.h: struct vfs_cap_data
	at, err := apply(t, mkfile("a"),
		streamtest.Encode(sendstream.CmdLink, streamtest.Text(sendstream.AttrPath, "b"), streamtest.Text(sendstream.AttrPathLink, "a")),
		streamtest.Write("a", "hello"),
		streamtest.Encode(sendstream.CmdSetXattr, streamtest.Text(sendstream.AttrPath, "b"),
			streamtest.Text(sendstream.AttrXattrName, "security.capability"), streamtest.Text(sendstream.AttrXattrData, capability)))
	check(t, err)
	got := make([]byte, 64)
	n, err := unix.Getxattr(filepath.Join(at, "a"), "security.capability", got)
	check(t, err)
	if string(got[:n]) != capability {
		t.Errorf("it has %q", got[:n])
	}
}

// A file that consists of thousands of shared pieces needs no more open files than any other.
func TestManyClones(t *testing.T) {
	var before unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: before.Max}))
	t.Cleanup(func() { check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) })
	commands := [][]byte{mkfile("a"), streamtest.Write("a", blocks("a")), mkfile("b")}
	for i := range 3000 {
		commands = append(commands, clone("a", 0, block, "b", uint64(i)*block))
	}
	at, err := apply(t, commands...)
	check(t, err)
	got, err := os.ReadFile(filepath.Join(at, "b"))
	check(t, err)
	if len(got) != 3000*block || len(bytes.Trim(got, "a")) > 0 {
		t.Errorf("%d bytes, not those that were shared", len(got))
	}
}

// repeated gives a command many times.
type repeated struct {
	command, rest []byte
	left          int
	ended         func()
}

func (r *repeated) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		if r.rest, r.left = r.command, r.left-1; r.left == 0 {
			r.ended()
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// All of one file is done in the order of the stream, however much that is, and no more of it is kept than of others.
func TestMemoryIsBounded(t *testing.T) {
	for _, c := range []struct {
		name    string
		times   int
		command []byte
	}{
		{"truncated", 300_000, streamtest.Encode(sendstream.CmdTruncate, streamtest.Text(sendstream.AttrPath, "a"), streamtest.Number(sendstream.AttrSize, 0))},
		{"written", 10_000, streamtest.Write("a", strings.Repeat("x", 5000))},
		{"extended attributes", 5_000, streamtest.Encode(sendstream.CmdSetXattr, streamtest.Text(sendstream.AttrPath, "a"),
			streamtest.Text(sendstream.AttrXattrName, "user.a"), streamtest.Text(sendstream.AttrXattrData, strings.Repeat("x", 15_000)))},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			dir := btrfstest.New(t, 256<<20).Dir
			runtime.GC()
			runtime.ReadMemStats(&before)
			stream := streamtest.Stream(1, streamtest.Subvol(), mkfile("a"))
			begin, end := stream[:len(stream)-len(streamtest.Encode(sendstream.CmdEnd))], streamtest.Encode(sendstream.CmdEnd)
			commands := &repeated{command: c.command, left: c.times, ended: func() {
				runtime.GC()
				runtime.ReadMemStats(&after)
			}}
			_, err := receive.Stream(context.Background(), open(t, dir), io.MultiReader(bytes.NewReader(begin), commands, bytes.NewReader(end)), receive.Options{})
			check(t, err)
			grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
			if grown > 20<<20 {
				t.Errorf("%d MiB are kept", grown>>20)
			}
		})
	}
}
