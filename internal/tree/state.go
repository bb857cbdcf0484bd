package tree

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// statePath names a state file in messages.
func (f *Folder) statePath(name string) string { return filepath.Join(f.dir.Name(), StateDir, name) }

// state opens a directory for state files: StateDir or manifestsDir in it. Its absence is fs.ErrNotExist.
func (f *Folder) state(name string) (*os.File, error) {
	return btrfs.OpenDirAt(f.dir, path.Join(StateDir, path.Dir(name)))
}

// makeState makes the directories for state files that are missing.
func (f *Folder) makeState() error {
	for _, dir := range []string{StateDir, StateDir + "/" + manifestsDir} {
		parent, err := btrfs.OpenDirAt(f.dir, path.Dir(dir))
		if err != nil {
			return err
		}
		err = unix.Mkdirat(int(parent.Fd()), path.Base(dir), 0o700)
		if err == nil {
			err = parent.Sync()
		}
		parent.Close()
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making %s: %w", filepath.Join(f.dir.Name(), dir), err)
		}
	}
	return nil
}

// createState begins to write the state file of that name, beside the one that is there. The caller ends with commitState or
// abandonState, both of which close the file.
func (f *Folder) createState(name string) (*os.File, error) {
	if err := f.makeState(); err != nil {
		return nil, err
	}
	dir, err := f.state(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC | unix.O_NOFOLLOW | unix.O_CLOEXEC
	temporary := path.Base(name) + temporaryEnd
	fd, err := unix.Openat(int(dir.Fd()), temporary, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", f.statePath(name), err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), temporary)), nil
}

// commitState puts what createState began on disk, in place of the file of that name.
func (f *Folder) commitState(file *os.File, name string) error {
	err := errors.Join(file.Sync(), file.Close())
	if err == nil {
		err = f.replaceState(name)
	}
	if err != nil {
		f.removeState(name + temporaryEnd)
		return fmt.Errorf("writing %s: %w", f.statePath(name), err)
	}
	return nil
}

func (f *Folder) replaceState(name string) error {
	dir, err := f.state(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	fd, base := int(dir.Fd()), path.Base(name)
	if err := unix.Renameat(fd, base+temporaryEnd, fd, base); err != nil {
		return err
	}
	return dir.Sync()
}

// abandonState drops what createState began. It may follow commitState.
func (f *Folder) abandonState(file *os.File, name string) {
	file.Close()
	f.removeState(name + temporaryEnd)
}

// writeState replaces a state file.
func (f *Folder) writeState(name string, content []byte) error {
	file, err := f.createState(name)
	if err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		f.abandonState(file, name)
		return err
	}
	return f.commitState(file, name)
}

// openState opens a state file for reading. Its absence is fs.ErrNotExist.
func (f *Folder) openState(name string) (*os.File, error) {
	dir, err := f.state(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	full := f.statePath(name)
	fd, err := unix.Openat(int(dir.Fd()), path.Base(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: full, Err: err}
	}
	return os.NewFile(uintptr(fd), full), nil
}

// readState reads a state file. Its absence is fs.ErrNotExist.
func (f *Folder) readState(name string) ([]byte, error) {
	file, err := f.openState(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var content bytes.Buffer
	_, err = content.ReadFrom(file)
	return content.Bytes(), err
}

// removeState removes a state file; a missing one is no error.
func (f *Folder) removeState(name string) error {
	dir, err := f.state(name)
	if err == nil {
		defer dir.Close()
		err = unix.Unlinkat(int(dir.Fd()), path.Base(name), 0)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", f.statePath(name), err)
	}
	return nil
}

// mark reads the identity of the folder, or gives it one.
func (f *Folder) mark() (id string, err error) {
	if id, err = f.id(); err != nil || id != "" {
		return id, err
	}
	var random btrfs.UUID
	rand.Read(random[:])
	random[6] = random[6]&0x0f | 0x40 // RFC 9562: version 4
	random[8] = random[8]&0x3f | 0x80 // and its variant
	return random.String(), f.writeState(IDFile, []byte(random.String()+"\n"))
}

// id gives the identity of the folder, "" for none.
func (f *Folder) id() (string, error) {
	content, err := f.readState(IDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(content)), err
}
