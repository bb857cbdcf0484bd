// Package restore brings subvolumes back from their backups, on whatever machines both lie.
package restore

import (
	"context"
	"errors"

	"btrfs-backup/internal/host"
)

// An Order tells what is to be restored, and where.
type Order struct {
	From   host.Trees
	Backup string // absolute path, there
	To     host.Trees
	Target string // absolute path, there

	InPlace        bool   // the target is there, and gives its place up
	SnapshotFolder string // of the target, to which it is relative unless it is absolute; "": the usual one
	LeaveNested    bool   // subvolumes in the target stay in what gives its place up
	RebootNeeded   bool   // the target may be the root of the running system
}

// Run restores a subvolume.
func Run(context.Context, Order) error { return errors.New("whole subvolumes cannot be restored yet") }
