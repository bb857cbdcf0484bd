package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
	"btrfs-backup/lock"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// DefaultFolder is the snapshot folder within the source.
const DefaultFolder = "snapshot"

// Source is an engine.Source: a subvolume of this machine.
type Source struct {
	folder
	sourcePath string
	source     *os.File
	info       btrfs.Subvolume
}

var _ engine.Source = (*Source)(nil)

// NewSource names the subvolume at path and its snapshot folder, which is relative to path unless it is absolute.
func NewSource(path, snapshotFolder string, o Options) (*Source, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if snapshotFolder == "" {
		snapshotFolder = DefaultFolder
	}
	if !filepath.IsAbs(snapshotFolder) {
		snapshotFolder = filepath.Join(path, snapshotFolder)
	}
	return &Source{folder: folder{path: filepath.Clean(snapshotFolder), Options: o}, sourcePath: path}, nil
}

func (s *Source) String() string { return s.sourcePath }

// Open opens the source and its snapshot folder. Without create, a missing folder counts as an empty one.
func (s *Source) Open(_ context.Context, create bool) error {
	if err := s.openSubvolume(); err != nil {
		return err
	}
	err := s.open(create, s.checkFolder)
	if errors.Is(err, fs.ErrNotExist) && !create {
		return nil
	}
	if err != nil {
		s.source.Close()
		return fmt.Errorf("snapshot folder %s: %w", s.path, err)
	}
	return nil
}

func (s *Source) openSubvolume() error {
	dir, err := openDir(s.sourcePath)
	if err != nil {
		return sourceError(s.sourcePath, err)
	}
	if err := s.describe(dir); err != nil {
		dir.Close()
		return sourceError(s.sourcePath, err)
	}
	s.source = dir
	return nil
}

func (s *Source) describe(dir *os.File) (err error) {
	if !s.SkipChecks {
		if err := btrfs.CheckSubvolume(dir); err != nil {
			return err
		}
	}
	if s.info, err = btrfs.Info(dir); err != nil {
		return err
	}
	s.at, err = place(dir)
	s.at.Inode = 0 // the folder's place, once that is open
	return err
}

func sourceError(path string, err error) error {
	hint := "nothing was created or changed"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = "check the spelling; nothing was created"
	case errors.Is(err, btrfs.ErrNotSubvolume):
		hint = "only whole subvolumes can be snapshotted: name the one that holds this directory (`btrfs subvolume show` tells), " +
			"or make the directory one"
	case errors.Is(err, btrfs.ErrNotBtrfs):
		hint = "a source must be a btrfs subvolume; is the filesystem mounted?"
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return engine.Hint(fmt.Errorf("source %s: %w", path, err), "%s", hint)
}

// checkFolder makes sure that a snapshot can be made in dir.
func (s *Source) checkFolder(dir *os.File) error {
	if err := btrfs.CheckFilesystem(dir); err != nil {
		return engine.Hint(fmt.Errorf("%s is %w", dir.Name(), err), "choose another --snapshot-folder")
	}
	id, err := btrfs.FilesystemID(dir)
	if err != nil {
		return err
	}
	if id != s.at.Filesystem {
		return engine.Hint(fmt.Errorf("%s lies on another filesystem than %s", dir.Name(), s.sourcePath),
			"a snapshot lies on the filesystem of its source: choose another --snapshot-folder")
	}
	return nil
}

// Subvolume describes the source.
func (s *Source) Subvolume() btrfs.Subvolume { return s.info }

// List lists the snapshot folder.
func (s *Source) List(context.Context) (btrfs.Listing, error) {
	if s.dir != nil {
		return btrfs.List(s.dir)
	}
	listing, err := btrfs.List(s.source)
	return btrfs.Listing{All: listing.All}, err
}

// Nested gives the subvolumes in the source that are not snapshots of it.
func (s *Source) Nested(context.Context) ([]string, error) {
	children, err := btrfs.Children(s.source)
	if err != nil {
		return nil, err
	}
	var nested []string
	for _, c := range children {
		if c.DirID == s.at.Inode && s.at.Subvolume == s.info.ID {
			continue // in the snapshot folder
		}
		if info, err := btrfs.InfoAt(s.source, c.Path); err == nil && info.ParentUUID == s.info.UUID {
			continue
		}
		nested = append(nested, c.Path)
	}
	slices.Sort(nested)
	return nested, nil
}

// Take makes a snapshot in the folder.
func (s *Source) Take(_ context.Context, name string) (btrfs.Subvolume, error) {
	if err := btrfs.Snapshot(s.source, s.dir, name); err != nil {
		return btrfs.Subvolume{}, withHint(err, needToSnapshot)
	}
	if err := btrfs.SyncFilesystem(s.dir); err != nil {
		return btrfs.Subvolume{}, fmt.Errorf("snapshot %s was taken, but may not be on disk: %w", name, err)
	}
	return btrfs.InfoAt(s.dir, name)
}

// WriteLedger replaces the ledger.
func (s *Source) WriteLedger(_ context.Context, l *lock.Ledger) error {
	return replaceFile(filepath.Join(s.path, lock.LedgerFile), l.Marshal())
}

// Link replaces a symbolic link, but nothing else.
func (s *Source) Link(_ context.Context, name, target string) error {
	path := filepath.Join(s.path, name)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return engine.Hint(fmt.Errorf("%s is not a symbolic link", path), "move it away; the link to the newest snapshot belongs there")
	}
	if err := renameio.Symlink(target, path); err != nil {
		return fmt.Errorf("linking the newest snapshot: %w", err)
	}
	return nil
}

// Sync puts the names in the folder on disk.
func (s *Source) Sync(context.Context) error { return s.dir.Sync() }
