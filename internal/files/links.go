package files

import (
	"errors"
	"path"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"

	"golang.org/x/sys/unix"
)

// linked are the files with several names, by their numbers in the records.
type linked struct {
	names map[uint32]otherName
	bytes int
}

// An otherName is the first name of a file.
type otherName struct {
	item  *tree  // nil: the file could not be written
	below string // the path from the item
	inode uint64
}

// What records can make this machine remember.
const (
	maxLinks     = 1 << 20
	maxLinkBytes = 64 << 20
)

func (l *linked) knows(number uint32) bool {
	_, ok := l.names[number]
	return ok && number != 0
}

// check refuses an entry when no more can be remembered.
func (l *linked) check(e *Entry) error {
	if e.Link == 0 || l.knows(e.Link) || len(l.names) < maxLinks && l.bytes < maxLinkBytes {
		return nil
	}
	return hint.New(errors.New("there are too many files with several names"), "restore parts of it, one after the other")
}

// note remembers the first name of a file.
func (l *linked) note(e *Entry, item *tree, below string, inode uint64) {
	if e.Link != 0 && !l.knows(e.Link) {
		l.bytes += len(below)
		l.names[e.Link] = otherName{item, below, inode}
	}
}

// lose remembers that a file could not be written under its first name.
func (l *linked) lose(e *Entry) {
	if e.Link != 0 && !l.knows(e.Link) {
		l.names[e.Link] = otherName{}
	}
}

// link gives a file that was written a further name.
func (u *Unpacker) link(e *Entry, name string, replaces bool) error {
	first := u.links.names[e.Link]
	if first.item == nil {
		u.report.Failures.add(u.at(name), "another name of the file could not be written")
		return nil
	}
	err := u.linkTo(first, name, replaces)
	if err != nil {
		return u.failed(u.at(name), err)
	}
	u.report.Files++
	return nil
}

func (u *Unpacker) linkTo(first otherName, name string, replaces bool) error {
	at := path.Join(first.item.now, first.below)
	dir, err := openBeneath(u.root, path.Dir(at))
	if err != nil {
		return err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), path.Base(at), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Ino != first.inode {
		return errors.New("its other name is that of another file now")
	}
	err = nameFile(fd, u.item.trail.Last().Descriptor(), name, replaces)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		return errors.New("this filesystem has no files with several names; the other is " + at)
	}
	return err
}
