package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/replace"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/sys/unix"
)

// Source is an engine.Source: a subvolume.
type Source struct {
	sender
	sourcePath string
	source     *host.Dir
	status     host.Status // of the source
}

var (
	_ engine.Source  = (*Source)(nil)
	_ engine.History = (*Source)(nil)
	_ engine.Placed  = (*Source)(nil)
	_ engine.Watched = (*Source)(nil)
	_ stream.Sender  = (*Source)(nil)

	_ stream.Attributed = (*Source)(nil)
)

// NewSource names the subvolume at an absolute path and its snapshot folder, which is relative to path unless it is absolute.
func NewSource(h host.Host, sourcePath, snapshotFolder string, o Options) *Source {
	if snapshotFolder == "" {
		snapshotFolder = host.SnapshotFolder
	}
	if !path.IsAbs(snapshotFolder) {
		snapshotFolder = path.Join(sourcePath, snapshotFolder)
	}
	return &Source{sender: sender{folder{host: h, path: path.Clean(snapshotFolder), Options: o}}, sourcePath: path.Clean(sourcePath)}
}

func (s *Source) String() string { return engine.PlaceName(s.host.String() + s.sourcePath) }

// Open opens the source and its snapshot folder. A missing folder counts as an empty one until Take makes it.
func (s *Source) Open(ctx context.Context) error {
	if err := s.openSubvolume(ctx); err != nil {
		return err
	}
	if err := s.open(ctx, s.checkFolder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.folderError(err)
	}
	return nil
}

func (s *Source) folderError(err error) error {
	return fmt.Errorf("snapshot folder %s: %w", s.folder.String(), hint.WithoutPath(err, s.path))
}

func (s *Source) openSubvolume(ctx context.Context) error {
	dir, err := s.host.Open(ctx, s.sourcePath)
	if err != nil {
		return s.sourceError(err)
	}
	s.source, s.status = dir, dir.Status()
	switch {
	case !s.status.Btrfs:
		return s.sourceError(btrfs.ErrNotBtrfs)
	case !s.status.IsRoot && !s.SkipChecks:
		return s.sourceError(btrfs.ErrNotSubvolume)
	}
	return nil
}

func (s *Source) sourceError(err error) error {
	forward := "nothing was created or changed"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		forward = "check the spelling; nothing was created"
	case errors.Is(err, btrfs.ErrNotSubvolume):
		forward = "only whole subvolumes can be snapshotted: name the one that holds this directory (`btrfs subvolume show` tells), " +
			"or make the directory one"
	case errors.Is(err, btrfs.ErrNotBtrfs):
		forward = "a source must be a btrfs subvolume; is the filesystem mounted?"
	case hint.Of(err) != "":
		forward = hint.Of(err)
	}
	return hint.New(fmt.Errorf("source %s: %w", s, hint.WithoutPath(err, s.sourcePath)), forward)
}

// checkFolder makes sure that a snapshot can be made in a directory.
func (s *Source) checkFolder(dir host.Status) error {
	switch {
	case !dir.Btrfs:
		return hint.New(fmt.Errorf("%s is %w", dir.Path, btrfs.ErrNotBtrfs), "choose another --snapshot-folder")
	case dir.DirID.Filesystem != s.status.DirID.Filesystem:
		return hint.New(fmt.Errorf("%s lies on another filesystem than %s", dir.Path, s.sourcePath),
			"a snapshot lies on the filesystem of its source: choose another --snapshot-folder")

	}
	return nil
}

// Folder gives the absolute path of the snapshot folder.
func (s *Source) Folder() string { return s.path }

// Changes tells what differs between two snapshots.
func (s *Source) Changes(ctx context.Context, name, parent string, each func(changes.Change)) error {
	return s.senderError(s.dir.Changes(ctx, host.ChangesOrder{Name: name, From: path.Join(s.path, parent)}, each))
}

// Nested gives the paths of the subvolumes in the source that a snapshot holds an empty directory for. What is another directory there
// became a subvolume later.
func (s *Source) Nested(ctx context.Context, name string) (paths []string, err error) {
	all, err := s.source.Nested(ctx)
	for _, n := range all {
		dir, err := s.host.Open(ctx, path.Join(s.path, name, n.Path))
		switch {
		case err == nil:
			err = dir.Close()
		case errors.Is(err, unix.ENOTTY): // of all directories, these alone know no ioctl (linux/fs/btrfs/inode.c: new_simple_dir)
			paths = append(paths, n.Path)
			continue
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	return paths, err
}

// Close closes the source and its folder.
func (s *Source) Close() error {
	if s.source == nil {
		return nil
	}
	return errors.Join(s.source.Close(), s.folder.Close())
}

// Subvolume describes the source.
func (s *Source) Subvolume() btrfs.Subvolume { return s.status.Subvolume }

// Origin describes the source, as it is recorded at a destination.
func (s *Source) Origin() host.Origin {
	return host.Origin{Subvolume: s.Subvolume().UUID, Origin: host.OriginOf(s.host, s.sourcePath)}
}

// List lists the snapshot folder.
func (s *Source) List(ctx context.Context, ours func(string) bool) (engine.Snapshots, error) {
	found := engine.Snapshots{Of: s.Subvolume(), NoTake: s.noTake(), ReadOnly: errors.Is(s.near.CheckWritable(), unix.EROFS)}
	folder := s.dir
	if folder == nil {
		folder = s.source
	}
	content, err := folder.List(ctx)
	if err != nil {
		return found, err
	}
	if err := replace.CheckCurrent(s.Subvolume(), s.sourcePath, content.Listing); err != nil {
		return found, s.sourceError(err)
	}
	if found.Missing = s.dir == nil; found.Missing {
		content = host.Content{Listing: btrfs.Listing{All: content.All}}
	}
	found.Listing, found.InUse = content.Listing, content.InUse()
	found.Ledger, found.LedgerErr = host.ParseLedger(s.folder.String(), content.Ledger, ours)
	return found, nil
}

// Omitted gives the subvolumes in the source that are not snapshots of it, and what is mounted in it. Mounts on another machine
// are not known.
func (s *Source) Omitted(ctx context.Context) ([]string, error) {
	all, err := s.source.Nested(ctx)
	if err != nil {
		return nil, err
	}
	var nested []string
	for _, n := range all {
		inFolder := n.Container == s.At().Subvolume && n.ContainerAt == s.At().Inode && s.At().Inode != 0 ||
			path.Dir(path.Join(s.sourcePath, n.Path)) == s.path
		if !inFolder && !n.IsSnapshotOf(s.Subvolume()) {
			nested = append(nested, n.Path)
		}
	}
	if s.host.String() == "" {
		mounts, mountsErr := host.MountsIn(s.sourcePath)
		for _, m := range mounts {
			if path.Join(s.sourcePath, m.Path) != s.path {
				nested = append(nested, m.Path)
			}
		}
		err = mountsErr
	}
	slices.Sort(nested)
	return slices.Compact(nested), err
}

// Changed tells whether the source differs from a snapshot of it. What runs leave in the snapshot folder does not count, unless the
// folder is the source itself.
func (s *Source) Changed(ctx context.Context, since btrfs.Subvolume) (bool, error) {
	except := uint64(0)
	if at := s.At(); at.Subvolume == s.Subvolume().ID && at.Inode != btrfs.RootInode {
		except = at.Inode
	}
	return s.source.Changed(ctx, since, except)
}

// noTake tells why no snapshot can be taken, as far as that can be known.
func (s *Source) noTake() error {
	switch {
	case !s.status.IsRoot:
		return s.sourceError(btrfs.ErrNotSubvolume)
	case s.status.Subvolume.ReadOnly:
		forward := "name the subvolume that it was taken of"
		if folder, name := path.Split(s.sourcePath); (engine.Naming{}).Ours(name) {
			forward += fmt.Sprintf(", or send it and those beside it as they are: --no-snapshot --snapshot-folder %s", path.Clean(folder))
		}
		return hint.New(fmt.Errorf("source %s: is a read-only snapshot, and none is taken of it", s), forward)
	}
	err := s.near.CheckWritable()
	if errors.Is(err, unix.EROFS) {
		err = hint.New(err, "the filesystem is read-only: mount it for writing; --no-snapshot sends the snapshots there are")
	}
	if err != nil {
		return s.folderError(withHint(err, s.lacking(needToSnapshot)))
	}
	return nil
}

// Take makes a snapshot in the folder, which is made first if it is missing. A failure leaves nothing.
func (s *Source) Take(ctx context.Context, name string) (taken btrfs.Subvolume, err error) {
	var made []string
	if s.dir == nil {
		for dir := s.path; dir != s.near.Path; dir = path.Dir(dir) {
			made = append(made, dir)
		}
		if err = s.makeFolder(ctx); err != nil {
			err = s.folderError(err)
		}
	}
	if err == nil {
		taken, err = s.dir.Take(ctx, s.sourcePath, s.Subvolume().UUID, name)
		err = s.explained(err, needToSnapshot)
	}
	if err != nil && made != nil {
		s.discard(context.WithoutCancel(ctx), made)
	}
	return taken, err
}

// makeFolder makes the folder, but not what was there when the source was opened.
func (s *Source) makeFolder(ctx context.Context) error {
	near, err := s.host.Open(ctx, s.near.Path)
	if err != nil {
		return err
	}
	if err := near.Close(); err != nil {
		return err
	}
	return s.create(ctx, s.checkFolder)
}

// discard removes the folder again, and those above it that were made for it.
func (s *Source) discard(ctx context.Context, made []string) {
	if s.dir != nil {
		_ = s.dir.Close() // nothing was written
		s.dir = nil
	}
	for _, dir := range made {
		if s.source.Rmdir(ctx, dir) != nil {
			return // it is in use by now
		}
	}
}

// explained adds to an error in the folder what is needed to avoid it.
func (s *Source) explained(err error, need string) error {
	if hint.Of(err) == "" && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) {
		return hint.New(err, s.makeRoom(pruneSnapshots))
	}
	return withHint(err, s.lacking(need))
}

// WriteLedger replaces the ledger.
func (s *Source) WriteLedger(ctx context.Context, l *lock.Ledger) error {
	return s.explained(s.dir.WriteLedger(ctx, l.Marshal()), needToWrite)
}

// Link replaces a symbolic link, but nothing else.
func (s *Source) Link(ctx context.Context, name, target string) error {
	return s.explained(s.dir.Link(ctx, name, target), needToWrite)
}
