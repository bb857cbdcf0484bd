package protocol

import (
	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/past"
)

// The verbs for what snapshots and backups held.
var (
	Changes  = verb[ChangesCall, Nothing, []changes.Change]("changes", Owner, once) // told piece by piece
	Versions = verb[VersionsCall, []past.Version, Nothing]("versions", Owner, repeatable)
	Manifest = verb[NameCall, Nothing, []byte]("manifest", Owner, once) // as well
)

type ChangesCall struct {
	Dir
	Order host.ChangesOrder
}

type VersionsCall struct {
	Dir
	Order past.Order
}
