package heal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/heal"
)

// outside makes a ward, and a copy of what its file holds on another filesystem of the same kind, or of another.
func outside(t testing.TB, fs *btrfstest.FS, data []byte, options ...string) (w *ward, source string) {
	t.Helper()
	w = newWard(t, fs, data)
	other := btrfstest.New(t, testSize, options...)
	run(t, "sh", "-ec", fmt.Sprintf("btrfs send -q %s/s3 >%[1]s/../stream; btrfs receive -q -f %[1]s/../stream %[2]s", w.Dir, other.Dir))
	return w, other.Dir + "/s3"
}

func TestAGoodBlockGoesBackToItsPlaceOnEveryDevice(t *testing.T) {
	btrfstest.RequireRoot(t)
	for _, test := range []struct {
		name    string
		devices int
		mkfs    []string
		copies  int
	}{
		{"single", 1, nil, 1},
		{"dup", 1, []string{"--data", "dup"}, 2},
		{"raid1", 2, []string{"--data", "raid1", "--metadata", "raid1", "--csum", "xxhash"}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, source := outside(t, btrfstest.NewOn(t, test.devices, testSize, test.mkfs), random(fileSize))
			for _, offset := range []int64{0, 128 << 10, fileSize - 1} {
				btrfstest.Damage(t, w.path(2), offset)
			}
			found := w.find("2")
			if len(found) != 3 || found[2].Offset != 300<<10 || found[2].Length != 777 || len(found[0].Copies) != test.copies {
				t.Fatalf("found %+v", found)
			}
			others := []string{w.path(1), w.path(3)}
			if d := found[1]; d.File != "dir/file" || d.Way != heal.PutBack || d.Why != "" || !slices.Equal(d.Shared, others) {
				t.Errorf("found %+v", d)
			}
			before := infos(t, w.folder)
			for _, d := range found {
				written, err := heal.In(w.folder).PutBlockBack(context.Background(), "2", w.good(source, d))
				if err != nil || !slices.Equal(written, d.Copies) {
					t.Errorf("written: %+v, %v", written, err)
				}
			}
			if errors := btrfstest.Scrub(t, w.Dir); errors != "" {
				t.Errorf("scrub finds %s", errors)
			}
			if w.wantWhole(); len(w.find("2")) != 0 {
				t.Error("there is damage left")
			}
			if after := infos(t, w.folder); after != before {
				t.Errorf("metadata changed: %s, before: %s", after, before)
			}
		})
	}
}

func infos(t testing.TB, folder *os.File) string {
	t.Helper()
	listing, err := btrfs.List(folder)
	check(t, err)
	slices.SortFunc(listing.InDirectory, func(a, b btrfs.Subvolume) int { return strings.Compare(a.Name, b.Name) })
	return fmt.Sprintf("%+v", listing.InDirectory)
}

func TestOneDamagedCopyOfTwoIsNoDamageThatIsSeen(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	w := newWard(t, btrfstest.NewOn(t, 1, testSize, []string{"--data", "dup"}), random(fileSize))
	btrfstest.Damage(t, w.path(2), 0, 1)
	if found := w.find("2"); len(found) != 0 {
		t.Errorf("found %+v", found)
	}
	if errors := btrfstest.Scrub(t, w.Dir); !strings.HasPrefix(errors, "csum_errors") || strings.Contains(errors, "uncorrectable") {
		t.Errorf("scrub finds %q", errors)
	}
	w.wantWhole()
}

func TestCompressedBlocksGoBackIfTheSourceHasTheSame(t *testing.T) {
	btrfstest.RequireRoot(t)
	for _, kind := range []string{"zlib", "lzo", "zstd"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			option := "compress-force=" + kind
			w, source := outside(t, btrfstest.New(t, testSize, option), words(fileSize), option)
			btrfstest.Damage(t, w.path(2), 150<<10)
			btrfstest.Damage(t, w.path(2), fileSize-1)
			found := w.find("2")
			if len(found) != 2 || found[0].Offset != 128<<10 || found[0].Length != 128<<10 || found[1].Length != fileSize-256<<10 {
				t.Fatalf("found %+v", found)
			}
			for _, d := range found {
				if _, err := heal.In(w.folder).PutBlockBack(context.Background(), "2", w.good(source, d)); err != nil {
					t.Error(err)
				}
			}
			w.wantWhole()
		})
	}
}

func TestNothingIsWrittenOfAWrongSource(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	w := newWard(t, btrfstest.New(t, testSize), random(fileSize))
	btrfstest.DropCaches(t, w.path(2))
	_, err := os.ReadFile(w.path(2))
	check(t, err)
	extents, err := btrfs.Extents(btrfstest.Open(t, w.path(2)), 0, 1)
	check(t, err)
	btrfstest.DamageAt(t, w.folder, extents[0].Logical+4096) // what is in memory is good still
	wrong := random(fileSize)
	check(t, os.MkdirAll(w.Dir+"/wrong/dir", 0o755))
	check(t, os.WriteFile(w.Dir+"/wrong/dir/file", wrong, 0o644))
	d := w.find("2")[0]
	before := btrfstest.ReadBlock(t, d.Copies[0].Device, d.Copies[0].Offset)
	for _, p := range []heal.Piece{
		w.good(w.Dir+"/wrong", d),
		{File: d.File, Offset: d.Offset, Data: before},
		{File: d.File, Offset: d.Offset},
		{File: d.File, Offset: d.Offset, Data: w.data[4096:8192], Encoded: true},
	} {
		if written, err := heal.In(w.folder).PutBlockBack(context.Background(), "2", p); !errors.Is(err, heal.ErrWrongSource) || len(written) > 0 {
			t.Errorf("wrote %+v, %v", written, err)
		}
	}
	if after := btrfstest.ReadBlock(t, d.Copies[0].Device, d.Copies[0].Offset); string(after) != string(before) {
		t.Error("something was written")
	}
}

func TestNothingIsWrittenWhileDataAreMoved(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	w := newWard(t, btrfstest.New(t, testSize), random(fileSize))
	stop := make(chan struct{})
	var balances sync.WaitGroup
	balances.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = exec.Command("btrfs", "balance", "start", "--force", "-m", w.Dir).Run()
			}
		}
	})
	defer balances.Wait()
	defer close(stop)
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); {
		btrfstest.Damage(t, w.path(2), 0)
		d := w.find("2")[0]
		before := btrfstest.ReadBlock(t, d.Copies[0].Device, d.Copies[0].Offset)
		good := heal.Piece{File: d.File, Offset: d.Offset, Data: w.data[:4096]}
		written, err := heal.In(w.folder).PutBlockBack(context.Background(), "2", good)
		if errors.Is(err, heal.ErrRelocating) && len(written) == 0 {
			if after := btrfstest.ReadBlock(t, d.Copies[0].Device, d.Copies[0].Offset); string(after) == string(before) {
				return // another time, it may begin while the block is written
			}
		}
	}
	t.Error("blocks are written while a balance is running")
}

func TestADeviceOfAnotherFilesystemIsNotTouched(t *testing.T) {
	btrfstest.RequireRoot(t)
	t.Parallel()
	fs, other := btrfstest.New(t, testSize), btrfstest.New(t, testSize)
	w := newWard(t, fs, random(fileSize))
	extents, err := btrfs.Extents(btrfstest.Open(t, w.path(1)), 0, 1)
	check(t, err)
	chunk, err := btrfs.Locate(w.folder, extents[0].Logical)
	check(t, err)
	c := chunk.Copies[0]
	check(t, heal.OpenDevice(c))
	c.Device = other.Device
	if err := heal.OpenDevice(c); err == nil || !strings.Contains(err.Error(), "is not the device") {
		t.Error(err)
	}
}
