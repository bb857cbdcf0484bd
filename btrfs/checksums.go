package btrfs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/crypto/blake2b"
)

// Geometry is how a filesystem is divided, and how it checks what it reads.
type Geometry struct {
	Sector   int64 // each of which has a checksum
	checksum uint16
	size     int
}

// linux/btrfs_tree.h: enum btrfs_csum_type
const (
	crc32c = iota
	xxhash64
	sha256sum
	blake2b256
)

// ReadGeometry reads that of the filesystem that holds dir. Checksums of a kind that is not known here are ErrUnsupported.
func ReadGeometry(dir *os.File) (Geometry, error) {
	const checksumInfo = 1 << 0 // linux/btrfs.h: BTRFS_FS_INFO_FLAG_CSUM_INFO (Linux 5.9)
	arg := make([]byte, 1024)   // linux/btrfs.h: struct btrfs_ioctl_fs_info_args
	native.PutUint64(arg[48:], checksumInfo)
	if err := ioctl(dir, iocFSInfo, arg); err != nil {
		return Geometry{}, fmt.Errorf("reading the filesystem of %s: %w", dir.Name(), err)
	}
	g := Geometry{Sector: int64(native.Uint32(arg[36:])), checksum: native.Uint16(arg[44:]), size: int(native.Uint16(arg[46:]))}
	if native.Uint64(arg[48:])&checksumInfo == 0 {
		return g, fmt.Errorf("this kernel does not tell the kind of the checksums of %s: %w", dir.Name(), ErrUnsupported)
	}
	if sizes := []int{4, 8, 32, 32}; int(g.checksum) >= len(sizes) || sizes[g.checksum] != g.size {
		return g, fmt.Errorf("checksums of kind %d, as %s has them, are %w", g.checksum, dir.Name(), ErrUnsupported)
	}
	return g, nil
}

// Sum gives the checksum of a sector, as it stands on the disk.
func (g Geometry) Sum(sector []byte) string {
	switch g.checksum {
	case crc32c:
		return string(binary.LittleEndian.AppendUint32(nil, crc32.Checksum(sector, castagnoli)))
	case xxhash64:
		return string(binary.LittleEndian.AppendUint64(nil, xxhash.Sum64(sector)))
	case sha256sum:
		sum := sha256.Sum256(sector)
		return string(sum[:])
	}
	sum := blake2b.Sum256(sector)
	return string(sum[:])
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksums gives the checksum that each sector of a range must have; "" for one that has none. It needs CAP_SYS_ADMIN.
func (g Geometry) Checksums(dir *os.File, logical uint64, length int64) ([]string, error) {
	const (
		checksumTree   = 7
		checksums      = maxUint64 - 9 // linux/btrfs_tree.h: BTRFS_EXTENT_CSUM_OBJECTID, -10
		extentCsumKey  = 128
		largestTreeLen = 64 << 10 // of a node
	)
	sums := make([]string, length/g.Sector)
	before := uint64(largestTreeLen/g.size) * uint64(g.Sector) // as much as an item can be about
	first := key{checksums, extentCsumKey, logical - min(logical, before)}
	last := key{checksums, extentCsumKey, logical + uint64(length) - 1}
	err := searchRange(dir, checksumTree, 0, first, last, func(k key, item []byte) {
		if k.Kind != extentCsumKey {
			return
		}
		for at := k.Offset; len(item) >= g.size; at, item = at+uint64(g.Sector), item[g.size:] {
			if at >= logical && at < logical+uint64(length) {
				sums[(at-logical)/uint64(g.Sector)] = string(item[:g.size])
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("reading checksums of %s: %w", dir.Name(), err)
	}
	return sums, nil
}
