package protocol

import (
	"btrfs-backup/internal/changes"
	"btrfs-backup/internal/host"
)

// The verbs for what snapshots and backups held.
var Changes = verb[ChangesCall, Nothing, []changes.Change]("changes", Owner, once) // told piece by piece

type ChangesCall struct {
	Dir
	Order host.ChangesOrder
}
