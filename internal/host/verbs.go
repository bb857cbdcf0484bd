package host

import (
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/transport/wire"
)

// The verbs of the agent, with what is asked and what is answered. A directory is named by its path and its place in every
// call, so that a call means the same after a reconnection.
const (
	verbFormat  = "format"  // nothing -> sendstream.Format
	verbOpen    = "open"    // string -> Status
	verbMkdir   = "mkdir"   // string
	verbList    = "list"    // dirName -> listReply
	verbLock    = "lock"    // lockCall -> lock ID (uint64); a lock.HeldError is a notice
	verbUnlock  = "unlock"  // lock ID
	verbNested  = "nested"  // dirName -> []Nested
	verbTake    = "take"    // takeCall -> btrfs.Subvolume
	verbDelete  = "delete"  // deleteCall -> deleteReply
	verbSend    = "send"    // sendCall -> sendstream.Summary; a streamName is a notice
	verbMeasure = "measure" // sendCall -> int64
	verbReceive = "receive" // receiveCall -> receiveReply
	verbClose   = "close"   // streamName -> btrfs.Subvolume
	verbCommit  = "commit"  // commitCall
	verbAbort   = "abort"   // abortCall
	verbLedger  = "ledger"  // ledgerCall
	verbLink    = "link"    // linkCall
	verbSync    = "sync"    // dirName
)

// dirName names a directory that was opened before; with no Place, one that was not.
type dirName struct {
	Path  string
	Place btrfs.Place
}

type listReply struct {
	Status  Status
	Content Content // without InDirectory
	In      []int   // the indexes in Content.All of those in the directory
}

type lockCall struct {
	Dir  dirName
	Wait bool
}

type takeCall struct {
	Dir    dirName
	Source string
	UUID   btrfs.UUID
	Name   string
}

type deleteCall struct {
	Dir     dirName
	Names   []string
	Options DeleteOptions
}

type deleteReply struct {
	Deleted []string
	Failure *wire.Error // of those not deleted
}

type sendCall struct {
	Dir         dirName
	Order       SendOrder
	Compression wire.Compression
}

// streamName is where sessions that carry a stream find it, and proves that they may.
type streamName struct {
	Address string
	Secret  string
}

type receiveCall struct {
	Dir   dirName
	Order ReceiveOrder
	// Again is the stream of this run that was interrupted. It is taken over even if its connection seems to stand.
	Again streamName
}

type receiveReply struct {
	Stream streamName
	Taken  sendstream.Prefix
}

type commitCall struct {
	Dir    dirName
	Name   string
	UUID   btrfs.UUID // of the subvolume
	Origin btrfs.UUID
	Stream streamName
}

type abortCall struct {
	Dir    dirName
	Name   string
	Stream streamName
}

type ledgerCall struct {
	Dir     dirName
	Content []byte
}

type linkCall struct {
	Dir          dirName
	Name, Target string
}

// greeting is this program's part of the hello. With a stream, the session carries that instead of calls.
type greeting struct {
	Join         streamName
	ResumeWindow time.Duration // the longest that the caller wants a transfer to be kept
}
