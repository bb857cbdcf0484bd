package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/rsh"
	"btrfs-backup/internal/tree"
	"btrfs-backup/lock"

	"golang.org/x/sys/unix"
)

// Folder is an engine.Destination: a folder of dated backups on a host.
type Folder struct {
	host   host.Trees
	path   string // absolute and clean
	source *Source
	Options

	dir    *host.TreeDir
	within []string     // the filter that leaves the folder out of its own source
	found  tree.Listing // as last listed
}

var (
	_ engine.Destination = (*Folder)(nil)
	_ engine.Opener      = (*Folder)(nil)
	_ engine.Lister      = (*Folder)(nil)
	_ engine.Linker      = (*Folder)(nil)
	_ engine.Marker      = (*Folder)(nil)
	_ engine.Rehearser   = (*Folder)(nil)
)

// NewFolder names the folder at an absolute path.
func NewFolder(h host.Trees, folder string, s *Source, o Options) *Folder {
	return &Folder{host: h, path: path.Clean(folder), source: s, Options: o}
}

func (f *Folder) String() string { return engine.PlaceName(f.host.String() + f.path) }

func (f *Folder) isLocal() bool { return f.host.String() == "" }

// Open opens the folder, and creates it if asked to.
func (f *Folder) Open(ctx context.Context, create bool) error {
	if err := f.open(ctx, create); err != nil {
		return fmt.Errorf("destination %s: %w", f, engine.WithoutPath(err, f.path))
	}
	return nil
}

func (f *Folder) open(ctx context.Context, create bool) error {
	if !f.isLocal() && !f.source.isLocal() {
		return hint.New(errors.New("rsync cannot copy from another machine to another one"), "run btrfs-backup on one of the two")
	}
	if err := f.checkApart(); err != nil { // before anything is created
		return err
	}
	dir, err := f.host.OpenTrees(ctx, f.path, tree.OpenOptions{MountPoint: f.MountPoint, Create: create})
	if err != nil {
		return f.explained(err)
	}
	f.dir = dir
	if err := f.checkApart(); err != nil {
		f.Close()
		return err
	}
	return nil
}

// checkApart refuses the source itself as the folder, and keeps rsync from copying a folder within the source into itself.
func (f *Folder) checkApart() error {
	f.within = nil
	if !f.isLocal() || !f.source.isLocal() {
		return nil
	}
	source, err := filepath.EvalSymlinks(f.source.path)
	var folder string
	if err == nil {
		folder, err = filepath.EvalSymlinks(f.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the folder is looked at again when it is there
	}
	if err != nil {
		return err
	}
	from, err := os.Stat(source)
	if err != nil {
		return err
	}
	to, err := os.Stat(folder)
	if err != nil {
		return err
	}
	if os.SameFile(from, to) {
		return hint.New(errors.New("is the source itself"), "name another folder")
	}
	below, err := filepath.Rel(source, folder)
	if err != nil || !filepath.IsLocal(below) {
		return err
	}
	if deviceOf(from) != deviceOf(to) && f.Rsync == nil && !f.source.MultiFS {
		return nil // rsync does not go there
	}
	f.within = []string{exclude("/" + literal(below))}
	return nil
}

func deviceOf(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Dev
	}
	return 0
}

// Lock keeps other runs out.
func (f *Folder) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	return f.dir.Lock(ctx, waiting)
}

// Mark gives the folder its identity.
func (f *Folder) Mark(ctx context.Context) (id string, err error) {
	id, err = f.dir.MarkTrees(ctx)
	return id, f.explained(err)
}

// List tells what the folder holds.
func (f *Folder) List(ctx context.Context) (engine.Contents, error) {
	found, err := f.dir.ListTrees(ctx)
	if err != nil {
		return engine.Contents{}, fmt.Errorf("listing %s: %w", f, err)
	}
	f.found = found
	c := engine.Contents{Taken: found.Others, Identity: found.ID}
	for _, r := range found.Backups {
		c.Recorded = append(c.Recorded, engine.Recorded{Name: r.Name, Complete: r.Complete(), Foreign: r.Source != f.source.Identity()})
	}
	if found.Btrfs {
		c.Ledger, c.NoPrune = f.ledger(ctx)
	}
	return c, nil
}

// sizeOf gives the bytes in the files of a backup, as far as they are known.
func (f *Folder) sizeOf(backup string) int64 {
	for _, r := range f.found.Backups {
		if r.Name == backup {
			return r.Bytes
		}
	}
	return 0
}

// ledger reads what destinations that the backups are sent on to hold and lack.
func (f *Folder) ledger(ctx context.Context) (*lock.Ledger, error) {
	content, err := f.dir.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", f, err)
	}
	text, err := content.Ledger.Read()
	var l *lock.Ledger
	if err == nil {
		l, err = lock.ParseLedger(text, func(string) bool { return true })
	}
	if err != nil {
		return nil, hint.New(fmt.Errorf("reading %s: %w", path.Join(f.String(), lock.LedgerFile), err),
			"repair the file or move it away; until then no backup is deleted, since it may be needed")

	}
	return l, nil
}

// Delete deletes backups.
func (f *Folder) Delete(ctx context.Context, names []string) ([]string, error) {
	deleted, err := f.dir.DeleteTrees(ctx, names)
	if status := f.dir.Status(); errors.Is(err, unix.EPERM) && status.Btrfs && !status.Privileged {
		return deleted, hint.New(err, "deleting a subvolume needs root, or the mount option user_subvol_rm_allowed")
	}
	return deleted, f.explained(err)
}

// Link makes a symbolic link in the folder.
func (f *Folder) Link(ctx context.Context, name, target string) error {
	return f.explained(f.dir.Link(ctx, name, target))
}

// Close closes the folder, if it was opened.
func (f *Folder) Close() error {
	if f.dir == nil {
		return nil
	}
	dir := f.dir
	f.dir = nil
	return dir.Close()
}

// link reaches the other machine, if either end lies on one, by the options of rsync that it gives.
func (f *Folder) link(ctx context.Context) (link *rsh.Link, options []string, err error) {
	if f.isLocal() {
		if link, err = f.source.link(ctx); err != nil {
			return nil, nil, err
		}
		return link, f.source.reach(link), nil
	}
	if link, err = linkTo(ctx, f.host); err != nil {
		return nil, nil, err
	}
	return link, link.Options, nil
}

// argument names a directory on the host as rsync takes it.
func (f *Folder) argument(link *rsh.Link, directory string) string {
	if f.isLocal() {
		return directory + "/"
	}
	return link.Prefix + strings.TrimSuffix(directory, "/") + "/"
}

// explained adds to an error of the folder what to do about it.
func (f *Folder) explained(err error) error {
	switch {
	case err == nil, hint.Of(err) != "":
		return err
	case errors.Is(err, tree.ErrNotMounted):
		return hint.New(err, "mount the disk")
	case errors.Is(err, tree.ErrNoLinks):
		return hint.New(err, "use a folder on btrfs, ext4, xfs or another filesystem with hard links")
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return hint.Newf(err, "make room at %s: delete backups that are not needed, or keep fewer with --num-backups", f)
	case errors.Is(err, unix.EROFS):
		return hint.Newf(err, "mount the filesystem of %s for writing, and look at the kernel's log for the reason", f)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return hint.New(err, "run as root (sudo, or --ssh-sudo for another machine), or name a folder that you may write to")
	}
	return err
}
