package walk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

func TestALinkThatLeadsNowhereIsNotMissing(t *testing.T) {
	top := t.TempDir()
	for name, target := range map[string]string{"nowhere": "gone", "here": top} {
		if err := os.Symlink(target, filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, missing := range map[string]bool{"nowhere": false, "nowhere/within": false, "here/new": true, "here/nowhere/x": false, "new": true, "new/within": true} {
		path = filepath.Join(top, path)
		_, err := os.Stat(path)
		err = ExplainMissing(err, path)
		if got := errors.Is(err, fs.ErrNotExist); err == nil || got != missing || hint.Of(err) == "" != missing {
			t.Errorf("%s: %v", path, err)
		}
	}
}
