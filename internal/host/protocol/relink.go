package protocol

import "github.com/btrfs-backup/btrfs-backup/internal/relink"

// Relink does what the method of host.Relinker does.
var Relink = verb[RelinkCall, Nothing, Nothing]("relink", Owner, once)

type RelinkCall struct {
	Dir
	Order relink.Order
}
