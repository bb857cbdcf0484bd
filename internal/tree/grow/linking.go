package grow

import (
	"context"
	"fmt"
	"os"
	"path"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// mostLinks is how many files of one directory are handed over to be linked at a time.
const mostLinks = 64

// A level is a directory of the base that is open, with the one of the new tree that it becomes. Several goroutines link files; the one
// that is done last with a directory settles and closes it.
type level struct {
	entry   manifest.Entry // with its path in the base
	to      string         // its path in the new tree; "" if it is gone
	from    *walk.Dir
	into    *walk.Dir // nil if it is gone
	settles bool      // it is to have the attributes of the base

	files []manifest.Entry // that are to be linked under their names
	open  atomic.Int32     // who is not done with it
}

// linking links files of directories that are open.
type linking struct {
	ctx     context.Context
	fail    context.CancelCauseFunc
	batches chan batch
	working sync.WaitGroup
}

// A batch are files of one directory.
type batch struct {
	of    *level
	files []manifest.Entry
}

func newLinking(ctx context.Context) *linking {
	l := &linking{batches: make(chan batch, 16)}
	l.ctx, l.fail = context.WithCancelCause(ctx)
	for range runtime.GOMAXPROCS(0) {
		l.working.Go(func() {
			for b := range l.batches {
				l.failed(b.link(l.ctx))
				l.failed(b.of.done())
			}
		})
	}
	return l
}

// failed ends all, if there is an error.
func (l *linking) failed(err error) {
	if err != nil {
		l.fail(err)
	}
}

// end waits until all is done, and gives what failed.
func (l *linking) end() error {
	close(l.batches)
	l.working.Wait()
	err := context.Cause(l.ctx)
	l.fail(nil)
	return err
}

// handOver has files linked whose entries are in a level.
func (l *linking) handOver(of *level) {
	if len(of.files) > 0 {
		of.open.Add(1)
		l.batches <- batch{of, of.files}
		of.files = nil
	}
}

// link links the files, unless one is not what it was.
func (b batch) link(ctx context.Context) error {
	for i := range b.files {
		if ctx.Err() != nil {
			return nil
		}
		e := &b.files[i]
		name := path.Base(e.Path)
		if err := checkSame(b.of.from, name, e); err != nil {
			return err
		}
		if err := linkAs(b.of.from, name, e.Path, b.of.into, name); err != nil {
			return err
		}
	}
	return nil
}

func linkAs(from *walk.Dir, name, path string, into *walk.Dir, to string) error {
	if err := unix.Linkat(from.Descriptor(), name, into.Descriptor(), to, 0); err != nil {
		return &os.LinkError{Op: "link", Old: path, New: to, Err: err}
	}
	failpoint.Reach("linked")
	return nil
}

// done tells that somebody needs the directory no more. The last one settles it.
func (l *level) done() (err error) {
	if l.open.Add(-1) > 0 {
		return nil
	}
	if l.settles {
		if err = l.settle(); err != nil {
			err = fmt.Errorf("%s: %w", l.to, err)
		}
	}
	l.from.Release()
	if l.into != nil {
		l.into.Release()
	}
	return err
}
