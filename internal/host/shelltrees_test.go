package host_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

// treeShells are machines without the program on which trees are kept.
var treeShells = []struct {
	name, sh string
	sudo     bool
}{
	{"dash", "dash", false}, {"busybox", "busybox", false}, {"dash with sudo", "dash", true}, {"busybox with sudo", "busybox", true},
}

// eachShellFolder runs a test on folders of trees of machines without the program.
func eachShellFolder(t *testing.T, test func(t *testing.T, h host.Trees, d host.TreeDir, folder string)) {
	btrfstest.RequireRoot(t)
	tops := map[string]string{"btrfs": btrfstest.New(t, testSize).Dir, "ext4": btrfstest.NewOther(t, "ext4", testSize).Dir}
	for _, fsType := range []string{"btrfs", "ext4"} {
		for _, shell := range []struct {
			sh   string
			sudo bool
		}{{"dash", true}, {"busybox", false}} {
			t.Run(shell.sh+" on "+fsType, func(t *testing.T) {
				h, folder := newShell(t, shell.sh, shell.sudo), filepath.Join(tops[fsType], shell.sh, "folder")
				test(t, h, openTrees(t, h, folder), folder)
			})
		}
	}
}

func beginTree(t testing.TB, d host.TreeDir, name, base string) tree.Work {
	t.Helper()
	w, err := d.BeginTree(t.Context(), tree.Order{Name: name, Base: base, Source: "here"})
	check(t, err)
	return w
}

func finishTree(t testing.TB, d host.TreeDir, name, base string) tree.Record {
	t.Helper()
	record, err := d.FinishTree(t.Context(), result(name, base), nil)
	check(t, err)
	return record
}

func listTrees(t testing.TB, d host.TreeDir) tree.Listing {
	t.Helper()
	l, err := d.ListTrees(t.Context())
	check(t, err)
	return l
}

func backups(l tree.Listing) (names []string) {
	for _, r := range l.Backups {
		names = append(names, r.Name)
	}
	return names
}

// fill makes files that hold their own names, some with several names, and what is neither file nor directory.
func fill(t testing.TB, dir string) {
	t.Helper()
	check(t, os.MkdirAll(dir+"/a/b", 0o755))
	for _, name := range append([]string{"one", "a/two", "a/b/three"}, oddNames...) {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644))
	}
	check(t, os.Link(dir+"/one", dir+"/a/one again"))
	check(t, os.Link(dir+"/one", dir+"/"+oddNames[4]+" again"))
	check(t, os.Symlink("/nowhere", dir+"/a/link"))
	check(t, os.Link(dir+"/a/link", dir+"/a/link again"))
	check(t, unix.Mkfifo(dir+"/a/fifo", 0o600))
}

// facts are all that can be seen of a tree, but for the number of links, by path.
func facts(t testing.TB, root string) map[string]string {
	t.Helper()
	seen := make(map[string]string)
	check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		check(t, unix.Lstat(path, &st))
		var content []byte
		if d.Type().IsRegular() {
			content, err = os.ReadFile(path)
		}
		seen[path] = fmt.Sprintf("inode %d mode %o owner %d:%d time %v content %q", st.Ino, st.Mode, st.Uid, st.Gid, st.Mtim, content)
		return err
	}))
	return seen
}

func unchanged(t testing.TB, before map[string]string, root string) {
	t.Helper()
	if after := facts(t, root); !maps.Equal(before, after) {
		t.Errorf("%s was\n%q\nand is\n%q", root, before, after)
	}
}

// several gives the names of files with several.
func several(t testing.TB, root string) (paths []string) {
	t.Helper()
	check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		check(t, unix.Lstat(path, &st))
		if !d.IsDir() && st.Nlink > 1 {
			paths = append(paths, path)
		}
		return err
	}))
	return paths
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestAMachineWithoutTheProgramMayGetItLater(t *testing.T) {
	eachShellFolder(t, func(t *testing.T, _ host.Trees, shell host.TreeDir, folder string) {
		local := openTrees(t, host.NewLocal(silent), folder)
		dirs := []host.TreeDir{shell, local, shell, local}
		id, err := shell.MarkTrees(t.Context())
		check(t, err)
		if again, err := local.MarkTrees(t.Context()); err != nil || again != id {
			t.Errorf("the identity is %q and %q, %v", id, again, err)
		}
		base := ""
		for i, d := range dirs {
			name := fmt.Sprintf("2026010%d-000000", i+1)
			w := beginTree(t, d, name+"x", base)
			check(t, os.WriteFile(w.Path+"/of "+name, nil, 0o644))
			check(t, d.KeepTree(t.Context(), name+"x"))
			other := dirs[(i+1)%2]
			w = beginTree(t, other, name, base)
			if !w.Resumed || w.Checksum || !exists(w.Path+"/of "+name) {
				t.Errorf("the other one goes on with %+v", w)
			}
			fill(t, filepath.Join(w.Path, name))
			finishTree(t, d, name, base)
			base = name
			if a, b := listTrees(t, shell), listTrees(t, local); !sameListing(t, a, b) || len(a.Backups) != i+1 {
				t.Errorf("the listings are\n%+v\n%+v", a, b)
			}
		}
		for i, d := range dirs {
			name := fmt.Sprintf("2026010%d-000000", i+1)
			if deleted, err := d.DeleteTrees(t.Context(), []string{name}); err != nil || len(deleted) != 1 || exists(folder+"/"+name) {
				t.Errorf("deleting %s: %q, %v", name, deleted, err)
			}
		}
		wantNames(t, folder, tree.StateDir)
	})
}

func sameListing(t testing.TB, a, b tree.Listing) bool {
	t.Helper()
	a.Free, b.Free = 0, 0
	one, err := json.Marshal(a)
	check(t, err)
	other, err := json.Marshal(b)
	check(t, err)
	return string(one) == string(other)
}

// rsync changes modes and owners in place, and on btrfs contents.
func TestRsyncCannotChangeAnOlderBackupThroughAShell(t *testing.T) {
	eachShellFolder(t, func(t *testing.T, _ host.Trees, d host.TreeDir, folder string) {
		fill(t, beginTree(t, d, "b1", "").Path)
		finishTree(t, d, "b1", "")
		before, outside := facts(t, folder+"/b1"), t.TempDir()
		fill(t, outside)
		for range 2 { // made anew, and gone on with
			w := beginTree(t, d, "b2", "b1")
			if got := several(t, w.Path); len(got) > 0 {
				t.Errorf("%q have several names", got)
			}
			if w.Subvolume && !exists(w.Path+"/one") && !exists(w.Path+"/a/one again") && !exists(w.Path+"/"+oddNames[4]+" again") {
				t.Error("nothing is left of a file with several names")
			}
			check(t, filepath.WalkDir(w.Path, func(path string, d fs.DirEntry, err error) error {
				check(t, os.Lchown(path, 1234, 1234))
				if d.Type().IsRegular() {
					check(t, os.WriteFile(path, []byte("changed"), 0o600))
				}
				return err
			}))
			if !w.Subvolume {
				linkTree(t, folder+"/b1", w.Path)
			}
			check(t, os.RemoveAll(w.Path+"/out"))
			check(t, os.Symlink(outside, w.Path+"/out"))
		}
		outsideBefore := facts(t, outside)
		beginTree(t, d, "b3", "b1")
		unchanged(t, before, folder+"/b1")
		unchanged(t, outsideBefore, outside)
		if len(several(t, outside)) == 0 {
			t.Error("links were removed through a symbolic link")
		}
	})
}

// linkTree links files as rsync --link-dest does.
func linkTree(t testing.TB, from, to string) {
	t.Helper()
	check(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if target := to + strings.TrimPrefix(path, from); d.IsDir() {
			check(t, os.MkdirAll(target, 0o755))
		} else {
			check(t, os.RemoveAll(target))
			check(t, os.Link(path, target))
		}
		return err
	}))
}

func TestAShellBuildsUponBackupsOnly(t *testing.T) {
	eachShellFolder(t, func(t *testing.T, _ host.Trees, d host.TreeDir, folder string) {
		check(t, os.Mkdir(folder+"/foreign", 0o755))
		check(t, os.WriteFile(folder+"/foreign/file", nil, 0o644))
		w := beginTree(t, d, "b1", "foreign")
		if w.LinkDest != "" || w.InPlace || exists(w.Path+"/file") {
			t.Errorf("built upon a foreign directory: %+v", w)
		}
		if !w.Nanoseconds && !strings.Contains(folder, "busybox") {
			t.Error("nanoseconds are not kept")
		}
		fill(t, w.Path)
		finishTree(t, d, "b1", "")
		w = beginTree(t, d, "b2", "b1")
		if d.Status().Btrfs {
			if want := info(t, folder+"/b1").UUID; info(t, w.Path).ParentUUID != want || !w.InPlace || !exists(w.Path+"/a/two") {
				t.Errorf("it is no snapshot: %+v", w)
			}
		} else if w.LinkDest != folder+"/b1" || w.InPlace {
			t.Errorf("it is not to be linked: %+v", w)
		}
		if st, err := os.Stat(folder + "/" + tree.StateDir + "/unfinished.json"); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
		for _, name := range []string{"b1", "foreign", ".b1.incoming", ".b1.deleting", "..", "a/b", tree.StateDir, ""} {
			if _, err := d.BeginTree(t.Context(), tree.Order{Name: name, Source: "x"}); err == nil {
				t.Errorf("began %q", name)
			}
		}
		if _, err := d.BeginTree(t.Context(), tree.Order{Name: "b3", Source: "x", Snapshot: "/"}); err == nil {
			t.Error("a snapshot is not refused")
		}
	})
}

// addForeign puts what is nobody's backup into a folder with the backup b1, and gives the names.
func addForeign(t testing.TB, d host.TreeDir, folder string) []string {
	t.Helper()
	fill(t, beginTree(t, d, "b1", "").Path)
	record := finishTree(t, d, "b1", "")
	names := []string{"dir", ".b5.incoming", ".b6.deleting", "recorded link", "recorded file", "of another name", "damaged record"}
	for _, name := range append(names, oddNames...) {
		if name == "recorded link" || name == "recorded file" {
			continue
		}
		check(t, os.Mkdir(filepath.Join(folder, name), 0o755))
		check(t, os.WriteFile(filepath.Join(folder, name, "file"), nil, 0o644))
	}
	check(t, os.Symlink("b1", folder+"/recorded link"))
	check(t, os.WriteFile(folder+"/recorded file", nil, 0o644))
	writeRecord(t, folder, "recorded link", tree.Record{Name: "recorded link"})
	writeRecord(t, folder, "recorded file", tree.Record{Name: "recorded file"})
	writeRecord(t, folder, "of another name", tree.Record{Name: "b1"})
	check(t, os.WriteFile(folder+"/.btrfs-backup/manifests/damaged record.json", []byte("{"), 0o600))
	if d.Status().Btrfs {
		newSubvolume(t, folder, "writable")
		writeRecord(t, folder, "writable", tree.Record{Name: "writable", Subvolume: info(t, folder+"/writable").UUID.String()})
		newSubvolume(t, folder, "source")
		snapshot(t, folder+"/source", folder+"/another one")
		writeRecord(t, folder, "another one", tree.Record{Name: "another one", Subvolume: record.Subvolume})
		newDir(t, folder, "no subvolume")
		writeRecord(t, folder, "no subvolume", tree.Record{Name: "no subvolume", Subvolume: record.Subvolume})
		names = append(names, "writable", "source", "another one", "no subvolume")
	}
	names = append(names, oddNames...)
	slices.Sort(names)
	return names
}

func writeRecord(t testing.TB, folder, name string, r tree.Record) {
	t.Helper()
	content, err := json.Marshal(r)
	check(t, err)
	check(t, os.MkdirAll(folder+"/.btrfs-backup/manifests", 0o700))
	check(t, os.WriteFile(folder+"/.btrfs-backup/manifests/"+name+".json", content, 0o600))
}

func TestAShellLeavesWhatIsNotItsOwn(t *testing.T) {
	eachShellFolder(t, func(t *testing.T, _ host.Trees, d host.TreeDir, folder string) {
		foreign := addForeign(t, d, folder)
		l := listTrees(t, d)
		if !slices.Equal(backups(l), []string{"b1"}) || !slices.Equal(l.Others, foreign) || len(l.Leftovers) > 0 {
			t.Errorf("backups %q, others\n%q\nwant\n%q, leftovers %q", backups(l), l.Others, foreign, l.Leftovers)
		}
		if local := listTrees(t, openTrees(t, host.NewLocal(silent), folder)); !sameListing(t, l, local) {
			t.Errorf("the program lists\n%+v\nnot\n%+v", local, l)
		}
		beginTree(t, d, "b2", "b1")
		before := make(map[string]map[string]string)
		for _, name := range foreign {
			before[name] = facts(t, filepath.Join(folder, name))
		}
		inTheWay := append(slices.Clone(foreign), ".b2.incoming", ".btrfs-backup", "..", ".", "", "gone")
		if deleted, err := d.DeleteTrees(t.Context(), inTheWay); len(deleted) > 0 || err == nil {
			t.Errorf("deleted %q, %v", deleted, err)
		}
		_, err := d.BeginTree(t.Context(), tree.Order{Name: "b5", Source: "here"})
		wantHint(t, err, "something else made it")
		w, err := d.BeginTree(t.Context(), tree.Order{Name: "b6", Source: "other"})
		if err != nil || w.Resumed || !exists(folder+"/.b2.incoming") {
			t.Errorf("beginning with another source: %+v, %v", w, err)
		}
		for _, name := range foreign {
			unchanged(t, before[name], filepath.Join(folder, name))
		}
		if !exists(folder + "/b1/one") {
			t.Error("the backup is gone")
		}
	})
}

func TestBackupsMayHaveAnyNameOnAShell(t *testing.T) {
	hostile := []string{"-rf", ".a'b\"c`d", "; exit 1; $HOME * ? ~ #", "line\nbreak\n"} // which are text, as JSON is
	eachShellFolder(t, func(t *testing.T, h host.Trees, _ host.TreeDir, folder string) {
		folder = filepath.Join(folder, oddNames[3]+oddNames[4], oddNames[6])
		d, base := openTrees(t, h, folder), ""
		for _, name := range hostile {
			fill(t, filepath.Join(beginTree(t, d, name+"interrupted", base).Path, name))
			finishTree(t, d, name, begun(t, d, name, base))
			base = name
		}
		if l := listTrees(t, d); !slices.Equal(backups(l), hostile) || len(l.Others)+len(l.Leftovers) > 0 {
			t.Errorf("listed are %q, %q, %q", backups(l), l.Others, l.Leftovers)
		}
		before := facts(t, filepath.Join(folder, base))
		deleted, err := d.DeleteTrees(t.Context(), hostile[:len(hostile)-1])
		if err != nil || len(deleted) != len(hostile)-1 {
			t.Errorf("deleted %q, %v", deleted, err)
		}
		unchanged(t, before, filepath.Join(folder, base))
		wantNames(t, folder, tree.StateDir, base)
		wantNames(t, folder+"/.btrfs-backup/manifests", base+".json")
	})
}

// begun goes on with a backup under its name, and gives its base.
func begun(t testing.TB, d host.TreeDir, name, base string) string {
	t.Helper()
	if w := beginTree(t, d, name, base); !w.Resumed {
		t.Errorf("it is not gone on with: %+v", w)
	}
	return base
}

func TestAnotherFolderInThePlaceOfTheFirstIsLeftAlone(t *testing.T) {
	eachShellFolder(t, func(t *testing.T, _ host.Trees, d host.TreeDir, folder string) {
		addTree(t, d, "b1", "", "file")
		check(t, os.Rename(folder, folder+" away"))
		check(t, os.Mkdir(folder, 0o755))
		_, beginErr := d.BeginTree(t.Context(), tree.Order{Name: "b2", Source: "here"})
		_, markErr := d.MarkTrees(t.Context())
		_, listErr := d.ListTrees(t.Context())
		_, deleteErr := d.DeleteTrees(t.Context(), []string{"b1"})
		_, lockErr := d.Lock(t.Context(), nil)
		for _, err := range []error{beginErr, markErr, listErr, deleteErr, lockErr, d.Link(t.Context(), ".latest", "b1")} {
			if err == nil || !strings.Contains(err.Error(), "another directory than before") {
				t.Errorf("%v", err)
			}
		}
		wantNames(t, folder)
	})
}

func TestAShellFindsMountPoints(t *testing.T) {
	btrfstest.RequireRoot(t)
	disk := btrfstest.NewOther(t, "ext4", testSize)
	outside := t.TempDir()
	check(t, os.Symlink(disk.Dir, outside+"/link"))
	for _, sh := range []string{"dash", "busybox"} {
		h := newShell(t, sh, sh == "dash")
		for _, test := range []struct {
			folder, mountPoint string
			ok                 bool
		}{
			{disk.Dir + "/" + sh + "/a/b", disk.Dir, true},
			{outside + "/link/" + sh + "/c", outside + "/link", true},
			{disk.Dir + "/d/" + sh, "/", false},
			{disk.Dir + "/e/" + sh, disk.Dir + "/e", false},
			{disk.Dir + "/f/" + sh, outside, false},
			{outside + "/g/" + sh, disk.Dir, false},
		} {
			d, err := h.OpenTrees(t.Context(), test.folder, tree.OpenOptions{MountPoint: test.mountPoint, Create: true})
			if (err == nil) != test.ok || !test.ok && (!errors.Is(err, tree.ErrNotMounted) || hintOf(err) == "") {
				t.Errorf("%+v: %v", test, err)
			}
			if exists(test.folder) != test.ok {
				t.Errorf("%+v: the folder is made, or not", test)
			}
			if err == nil {
				check(t, d.Close())
			}
		}
	}
}

func TestAFilesystemWithoutLinksIsRefusedThroughAShell(t *testing.T) {
	btrfstest.RequireRoot(t)
	bin, folder := t.TempDir(), t.TempDir()+"/folder"
	script(t, bin, "ln", `echo "ln: failed to create hard link: Operation not permitted" >&2; exit 1`)
	d := openTrees(t, shellWith(t, bin, host.ShellOptions{}), folder)
	if _, err := d.BeginTree(t.Context(), tree.Order{Name: "b1"}); !errors.Is(err, tree.ErrNoLinks) || hintOf(err) == "" {
		t.Errorf("%v", err)
	}
	wantNames(t, folder, tree.StateDir)
}

func TestASubvolumeIsReadOnlyUnderItsName(t *testing.T) {
	btrfstest.RequireRoot(t)
	folder := btrfstest.New(t, testSize).Dir + "/folder"
	d := openTrees(t, newShell(t, "dash", false), folder)
	record, _ := addTree(t, d, "b1", "", "file")
	if s := info(t, folder+"/b1"); !s.ReadOnly || s.UUID.String() != record.Subvolume || s.UUID == (btrfs.UUID{}) {
		t.Errorf("%+v", s)
	}
}

func TestAnOrdinaryUserKeepsTreesThroughAShell(t *testing.T) {
	btrfstest.RequireRoot(t)
	const nobody = 65534
	top := btrfstest.NewOther(t, "ext4", testSize).Dir
	check(t, os.Chmod(filepath.Dir(top), 0o755))
	check(t, os.Chown(top, nobody, nobody))
	for _, sh := range []string{"dash", "busybox sh"} {
		folder := filepath.Join(top, sh)
		d := openTrees(t, shellWith(t, t.TempDir(), host.ShellOptions{}, fmt.Sprintf(
			`ForceCommand exec setpriv --reuid=%d --regid=%[1]d --clear-groups %s -c "$SSH_ORIGINAL_COMMAND"`, nobody, sh)), folder)
		base := ""
		for _, name := range []string{"b1", "b2"} {
			w := beginTree(t, d, name+"x", base)
			fill(t, w.Path)
			check(t, os.MkdirAll(w.Path+"/denied/below", 0o755))
			check(t, os.WriteFile(w.Path+"/denied/below/file", nil, 0o644))
			check(t, os.Link(w.Path+"/denied/below/file", w.Path+"/denied/again"))
			check(t, filepath.WalkDir(w.Path, func(path string, _ fs.DirEntry, _ error) error { return os.Lchown(path, nobody, nobody) }))
			check(t, os.Chmod(w.Path+"/denied", 0))
			if w = beginTree(t, d, name, base); !w.Resumed || len(several(t, w.Path)) > 0 {
				t.Errorf("%s goes on with %+v", sh, w)
			}
			check(t, os.Chmod(w.Path+"/denied", 0))
			finishTree(t, d, name, base)
			base = name
		}
		if deleted, err := d.DeleteTrees(t.Context(), []string{"b1", "b2"}); err != nil || len(deleted) != 2 {
			t.Errorf("%s: deleted %q, %v", sh, deleted, err)
		}
		wantNames(t, folder, tree.StateDir)
	}
}
