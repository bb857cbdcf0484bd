package protocol

import (
	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/replace"
)

// The verbs for bringing subvolumes back. What they do is what the methods of host.Restorer do.
var (
	Relatives = verb[RelativesCall, ListReply, Nothing]("relatives", Owner, repeatable)
	Replace   = verb[ReplaceCall, replace.Report, Nothing]("replace", Owner, once)
)

type RelativesCall struct {
	Dir
	Of []btrfs.UUID
}

type ReplaceCall struct {
	Dir
	Order replace.Order
}
