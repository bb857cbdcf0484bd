package walk

import (
	"errors"

	"golang.org/x/sys/unix"
)

// maxOpen is how many directories of a trail are open, besides its first one.
const maxOpen = 64

// A Trail leads from a directory to one below it. Whatever its length, it takes few descriptors: the directories in the middle are
// closed, and opened again on the way back.
type Trail struct{ levels []level }

type level struct {
	dir           *Dir   // nil: closed
	device, inode uint64 // of what was closed
}

// NewTrail begins in a directory, which it releases in the end.
func NewTrail(dir *Dir) *Trail { return &Trail{levels: []level{{dir: dir}}} }

// Close releases all directories.
func (t *Trail) Close() {
	for _, l := range t.levels {
		if l.dir != nil {
			l.dir.Release()
		}
	}
	t.levels = nil
}

// Last gives the directory that the trail leads to. It is the trail's, unless it is held.
func (t *Trail) Last() *Dir { return t.levels[len(t.levels)-1].dir }

// Down goes on to a directory in the last one, and releases it when it comes back.
func (t *Trail) Down(dir *Dir) error {
	t.levels = append(t.levels, level{dir: dir})
	middle := len(t.levels) - 1 - maxOpen
	if middle < 1 {
		return nil
	}
	l := &t.levels[middle]
	var err error
	if l.device, l.inode, err = l.dir.identity(); err == nil {
		l.dir.Release()
		l.dir = nil
	}
	return err
}

// Up goes back.
func (t *Trail) Up() error {
	last := len(t.levels) - 1
	left, l := t.levels[last].dir, &t.levels[last-1]
	t.levels = t.levels[:last]
	defer left.Release()
	if l.dir != nil {
		return nil
	}
	dir, err := left.Dir("..")
	if err != nil {
		return err
	}
	l.dir = dir
	device, inode, err := dir.identity()
	if err == nil && (device != l.device || inode != l.inode) {
		err = errors.New("a directory was moved meanwhile")
	}
	return err
}

func (d *Dir) identity() (device, inode uint64, err error) {
	var st unix.Stat_t
	err = unix.Fstat(d.fd, &st)
	return uint64(st.Dev), st.Ino, err
}
