package tree

import (
	"context"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"

	"btrfs-backup/internal/manifest"
)

const (
	// surveyBatch is how many entries are written at a time.
	surveyBatch = 256
	// surveyAhead is how many batches may wait for their files to be read.
	surveyAhead = 8
)

// A survey describes a tree: one goroutine walks it and compares it with the backup before, several read the files that are not
// in there, and one writes the manifest.
type survey struct {
	root      *os.File
	base      *baseline
	ahead     ahead
	subvolume bool
	holes     bool              // make holes of zeros in what is read
	progress  func(bytes int64) // is called by one goroutine at a time
	unread    func(path string, err error)

	fail     context.CancelCauseFunc
	batch    *batch
	batches  chan *batch
	readings chan reading
	several  map[uint64]*contents // of new files with several names that were not all seen yet, by inode
	found    findings
}

// findings are what a survey tells besides the manifest.
type findings struct {
	files  int64    // all but directories
	bytes  int64    // sum of the sizes of regular files
	inodes []uint64 // of all regular files, sorted
	fresh  []uint64 // of those that are not in the backup before, sorted
}

// A batch is a part of the manifest.
type batch struct {
	items []item
	read  sync.WaitGroup // for the contents of the items
}

type item struct {
	entry    manifest.Entry
	contents *contents // nil if the entry has them already
	fresh    bool
}

// run surveys the tree and writes its manifest.
func (s *survey) run(ctx context.Context, manifestTo io.Writer) (findings, error) {
	out, err := manifest.NewWriter(manifestTo)
	if err != nil {
		return findings{}, err
	}
	ctx, s.fail = context.WithCancelCause(ctx)
	defer s.fail(nil)
	s.batches = make(chan *batch, surveyAhead)
	s.readings = make(chan reading, surveyBatch)
	s.several = make(map[uint64]*contents)

	var running sync.WaitGroup
	reader := contentReader{ctx: ctx, fail: s.fail, root: s.root.Name(), holes: s.holes, progress: s.progress, unread: s.unread}
	for range runtime.GOMAXPROCS(0) {
		running.Go(func() { reader.work(s.readings) })
	}
	running.Go(func() { s.write(ctx, out) })
	if err := s.walk(ctx); err != nil {
		s.fail(err)
	}
	close(s.readings)
	close(s.batches)
	running.Wait()
	if ctx.Err() != nil {
		return findings{}, context.Cause(ctx)
	}
	slices.Sort(s.found.inodes)
	slices.Sort(s.found.fresh)
	return s.found, out.Close()
}

// walk hands all files of the tree to the other goroutines.
func (s *survey) walk(ctx context.Context) error {
	s.batch = newBatch()
	w := walk{ctx: ctx, visit: s.visit, unread: func(path string, err error) error {
		s.unread(path, err)
		return s.base.skip(path)
	}}
	if err := w.run(s.root); err != nil {
		return err
	}
	s.batches <- s.batch
	return s.base.end()
}

func newBatch() *batch { return &batch{items: make([]item, 0, surveyBatch)} }

// visit takes what the backup before knows of the file, or has it read.
func (s *survey) visit(in *openDir, name string, e manifest.Entry) error {
	old, err := s.base.find(&e)
	if err != nil {
		return err
	}
	it := item{entry: e}
	if old != nil && s.unchanged(old, &e) {
		it.entry.Target, it.entry.SHA256, it.entry.Xattrs = old.Target, old.SHA256, old.Xattrs
	} else if it.contents = s.seen(&e); it.contents == nil {
		it.contents, it.fresh = s.read(in, name, e), e.Type == manifest.Regular
	}
	s.batch.items = append(s.batch.items, it)
	if len(s.batch.items) == cap(s.batch.items) {
		s.batches <- s.batch
		s.batch = newBatch()
	}
	return nil
}

// unchanged tells that a file is the very one of the backup before: its snapshot that was not written to since, or the same
// inode under another name. Whether the latter was written to cannot be told by its time of change, which new links change too;
// but then both would have changed.
func (s *survey) unchanged(old, e *manifest.Entry) bool {
	switch {
	case old.Inode != e.Inode || old.Type != e.Type || old.Size != e.Size || old.ModTime != e.ModTime ||
		old.Mode != e.Mode || old.UID != e.UID || old.GID != e.GID:
		return false
	case e.Type == manifest.Regular && old.SHA256 == manifest.Digest{}: // it could not be read then
		return false
	case s.subvolume:
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
func (s *survey) read(in *openDir, name string, e manifest.Entry) *contents {
	c := new(contents)
	if e.Type == manifest.Regular {
		c.sha256, _ = s.ahead.find(&e)
	}
	if e.Links > 1 && e.Type != manifest.Directory {
		c.names = e.Links - 1
		s.several[e.Inode] = c
	}
	s.batch.read.Add(1)
	s.readings <- reading{in: in.hold(), name: name, file: e, into: c, done: &s.batch.read}
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
		e.Target, e.SHA256, e.Xattrs = c.target, c.sha256, c.xattrs
		if c.changed != (manifest.Time{}) {
			e.ChangeTime = c.changed
		}
	}
	if e.Type != manifest.Directory {
		s.found.files++
	}
	if e.Type == manifest.Regular {
		s.found.bytes += e.Size
		s.found.inodes = append(s.found.inodes, e.Inode)
	}
	if it.fresh && e.SHA256 != (manifest.Digest{}) {
		s.found.fresh = append(s.found.fresh, e.Inode)
	}
	return out.Write(e)
}
