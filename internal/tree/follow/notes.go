package follow

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"io"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

// Notes are what Copy read of files, sorted by inode. In a file, each is the inode and the time of the last change in nanoseconds,
// both in 64 bits, little endian, the digest, and 1 if that is one of a sparse file, else 0.
type Notes []note

type note struct {
	inode   uint64
	changed int64
	sha256  manifest.Digest
	sparse  bool
}

const noteSize = 8 + 8 + len(manifest.Digest{}) + 1

func noteOf(e *manifest.Entry) note { return note{inode: e.Inode, changed: nanoseconds(e.ChangeTime)} }

func nanoseconds(t manifest.Time) int64 { return t.Sec*1e9 + int64(t.Nsec) }

func (n note) compare(with note) int {
	return cmp.Or(cmp.Compare(n.inode, with.inode), cmp.Compare(n.changed, with.changed))
}

func (n note) write(to io.Writer) error {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, noteSize), n.inode)
	b = binary.LittleEndian.AppendUint64(b, uint64(n.changed))
	b = append(b, n.sha256[:]...)
	if b = append(b, 0); n.sparse {
		b[noteSize-1] = 1
	}
	_, err := to.Write(b)
	return err
}

// ReadNotes reads what Copy wrote.
func ReadNotes(from io.Reader) (Notes, error) {
	var notes Notes
	in := bufio.NewReader(from)
	for b := [noteSize]byte{}; ; {
		if _, err := io.ReadFull(in, b[:]); err == io.EOF || err == io.ErrUnexpectedEOF { // a part is of no use
			break
		} else if err != nil {
			return nil, err
		}
		notes = append(notes, note{
			inode:   binary.LittleEndian.Uint64(b[:]),
			changed: int64(binary.LittleEndian.Uint64(b[8:])),
			sha256:  manifest.Digest(b[16:]),
			sparse:  b[noteSize-1] == 1,
		})
	}
	slices.SortFunc(notes, note.compare)
	return notes, nil
}

// Find gives the digest of a file, and whether it is one of a sparse file, if the file has not changed since it was read.
func (n Notes) Find(e *manifest.Entry) (sum manifest.Digest, sparse, ok bool) {
	i, ok := slices.BinarySearchFunc(n, noteOf(e), note.compare)
	if ok {
		sum, sparse = n[i].sha256, n[i].sparse
	}
	return sum, sparse, ok
}
