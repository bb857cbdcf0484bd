package receive_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

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
	const lzoKind, text = 7, "as other machines have it" // in sectors of 64 KiB, which none here has
	literals := string(rune(17+len(text))) + text + "\x11\x00\x00"
	lzo := binary.LittleEndian.AppendUint32(nil, uint32(8+len(literals)))
	lzo = append(binary.LittleEndian.AppendUint32(lzo, uint32(len(literals))), literals...)
	lzo = append(lzo, make([]byte, block-len(lzo))...)
	root := p.whole(
		mkfile("all"), encoded("all", 0, kind, 0, whole, whole, data),
		mkfile("part"), encoded("part", 2*block, kind, block, 3*block, whole, data),
		mkfile("end"), encoded("end", 0, kind, 0, whole-7, whole-7, data),
		mkfile("odd"), write("odd", "x", 0), encoded("odd", 1, kind, 5, 1000, whole, data),
		mkfile("short"), write("short", "x", 0), encoded("short", 1, zstdKind, 0, block+9, block+9, append(short, make([]byte, block-len(short))...)),
		mkfile("large sectors"), encoded("large sectors", 0, lzoKind, 0, uint64(len(text)), block, lzo),
		mkfile("over"), write("over", blocks("abc"), 0), encoded("over", block, kind, 0, block, whole, data),
	)
	wantContent(t, root+"/all", plain)
	wantContent(t, root+"/part", blocks("\x00\x00")+plain[block:4*block])
	wantContent(t, root+"/end", plain[:whole-7])
	wantContent(t, root+"/odd", "x"+plain[5:1005])
	wantContent(t, root+"/short", "x"+blocks("z")+strings.Repeat("\x00", 9))
	wantContent(t, root+"/large sectors", text)
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
