// Package protocol is what the two ends of an agent's connection say to each other: the verbs, each declared once with the types
// of what is asked and answered, and errors in the form in which they travel.
//
// A directory is named by its path and its place in every call, so that a call means the same after a reconnection.
package protocol

import (
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// The verbs for directories of subvolumes. What they do is what the methods of host.Host and host.Dir do.
var (
	Format  = verb[Nothing, sendstream.Format, Nothing]("format", Any, repeatable)
	Open    = verb[Dir, host.Status, Nothing]("open", Any, repeatable)
	Mkdir   = verb[string, Nothing, Nothing]("mkdir", Any, once)
	List    = verb[Dir, ListReply, Nothing]("list", Any, repeatable)
	Lock    = verb[LockCall, LockReply, lock.HeldError]("lock", Any, once)
	Unlock  = verb[uint64, Nothing, Nothing]("unlock", Any, once)
	Nested  = verb[Dir, []host.Nested, Nothing]("nested", Source, repeatable)
	Changed = verb[ChangedCall, bool, Nothing]("changed", Source, repeatable)
	Rmdir   = verb[RmdirCall, Nothing, Nothing]("rmdir", Source, once)
	Take    = verb[TakeCall, btrfs.Subvolume, Nothing]("take", Source, once)
	Delete  = verb[DeleteCall, DeleteReply, Nothing]("delete", Any, once)
	Send    = verb[SendCall, sendstream.Summary, StreamName]("send", Source, once) // sessions are to join the stream
	Measure = verb[SendCall, int64, Nothing]("measure", Source, repeatable)
	Receive = verb[ReceiveCall, ReceiveReply, Nothing]("receive", Destination, once)
	Close   = verb[StreamName, btrfs.Subvolume, Nothing]("close", Destination, once)
	Commit  = verb[CommitCall, Nothing, Nothing]("commit", Destination, repeatable)
	Abort   = verb[AbortCall, Nothing, Nothing]("abort", Destination, once)
	Ledger  = verb[LedgerCall, Nothing, Nothing]("ledger", Source, repeatable)
	Link    = verb[LinkCall, Nothing, Nothing]("link", Any, repeatable)

	ListSets   = verb[Dir, []host.Set, Nothing]("list-sets", Any, repeatable)
	MakeSet    = verb[MakeSetCall, Nothing, Nothing]("make-set", Destination, repeatable)
	RemoveSets = verb[RemoveSetsCall, DeleteReply, Nothing]("remove-sets", Destination, once)
)

// Dir names a directory that was opened before; with no DirID, one that was not.
type Dir struct {
	Path  string
	DirID btrfs.DirID
}

// In gives the directory that a call is about.
func (d Dir) In() Dir { return d }

// NameCall is about what has a name in a directory.
type NameCall struct {
	Dir
	Name string
}

type ListReply struct {
	Status  host.Status
	Content host.Content // without what it lists
	Listing Listing
}

type LockCall struct {
	Dir
	Wait bool
	List bool // when it is locked
}

type LockReply struct {
	ID     uint64 // for Unlock
	Listed ListReply
}

type ChangedCall struct {
	Dir
	Since  btrfs.Subvolume
	Except uint64
}

type TakeCall struct {
	Dir
	Source string
	UUID   btrfs.UUID
	Name   string
}

type RmdirCall struct {
	Dir
	Remove string
}

type DeleteCall struct {
	Dir
	Names   []string
	Options host.DeleteOptions
}

type DeleteReply struct {
	Deleted []string
	Failure *wire.Error // of those not deleted
}

// NewDeleteReply packs what Delete gives.
func NewDeleteReply(deleted []string, err error) DeleteReply {
	r := DeleteReply{Deleted: deleted}
	if err != nil {
		r.Failure, _ = ToWire(err).(*wire.Error)
	}
	return r
}

// Unpack gives what Delete gave there.
func (r DeleteReply) Unpack() (deleted []string, err error) {
	if r.Failure != nil {
		err = FromWire(r.Failure)
	}
	return r.Deleted, err
}

type SendCall struct {
	Dir
	Order       host.SendOrder
	Compression wire.Compression
}

// StreamName is where sessions that carry a stream find it, and proves that they may.
type StreamName struct {
	Address string
	Secret  string
}

type ReceiveCall struct {
	Dir
	Order host.ReceiveOrder
	// Again is the stream of this run that was interrupted. It is taken over even if its connection seems to stand.
	Again StreamName
}

type ReceiveReply struct {
	Stream  StreamName
	Taken   sendstream.Prefix
	Warning string // for the user; "": none
}

type CommitCall struct {
	Dir
	Name   string
	UUID   btrfs.UUID // of the subvolume
	Origin host.Origin
	Stream StreamName
}

type AbortCall struct {
	Dir
	Name   string
	Stream StreamName
}

type LedgerCall struct {
	Dir
	Content []byte
}

type LinkCall struct {
	Dir
	Name, Target string
}

type MakeSetCall struct {
	Dir
	Name    string
	Members []string
}

type RemoveSetsCall struct {
	Dir
	Names []string
}

// Greeting is this program's part of the hello. With a stream, the session carries that instead of calls.
type Greeting struct {
	Join         StreamName
	ResumeWindow time.Duration // the longest that an interrupted transfer is to wait for the caller
}

// GoAhead is sent by the holder of a stream when a session has joined: nothing of the stream may come before, where another
// process would read it.
const GoAhead = 1
