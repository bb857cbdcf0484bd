package volume

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// replaceFile writes a file beside the old one, puts it on disk and then in the old one's place.
func replaceFile(path string, content []byte) error {
	directory := filepath.Dir(path)
	if err := renameio.WriteFile(path, content, 0o644, renameio.WithTempDir(directory)); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	dir, err := os.Open(directory)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync() // the new name too
}
