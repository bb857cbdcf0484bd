// Package local is the host that is this machine. Its directories are worked on by their file descriptors.
package local

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/heal"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/loose"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/received"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Host is this machine.
type Host struct {
	log     *slog.Logger
	confine Confinement // nil: any directory will do

	asked  sync.Mutex // guards format
	format *format
}

var _ host.Trees = (*Host)(nil)

// A Confinement keeps whoever works on this machine within a part of it.
type Confinement interface {
	// Open opens a directory.
	Open(path string) (*os.File, error)
	// MkdirAll makes a directory and those above it that are missing.
	MkdirAll(path string) error
	// Check refuses a directory in which nothing can be done.
	Check(s host.Status) error
	// Narrow leaves out of a listing of the directory what is outside.
	Narrow(d *Dir, l btrfs.Listing) (btrfs.Listing, error)
}

// New gives this machine.
func New(log *slog.Logger) *Host { return &Host{log: log} }

// NewConfined gives this machine to somebody who is not trusted. What is received is isolated, or refused.
func NewConfined(log *slog.Logger, c Confinement) *Host { return &Host{log: log, confine: c} }

func (h *Host) String() string { return "" }

// run gives what runs programs. What they say is debugging output unless the user asked for it.
func (h *Host) run(verbose bool) transport.Local {
	return transport.Local{Log: h.log, Level: level(verbose)}
}

// Dir is an open directory of this machine.
type Dir struct {
	host   *Host
	dir    *os.File
	status host.Status
	locks  []*lock.Lock
}

// Open opens the directory at path.
func (h *Host) Open(_ context.Context, path string) (*host.Dir, error) {
	d, err := h.OpenDir(path)
	if err != nil {
		return nil, err
	}
	return &host.Dir{
		Folder:    d,
		Snapshots: d,
		Backups:   d,
		Files:     d,
		Sets:      d,
		Past:      d,
		Healing:   heal.In(d.dir),
		Contents:  d,
		Relinker:  d,
		Records:   d,
		Restorer:  d,
		Space:     d,
		Loose:     d.Loose(),

		Attributed: d,
	}, nil
}

// OpenDir is Open for whoever needs to know that the directory is on this machine.
func (h *Host) OpenDir(path string) (*Dir, error) {
	dir, err := h.openFile(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{host: h, dir: dir}
	if d.status, err = describe(dir); err == nil && h.confine != nil {
		err = h.confine.Check(d.status)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return d, nil
}

func (h *Host) openFile(path string) (*os.File, error) {
	if h.confine != nil {
		return h.confine.Open(path)
	}
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	return dir, walk.ExplainMissing(err, path)
}

// names gives at most so many of the names in a directory, and leaves its atime as it is: that would be in the next snapshot.
func names(dir *os.File, most int) ([]string, error) {
	again, err := btrfs.OpenDirAt(dir, ".") // with a position of its own
	if err != nil {
		return nil, err
	}
	defer again.Close()
	_, _ = unix.FcntlInt(again.Fd(), unix.F_SETFL, unix.O_NOATIME) // which only its owner and root can have
	names, err := again.Readdirnames(most)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

func describe(dir *os.File) (host.Status, error) {
	s := host.Status{Path: dir.Name(), Privileged: os.Geteuid() == 0}
	s.NoWrite = uint32(checkWritable(dir))
	some, err := names(dir, 1)
	s.Empty = err == nil && len(some) == 0
	err = btrfs.CheckFilesystem(dir)
	if errors.Is(err, btrfs.ErrNotBtrfs) {
		s.DirID, err = madeUpDirID(dir)
		return s, err
	}
	if err != nil {
		return s, err
	}
	s.Btrfs = true
	s.IsRoot = btrfs.CheckSubvolume(dir) == nil
	if s.Subvolume, err = btrfs.Info(dir); err != nil {
		return s, err
	}
	s.DirID, err = btrfs.IdentifyDir(dir)
	return s, err
}

// checkWritable gives EROFS of a read-only mount or subvolume, EACCES where the right is missing, and EPERM of a directory that
// chattr(1) keeps from being changed, which x/sys overlooks when faccessat2(2) says so.
func checkWritable(dir *os.File) (errno unix.Errno) {
	if errors.As(unix.Faccessat(int(dir.Fd()), ".", unix.W_OK, unix.AT_EACCESS), &errno) {
		return errno
	}
	if walk.IsPinned(dir) {
		return unix.EPERM
	}
	return 0
}

// madeUpDirID identifies a directory where there are no subvolumes.
func madeUpDirID(dir *os.File) (btrfs.DirID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return btrfs.DirID{}, os.NewSyscallError("fstat", err)
	}
	id := btrfs.DirID{Inode: st.Ino}
	binary.BigEndian.PutUint64(id.Filesystem[:], st.Dev)
	return id, nil
}

// List opens the directory at path and lists it.
func (h *Host) List(ctx context.Context, path string) (host.Status, host.Content, error) {
	d, err := h.OpenDir(path)
	if err != nil {
		return host.Status{}, host.Content{}, err
	}
	defer d.Close()
	content, err := d.List(ctx)
	return d.status, content, err
}

// MkdirAll makes a directory and those above it that are missing.
func (h *Host) MkdirAll(_ context.Context, path string) error {
	if h.confine != nil {
		return h.confine.MkdirAll(path)
	}
	return os.MkdirAll(path, 0o755)
}

func (d *Dir) Status() host.Status { return d.status }

// Loose is the directory as one of single files.
func (d *Dir) Loose() loose.Dir {
	return loose.Dir{Root: d.dir, Open: func(path string) (*os.File, host.Status, error) {
		other, err := d.host.OpenDir(path)
		if err != nil {
			return nil, host.Status{}, err
		}
		return other.dir, other.status, nil
	}}
}

// File is the open directory itself.
func (d *Dir) File() *os.File { return d.dir }

func (d *Dir) Close() error {
	var errs []error
	for _, l := range d.locks {
		errs = append(errs, l.Release())
	}
	return errors.Join(append(errs, d.dir.Close())...)
}

func (d *Dir) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	l, err := lock.Acquire(ctx, d.dir, waiting)
	if err != nil {
		return nil, err
	}
	d.locks = append(d.locks, l)
	if err := d.relinking().Finish(); err != nil {
		d.host.log.Warn(fmt.Sprintf("%s: what an interrupted relink left: %v", d.status.Path, err))
	}
	return l.Release, nil
}

func (d *Dir) List(context.Context) (host.Content, error) { return d.list(nil) }

// list lists the directory, and looks for alterations of what has one of the UUIDs, too.
func (d *Dir) list(also []btrfs.UUID) (host.Content, error) {
	if !d.status.Btrfs {
		return host.Content{}, nil
	}
	listing, err := btrfs.List(d.dir, also...)
	if err != nil {
		return host.Content{}, err
	}
	if err := d.findMounted(&listing); err != nil {
		return host.Content{}, err
	}
	c := host.Content{Listing: d.withoutParked(listing)}
	if c.Sizes, err = btrfs.Sizes(d.dir); err != nil {
		return host.Content{}, err
	}
	if d.host.confine != nil {
		if err := d.narrow(&c); err != nil {
			return host.Content{}, err
		}
	} else if c.Others, err = d.others(listing); err != nil {
		return host.Content{}, err
	}
	c.Verified = received.In(d.dir).Verifications(c.InDirectory)
	c.Ledger, c.Origins, c.About = d.file(lock.LedgerFile), d.file(host.OriginsFile), d.file(host.AboutFile)
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.dir.Fd()), &st); err != nil {
		return host.Content{}, os.NewSyscallError("fstatfs", err)
	}
	c.Free = st.Bavail * uint64(st.Bsize)
	return c, nil
}

// maxOthers is how many names of other things are looked at: a folder of backups has few, any other directory may have many.
const maxOthers = 4096

// others gives the names of what is no subvolume.
func (d *Dir) others(l btrfs.Listing) ([]string, error) {
	subvolumes := make(map[string]bool, len(l.InDirectory))
	for _, s := range l.InDirectory {
		subvolumes[s.Name] = true
	}
	others, err := names(d.dir, len(subvolumes)+maxOthers)
	others = slices.DeleteFunc(others, func(name string) bool {
		return subvolumes[name] || d.status.Btrfs && d.isSubvolume(name) // made since they were listed
	})
	slices.Sort(others)
	return others, err
}

func (d *Dir) isSubvolume(name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(d.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && isSubvolume(st)
}

func isSubvolume(st unix.Stat_t) bool { return st.Ino == 256 && st.Mode&unix.S_IFMT == unix.S_IFDIR }

// narrow leaves out what is outside of where the caller is confined to.
func (d *Dir) narrow(c *host.Content) (err error) {
	if c.Listing, err = d.host.confine.Narrow(d, c.Listing); err != nil {
		return err
	}
	sizes := make(map[uint64]btrfs.Size)
	for _, s := range c.Listing.All {
		if size, ok := c.Sizes[s.ID]; ok {
			sizes[s.ID] = size
		}
	}
	c.Sizes = sizes
	return nil
}

func (d *Dir) file(name string) host.File {
	content, err := d.readFile(name)
	if err != nil {
		return host.File{Failure: err.Error()}
	}
	return host.File{Content: content}
}

// readFile reads a file of ours in the directory; a missing one is nil.
func (d *Dir) readFile(name string) ([]byte, error) {
	f, err := btrfs.OpenBeneath(d.dir, name, unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

func (d *Dir) Changed(_ context.Context, since btrfs.Subvolume, except uint64) (bool, error) {
	if err := btrfs.SyncFilesystem(d.dir); err != nil {
		return false, err
	}
	return btrfs.IsChanged(d.dir, since, except)
}

func (d *Dir) Take(_ context.Context, source string, uuid btrfs.UUID, name string) (btrfs.Subvolume, error) {
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
	if !info.ReceivedUUID.IsZero() && !info.ReadOnly { // its snapshots would count as copies of what it was received from
		if err := btrfs.SetReceived(dir, btrfs.UUID{}); err != nil {
			return btrfs.Subvolume{}, err
		}
	}
	if err := btrfs.Snapshot(dir, d.dir, name); err != nil {
		return btrfs.Subvolume{}, explainSwap(dir, err)
	}
	failpoint.Reach("snapshot taken")
	if err := btrfs.SyncFilesystem(d.dir); err != nil {
		return btrfs.Subvolume{}, fmt.Errorf("snapshot %s was taken, but may not be on disk: %w", name, err)
	}
	return btrfs.InfoAt(d.dir, name)
}

func (d *Dir) Rmdir(_ context.Context, path string) error {
	dir, err := d.host.openFile(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	name := filepath.Base(path)
	child, err := btrfs.OpenDirAt(dir, name)
	if err != nil {
		return err
	}
	defer child.Close()
	if btrfs.CheckSubvolume(child) == nil { // an empty one is one to rmdir(2), too
		err = unix.EPERM
	} else {
		err = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
	}
	if err != nil {
		return &fs.PathError{Op: "rmdir", Path: path, Err: err}
	}
	return nil
}

func (d *Dir) Delete(ctx context.Context, names []string, o host.DeleteOptions) (deleted []string, err error) {
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
		failpoint.Reach("subvolume deleted")
		d.host.log.Debug("deleted " + filepath.Join(d.status.Path, name))
		deleted = append(deleted, name)
	}
	if len(deleted) > 0 {
		if err := received.In(d.dir).Drop(); err != nil { // of which the next deletion is reminded
			d.host.log.Debug(fmt.Sprintf("dropping manifests in %s: %v", d.status.Path, err))
		}
	}
	if o.Wait && len(deleted) > 0 {
		failures = append(failures, btrfs.WaitDeleted(ctx, d.dir))
	}
	return deleted, errors.Join(failures...)
}

func (d *Dir) deleteOne(name string, convertRW bool) error {
	if convertRW {
		if err := btrfs.SetReadOnly(d.dir, name, false); err != nil {
			return err
		}
	}
	err := btrfs.Delete(d.dir, name)
	if errors.Is(err, unix.EPERM) && btrfs.IsIncoming(name) && btrfs.Unlock(d.dir, name) { // it has that of its parent
		err = btrfs.Delete(d.dir, name)
	}
	err = walk.UnpinSubvolume(walk.Explain(err, d.dir, name), filepath.Join(d.status.Path, name))
	if err != nil && convertRW {
		err = errors.Join(err, btrfs.SetReadOnly(d.dir, name, true))
	}
	return err
}

func (d *Dir) WriteLedger(_ context.Context, content []byte) error {
	err := replaceFile(d.dir, lock.LedgerFile, content)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errors.Join(err, btrfs.Reclaim(d.dir)) // for the next attempt
	}
	if err != nil {
		return err
	}
	return d.dir.Sync()
}

// replaceFile writes a file in a directory beside the old one, puts it on disk and then in the old one's place. To put the new name
// on disk is left to the caller.
func replaceFile(dir *os.File, name string, content []byte) error {
	err := renameio.WriteFile(pathIn(dir, name), content, 0o644, renameio.WithTempDir(pathIn(dir, "")))
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Join(dir.Name(), name), lock.Cause(err))
	}
	failpoint.Reach("file replaced")
	return nil
}

// pathIn names a file in an open directory for calls that take a path.
func pathIn(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

func (d *Dir) Link(_ context.Context, name, target string) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(d.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return hint.New(fmt.Errorf("%s %w", filepath.Join(d.status.Path, name), host.ErrNotLink),
			"move it away; the link to the newest snapshot belongs there")

	}
	if err := renameio.Symlink(target, pathIn(d.dir, name)); err != nil {
		return fmt.Errorf("linking %s: %w", filepath.Join(d.status.Path, name), lock.Cause(err))
	}
	failpoint.Reach("link replaced")
	return d.dir.Sync()
}
