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

// isSparse tells whether the content of a file is worth to be read around its holes.
func isSparse(st *unix.Stat_t) bool { return st.Size-st.Blocks*512 >= minSaved }

// Content reads the content of a regular file as an entry describes it, and gives its digest: the SHA-256, or that of a Sparse file,
// whose holes are not read. The file must not change meanwhile. The size of the buffer is a multiple of 4096. each is told of what is
// read, and at which place of the file that is.
//
// The digest of a sparse file is a SHA-256 of each block of 4096 bytes that is not zero (the last one may be shorter), after its place,
// and of the size (both in 64 bits, big endian). So it does not matter where holes are.
func (e *Entry) Content(ctx context.Context, file int, buffer []byte, each func(at int64, content []byte)) (sum Digest, err error) {
	h := contentHash{Hash: sha256.New(), sparse: e.Sparse}
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
		if err := readFull(file, content, at); err != nil {
			return sum, err
		}
		h.add(at, content)
		each(at, content)
		at += int64(len(content))
	}
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil {
		return sum, os.NewSyscallError("fstat", err)
	}
	if st.Size != e.Size {
		return sum, errChanges
	}
	return h.digest(e.Size), nil
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

func readFull(file int, content []byte, at int64) error {
	for len(content) > 0 {
		n, err := unix.Pread(file, content, at)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return errChanges
		}
		content, at = content[max(n, 0):], at+int64(max(n, 0))
	}
	return nil
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
