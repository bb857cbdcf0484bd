package manifest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// minSaved is how many bytes holes must save for a file to be Sparse. Zeros are hashed nearly as slowly as anything else.
	minSaved = 16 << 20
	// block is what is left out of the digest of a sparse file if it is zero.
	block = 4 << 10
)

var zeroBlock [block]byte

// Portable makes the digest of an entry, when it is read, the same for each copy of the file, wherever that has its holes.
func (e *Entry) Portable() { e.Sparse = e.Type == Regular && e.Size >= minSaved }

// isSparse tells whether the content of a file is worth to be read around its holes.
func isSparse(st *unix.Stat_t) bool { return st.Size-st.Blocks*512 >= minSaved }

// A Watcher is told of what is read of a file, and at which place of it that is.
type Watcher struct {
	Read func(at int64, content []byte) // may be nil
	// Bad is told of blocks that the disk does not give, in order and neighbours as one. The reading goes on behind them, and there
	// is no digest. Without Bad, they are an error.
	Bad func(at, length int64)
	// FromDisk leaves nothing of the file in memory before and after: what the disk gives now is what is asked for.
	FromDisk bool
}

// Content reads the content of a regular file as an entry describes it, and gives its digest: the SHA-256, or that of a Sparse file,
// whose holes are not read. The file must not change meanwhile. The size of the buffer is a multiple of 4096.
//
// The digest of a sparse file is a SHA-256 of each block of 4096 bytes that is not zero (the last one may be shorter), after its place,
// and of the size (both in 64 bits, big endian). So it does not matter where holes are.
func (e *Entry) Content(ctx context.Context, file int, buffer []byte, w Watcher) (sum Digest, err error) {
	if w.FromDisk {
		forget(file)
		defer forget(file)
	}
	h, bad := contentHash{Hash: sha256.New(), sparse: e.Sparse}, badBlocks{tell: w.Bad}
	end := e.Size
	if e.Sparse {
		end = 0
	}
	for at := int64(0); at < e.Size; {
		if ctx.Err() != nil {
			return sum, context.Cause(ctx)
		}
		if at >= end {
			if at, end = nextData(file, at, e.Size); at >= e.Size {
				break
			}
		}
		content := buffer[:min(int64(len(buffer)), end-at)]
		n, err := readFull(file, content, at)
		h.add(at, content[:n])
		if n > 0 && w.Read != nil {
			w.Read(at, content[:n])
		}
		at += int64(n)
		switch {
		case err == unix.EIO && w.Bad != nil:
			at = bad.add(at, e.Size)
		case err != nil:
			return sum, err
		}
	}
	bad.flush()
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil {
		return sum, os.NewSyscallError("fstat", err)
	}
	if st.Size != e.Size {
		return sum, errChanges
	}
	if bad.some {
		return sum, nil
	}
	return h.digest(e.Size), nil
}

// forget drops what is in memory of a file, as far as it is on disk. It is no error if the system does not.
func forget(file int) {
	_ = unix.Fadvise(file, 0, 0, unix.FADV_DONTNEED)
	_ = unix.Fadvise(file, 0, 0, unix.FADV_SEQUENTIAL)
}

// badBlocks collects blocks that the disk does not give.
type badBlocks struct {
	tell       func(at, length int64)
	start, end int64
	some       bool
}

// add adds the block at a place of a file of that size, and gives the place behind it.
func (b *badBlocks) add(at, size int64) (behind int64) {
	behind = min(at-at%block+block, size)
	if at != b.end {
		b.flush()
		b.start = at
	}
	b.end, b.some = behind, true
	return behind
}

// flush tells what was not told.
func (b *badBlocks) flush() {
	if b.end > b.start {
		b.tell(b.start, b.end-b.start)
	}
	b.start, b.end = 0, 0
}

var errChanges = errors.New("it changes while it is read")

// nextData gives the blocks that hold the next data. Where the filesystem does not tell, all is data.
func nextData(file int, at, size int64) (start, end int64) {
	start, err := unix.Seek(file, at, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO:
		return size, size
	case err != nil:
		return at, size
	}
	end, err = unix.Seek(file, start, unix.SEEK_HOLE)
	if err != nil {
		end = size
	}
	return max(at, start-start%block), min(size, end+(block-end%block)%block)
}

// readFull fills content, and tells how much of it is there before an error.
func readFull(file int, content []byte, at int64) (read int, err error) {
	for read < len(content) {
		n, err := unix.Pread(file, content[read:], at+int64(read))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return read, err
		case n == 0:
			return read, errChanges
		}
		read += max(n, 0)
	}
	return read, nil
}

type contentHash struct {
	hash.Hash
	sparse bool
}

// add takes whole blocks, but for the end of the file.
func (h *contentHash) add(at int64, content []byte) {
	if !h.sparse {
		h.Write(content)
		return
	}
	for len(content) > 0 {
		n := min(block, len(content))
		if !bytes.Equal(content[:n], zeroBlock[:n]) {
			h.number(at)
			h.Write(content[:n])
		}
		content, at = content[n:], at+int64(n)
	}
}

func (h *contentHash) number(n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

func (h *contentHash) digest(size int64) Digest {
	if h.sparse {
		h.number(size)
	}
	return Digest(h.Sum(nil))
}
