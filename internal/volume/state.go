package volume

import (
	"fmt"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// replaceFile writes a file beside the old one, puts it on disk and then in the old one's place. To put the new name on
// disk is left to the caller.
func replaceFile(path string, content []byte) error {
	if err := renameio.WriteFile(path, content, 0o644, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
