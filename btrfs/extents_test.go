package btrfs_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

// random writes a file of random bytes and puts it on disk.
func random(t testing.TB, path string, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	rand.Read(data)
	check(t, os.WriteFile(path, data, 0o644))
	btrfstest.Run(t, "sync", "-f", path)
	return data
}

func extents(t testing.TB, path string, offset, length int64) []btrfs.Extent {
	t.Helper()
	found, err := btrfs.Extents(open(t, path), offset, length)
	check(t, err)
	return found
}

// What the trees tell of a block must be what each device holds.
func TestEachCopyOfABlockIsFoundWithItsChecksum(t *testing.T) {
	for _, test := range []struct {
		name    string
		devices int
		mkfs    []string
		copies  int
		profile string
	}{
		{"single", 1, nil, 1, "single"},
		{"dup", 1, []string{"--data", "dup", "--csum", "xxhash"}, 2, "DUP"},
		{"raid1", 2, []string{"--data", "raid1", "--metadata", "raid1", "--csum", "sha256"}, 2, "RAID1"},
		{"raid1c3", 3, []string{"--data", "raid1c3", "--metadata", "raid1", "--csum", "blake2"}, 3, "RAID1C3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fs := btrfstest.NewOn(t, test.devices, testSize, test.mkfs)
			path, dir := fs.Dir+"/file", open(t, fs.Dir)
			data := random(t, path, 1<<20)
			btrfstest.Run(t, "cp", "--reflink=always", path, fs.Dir+"/copy")
			check(t, os.Truncate(fs.Dir+"/copy", 600<<10))
			data = data[512<<10:][:8<<10]
			g, err := btrfs.ReadGeometry(dir)
			check(t, err)
			e := extents(t, fs.Dir+"/copy", 512<<10, 1)[0]
			at := e.Logical + uint64(e.Skip+512<<10-e.Offset)
			sums, err := g.Checksums(dir, at, 8<<10)
			check(t, err)
			chunk, err := btrfs.Locate(dir, at)
			check(t, err)
			if len(chunk.Copies) != test.copies || chunk.Profile != test.profile {
				t.Fatalf("found %+v", chunk)
			}
			for i, sum := range sums {
				block := data[4096*i:][:4096]
				if g.Sum(block) != sum {
					t.Errorf("block %d: its checksum is %x, not %x", i, g.Sum(block), sum)
				}
				for _, c := range chunk.At(at + uint64(4096*i)) {
					if !bytes.Equal(btrfstest.ReadBlock(t, c.Device, c.Physical), block) {
						t.Errorf("block %d is not at %+v", i, c)
					}
				}
			}
		})
	}
}

func TestProfilesThatCutCopiesUpAreNotLocated(t *testing.T) {
	t.Parallel()
	fs := btrfstest.NewOn(t, 2, testSize, []string{"--data", "raid0", "--metadata", "raid1"})
	random(t, fs.Dir+"/file", 1<<20)
	_, err := btrfs.Locate(open(t, fs.Dir), extents(t, fs.Dir+"/file", 0, 1)[0].Logical)
	if !errors.Is(err, btrfs.ErrUnsupported) || err.Error() != "data in the profile RAID0 is not supported" {
		t.Error(err)
	}
}

func TestExtentsAreThoseOfTheTrees(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	fs := btrfstest.New(t, testSize)
	path := fs.Dir + "/file"
	random(t, path, 300<<10)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer file.Close()
	const keepSize, punch = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE
	check(t, unix.Fallocate(int(file.Fd()), keepSize|punch, 64<<10, 64<<10))
	check(t, unix.Fallocate(int(file.Fd()), 0, 304<<10, 100<<10))
	check(t, os.WriteFile(fs.Dir+"/small", []byte("inline"), 0o644))
	btrfstest.Run(t, "sync", "-f", path)
	var got []string
	all := extents(t, path, 0, 1<<30)
	for _, e := range all {
		got = append(got, fmt.Sprint(e.Offset>>10, e.Length>>10, e.DiskLength>>10, e.RAMLength>>10, e.Skip>>10, e.Unwritten, e.Compression))
	}
	want := []string{"0 64 300 300 0 false none", "128 172 300 300 128 false none", "304 100 100 100 0 true none"}
	if !slices.Equal(got, want) || all[0].Logical != all[1].Logical {
		t.Errorf("got %q", got)
	}
	if in := extents(t, path, 299<<10, 4<<10); len(in) != 1 || in[0].Offset != 128<<10 {
		t.Errorf("in the middle: %+v", in)
	}
	if hole := extents(t, path, 70<<10, 4<<10); len(hole) != 0 {
		t.Errorf("a hole has %+v", hole)
	}
	if small := extents(t, fs.Dir+"/small", 0, 1); len(small) != 1 || !small[0].Inline || small[0].Length != 6 {
		t.Errorf("an inline file has %+v", small)
	}
}

func TestACompressedExtentIsReadAsItIsOnTheDisk(t *testing.T) {
	for _, kind := range []btrfs.Compression{btrfs.Zlib, btrfs.LZO, btrfs.Zstd} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			fs := btrfstest.New(t, testSize, "compress-force="+kind.String())
			dir, path := open(t, fs.Dir), fs.Dir+"/file"
			check(t, os.WriteFile(path, bytes.Repeat([]byte("some words, more words; "), 20_000), 0o644))
			btrfstest.Run(t, "sync", "-f", path)
			e := extents(t, path, 200<<10, 1)[0]
			read, err := btrfs.ReadEncoded(int(open(t, path).Fd()), 200<<10, make([]byte, btrfs.LargestEncoded))
			check(t, err)
			data := read.Data
			if found, ok := read.Compression(); !ok || found != kind || e.Compression != kind || int64(len(data)) != e.DiskLength ||
				e.Offset != 128<<10 || e.RAMLength != 128<<10 || read.Whole != 128<<10 || read.Skip != 72<<10 || read.Length != 56<<10 {
				t.Errorf("%d bytes, %s: %+v, %+v", len(data), found, e, read)
			}
			g, err := btrfs.ReadGeometry(dir)
			check(t, err)
			sums, err := g.Checksums(dir, e.Logical, e.DiskLength)
			check(t, err)
			for i, sum := range sums {
				if g.Sum(data[4096*i:][:4096]) != sum {
					t.Errorf("block %d differs", i)
				}
			}
		})
	}
}

func TestSharersAreNamed(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	fs := btrfstest.New(t, testSize)
	top := open(t, fs.Dir)
	source := newSubvolume(t, fs.Dir, "source")
	check(t, os.MkdirAll(source.Name()+"/a/b", 0o755))
	path := source.Name() + "/a/b/file"
	random(t, path, 100<<10)
	snapshot(t, source, newDir(t, fs.Dir, "folder"), "one")
	random(t, fs.Dir+"/other", 10<<10)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer file.Close()
	_, err = file.WriteAt(make([]byte, 4096), 0)
	check(t, err)
	snapshot(t, source, top, "two")
	btrfstest.Run(t, "sync", "-f", path)
	for _, test := range []struct {
		in     string
		offset int64
		want   []string
	}{
		{"folder/one", 100, nil},
		{"two", 100, []string{"source a/b/file 100"}},
		{"two", 50_000, []string{"folder/one a/b/file 50000", "source a/b/file 50000"}},
	} {
		sharers, err := btrfs.Sharers(open(t, fs.Dir+"/"+test.in+"/a/b/file"), test.offset)
		check(t, err)
		var got []string
		for _, s := range sharers {
			got = append(got, fmt.Sprint(s.Subvolume, " ", s.File, " ", s.Offset))
		}
		if slices.Sort(got); !slices.Equal(got, test.want) {
			t.Errorf("%s at %d: %q, want %q", test.in, test.offset, got, test.want)
		}
	}
	e := extents(t, fs.Dir+"/two/a/b/file", 50_000, 1)[0]
	if all, err := btrfs.OwnersOfExtent(top, e.Logical); err != nil || len(all) != 3 {
		t.Errorf("the extent is of %+v, %v", all, err)
	}
}

func TestABalanceIsNoticed(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	fs := btrfstest.New(t, testSize)
	dir := open(t, fs.Dir)
	if what, err := btrfs.Relocating(dir); what != "" || err != nil {
		t.Errorf("%q is running: %v", what, err)
	}
	random(t, fs.Dir+"/file", 60<<20)
	for range 20 { // each of which may be done before it is seen
		balance := exec.Command("btrfs", "balance", "start", "--full-balance", fs.Dir)
		check(t, balance.Start())
		done := make(chan error)
		go func() { done <- balance.Wait() }()
		for running, seen := true, false; running; {
			select {
			case err := <-done:
				check(t, err)
				running = false
			case <-time.After(time.Millisecond):
				what, err := btrfs.Relocating(dir)
				check(t, err)
				seen = seen || what != ""
			}
			if !running && seen {
				return
			}
		}
	}
	t.Error("no balance was noticed")
}
