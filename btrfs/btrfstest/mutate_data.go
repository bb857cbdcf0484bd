package btrfstest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// sector is what extents are aligned to. btrfs has no smaller ones; where they are larger, more is refused.
const sector = 4096

// btrfs can neither collapse nor insert ranges of a file: shift does it by clones.
var ofData = []operation{
	{10, "write", (*mutator).writeFile},
	{2, "make a huge sparse file", (*mutator).makeHuge},
	{4, "truncate", (*mutator).truncate},
	{5, "fallocate", (*mutator).fallocate},
	{5, "clone", (*mutator).clone},
	{2, "clone within a file", (*mutator).cloneWithin},
	{2, "dedupe", (*mutator).dedupe},
	{3, "shift", (*mutator).shift},
}

// length gives one that makes an inline extent, a part of a block, whole blocks, or several compressed extents.
func (m *mutator) length() int {
	switch m.rng.IntN(6) {
	case 0:
		return m.rng.IntN(100)
	case 1:
		return m.rng.IntN(sector)
	case 2:
		return sector * (1 + m.rng.IntN(10))
	case 3:
		return m.rng.IntN(300_000)
	}
	return m.rng.IntN(40_000)
}

// content gives some that can be compressed well, or not at all, or that is all zeros.
func (m *mutator) content() []byte {
	n := m.length()
	switch m.rng.IntN(8) {
	case 0:
		return make([]byte, n)
	case 1, 2, 3:
		return m.random(n)
	}
	line := fmt.Sprintf("%x all work and no play\n", m.rng.Uint64())
	return bytes.Repeat([]byte(line), n/len(line)+1)[:n]
}

func aligned(n int64) int64 { return n - n%sector }

// offset gives one in a file or a little behind its end, often that of a block.
func (m *mutator) offset(size int64) int64 {
	at := m.rng.Int64N(min(size+100_000, smallFile))
	switch m.rng.IntN(4) {
	case 0:
		return min(size, smallFile)
	case 1:
		return at
	}
	return aligned(at)
}

// storedOtherwise gives an empty file, at times, what decides on how its content is stored.
func (m *mutator) storedOtherwise(path string) string {
	switch m.rng.IntN(6) {
	case 0:
		return m.setFlags(path, flagNoCow)
	case 1:
		return m.setFlags(path, flagNoCompress)
	case 2, 3:
		return m.setCompression(path)
	}
	return ""
}

func (m *mutator) writeFile() {
	n, ok := m.file()
	if !ok {
		return
	}
	size, data := m.size(n.path), m.content()
	offset := m.offset(size)
	if size > hugeFile && m.rng.IntN(2) == 0 {
		offset = hugeFile - 100_000 + m.offset(100_000)
	}
	m.edit(n.path, func(f *os.File) error {
		_, err := f.WriteAt(data, offset)
		m.did(err, "%q, %d bytes at %d", n.path, len(data), offset)
		if m.rng.IntN(8) == 0 { // else what is written next becomes part of the same extent
			return f.Sync()
		}
		return nil
	})
}

func (m *mutator) makeHuge() {
	path := m.free(m.dir())
	m.newFile(path)
	m.edit(path, func(f *os.File) error {
		data, offset := m.content(), int64(hugeFile)+m.rng.Int64N(100_000)
		_, err := f.WriteAt(data, offset)
		m.did(err, "%q, %d bytes at %d", path, len(data), offset)
		if m.rng.IntN(2) == 0 {
			return f.Truncate(2 * hugeFile)
		}
		return nil
	})
}

func (m *mutator) truncate() {
	n, size, ok := m.small()
	if !ok {
		return
	}
	to := m.offset(size)
	if m.rng.IntN(2) == 0 {
		to = m.rng.Int64N(size + 1)
	}
	m.did(os.Truncate(m.path(n.path), to), "%q from %d to %d", n.path, size, to)
}

func (m *mutator) fallocate() {
	n, size, ok := m.small()
	if !ok {
		return
	}
	modes := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE}
	mode, offset, length := modes[m.rng.IntN(len(modes))], m.offset(size), int64(1+m.length())
	m.edit(n.path, func(f *os.File) error {
		m.did(unix.Fallocate(int(f.Fd()), mode, offset, length), "%q, mode %d, %d bytes at %d", n.path, mode, length, offset)
		return nil
	})
}

// clone lets a file share what another one has. What ends with an end that is not aligned can only become the end.
func (m *mutator) clone() {
	from, size, ok := m.small()
	to, toSize, _ := m.small()
	if !ok {
		return
	}
	offset, length, at := aligned(m.rng.Int64N(size+1)), aligned(m.rng.Int64N(size+1)), aligned(m.offset(toSize))
	if m.rng.IntN(2) == 0 {
		length = size - offset
	}
	m.share(from.path, to.path, offset, length, at)
}

func (m *mutator) cloneWithin() {
	n, size, ok := m.small()
	if !ok {
		return
	}
	m.share(n.path, n.path, 0, aligned(size/2), aligned(m.offset(size)+sector))
}

func (m *mutator) share(from, to string, offset, length, at int64) {
	src, err := os.Open(m.path(from))
	m.check(err)
	defer src.Close()
	m.edit(to, func(dst *os.File) error {
		err := cloneRange(dst, src, offset, length, at)
		m.allow(err, unix.EINVAL, "%q at %d from %q, %d bytes at %d", to, at, from, length, offset)
		return nil
	})
}

// cloneRange is refused with EINVAL between files with and without checksums.
func cloneRange(dst, src *os.File, offset, length, at int64) error {
	if length == 0 { // which stands for all
		return nil
	}
	return unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
		Src_fd: int64(src.Fd()), Src_offset: uint64(offset), Src_length: uint64(length), Dest_offset: uint64(at),
	})
}

// dedupe lets two files share what they have in common, which is made so before.
func (m *mutator) dedupe() {
	from, size, ok := m.small()
	to, toSize, _ := m.small()
	if !ok || size < sector {
		return
	}
	offset, at := aligned(m.rng.Int64N(size)), aligned(m.offset(toSize))
	length := aligned(min(size-offset, 128<<10))
	data := make([]byte, length)
	src, err := os.Open(m.path(from.path))
	m.check(err)
	defer src.Close()
	_, err = src.ReadAt(data, offset)
	m.check(err)
	m.edit(to.path, func(dst *os.File) error {
		if _, err := dst.WriteAt(data, at); err != nil {
			return err
		}
		order := unix.FileDedupeRange{Src_offset: uint64(offset), Src_length: uint64(length),
			Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(dst.Fd()), Dest_offset: uint64(at)}}}
		err := unix.IoctlFileDedupeRange(int(src.Fd()), &order)
		m.allow(err, unix.EINVAL, "%q at %d from %q, %d bytes at %d", to.path, at, from.path, length, offset)
		return nil
	})
}

// shift takes blocks out of the middle of a file, or puts a hole there: what is behind moves with its extents.
func (m *mutator) shift() {
	n, size, ok := m.small()
	if !ok || size < 2*sector {
		return
	}
	offset := aligned(m.rng.Int64N(size - sector))
	by := sector * (1 + m.rng.Int64N(8))
	from, to := offset, offset+by
	if m.rng.IntN(2) == 0 {
		from, to = to, from
	}
	if from >= size {
		return
	}
	m.edit(n.path, func(f *os.File) error {
		fd, err := unix.Open(filepath.Dir(m.path(n.path)), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		m.check(err)
		aside := os.NewFile(uintptr(fd), "aside")
		defer aside.Close()
		if !m.allow(cloneRange(aside, f, from, size-from, 0), unix.EINVAL, "%q from %d to %d", n.path, from, to) {
			return nil
		}
		if err := f.Truncate(to); err != nil {
			return err
		}
		return cloneRange(f, aside, 0, size-from, to)
	})
}
