package receive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"

	"golang.org/x/sys/unix"
)

// A payload has the data of the files of a stream that has none.
type payload struct {
	ctx    context.Context
	pool   *pool
	from   Source
	id     uint64 // of the snapshot
	copied func(int64)
	names  *btrfs.Paths // of what the new subvolume builds upon; nil if it is complete
	plain  atomic.Bool  // extents cannot be moved as they are

	searches sync.Pool // of *btrfs.Search
}

// newPayload refuses a source that is another subvolume than the stream is of.
func newPayload(ctx context.Context, p *pool, from Source, of btrfs.UUID, base *os.File, copied func(int64)) (*payload, error) {
	s, err := btrfs.Info(from.Snapshot)
	if err != nil {
		return nil, err
	}
	if s.Identity() != of {
		return nil, fmt.Errorf("the stream is of %s, but its data is to be taken from %s, %s", of, from.Snapshot.Name(), s.Identity())
	}
	if copied == nil {
		copied = func(int64) {}
	}
	load := &payload{ctx: ctx, pool: p, from: from, id: s.ID, copied: copied}
	load.searches.New = func() any { search := btrfs.NewSearch(8 << 10); return &search }
	if base != nil {
		load.names, err = btrfs.PathsIn(base)
	}
	return load, err
}

// A span is a range of a file that is to be copied.
type span struct{ offset, end int64 }

func (r *receiver) updateExtent(c *command) error {
	path, offset, size := c.path(), c.offset(sendstream.AttrFileOffset), c.offset(sendstream.AttrSize)
	if c.bad == nil && r.payload == nil {
		return errors.New("the stream has no data: it was made by btrfs send --no-data")
	}
	f, err := r.fileOf(c, path)
	if f == nil {
		return err
	}
	if f.sent == 0 {
		if f.sent, err = r.payload.inodeOf(f); err != nil {
			return err
		}
	}
	for end := offset + size; offset < end; {
		s := r.payload.spanOf(r, f, c, offset)
		n := min(end-offset, part-(s.end-s.offset))
		s.end += n
		offset += n
		r.grew(f, n)
	}
	return nil
}

// spanOf gives the span that ends at an offset: that which was to be copied last, or a new one.
func (p *payload) spanOf(r *receiver, f *file, c *command, offset int64) *span {
	if w := f.open; w != nil && len(w.steps) > 0 {
		if last := w.steps[len(w.steps)-1].span; last != nil && last.end == offset {
			return last
		}
	}
	s := &span{offset, offset}
	r.addCopy(f, step{number: c.number, kind: c.kind, span: s, do: func(fd int) error { return p.copy(f, fd, *s) }})
	return s
}

// inodeOf finds the number that a file has in the sent subvolume. What the stream did not make has in the new subvolume the number, and in
// what that builds upon the path, that it has there; and by that path it is found in the parent of the snapshot, with the number.
func (p *payload) inodeOf(f *file) (uint64, error) {
	if p.names == nil || p.from.Parent == nil {
		return 0, fmt.Errorf("%w: the stream did not make it", sendstream.ErrCorrupt)
	}
	paths, err := p.names.Of(f.inode)
	if err != nil {
		return 0, err
	}
	if len(paths) == 0 {
		return 0, fmt.Errorf("%w: neither the stream nor what it builds upon has it", sendstream.ErrCorrupt)
	}
	fd, err := openInside(descriptor(p.from.Parent), paths[0], unix.O_PATH)
	if err != nil {
		return 0, &SourceError{0, fmt.Errorf("opening %q of the parent: %w", paths[0], err)}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return st.Ino, err
}

// copy takes a span of a file from the snapshot.
func (p *payload) copy(f *file, target int, s span) error {
	parts, err := p.parts(f.sent, s)
	if err != nil {
		return &SourceError{s.offset, err}
	}
	from := lazy{open: func() (*os.File, error) {
		return btrfs.OpenInode(p.from.Snapshot, p.id, f.sent, unix.O_RDONLY|unix.O_NOATIME, f.path)
	}}
	defer from.close()
	at := s.offset
	for _, e := range parts {
		if e.Unwritten {
			continue
		}
		start, end := max(e.Offset, s.offset), min(e.End(), s.end)
		if !f.fresh {
			err = hole(target, at, start)
		}
		switch {
		case err != nil:
		case e.inline != nil:
			err = writeAll(target, e.inline[start-e.Offset:min(end-e.Offset, int64(len(e.inline)))], start)
		case e.Compression != btrfs.Uncompressed && !e.Inline && !p.plain.Load():
			err = p.copyEncoded(&from, target, start, end)
		default:
			err = p.copyPlain(&from, target, start, end)
		}
		if err != nil {
			return err
		}
		at = end
	}
	if err := hole(target, at, s.end); err != nil {
		return err
	}
	if s.end-s.offset >= part { // or all would be written at the very end
		_ = unix.SyncFileRange(target, s.offset, s.end-s.offset, unix.SYNC_FILE_RANGE_WRITE) // what fails is told by the sync then
	}
	p.copied(s.end - s.offset)
	return nil
}

// lazy is a file that is opened when it is needed.
type lazy struct {
	open func() (*os.File, error)
	file *os.File
}

func (l *lazy) get() (fd int, err error) {
	if l.file == nil {
		if l.file, err = l.open(); err != nil {
			return -1, &SourceError{0, err}
		}
	}
	return descriptor(l.file), nil
}

func (l *lazy) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// extent is a part of a file of the snapshot.
type extent struct {
	btrfs.Extent
	inline []byte // what it holds, if that lies in the metadata as it is
}

// parts gives the extents of a file of the snapshot that lie in a span, in order.
func (p *payload) parts(inode uint64, s span) (all []extent, err error) {
	const inlineAt = 21 // linux/btrfs_tree.h: struct btrfs_file_extent_item, disk_bytenr
	search := p.searches.Get().(*btrfs.Search)
	defer p.searches.Put(search)
	for _, before := range []int64{0, btrfs.LargestEncoded, btrfs.LargestExtent} {
		all = all[:0]
		first := btrfs.Key{ObjectID: inode, Kind: btrfs.ExtentDataKey, Offset: uint64(max(0, s.offset-before))}
		last := btrfs.Key{ObjectID: inode, Kind: btrfs.ExtentDataKey, Offset: uint64(s.end - 1)}
		err = search.Range(p.from.Snapshot, p.id, 0, first, last, func(k btrfs.Key, item []byte) bool {
			e, ok := btrfs.DecodeExtent(k, item)
			if !ok || e.End() <= s.offset {
				return true
			}
			part := extent{Extent: e}
			if e.Inline && e.Compression == btrfs.Uncompressed {
				part.inline = bytes.Clone(item[inlineAt:])
			}
			all = append(all, part)
			return e.End() < s.end
		})
		if err != nil || len(all) > 0 && all[0].Offset <= s.offset || s.offset == 0 {
			break // no other extent can begin before the span and reach into it
		}
	}
	return all, err
}

// hole lets a range hold nothing. What is beyond the end of a file is part of it then, as after an inline extent that ends before the file
// does. The file is never truncated for that: other workers may write behind the range.
func hole(target int, from, to int64) error {
	if from >= to {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		return err
	}
	if st.Size < to {
		if err := unix.Fallocate(target, 0, to-1, 1); err != nil {
			return err
		}
	}
	return unix.Fallocate(target, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
}

// copyEncoded moves compressed extents as they are.
func (p *payload) copyEncoded(from *lazy, target int, at, end int64) error {
	fd, err := from.get()
	if err != nil {
		return err
	}
	buffer := p.pool.buffer(btrfs.LargestEncoded)
	defer p.pool.giveBack(buffer)
	for at < end {
		if err := context.Cause(p.ctx); err != nil {
			return err
		}
		e, err := btrfs.ReadEncoded(fd, at, buffer)
		switch {
		case err == nil && e.Length > 0 && e.Encoding != 0:
			err = btrfs.WriteEncoded(target, at, e)
		case err == nil && e.Length > 0:
			err = writeAll(target, e.Data, at)
		case err == nil: // behind the end of the file
			return nil
		case !isUnable(err):
			return &SourceError{at, err}
		case !errors.Is(err, unix.EINVAL): // here, or on this kernel
			p.plain.Store(true)
		}
		switch {
		case isRefused(err):
			return p.copyPlain(from, target, at, end)
		case err != nil:
			return err
		}
		at += e.Length
	}
	return nil
}

func (p *payload) copyPlain(from *lazy, target int, at, end int64) error {
	fd, err := from.get()
	if err != nil {
		return err
	}
	return p.pool.copyPlain(fd, at, target, at, end-at)
}

// copyPlain reads and writes. A failure to read is a *SourceError.
func (p *pool) copyPlain(from int, offset int64, target int, to, length int64) error {
	const most = 256 << 10
	buffer := p.buffer(int(min(length, most)))
	defer p.giveBack(buffer)
	for length > 0 {
		if err := context.Cause(p.ctx); err != nil {
			return err
		}
		n, err := unix.Pread(from, buffer[:min(length, most)], offset)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return &SourceError{offset, err}
		case n == 0:
			return nil
		}
		if err := writeAll(target, buffer[:n], to); err != nil {
			return err
		}
		offset, to, length = offset+int64(n), to+int64(n), length-int64(n)
	}
	return nil
}
