// Package follow reads files while they are copied, and are still in memory, so that they need not be read when the copy is
// complete. It pays where much is new, and is not for files that are changed in place, which have their names before they are
// complete. Without it, or after an error, nothing is amiss.
//
// What it read of a file counts only if inode and time of change are the same in the end. A file that changed a moment ago is left
// alone, so that no later change can have the same time.
package follow

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

const (
	// settled is how long nothing must have changed a file for it to be read. The times of changes are far more precise, so that
	// every later change is told by another time.
	settled = 2 * time.Second
	// pause is how long a follower rests between two passes.
	pause = time.Second
)

// Copy reads files below a directory while they are copied there, and writes Notes to a new file on the same filesystem. It goes on
// until the context ends, which is no error. It borrows both.
func Copy(ctx context.Context, root, notes *os.File) error {
	if err := checkClock(notes, time.Now()); err != nil {
		return err
	}
	dir, err := walk.OpenDir(root)
	if err != nil {
		return err
	}
	trail := walk.NewTrail(dir)
	defer trail.Close()
	out := bufio.NewWriter(notes)
	f := follower{ctx: ctx, trail: trail, out: out, content: make([]byte, walk.ReadSize), names: make([]byte, walk.NamesSize)}
	top := followed{name: "."}
	for {
		err := f.pass(&top)
		flushErr := out.Flush()
		switch {
		case ctx.Err() != nil:
			return flushErr
		case err != nil || flushErr != nil:
			return cmp.Or(err, flushErr)
		}
		rest(ctx, pause)
	}
}

// checkClock refuses the filesystem of a file that was made just now if its clock is another, as it may be on another machine:
// times of changes do not tell there how long ago they were.
func checkClock(file *os.File, now time.Time) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if off := now.Sub(time.Unix(st.Ctim.Unix())).Abs(); off > settled/2 {
		return fmt.Errorf("the clock of its filesystem is off by %s", off)
	}
	return nil
}

// rest waits, or until the context ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// A follower reads files soon after they were written.
type follower struct {
	ctx            context.Context
	trail          *walk.Trail
	out            io.Writer // of Notes
	content, names []byte    // buffers
}

// A followed directory is one that a follower knows.
type followed struct {
	name  string
	dirs  []*followed // sorted by name
	until int64       // what changed before was looked at, in nanoseconds
}

// pass reads the files below a directory, in the one that the trail leads to, that settled since the last pass. What is gone, or
// cannot be read, will be told when the copy is complete.
func (f *follower) pass(d *followed) error {
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	dir, err := f.trail.Last().Dir(d.name)
	if err != nil {
		return nil
	}
	self, err := dir.File(".", ".")
	if err != nil {
		dir.Release()
		return nil
	}
	if err := f.trail.Down(dir); err != nil {
		return err
	}
	if nanoseconds(self.ChangeTime) >= d.until { // rsync renames each file when it is complete
		if err := f.look(dir, d); err != nil {
			return err
		}
	}
	for _, below := range d.dirs {
		if err := f.pass(below); err != nil {
			return err
		}
	}
	return f.trail.Up()
}

// look reads the files of a directory that settled since it was last looked at, and remembers the directories in it.
func (f *follower) look(dir *walk.Dir, d *followed) error {
	until := time.Now().Add(-settled).UnixNano() // now, since what comes while names are read may not be among them
	names, err := dir.Names(f.names)
	if err != nil {
		return nil
	}
	since, known := d.until, d.dirs
	d.until, d.dirs = until, nil
	for _, name := range names {
		file, err := dir.File(name, name)
		if err != nil {
			continue
		}
		switch changed := nanoseconds(file.ChangeTime); {
		case file.Type == manifest.Directory:
			d.dirs = append(d.dirs, below(known, name))
		case file.Type == manifest.Regular && file.Links == 1 && since <= changed && changed < d.until && !isTemporary(name):
			if err := f.read(&file); err != nil {
				return err
			}
		}
	}
	return nil
}

// below gives the directory of that name, of those that are known or else a new one.
func below(known []*followed, name string) *followed {
	i, found := slices.BinarySearchFunc(known, name, func(d *followed, name string) int { return strings.Compare(d.name, name) })
	if found {
		return known[i]
	}
	return &followed{name: name}
}

// read notes the content of a file, unless it cannot be read or is changed meanwhile.
func (f *follower) read(file *walk.File) error {
	sum, err := file.Hash(f.ctx, f.content, manifest.Watcher{})
	if err != nil {
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
		return nil
	}
	n := noteOf(&file.Entry)
	n.sha256, n.sparse = sum, file.Sparse
	return n.write(f.out)
}

// isTemporary tells a name such as rsync gives a file while it writes that (rsync/receiver.c: get_tmpname): ".NAME.123456".
func isTemporary(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	return strings.HasPrefix(name, ".") && dot > 0 && len(name)-dot == len(".123456")
}
