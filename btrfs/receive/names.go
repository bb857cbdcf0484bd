package receive

import (
	"errors"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"

	"golang.org/x/sys/unix"
)

// A creation is a node that is to be made. A sender gives it a temporary name and renames it at once, nearly always: so it is made where it
// belongs when the next command is known. It may also remain under that name for long, even as a directory that others are moved into.
type creation struct {
	number int64
	kind   sendstream.CommandType
	path   string
	inode  uint64 // its number in the sent subvolume
	mode   uint32 // of a device node
	device uint64
	target string // of a symbolic link
}

func (r *receiver) create(c *command) error {
	n := &creation{number: c.number, kind: c.kind, path: c.path(), inode: c.uint64(sendstream.AttrIno)}
	switch c.kind {
	case sendstream.CmdSymlink:
		n.target = c.text(sendstream.AttrPathLink)
	case sendstream.CmdMkfifo:
		n.mode = unix.S_IFIFO
	case sendstream.CmdMksock:
		n.mode = unix.S_IFSOCK
	case sendstream.CmdMknod:
		n.mode, n.device = uint32(c.uint64(sendstream.AttrMode))&unix.S_IFMT, c.uint64(sendstream.AttrRdev)
		if n.mode != unix.S_IFCHR && n.mode != unix.S_IFBLK {
			return errors.New("it is no device")
		}
	}
	if c.bad == nil {
		r.held = n
	}
	return nil
}

// settle makes what is held, under the name that it was made with.
func (r *receiver) settle() error {
	n := r.held
	if n == nil {
		return nil
	}
	r.held = nil
	return n.failed(r.make(n, n.path))
}

func (n *creation) failed(err error) error {
	if err == nil {
		return nil
	}
	return &Error{n.number, n.kind, n.path, "", err}
}

func (r *receiver) make(n *creation, path string) error {
	at, err := r.dirs.at(path)
	if err != nil {
		return err
	}
	if err := r.unlocked(func() error { return r.makeAt(n, path, at) }); err != nil || !at.passing {
		return err
	}
	return at.disinherit()
}

func (r *receiver) makeAt(n *creation, path string, at place) error {
	const private = 0o600 // until the stream tells the mode
	switch n.kind {
	case sendstream.CmdMkfile:
		fd, err := unix.Openat(at.dir, at.name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, private)
		if err != nil {
			return err
		}
		return r.switchTo(path, fd, n.inode)
	case sendstream.CmdMkdir:
		return unix.Mkdirat(at.dir, at.name, 0o700)
	case sendstream.CmdSymlink:
		return unix.Symlinkat(n.target, at.dir, at.name)
	}
	return unix.Mknodat(at.dir, at.name, n.mode|private, int(n.device)) // as the kernel encodes it: new_encode_dev
}

func (r *receiver) rename(c *command) error {
	from, to := c.path(), c.pathIn(sendstream.AttrPathTo)
	if c.bad != nil {
		return nil
	}
	if n := r.held; n != nil && n.path == from {
		r.held = nil
		if r.make(n, to) == nil {
			return nil
		}
		if err := r.make(n, from); err != nil { // and then over what has the name, or not at all
			return n.failed(err)
		}
	} else if err := r.settle(); err != nil {
		return err
	}
	r.leave(from)
	r.leave(to)
	old, new, err := r.dirs.both(from, to)
	if err != nil {
		return err
	}
	if err := r.unlocked(func() error { return unix.Renameat(old.dir, old.name, new.dir, new.name) }); err != nil {
		return err
	}
	r.dirs.moved(from)
	r.dirs.moved(to)
	return nil
}

// leave ends the gathering of work for what is at a path or below it, which is another one from now on.
func (r *receiver) leave(path string) {
	if r.current != nil && isWithin(r.current.path, path) {
		r.flush()
	}
}

func (r *receiver) link(c *command) error {
	path, existing := c.path(), c.pathIn(sendstream.AttrPathLink)
	if c.bad != nil {
		return nil
	}
	old, new, err := r.dirs.both(existing, path)
	if err != nil {
		return err
	}
	return r.unlocked(func() error { return unix.Linkat(old.dir, old.name, new.dir, new.name, 0) })
}

func (r *receiver) unlink(c *command) error { return r.remove(c, 0) }

func (r *receiver) rmdir(c *command) error { return r.remove(c, unix.AT_REMOVEDIR) }

func (r *receiver) remove(c *command, flags int) error {
	path := c.path()
	if c.bad != nil {
		return nil
	}
	at, err := r.dirs.at(path)
	if err != nil {
		return err
	}
	r.leave(path)
	if err := r.unlocked(func() error { return unix.Unlinkat(at.dir, at.name, flags) }); err != nil {
		return err
	}
	if flags != 0 {
		r.dirs.moved(path)
	}
	return nil
}
