// Package survey describes a tree of copied files in a manifest. It takes what the manifest of the base tells of files that
// did not change, and reads all others once. It refuses a tree that changes meanwhile.
package survey

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// emptySubvolume is the inode number of what stands in a snapshot for a subvolume in its source.
const emptySubvolume = 2

const (
	// batchSize is how many entries are written at a time.
	batchSize = 256
	// batchesAhead is how many batches may wait for their files to be read.
	batchesAhead = 8
	// readingsAhead is how many files may wait to be read. Each holds its directory open.
	readingsAhead = 64
)

// Options are what a survey goes by.
type Options struct {
	Base *os.File // manifest of the base, which is borrowed; nil for none
	// Read gives the content of a file that was read already; nil for none.
	Read      func(*manifest.Entry) (sum manifest.Digest, sparse, ok bool)
	Subvolume bool                         // the tree was a snapshot of the base
	Original  Original                     // with which the tree is compared
	Holes     bool                         // make holes of zeros in what is read
	Progress  func(bytes int64)            // is told of what is read, by several goroutines
	Unread    func(path string, err error) // is told of what this user may not read, by several goroutines
	// Bad is told of what the disk does not give, by several goroutines: of a part of a file, or with an error of all of it, or of a
	// directory with all in it. The survey goes on. Without Bad, that is an error.
	Bad      func(path string, at, length int64, err error)
	FromDisk bool // what is read is read from there, whatever is in memory
	// Reads tells whether the content of a file is to be read, if the base does not have it; nil: of all.
	Reads func(*manifest.Entry) bool
	// Fresh tells of a file that the base has that it is to be read all the same; nil: of none.
	Fresh func(*manifest.Entry) bool
	// Portable makes the manifest comparable with that of a copy: digests do not depend on holes, the properties of the filesystem
	// do not count, and the empty directories in the place of other subvolumes (linux/btrfs_tree.h:
	// BTRFS_EMPTY_SUBVOL_DIR_OBJECTID) are left out.
	Portable bool
}

// Findings are what a survey tells besides the manifest.
type Findings struct {
	Files  int64    // all but directories
	Bytes  int64    // sum of the sizes of regular files
	Inodes []uint64 // of all regular files, sorted
	Fresh  []uint64 // of those that are not in the base, sorted
	Sticky [][]byte // paths of sticky directories with attributes

	Lost      []Loss // of files that differ from their originals, the first ones
	LostCount int    // of all

	Had, Gone int64 // files of the base: all, and those that are not in the tree
	Changed   bool  // the tree differs from the base in something that a manifest compares
}

// A survey is at work: one goroutine walks the tree and compares it with the base, several read the files that are not in
// there, and one writes the manifest.
type survey struct {
	Options
	root     string // in messages
	onBtrfs  bool
	base     *baseManifest
	fail     context.CancelCauseFunc
	batch    *batch
	batches  chan *batch
	readings chan reading
	original *comparison
	several  map[uint64]*contents // of new files with several names that were not all seen yet, by inode
	found    Findings
}

// A batch is a part of the manifest.
type batch struct {
	items []item
	read  sync.WaitGroup // for the contents of the items
}

type item struct {
	entry    manifest.Entry
	old      *manifest.Entry // where the base has the same path; nil for nothing
	contents *contents       // nil if the entry has them already
	fresh    bool
	taken    bool // over from the base, unseen
}

// Tree surveys the tree at root, which it borrows, and writes its manifest. A BaseError tells that what was taken from the manifest
// of the base cannot be relied on.
func Tree(ctx context.Context, root *os.File, o Options, manifestTo io.Writer) (Findings, error) {
	return run(ctx, root, o, manifestTo, func(ctx context.Context, s *survey) error { return s.walk(ctx, root) })
}

// run lets meet hand what a survey is about to the other goroutines.
func run(ctx context.Context, root *os.File, o Options, manifestTo io.Writer, meet func(context.Context, *survey) error) (Findings, error) {
	out, err := manifest.NewWriter(manifestTo)
	if err != nil {
		return Findings{}, err
	}
	ctx, fail := context.WithCancelCause(ctx)
	s := survey{
		onBtrfs: btrfs.CheckFilesystem(root) == nil,
		Options: o, root: root.Name(), base: readBase(ctx, o.Base), fail: fail, batches: make(chan *batch, batchesAhead),
		readings: make(chan reading, readingsAhead), several: make(map[uint64]*contents),
	}
	if s.original = compareWith(o.Original, root); s.original != nil {
		defer s.original.from.Close()
	}
	defer func() {
		fail(nil)
		s.base.close()
	}()
	var running sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		running.Go(func() { s.readAll(ctx) })
	}
	running.Go(func() { s.write(ctx, out) })
	s.batch = newBatch()
	if err := meet(ctx, &s); err != nil {
		fail(err)
	} else {
		s.batches <- s.batch
	}
	close(s.readings)
	close(s.batches)
	running.Wait()
	if ctx.Err() != nil {
		return Findings{}, context.Cause(ctx)
	}
	slices.Sort(s.found.Inodes)
	slices.Sort(s.found.Fresh)
	s.found.Had, s.found.Gone = s.base.had, s.base.gone
	if s.original != nil {
		s.found.Lost, s.found.LostCount = s.original.lost, s.original.count
	}
	s.found.Changed = s.found.Changed || s.base.passed
	return s.found, out.Close()
}

// walk hands all files of the tree to the other goroutines.
func (s *survey) walk(ctx context.Context, root *os.File) error {
	v := walk.Visitor{Visit: s.visit, Closed: s.closed}
	if s.Bad != nil {
		v.Lost = s.lost
	}
	if err := walk.Tree(ctx, root, v); err != nil {
		return err
	}
	return s.base.end()
}

// closed passes over what is no part of the tree, and over directories of others.
func (s *survey) closed(path string, err error) error {
	switch {
	case err == unix.EXDEV:
		return nil
	case walk.IsForbidden(err):
		s.Unread(path, err)
		return s.base.skip(path)
	case s.Bad != nil:
		s.Bad(path, 0, 0, err)
		return s.base.skip(path)
	}
	return fmt.Errorf("reading %s: %w", filepath.Join(s.root, path), err)
}

// lost passes over a file that is gone since its name was read.
func (s *survey) lost(path string, err error) error {
	if err != unix.ENOENT {
		s.Bad(path, 0, 0, err)
	}
	return nil
}

func newBatch() *batch { return &batch{items: make([]item, 0, batchSize)} }

// visit takes what the base knows of the file, or has it read.
func (s *survey) visit(f walk.File) error {
	if s.Portable {
		if f.Type == manifest.Directory && f.Inode == emptySubvolume && s.onBtrfs {
			return nil
		}
		f.Portable()
	}
	old, err := s.base.find(&f.Entry)
	if err != nil {
		return err
	}
	it := item{entry: f.Entry, old: old}
	if old != nil && s.unchanged(old, &f.Entry) && (s.Fresh == nil || !s.Fresh(&f.Entry)) {
		it.entry.Target, it.entry.SHA256, it.entry.Sparse, it.entry.Xattrs = old.Target, old.SHA256, old.Sparse, old.Xattrs
	} else if it.contents = s.seen(&f.Entry); it.contents == nil {
		it.contents, it.fresh = s.read(f), f.Type == manifest.Regular
	}
	s.add(it)
	return nil
}

func (s *survey) add(it item) {
	s.batch.items = append(s.batch.items, it)
	if len(s.batch.items) == cap(s.batch.items) {
		s.batches <- s.batch
		s.batch = newBatch()
	}
}

// unchanged tells that a file is the very one of the base: its snapshot that was not written to since, or the same
// inode under another name. Whether the latter was written to cannot be told by its time of change, which new links change too;
// but then both would have changed.
func (s *survey) unchanged(old, e *manifest.Entry) bool {
	switch {
	case old.Inode != e.Inode || old.Type != e.Type || old.Size != e.Size || old.ModTime != e.ModTime ||
		old.Mode != e.Mode || old.UID != e.UID || old.GID != e.GID:
		return false
	case e.Type == manifest.Regular && old.SHA256 == manifest.Digest{}: // it could not be read then
		return false
	case s.Subvolume:
		return old.ChangeTime == e.ChangeTime
	default:
		return e.Type != manifest.Directory && e.Links > 1
	}
}

// seen gives the contents of a file that was met under another name, else nil.
func (s *survey) seen(e *manifest.Entry) *contents {
	c := s.several[e.Inode]
	if c == nil || e.Type == manifest.Directory {
		return nil
	}
	if c.names--; c.names == 0 {
		delete(s.several, e.Inode)
	}
	return c
}

// read has a file read.
func (s *survey) read(f walk.File) *contents {
	c := &contents{sparse: f.Sparse}
	if f.Type == manifest.Regular && s.Read != nil {
		if sum, sparse, ok := s.Read(&f.Entry); ok {
			c.sha256, c.sparse = sum, sparse
		}
	}
	if f.Links > 1 && f.Type != manifest.Directory {
		c.names = f.Links - 1
		s.several[f.Inode] = c
	}
	s.batch.read.Add(1)
	f.Dir.Hold()
	s.readings <- reading{file: f, into: c, done: &s.batch.read}
	return c
}

// write writes entries in order, each as soon as it is known. It takes all batches, however early the context ends.
func (s *survey) write(ctx context.Context, out *manifest.Writer) {
	for b := range s.batches {
		b.read.Wait()
		for i := range b.items {
			if ctx.Err() != nil {
				break
			}
			if err := s.writeItem(out, &b.items[i]); err != nil {
				s.fail(err)
			}
		}
	}
}

func (s *survey) writeItem(out *manifest.Writer, it *item) error {
	e := it.entry
	if c := it.contents; c != nil { // another name of the file came before, or its reading is done
		e.Target, e.SHA256, e.Sparse, e.Xattrs = c.target, c.sha256, c.sparse, c.xattrs
		if c.changed != (manifest.Time{}) {
			e.ChangeTime = c.changed
		}
	}
	s.found.Changed = s.found.Changed || it.old == nil || !e.Equal(*it.old)
	if e.Type != manifest.Directory {
		s.found.Files++
	}
	if e.Type == manifest.Regular {
		s.found.Bytes += e.Size
		s.found.Inodes = append(s.found.Inodes, e.Inode)
	}
	if e.Type == manifest.Directory && e.Mode&unix.S_ISVTX != 0 && e.Xattrs != (manifest.Digest{}) {
		s.found.Sticky = append(s.found.Sticky, []byte(e.Path))
	}
	if s.original != nil && !it.taken {
		s.original.look(&e, it.contents != nil)
	}
	if it.fresh && e.SHA256 != (manifest.Digest{}) {
		s.found.Fresh = append(s.found.Fresh, e.Inode)
	}
	return out.Write(e)
}
