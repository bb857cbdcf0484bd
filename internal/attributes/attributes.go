// Package attributes keeps what chattr(1) sets of files and no send stream holds: C, i, a, m, A, S, D and d.
//
// A source tells what of a snapshot has them or, of an increment, whose differ from those in the parent, found in the blocks that were
// written since. A folder of backups keeps them by the inodes of the received subvolume: an increment has those of its base, wherever
// files were moved to. They are given by path again.
package attributes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"github.com/klauspost/compress/zstd"
)

// A File has flags that are not the usual ones; in an increment, they may be none.
type File struct {
	Path  string // from the root of the subvolume, which is "."
	Flags btrfs.Flags
}

// A List tells of the files of a subvolume.
type List struct {
	Since bool // only those that differ from the parent's
	Files []File
	// LeftOut is how many have but the flag that they are not compressed, which the kernel itself gives to what does not become smaller.
	LeftOut int
}

const (
	mostFiles   = 1 << 20
	mostPath    = 4095 // linux/limits.h: PATH_MAX with its NUL
	mostEncoded = 8 << 20
	mostDecoded = 256 << 20
	// mostNoCompress is how many files may have that flag alone before it is taken for the kernel's.
	mostNoCompress = 10000
	magic          = "attributes 1\n"
)

// errMalformed is the error of what is no list.
var errMalformed = errors.New("the list of attributes is malformed")

// without leaves out what the kernel gave flags to.
func (l List) limited() List {
	isUnused := func(f File) bool { return f.Flags == btrfs.NoCompressFlag }
	n := 0
	for _, f := range l.Files {
		if isUnused(f) {
			n++
		}
	}
	if n > mostNoCompress {
		l.Files, l.LeftOut = slices.DeleteFunc(slices.Clone(l.Files), isUnused), n
	}
	return l
}

// Encode gives the form that travels.
func (l List) Encode() ([]byte, error) {
	l = l.limited()
	if len(l.Files) > mostFiles {
		return nil, fmt.Errorf("%d files have attributes of chattr, more than %d", len(l.Files), mostFiles)
	}
	b := append([]byte(magic), boolByte(l.Since))
	b = binary.AppendUvarint(b, uint64(l.LeftOut))
	for _, f := range l.Files {
		b = binary.AppendUvarint(b, uint64(f.Flags))
		b = binary.AppendUvarint(b, uint64(len(f.Path)))
		b = append(b, f.Path...)
	}
	encoded, err := compress(b)
	if err == nil && len(encoded) > mostEncoded {
		err = fmt.Errorf("the attributes of %d files take more than %d bytes", len(l.Files), mostEncoded)
	}
	return encoded, err
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Decode reads what Encode made, and refuses what is no list of paths below a directory.
func Decode(encoded []byte) (l List, err error) {
	content, err := decompress(encoded)
	if err != nil {
		return l, err
	}
	rest, ok := bytes.CutPrefix(content, []byte(magic))
	if !ok || len(rest) == 0 {
		return l, errMalformed
	}
	r := bytes.NewReader(rest[1:])
	l.Since = rest[0] == 1
	left, err := binary.ReadUvarint(r)
	if err != nil {
		return l, errMalformed
	}
	l.LeftOut = int(min(left, 1<<40))
	for r.Len() > 0 {
		flags, flagsErr := binary.ReadUvarint(r)
		length, lengthErr := binary.ReadUvarint(r)
		if flagsErr != nil || lengthErr != nil || length > mostPath || int(length) > r.Len() || len(l.Files) >= mostFiles {
			return List{}, errMalformed
		}
		path := make([]byte, length)
		_, _ = io.ReadFull(r, path) // of which there is enough
		if !isLocal(string(path)) {
			return List{}, errMalformed
		}
		l.Files = append(l.Files, File{string(path), btrfs.Flags(flags) & btrfs.KnownFlags})
	}
	return l, nil
}

// isLocal tells a path that does not lead out, and is the only one of what it names.
func isLocal(path string) bool {
	if path == "." {
		return true
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return !strings.Contains(path, "\x00")
}

func compress(b []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return w.EncodeAll(b, nil), nil
}

func decompress(b []byte) ([]byte, error) {
	if len(b) > mostEncoded {
		return nil, errMalformed
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(mostDecoded))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := r.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return content, nil
}
