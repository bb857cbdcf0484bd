package survey

import (
	"bytes"
	"fmt"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

const (
	// holeUnit is what holes begin and end at: the smallest block of btrfs.
	holeUnit = 4 << 10
	// minHole is the smallest hole that is worth the entries in the tree that it takes.
	minHole = 64 << 10
	// maxHoles is how many are made in one file. More make it slow.
	maxHoles = 1 << 16
)

// A zeroFinder finds long runs of zeros in a file, of whose content it is told from the start to the end, but for its holes.
type zeroFinder struct {
	runs  []zeros
	start int64 // of the zeros before at
	at    int64 // how far it has come
}

// zeros are bytes of a file that are 0, from start to end.
type zeros struct{ start, end int64 }

var zeroUnit [holeUnit]byte

func (z *zeroFinder) add(at int64, content []byte) {
	if at != z.at {
		z.end()
		z.start, z.at = at, at
	}
	for len(content) > 0 {
		n := min(int(holeUnit-z.at%holeUnit), len(content))
		if !bytes.Equal(content[:n], zeroUnit[:]) { // the rest of a unit at the end of the file never becomes a hole
			z.end()
			z.start = z.at + int64(n)
		}
		z.at += int64(n)
		content = content[n:]
	}
}

func (z *zeroFinder) end() {
	if z.at-z.start >= minHole && len(z.runs) < maxHoles {
		z.runs = append(z.runs, zeros{z.start, z.at})
	}
}

// found gives the runs that are to be holes, at the end of the file.
func (z *zeroFinder) found() []zeros {
	z.end()
	return z.runs
}

// punch makes holes of zeros in a file that was just copied, and gives the time of its change if there was anything to do. The
// kernel changes the file's time with it, which is put right, and takes its capabilities: one that has any stays as it is.
func punch(f *walk.File, runs []zeros) (changed manifest.Time, err error) {
	if len(runs) == 0 || f.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		return changed, nil
	}
	if _, err := unix.Lgetxattr(f.NoFollowPath(), "security.capability", nil); err != unix.ENODATA {
		return changed, nil
	}
	fd, err := f.Open(unix.O_WRONLY | unix.O_NONBLOCK)
	if err != nil {
		return changed, nil // it is complete as it is
	}
	defer unix.Close(fd)
	some := false
	for _, r := range runs {
		if data, err := unix.Seek(fd, r.start, unix.SEEK_DATA); err != nil || data >= r.end {
			continue // there is a hole
		}
		if unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.start, r.end-r.start) == nil {
			some = true
		}
	}
	if !some {
		return changed, nil
	}
	if err := f.SetModTime(f.ModTime); err != nil {
		return changed, fmt.Errorf("setting its time: %w", err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return manifest.TimeOf(st.Ctim), err
}
