package sendstream

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// A CommandType says what a command does.
type CommandType uint16

// linux/fs/btrfs/send.h: enum btrfs_send_cmd
const (
	CmdSubvol CommandType = iota + 1
	CmdSnapshot
	CmdMkfile
	CmdMkdir
	CmdMknod
	CmdMkfifo
	CmdMksock
	CmdSymlink
	CmdRename
	CmdLink
	CmdUnlink
	CmdRmdir
	CmdSetXattr
	CmdRemoveXattr
	CmdWrite
	CmdClone
	CmdTruncate
	CmdChmod
	CmdChown
	CmdUtimes
	CmdEnd
	CmdUpdateExtent
	// protocol 2
	CmdFallocate
	CmdFileattr
	CmdEncodedWrite
	// protocol 3
	CmdEnableVerity
)

var commandNames = [...]string{
	CmdSubvol: "subvol", CmdSnapshot: "snapshot", CmdMkfile: "mkfile",
	CmdMkdir: "mkdir", CmdMknod: "mknod", CmdMkfifo: "mkfifo",
	CmdMksock: "mksock", CmdSymlink: "symlink", CmdRename: "rename",
	CmdLink: "link", CmdUnlink: "unlink", CmdRmdir: "rmdir",
	CmdSetXattr: "set_xattr", CmdRemoveXattr: "remove_xattr",
	CmdWrite: "write", CmdClone: "clone", CmdTruncate: "truncate",
	CmdChmod: "chmod", CmdChown: "chown", CmdUtimes: "utimes",
	CmdEnd: "end", CmdUpdateExtent: "update_extent",
	CmdFallocate: "fallocate", CmdFileattr: "fileattr",
	CmdEncodedWrite: "encoded_write", CmdEnableVerity: "enable_verity",
}

// String returns the name that btrfs receive --dump prints.
func (t CommandType) String() string {
	if int(t) < len(commandNames) && commandNames[t] != "" {
		return commandNames[t]
	}
	return fmt.Sprintf("unknown(%d)", uint16(t))
}

// An AttrType names an attribute of a command.
type AttrType uint16

// linux/fs/btrfs/send.h: BTRFS_SEND_A_*
const (
	AttrUUID AttrType = iota + 1
	AttrCtransid
	AttrIno
	AttrSize
	AttrMode
	AttrUID
	AttrGID
	AttrRdev
	AttrCtime
	AttrMtime
	AttrAtime
	AttrOtime
	AttrXattrName
	AttrXattrData
	AttrPath
	AttrPathTo
	AttrPathLink
	AttrFileOffset
	AttrData
	AttrCloneUUID
	AttrCloneCtransid
	AttrClonePath
	AttrCloneOffset
	AttrCloneLen
	// protocol 2
	AttrFallocateMode
	AttrFileattr
	AttrUnencodedFileLen
	AttrUnencodedLen
	AttrUnencodedOffset
	AttrCompression
	AttrEncryption
	// protocol 3
	AttrVerityAlgorithm
	AttrVerityBlockSize
	AttrVeritySalt
	AttrVeritySignature
)

// A Command is one command of a stream.
type Command struct {
	Type CommandType
	Data []byte // attributes as they are in the stream
	Raw  []byte // all of it, as it is in the stream

	protocol int
}

// newCommand takes a checked command apart. It fails if the attributes do not
// fill the command exactly, so that Attrs cannot fail.
func newCommand(b []byte, protocol int) (Command, error) {
	c := Command{Type: commandType(b), Data: b[commandHeaderSize:], Raw: b, protocol: protocol}
	size := 0
	for t, value := range c.Attrs() {
		size += c.attrHeaderSize(t) + len(value)
	}
	if size != len(c.Data) {
		return Command{}, fmt.Errorf("%w: attributes do not fill %v command", ErrCorrupt, c.Type)
	}
	return c, nil
}

// mustBegin returns an error if c cannot be the first command of a stream.
func (c Command) mustBegin() error {
	if c.Type != CmdSubvol && c.Type != CmdSnapshot {
		return fmt.Errorf("%w: it begins with %v, not with subvol or snapshot", ErrCorrupt, c.Type)
	}
	return nil
}

// attrHeaderSize returns the number of bytes before the value of an attribute.
func (c Command) attrHeaderSize(t AttrType) int {
	// linux/fs/btrfs/send.c: put_data_header: since protocol 2, data has no
	// length and reaches to the end of the command.
	if t == AttrData && c.protocol >= 2 {
		return attrTypeSize
	}
	return attrTypeSize + attrLengthSize
}

// Attrs returns the attributes in the order of the stream.
func (c Command) Attrs() iter.Seq2[AttrType, []byte] {
	return func(yield func(AttrType, []byte) bool) {
		rest := c.Data
		for len(rest) >= attrTypeSize {
			t := AttrType(binary.LittleEndian.Uint16(rest))
			header := c.attrHeaderSize(t)
			if len(rest) < header {
				return
			}
			end := len(rest)
			if header > attrTypeSize {
				end = header + int(binary.LittleEndian.Uint16(rest[attrTypeSize:]))
			}
			if end > len(rest) || !yield(t, rest[header:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// Attr returns the value of the first attribute of type t, and whether there
// is one.
func (c Command) Attr(t AttrType) (value []byte, ok bool) {
	for u, value := range c.Attrs() {
		if u == t {
			return value, true
		}
	}
	return nil, false
}

// Uint64 returns the value of an attribute that is a 64-bit number.
func (c Command) Uint64(t AttrType) (uint64, error) {
	value, _ := c.Attr(t)
	if len(value) != 8 {
		return 0, c.badAttr(t)
	}
	return binary.LittleEndian.Uint64(value), nil
}

// UUID returns the value of an attribute that is a UUID.
func (c Command) UUID(t AttrType) (uuid [16]byte, err error) {
	value, _ := c.Attr(t)
	if len(value) != len(uuid) {
		return uuid, c.badAttr(t)
	}
	return [16]byte(value), nil
}

// Text returns the value of an attribute that is a path or a name.
func (c Command) Text(t AttrType) (string, error) {
	value, ok := c.Attr(t)
	if !ok {
		return "", c.badAttr(t)
	}
	return string(value), nil
}

func (c Command) badAttr(t AttrType) error {
	return fmt.Errorf("%w: %v command without usable attribute %d", ErrCorrupt, c.Type, t)
}

// size returns the number of bytes that c occupies in a stream.
func (c Command) size() int { return commandHeaderSize + len(c.Data) }
