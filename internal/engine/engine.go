// Package engine runs a backup: Run takes a snapshot, sends every destination what it lacks, and prunes both sides; Copy copies
// a directory that no snapshot can be taken of to every destination, and prunes there.
//
// What is done follows from a Plan, made by pure functions from complete listings, and is told in a Report. Snapshots and
// backups are paired by UUID; their names only sort and select. A destination that fails is reported and stops neither the
// snapshot nor the other destinations. Nothing is deleted on a side whose listing or saving failed.
//
// The engine knows its sources and destinations only by interfaces.
package engine

import (
	"context"
	"io"
	"log/slog"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/progress"
	"btrfs-backup/lock"
	"btrfs-backup/retention"
)

// A Folder is a directory of subvolumes: the snapshots of a source, or the backups at a destination.
type Folder interface {
	// String is the name of the folder in messages and in the ledger.
	String() string
	// Open must be called first. A missing folder is created on request, else it is an error.
	Open(ctx context.Context, create bool) error
	// Lock keeps other runs out until release; see lock.Acquire.
	Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error)
	List(ctx context.Context) (btrfs.Listing, error)
	// Delete deletes what it can of the named subvolumes; it gives the names of those deleted, and every failure.
	Delete(ctx context.Context, names []string) (deleted []string, err error)
	// Place identifies the folder.
	Place() btrfs.Place
	// Ledger gives the ledger in the folder, as it was when it was last listed.
	Ledger(ctx context.Context, ours func(name string) bool) (*lock.Ledger, error)
}

// A Source is a subvolume and the folder of its snapshots.
type Source interface {
	Folder
	// Subvolume describes the source itself.
	Subvolume() btrfs.Subvolume
	// Nested gives the paths of the subvolumes in the source, which no snapshot of it holds.
	Nested(ctx context.Context) ([]string, error)
	// Take makes a read-only snapshot in the folder and waits until it is on disk. A name that is taken is fs.ErrExist.
	Take(ctx context.Context, name string) (btrfs.Subvolume, error)
	// Send writes the checked send stream to w. An error of w is returned as a *sendstream.WriteError.
	Send(ctx context.Context, t Transfer, o SendOptions, w io.Writer) error
	// Measure tells how many bytes Send will write.
	Measure(ctx context.Context, t Transfer, f sendstream.Format) (progress.Total, error)
	// WriteLedger replaces the ledger in the folder.
	WriteLedger(ctx context.Context, l *lock.Ledger) error
	// Link makes or replaces the symbolic link of that name in the folder.
	Link(ctx context.Context, name, target string) error
	// Sync waits until the ledger and the link are on disk.
	Sync(ctx context.Context) error
}

// A Destination is a folder that receives send streams.
type Destination interface {
	Folder
	// Accepts gives the best format that the destination understands.
	Accepts(ctx context.Context) (sendstream.Format, error)
	// Origins gives the source subvolume of each received UUID for which it is on record, as of the last listing.
	Origins(ctx context.Context) (map[btrfs.UUID]btrfs.UUID, error)
	// Receive begins to receive a backup. Its final name, that of the snapshot, must be free.
	Receive(ctx context.Context, s Shipment) (Receiver, error)
}

// WriteOnly is a Destination that nobody can list. What it holds is known from the source's ledger alone; nothing is
// verified or deleted there.
type WriteOnly interface{ WriteOnly() }

// SendOptions tell how a snapshot is sent.
type SendOptions struct {
	Format sendstream.Format
	After  sendstream.Prefix // what the receiver has already; see sendstream.NewRemainder
	Wire   func(n int64)     // is told of bytes that cross a network
}

// A Shipment tells a destination what is going to come.
type Shipment struct {
	Transfer
	Format  sendstream.Format
	Measure func(ctx context.Context) (progress.Total, error)
	Wire    func(n int64)
}

// A Receiver takes one send stream. The backup stands under a hidden name until Commit. Close is called only when the whole
// stream was written, or to learn why the receiver ended. Commit or Abort must be called last.
type Receiver interface {
	io.Writer
	// Close ends the stream and describes what was received.
	Close(ctx context.Context) (btrfs.Subvolume, error)
	// Commit puts the backup on disk and then under its final name, and records origin as its source subvolume.
	Commit(ctx context.Context, origin btrfs.UUID) error
	// Abort ends receiving and removes what was received.
	Abort(ctx context.Context) error
}

// A Resumer is a Receiver that outlives a broken connection, and the run that began to send to it.
type Resumer interface {
	// Taken tells what the receiver has of the stream: before the first Write, what an earlier run left; after a Write
	// that failed with transport.ErrDisconnected, once the machine is reached again, where to go on.
	Taken(ctx context.Context) (sendstream.Prefix, error)
}

// A Job is one run.
type Job struct {
	Source       Source
	Destinations []Destination
	Naming       Naming

	KeepSnapshots retention.Policy
	KeepBackups   retention.Policy

	NoSnapshot    bool // work on the snapshots there are
	NoTransfer    bool
	NoIncremental bool // send complete copies, the newest snapshot first
	RemoveLocks   bool // forget what the ledger says of the destinations

	Settings
}

// Settings are those of any run.
type Settings struct {
	NoWait bool // fail at a lock that is held
	DryRun bool // change nothing

	Log      *slog.Logger
	Progress *progress.Display
	Now      func() time.Time
}
