// Package protocol is what the two ends of an agent's connection say to each other.
package protocol

import (
	"fmt"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/host"
	"btrfs-backup/transport/wire"
)

// The verbs of the agent, with what is asked and what is answered. A directory is named by its path and its place in every
// call, so that a call means the same after a reconnection.
const (
	VerbFormat  = "format"  // nothing -> sendstream.Format
	VerbOpen    = "open"    // string -> Status
	VerbMkdir   = "mkdir"   // string
	VerbList    = "list"    // DirName -> ListReply
	VerbLock    = "lock"    // LockCall -> lock ID (uint64); a lock.HeldError is a notice
	VerbUnlock  = "unlock"  // lock ID
	VerbNested  = "nested"  // DirName -> []Nested
	VerbTake    = "take"    // TakeCall -> btrfs.Subvolume
	VerbDelete  = "delete"  // DeleteCall -> DeleteReply
	VerbSend    = "send"    // SendCall -> sendstream.Summary; a StreamName is a notice
	VerbMeasure = "measure" // SendCall -> int64
	VerbReceive = "receive" // ReceiveCall -> ReceiveReply
	VerbClose   = "close"   // StreamName -> btrfs.Subvolume
	VerbCommit  = "commit"  // CommitCall
	VerbAbort   = "abort"   // AbortCall
	VerbLedger  = "ledger"  // LedgerCall
	VerbLink    = "link"    // LinkCall
	VerbSync    = "sync"    // DirName
)

// DirName names a directory that was opened before; with no Place, one that was not.
type DirName struct {
	Path  string
	Place btrfs.Place
}

type ListReply struct {
	Status  host.Status
	Content host.Content // without InDirectory
	In      []int        // the indexes in Content.All of those in the directory
}

type LockCall struct {
	Dir  DirName
	Wait bool
}

type TakeCall struct {
	Dir    DirName
	Source string
	UUID   btrfs.UUID
	Name   string
}

type DeleteCall struct {
	Dir     DirName
	Names   []string
	Options host.DeleteOptions
}

type DeleteReply struct {
	Deleted []string
	Failure *wire.Error // of those not deleted
}

type SendCall struct {
	Dir         DirName
	Order       host.SendOrder
	Compression wire.Compression
}

// StreamName is where sessions that carry a stream find it, and proves that they may.
type StreamName struct {
	Address string
	Secret  string
}

type ReceiveCall struct {
	Dir   DirName
	Order host.ReceiveOrder
	// Again is the stream of this run that was interrupted. It is taken over even if its connection seems to stand.
	Again StreamName
}

type ReceiveReply struct {
	Stream StreamName
	Taken  sendstream.Prefix
}

type CommitCall struct {
	Dir    DirName
	Name   string
	UUID   btrfs.UUID // of the subvolume
	Origin btrfs.UUID
	Stream StreamName
}

type AbortCall struct {
	Dir    DirName
	Name   string
	Stream StreamName
}

type LedgerCall struct {
	Dir     DirName
	Content []byte
}

type LinkCall struct {
	Dir          DirName
	Name, Target string
}

// Greeting is this program's part of the hello. With a stream, the session carries that instead of calls.
type Greeting struct {
	Join         StreamName
	ResumeWindow time.Duration // the longest that an interrupted transfer is to wait for the caller
}

// GoAhead is sent by the holder of a stream when a session has joined: nothing of the stream may come before, where another
// process would read it.
const GoAhead = 1

// UnknownVerb is what agents of any version say of a verb of a later one. The text is a part of the protocol.
func UnknownVerb(verb string) string { return fmt.Sprintf("the verb %q is not known here", verb) }
