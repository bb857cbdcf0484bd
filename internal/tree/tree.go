// Package tree keeps dated backups of directory trees in a folder of this machine.
//
// On btrfs a backup is a read-only subvolume, made from a writable snapshot of the one before it. Elsewhere it is a directory in
// which each file that did not change is a hard link to that of the backup before it, its base. Files arrive by other means (rsync)
// in a directory with a hidden name, the partial copy, which Begin prepares and Finish makes a backup: complete, on disk, and then
// renamed. A partial copy that an interrupted run left is resumed.
//
// A backup of this package has a record and a manifest in the folder's state directory, StateDir. Directories without our record
// are never deleted, built upon, or counted. No file of an older backup is ever changed: nothing is written to an
// inode that an older backup shares.
//
// Whoever calls holds the lock of the folder.
package tree

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/index"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/survey"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/verify"
)

// StateDir is the directory in a folder that holds what this program knows about its backups:
//
//	id                    identifies the folder
//	manifests/NAME.zst    what a backup holds (see package manifest)
//	manifests/NAME.json   its Record
//	index                 the contents known, see package dedup
//	unfinished.json       the hidden directories, see unfinished
const StateDir = state.Dir

// A Record tells how a backup came about.
type Record struct {
	Name string `json:"name"`
	Origin
	Started    time.Time `json:"started"`
	Finished   time.Time `json:"finished"`
	Sequence   int64     `json:"sequence,omitempty"`   // see Record.Compare
	Base       string    `json:"base,omitempty"`       // the backup that it was built upon
	Incomplete []string  `json:"incomplete,omitempty"` // the missing files, one message for each, as far as they were counted
	Missing    int       `json:"missing,omitempty"`    // how many messages there were; Incomplete holds the first ones only
	Files      int64     `json:"files"`                // all but directories
	Bytes      int64     `json:"bytes"`                // sum of the sizes of regular files
	Shared     int64     `json:"shared,omitempty"`     // bytes of new files whose content was there already
	Subvolume  string    `json:"subvolume,omitempty"`  // UUID, on btrfs
	Sticky     [][]byte  `json:"sticky,omitempty"`     // paths of sticky directories with attributes
	Version
}

// A Version tells of which snapshot of a subvolume a backup is a copy. It is zero where there is none.
type Version struct {
	Snapshot string    `json:"snapshot,omitempty"` // UUID that tells copies of it
	Compared time.Time `json:"compared,omitzero"`  // when a backup from which this one grew was last compared with its snapshot as a whole
}

// Complete tells that nothing of the source is missing in the backup.
func (r Record) Complete() bool { return r.Missing == 0 }

// Compare orders the backups of a folder as they were finished, whatever its clock was set to: each has a Sequence that is one more
// than the highest that was there. Those of older programs have none; they come before, by name.
func (r Record) Compare(with Record) int {
	return cmp.Or(cmp.Compare(r.Sequence, with.Sequence), strings.Compare(r.Name, with.Name))
}

// A Listing is what a folder holds.
type Listing struct {
	ID        string   // see Folder.Mark; "" for a folder that was never used
	Marked    bool     // it holds StateDir, be it without an ID
	Btrfs     bool     // backups are subvolumes
	Backups   []Record // in the order of Record.Compare: the last one was finished last
	Leftovers []string // names of hidden entries that are partial copies, sorted
	Deleting  []string // hidden names of backups whose deletion began and did not end, sorted: Delete goes on with them
	Others    []string // names of further entries, sorted
	Below     []string // in a folder that was never used: paths of such as hold backups, among the Others and what is in these
	Received  []string // those of the Others that are backups of subvolumes, sorted
	Free      uint64   // bytes that an ordinary user can still write
}

// OpenOptions are what must hold of a folder.
type OpenOptions struct {
	MountPoint string // absolute: it must be a mount point, and the folder must be on the filesystem mounted there; "" for anything
	Create     bool   // make the folder, and those above it, if it is missing
	Rights     bool   // a folder that was never used must be on a filesystem that keeps owners and modes
}

// An Order describes a backup that is to be made.
type Order struct {
	Name   string // of the backup to be; it must be free
	Base   string // the backup to build upon, "" for none
	Origin        // of which a partial copy is resumed
	// Full tells that a file of the base cannot take as many names as it would get. The partial copy is as it was then.
	Full bool
	// OnlyChanges makes no backup, but ErrUnchanged, of what equals a base of the same origin that is as complete.
	OnlyChanges bool
	// Snapshot is the absolute path of a directory on the machine of the folder, or "". If it is a subvolume on the folder's
	// filesystem, the backup is a snapshot of it.
	Snapshot string
}

// Work is a partial copy that is ready to be copied into.
type Work struct {
	Path      string // absolute
	Subvolume bool   // backups are subvolumes
	LinkDest  string // absolute path of the backup whose unchanged files are to be linked; "" for none
	InPlace   bool   // unchanged blocks stay shared with the older backup only if changes are written in place
	Resumed   bool   // it is a partial copy that an interrupted run left
	Filled    bool   // it is a snapshot: nothing is to be copied
	// Sticky are the paths of sticky directories with attributes in the base, with which rsync needs help.
	Sticky [][]byte
	// Nanoseconds tells that the filesystem keeps times to the nanosecond.
	Nanoseconds bool
	// Checksum asks for contents to be compared: the machine was not shut down well since the interrupted run, so that sizes
	// and times do not prove that the data arrived on disk.
	Checksum bool
}

// A Result describes a partial copy that is complete.
type Result struct {
	Name string
	Base string // as in the Order
	Origin
	Started     time.Time
	InPlace     bool     // as in the Work: rsync wrote zeros where there were to be holes
	Incomplete  []string // see Record
	Missing     int
	OnlyChanges bool // as in the Order
	Of          Version
	Grew        bool // out of the base, see Folder.Grow: all but what was copied is known
	MaxDelete   int  // percent of the base's files that may be gone; 100 for any number
	Dedup       bool
	Original    Original `cbor:"-"` // with which the copy is compared; never by order of another machine
}

// A TooManyGoneError is the refusal to make a backup in which too many files of its base are gone.
type TooManyGoneError struct {
	Base      string
	Gone, Had int64
	Percent   int // allowed
}

// Errors of opening a folder.
var (
	// ErrNotMounted is the refusal of a folder that does not lie on the filesystem that it should.
	ErrNotMounted = errors.New("not mounted")
	// ErrNoLinks is the refusal of a filesystem that has neither subvolumes nor hard links.
	ErrNoLinks = errors.New("the filesystem has no hard links")
	// ErrUnchanged tells that no backup was made, since the base holds the same.
	ErrUnchanged = errors.New("nothing changed since the last backup")
	// ErrNoManifest tells that a directory has no manifest to be verified by.
	ErrNoManifest = errors.New("it has no manifest")
)

// What the rooms of this package tell is told under its name.
type (
	VerifyOptions  = verify.Options
	Difference     = verify.Difference
	DifferenceKind = verify.Kind
	Verified       = verify.Verified
	Basis          = verify.Basis
	Part           = verify.Part
	Damage         = verify.Damage

	ManifestOptions = verify.ManifestOptions
	Indexed         = index.Indexed
	Original        = survey.Original
)

// IndexOptions tell how the index of contents is made anew.
type IndexOptions struct {
	Progress func(bytes int64) // is told of bytes that were read; may be nil
}

// What is told of subvolumes, and of what is stored.
const (
	ByManifest = verify.ByManifest
	ByMaking   = verify.ByMaking
	ByReading  = verify.ByReading
	Altered    = verify.Altered
	Missing    = verify.Missing
	Damaged    = verify.Damaged
)

// CompareManifests compares two trees by their manifests; see verify.Manifests.
func CompareManifests(ctx context.Context, want, got io.ReadSeeker, o ManifestOptions, found func(Difference)) (Verified, manifest.Digest, error) {
	return verify.Manifests(ctx, want, got, o, found)
}

// ParsePart reads a part such as 1/30; see verify.ParsePart.
func ParsePart(text string, day time.Time) (Part, error) { return verify.ParsePart(text, day) }

// CopyingBegins gives the time for Original.Began.
func CopyingBegins() time.Time { return survey.CopyingBegins() }
