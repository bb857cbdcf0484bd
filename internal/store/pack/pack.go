// Package pack compresses parts of streams, several at a time, in little memory.
package pack

import (
	"cmp"
	"io"

	"github.com/klauspost/compress/zstd"
)

// idle are encoders that are not in use. Each has several MiB, so that they are not left to the collector.
var idle = make(chan *zstd.Encoder, 2)

func encoder() *zstd.Encoder {
	select {
	case e := <-idle:
		return e
	default:
	}
	// with less memory it would copy more, and take a third more time
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(false))
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return e
}

// Compress writes a frame of zstd, and gives the memory of the buffer back meanwhile.
func Compress(w io.Writer, plain *Buffer) error {
	e := encoder()
	e.Reset(w)
	err := plain.eat(func(piece []byte, _ bool) error {
		_, err := e.Write(piece)
		return err
	})
	err = cmp.Or(err, e.Close())
	select {
	case idle <- e:
	default:
	}
	return err
}

// Raw writes a frame of zstd that is not compressed, and gives the memory of the buffer back meanwhile. RFC 8878, section 3.1.1
func Raw(w io.Writer, plain *Buffer) error {
	const (
		magic      = "\x28\xb5\x2f\xfd"
		descriptor = 0         // no content size, no checksum, a window follows
		window     = 7 << 3    // 128 KiB: 10 + 7 bits
		mostBlock  = 128 << 10 // bytes
		lastBlock  = 1         // bit 0 of a block's header; bits 1 and 2: a raw block
	)
	if _, err := w.Write([]byte(magic + string([]byte{descriptor, window}))); err != nil {
		return err
	}
	return plain.eat(func(piece []byte, last bool) error {
		for more := true; more; {
			block := piece[:min(len(piece), mostBlock)]
			piece = piece[len(block):]
			more = len(piece) > 0
			header := uint32(len(block)) << 3
			if last && !more {
				header |= lastBlock
			}
			if _, err := w.Write([]byte{byte(header), byte(header >> 8), byte(header >> 16)}); err != nil {
				return err
			}
			if _, err := w.Write(block); err != nil {
				return err
			}
		}
		return nil
	})
}
