// Package streamtest is for tests: it makes send streams that no btrfs send makes.
package streamtest

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

// An Attribute is one of a command.
type Attribute struct {
	t     sendstream.AttrType
	value []byte
	rest  bool // the value has no length, and is what is left of the command
}

// Text makes an attribute of a text.
func Text(t sendstream.AttrType, value string) Attribute {
	return Attribute{t: t, value: []byte(value)}
}

// Rest makes the data of a command of protocol 2, which has no length. Nothing comes after it.
// linux/fs/btrfs/send.c: put_data_header
func Rest(data []byte) Attribute { return Attribute{sendstream.AttrData, data, true} }

// Time makes an attribute of a time. linux/fs/btrfs/send.c: tlv_put_btrfs_timespec
func Time(t sendstream.AttrType, value time.Time) Attribute {
	return Attribute{t: t, value: binary.LittleEndian.AppendUint32(Number(t, uint64(value.Unix())).value, uint32(value.Nanosecond()))}
}

// UUID makes an attribute of a UUID.
func UUID(t sendstream.AttrType, u btrfs.UUID) Attribute { return Attribute{t: t, value: u[:]} }

// Number makes an attribute of a number.
func Number(t sendstream.AttrType, value uint64) Attribute {
	return Attribute{t: t, value: binary.LittleEndian.AppendUint64(nil, value)}
}

// Number32 makes an attribute of a number of 32 bits.
func Number32(t sendstream.AttrType, value uint32) Attribute {
	return Attribute{t: t, value: binary.LittleEndian.AppendUint32(nil, value)}
}

// Encode makes a command.
func Encode(c sendstream.CommandType, attributes ...Attribute) []byte {
	var body []byte
	for _, a := range attributes {
		body = binary.LittleEndian.AppendUint16(body, uint16(a.t))
		if !a.rest {
			body = binary.LittleEndian.AppendUint16(body, uint16(len(a.value)))
		}
		body = append(body, a.value...)
	}
	return EncodeBody(c, body)
}

// EncodeBody makes a command of attributes that are encoded, well or not.
func EncodeBody(c sendstream.CommandType, body []byte) []byte {
	return sendstream.AppendCommand(nil, c, body)
}

// Stream makes a stream of commands, and its end.
func Stream(protocol uint32, commands ...[]byte) []byte {
	out := sendstream.Header(int(protocol))
	return append(append(out, slices.Concat(commands...)...), Encode(sendstream.CmdEnd)...)
}

// OwnUUID is the UUID of what the streams hold.
var OwnUUID = btrfs.UUID{0xbd, 1, 2, 3}

// Subvol begins a complete stream.
func Subvol() []byte {
	return Encode(sendstream.CmdSubvol, Text(sendstream.AttrPath, "x"), UUID(sendstream.AttrUUID, OwnUUID), Number(sendstream.AttrCtransid, 7))
}

// SnapshotOf begins an incremental stream.
func SnapshotOf(parent btrfs.UUID) []byte {
	return Encode(sendstream.CmdSnapshot, Text(sendstream.AttrPath, "x"), UUID(sendstream.AttrUUID, OwnUUID), Number(sendstream.AttrCtransid, 7),
		UUID(sendstream.AttrCloneUUID, parent), Number(sendstream.AttrCloneCtransid, 5))
}

// Makes makes an object of the subvolume.
func Makes(c sendstream.CommandType, path string, more ...Attribute) []byte {
	return Encode(c, append([]Attribute{Text(sendstream.AttrPath, path), Number(sendstream.AttrIno, 300)}, more...)...)
}

// Symlink makes a symbolic link.
func Symlink(path, target string) []byte {
	return Makes(sendstream.CmdSymlink, path, Text(sendstream.AttrPathLink, target))
}

// Write writes to a file.
func Write(path, data string) []byte {
	return Encode(sendstream.CmdWrite, Text(sendstream.AttrPath, path), Number(sendstream.AttrFileOffset, 0), Text(sendstream.AttrData, data))
}

// CloneFrom takes data of another subvolume.
func CloneFrom(from btrfs.UUID, path string) []byte {
	return Encode(sendstream.CmdClone, Text(sendstream.AttrPath, "mine"), Number(sendstream.AttrFileOffset, 0), Number(sendstream.AttrCloneLen, 4096),
		UUID(sendstream.AttrCloneUUID, from), Number(sendstream.AttrCloneCtransid, 5), Text(sendstream.AttrClonePath, path), Number(sendstream.AttrCloneOffset, 0))
}

// PathAttributes are those that hold a path.
var PathAttributes = []sendstream.AttrType{sendstream.AttrPath, sendstream.AttrPathTo, sendstream.AttrPathLink, sendstream.AttrClonePath}
