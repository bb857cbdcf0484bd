package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/mirror/options"
	"github.com/btrfs-backup/btrfs-backup/internal/rsh"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/sys/unix"
)

// Destination is an engine.Destination: a folder of dated backups on a host.
type Destination struct {
	host   host.Trees
	path   string // absolute and clean
	source *Source
	Options

	dir    *host.TreeDir
	near   host.Status  // of the folder or, while that is missing, of the directory above in which it would be made
	within []string     // the filter that leaves the folder out of its own source
	found  tree.Listing // as last listed
}

var (
	_ engine.Destination = (*Destination)(nil)
	_ engine.Opener      = (*Destination)(nil)
	_ engine.Lister      = (*Destination)(nil)
	_ engine.Linker      = (*Destination)(nil)
	_ engine.Marker      = (*Destination)(nil)
	_ engine.Placed      = (*Destination)(nil)
	_ engine.Rehearser   = (*Destination)(nil)
)

// NewDestination names the folder at an absolute path.
func NewDestination(h host.Trees, folder string, s *Source, o Options) *Destination {
	return &Destination{host: h, path: path.Clean(folder), source: s, Options: o}
}

func (d *Destination) String() string { return engine.PlaceName(d.host.String() + d.path) }

func (d *Destination) isLocal() bool { return d.host.String() == "" }

// Open opens the folder.
func (d *Destination) Open(ctx context.Context) error { return d.named(d.open(ctx, false)) }

// Create makes the folder.
func (d *Destination) Create(ctx context.Context) error { return d.named(d.open(ctx, true)) }

func (d *Destination) named(err error) error {
	if err != nil {
		err = fmt.Errorf("destination %s: %w", d, hint.WithoutPath(err, d.path))
	}
	return err
}

func (d *Destination) open(ctx context.Context, create bool) error {
	if !d.isLocal() && !d.source.isLocal() {
		return errTwoOthers
	}
	if err := d.checkApart(); err != nil { // before anything is created
		return err
	}
	dir, err := d.host.OpenTrees(ctx, d.path, tree.OpenOptions{MountPoint: d.MountPoint, Create: create, Rights: d.Rsync == nil})
	if errors.Is(err, fs.ErrNotExist) {
		var aboveErr error
		if d.near, aboveErr = host.Above(ctx, d.host, d.path); aboveErr == nil {
			aboveErr = d.near.CheckWritable()
		}
		if aboveErr != nil {
			return engine.Unmakeable(d.explained(aboveErr))
		}
		return d.explained(err)
	}
	if err != nil {
		return d.explained(err)
	}
	d.dir, d.near = dir, dir.Status()
	err = d.explained(d.near.CheckWritable())
	if err == nil {
		err = d.checkApart()
	}
	if err != nil {
		d.Close()
	}
	return err
}

// At tells where the folder lies.
func (d *Destination) At() engine.Position {
	at := engine.Position{Machine: d.host.String(), Empty: d.near.Empty, DirID: d.near.DirID}
	if d.dir == nil {
		at.Subvolume, at.Inode = 0, 0
	}
	return at
}

// checkApart refuses the source itself as the folder, and keeps rsync from copying a folder within the source into itself.
func (d *Destination) checkApart() error {
	d.within = nil
	if !d.isLocal() || !d.source.isLocal() {
		return nil
	}
	source, err := filepath.EvalSymlinks(d.source.path)
	var folder string
	if err == nil {
		folder, err = filepath.EvalSymlinks(d.path)
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
	below := below(source, folder)
	if below == "" {
		return nil
	}
	if deviceOf(from) != deviceOf(to) && d.Rsync == nil && !d.source.MultiFS {
		return nil // rsync does not go there
	}
	d.within = []string{options.Exclude("/" + options.Literal(below))}
	return nil
}

// below gives the path of a folder from a directory that it lies in, be it by another mount; else "".
func below(dir, folder string) string {
	if rel := localRel(dir, folder); rel != "" {
		return rel
	}
	from, err := positionOf(dir)
	if err != nil {
		return "" // without /proc, names must do
	}
	to, err := positionOf(folder)
	if err != nil || from.filesystem != to.filesystem || from.filesystem == "" {
		return ""
	}
	return localRel(from.path, to.path)
}

// localRel is filepath.Rel, but "" for what lies outside.
func localRel(dir, path string) string {
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return ""
}

// A position is where a directory lies on its filesystem, wherever that is mounted.
type position struct{ filesystem, path string }

func positionOf(dir string) (p position, err error) {
	file, err := walk.OpenPath(dir)
	if err != nil {
		return p, err
	}
	defer file.Close()
	m, err := host.MountOf(file)
	if err != nil || m == nil {
		return p, err
	}
	return position{fmt.Sprintf("%d:%d", m.Major, m.Minor), path.Join(m.Root, localRel(m.Mountpoint, dir))}, nil
}

func deviceOf(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Dev
	}
	return 0
}

// Lock keeps other runs out.
func (d *Destination) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	return d.dir.Lock(ctx, waiting)
}

// Mark gives the folder its identity.
func (d *Destination) Mark(ctx context.Context) (id string, err error) {
	id, err = d.dir.MarkTrees(ctx)
	return id, d.explained(err)
}

// List tells what the folder holds.
func (d *Destination) List(ctx context.Context) (engine.Contents, error) {
	found, err := d.dir.ListTrees(ctx)
	if err != nil {
		return engine.Contents{}, fmt.Errorf("listing %s: %w", d, err)
	}
	d.found = found
	c := engine.Contents{Deleting: found.Deleting, Taken: found.Others, Received: found.Received, Identity: found.ID,
		Free: &found.Free}
	for _, r := range found.Backups {
		c.Recorded = append(c.Recorded, engine.Recorded{Name: r.Name, Complete: r.Complete(), OfAnother: d.ofAnother(r)})
	}
	if !found.Marked && !d.source.Frozen {
		c.Foreign = found.Others
	}
	d.tellRenamed(found.Backups)
	if found.Btrfs {
		content, err := d.dir.List(ctx)
		if err != nil {
			return engine.Contents{}, fmt.Errorf("listing %s: %w", d, err)
		}
		c.InUse = content.InUse()
		c.Ledger, c.NoPrune = host.ParseLedger(d.String(), content.Ledger, nil)
	}
	return c, nil
}

// ofAnother names the source of a backup, if it is another one.
func (d *Destination) ofAnother(r tree.Record) string {
	switch {
	case r.Same(d.source.origin):
		return ""
	case r.Source == d.source.origin.Source:
		return r.Source + " on another machine of that name"
	}
	return r.Source
}

// tellRenamed tells that backups count as the source's that were made when its machine had another name, until there is one under
// the new name.
func (d *Destination) tellRenamed(backups []tree.Record) {
	own := slices.DeleteFunc(slices.Clone(backups), func(r tree.Record) bool { return !r.Same(d.source.origin) })
	if len(own) == 0 || own[len(own)-1].Source == d.source.origin.Source {
		return
	}
	d.Log.Info(fmt.Sprintf("%s: backups of %s count as those of %s, the same machine under another name: %d", d,
		own[len(own)-1].Source, d.source.origin.Source, len(own)))
}

// recorded gives the record of a backup, as far as there is one.
func (d *Destination) recorded(backup string) tree.Record {
	for _, r := range d.found.Backups {
		if r.Name == backup {
			return r
		}
	}
	return tree.Record{}
}

// Delete deletes backups.
func (d *Destination) Delete(ctx context.Context, names []string) ([]string, error) {
	deleted, err := d.dir.DeleteTrees(ctx, names)
	if status := d.dir.Status(); errors.Is(err, unix.EPERM) && status.Btrfs && !status.Privileged {
		return deleted, hint.New(err, "deleting a subvolume needs root, or the mount option user_subvol_rm_allowed")
	}
	return deleted, d.explained(err)
}

// Link makes a symbolic link in the folder.
func (d *Destination) Link(ctx context.Context, name, target string) error {
	return d.explained(d.dir.Link(ctx, name, target))
}

// Close closes the folder, if it was opened.
func (d *Destination) Close() error {
	if d.dir == nil {
		return nil
	}
	dir := d.dir
	d.dir = nil
	return dir.Close()
}

// link reaches the other machine, if either end lies on one, by the options of rsync that it gives.
func (d *Destination) link(ctx context.Context) (link *rsh.Link, options []string, err error) {
	if d.isLocal() {
		if link, err = d.source.link(ctx); err != nil {
			return nil, nil, err
		}
		return link, d.source.reach(link), nil
	}
	if link, err = linkTo(ctx, d.host); err != nil {
		return nil, nil, err
	}
	return link, link.Options, nil
}

// argument names a directory on the host as rsync takes it.
func (d *Destination) argument(link *rsh.Link, directory string) string {
	if d.isLocal() {
		return directory + "/"
	}
	return link.Prefix + strings.TrimSuffix(directory, "/") + "/"
}

// explained adds to an error of the folder what to do about it.
func (d *Destination) explained(err error) error {
	switch {
	case err == nil, hint.Of(err) != "":
		return err
	case errors.Is(err, tree.ErrNotMounted):
		return hint.New(err, "mount the disk")
	case errors.Is(err, tree.ErrNoLinks):
		return hint.New(err, "use a folder on btrfs, ext4, xfs or another filesystem with hard links")
	case diskHint(err, d.String()) != "":
		return hint.New(err, diskHint(err, d.String()))
	case (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)) && (d.dir == nil || !d.dir.Status().Privileged):
		return hint.New(err, "run as root (sudo, or --ssh-sudo for another machine), or name a folder that you may write to")
	}
	return err
}
