package protocol

import (
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// The verbs for what is on record of backups. What they do is what the methods of host.Records and host.TreeRecords do.
var (
	Continue      = verb[ContinueCall, Nothing, Nothing]("continue", Owner, repeatable)
	ContinueTrees = verb[ContinueTreesCall, Nothing, Nothing]("continue-trees", Owner, repeatable)
)

type ContinueCall struct {
	Dir
	Continuation host.Continuation
}

type ContinueTreesCall struct {
	Dir
	Source tree.Origin
	Older  []tree.Origin
}
