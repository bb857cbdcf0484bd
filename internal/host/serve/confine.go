package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// Limits are what a client of an agent may not do, whoever it is.
type Limits struct {
	Root        string // absolute: nothing outside of this directory
	AppendOnly  bool   // delete or overwrite no backup
	ReceiveOnly bool   // read nothing
	SendOnly    bool   // write nothing but snapshots of what is there
}

func (l Limits) abilities() []string {
	var can []string
	if !l.SendOnly {
		can = append(can, "receive")
	}
	if !l.ReceiveOnly {
		can = append(can, "send")
	}
	if !l.AppendOnly {
		can = append(can, "delete")
	}
	return can
}

// allow refuses a role.
func (l Limits) allow(r protocol.Role) error {
	switch {
	case r == protocol.Source && l.ReceiveOnly:
		return hint.New(errors.New("refused: this key may only send backups"), "its agent runs with --receive-only")
	case r == protocol.Destination && l.SendOnly:
		return hint.New(errors.New("refused: this key may only fetch snapshots"), "its agent runs with --send-only")
	case r == protocol.Trees && l != (Limits{}):
		return hint.New(errors.New("refused: this key may send and fetch subvolumes only, no copies of directories"),
			"its agent runs with limits, which rsync would not keep: use a key without, or an rsync daemon there with `btrfs-backup freeze`")
	case r == protocol.Owner && l != (Limits{}):
		return hint.New(errors.New("refused: this key may not look into backups"),
			"its agent runs with limits: use a key without, or run the same command on that machine")
	}
	return nil
}

// scope makes a key for resuming that only clients with the same limits know: a transfer is guarded by the first one's.
func (l Limits) scope(key string) string { return fmt.Sprintf("%+v %s", l, key) }

// namePattern is what the name of a backup looks like: a prefix, and the time; see engine.Naming.
var namePattern = regexp.MustCompile(`^[^/\x00]*(\d{8}-\d{6}|[^/\x00]\.\d{8}(T\d{4}(\d\d(Z|[+-]\d{4}))?)?(_\d{1,9})?)$`)

// linkPattern is what the name of a link to the newest snapshot looks like.
var linkPattern = regexp.MustCompile(`^\.[^/\x00]*latest$`)

// checkName refuses names that no backup has.
func (l Limits) checkName(name string) error {
	if l == (Limits{}) {
		return nil
	}
	if !namePattern.MatchString(name) || len(btrfs.Incoming(name)) > unix.NAME_MAX {
		return fmt.Errorf("%q is not the name of a backup", name)
	}
	return nil
}

// checkLink refuses links other than the one to the newest snapshot.
func (l Limits) checkLink(name, target string) error {
	if l == (Limits{}) {
		return nil
	}
	if !linkPattern.MatchString(name) || l.checkName(target) != nil {
		return fmt.Errorf("%q is no name for a link to %q", name, target)
	}
	return nil
}

// checkDelete refuses to delete a subvolume.
func (l Limits) checkDelete(d *local.Dir, name string, o host.DeleteOptions) error {
	of, incoming := btrfs.IncomingOf(name)
	if !incoming {
		of = name
	}
	switch {
	case l.AppendOnly && !incoming:
		return hint.New(fmt.Errorf("refused: this key may not delete %q", name),
			"its agent runs with --append-only and deletes old backups itself: leave out --keep-backups and --num-backups")
	case l.AppendOnly && o.ConvertRW:
		return hint.New(fmt.Errorf("refused: this key may not make %q writable", name),
			"its agent runs with --append-only: leave out --convert-rw")
	case incoming && d.IsParked(of):
		return fmt.Errorf("%s is being received by another session", filepath.Join(d.Status().Path, of))
	}
	return l.checkName(of)
}

// deletable gives the names of what may be deleted, and the error for the others.
func (l Limits) deletable(d *local.Dir, names []string, o host.DeleteOptions) (allowed []string, err error) {
	var refused []error
	for _, name := range names {
		if err := l.checkDelete(d, name, o); err != nil {
			refused = append(refused, err)
		} else {
			allowed = append(allowed, name)
		}
	}
	return allowed, joined(refused...)
}

// begins gives what refuses a stream that is to be received in a directory for what it is; nil: nothing.
func (s *server) begins(d *local.Dir) func(sendstream.Summary) error {
	if !s.o.Limits.AppendOnly {
		return nil
	}
	return func(stream sendstream.Summary) error { return mustLack(d, stream.UUID) }
}

// mustLack refuses a second copy of a snapshot: it would be recorded as the first one's origin, too.
func mustLack(d *local.Dir, stream btrfs.UUID) error {
	listing, err := btrfs.List(d.File())
	if err != nil {
		return err
	}
	for _, s := range listing.InDirectory {
		if !btrfs.IsIncoming(s.Name) && s.ReceivedUUID == stream {
			return fmt.Errorf("%w: %s is a copy of the same snapshot", fs.ErrExist, filepath.Join(d.Status().Path, s.Name))
		}
	}
	return nil
}

// confinement keeps a client within a directory.
type confinement struct {
	root *os.File
	path string
}

func (l Limits) confinement() (*confinement, error) {
	if l.Root == "" {
		return nil, nil
	}
	root, err := os.OpenFile(path.Clean(l.Root), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, hint.Newf(fmt.Errorf("the folder that this key is confined to: %w", err), "make it there: mkdir %s", l.Root)
	}
	return &confinement{root, root.Name()}, nil
}

func (c *confinement) Close() error {
	if c == nil {
		return nil
	}
	return c.root.Close()
}

// relative gives the components of a path within the root.
func (c *confinement) relative(p string) ([]string, error) {
	clean := path.Clean(p)
	if clean == c.path {
		return nil, nil
	}
	rest, ok := strings.CutPrefix(clean, strings.TrimSuffix(c.path, "/")+"/")
	if !ok {
		return nil, hint.New(&fs.PathError{Op: "open", Path: p, Err: errors.New("refused: this key is confined to " + c.path)},
			"name a folder in "+c.path)
	}
	return strings.Split(rest, "/"), nil
}

// Open opens a directory within the root.
func (c *confinement) Open(p string) (*os.File, error) { return c.walk(p, btrfs.OpenDirAt) }

// MkdirAll makes a directory within the root, and those above it that are missing. No other user can enter them.
func (c *confinement) MkdirAll(p string) error {
	dir, err := c.walk(p, func(dir *os.File, name string) (*os.File, error) {
		if err := unix.Mkdirat(int(dir.Fd()), name, 0o700); err != nil && err != unix.EEXIST {
			return nil, &fs.PathError{Op: "mkdir", Path: filepath.Join(dir.Name(), name), Err: err}
		}
		return btrfs.OpenDirAt(dir, name)
	})
	if err == nil {
		dir.Close()
	}
	return err
}

// walk goes down to a directory, one step at a time.
func (c *confinement) walk(p string, step func(dir *os.File, name string) (*os.File, error)) (*os.File, error) {
	names, err := c.relative(p)
	if err != nil {
		return nil, err
	}
	if err := c.mustStand(); err != nil {
		return nil, err
	}
	dir, err := btrfs.OpenDirAt(c.root, ".")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if btrfs.IsIncoming(name) || name == tree.StateDir {
			dir.Close()
			return nil, &fs.PathError{Op: "open", Path: p, Err: fmt.Errorf("refused: %s is no folder for backups", name)}
		}
		next, err := step(dir, name)
		dir.Close()
		if err != nil {
			return nil, err
		}
		if dir = next; btrfs.CheckSubvolume(dir) == nil {
			if err := mustBeNoBackup(dir); err != nil {
				dir.Close()
				return nil, err
			}
		}
	}
	return dir, nil
}

// mustStand fails if another directory is in the root's place: what runs by its path would not be confined.
func (c *confinement) mustStand() error {
	now, err := walk.OpenPath(c.path)
	if err != nil {
		return err
	}
	defer now.Close()
	same, err := local.SameFile(c.root, now)
	if err == nil && !same {
		err = fmt.Errorf("%s is another directory than when the session began", c.path)
	}
	return err
}

// mustBeNoBackup refuses backups: what is in them came from the client.
func mustBeNoBackup(subvolume *os.File) error {
	s, err := btrfs.Info(subvolume)
	if err == nil && !s.ReceivedUUID.IsZero() {
		err = &fs.PathError{Op: "open", Path: subvolume.Name(), Err: errors.New("refused: it is a backup, not a folder for backups")}
	}
	return err
}

// Check refuses directories in which nothing can be done.
func (c *confinement) Check(s host.Status) error {
	if s.Btrfs && s.Subvolume.ReadOnly {
		return &fs.PathError{Op: "open", Path: s.Path, Err: errors.New("refused: it lies in a read-only subvolume")}
	}
	return nil
}

// Narrow leaves out of the listing of a directory what is outside of the root.
func (c *confinement) Narrow(d *local.Dir, listing btrfs.Listing) (btrfs.Listing, error) {
	top := c.root
	root, err := btrfs.FilesystemID(c.root)
	if err != nil || root != d.Status().DirID.Filesystem { // mounted below the root
		top = d.File()
	}
	children, err := btrfs.Children(top)
	if err != nil {
		return btrfs.Listing{}, err
	}
	inside := make(map[uint64]bool)
	for _, child := range children {
		inside[child.ID] = true
	}
	container := make(map[uint64]uint64)
	for _, s := range listing.All {
		container[s.ID] = s.Container
	}
	listing.Top = btrfs.UUID{}
	listing.All = slices.DeleteFunc(slices.Clone(listing.All), func(s btrfs.Subvolume) bool {
		id := s.ID
		for id != 0 && !inside[id] {
			id = container[id]
		}
		return id == 0
	})
	return listing, nil
}

// joined joins errors; a single one stays as it is.
func joined(errs ...error) error {
	joined := errors.Join(errs...)
	if several, ok := joined.(interface{ Unwrap() []error }); ok && len(several.Unwrap()) == 1 {
		return several.Unwrap()[0]
	}
	return joined
}
