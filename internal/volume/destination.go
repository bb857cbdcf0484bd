package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/engine"
	"btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// Destination is an engine.Destination: a folder on a btrfs filesystem of this machine.
type Destination struct {
	folder
}

var _ engine.Destination = (*Destination)(nil)

// NewDestination names the folder at path.
func NewDestination(path string, o Options) (*Destination, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return &Destination{folder: folder{path: path, Options: o}}, nil
}

// Open opens the folder and, if asked to, creates it.
func (d *Destination) Open(_ context.Context, create bool) error {
	err := d.open(create, d.check)
	var pathError *fs.PathError
	if errors.As(err, &pathError) && pathError.Path == d.path {
		err = pathError.Err
	}
	if err != nil {
		return fmt.Errorf("destination %s: %w", d.path, err)
	}
	return nil
}

func (d *Destination) check(dir *os.File) error {
	if d.SkipChecks {
		return nil
	}
	if err := btrfs.CheckFilesystem(dir); err != nil {
		return engine.Hint(fmt.Errorf("%s is %w", dir.Name(), err), "a destination must lie on a btrfs filesystem: is its disk mounted?")
	}
	return nil
}

// Accepts gives the best format of the btrfs program here.
func (d *Destination) Accepts(ctx context.Context) (engine.Format, error) {
	return bestFormat(ctx, d.local())
}

// Receive runs `btrfs receive` in the folder.
func (d *Destination) Receive(ctx context.Context, name string) (engine.Receiver, error) {
	hidden := engine.Incoming(name)
	for _, n := range []string{name, hidden} {
		if err := d.checkFree(n); err != nil {
			return nil, err
		}
	}
	argv, err := d.receiveCommand()
	if err != nil {
		return nil, err
	}
	r, w, err := transport.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p, err := d.local().Start(ctx, transport.Command{Argv: argv, Stdin: r})
	if err != nil {
		w.Close()
		return nil, receiverError(err, d.path)
	}
	return &receiver{Writer: sendstream.NewRenamer(w, hidden), d: d, name: name, stream: w, process: p}, nil
}

// checkFree refuses to receive what could not get its name in the end.
func (d *Destination) checkFree(name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(d.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	path := filepath.Join(d.path, name)
	if err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	kind := "a file"
	switch {
	case st.Ino == 256 && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		kind = "another subvolume"
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		kind = "a directory"
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		kind = "a symbolic link"
	}
	return engine.Hint(fmt.Errorf("%w: %s is %s, not a copy of the snapshot", fs.ErrExist, path, kind), "move it away or rename it; it was left as it is")
}

// receiver is one run of `btrfs receive`.
type receiver struct {
	io.Writer
	d       *Destination
	name    string
	stream  *os.File
	process *transport.Process
}

func (r *receiver) Close(context.Context) (btrfs.Subvolume, error) {
	r.stream.Close()
	if err := r.process.Wait(); err != nil {
		return btrfs.Subvolume{}, receiverError(err, r.d.path)
	}
	return btrfs.InfoAt(r.d.dir, engine.Incoming(r.name))
}

// Commit syncs before it renames: the name must not reach the disk before the data.
func (r *receiver) Commit(ctx context.Context, origin btrfs.UUID) error {
	if err := btrfs.SyncFilesystem(r.d.dir); err != nil {
		return err
	}
	if err := btrfs.Rename(r.d.dir, engine.Incoming(r.name), r.name); err != nil {
		return err
	}
	r.d.Log.Debug("renamed " + filepath.Join(r.d.path, r.name))
	if err := r.d.recordOrigin(ctx, r.name, origin); err != nil {
		return err
	}
	return btrfs.SyncFilesystem(r.d.dir)
}

func (r *receiver) Abort(context.Context) error {
	err := r.d.deleteOne(engine.Incoming(r.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
