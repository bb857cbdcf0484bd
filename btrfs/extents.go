package btrfs

import (
	"fmt"
	"math"
	"os"
)

// Compression is how an extent is compressed.
type Compression uint8

// linux/btrfs_tree.h: BTRFS_COMPRESS_NONE and the others
const (
	Uncompressed Compression = iota
	Zlib
	LZO
	Zstd
)

// String gives the name that a mount option and the property of a file have for it.
func (c Compression) String() string {
	switch c {
	case Uncompressed:
		return "none"
	case Zlib:
		return "zlib"
	case LZO:
		return "lzo"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("of kind %d", uint8(c))
}

// An Extent is a part of a file, and the extent on the disk of which it is a part, too.
type Extent struct {
	Offset int64 // in the file
	Length int64 // in the file; the last one goes up to the end of its last block

	Logical    uint64 // where the whole extent on the disk begins, in the filesystem's address space
	DiskLength int64  // of the whole
	RAMLength  int64  // of the whole, uncompressed
	Skip       int64  // where in the whole the part begins, uncompressed

	Compression Compression
	Inline      bool // it lies in the metadata, and nowhere else
	Unwritten   bool // space that was reserved, and reads as zeros
}

// End is where it ends in the file.
func (e Extent) End() int64 { return e.Offset + e.Length }

// LargestExtent is more than any extent has. linux/fs/btrfs/fs.h: BTRFS_MAX_EXTENT_SIZE; what fallocate(2) reserves has up to
// 256 MiB
const LargestExtent = 256 << 20

// ExtentDataKey is the kind of key that extents of a file have.
const ExtentDataKey = 108 // linux/btrfs_tree.h: BTRFS_EXTENT_DATA_KEY

// Extents gives the extents of a file that lie in part within a range, by offset, without holes. They are as the trees have
// them: FIEMAP joins what lies side by side, and does not tell of what extent it is a part. What is not on disk yet is not seen.
// It needs CAP_SYS_ADMIN.
func Extents(file *os.File, offset, length int64) ([]Extent, error) {
	subvolume, err := Info(file)
	if err != nil {
		return nil, err
	}
	ino, err := inode(file)
	if err != nil {
		return nil, err
	}
	all, err := extentsOf(file, subvolume.ID, ino, offset, length)
	if err != nil {
		return nil, fmt.Errorf("reading the extents of %s: %w", file.Name(), err)
	}
	return all, nil
}

func extentsOf(dir *os.File, subvolume, ino uint64, offset, length int64) (all []Extent, err error) {
	end := offset + min(length, math.MaxInt64-offset)
	first := key{ino, ExtentDataKey, uint64(max(0, offset-LargestExtent))}
	last := key{ino, ExtentDataKey, uint64(max(offset, end-1))}
	err = searchRange(dir, subvolume, 0, first, last, func(k key, item []byte) {
		if e, ok := DecodeExtent(k, item); ok && e.End() > offset && e.Offset < end {
			all = append(all, e)
		}
	})
	return all, err
}

// DecodeExtent reads a struct btrfs_file_extent_item (linux/btrfs_tree.h).
func DecodeExtent(k Key, item []byte) (e Extent, ok bool) {
	const inline, unwritten, headerSize, size = 0, 2, 21, 53
	if k.Kind != ExtentDataKey || len(item) < headerSize {
		return e, false
	}
	e = Extent{Offset: int64(k.Offset), RAMLength: int64(le.Uint64(item[8:])), Compression: Compression(item[16])}
	if item[20] == inline {
		e.Inline, e.Length = true, e.RAMLength
		return e, true
	}
	if len(item) < size {
		return e, false
	}
	e.Unwritten = item[20] == unwritten
	e.Logical, e.DiskLength = le.Uint64(item[21:]), int64(le.Uint64(item[29:]))
	e.Skip, e.Length = int64(le.Uint64(item[37:])), int64(le.Uint64(item[45:]))
	return e, e.Logical != 0
}
