package sendstream_test

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// The encoder below shares nothing with the package, so that both cannot be
// wrong in the same way.

var le = binary.LittleEndian

// stream returns a send stream of the given commands.
func stream(protocol uint32, commands ...[]byte) []byte {
	out := le.AppendUint32([]byte("btrfs-stream\x00"), protocol)
	return append(out, slices.Concat(commands...)...)
}

// command returns a command with attributes of which the last may be data of
// protocol 2, see attr2.
func command(cmd uint16, attrs ...[]byte) []byte {
	body := slices.Concat(attrs...)
	out := le.AppendUint32(nil, uint32(len(body)))
	out = le.AppendUint16(out, cmd)
	out = le.AppendUint32(out, 0)
	out = append(out, body...)
	le.PutUint32(out[6:], rawCRC32C(out))
	return out
}

// rawCRC32C is the kernel's crc32c(0, b), which inverts neither at the start
// nor at the end.
func rawCRC32C(b []byte) uint32 {
	return ^crc32.Update(^uint32(0), crc32.MakeTable(crc32.Castagnoli), b)
}

func attr(t uint16, value []byte) []byte {
	out := le.AppendUint16(nil, t)
	out = le.AppendUint16(out, uint16(len(value)))
	return append(out, value...)
}

// attr2 encodes data as protocol 2 does, without length.
func attr2(data []byte) []byte {
	return append(le.AppendUint16(nil, 19), data...)
}

func u64(t uint16, v uint64) []byte { return attr(t, le.AppendUint64(nil, v)) }

func path(p string) []byte { return attr(15, []byte(p)) }

var (
	testUUID   = []byte("0123456789abcdef")
	parentUUID = []byte("fedcba9876543210")

	subvol   = command(1, path("home"), attr(1, testUUID), u64(2, 42))
	snapshot = command(2, path("home"), attr(1, testUUID), u64(2, 42), attr(20, parentUUID), u64(21, 41))
	end      = command(21)
)

// small returns a short but complete stream of protocol 1.
func small() []byte {
	return stream(1,
		snapshot,
		command(3, path("o257-8-0"), u64(3, 257)),
		command(9, path("o257-8-0"), attr(16, []byte("f"))),
		command(15, path("f"), u64(18, 0), attr(19, []byte("some data"))),
		command(20, path("f"), attr(11, make([]byte, 12))),
		end)
}
