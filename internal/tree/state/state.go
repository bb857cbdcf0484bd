// Package state keeps what this program knows about the backups of a folder in files of a directory in it, Dir. Each file is
// replaced as a whole: it is written beside, synced and renamed. None is reached through a symbolic link.
package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"

	"golang.org/x/sys/unix"
)

// Dir is the directory in a folder. Manifests is the one in it for what is known of each backup.
const (
	Dir       = ".btrfs-backup"
	Manifests = "manifests"
)

// The state files. What a backup holds, and its record, stand in Manifests.
const (
	IDFile         = "id"
	UnfinishedFile = "unfinished.json"

	recordEnd = ".json"
)

// ManifestFile says what a backup holds.
func ManifestFile(name string) string { return Manifests + "/" + name + ".zst" }

// RecordFile holds the record of a backup.
func RecordFile(name string) string { return Manifests + "/" + name + recordEnd }

// LatestOf tells that a name is that of the link to the newest snapshot or backup of a series, and gives the prefix of that.
func LatestOf(name string) (prefix string, ok bool) {
	if name == ".latest" {
		return "", true
	}
	prefix, ok = strings.CutSuffix(name, "_latest")
	rest, dot := strings.CutPrefix(prefix, ".")
	return rest, ok && dot
}

// TemporaryEnd is the end of the name of a file that is being written.
const TemporaryEnd = ".tmp"

// Files are the state files of a folder. They are named by their path in Dir.
type Files struct{ folder *os.File }

// In gives the state files of a folder that is open. It borrows folder.
func In(folder *os.File) Files { return Files{folder} }

// Path names a state file in messages.
func (s Files) Path(name string) string { return filepath.Join(s.folder.Name(), Dir, name) }

// dir opens the directory of a state file. Its absence is fs.ErrNotExist.
func (s Files) dir(name string) (*os.File, error) {
	return btrfs.OpenDirAt(s.folder, path.Join(Dir, path.Dir(name)))
}

// Make makes the directories for state files that are missing.
func (s Files) Make() error {
	for _, dir := range []string{Dir, Dir + "/" + Manifests} {
		parent, err := btrfs.OpenDirAt(s.folder, path.Dir(dir))
		if err != nil {
			return err
		}
		err = unix.Mkdirat(int(parent.Fd()), path.Base(dir), 0o700)
		if err == nil {
			err = parent.Sync()
		}
		parent.Close()
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making %s: %w", filepath.Join(s.folder.Name(), dir), err)
		}
	}
	return nil
}

// A Draft is a state file that is being written, beside the one that is there. It ends with Commit or Abandon.
type Draft struct {
	*os.File
	files   Files
	name    string
	unnamed bool
}

// Create begins to write a state file anew.
func (s Files) Create(name string) (*Draft, error) {
	if err := s.Make(); err != nil {
		return nil, err
	}
	dir, err := s.dir(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC | unix.O_NOFOLLOW | unix.O_CLOEXEC
	temporary := path.Base(name) + TemporaryEnd
	fd, err := unix.Openat(int(dir.Fd()), temporary, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", s.Path(name), err)
	}
	failpoint.Reach("state begun")
	return &Draft{os.NewFile(uintptr(fd), s.Path(name)), s, name, false}, nil
}

// Commit puts the draft on disk, in the place of the file of its name.
func (d *Draft) Commit() error {
	err := d.Sync()
	if err == nil && d.unnamed {
		err = d.link()
	}
	err = errors.Join(err, d.Close())
	if err == nil {
		err = d.files.Replace(d.name)
	}
	if err != nil {
		d.files.Remove(d.name + TemporaryEnd)
		return fmt.Errorf("writing %s: %w", d.files.Path(d.name), err)
	}
	failpoint.Reach("state written")
	return nil
}

// Abandon drops the draft. It may follow Commit.
func (d *Draft) Abandon() {
	d.Close()
	if !d.unnamed {
		d.files.Remove(d.name + TemporaryEnd)
	}
}

// Replace gives a file that was written under a temporary name, and is on disk, its own.
func (s Files) Replace(name string) error {
	dir, err := s.dir(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	fd, base := int(dir.Fd()), path.Base(name)
	if err := unix.Renameat(fd, base+TemporaryEnd, fd, base); err != nil {
		return err
	}
	return dir.Sync()
}

// Write replaces a state file.
func (s Files) Write(name string, content []byte) error {
	draft, err := s.Create(name)
	if err != nil {
		return err
	}
	if _, err := draft.Write(content); err != nil {
		draft.Abandon()
		return err
	}
	return draft.Commit()
}

// Open opens a state file for reading. Its absence is fs.ErrNotExist.
func (s Files) Open(name string) (*os.File, error) {
	dir, err := s.dir(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	full := s.Path(name)
	fd, err := unix.Openat(int(dir.Fd()), path.Base(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: full, Err: err}
	}
	return os.NewFile(uintptr(fd), full), nil
}

// Read reads a state file. Its absence is fs.ErrNotExist.
func (s Files) Read(name string) ([]byte, error) {
	file, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// Remove removes a state file; a missing one is no error.
func (s Files) Remove(name string) error {
	dir, err := s.dir(name)
	if err == nil {
		defer dir.Close()
		err = unix.Unlinkat(int(dir.Fd()), path.Base(name), 0)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", s.Path(name), err)
	}
	failpoint.Reach("state removed")
	return nil
}

// Names gives the names of the files in Manifests, sorted. There are none without it.
func (s Files) Names() ([]string, error) {
	dir, err := btrfs.OpenDirAt(s.folder, Dir+"/"+Manifests)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// Recorded gives the names of the backups that there are records of, sorted and never nil.
func (s Files) Recorded() (backups []string, err error) {
	files, err := s.Names()
	backups = make([]string, 0, len(files))
	for _, file := range files {
		if name, ok := strings.CutSuffix(file, recordEnd); ok {
			backups = append(backups, name)
		}
	}
	slices.Sort(backups)
	return backups, err
}

// TryLink gives the error of making a hard link, if any.
func (s Files) TryLink() error {
	const probe, second = "probe", "probe.link"
	defer s.Remove(second)
	defer s.Remove(probe)
	if err := s.Remove(second); err != nil {
		return err
	}
	if err := s.Write(probe, nil); err != nil {
		return err
	}
	dir, err := s.dir(probe)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Linkat(int(dir.Fd()), probe, int(dir.Fd()), second, 0); err != nil {
		return fmt.Errorf("linking %s: %w", s.Path(probe), err)
	}
	return nil
}
