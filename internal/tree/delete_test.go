package tree

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"

	"golang.org/x/sys/unix"
)

// addSharing makes backups that share their files, and symbolic links out of the folder, which it gives the target of.
func addSharing(t *testing.T, f *Folder, names ...string) (outside string) {
	t.Helper()
	outside = filepath.Join(filepath.Dir(f.dir.Name()), "outside")
	write(t, outside, "directory/file")
	base := ""
	for _, name := range names {
		addBackup(t, f, Order{Name: name, Origin: Origin{Source: "s"}, Base: base}, func(dir string) {
			switch {
			case base == "":
				write(t, dir, "file", "a/b/file")
				check(t, os.Symlink(outside, dir+"/a/way-out"))
				check(t, os.Symlink(outside+"/directory/file", dir+"/file-out"))
				check(t, os.Chmod(dir+"/file", 0o400))
			case !mustList(t, f).Btrfs:
				linkFrom(t, f.pathOf(base), dir)
			}
		})
		base = name
	}
	return outside
}

func TestDeleteLeavesOtherBackupsAsTheyAre(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		outside := addSharing(t, f, "b1", "b2", "b3", "b4")
		unchanged(t, []string{f.pathOf("b1"), f.pathOf("b4"), outside}, func() {
			deleted, err := f.Delete(t.Context(), []string{"b2", "missing", "b3"})
			if !slices.Equal(deleted, []string{"b2", "b3"}) || !errors.Is(err, errNotBackup) || !strings.Contains(err.Error(), "missing") {
				t.Errorf("deleted %q, %v", deleted, err)
			}
		})
		if l := mustList(t, f); !slices.Equal(backupNames(l), []string{"b1", "b4"}) || len(l.Others)+len(l.Leftovers) > 0 {
			t.Errorf("left: %+v", l)
		}
		if files, err := f.state.Names(); !slices.Equal(files, []string{"b1.json", "b1.zst", "b4.json", "b4.zst"}) {
			t.Errorf("records: %q, %v", files, err)
		}
		if list, err := f.unfinished(); len(list) > 0 || err != nil {
			t.Errorf("hidden: %+v, %v", list, err)
		}
	})
}

func TestDeleteRefusesWhatOthersMade(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		foreign := addForeign(t, f)
		addBackup(t, f, Order{Name: "b1"}, func(dir string) { write(t, dir, "file") })
		w := mustBegin(t, f, Order{Name: "b2"})
		check(t, os.Mkdir(filepath.Join(filepath.Dir(f.dir.Name()), "beside"), 0o755))
		check(t, f.state.Write("beside.json", []byte(`{"name": "../beside"}`)))
		names := append(foreign, "../beside", StateDir, ".b2.incoming", "b2", "", ".", "..", "../folder", "b1/file", "b1/", "./b1", f.pathOf("b1"))
		unchanged(t, append(paths(f, foreign), w.Path, f.pathOf("b1"), f.pathOf(StateDir)), func() {
			for _, name := range names {
				deleted, err := f.Delete(t.Context(), []string{name})
				if len(deleted) > 0 || !errors.Is(err, errNotBackup) {
					t.Errorf("%q: deleted %q, %v", name, deleted, err)
				}
			}
		})
		check(t, f.discardPartial("b2"))
		unchanged(t, paths(f, foreign), func() { mustBegin(t, f, Order{Name: "b3"}) })
	})
}

// A hidden name that was in use before is not taken for a deletion that a later run may finish.
func TestDeleteRefusesAHiddenNameOfOthers(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		addBackup(t, f, Order{Name: "b1"}, func(dir string) { write(t, dir, "file") })
		write(t, f.pathOf(".b1.deleting"), "file")
		unchanged(t, paths(f, []string{".b1.deleting", "b1"}), func() {
			if deleted, err := f.Delete(t.Context(), []string{"b1"}); len(deleted) > 0 || hintOf(err) == "" {
				t.Errorf("deleted %q, %v", deleted, err)
			}
			mustBegin(t, f, Order{Name: "b2"})
		})
	})
}

func TestADeletionThatWasInterruptedIsFinishedLater(t *testing.T) {
	t.Parallel()
	steps := []func(f *Folder) error{
		func(f *Folder) error { return f.noteUnfinished(".b2.deleting", unfinishedEntry{}) },
		func(f *Folder) error { return f.rename("b2", ".b2.deleting") },
		func(f *Folder) error { return f.removeHidden(t.Context(), ".b2.deleting") },
		func(f *Folder) error { return f.state.Remove(state.RecordFile("b2")) },
	}
	for n := range len(steps) + 1 {
		t.Run(fmt.Sprintf("after %d steps", n), func(t *testing.T) {
			everywhere(t, func(t *testing.T, f *Folder) {
				outside := addSharing(t, f, "b1", "b2", "b3")
				for _, step := range steps[:n] {
					check(t, step(f))
				}
				want := []string{"b1", "b3"}
				if n < 2 {
					want = []string{"b1", "b2", "b3"}
				}
				unchanged(t, []string{f.pathOf("b1"), f.pathOf("b3"), outside}, func() {
					l := mustList(t, f)
					if !slices.Equal(backupNames(l), want) || len(l.Others) > 0 || len(l.Deleting) != min(n, 1) {
						t.Errorf("got %+v", l)
					}
					if deleted, err := f.Delete(t.Context(), l.Deleting); len(deleted) != len(l.Deleting) || err != nil {
						t.Errorf("deleted %q, %v", deleted, err)
					}
					mustBegin(t, f, Order{Name: "b4"})
				})
				l := mustList(t, f)
				if !slices.Equal(backupNames(l), want) || !slices.Equal(l.Leftovers, []string{".b4.incoming"}) || len(l.Others) > 0 {
					t.Errorf("then %+v", l)
				}
				if files, err := f.state.Names(); len(files) != 2*len(want) {
					t.Errorf("records: %q, %v", files, err)
				}
				if list, err := f.unfinished(); len(list) != 1 || err != nil {
					t.Errorf("hidden: %+v, %v", list, err)
				}
			})
		})
	}
}

func TestDeleteAndBeginStayOnTheirMount(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	precious := filepath.Join(filepath.Dir(f.dir.Name()), "precious") // of the same filesystem
	write(t, precious, "file")
	check(t, os.Link(precious+"/file", precious+"/second"))
	addBackup(t, f, Order{Name: "b1"}, func(dir string) { write(t, dir, "a/mounted/file") })
	w := mustBegin(t, f, Order{Name: "b2"})
	for _, at := range []string{f.pathOf("b1/a/mounted"), w.Path + "/mounted"} {
		mount(t, precious, at)
		mount(t, "", at+"-memory")
		write(t, at+"-memory", "file")
	}
	unchanged(t, []string{precious, w.Path}, func() {
		if deleted, err := f.Delete(t.Context(), []string{"b1"}); err == nil {
			t.Errorf("deleted %q", deleted)
		}
		if _, err := f.Begin(t.Context(), Order{Name: "b2"}); err == nil {
			t.Error("began")
		}
	})
	for _, at := range []string{f.pathOf(".b1.deleting/a/mounted"), w.Path + "/mounted"} {
		btrfstest.Unmount(t, at)
		btrfstest.Unmount(t, at+"-memory")
	}
	if deleted, err := f.Delete(t.Context(), []string{".b1.deleting"}); len(deleted) != 1 || err != nil {
		t.Errorf("then it deleted %q, %v", deleted, err)
	}
	mustBegin(t, f, Order{Name: "b2"})
	if l := mustList(t, f); !slices.Equal(l.Leftovers, []string{".b2.incoming"}) || len(l.Deleting) > 0 {
		t.Errorf("left: %+v", l)
	}
}

func TestDeleteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	addSharing(t, f, "b1")
	unchanged(t, []string{f.pathOf("b1")}, func() {
		if deleted, err := f.Delete(ended(t), []string{"b1"}); len(deleted) > 0 || !errors.Is(err, ended(t).Err()) {
			t.Errorf("deleted %q, %v", deleted, err)
		}
	})
}

func TestASubvolumeThatCannotBeDeletedKeepsItsName(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "btrfs")
	addBackup(t, f, Order{Name: "b1"}, func(dir string) { // one that holds another one cannot be deleted
		write(t, dir, "file")
		check(t, btrfs.Create(btrfstest.Open(t, dir), "inner"))
	})
	unchanged(t, []string{f.pathOf("b1")}, func() {
		if deleted, err := f.Delete(t.Context(), []string{"b1"}); len(deleted) > 0 || err == nil {
			t.Errorf("deleted %q, %v", deleted, err)
		}
	})
	if l := mustList(t, f); !slices.Equal(backupNames(l), []string{"b1"}) || len(l.Leftovers) > 0 {
		t.Errorf("left: %+v", l)
	}
	if list, err := f.unfinished(); len(list) > 0 || err != nil {
		t.Errorf("hidden: %+v, %v", list, err)
	}
}

// What is immutable stays, until it is not any more; the rest of its backup is deleted at once.
func TestWhatCannotBeDeletedIsNamedEachTime(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	addBackup(t, f, Order{Name: "b1"}, func(dir string) { write(t, dir, "a/immutable", "a/z", "b") })
	addBackup(t, f, Order{Name: "b2"}, func(dir string) { write(t, dir, "file") })
	hidden := f.pathOf(".b1.deleting")
	btrfstest.Run(t, "chattr", "+i", f.pathOf("b1/a/immutable"), f.pathOf("b2"))
	t.Cleanup(func() { exec.Command("chattr", "-i", hidden+"/a/immutable", f.pathOf("b2")).Run() })
	for _, name := range []string{"b1", ".b1.deleting", ".b1.deleting"} {
		deleted, err := f.Delete(t.Context(), []string{name})
		if len(deleted) > 0 || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "a/immutable") ||
			!strings.Contains(hintOf(err), "chattr -R -i -a "+hidden) {
			t.Errorf("%s: deleted %q, %v (%s)", name, deleted, err, hintOf(err))
		}
		if l := mustList(t, f); !slices.Equal(l.Deleting, []string{".b1.deleting"}) {
			t.Errorf("%s: %+v", name, l)
		}
	}
	if exists(hidden+"/a/z") || exists(hidden+"/b") {
		t.Error("what is not immutable stays, too")
	}
	if _, err := f.Delete(t.Context(), []string{"b2"}); !strings.Contains(hintOf(err), "chattr") {
		t.Errorf("%v (%s)", err, hintOf(err))
	}
	btrfstest.Run(t, "chattr", "-i", hidden+"/a/immutable", f.pathOf("b2"))
	if deleted, err := f.Delete(t.Context(), []string{".b1.deleting", "b2"}); len(deleted) != 2 || err != nil || exists(hidden) {
		t.Errorf("deleted %q, %v", deleted, err)
	}
}

// as runs do for an ordinary user, in a thread that is root's again afterwards.
func as(t *testing.T, uid uintptr, do func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	setUser(t, uid)
	defer setUser(t, 0)
	do()
}

// setUser sets the effective user ID of the thread, and with it the capabilities.
func setUser(t *testing.T, uid uintptr) {
	t.Helper()
	const unchanged = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, unchanged, uid, unchanged); errno != 0 {
		t.Fatal(errno)
	}
}

func TestAUserDeletesAndGoesOnWithDirectoriesThatDenyAccess(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		const user = 1234
		disk := filepath.Dir(f.dir.Name())
		if mustList(t, f).Btrfs {
			btrfstest.Run(t, "mount", "-o", "remount,user_subvol_rm_allowed", disk)
		}
		check(t, os.Chmod(filepath.Dir(disk), 0o755))
		check(t, os.Chown(f.dir.Name(), user, user))
		fill := func(dir string) {
			closed := []string{"none/below", "none", "search-only", "read-only"}
			for _, name := range closed {
				write(t, dir, name+"/file")
				check(t, os.Link(filepath.Join(dir, name, "file"), filepath.Join(dir, name, "second")))
			}
			for i, mode := range []os.FileMode{0, 0, 0o100, 0o500} {
				check(t, os.Chmod(filepath.Join(dir, closed[i]), mode))
			}
		}
		as(t, user, func() {
			addBackup(t, f, Order{Name: "b1", Origin: Origin{Source: "s"}}, fill)
			w, err := f.Begin(t.Context(), Order{Name: "b2", Origin: Origin{Source: "s"}})
			if err != nil {
				t.Error(err)
				return
			}
			fill(w.Path)
			if _, err := f.Begin(t.Context(), Order{Name: "b3", Origin: Origin{Source: "s"}}); err != nil {
				t.Error(err)
			}
			if deleted, err := f.Delete(t.Context(), []string{"b1"}); len(deleted) != 1 || err != nil {
				t.Errorf("deleted %q, %v", deleted, err)
			}
		})
		if l := mustList(t, f); len(l.Backups)+len(l.Others) > 0 || !slices.Equal(l.Leftovers, []string{".b3.incoming"}) {
			t.Errorf("left: %+v", l)
		}
	})
}

func TestASubvolumeThatItsUserMayNotDeleteStaysABackup(t *testing.T) {
	t.Parallel()
	const user = 1234
	f := newFolder(t, "btrfs")
	check(t, os.Chmod(filepath.Dir(filepath.Dir(f.dir.Name())), 0o755))
	check(t, os.Chown(f.dir.Name(), user, user))
	as(t, user, func() {
		addBackup(t, f, Order{Name: "b1"}, func(dir string) { write(t, dir, "file") })
		if deleted, err := f.Delete(t.Context(), []string{"b1"}); len(deleted) > 0 || !errors.Is(err, unix.EPERM) {
			t.Errorf("deleted %q, %v", deleted, err)
		}
	})
	if l := mustList(t, f); !slices.Equal(backupNames(l), []string{"b1"}) || len(l.Leftovers)+len(l.Others) > 0 {
		t.Errorf("left: %+v", l)
	}
}
