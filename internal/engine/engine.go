// Package engine runs a backup, of whatever kind of source, to whatever kinds of destination.
//
// A source that keeps versions of itself (History) takes a snapshot, and what a destination lacks of all snapshots is saved
// there. Any other source is saved as it stands. Either way a destination saves one version after another, each built upon a
// base that it holds; then both sides are pruned.
//
// A run follows a Plan, made by pure functions from complete listings, and ends with a Report. Snapshots and backups are paired
// by UUID, backups of directories are known by their records; names only sort and select. A destination that fails is reported
// and stops neither the snapshot nor the other destinations. Nothing is deleted on a side whose listing or saving failed.
//
// The engine knows its sources and destinations only by interfaces. What only some can do is an interface of its own, which is
// asked for by assertion.
package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/kin"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/plan"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// A Source is a subvolume or a directory to be backed up.
type Source interface {
	String() string
	// Open must be called first. It makes nothing, and fails unless the source is there and is what it should be.
	Open(ctx context.Context) error
	// Omitted gives the paths in the source that no version of it holds.
	Omitted(ctx context.Context) ([]string, error)
}

// A Part is a Source that may be a directory in a subvolume.
type Part interface {
	// Within gives the subvolume, or "" if there is none, or none is known.
	Within(ctx context.Context) string
}

// A History is a Source that keeps versions of itself: snapshots in a folder.
type History interface {
	Locker
	Deleter
	Linker
	// List gives the snapshots, and what the ledger in their folder says. The ledger may fail alone.
	List(ctx context.Context, ours func(name string) bool) (Snapshots, error)
	// Take makes a read-only snapshot in the folder and waits until it is on disk. A name that is taken is fs.ErrExist. A missing
	// folder is made; it is locked and listed only then.
	Take(ctx context.Context, name string) (btrfs.Subvolume, error)
	// WriteLedger replaces the ledger in the folder, on disk too.
	WriteLedger(ctx context.Context, l *lock.Ledger) error
}

// Snapshots are what a History holds.
type Snapshots struct {
	btrfs.Listing
	Of        btrfs.Subvolume // the source itself
	InUse     map[string]string
	Ledger    *lock.Ledger // nil if it could not be read
	LedgerErr error
	Missing   bool  // the folder is, and so counts as empty
	NoTake    error // why no snapshot can be taken; nil if it may
	ReadOnly  bool  // nothing can be written or deleted in the folder
	// Relayed are the sources that those in the folder are backups of, which are sent on; none: they are snapshots of Of.
	Relayed []btrfs.UUID
}

// A Destination is what versions of one source are saved to. One that is no Lister is known from the source's ledger alone:
// nothing is verified or deleted there.
type Destination interface {
	String() string // its name in messages and in the ledger
	// Save makes a backup of a version, or none. Only the context's end or a lost connection leaves something for a later Save
	// to go on with.
	Save(ctx context.Context, t Transfer) (Result, error)
}

// An Opener is a Destination that must be opened first.
type Opener interface {
	// Open makes nothing, and fails unless the destination is what it should be. One that is missing, and can be made, is
	// fs.ErrNotExist.
	Open(ctx context.Context) error
	// Create makes one that Open found missing, and opens it.
	Create(ctx context.Context) error
}

// A Prospect is an Opener that tells, while it is missing, what it will be.
type Prospect interface {
	Foreseen() Contents
}

// A Checker is a Destination that can tell whether the programs are there that it needs.
type Checker interface {
	CheckPrograms(ctx context.Context) error
}

// A Lister is a Destination that can be looked at.
type Lister interface {
	Locker
	Deleter
	List(ctx context.Context) (Contents, error)
}

// A Locker keeps other runs out until release; see lock.Acquire.
type Locker interface {
	Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error)
}

// A Deleter deletes what it can of the named snapshots or backups; it gives the names of those deleted, and every failure.
type Deleter interface {
	Delete(ctx context.Context, names []string) (deleted []string, err error)
}

// A Linker makes or replaces the symbolic link of that name in its folder, to the newest version, on disk too.
type Linker interface {
	Link(ctx context.Context, name, target string) error
}

// A Rehearser is a Destination that can tell more of a transfer than the plan does, without saving anything.
type Rehearser interface {
	Rehearse(ctx context.Context, t Transfer) (Result, error)
}

// A Keeper is a Destination that can see to it that nobody deletes a backup for a while.
type Keeper interface {
	// LockedUntil gives the end of that time for the backup that a transfer makes; zero: anybody may delete it.
	LockedUntil(t Transfer) time.Time
}

// A Marker is a Destination that has an identity of its own, by which it is told from the place where its disk is mounted.
type Marker interface {
	// Mark gives the identity, a new one if there is none yet.
	Mark(ctx context.Context) (id string, err error)
}

// A Watched source can tell whether it changed since a snapshot of it was taken.
type Watched interface {
	Changed(ctx context.Context, since btrfs.Subvolume) (bool, error)
}

// A Placed source or destination is a directory that is known by more than its path.
type Placed interface {
	// At tells where its folder lies. While that is missing, only its machine and filesystem are known; before Open, nothing.
	At() Position
}

// A Position is where a directory lies. On one machine, it is the same under every path.
type Position struct {
	Machine string // "" for this one
	Empty   bool   // the directory, or the nearest one above it that is there, holds nothing
	btrfs.DirID
}

// An UnmakeableError tells why a folder that is missing cannot be made.
type UnmakeableError struct{ error }

// Unmakeable makes an UnmakeableError.
func Unmakeable(err error) error { return &UnmakeableError{err} }

func (e *UnmakeableError) Unwrap() error { return e.error }

// Contents are what a destination holds.
type Contents struct {
	btrfs.Listing                           // received subvolumes
	Origins       map[btrfs.UUID]btrfs.UUID // of each received UUID for which it is on record, the source subvolume
	Held          map[btrfs.UUID]kin.Held   // what there is of each of these sources

	Chains *plan.Chains // how the received ones build on each other where each is kept as its stream; nil elsewhere

	Recorded []Recorded // of directories, in the order in which they were finished
	Deleting []string   // hidden names of such whose deletion began and did not end
	Taken    []string   // further names that no backup can have
	Foreign  []string   // names of what makes a folder without backups somebody else's
	Received []string   // those of them that are received subvolumes

	InUse    map[string]string // why backups cannot be deleted at present, by name
	MayLive  map[string]string // why the newest backups of other sources stay that this one goes on with, by name
	Identity string            // as Mark gives it; "" if there is none
	Ledger   *lock.Ledger      // of what the backups are sent on to; nil if they never were
	NoPrune  error             // why nothing may be deleted; nil if it may

	Broken error   // which backups are not what they were; these are not listed
	Free   *uint64 // bytes that can still be written; nil: unknown
	// Keeps is the policy by which the destination itself deletes, in the order of arrival.
	Keeps retention.Policy
}

// What is planned is told under the name of this package, too.
type (
	Plan     = plan.Plan
	Transfer = plan.Transfer
	Recorded = plan.Recorded
	Naming   = plan.Naming
	Scheme   = plan.Scheme
)

// NamingOf gives the series that a name belongs to.
func NamingOf(name string) (Naming, bool) { return plan.NamingOf(name) }

// Result tells what a transfer took, and made.
type Result struct {
	Bytes   int64           // of the stream, or of files that were copied
	Wire    int64           // that crossed networks
	Resumed int             // times that it went on after a break
	Kept    bool            // what failed left a part, and a later Save goes on with it
	KeptFor time.Duration   // for how long, if the destination tells; 0: as the run says
	Backup  btrfs.Subvolume // under its final name; zero where it is no subvolume, or the destination cannot be listed
	// Unchanged tells that no backup was made, since the version that it was to build upon is the same.
	Unchanged bool
	// Incomplete names the files of the source that could not be read, and is nil when the backup is complete.
	Incomplete error
}

// A Job is one run.
type Job struct {
	Source       Source
	Destinations []Destination // of that source
	Naming       Naming

	KeepSnapshots retention.Policy
	KeepBackups   retention.Policy
	KeepAt        map[string]retention.Policy // in place of KeepBackups, by destination

	NoSnapshot     bool // work on the snapshots there are
	Manifests      bool // write down what backups hold
	OnlyChanged    bool // take a snapshot only if the source changed since the newest
	NoTransfer     bool
	NoIncremental  bool     // save complete copies, the newest snapshot first
	Forget         bool     // what the ledger says of the destinations
	NewDestination bool     // a destination need not be the one that was used before
	SameFilesystem bool     // a destination may lie on the source's own filesystem
	CleanPartial   bool     // delete what an interrupted btrfs receive left under a final name
	Covered        []string // paths in the source that have backups of their own, or are left out on purpose
	// Automatic tells that the user did not choose a source without History: the source is not a subvolume at present.
	Automatic bool

	Settings
}

// Settings are those of any run.
type Settings struct {
	NoWait bool // fail at a lock that is held
	DryRun bool // change nothing

	Log *slog.Logger
	Now func() time.Time
	// State remembers on this machine what sources and destinations were before, and what was said of them.
	State lock.State
	// Around is what runs before and after phases; nil: nothing.
	Around Around
}

// PlaceName quotes the name of a place that JSON, and so a ledger or a record, could not hold.
func PlaceName(place string) string { return host.PlaceName(place) }
