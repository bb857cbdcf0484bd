package walk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// ExplainMissing makes the error of a missing path another one where a symbolic link leads nowhere: no directory can be made there.
func ExplainMissing(err error, path string) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for {
		if target, linkErr := os.Readlink(path); linkErr == nil {
			if _, statErr := os.Stat(path); !errors.Is(statErr, fs.ErrNotExist) {
				return err
			}
			return hint.New(fmt.Errorf("%s is a symbolic link to %s, which is missing", path, target), "is its disk mounted?")
		} else if !errors.Is(linkErr, fs.ErrNotExist) || path == filepath.Dir(path) {
			return err
		}
		path = filepath.Dir(path)
	}
}
