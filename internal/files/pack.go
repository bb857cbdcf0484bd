package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/attributes"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// A Sink takes records, of which it keeps nothing. Its error ends the packing.
type Sink interface{ Take(r Record) error }

// A Sharer is a Sink that can take the whole content of an open file in place of records of it. It tells whether it did.
type Sharer interface {
	Share(from *os.File) (done bool, err error)
}

// Packed is what became of a selection where it was read.
type Packed struct {
	Files    int64    // all but directories
	Bytes    int64    // of regular files
	Failures Problems // what could not be read
	Left     Problems // what lies there, but is no part of the backup
}

// Pack reads chosen paths beneath the root of a backup, which it borrows. total is told how many bytes there are before any is read;
// it may be nil. What cannot be read is left out and named.
func Pack(ctx context.Context, root *os.File, paths []string, to Sink, total func(bytes int64)) (Packed, error) {
	p := packer{ctx: ctx, root: root, to: to, buffer: make([]byte, walk.ReadSize)}
	var err error
	if p.flags, err = attributes.Beside(root); err != nil {
		p.packed.Failures.add(".", "what chattr had set: %v", err)
	}
	if err := p.survey(paths); err != nil {
		return p.packed, err
	}
	if total != nil {
		total(p.total)
	}
	for i, chosen := range paths {
		p.item, p.at = i, chosen
		if err := p.walk(chosen, walk.Visitor{Visit: p.visit, Closed: p.closed, Lost: p.lost}); err != nil {
			return p.packed, err
		}
	}
	return p.packed, nil
}

type packer struct {
	ctx    context.Context
	root   *os.File
	to     Sink
	buffer []byte

	flags  map[uint64]btrfs.Flags // by inode
	total  int64
	links  map[uint64]uint32 // of files with several of their names in the selection: the number, by inode; 0 until the first is met
	last   uint32
	item   int    // that is read
	at     string // its path
	packed Packed
}

// survey finds out how much there is, and which files have several names in the selection.
func (p *packer) survey(paths []string) error {
	once, several := make(map[uint64]struct{}), make(map[uint64]uint32)
	look := func(f walk.File) error {
		p.total += f.Size
		if f.Type == manifest.Directory || f.Links < 2 {
			return nil
		}
		if _, again := once[f.Inode]; again {
			several[f.Inode] = 0
			return nil
		}
		once[f.Inode] = struct{}{}
		return nil
	}
	ignore := func(string, error) error { return nil } // it is told when it is read
	for _, chosen := range paths {
		if err := p.walk(chosen, walk.Visitor{Visit: look, Closed: ignore, Lost: ignore}); err != nil {
			return err
		}
	}
	p.links = several
	return nil
}

// walk visits a chosen path and what is below it.
func (p *packer) walk(chosen string, v walk.Visitor) error {
	at, err := open(p.root, chosen)
	if err != nil {
		return err
	}
	defer at.dir.Release()
	if at.Type != manifest.Directory {
		at.file.Path = "."
		return v.Visit(at.file)
	}
	dir, err := at.file.Open(unix.O_DIRECTORY)
	if err != nil {
		return explain(err, p.root, at.Path, at.Path)
	}
	top := os.NewFile(uintptr(dir), path.Join(p.root.Name(), at.Path))
	defer top.Close()
	return walk.Tree(p.ctx, top, v)
}

func (p *packer) path(below string) string { return path.Join(p.at, below) }

// closed tells of a directory whose content is left out.
func (p *packer) closed(below string, err error) error {
	if err == unix.EXDEV {
		p.packed.Left.add(p.path(below), "it is a subvolume of its own, or a mounted filesystem")
		return nil
	}
	p.packed.Failures.add(p.path(below), "reading it: %v", err)
	return nil
}

func (p *packer) lost(below string, err error) error {
	p.packed.Failures.add(p.path(below), "reading it: %v", err)
	return nil
}

func (p *packer) visit(f walk.File) error {
	e, err := describe(&f)
	if err == nil {
		e.Xattrs, err = xattrsOf(&f)
	}
	if err != nil {
		return p.lost(f.Path, err)
	}
	e.Item, e.Flags = p.item, p.flags[f.Inode]
	if f.Path != "." {
		e.Item, e.Depth, e.Name = 0, 1+strings.Count(f.Path, "/"), path.Base(f.Path)
	}
	if !isType(e.Type) {
		return p.lost(f.Path, errors.New("it is no kind of file that is known"))
	}
	seen, err := p.link(&f, &e)
	if err != nil {
		return err
	}
	if f.Type != manifest.Directory {
		p.packed.Files++
	}
	if err := p.to.Take(Record{Entry: &e}); err != nil || seen || f.Type != manifest.Regular {
		return err
	}
	p.packed.Bytes += f.Size
	return p.content(&f)
}

// link gives a file with several names its number, and tells that its content was read under another name.
func (p *packer) link(f *walk.File, e *Entry) (seen bool, err error) {
	number, several := p.links[f.Inode]
	if !several || f.Type == manifest.Directory {
		return false, nil
	}
	if number == 0 {
		p.last++
		number = p.last
		p.links[f.Inode] = number
		e.Link = number
		return false, nil
	}
	e.Link = number
	return true, nil
}

// content reads a file, or has its extents shared.
func (p *packer) content(f *walk.File) error {
	fd, err := f.Open(unix.O_NONBLOCK | unix.O_NOATIME)
	if err == unix.EPERM { // O_NOATIME is for the owner
		fd, err = f.Open(unix.O_NONBLOCK)
	}
	if err != nil {
		return p.unread(f, err)
	}
	file := os.NewFile(uintptr(fd), p.path(f.Path))
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != f.Inode || st.Size != f.Size || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return p.unread(f, cmp.Or(err, errChanged))
	}
	if sharer, ok := p.to.(Sharer); ok && f.Size > 0 {
		if done, err := sharer.Share(file); err != nil || done {
			return err
		}
	}
	return p.read(f, fd)
}

var errChanged = errors.New("it was changed meanwhile")

// unread takes a file back that began.
func (p *packer) unread(f *walk.File, err error) error {
	p.packed.Failures.add(p.path(f.Path), "reading it: %v", err)
	return p.to.Take(Record{Failed: true})
}

// read reads the data of a file, and leaves out its holes.
func (p *packer) read(f *walk.File, fd int) error {
	for at, end := int64(0), int64(0); at < f.Size; {
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		if at >= end {
			if at, end = nextData(fd, at, f.Size); at >= f.Size {
				break
			}
		}
		n, err := unix.Pread(fd, p.buffer[:min(int64(len(p.buffer)), end-at)], at)
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n == 0:
			err = errChanged
		}
		if err != nil {
			return p.unread(f, fmt.Errorf("at byte %d: %w", at, err))
		}
		if err := p.to.Take(Record{At: at, Content: p.buffer[:n]}); err != nil {
			return err
		}
		at += int64(n)
	}
	return p.to.Take(Record{End: true})
}

// nextData gives the next range of a file that is no hole. Where the filesystem does not tell, all is data.
func nextData(fd int, at, size int64) (start, end int64) {
	start, err := unix.Seek(fd, at, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO:
		return size, size
	case err != nil:
		return at, size
	}
	end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
	if err != nil {
		end = size
	}
	return min(start, size), min(end, size)
}

// A Batcher is a Sink that hands records on, several at a time. Flush hands on the rest.
type Batcher struct {
	To      func([]Record) error
	records []Record
	bytes   int
}

const (
	batchBytes  = 512 << 10
	batchLength = 1024
	recordBytes = 128 // about, beside what it holds
)

// Take adds a record.
func (b *Batcher) Take(r Record) error {
	r.Content = append([]byte(nil), r.Content...)
	b.records = append(b.records, r)
	b.bytes += recordBytes + len(r.Content)
	if r.Entry != nil {
		for _, x := range r.Entry.Xattrs {
			b.bytes += len(x.Value)
		}
	}
	if b.bytes >= batchBytes || len(b.records) >= batchLength {
		return b.Flush()
	}
	return nil
}

// Flush hands on what there is.
func (b *Batcher) Flush() error {
	if len(b.records) == 0 {
		return nil
	}
	records := b.records
	b.records, b.bytes = nil, 0
	if err := b.To(records); err != nil {
		return fmt.Errorf("handing records on: %w", err)
	}
	return nil
}
