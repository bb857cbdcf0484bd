package verify

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// series makes four backups that differ in little.
func (p *pair) series() {
	p.Helper()
	unlike := func(name string) []byte { return bytes.Repeat([]byte(name+" differs "), 100_000/len(name+" differs ")) }
	for _, name := range []string{"a", "b", "c", "d"} {
		check(p, os.MkdirAll(p.source+"/dir", 0o755))
		check(p, os.WriteFile(p.source+"/dir/"+name, unlike(name), 0o644))
	}
	p.send("1", "")
	check(p, os.WriteFile(p.source+"/dir/a", unlike("A"), 0o644))
	check(p, os.Rename(p.source+"/dir", p.source+"/renamed"))
	p.send("2", "1")
	check(p, os.WriteFile(p.source+"/renamed/b", unlike("B"), 0o644))
	p.send("3", "2")
}

// read gives how much of each backup was read, in units of a file of the series, and what differs.
func read(all []Result) (files, differences []string) {
	for _, r := range all {
		files = append(files, filepath.Base(r.Backup)+" "+strings.Repeat("*", int(r.Bytes/90_000)))
		for _, d := range r.Differences {
			differences = append(differences, filepath.Base(r.Backup)+"/"+d.Path+" "+string(d.Kind))
		}
	}
	return files, differences
}

func TestWhatBackupsShareIsReadOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.series()
	folder := []Place{placeOf(p.folder)}
	for _, oldest := range []string{"1 ****", "1 *"} { // a manifest is made, for which what was renamed is read, and then used
		all, err := Folders(t.Context(), folder, Options{}, &collector{})
		check(t, err)
		files, differences := read(all)
		p.want(differences)
		p.want(files, "3 *****", "2 *", oldest)
	}
	p.send("4", "3")
	all, err := Backups(t.Context(), []Place{placeOf(p.folder + "/4")}, Options{Fast: true}, &collector{})
	check(t, err)
	if r := all[0]; r.Read != Changes || r.Since != "3" || r.Bytes > 50_000 || r.Basis != tree.ByMaking {
		t.Errorf("since a verified one: %+v", r)
	}
	all, err = Backups(t.Context(), []Place{placeOf(p.folder + "/4")}, Options{Fast: true}, &collector{})
	check(t, err)
	if r := all[0]; r.Since != "4" || r.Bytes != 0 {
		t.Errorf("once more: %+v", r)
	}
}

func TestDamageIsToldOfAllThatShareIt(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.series()
	_, err := Backups(t.Context(), []Place{placeOf(p.folder + "/1"), placeOf(p.folder + "/2")}, Options{}, &collector{})
	check(t, err)
	btrfstest.Damage(t, p.folder+"/1/dir/c", 4096)
	btrfstest.DropCaches(t, p.folder+"/2/renamed/c", p.folder+"/3/renamed/c")
	all, err := Backups(t.Context(), []Place{placeOf(p.folder + "/3")}, Options{}, &collector{})
	check(t, err)
	_, differences := read(all)
	p.want(differences, "3/renamed/c damaged")
	if d := all[0].Differences[0].Damage; d.Offset != 4096 || d.Length != 4096 || !slices.Equal(d.Shared, []string{"1/dir/c", "2/renamed/c"}) {
		t.Errorf("it is %+v", d)
	}
	const line = "damaged      renamed/c (at 4096, 4096 bytes, as in 1/dir/c, 2/renamed/c)"
	if got := Line(all[0].Differences[0]); got != line {
		t.Errorf("told as %q", got)
	}
	p.send("4", "3")
	all, err = Backups(t.Context(), []Place{placeOf(p.folder + "/4"), placeOf(p.folder + "/3")}, Options{Fast: true}, &collector{})
	check(t, err)
	_, differences = read(all)
	p.want(differences, "4/renamed/c damaged", "3/renamed/c damaged") // those that share it are no base, and no record of damage goes unread
	all, err = Folders(t.Context(), []Place{placeOf(p.folder)}, Options{}, &collector{})
	check(t, err)
	files, differences := read(all)
	p.want(differences, "4/renamed/c damaged", "3/renamed/c damaged", "2/renamed/c damaged", "1/dir/c damaged")
	p.want(files, "4 *****", "3 *", "2 **", "1 **") // only what is damaged is read again
}

func TestABackupIsComparedWithItsSnapshotByManifests(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	btrfstest.Populate(t, p.source, 1)
	p.send("1", "")
	var c collector
	r := Against(t.Context(), placeOf(p.folder+"/1"), placeOf(p.snapshots+"/1"), &c)
	p.want(c.lines)
	if r.Failure != nil || r.Files == 0 || r.Digest == "" {
		t.Errorf("%+v", r)
	}
	btrfstest.Damage(t, p.folder+"/1/files/large", 8192)
	p.flip(p.folder+"/1", func() { check(t, os.Remove(p.folder+"/1/files/empty")) })
	c = collector{}
	r = Against(t.Context(), placeOf(p.folder+"/1"), placeOf(p.snapshots+"/1"), &c)
	p.want(c.lines, "files/large damaged", "files time", "files/empty missing")
	if !Differs([]Result{r}) {
		t.Errorf("%+v", r)
	}
	p.send("2", "")
	btrfstest.Damage(t, p.snapshots+"/2/files/large", 8192)
	r = Against(t.Context(), placeOf(p.folder+"/2"), placeOf(p.snapshots+"/2"), &collector{})
	if len(r.Differences) != 1 || !strings.HasSuffix(Line(r.Differences[0]), ") in "+p.snapshots+"/2") || !strings.HasPrefix(WayOn([]Result{r}), "it is "+p.snapshots) {
		t.Errorf("of damage of the original is told %+v, %s", r, WayOn([]Result{r}))
	}
}

func TestMembersOfASetAreVerifiedAndADirectoryIsComparedAsItIsNow(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	const name = "20260101-000000"
	p.send(name, "")
	above := filepath.Dir(p.folder)
	d, err := here().Open(t.Context(), above)
	check(t, err)
	check(t, d.MakeSet(t.Context(), name, []string{"folder"}))
	check(t, d.Close())
	for _, verify := range []func() ([]Result, error){
		func() ([]Result, error) {
			return Backups(t.Context(), []Place{placeOf(above + "/" + name)}, Options{}, &collector{})
		},
		func() ([]Result, error) {
			return Folders(t.Context(), []Place{placeOf(above)}, Options{}, &collector{})
		},
	} {
		all, err := verify()
		if err != nil || len(all) != 1 || all[0].Failure != nil || all[0].Bytes == 0 {
			t.Errorf("%+v, %v", all, err)
		}
	}
	check(t, os.Rename(p.folder+"/"+name, p.folder+"/other"))
	all, err := Folders(t.Context(), []Place{placeOf(above)}, Options{}, &collector{})
	if err != nil || len(all) != 2 || all[0].Failure == nil || all[0].Backup != p.folder+"/"+name || all[1].Failure != nil {
		t.Errorf("of a set that lacks a backup came %+v, %v", all, err)
	}
	live := t.TempDir() + "/live" // where inode numbers are small, as those that btrfs gives to what is no file
	check(t, os.Mkdir(live, 0o755))
	btrfstest.Run(t, "mount", "-t", "tmpfs", "none", live)
	defer btrfstest.Unmount(t, live)
	check(t, os.MkdirAll(live+"/first/below", 0o755))
	btrfstest.Run(t, "cp", "-a", live+"/first", above+"/copy")
	var c collector
	r := Against(t.Context(), placeOf(above+"/copy"), placeOf(live+"/first"), &c)
	p.want(c.lines)
	p.write(live+"/first/below/new", "new")
	Against(t.Context(), placeOf(above+"/copy"), placeOf(live+"/first"), &c)
	if r.Failure != nil || !slices.Contains(c.lines, "below/new missing") {
		t.Errorf("%q, %+v", c.lines, r)
	}
}

func TestAFolderThatCannotBeVerifiedStopsNoOther(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.send("1", "")
	above := filepath.Dir(p.folder)
	gone := placeOf(above + "/gone")
	all, err := Backups(t.Context(), []Place{placeOf(gone.Path + "/1"), placeOf(p.folder + "/1")}, Options{}, &collector{})
	if err != nil || len(all) != 2 || all[0].Failure == nil || all[1].Failure != nil || all[1].Files == 0 {
		t.Errorf("of backups came %+v, %v", all, err)
	}
	check(t, os.MkdirAll(above+"/empty/.btrfs-backup", 0o755))
	all, err = Folders(t.Context(), []Place{gone, placeOf(above)}, Options{}, &collector{})
	if err != nil || len(all) != 2 || all[0].Failure == nil || all[1].Backup != p.folder+"/1" || all[1].Failure != nil {
		t.Errorf("of folders came %+v, %v", all, err)
	}
	if all, _ = Folders(t.Context(), []Place{placeOf(above + "/empty")}, Options{}, &collector{}); len(all) != 1 || all[0].Failure == nil {
		t.Errorf("that nothing was verified is not told: %+v", all)
	}
}

func TestWhatWasNotReadIsToldWithTheReason(t *testing.T) {
	for since, want := range map[string]string{"b": "contents were verified before, and not read", "a": "(the rest was verified in a)"} {
		if told := (Result{Backup: "/mnt/b", Read: Changes, Since: since}).Summary(); !strings.Contains(told, want) {
			t.Errorf("since %s: %s", since, told)
		}
	}
}
