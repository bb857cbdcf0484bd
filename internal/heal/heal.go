// Package heal finds what cannot be read of a backup on this machine any more, and puts good data in its place.
//
// There are two ways. A block is put back on the device: it is written where the damaged one lies, and only if it has the checksum
// that the filesystem expects, so that nothing can become worse. All that share the block are whole again, and no metadata
// change. Where that cannot be done, an extent is rewritten: every backup that shares it is replaced by a snapshot of it with the good
// data. A backup stands under its name at any moment, as it was or healed.
//
// Metadata are not healed, and neither is data without a checksum, of which nobody can tell whether it is good.
package heal

import (
	"errors"
	"slices"
)

// A Way is how damage is healed.
type Way string

const (
	PutBack Way = "block"  // the good block goes back to its place on the device
	Rewrite Way = "extent" // the extent is written anew, and shared by all backups that had the old one
	NoWay   Way = ""
)

// Damage is a part of a file that cannot be read.
type Damage struct {
	File   string `json:"file"` // path in the backup; of a directory, if Metadata
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`

	Way    Way      `json:"way"`
	Why    string   `json:"why,omitempty"` // there is no way, or not the first one
	Copies []Copy   `json:"copies,omitempty"`
	Shared []string `json:"shared,omitempty"` // paths of other files on the filesystem with the same damage

	Metadata   bool   `json:"metadata,omitempty"`
	Compressed string `json:"compressed,omitempty"` // by what; "": not
}

// A Copy is a place of a device that does not hold what it should.
type Copy struct {
	Device string `json:"device"`
	Offset int64  `json:"offset"` // from the beginning of the device
	Length int64  `json:"length"`
}

// A Piece is what a file holds somewhere.
type Piece struct {
	File    string
	Offset  int64
	Length  int64
	Data    []byte
	Encoded bool // as it is on the disk, compressed
}

// MaxPiece is how long a piece is at most: what a compressed extent holds. linux/btrfs.h: BTRFS_MAX_UNCOMPRESSED
const MaxPiece = 128 << 10

// Searched is what was read to find damage.
type Searched struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes_read"`
}

// A Rewritten backup has the good data. One that is left has not, and shares the old extent still.
type Rewritten struct {
	Backups []string `json:"backups"`
	Left    []Left   `json:"left,omitempty"`
}

// Left is a subvolume that was not healed.
type Left struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// Errors of healing.
var (
	// ErrWrongSource tells that what a source holds is not what was backed up. Nothing was written.
	ErrWrongSource = errors.New("the source has other data there: nothing was written")
	// ErrNoDeviceWrite tells that the kernel lets nobody write to the device of a mounted filesystem.
	ErrNoDeviceWrite = errors.New("the kernel allows no writing to the device")
	// ErrRelocating tells that data is being moved.
	ErrRelocating = errors.New("data is being moved to other places")
)

// Add adds what else was done. A backup can be rewritten more than once.
func (r *Rewritten) Add(more Rewritten) {
	for _, b := range more.Backups {
		if !r.Has(b) {
			r.Backups = append(r.Backups, b)
		}
	}
	for _, l := range more.Left {
		if !slices.Contains(r.Left, l) {
			r.Left = append(r.Left, l)
		}
	}
}

// Has tells that a backup was rewritten.
func (r *Rewritten) Has(backup string) bool { return slices.Contains(r.Backups, backup) }
