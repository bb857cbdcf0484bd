package protocol

import (
	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// The verbs for single files of backups. What they do is what the methods of host.Loose and host.Unpacking do.
var (
	FindFiles   = verb[SelectCall, []files.Found, Nothing]("find-files", Owner, repeatable)
	PackFiles   = verb[SelectCall, files.Packed, PackNotice]("pack-files", Owner, once)
	PlaceFiles  = verb[OrderCall, []files.Placed, Nothing]("place-files", Owner, repeatable)
	UnpackFiles = verb[OrderCall, uint64, Nothing]("unpack-files", Owner, once) // the reply is for the two that follow
	UnpackBatch = verb[UnpackBatchCall, Nothing, Nothing]("unpack-batch", Owner, once)
	UnpackEnd   = verb[UnpackEndCall, CopyFilesReply, Nothing]("unpack-end", Owner, once)
	CopyFiles   = verb[CopyFilesCall, CopyFilesReply, CopyFilesNotice]("copy-files", Owner, once)
)

type SelectCall struct {
	Dir
	Selection files.Selection
}

// PackNotice tells how many bytes there are, or the next records.
type PackNotice struct {
	Total   int64
	Records []files.Record
}

type OrderCall struct {
	Dir
	Order  files.Order
	Placed []files.Placed
}

type UnpackBatchCall struct {
	ID      uint64
	Number  uint64 // batches are taken in the order of their numbers, which begin with 0
	Records []files.Record
}

type UnpackEndCall struct {
	ID       uint64
	Complete bool
}

type CopyFilesCall struct {
	Dir
	Selection files.Selection
	To        host.FilesTarget
}

// CopyFilesReply is what was done, also of what failed in the end.
type CopyFilesReply struct {
	Packed  files.Packed
	Report  files.Report
	Failure *wire.Error
}

// CopyFilesNotice tells how far it is, in bytes.
type CopyFilesNotice struct{ Done, Total int64 }

// Fail adds what failed.
func (r CopyFilesReply) Fail(err error) CopyFilesReply {
	if err != nil {
		r.Failure, _ = ToWire(err).(*wire.Error)
	}
	return r
}

// Err is what failed.
func (r CopyFilesReply) Err() error {
	if r.Failure == nil {
		return nil
	}
	return FromWire(r.Failure)
}
