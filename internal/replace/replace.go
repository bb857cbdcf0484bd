// Package replace puts a writable snapshot of a read-only subvolume in the place of another subvolume, or where there is none, on one
// machine.
//
// The old subvolume keeps its place, and all that is in it, until the new one takes that at one go; then it stays beside under another
// name. Nothing is ever deleted but what an earlier attempt left under a hidden name before that. Where the program is killed, the same
// order goes on: hidden names tell how far it came.
//
// The directories are reached through one mount of the whole filesystem, which is nowhere: what is mounted, and where, does not matter.
package replace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/attributes"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// An Order tells what is to be put where.
type Order struct {
	// Snapshot is the read-only subvolume, anywhere on the filesystem. Without it, what an earlier attempt left is finished or removed,
	// and no more.
	Snapshot btrfs.UUID
	// Name is that of the new subvolume in the directory; "": the directory is itself the subvolume that gives its place up.
	Name string
	// Folder is that of the snapshots, within the new subvolume. What was received for it moves there, and read-only subvolumes that
	// are there in the old one. "": it is elsewhere.
	Folder string
	Aside  string // the name of what gives its place up

	// Attributes are those of files that the snapshot lacks, see attributes.List; nil: none.
	Attributes []byte

	LeaveNested bool // other subvolumes in that stay in it
	Running     bool // it may be the root of the running system
	DryRun      bool
}

// A Way is how the subvolume gets its place.
type Way string

const (
	New      Way = "new"      // under a name that is free
	Exchange Way = "exchange" // with the old one
	Default  Way = "default"  // as the next snapshot of snapper, and the one that is mounted by default
)

// A Report tells what was done, or would be.
type Report struct {
	Way      Way        `json:"way,omitempty"`
	UUID     btrfs.UUID `json:"uuid"`               // of the new subvolume
	Of       btrfs.UUID `json:"snapshot_uuid"`      // of which it is a snapshot
	Path     string     `json:"path,omitempty"`     // of the new one, from the top level of the filesystem
	Aside    string     `json:"aside,omitempty"`    // of the old one, likewise
	AsideID  uint64     `json:"aside_id,omitempty"` // of the old one
	Moved    []string   `json:"moved,omitempty"`    // subvolumes that were in the old one
	Left     []string   `json:"left,omitempty"`     // subvolumes that stay in the old one
	LeftIDs  []uint64   `json:"left_ids,omitempty"` // of all subvolumes in the old one, the innermost first
	Default  bool       `json:"default,omitempty"`  // it is mounted by default now
	Running  bool       `json:"running,omitempty"`  // the old one is the root of the running system
	Mounts   []string   `json:"mounts,omitempty"`   // where the old one is mounted, and stays
	Warnings []string   `json:"warnings,omitempty"`
	Resumed  bool       `json:"resumed,omitempty"` // an earlier attempt was finished
	Pending  bool       `json:"pending,omitempty"` // an earlier attempt would be finished, or what it left be removed, first

	Attributes attributes.Report `json:"attributes,omitzero"`
}

// A Machine is what decides on it how a subvolume may be replaced.
type Machine struct {
	Root    string // of the running system
	Fstab   string
	Cmdline string // of the kernel
	Boot    string // where its kernels are
}

// ThisMachine is the one that runs.
var ThisMachine = Machine{Root: "/", Fstab: "/etc/fstab", Cmdline: "/proc/cmdline", Boot: "/boot"}

// work is an order under way.
type work struct {
	Order
	Machine
	top    *os.File // the top level
	parent *os.File // the directory of the new subvolume
	mount  int      // through which the directory was opened
	name   string   // in that
	at     string   // path of the parent from the top level
	all    btrfs.Listing
	report Report
}

// Do carries an order out for an open directory. top is the top level of its filesystem, by whose mount all is reached.
func Do(ctx context.Context, m Machine, top, dir *os.File, o Order) (Report, error) {
	w := &work{Order: o, Machine: m, top: top}
	var err error
	if w.mount, err = walk.MountID(dir); err != nil {
		return w.report, err
	}
	at, err := btrfs.Path(dir)
	if err != nil {
		return w.report, err
	}
	if o.Name == "" {
		if btrfs.CheckSubvolume(dir) != nil {
			return w.report, fmt.Errorf("%s: %w", dir.Name(), btrfs.ErrNotSubvolume)
		}
		at = path.Clean(at)
		if at == "." {
			return w.report, hint.New(fmt.Errorf("%s is the top level of its filesystem, which cannot give its place up", dir.Name()),
				"restore to a new subvolume in it: "+path.Join(dir.Name(), "NAME"))
		}
		at, w.name = path.Dir(at), path.Base(at)
	} else {
		w.name = o.Name
	}
	if err := w.checkNames(); err != nil {
		return w.report, err
	}
	w.at = path.Clean("./" + at)
	if w.parent, err = openParent(top, dir, w.at, o.Name == ""); err != nil {
		return w.report, err
	}
	defer w.parent.Close()
	if w.all, err = btrfs.List(top); err != nil {
		return w.report, err
	}
	if o.Name == "" {
		err = w.inPlace(ctx)
	} else {
		err = w.asNew(ctx)
	}
	if err == nil {
		err = w.giveAttributes()
	}
	return w.report, err
}

// openParent opens the directory of the new subvolume through the mount of the top level. It has the name by which people know it, or else
// its path from the top level.
func openParent(top, dir *os.File, at string, inPlace bool) (*os.File, error) {
	parent, err := btrfs.OpenDirAt(top, at)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	fd, err := unix.FcntlInt(parent.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	known := dir.Name()
	if inPlace {
		known = path.Dir(path.Clean(known))
	}
	var there, seen unix.Stat_t
	if unix.Fstat(fd, &there) != nil || unix.Stat(known, &seen) != nil || there.Dev != seen.Dev || there.Ino != seen.Ino {
		known = at
	}
	return os.NewFile(uintptr(fd), known), nil
}

// hidden is the name of what is not in its place yet, or not any more.
func (w *work) hidden() string { return Hidden(w.name) }

// Hidden gives the name, beside a subvolume, of what becomes it. For a new one it is a directory, in which the copy is received.
func Hidden(name string) string { return "." + name + ".restoring" }

// openSnapshot opens the read-only subvolume.
func (w *work) openSnapshot() (sub *os.File, info btrfs.Subvolume, err error) {
	for _, s := range w.all.All {
		if s.UUID == w.Snapshot {
			info = s
		}
	}
	if info.UUID.IsZero() {
		return nil, info, errors.New("the snapshot that is to be restored is gone")
	}
	if !info.ReadOnly {
		return nil, info, fmt.Errorf("%s is not read-only", info.Name)
	}
	at, err := pathOf(w.top, info.ID)
	if err != nil {
		return nil, info, err
	}
	sub, err = btrfs.OpenDirAt(w.top, at)
	if err != nil {
		return nil, info, err
	}
	opened, err := btrfs.Info(sub)
	if err == nil && opened.UUID != w.Snapshot {
		err = fmt.Errorf("%s is another subvolume than before", at)
	}
	if err != nil {
		sub.Close()
	}
	return sub, info, err
}

// relist reads the subvolumes anew.
func (w *work) relist() (err error) {
	w.all, err = btrfs.List(w.top)
	return err
}

// pathOf gives the path of a subvolume from the top level.
func pathOf(top *os.File, id uint64) (string, error) {
	roots, err := btrfs.ReadRoots(top)
	if err != nil {
		return "", err
	}
	return roots.Path(id)
}
