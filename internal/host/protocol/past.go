package protocol

import (
	"btrfs-backup/internal/changes"
	"btrfs-backup/internal/host"
)

// The verbs for what snapshots and backups held.
var (
	Changes  = verb[ChangesCall, Nothing, []changes.Change]("changes", Owner, once) // told piece by piece
	Manifest = verb[TreeCall, Nothing, []byte]("manifest", Owner, once)             // as well
)

type ChangesCall struct {
	Dir
	Order host.ChangesOrder
}
