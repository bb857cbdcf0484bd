package tree

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// A Folder is an open folder of backups.
type Folder struct {
	dir   *os.File
	state state.Files
	log   *slog.Logger
}

// New gives the folder that dir is open on. It borrows dir.
func New(dir *os.File, log *slog.Logger) *Folder { return &Folder{dir, state.In(dir), log} }

// pathOf names an entry of the folder, by the path that the folder was opened by.
func (f *Folder) pathOf(name string) string { return filepath.Join(f.dir.Name(), name) }

// onBtrfs tells whether backups are subvolumes here.
func (f *Folder) onBtrfs() (bool, error) {
	err := btrfs.CheckFilesystem(f.dir)
	if errors.Is(err, btrfs.ErrNotBtrfs) {
		return false, nil
	}
	return err == nil, err
}

// checkFree refuses a name that the folder has already: that is fs.ErrExist.
func (f *Folder) checkFree(name string) error {
	_, err := walk.Lstat(f.dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s: %w", f.pathOf(name), fs.ErrExist)
	}
	return err
}

// checkHiddenFree refuses a hidden name that something else uses.
func (f *Folder) checkHiddenFree(hidden string) error {
	err := f.checkFree(hidden)
	if errors.Is(err, fs.ErrExist) {
		return hint.New(err, "another program made it: remove it, or move it away")
	}
	return err
}

// rename gives an entry a name that is free, on disk too. A name that is taken is fs.ErrExist.
func (f *Folder) rename(from, to string) error {
	fd := int(f.dir.Fd())
	err := unix.Renameat2(fd, from, fd, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // NFS and others cannot refuse to replace; directories replace empty ones only
		if err := f.checkFree(to); err != nil {
			return err
		}
		err = unix.Renameat(fd, from, fd, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: f.pathOf(from), New: f.pathOf(to), Err: err}
	}
	err = f.dir.Sync()
	failpoint.Reach("renamed")
	return err
}

// checkName refuses what cannot be the name of a backup.
func checkName(name string) error {
	_, isDeleting := deletingOf(name)
	if name == "" || name == "." || name == ".." || name == StateDir || btrfs.IsIncoming(name) || isDeleting ||
		strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot be the name of a backup", name)
	}
	return nil
}

// isSubvolume tells whether an entry is a subvolume rather than a directory.
func (f *Folder) isSubvolume(name string) (bool, error) {
	if onBtrfs, err := f.onBtrfs(); err != nil || !onBtrfs {
		return false, err
	}
	dir, err := btrfs.OpenDirAt(f.dir, name)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	err = btrfs.CheckSubvolume(dir)
	if errors.Is(err, btrfs.ErrNotSubvolume) {
		return false, nil
	}
	return err == nil, err
}

// Mark gives the folder its identity, if it has none yet.
func (f *Folder) Mark(context.Context) (id string, err error) {
	if id, err = f.id(); err == nil && id == "" {
		id = newID()
		err = f.state.Write(state.IDFile, []byte(id+"\n"))
	}
	if err != nil {
		return "", fmt.Errorf("marking %s: %w", f.dir.Name(), err)
	}
	return id, nil
}

// newID makes a UUID by chance.
func newID() string {
	var random btrfs.UUID
	rand.Read(random[:])
	random[6] = random[6]&0x0f | 0x40 // RFC 9562: version 4
	random[8] = random[8]&0x3f | 0x80 // and its variant
	return random.String()
}

// id gives the identity of the folder, "" for none.
func (f *Folder) id() (string, error) {
	content, err := f.state.Read(state.IDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(content)), err
}
