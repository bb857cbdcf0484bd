package btrfs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/reflink"

	"golang.org/x/sys/unix"
)

// newFile makes a file and opens it for reading.
func newFile(t testing.TB, path string, content []byte) *os.File {
	t.Helper()
	check(t, os.WriteFile(path, content, 0o644))
	return open(t, path)
}

func randomBytes(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func stat(t testing.TB, f *os.File) (st unix.Stat_t) {
	t.Helper()
	check(t, unix.Fstat(int(f.Fd()), &st))
	return st
}

func contentOf(t testing.TB, f *os.File) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	check(t, err)
	return b
}

func usedBlocks(t testing.TB, dir string) uint64 {
	t.Helper()
	check(t, btrfs.SyncFilesystem(open(t, dir)))
	var st unix.Statfs_t
	check(t, unix.Statfs(dir, &st))
	return st.Blocks - st.Bfree
}

func TestSharedExtentsTakeNoSpaceAndChangeNothing(t *testing.T) {
	dir := btrfstest.New(t, testSize).Dir
	content := randomBytes(33<<20 + 17) // three pieces, and the end of a block
	a, b := newFile(t, filepath.Join(dir, "a"), content), newFile(t, filepath.Join(dir, "b"), content)
	used, was := usedBlocks(t, dir), stat(t, b)
	shared, err := reflink.Share(t.Context(), a, b, int64(len(content)))
	if err != nil || shared != int64(len(content)) {
		t.Errorf("%d bytes are shared: %v", shared, err)
	}
	if now := usedBlocks(t, dir); used-now < 32<<20/4096 {
		t.Errorf("%d blocks are used, before %d", now, used)
	}
	if now := stat(t, b); now.Mtim != was.Mtim || now.Ctim != was.Ctim || now.Ino != was.Ino {
		t.Errorf("the file is %+v instead of %+v", now, was)
	}
	if !bytes.Equal(contentOf(t, b), content) {
		t.Error("the content changed")
	}
}

func TestFilesThatDifferShareTheExtentsBeforeTheDifference(t *testing.T) {
	dir := btrfstest.New(t, testSize).Dir
	content := randomBytes(20 << 20)
	a := newFile(t, filepath.Join(dir, "a"), content)
	content[18<<20] ^= 1
	b := newFile(t, filepath.Join(dir, "b"), content)
	shared, err := reflink.Share(t.Context(), a, b, int64(len(content)))
	if !errors.Is(err, reflink.ErrContentsDiffer) || shared != 16<<20 {
		t.Errorf("%d bytes are shared: %v", shared, err)
	}
	if !bytes.Equal(contentOf(t, b), content) {
		t.Error("the content changed")
	}
}

func TestExtentsCannotBeSharedEverywhere(t *testing.T) {
	content := randomBytes(8192)
	memory, err := os.MkdirTemp("/dev/shm", "share-")
	check(t, err)
	defer os.RemoveAll(memory)
	dir := btrfstest.New(t, testSize).Dir
	a, b := newFile(t, filepath.Join(memory, "a"), content), newFile(t, filepath.Join(memory, "b"), content)
	c := newFile(t, filepath.Join(dir, "c"), content)
	for _, pair := range [][2]*os.File{{a, b}, {a, c}, {c, a}} {
		shared, err := reflink.Share(t.Context(), pair[0], pair[1], int64(len(content)))
		if !errors.Is(err, reflink.ErrCannotShare) || shared != 0 {
			t.Errorf("%d bytes of %s and %s are shared: %v", shared, pair[0].Name(), pair[1].Name(), err)
		}
	}
}

func TestSharingExtentsEndsWithTheContext(t *testing.T) {
	dir := btrfstest.New(t, testSize).Dir
	a, b := newFile(t, filepath.Join(dir, "a"), randomBytes(8192)), newFile(t, filepath.Join(dir, "b"), randomBytes(8192))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if shared, err := reflink.Share(ctx, a, b, 8192); !errors.Is(err, context.Canceled) || shared != 0 {
		t.Errorf("%d bytes are shared: %v", shared, err)
	}
}

func TestExtentsOfAFileOfOthersAreNotShared(t *testing.T) {
	dir := btrfstest.New(t, testSize).Dir
	a, b := newFile(t, filepath.Join(dir, "a"), randomBytes(8192)), newFile(t, filepath.Join(dir, "b"), randomBytes(8192))
	asUser(t, func() {
		if shared, err := reflink.Share(t.Context(), a, b, 8192); !errors.Is(err, unix.EPERM) || shared != 0 {
			t.Errorf("%d bytes are shared: %v", shared, err)
		}
	})
}

func TestAnOrdinaryUserSharesExtentsOfHisFilesWithoutARightToWrite(t *testing.T) {
	dir := btrfstest.New(t, testSize).Dir
	a, b := newFile(t, filepath.Join(dir, "a"), randomBytes(8192)), newFile(t, filepath.Join(dir, "b"), randomBytes(8192))
	check(t, os.Chown(b.Name(), userID, userID))
	check(t, os.Chmod(b.Name(), 0o400))
	asUser(t, func() {
		if shared, err := reflink.Share(t.Context(), a, b, 8192); err != nil || shared != 8192 {
			t.Errorf("%d bytes are shared: %v", shared, err)
		}
	})
}
