package sendstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// linux/fs/btrfs/send.h: BTRFS_SEND_STREAM_MAGIC, with its final NUL
	magic = "btrfs-stream\x00"

	// linux/fs/btrfs/send.h: struct btrfs_stream_header
	streamHeaderSize = len(magic) + 4
	// linux/fs/btrfs/send.h: struct btrfs_cmd_header
	commandHeaderSize = 4 + 2 + 4
	// linux/fs/btrfs/send.h: struct btrfs_tlv_header
	attrTypeSize   = 2
	attrLengthSize = 2

	// maxCommandSize bounds a command with its header. The kernel builds it in
	// a buffer of 64 KiB (BTRFS_SEND_BUF_SIZE_V1), or of 16 KiB + 128 KiB
	// rounded up to a page (BTRFS_SEND_BUF_SIZE_V2), which is 192 KiB where
	// pages have 64 KiB.
	maxCommandSize = 256 << 10
)

// MaxProtocol is the newest protocol that is understood.
const MaxProtocol = 3

// errIncomplete asks for more input.
var errIncomplete = errors.New("incomplete")

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	zeroCRC    = make([]byte, 4)
)

// checkStreamHeader returns the size of the stream header at the start of b.
// With any other error than errIncomplete, the size is that of the bytes at
// fault.
func checkStreamHeader(b []byte) (int, error) {
	if len(b) < streamHeaderSize {
		return 0, errIncomplete
	}
	if string(b[:len(magic)]) != magic {
		return streamHeaderSize, fmt.Errorf("%w: no stream header", ErrCorrupt)
	}
	if v := protocolOf(b); v < 1 || v > MaxProtocol {
		return streamHeaderSize, fmt.Errorf("%w: %d", ErrUnsupported, v)
	}
	return streamHeaderSize, nil
}

func protocolOf(header []byte) int {
	return int(binary.LittleEndian.Uint32(header[len(magic):]))
}

// indexStreamHeader returns the position of the first complete stream header
// in b, or -1.
func indexStreamHeader(b []byte) int {
	for from := 0; ; {
		i := bytes.Index(b[from:], []byte(magic))
		if i < 0 {
			return -1
		}
		from += i
		if _, err := checkStreamHeader(b[from:]); err == nil {
			return from
		}
		from++
	}
}

// checkCommand returns the size of the command at the start of b, header
// included. With any other error than errIncomplete, the size is that of the
// bytes at fault.
func checkCommand(b []byte) (int, error) {
	if len(b) < commandHeaderSize {
		return 0, errIncomplete
	}
	if n := binary.LittleEndian.Uint32(b); n > maxCommandSize-commandHeaderSize {
		return commandHeaderSize, fmt.Errorf("%w: command of %d bytes", ErrCorrupt, n)
	}
	size := commandSize(b)
	if len(b) < size {
		return 0, errIncomplete
	}
	if want, got := binary.LittleEndian.Uint32(b[6:]), checksum(b[:size]); want != got {
		return size, fmt.Errorf("%w: checksum of %v command is %08x, not %08x", ErrCorrupt, commandType(b), got, want)
	}
	return size, nil
}

func commandSize(b []byte) int {
	return commandHeaderSize + int(binary.LittleEndian.Uint32(b))
}

func commandType(b []byte) CommandType {
	return CommandType(binary.LittleEndian.Uint16(b[4:]))
}

// checksum returns the CRC-32C of a command, whose own field counts as zero.
//
// linux/fs/btrfs/send.c: send_cmd calls crc32c with seed 0 and without final
// inversion, while crc32.Update inverts on the way in and out.
func checksum(command []byte) uint32 {
	crc := crc32.Update(^uint32(0), castagnoli, command[:6])
	crc = crc32.Update(crc, castagnoli, zeroCRC)
	return ^crc32.Update(crc, castagnoli, command[commandHeaderSize:])
}

// seal writes the length and the checksum into the header of a command.
func seal(command []byte) {
	binary.LittleEndian.PutUint32(command, uint32(len(command)-commandHeaderSize))
	binary.LittleEndian.PutUint32(command[6:], checksum(command))
}

// Header gives the beginning of a stream.
func Header(protocol int) []byte {
	return binary.LittleEndian.AppendUint32([]byte(magic), uint32(protocol))
}

// AppendCommand appends a command whose attributes are encoded.
func AppendCommand(to []byte, t CommandType, attributes []byte) []byte {
	begin := len(to)
	to = binary.LittleEndian.AppendUint32(to, uint32(len(attributes)))
	to = binary.LittleEndian.AppendUint16(to, uint16(t))
	to = append(append(to, zeroCRC...), attributes...)
	seal(to[begin:])
	return to
}

// AppendAttr appends an encoded attribute. It is not for data, which has no length since protocol 2.
func AppendAttr(to []byte, t AttrType, value []byte) []byte {
	to = binary.LittleEndian.AppendUint16(to, uint16(t))
	to = binary.LittleEndian.AppendUint16(to, uint16(len(value)))
	return append(to, value...)
}
