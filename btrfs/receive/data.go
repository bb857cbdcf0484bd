package receive

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/reflink"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"

	"golang.org/x/sys/unix"
)

// direct is how much data is written at once, where no work must be waited for: to keep it for a worker takes longer than that saves.
const direct = 32 << 10

func (r *receiver) write(c *command) error {
	path, offset, data := c.path(), c.offset(sendstream.AttrFileOffset), c.bytes(sendstream.AttrData, 0)
	f, err := r.fileOf(c, path)
	if f == nil {
		return err
	}
	if len(data) >= direct && f.open == nil && areDone(f.before) {
		return writeAll(f.fd, data, offset)
	}
	own := r.pool.keep(data)
	r.add(f, step{number: c.number, kind: c.kind, data: own, size: cap(own), do: func(fd int) error { return writeAll(fd, own, offset) }})
	return nil
}

// fileOf gives the regular file that the data of a command is for, unless the command is bad.
func (r *receiver) fileOf(c *command, path string) (*file, error) {
	if c.bad != nil {
		return nil, nil
	}
	return r.file(path)
}

func writeAll(fd int, data []byte, offset int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, offset)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite
		}
		n = max(n, 0)
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}

func (r *receiver) truncate(c *command) error {
	path, size := c.path(), c.offset(sendstream.AttrSize)
	f, err := r.fileOf(c, path)
	if f == nil {
		return err
	}
	r.add(f, step{number: c.number, kind: c.kind, do: func(fd int) error { return unix.Ftruncate(fd, size) }})
	return nil
}

func (r *receiver) fallocate(c *command) error {
	path, mode := c.path(), c.uint32(sendstream.AttrFallocateMode)
	offset, size := c.offset(sendstream.AttrFileOffset), c.offset(sendstream.AttrSize)
	f, err := r.fileOf(c, path)
	if f == nil {
		return err
	}
	r.add(f, step{number: c.number, kind: c.kind, do: func(fd int) error { return unix.Fallocate(fd, mode, offset, size) }})
	return nil
}

func (r *receiver) encodedWrite(c *command) error {
	path, offset, data := c.path(), c.offset(sendstream.AttrFileOffset), c.bytes(sendstream.AttrData, 0)
	e := btrfs.Encoded{Encoding: c.optional32(sendstream.AttrCompression), Length: c.offset(sendstream.AttrUnencodedFileLen),
		Whole: c.offset(sendstream.AttrUnencodedLen), Skip: c.offset(sendstream.AttrUnencodedOffset)}
	if c.optional32(sendstream.AttrEncryption) != 0 {
		return errors.New("its data is encrypted, which no kernel can read")
	}
	if c.bad == nil && (e.Whole > btrfs.LargestEncoded || e.Skip > e.Whole || e.Length > e.Whole-e.Skip) {
		return fmt.Errorf("%w: it takes %d bytes at %d of %d", sendstream.ErrCorrupt, e.Length, e.Skip, e.Whole)
	}
	f, err := r.fileOf(c, path)
	if f == nil {
		return err
	}
	e.Data = r.pool.keep(data)
	r.add(f, step{number: c.number, kind: c.kind, data: e.Data, size: cap(e.Data), do: func(fd int) error {
		if r.o.Decompress {
			return writeDecompressed(fd, offset, e)
		}
		return writeEncoded(fd, offset, e)
	}})
	return nil
}

// writeEncoded writes compressed data as it is, or else what it holds: the kernel refuses what does not suit the filesystem, or the file.
func writeEncoded(fd int, offset int64, e btrfs.Encoded) error {
	err := btrfs.WriteEncoded(fd, offset, e)
	if err == nil || !isRefused(err) {
		return err
	}
	return writeDecompressed(fd, offset, e)
}

func writeDecompressed(fd int, offset int64, e btrfs.Encoded) error {
	whole, err := decompress(e)
	if err != nil {
		return err
	}
	return writeAll(fd, whole[e.Skip:e.Skip+e.Length], offset)
}

// isRefused tells that compressed data cannot be written as it is. It needs a piece of its size, which other data does not.
func isRefused(err error) bool { return isUnable(err) || errors.Is(err, unix.ENOSPC) }

// isUnable tells that a call is not possible here, so that another way is to be gone.
func isUnable(err error) bool {
	for _, errno := range []unix.Errno{unix.EINVAL, unix.ENOTTY, unix.EOPNOTSUPP, unix.EPERM, unix.ENOSYS, unix.EXDEV} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (r *receiver) clone(c *command) error {
	path, to := c.path(), c.offset(sendstream.AttrFileOffset)
	from, length := c.offset(sendstream.AttrCloneOffset), c.offset(sendstream.AttrCloneLen)
	uuid, transaction, source := c.uuid(sendstream.AttrCloneUUID), c.uint64(sendstream.AttrCloneCtransid), c.pathIn(sendstream.AttrClonePath)
	if c.bad != nil {
		return nil
	}
	subvolume, err := r.cloneSource(uuid, transaction)
	if err != nil {
		return err
	}
	f, err := r.file(path)
	if err != nil {
		return err
	}
	at := place{dir: descriptor(subvolume), name: source}
	if subvolume == r.root {
		if at, err = r.dirs.at(source); err != nil {
			return fmt.Errorf("opening %q: %w", source, err)
		}
	}
	fd, st, err := openRegular(at, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return fmt.Errorf("opening %q: %w", source, err)
	}
	s := step{number: c.number, kind: c.kind, size: openFile, release: func() { unix.Close(fd) }, do: func(target int) error {
		return r.pool.clone(fd, from, length, target, to)
	}}
	if subvolume == r.root && st.Ino != f.inode { // all that comes before is to be in it
		r.addAfter(f, s, st.Ino)
	} else {
		r.add(f, s)
	}
	return nil
}

// cloneSource gives the subvolume that data may be taken of.
func (r *receiver) cloneSource(uuid btrfs.UUID, transaction uint64) (*os.File, error) {
	if known, ok := r.sources[uuid]; ok {
		return known, nil
	}
	if !r.o.AnyClone {
		return nil, fmt.Errorf("it takes data of the subvolume %s, which is neither its own nor its parent", uuid)
	}
	found, err := r.find(uuid, transaction)
	if err == nil {
		r.sources[uuid] = found
	}
	return found, err
}

// clone lets the target share what the file from has. What cannot be shared, as with a file without checksums, is copied.
func (p *pool) clone(from int, offset, length int64, target int, to int64) error {
	err := reflink.RangeOf(from, target, offset, length, to)
	if err == nil || !isUnable(err) || !isApart(from, offset, length, target, to) {
		return err
	}
	p.unshared.Add(1)
	return p.copyPlain(from, offset, target, to, length)
}

// isApart tells that a file has all of a range, and that it is not the one into which the range is to be copied.
func isApart(from int, offset, length int64, target int, to int64) bool {
	var source, st unix.Stat_t
	if unix.Fstat(from, &source) != nil || unix.Fstat(target, &st) != nil || offset > source.Size-length {
		return false
	}
	return source.Dev != st.Dev || source.Ino != st.Ino || to >= offset+length || offset >= to+length
}
