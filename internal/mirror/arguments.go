package mirror

import (
	"math"
	"strconv"

	"github.com/btrfs-backup/btrfs-backup/internal/tree"

	"golang.org/x/time/rate"
)

// defaults are rsync's options unless the user gives others. --one-file-system is added.
var defaults = []string{"--archive", "--hard-links", "--acls", "--xattrs", "--numeric-ids", "--delete", "--delete-excluded"}

// notOfTheRoot is what a copy of the root directory leaves out: filesystems that only show the kernel's state, those of other
// disks, and temporary files. The directories themselves stay, to be mounted on.
var notOfTheRoot = []string{"/dev/*", "/proc/*", "/sys/*", "/run/*", "/tmp/*", "/var/tmp/*", "/mnt/*", "/media/*", "/lost+found"}

// arguments gives rsync's options for a copy of the source. What the safety of older backups rests on stands behind the user's
// options, and so overrides them.
func (o Options) arguments(source *Source, first, own []string) []string {
	args := append([]string{}, first...)
	if o.Rsync == nil {
		args = append(args, defaults...)
		if !source.MultiFS {
			args = append(args, "--one-file-system")
		}
	}
	args = append(args, o.Rsync...)
	args = append(args, o.Filters...)
	if o.Rsync == nil && source.host != nil && source.path == "/" {
		for _, pattern := range notOfTheRoot {
			args = append(args, "--exclude="+pattern)
		}
	}
	args = append(args, own...)
	if o.Limit > 0 {
		args = append(args, "--bwlimit="+kibibytes(o.Limit))
	}
	args = append(args, "--no-human-readable", "--stats")
	if o.Progress != nil {
		args = append(args, "--info=progress2")
	}
	return args
}

// kibibytes gives a limit as rsync takes it: whole ones per second (rsync/options.c: OPT_BWLIMIT), where 0 would be none.
func kibibytes(limit rate.Limit) string {
	return strconv.FormatFloat(max(1, math.Round(float64(limit)/1024)), 'f', 0, 64)
}

// asRoot keeps rsync from deleting the attributes in which xfs shows ACLs to root, and so the ACLs (tried: rsync 3.5, Linux
// 6.18). With a rule for attributes, rsync's own rule to leave system.* alone must be given too (rsync/xattrs.c: rsync_xal_get).
// Without the modifiers s and r, --delete-excluded would have them deleted all the same.
var asRoot = []string{"--filter=-xsr trusted.SGI_ACL_*", "--filter=-xsr system.*"}

// withoutProperties leaves out those of btrfs, such as how a file is compressed, where no other filesystem can have them.
const withoutProperties = "--filter=-xsr btrfs.*"

// nanoseconds makes rsync compare times to the nanosecond: else it takes what changed within a second for unchanged if the size
// is the same. Where the destination cannot hold such times, everything would seem to have changed.
const nanoseconds = "--modify-window=-1"

// sparse makes holes of zeros, where rsync writes files anew. Told to change them in place, too, rsync 3.2 leaves the old content
// where zeros end a file, and takes that for success (https://github.com/RsyncProject/rsync/issues/450).
const sparse = "--sparse"

// fillingOptions make rsync fill a directory in the way that it was prepared for.
func fillingOptions(w tree.Work) []string {
	var options []string
	if w.InPlace {
		options = append(options, "--inplace", "--no-whole-file")
	} else {
		options = append(options, "--no-inplace", "--no-append", "--partial")
	}
	if w.LinkDest != "" {
		options = append(options, "--link-dest="+w.LinkDest)
	}
	if w.Checksum {
		options = append(options, "--checksum")
	}
	return options
}
