// Package walk goes through directory trees, reads what is in them, and removes it.
//
// It goes by names in open directories, so that no symbolic link leads it elsewhere, and leaves neither the mount nor the
// subvolume that it began in.
package walk

import (
	"context"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// A Visitor is told what a walk meets. An error that it gives ends the walk.
type Visitor struct {
	// Visit is told of each file, the root as "." in itself. Who wants to use its Dir later holds that.
	Visit func(File) error
	// Closed is told of a directory, after its visit, that cannot be looked into. The error is that of the system, unix.EXDEV for
	// what is mounted there and for another subvolume.
	Closed func(path string, err error) error
	// Lost is told, instead of its visit, of a file that cannot be described; most likely it is gone. Without Lost, that ends the
	// walk.
	Lost func(path string, err error) error
}

// Tree walks the tree at root, which it borrows, in the order of manifest.Compare.
func Tree(ctx context.Context, root *os.File, v Visitor) error {
	dir, err := OpenDir(root)
	if err != nil {
		return err
	}
	trail := NewTrail(dir)
	defer trail.Close()
	top, err := dir.File(".", ".")
	if err != nil {
		return &os.PathError{Op: "stat", Path: root.Name(), Err: err}
	}
	if v.Lost == nil {
		v.Lost = func(path string, err error) error {
			return &os.PathError{Op: "lstat", Path: filepath.Join(root.Name(), path), Err: err}
		}
	}
	w := walk{Visitor: v, ctx: ctx, trail: trail, on: top.Filesystem, buffer: make([]byte, NamesSize)}
	if err := v.Visit(top); err != nil {
		return err
	}
	return w.directory(".")
}

type walk struct {
	Visitor
	ctx    context.Context
	trail  *Trail
	on     uint64 // the filesystem of the root
	buffer []byte
}

// directory visits what is in the directory that the trail leads to.
func (w *walk) directory(path string) error {
	names, err := w.trail.Last().Names(w.buffer)
	if err != nil {
		return w.Closed(path, err)
	}
	for _, name := range names {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		below := name
		if path != "." {
			below = path + "/" + name
		}
		f, err := w.trail.Last().File(name, below)
		if err != nil {
			err = w.Lost(below, err)
		} else if err = w.Visit(f); err == nil && f.Type == manifest.Directory {
			err = w.enter(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) enter(f File) error {
	if f.Filesystem != w.on {
		return w.Closed(f.Path, unix.EXDEV)
	}
	dir, err := f.Dir.Dir(f.Name)
	if err != nil {
		return w.Closed(f.Path, err)
	}
	if err := w.trail.Down(dir); err != nil {
		return &os.PathError{Op: "open", Path: f.Path, Err: err}
	}
	if err := w.directory(f.Path); err != nil {
		return err
	}
	if err := w.trail.Up(); err != nil {
		return &os.PathError{Op: "open", Path: f.Path + "/..", Err: err}
	}
	return nil
}
