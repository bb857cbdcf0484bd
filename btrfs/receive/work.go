package receive

import (
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"

	"golang.org/x/sys/unix"
)

// A file is a regular file of the new subvolume that is open for writing.
type file struct {
	path   string // when it was opened
	fd     int
	inode  uint64
	sent   uint64 // its inode number in the sent subvolume; 0 if that is not known
	fresh  bool   // it was made by this stream
	owned  *owner // as it was made, since when nothing was done that chown(2) undoes; nil if that is not so
	users  atomic.Int32
	open   *work   // that is being gathered; nil: none
	before []*work // that what is done next must wait for, unless it copies
	base   []*work // that copies must wait for
}

type owner struct{ uid, gid int }

// reopen lets a file be open for reading only.
func (f *file) reopen() error {
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(f.fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	unix.Close(f.fd)
	f.fd = fd
	return nil
}

func (f *file) leave() {
	if f.users.Add(-1) == 0 {
		unix.Close(f.fd)
	}
}

// A step is what one command does to a file.
type step struct {
	number  int64
	kind    sendstream.CommandType
	do      func(fd int) error
	xattr   string // the name of the extended attribute that it is about
	release func() // always called, last; may be nil
	data    []byte // kept for it by the pool
	size    int    // bytes that are kept for it, or that what it keeps open counts as
	span    *span  // that it copies
	reads   uint64 // inode of another file that it takes data of, which is not to be written to before; 0: none
}

// Work is a number of steps for one file, in order.
type work struct {
	file   *file
	steps  []step
	copies bool  // each step copies data from elsewhere, so that others may do so beside it
	size   int   // bytes that are kept for it
	bytes  int64 // that are written, or kept
	after  []*work
	reads  []uint64 // inodes of the files that its steps read
	done   chan struct{}
}

// part is how much data one piece of work has: more is divided among workers, or begun before all is here.
const part = 4 << 20

// keptPart is part of data that is kept: it is to be in the processor's cache still when it is written.
const keptPart = 512 << 10

const (
	// stepSize is what any step counts as, in bytes.
	stepSize = 256
	// openFile is what an open file counts as: so few are open at once that 1,024 descriptors suffice.
	openFile = 32 << 10
)

// switchTo gathers work for another file from now on, whose descriptor is taken over.
func (r *receiver) switchTo(path string, fd int, sent uint64) error {
	r.flush()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	f := &file{path: path, fd: fd, inode: st.Ino, sent: sent, fresh: sent != 0}
	f.users.Store(1)
	if f.fresh {
		f.owned = &owner{int(st.Uid), int(st.Gid)}
		r.fresh.inode, r.fresh.sent = st.Ino, sent
	} else if r.fresh.inode == st.Ino {
		f.sent = r.fresh.sent
	}
	f.before = r.pool.useOf(st.Ino)
	f.base = f.before
	r.current = f
	return nil
}

// file gives the regular file at a path, for which work is gathered from now on.
func (r *receiver) file(path string) (*file, error) {
	if r.current != nil && r.current.path == path {
		return r.current, nil
	}
	at, err := r.dirs.at(path)
	if err != nil {
		return nil, err
	}
	var fd int
	err = r.unlocked(func() error {
		fd, _, err = openRegular(at, unix.O_WRONLY)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = r.switchTo(path, fd, 0)
	return r.current, err
}

// flush hands out what was gathered.
func (r *receiver) flush() {
	f := r.current
	if f == nil {
		return
	}
	r.current = nil
	r.dispatch(f)
	f.leave()
}

// add lets a step be done after all before it.
func (r *receiver) add(f *file, s step) {
	if w := f.open; w != nil && w.copies && len(f.before) != len(f.base) {
		r.dispatch(f) // the last of several parts: all must be there first
	}
	if f.open == nil {
		f.open = &work{}
	}
	f.open.copies = false
	r.append(f, s)
}

// addAfter lets a step be done after what was handed out for another file, too.
func (r *receiver) addAfter(f *file, s step, inode uint64) {
	if others := r.pool.pendingOf(inode); len(others) > 0 {
		r.dispatch(f)
		f.open = &work{after: others}
	}
	s.reads = inode
	r.add(f, s)
}

// addCopy lets a step be done that may be done beside other copies for the same file.
func (r *receiver) addCopy(f *file, s step) {
	if f.open == nil {
		f.open = &work{copies: true}
	}
	r.append(f, s)
}

func (r *receiver) append(f *file, s step) {
	w := f.open
	w.steps = append(w.steps, s)
	if s.reads != 0 && !slices.Contains(w.reads, s.reads) {
		w.reads = append(w.reads, s.reads)
	}
	w.size += s.size + stepSize
	r.grew(f, int64(s.size+stepSize))
}

// grew counts data that the open work of a file has got.
func (r *receiver) grew(f *file, bytes int64) {
	if f.open.bytes += bytes; f.open.bytes >= part || f.open.size >= keptPart {
		r.dispatch(f)
	}
}

// dispatch hands out what was gathered for a file so far.
func (r *receiver) dispatch(f *file) {
	w := f.open
	if w == nil {
		return
	}
	f.open = nil
	w.file, w.done = f, make(chan struct{})
	f.users.Add(1)
	if w.copies {
		w.after = append(w.after, f.base...)
		f.before = append(f.before[:len(f.before):len(f.before)], w)
	} else {
		w.after = append(w.after, f.before...)
		f.before = []*work{w}
		f.base = f.before
	}
	r.pool.hand(w)
}
