package survey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// Known is what is known of a tree that was made out of its base.
type Known struct {
	Manifests []io.Reader // of what was taken over; no two have one path
	Anew      []string    // paths of the rest, sorted by manifest.Compare; some of it may be missing
}

// Grown is Tree for a tree of which most is known: it looks at the rest alone, and has no base.
func Grown(ctx context.Context, root *os.File, known Known, o Options, manifestTo io.Writer) (Findings, error) {
	return run(ctx, root, o, manifestTo, func(ctx context.Context, s *survey) error { return s.merge(ctx, root, known) })
}

// merge hands on what is known, and has the rest read, in order.
func (s *survey) merge(ctx context.Context, root *os.File, known Known) error {
	taken, err := readTaken(known.Manifests)
	if err != nil {
		return err
	}
	defer taken.close()
	top, err := walk.OpenDir(root)
	if err != nil {
		return err
	}
	at := place{top: top, dir: top.Hold(), path: "."}
	defer at.close()
	for _, next := range known.Anew {
		if err := s.take(ctx, taken, next); err != nil {
			return err
		}
		f, err := at.file(next)
		if errors.Is(err, unix.ENOENT) {
			continue // it could not be copied, as was told
		}
		if err != nil {
			return &os.PathError{Op: "lstat", Path: filepath.Join(s.root, next), Err: err}
		}
		if err := s.visit(f); err != nil {
			return err
		}
	}
	return s.take(ctx, taken, "")
}

// take hands on what was taken over, up to a path; "" for all.
func (s *survey) take(ctx context.Context, taken *takenOver, until string) error {
	for {
		e := taken.first()
		if e == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch order := manifest.Compare(e.Path, until); {
		case until != "" && order == 0:
			return fmt.Errorf("%s: it was taken over, and is to be copied", e.Path)
		case until != "" && order > 0:
			return nil
		}
		s.add(item{entry: *e, taken: true})
		if err := taken.advance(); err != nil {
			return err
		}
	}
}

// takenOver merges manifests.
type takenOver struct {
	readers []*manifest.Reader
	heads   []*manifest.Entry // of each; nil at its end
	least   int               // of the readers, whose head is the first
}

func readTaken(manifests []io.Reader) (*takenOver, error) {
	t := &takenOver{}
	for _, m := range manifests {
		r, err := manifest.NewReader(m)
		if err != nil {
			t.close()
			return nil, err
		}
		t.readers = append(t.readers, r)
		t.heads = append(t.heads, nil)
		if err := t.read(len(t.heads) - 1); err != nil {
			t.close()
			return nil, err
		}
	}
	return t, nil
}

func (t *takenOver) close() {
	for _, r := range t.readers {
		r.Close()
	}
}

func (t *takenOver) read(i int) error {
	e, err := t.readers[i].Next()
	if t.heads[i] = &e; err != nil {
		t.heads[i] = nil
	}
	if err == io.EOF {
		err = nil
	}
	return err
}

// first gives the next entry of all; nil at the end.
func (t *takenOver) first() *manifest.Entry {
	for i, e := range t.heads {
		if least := t.heads[t.least]; e != nil && (least == nil || manifest.Compare(e.Path, least.Path) < 0) {
			t.least = i
		}
	}
	return t.heads[t.least]
}

// advance passes over the entry that first gave.
func (t *takenOver) advance() error { return t.read(t.least) }

// A place is a directory below another one.
type place struct {
	top, dir *walk.Dir
	path     string
}

func (p *place) close() {
	p.top.Release()
	p.dir.Release()
}

// file describes what has a path below the first directory.
func (p *place) file(at string) (f walk.File, err error) {
	if at == "." {
		return p.top.File(".", ".")
	}
	if dir := path.Dir(at); dir != p.path {
		opened, err := p.top.Below(dir)
		if err != nil {
			return f, err
		}
		p.dir.Release()
		p.dir, p.path = opened, dir
	}
	return p.dir.File(path.Base(at), at)
}
