package receive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"

	"golang.org/x/sys/unix"
)

// A command has the attributes of one of a stream, which are valid until the next is read into it. The first that is not as it should
// be is noted in bad.
type command struct {
	number int64
	kind   sendstream.CommandType
	values [sendstream.AttrVeritySignature + 1][]byte
	given  uint64 // bits
	bad    error
	last   string // path of this command or one before, which mostly is that of the next
}

// decode takes a command apart. What no sender writes is refused: of an attribute that comes twice, or is not known, nobody could say
// what it means.
func (c *command) decode(from sendstream.Command, number int64) error {
	*c = command{number: number, kind: from.Type, last: c.last}
	if from.Type < sendstream.CmdSubvol || from.Type > sendstream.CmdEnableVerity {
		return errors.New("it is not known")
	}
	for t, value := range from.Attrs() {
		switch {
		case t < sendstream.AttrUUID || t > sendstream.AttrVeritySignature:
			return fmt.Errorf("its attribute %d is not known", t)
		case c.given&(1<<t) != 0:
			return fmt.Errorf("its attribute %d comes twice", t)
		}
		c.given |= 1 << t
		c.values[t] = value
	}
	return nil
}

// failed gives the error of the command, if there is one.
func (c *command) failed(err error) error {
	if c.bad != nil {
		err = c.bad
	}
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	return &Error{c.number, c.kind, string(c.values[sendstream.AttrPath]), string(c.values[sendstream.AttrXattrName]), err}
}

// bytes gives an attribute of any length, which is of a fixed one unless that is 0.
func (c *command) bytes(t sendstream.AttrType, length int) []byte {
	value := c.values[t]
	if c.given&(1<<t) == 0 || length > 0 && len(value) != length {
		if c.bad == nil {
			c.bad = fmt.Errorf("%w: its attribute %d is missing or not of its length", sendstream.ErrCorrupt, t)
		}
		return make([]byte, length)
	}
	return value
}

func (c *command) text(t sendstream.AttrType) string { return string(c.bytes(t, 0)) }

func (c *command) uint64(t sendstream.AttrType) uint64 {
	return binary.LittleEndian.Uint64(c.bytes(t, 8))
}

func (c *command) uint32(t sendstream.AttrType) uint32 {
	return binary.LittleEndian.Uint32(c.bytes(t, 4))
}

// optional32 is uint32 of an attribute that is 0 if it is left out.
func (c *command) optional32(t sendstream.AttrType) uint32 {
	if c.given&(1<<t) == 0 {
		return 0
	}
	return c.uint32(t)
}

func (c *command) uuid(t sendstream.AttrType) btrfs.UUID { return btrfs.UUID(c.bytes(t, 16)) }

// offset is a number of bytes in a file.
func (c *command) offset(t sendstream.AttrType) int64 {
	n := c.uint64(t)
	if n > 1<<63-1 && c.bad == nil {
		c.bad = fmt.Errorf("%w: %d is no size of a file", sendstream.ErrCorrupt, n)
	}
	return int64(n)
}

// time is a struct btrfs_timespec (linux/btrfs_tree.h). CPUs of 32 bits have no times after 2038.
func (c *command) time(t sendstream.AttrType) unix.Timespec {
	value := c.bytes(t, 12)
	at := time.Unix(int64(binary.LittleEndian.Uint64(value)), int64(binary.LittleEndian.Uint32(value[8:])))
	spec, err := unix.TimeToTimespec(at)
	if err != nil && c.bad == nil {
		c.bad = fmt.Errorf("this system does not know the time %s of a file: %w", at, err)
	}
	return spec
}

// path is that of what the command is about.
func (c *command) path() string { return c.pathIn(sendstream.AttrPath) }

// pathIn gives a path within a subvolume, which is not the root.
func (c *command) pathIn(t sendstream.AttrType) string {
	value := c.bytes(t, 0)
	if len(value) > 0 && string(value) == c.last {
		return c.last
	}
	p := string(value)
	switch {
	case c.bad != nil:
	case !isPath(p):
		c.bad = fmt.Errorf("%q is no path in a subvolume", p)
	default:
		c.last = p
	}
	return p
}

// pathOrRoot is path, or "" for the root.
func (c *command) pathOrRoot() string {
	if c.given&(1<<sendstream.AttrPath) != 0 && len(c.values[sendstream.AttrPath]) == 0 {
		return ""
	}
	return c.path()
}

// isPath tells a path of names. Paths of more than 4,095 bytes, and names of more than 255, are refused by the kernel.
func isPath(p string) bool {
	if strings.ContainsRune(p, 0) {
		return false
	}
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." || name == ".." {
			return false
		}
	}
	return true
}
