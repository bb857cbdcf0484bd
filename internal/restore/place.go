package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/replace"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// place is where a subvolume is restored.
type place struct {
	target  *host.Dir         // in place, what gives its place up; else the directory in which the new one is to be
	resumes bool              // an earlier attempt left something
	receive string            // absolute path of the directory in which the copy is received
	locked  btrfs.DirID       // of that directory, when it was locked last
	folder  string            // the snapshot folder within the target; "": outside
	free    uint64            // bytes
	all     []btrfs.Subvolume // of its filesystem
}

func (p *place) close() {
	if p.target != nil {
		_ = p.target.Close()
	}
}

// open opens the place, and refuses what cannot be one.
func (p *place) open(ctx context.Context, o Order) error {
	p.close()
	*p = place{folder: path.Clean(o.SnapshotFolder)}
	if o.SnapshotFolder == "" {
		p.folder = host.SnapshotFolder
	}
	if path.IsAbs(p.folder) {
		p.receive, p.folder = p.folder, ""
	}
	name := engine.PlaceName(o.To.String() + o.Target)
	var err error
	if o.InPlace {
		err = p.openOld(ctx, o)
	} else {
		err = p.openParent(ctx, o)
	}
	if err == nil {
		err = p.check(p.target.Status(), asFiles(o))
	}
	if err == nil && path.IsAbs(o.SnapshotFolder) {
		err = p.checkFolder(ctx, o.To)
	}
	if err != nil {
		return fmt.Errorf("target %s: %w", name, hint.WithoutPath(err, o.Target))
	}
	return nil
}

// asFiles gives the command that restores to any directory.
func asFiles(o Order) string {
	if o.Backup.Host == nil { // streams
		return "restore to a btrfs, and copy them with cp -a"
	}
	return "btrfs-backup restore " + transport.Quote(o.Backup.String(), "--path", ".", "--to", engine.PlaceName(o.To.String()+o.Target))
}

func (p *place) check(s host.Status, otherwise string) error {
	if !s.Btrfs {
		return hint.New(fmt.Errorf("%s is %w", s.Path, btrfs.ErrNotBtrfs), "a subvolume needs a btrfs; as files on any filesystem: "+otherwise)
	}
	if s.NoReceive != "" {
		return hint.New(errors.New(s.NoReceive), "use a key without limits, or run the same command on that machine")
	}
	if err := s.CheckWritable(); err != nil {
		return err
	}
	if !s.Privileged {
		return hint.New(fs.ErrPermission, "receiving a subvolume needs root: run as root (sudo), or log in as root there")
	}
	return nil
}

// checkFolder refuses a folder of snapshots on another filesystem.
func (p *place) checkFolder(ctx context.Context, h host.Host) error {
	dir, err := h.Open(ctx, p.receive)
	var at host.Status
	switch {
	case errors.Is(err, fs.ErrNotExist):
		at, err = host.Above(ctx, h, p.receive)
	case err == nil:
		at, err = dir.Status(), dir.Close()
	}
	if err == nil && at.DirID.Filesystem != p.target.Status().DirID.Filesystem {
		err = hint.New(fmt.Errorf("%s lies on another filesystem", at.Path), "snapshots lie on the filesystem of their btrfs subvolume: "+
			"choose another --snapshot-folder")
	}
	return err
}

// openOld opens what gives its place up.
func (p *place) openOld(ctx context.Context, o Order) (err error) {
	p.target, err = o.To.Open(ctx, o.Target)
	if errors.Is(err, fs.ErrNotExist) {
		return hint.New(err, "leave out --in-place to restore to a new subvolume of this name")
	}
	if err != nil {
		return err
	}
	if s := p.target.Status(); s.Btrfs && !s.IsRoot {
		return hint.New(btrfs.ErrNotSubvolume, "only a subvolume can give its place up: restore to another name, or files into it: "+asFiles(o)+" --overwrite")
	}
	if p.receive == "" {
		p.receive = path.Join(o.Target, p.folder)
	}
	p.resumes = true // which only the machine can tell
	return nil
}

// openParent opens the directory of what is to be new.
func (p *place) openParent(ctx context.Context, o Order) (err error) {
	hidden := path.Join(path.Dir(o.Target), replace.Hidden(path.Base(o.Target)))
	if p.receive == "" {
		p.receive = hidden
	}
	staging, err := o.To.Open(ctx, hidden)
	if p.resumes = err == nil; p.resumes {
		_ = staging.Close()
	}
	there, err := o.To.Open(ctx, o.Target)
	switch {
	case err == nil:
		status := there.Status()
		_ = there.Close()
		if isFree := status.Empty && !status.IsRoot; !isFree && !p.resumes {
			return occupied(o, status)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if p.target, err = o.To.Open(ctx, path.Dir(o.Target)); errors.Is(err, fs.ErrNotExist) {
		return hint.New(err, "is its disk mounted? If so, make the directory first: mkdir -p "+path.Dir(o.Target))
	}
	return err
}

func occupied(o Order, s host.Status) error {
	inside := path.Join(o.Target, path.Base(o.Backup.Folder))
	if path.Base(o.Backup.Folder) == "" || inside == path.Clean(o.Target) {
		inside = path.Join(o.Target, "NAME")
	}
	forward := "restore to another name, or put it in the place of this subvolume, which is kept: --in-place"
	switch {
	case s.Btrfs && s.IsRoot && s.Subvolume.Container == 0:
		forward = "name a new subvolume in it: " + inside
	case !s.Btrfs || !s.IsRoot:
		forward = "name a new subvolume in it, such as " + inside + ", or restore files into it: --path . --to"
	}
	return hint.New(errors.New("is there already"), forward)
}
