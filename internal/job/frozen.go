package job

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// Contains tells that a path lies below a directory.
func Contains(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != "." && filepath.IsLocal(rel)
}

// IncompleteBy refuses what a failed transfer left, and tells what is missing after one that was not complete, by the status of rsync in
// a variable.
func IncompleteBy(variable string) (incomplete string, err error) {
	switch status := os.Getenv(variable); status {
	case "", "0", "24": // vanished files are normal
		return "", nil
	case "23":
		return "the transfer was not complete: rsync ended with status 23", nil
	default:
		return "", hint.New(fmt.Errorf("the transfer failed ($%s is %s): no backup is made", variable, status),
			"the next transfer puts it right; see the daemon's log for the reason")
	}
}
