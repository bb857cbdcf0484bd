package receive_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"

	"golang.org/x/sys/unix"
)

// Text that can be compressed, some of it better than other.
func lines(n int) string {
	var all strings.Builder
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		fmt.Fprintf(&all, "%09d is a line like the others%s\n", random.IntN(1<<30), strings.Repeat(" ", random.IntN(50)))
	}
	return all.String()
}

// Of compressed data a file may have any part: what is before it, in the middle and behind was overwritten, and the last sector is not full.
func TestCompressedDataIsWrittenAsItIsOrDecompressed(t *testing.T) {
	for _, c := range []struct {
		mounted     string
		compression btrfs.Compression
	}{{"compress-force=zlib", btrfs.Zlib}, {"compress-force=lzo", btrfs.LZO}, {"compress-force=zstd", btrfs.Zstd}} {
		t.Run(c.mounted, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.mounted)
			path := filepath.Join(r.data(), "file")
			check(t, os.WriteFile(path, []byte(lines(200_000)), 0o600))
			r.snapshot(t, "old")
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			check(t, err)
			for _, at := range []int64{0, 16384, 40960, 200704} {
				_, err = f.WriteAt([]byte(strings.ToUpper(lines(200))[:5000]), at)
				check(t, err)
			}
			check(t, f.Truncate(12_000_001))
			check(t, f.Close())
			snapshot := r.snapshot(t, "new")
			for _, decompress := range []bool{false, true} {
				dir := filepath.Join(r.backups.Dir, fmt.Sprint(decompress))
				check(t, os.Mkdir(dir, 0o700))
				r.in(t, dir, send(t, "--proto", "2", "--compressed-data", snapshot), receive.Options{Decompress: decompress})
				btrfstest.Equal(t, snapshot, filepath.Join(dir, "new"))
				got, err := btrfs.Extents(open(t, filepath.Join(dir, "new/file")), 0, 12_000_001)
				check(t, err)
				is := slices.ContainsFunc(got, func(e btrfs.Extent) bool { return e.Compression == c.compression })
				if is == decompress {
					t.Errorf("decompressed: %v; extents: %+v", decompress, got)
				}
			}
		})
	}
}

// fragment fills a filesystem, and frees every other block.
func fragment(t *testing.T, fs *btrfstest.FS) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(fs.Dir, "full"), os.O_CREATE|os.O_WRONLY|unix.O_DIRECT, 0o600)
	check(t, err)
	defer f.Close()
	memory, err := unix.Mmap(-1, 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	check(t, err)
	defer unix.Munmap(memory)
	end := int64(0)
	for ; err == nil; end += block {
		_, err = f.WriteAt(memory, end)
	}
	for at := int64(0); at < end; at += 2 * block {
		check(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, block))
	}
	check(t, f.Sync())
	btrfstest.Run(t, "btrfs", "filesystem", "sync", fs.Dir)
}

// A compressed extent is in one piece. Where none of its size is free, there is room for what it holds nevertheless.
func TestCompressedDataFindsRoomInPieces(t *testing.T) {
	t.Parallel()
	r := newRig(t, "compress-force=zstd")
	check(t, os.WriteFile(filepath.Join(r.data(), "file"), []byte(lines(20_000)), 0o600))
	snapshot := r.snapshot(t, "s")
	full := btrfstest.New(t, 128<<20)
	fragment(t, full)
	for i, stream := range []io.Reader{send(t, "--proto", "2", "--compressed-data", snapshot), send(t, "--no-data", snapshot)} {
		dir := filepath.Join(full.Dir, fmt.Sprint(i))
		check(t, os.Mkdir(dir, 0o700))
		r.in(t, dir, stream, receive.Options{Source: &receive.Source{Snapshot: open(t, snapshot)}})
		btrfstest.Equal(t, snapshot, filepath.Join(dir, "s"))
	}
}
