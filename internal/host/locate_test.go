package host_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
)

func TestAPathMeansTheBackupThatItLeadsInto(t *testing.T) {
	btrfstest.RequireRoot(t)
	top, other := btrfstest.New(t, testSize).Dir, btrfstest.NewOther(t, "ext4", testSize).Dir
	folder, source, trees, sets := newDir(t, top, "a folder"), newSubvolume(t, top, "source"), other+"/trees", newDir(t, other, "sets")
	snapshot(t, source, folder+"/20260101-010203")
	check(t, os.Symlink("20260101-010203", folder+"/.latest"))
	check(t, os.Symlink("../source", folder+"/.evil_latest"))
	check(t, os.Symlink("20250101-010203", folder+"/.gone_latest"))
	check(t, os.Symlink("loop", folder+"/loop"))
	check(t, os.Symlink("../a folder/.latest", source+"/link"))
	check(t, os.Symlink(folder, source+"/folder"))
	here := local.New(silent)
	for _, dir := range []string{trees, sets + "/m"} {
		addTree(t, openTrees(t, here, dir), "20260102-010203", "", "file")
	}
	d, err := here.Open(t.Context(), sets)
	check(t, err)
	check(t, d.MakeSet(t.Context(), "20260102-010203", []string{"m"}))
	check(t, d.Close())

	for name, h := range map[string]host.Locator{"local": here, "agent": newAgent(t)} {
		for path, want := range map[string]string{
			folder + "/20260101-010203":           folder + "|20260101-010203|",
			folder + "/20260101-010203/no/such/":  folder + "|20260101-010203|no/such",
			folder + "/.latest/x":                 folder + "|20260101-010203|x",
			source + "/link/x":                    folder + "|20260101-010203|x",
			source + "/folder/20260101-010203":    folder + "|20260101-010203|",
			folder:                                folder + "||",
			source:                                source + "||",
			trees + "//20260102-010203/./file":    trees + "|20260102-010203|file",
			trees + "/":                           trees + "||",
			sets + "/20260102-010203":             sets + "|20260102-010203|",
			sets + "/20260102-010203/m/file":      sets + "/m|20260102-010203|file",
			sets + "/m/20260102-010203/../.././m": sets + "/m||",
			"/":                                   "/||",
		} {
			l, err := h.Locate(t.Context(), path)
			if got := strings.Join([]string{l.Folder, l.Name, l.Within}, "|"); err != nil || got != want {
				t.Errorf("%s: %s is %s, want %s; error: %v", name, path, got, want, err)
			}
			inTrees := l.IsVersion() && strings.HasPrefix(l.Folder, other) && l.Set == nil
			if l.Tree != inTrees || (l.Record != nil) != inTrees || (l.Subvolume.ID != 0) != (l.IsVersion() && l.Folder != sets && !inTrees || path == source || path == "/" && l.Subvolume.ID != 0) {
				t.Errorf("%s: %s is %+v", name, path, l)
			}
		}
		for path, want := range map[string]string{
			folder + "/20260101":               "there is 20260101-010203",
			folder + "/20260101-010204":        "there is 20260101-010203",
			folder + "/.gone_latest":           "there is 20260101-010203",
			sets + "/20260102-010203/n":        "it has m",
			filepath.Join(top, "a", "missing"): "there is a folder",
		} {
			_, err := h.Locate(t.Context(), path)
			if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(hint.Of(err), want) {
				t.Errorf("%s: %s: %v, hint: %s, want %s", name, path, err, hint.Of(err), want)
			}
		}
		for _, path := range []string{folder + "/.evil_latest", folder + "/loop"} {
			if l, err := h.Locate(t.Context(), path); err == nil {
				t.Errorf("%s: %s leads to %+v", name, path, l)
			}
		}
	}
}
