package wire

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
)

// The data connections carry blocks in one direction and acknowledgements in the other, both big-endian.
//
//	block: offset in the stream uint64, raw length uint32, payload length uint32, flags uint32, payload
//	ack:   taken uint64, arrived uint64, state uint8
//
// A block with flagEnd has no payload, and its offset is the length of the stream. Taken is the offset in the stream up to
// which the receiver has written it; arrived counts what it has received in any order, from the same zero.
const (
	blockHeader = 20
	ackLength   = 17

	flagZstd = 1 << 0
	flagEnd  = 1 << 1

	stateRunning = 0
	stateDone    = 1 // everything is taken, the end included
	stateRefused = 2 // the rest is not wanted
)

const (
	// blockSize is that of a sender's blocks but the last. With its header such a block fills four packets of SSH, and one
	// block of zstd holds it; half or twice that is as fast.
	blockSize  = 128<<10 - blockHeader
	maxBlock   = 256 << 10 // that a receiver takes
	maxAhead   = 32 << 20  // bytes from taken to the end of a block
	maxPending = 1024      // blocks that are not taken, for those who send small ones
)

type header struct {
	offset       uint64
	raw, payload uint32
	flags        uint32
}

func (h header) put(b []byte) {
	binary.BigEndian.PutUint64(b, h.offset)
	binary.BigEndian.PutUint32(b[8:], h.raw)
	binary.BigEndian.PutUint32(b[12:], h.payload)
	binary.BigEndian.PutUint32(b[16:], h.flags)
}

func parseHeader(b []byte) (header, error) {
	h := header{
		offset:  binary.BigEndian.Uint64(b),
		raw:     binary.BigEndian.Uint32(b[8:]),
		payload: binary.BigEndian.Uint32(b[12:]),
		flags:   binary.BigEndian.Uint32(b[16:]),
	}
	switch {
	case h.flags == flagEnd && h.raw == 0 && h.payload == 0:
	case h.raw == 0 || h.raw > maxBlock:
		return h, malformed("a block of %d bytes", h.raw)
	case h.flags == 0 && h.payload == h.raw:
	case h.flags == flagZstd && h.payload > 0 && h.payload < h.raw:
	default:
		return h, malformed("a block of %d bytes in %d with flags %#x", h.raw, h.payload, h.flags)
	}
	return h, nil
}

type ack struct {
	taken, arrived uint64
	state          uint8
}

func (a ack) put(b []byte) {
	binary.BigEndian.PutUint64(b, a.taken)
	binary.BigEndian.PutUint64(b[8:], a.arrived)
	b[16] = a.state
}

func parseAck(b []byte) ack {
	return ack{taken: binary.BigEndian.Uint64(b), arrived: binary.BigEndian.Uint64(b[8:]), state: b[16]}
}

// Compression of a stream on the wire.
type Compression int

const (
	Auto Compression = iota // where it makes the transfer faster
	Zstd
	None
)

var compressions = [...]string{Auto: "auto", Zstd: "zstd", None: "none"}

func (c Compression) String() string { return compressions[c] }

// ParseCompression is the inverse of Compression.String.
func ParseCompression(s string) (Compression, error) {
	for c, name := range compressions {
		if s == name {
			return Compression(c), nil
		}
	}
	return 0, fmt.Errorf("compression %q: not one of %s", s, strings.Join(compressions[:], ", "))
}

// A buffer holds a sender's block with its header.
type buffer [blockHeader + blockSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func newBuffer() *buffer { return buffers.Get().(*buffer) }
