package lock

import (
	"os"
	"path/filepath"
)

// StateDir is the directory in which this machine remembers runs and destinations. $XDG_STATE_HOME counts for root, too.
func StateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "btrfs-backup")
	}
	if home, err := os.UserHomeDir(); err == nil && os.Geteuid() != 0 {
		return filepath.Join(home, ".local/state/btrfs-backup")
	}
	return "/var/lib/btrfs-backup"
}
