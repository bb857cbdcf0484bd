package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/lock"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// A note tells what the program opened of a disk and has not closed. Numbers tell a mount or mapping from a later one of the
// same name.
type note struct {
	Disk     Disk
	Mount    uint64 `json:",omitempty"` // number of the mount
	Mapping  uint64 `json:",omitempty"` // inode number of the file in /dev/mapper
	Changing bool   `json:",omitempty"` // something is being opened
}

func (n note) isEmpty() bool { return n.Mount == 0 && n.Mapping == 0 && !n.Changing }

// place is where the notes of a disk are.
type place string

func (o Options) notes() string { return filepath.Join(cmp.Or(o.State, "/run/btrfs-backup"), "disks") }

func (o Options) place(name string) place { return place(filepath.Join(o.notes(), name)) }

func (p place) file() string { return filepath.Join(string(p), "opened.json") }

// alone keeps other runs from opening or closing the disk meanwhile.
func (p place) alone(ctx context.Context, do func() error) error {
	return lock.InDir(ctx, string(p), do)
}

// use gives the lock that each run shares while it uses the disk.
func (p place) use() *flock.Flock { return flock.New(filepath.Join(string(p), "used")) }

// read gives the note, an empty one if there is none.
func (p place) read() (n note, err error) {
	return n, lock.ReadJSON(p.file(), &n)
}

// write replaces the note, and removes it when nothing is open.
func (p place) write(n note) error {
	if n.isEmpty() {
		if err := os.Remove(p.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return lock.WriteJSON(p.file(), n)
}

// current leaves out of a note what is not open any more. unsure are things that are open since a run was killed in the middle
// of opening them, or since somebody else opened them after that.
func (o Options) current(n note) (current note, unsure []string, err error) {
	if n.Disk.LUKS != "" {
		ino, err := o.mappingNumber(n.Disk)
		switch {
		case err != nil:
			return n, nil, err
		case n.Mapping != ino:
			n.Mapping = 0
			if n.Changing && ino != 0 {
				unsure = append(unsure, o.mapping(n.Disk))
			}
		}
	}
	m, err := mountedAt(n.Disk.Mount)
	switch {
	case err != nil:
		return n, nil, err
	case m == nil:
		n.Mount = 0
	case n.Changing && n.Mapping != 0: // it could not be mounted before the mapping was made
		n.Mount = m.id
	case n.Mount != m.id:
		n.Mount = 0
		if n.Changing {
			unsure = append(unsure, n.Disk.Mount)
		}
	}
	n.Changing = false
	return n, unsure, nil
}

// mappingNumber gives the inode number of the mapping's file, which devtmpfs gives to no other one; 0 if there is none.
func (o Options) mappingNumber(d Disk) (uint64, error) {
	var st unix.Stat_t
	err := unix.Lstat(o.mapping(d), &st)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking at %s: %w", o.mapping(d), err)
	}
	return st.Ino, nil
}
