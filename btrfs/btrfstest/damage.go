package btrfstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// NewOn makes a btrfs as New does, on several devices of size bytes and with options of mkfs.btrfs, as "--data", "raid1".
func NewOn(t testing.TB, devices int, size int64, mkfs []string, options ...string) *FS {
	t.Helper()
	RequireRoot(t)
	base := workDir(t, int64(devices)*size)
	fs := &FS{Dir: filepath.Join(base, "mnt")}
	var images []string
	for i := range devices {
		images = append(images, fmt.Sprintf("%s/image%d", base, i))
		image, err := os.Create(images[i])
		Check(t, err)
		Check(t, errors.Join(image.Truncate(size), image.Close()))
	}
	makeFilesystem(t, slices.Concat([]string{"mkfs.btrfs", "--quiet"}, mkfs, images)...)
	all := []string{"commit=1"}
	for i, image := range images {
		device, err := attach(image)
		Check(t, err)
		defer device.Close() // the mount holds it from here on
		if i == 0 {
			fs.Device, fs.Image = device.Name(), image
		}
		all = append(all, "device="+device.Name())
	}
	fs.Mount(t, fs.Dir, append(all, options...)...)
	return fs
}

// Damage flips bits of the block at an offset of a file, on the device itself, in the given copies of it, or in all. What a
// compressed extent holds is damaged in its first block.
func Damage(t testing.TB, path string, offset int64, copies ...int) {
	t.Helper()
	Run(t, "sync", "-f", path)
	file, err := os.Open(path)
	Check(t, err)
	defer file.Close()
	extents, err := btrfs.Extents(file, offset, 1)
	Check(t, err)
	if len(extents) != 1 || extents[0].Inline {
		t.Fatalf("%s has no extent at %d: %+v", path, offset, extents)
	}
	e := extents[0]
	logical := e.Logical
	if e.Compression == btrfs.Uncompressed {
		logical += uint64(e.Skip + offset - e.Offset)
	}
	DamageAt(t, file, logical, copies...)
	DropCaches(t, path)
}

// DamageAt is Damage for a logical address of the filesystem that holds dir.
func DamageAt(t testing.TB, dir *os.File, logical uint64, copies ...int) {
	t.Helper()
	chunk, err := btrfs.Locate(dir, logical)
	Check(t, err)
	for i, c := range chunk.At(logical) {
		if len(copies) > 0 && !slices.Contains(copies, i) {
			continue
		}
		ChangeBlock(t, c.Device, c.Physical, func(block []byte) {
			for i := range 100 {
				block[1000+i] ^= 0x5a
			}
		})
	}
}

// ReadBlock reads the 4,096 bytes of a device in which an offset lies, as they are on the device.
func ReadBlock(t testing.TB, device string, at int64) (block []byte) {
	t.Helper()
	ChangeBlock(t, device, at, func(found []byte) { block = slices.Clone(found) })
	return block
}

// ChangeBlock changes the 4,096 bytes of a device in which an offset lies, past all caches.
func ChangeBlock(t testing.TB, device string, at int64, change func([]byte)) {
	t.Helper()
	const size = 4096
	file, err := os.OpenFile(device, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
	Check(t, err)
	defer file.Close()
	room := make([]byte, 2*size)
	start := size - int(uintptr(unsafe.Pointer(unsafe.SliceData(room)))%size)
	block := room[start : start+size]
	at -= at % size
	_, err = file.ReadAt(block, at)
	Check(t, err)
	before := string(block)
	if change(block); string(block) != before {
		_, err = file.WriteAt(block, at)
		Check(t, err)
	}
}

// DropCaches lets the next read of files come from the disk.
func DropCaches(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		file, err := os.Open(path)
		Check(t, err)
		Check(t, errors.Join(file.Sync(), unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED), file.Close()))
	}
}

// Scrub reads all of a filesystem and gives how many errors remain, as `btrfs scrub` counts them. It repairs what has a good copy.
func Scrub(t testing.TB, dir string) (errors string) {
	t.Helper()
	said := Run(t, "sh", "-c", `btrfs scrub start -BR "$1" 2>&1 || [ $? = 3 ]`, "sh", dir)
	for line := range strings.Lines(said) {
		for _, count := range []string{"csum_errors", "uncorrectable_errors", "verify_errors", "read_errors"} {
			if field := strings.Fields(line); len(field) == 2 && field[0] == count+":" && field[1] != "0" {
				errors += count + " " + field[1] + " "
			}
		}
	}
	return strings.TrimSpace(errors)
}
