package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

const setName = "20260101-000000"

// setFolder is a directory with the folders of members, each of which has a backup of that name.
func setFolder(t *testing.T, members ...string) (*Dir, string) {
	dir := t.TempDir()
	for _, m := range members {
		btrfstest.Check(t, os.MkdirAll(filepath.Join(dir, m, setName), 0o755))
	}
	return open(t, newHost(), dir), dir
}

// listed tells the sets in a directory.
func listed(t *testing.T, d *Dir) string {
	t.Helper()
	sets, err := d.ListSets(t.Context())
	btrfstest.Check(t, err)
	return fmt.Sprint(sets)
}

func TestASetLinksToTheBackupsOfItsMembers(t *testing.T) {
	d, dir := setFolder(t, "root", "data")
	for range 2 { // the second time, it is there
		btrfstest.Check(t, d.MakeSet(t.Context(), setName, []string{"root", "data"}))
	}
	if got, want := listed(t, d), "[{"+setName+" [data root] []}]"; got != want {
		t.Errorf("listed as %s, want %s", got, want)
	}
	if got, err := os.Readlink(filepath.Join(dir, setName, "root")); got != "../root/"+setName {
		t.Errorf("root leads to %q, %v", got, err)
	}
	btrfstest.Check(t, os.Remove(filepath.Join(dir, "root", setName)))
	if got, want := listed(t, d), "[{"+setName+" [data root] [root]}]"; got != want {
		t.Errorf("without the backup of a member: %s, want %s", got, want)
	}
	removed, err := d.RemoveSets(t.Context(), []string{setName, "20260102-000000"})
	if !errors.Is(err, errNotSet) || fmt.Sprint(removed) != "["+setName+"]" || listed(t, d) != "[]" {
		t.Errorf("removed %v, %v; left %s", removed, err, listed(t, d))
	}
	if _, err := os.Stat(filepath.Join(dir, "data", setName)); err != nil {
		t.Errorf("the backup went with it: %v", err)
	}
}

func TestASetIsNotMadeOfWhatIsNotThere(t *testing.T) {
	d, dir := setFolder(t, "root")
	btrfstest.Check(t, os.Symlink("root", filepath.Join(dir, "link")))
	btrfstest.Check(t, os.Symlink("/", filepath.Join(dir, "root", "20260102-000000")))
	for _, c := range []struct{ name, members string }{
		{setName, "root data"}, {setName, "link"}, {setName, ""}, {"20260102-000000", "root"},
		{setName, "../" + filepath.Base(dir) + "/root"}, {"../x", "root"}, {".hidden", "root"}, {"root", "root"}, {"a/b", "root"}, {setName, ".btrfs-backup"},
	} {
		if err := d.MakeSet(t.Context(), c.name, strings.Fields(c.members)); err == nil {
			t.Errorf("%s of %q is made", c.name, c.members)
		}
	}
	if got := listed(t, d); got != "[]" {
		t.Errorf("there are %s", got)
	}
}

func TestWhatIsNoSetIsNeitherListedNorReplacedNorRemoved(t *testing.T) {
	d, dir := setFolder(t, "root", "data")
	make := func(entry, link, target string) {
		btrfstest.Check(t, os.MkdirAll(filepath.Join(dir, entry), 0o755))
		if link != "" {
			btrfstest.Check(t, os.Symlink(target, filepath.Join(dir, entry, link)))
		}
	}
	others := []string{setName, "20260102-000000", "20260103-000000", "20260104-000000", ".20260105-000000.incoming"}
	make(setName, "root", "../data/"+setName)
	make(others[1], "", "")
	make(others[2], "root", "/root/"+others[2])
	make(others[3], "root", "../root/"+others[3])
	btrfstest.Check(t, os.WriteFile(filepath.Join(dir, others[3], "file"), nil, 0o600))
	make(others[4]+"/sub", "", "")
	if got := listed(t, d); got != "[]" {
		t.Errorf("listed: %s", got)
	}
	if removed, err := d.RemoveSets(t.Context(), others); err == nil || removed != nil {
		t.Errorf("removed %v", removed)
	}
	if err := d.MakeSet(t.Context(), setName, []string{"root", "data"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("something else is replaced: %v", err)
	}
	for _, name := range others {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatWasLeftUnfinishedIsFinishedOrRemoved(t *testing.T) {
	d, dir := setFolder(t, "root", "data")
	begun, ended := "."+setName+".incoming", "."+setName+".deleting"
	for _, hidden := range []string{begun, ended} {
		btrfstest.Check(t, os.Mkdir(filepath.Join(dir, hidden), 0o755))
		btrfstest.Check(t, os.Symlink("../root/"+setName, filepath.Join(dir, hidden, "root")))
	}
	if got, want := listed(t, d), "[{"+ended+" [root] []} {"+begun+" [root] []}]"; got != want {
		t.Errorf("listed: %s, want %s", got, want)
	}
	btrfstest.Check(t, d.MakeSet(t.Context(), setName, []string{"root", "data"}))
	removed, err := d.RemoveSets(t.Context(), []string{ended})
	if err != nil || len(removed) != 1 || listed(t, d) != "[{"+setName+" [data root] []}]" {
		t.Errorf("%v, %v, left %s", removed, err, listed(t, d))
	}
	btrfstest.Check(t, os.Mkdir(filepath.Join(dir, ended), 0o755))
	if removed, err := d.RemoveSets(t.Context(), []string{setName}); err != nil || len(removed) != 1 || listed(t, d) != "[]" {
		t.Errorf("%v, %v, left %s", removed, err, listed(t, d))
	}
}
