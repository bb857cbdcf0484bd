package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/hint"
	"btrfs-backup/lock"
	"btrfs-backup/transport"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Local is this machine. Its directories are worked on by their file descriptors.
type Local struct {
	log     *slog.Logger
	confine *confinement // nil: any directory will do

	asked  sync.Mutex // guards format
	format *format
}

var _ Host = (*Local)(nil)

// NewLocal gives this machine.
func NewLocal(log *slog.Logger) *Local { return &Local{log: log} }

func (l *Local) String() string { return "" }

// run gives what runs programs. What they say is debugging output unless the user asked for it.
func (l *Local) run(verbose bool) transport.Local {
	level := slog.LevelDebug
	if verbose {
		level = slog.LevelInfo
	}
	return transport.Local{Log: l.log, Level: level}
}

// localDir is an open directory of this machine.
type localDir struct {
	host   *Local
	dir    *os.File
	status Status
	locks  []*lock.Lock
}

// Open opens the directory at path.
func (l *Local) Open(_ context.Context, path string) (Dir, error) { return l.open(path) }

func (l *Local) open(path string) (*localDir, error) {
	dir, err := l.openFile(path)
	if err != nil {
		return nil, err
	}
	d := &localDir{host: l, dir: dir}
	if d.status, err = describe(dir); err == nil && l.confine != nil {
		err = l.confine.check(d.status)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return d, nil
}

func (l *Local) openFile(path string) (*os.File, error) {
	if l.confine != nil {
		return l.confine.open(path)
	}
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
}

func describe(dir *os.File) (Status, error) {
	s := Status{Path: dir.Name(), Privileged: os.Geteuid() == 0}
	err := btrfs.CheckFilesystem(dir)
	if errors.Is(err, btrfs.ErrNotBtrfs) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.Btrfs = true
	s.IsRoot = btrfs.CheckSubvolume(dir) == nil
	if s.Subvolume, err = btrfs.Info(dir); err != nil {
		return s, err
	}
	s.Place, err = btrfs.PlaceOf(dir)
	return s, err
}

// List opens the directory at path and lists it.
func (l *Local) List(ctx context.Context, path string) (Status, Content, error) {
	d, err := l.open(path)
	if err != nil {
		return Status{}, Content{}, err
	}
	defer d.Close()
	content, err := d.List(ctx)
	return d.status, content, err
}

// MkdirAll makes a directory and those above it that are missing.
func (l *Local) MkdirAll(_ context.Context, path string) error {
	if l.confine != nil {
		return l.confine.mkdirAll(path)
	}
	return os.MkdirAll(path, 0o755)
}

func (d *localDir) Status() Status { return d.status }

func (d *localDir) Close() error {
	var errs []error
	for _, l := range d.locks {
		errs = append(errs, l.Release())
	}
	return errors.Join(append(errs, d.dir.Close())...)
}

func (d *localDir) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	l, err := lock.Acquire(ctx, d.dir, waiting)
	if err != nil {
		return nil, err
	}
	d.locks = append(d.locks, l)
	return l.Release, nil
}

func (d *localDir) List(context.Context) (Content, error) {
	if !d.status.Btrfs {
		return Content{}, nil
	}
	listing, err := btrfs.List(d.dir)
	if err != nil {
		return Content{}, err
	}
	c := Content{Listing: d.withoutKept(listing)}
	if c.Sizes, err = btrfs.Sizes(d.dir); err != nil {
		return Content{}, err
	}
	if d.host.confine != nil {
		if err := d.host.confine.narrow(d, &c); err != nil {
			return Content{}, err
		}
	}
	c.Ledger, c.Origins = d.file(lock.LedgerFile), d.file(originsFile)
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.dir.Fd()), &st); err != nil {
		return Content{}, os.NewSyscallError("fstatfs", err)
	}
	c.Free = st.Bavail * uint64(st.Bsize)
	return c, nil
}

func (d *localDir) file(name string) File {
	content, err := d.readFile(name)
	if err != nil {
		return File{Failure: err.Error()}
	}
	return File{Content: content}
}

// readFile reads a file of ours in the directory; a missing one is nil.
func (d *localDir) readFile(name string) ([]byte, error) {
	f, err := openBeneath(d.dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

func (d *localDir) Nested(context.Context) ([]Nested, error) {
	children, err := btrfs.Children(d.dir)
	if err != nil {
		return nil, err
	}
	var nested []Nested
	for _, c := range children {
		n := Nested{Path: c.Path, Container: d.status.Subvolume.ID, ContainerAt: c.DirID}
		if info, err := btrfs.InfoAt(d.dir, c.Path); err == nil {
			n.ParentUUID = info.ParentUUID
		}
		nested = append(nested, n)
	}
	return nested, nil
}

func (d *localDir) Take(_ context.Context, source string, uuid btrfs.UUID, name string) (btrfs.Subvolume, error) {
	dir, err := d.host.openFile(source)
	if err != nil {
		return btrfs.Subvolume{}, err
	}
	defer dir.Close()
	info, err := btrfs.Info(dir)
	if err != nil {
		return btrfs.Subvolume{}, err
	}
	if info.UUID != uuid {
		return btrfs.Subvolume{}, fmt.Errorf("%s is another subvolume than before: UUID %s instead of %s", source, info.UUID, uuid)
	}
	if err := btrfs.Snapshot(dir, d.dir, name); err != nil {
		return btrfs.Subvolume{}, err
	}
	if err := btrfs.SyncFilesystem(d.dir); err != nil {
		return btrfs.Subvolume{}, fmt.Errorf("snapshot %s was taken, but may not be on disk: %w", name, err)
	}
	return btrfs.InfoAt(d.dir, name)
}

func (d *localDir) Delete(ctx context.Context, names []string, o DeleteOptions) (deleted []string, err error) {
	var failures []error
	for _, name := range names {
		if ctx.Err() != nil {
			failures = append(failures, context.Cause(ctx))
			break
		}
		if err := d.deleteOne(name, o.ConvertRW); err != nil {
			failures = append(failures, err)
			continue
		}
		d.host.log.Debug("deleted " + filepath.Join(d.status.Path, name))
		deleted = append(deleted, name)
	}
	if o.Wait && len(deleted) > 0 {
		_, err := d.host.run(o.Verbose).Output(ctx, program, "subvolume", "sync", d.status.Path)
		failures = append(failures, err)
	}
	return deleted, errors.Join(failures...)
}

func (d *localDir) deleteOne(name string, convertRW bool) error {
	if convertRW {
		if err := btrfs.SetReadOnly(d.dir, name, false); err != nil {
			return err
		}
	}
	err := btrfs.Delete(d.dir, name)
	if err != nil && convertRW {
		err = errors.Join(err, btrfs.SetReadOnly(d.dir, name, true))
	}
	return err
}

func (d *localDir) WriteLedger(_ context.Context, content []byte) error {
	return d.replaceFile(lock.LedgerFile, content)
}

// replaceFile writes a file beside the old one, puts it on disk and then in the old one's place. To put the new name on
// disk is left to the caller.
func (d *localDir) replaceFile(name string, content []byte) error {
	path := d.pathOf(name)
	err := renameio.WriteFile(path, content, 0o644, renameio.WithTempDir(filepath.Dir(path)))
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Join(d.status.Path, name), err)
	}
	return nil
}

// pathOf names a file in the directory for calls that take a path.
func (d *localDir) pathOf(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.dir.Fd(), name)
}

func (d *localDir) Link(_ context.Context, name, target string) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(d.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return hint.New(fmt.Errorf("%s %w", filepath.Join(d.status.Path, name), errNotLink),
			"move it away; the link to the newest snapshot belongs there")

	}
	if err := renameio.Symlink(target, d.pathOf(name)); err != nil {
		return fmt.Errorf("linking the newest snapshot: %w", err)
	}
	return nil
}

func (d *localDir) Sync(context.Context) error { return d.dir.Sync() }
