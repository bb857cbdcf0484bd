package protocol

import "github.com/btrfs-backup/btrfs-backup/internal/host"

// Locate does what the method of host.Locator does.
var Locate = verb[string, host.Location, Nothing]("locate", Owner, repeatable)
