package receive

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zstd"
)

// decompress gives what compressed data holds. What follows it, up to the end of its last sector, is of no meaning; what it does not hold
// of its length is zeros (linux/fs/btrfs/compression.c).
func decompress(e btrfs.Encoded) ([]byte, error) {
	whole := make([]byte, e.Whole)
	kind, known := e.Compression()
	var err error
	switch {
	case !known:
		return nil, fmt.Errorf("data that is compressed in way %d is not known", e.Encoding)
	case kind == btrfs.Uncompressed:
		copy(whole, e.Data)
	case kind == btrfs.Zlib:
		var from io.Reader
		if from, err = zlib.NewReader(bytes.NewReader(e.Data)); err == nil {
			err = fill(whole, from)
		}
	case kind == btrfs.Zstd:
		var from *zstd.Decoder
		from, err = zstd.NewReader(bytes.NewReader(e.Data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(8<<20))
		if err == nil {
			err = fill(whole, from)
			from.Close()
		}
	case kind == btrfs.LZO:
		err = fillLZO(whole, e.Data, e.Sector())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: data compressed by %v: %w", sendstream.ErrCorrupt, kind, err)
	}
	return whole, nil
}

func fill(whole []byte, from io.Reader) error {
	n, err := io.ReadFull(from, whole)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || n > 0 && errors.Is(err, zstd.ErrMagicMismatch) { // in what follows
		err = nil
	}
	return err
}

// fillLZO reads segments, each of at most a sector, behind the length of them all. A length never crosses the end of a sector
// (linux/fs/btrfs/lzo.c).
func fillLZO(whole, data []byte, sector int) (err error) {
	defer func() { // the library trusts lengths in the data
		if recover() != nil {
			err = sendstream.ErrCorrupt
		}
	}()
	const header = 4
	if len(data) < header {
		return io.ErrUnexpectedEOF
	}
	end := int(binary.LittleEndian.Uint32(data))
	if end > len(data) {
		return io.ErrUnexpectedEOF
	}
	for at, to := header, 0; at < end && to < len(whole); to += sector {
		if left := sector - at%sector; left < header {
			at += left
		}
		if at+header > end {
			return io.ErrUnexpectedEOF
		}
		size := int(binary.LittleEndian.Uint32(data[at:]))
		if at += header; size > end-at {
			return io.ErrUnexpectedEOF
		}
		if _, err := lzo.Decompress(data[at:at+size], whole[to:min(to+sector, len(whole))]); err != nil {
			return err
		}
		at += size
	}
	return nil
}
