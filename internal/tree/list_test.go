package tree

import (
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"

	"golang.org/x/sys/unix"
)

func TestListOfAFolderOfOthersIsEmptyAndChangesNothing(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		foreign := addForeign(t, f)
		unchanged(t, []string{f.dir.Name()}, func() {
			l := mustList(t, f)
			if l.ID != "" || len(l.Backups) > 0 || len(l.Leftovers) > 0 || !slices.Equal(l.Others, foreign) {
				t.Errorf("got %+v", l)
			}
			if l.Free == 0 || l.Free > imageSize {
				t.Errorf("%d bytes are free", l.Free)
			}
		})
	})
}

func TestMarkGivesAnIdentityOnce(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	id, err := f.Mark(t.Context())
	check(t, err)
	var uuid btrfs.UUID
	if err := uuid.UnmarshalText([]byte(id)); err != nil || uuid.IsZero() {
		t.Errorf("%q is no UUID", id)
	}
	if again, err := f.Mark(t.Context()); again != id || err != nil {
		t.Errorf("then it was %q, %v", again, err)
	}
	if l := mustList(t, f); l.ID != id {
		t.Errorf("listed with ID %q", l.ID)
	}
	for _, dir := range []string{StateDir, StateDir + "/" + state.Manifests} {
		if st, err := os.Stat(f.pathOf(dir)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, st.Mode(), err)
		}
	}
	check(t, os.Remove(f.state.Path(state.IDFile)))
	if l := mustList(t, f); l.ID != "" || exists(f.state.Path(state.IDFile)) {
		t.Errorf("listing gave ID %q", l.ID)
	}
	if other, err := f.Mark(t.Context()); other == id || err != nil {
		t.Errorf("a second folder is %q, %v", other, err)
	}
}

func TestListSortsWhatItFinds(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		foreign := addForeign(t, f)
		for _, name := range []string{"b2", "b1"} {
			addBackup(t, f, Order{Name: name, Origin: Origin{Source: "s"}}, func(dir string) { write(t, dir, "file") })
		}
		mustBegin(t, f, Order{Name: "b3", Origin: Origin{Source: "s"}})
		l := mustList(t, f)
		if !slices.Equal(backupNames(l), []string{"b1", "b2"}) || !slices.Equal(l.Leftovers, []string{".b3.incoming"}) ||
			!slices.Equal(l.Others, foreign) {
			t.Errorf("got %+v", l)
		}
	})
}

func TestFoldersOfBackupsBelowAreFound(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, f *Folder) {
		for _, path := range []string{"home", "laptop/etc", "laptop/photos", "too/far/below"} {
			write(t, f.pathOf(path), "file")
			if path == "laptop/photos" {
				continue
			}
			_, err := New(btrfstest.Open(t, f.pathOf(path)), f.log).Mark(t.Context())
			check(t, err)
		}
		check(t, os.Symlink("home", f.pathOf("link")))
		if l := mustList(t, f); !slices.Equal(l.Below, []string{"home", "laptop/etc"}) {
			t.Errorf("got %q", l.Below)
		}
		_, err := f.Mark(t.Context())
		check(t, err)
		if l := mustList(t, f); len(l.Below) > 0 {
			t.Errorf("in a folder of backups: %q", l.Below)
		}
	})
}

func TestBackupsOfSubvolumesAreToldFromDirectoriesWithoutARecord(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "btrfs")
	foreign := addForeign(t, f)
	check(t, btrfs.Create(f.dir, "mine"))
	sent := f.pathOf("at") + "/received"
	check(t, os.Mkdir(f.pathOf("at"), 0o755))
	btrfstest.Run(t, "btrfs", "subvolume", "create", sent)
	btrfstest.Run(t, "btrfs", "property", "set", sent, "ro", "true")
	btrfstest.Run(t, "sh", "-c", "btrfs -q send "+sent+" | btrfs -q receive "+f.dir.Name())
	l := mustList(t, f)
	if !slices.Equal(l.Received, []string{"received"}) || len(l.Others) != len(foreign)+3 {
		t.Errorf("got %+v", l)
	}
}

func TestBackupsAreListedInTheOrderInWhichTheyWereFinishedWhateverTheirNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, "ext4")
	r.write("file", "content")
	r.backup("20990101-000000", "")
	for _, name := range []string{"20260102-000000", "20260101-000000"} { // of an older program
		r.backup(name, "")
		older, err := r.folder.readRecord(name)
		check(t, err)
		older.Sequence = 0
		check(t, r.folder.writeRecord(older))
	}
	r.backup("20260104-000000", "20990101-000000")
	check(t, r.folder.state.Write(state.RecordFile("gone"), []byte("{")))
	_, err := r.folder.Delete(t.Context(), []string{"20990101-000000"})
	check(t, err)
	r.backup("20260103-000000", "20260104-000000")
	want := []string{"20260101-000000", "20260102-000000", "20260104-000000", "20260103-000000"}
	if got, _ := r.listed(); !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
}

// Whatever is not what the record is about is somebody else's.
func TestOnlyWhatItsRecordTellsOfIsABackup(t *testing.T) {
	t.Parallel()
	replace := func(put func(f *Folder, path string) error) func(f *Folder, path string) error {
		return func(f *Folder, path string) error {
			if err := os.Rename(path, f.pathOf("away")); err != nil {
				return err
			}
			return put(f, path)
		}
	}
	damages := map[string]func(f *Folder, path string) error{
		"without a record": func(f *Folder, _ string) error { return f.removeRecord("b") },
		"with a damaged record": func(f *Folder, _ string) error {
			return f.state.Write(state.RecordFile("b"), []byte("{"))
		},
		"with the record of another name": func(f *Folder, _ string) error {
			return errors.Join(f.state.Write(state.RecordFile("b"), []byte(`{"name": "c"}`)), os.Mkdir(f.pathOf("c"), 0o755))
		},
		"a symbolic link to it": replace(func(f *Folder, path string) error { return os.Symlink("away", path) }),
		"a file":                replace(func(f *Folder, path string) error { return os.WriteFile(path, nil, 0o600) }),
	}
	onBtrfs := map[string]func(f *Folder, path string) error{
		"writable":          func(f *Folder, path string) error { return btrfs.SetReadOnly(f.dir, "b", false) },
		"a directory":       replace(func(_ *Folder, path string) error { return os.Mkdir(path, 0o755) }),
		"another subvolume": replace(func(f *Folder, _ string) error { return btrfs.Create(f.dir, "b") }),
		"a snapshot of it": replace(func(f *Folder, _ string) error {
			away, err := btrfs.OpenDirAt(f.dir, "away")
			if err != nil {
				return err
			}
			defer away.Close()
			return btrfs.Snapshot(away, f.dir, "b")
		}),
		"another filesystem": replace(func(_ *Folder, path string) error {
			return errors.Join(os.Mkdir(path, 0o755), unix.Mount("", path, "tmpfs", 0, ""))
		}),
	}
	everywhere(t, func(t *testing.T, f *Folder) {
		damage := maps.Clone(damages)
		if mustList(t, f).Btrfs {
			maps.Copy(damage, onBtrfs)
		}
		for what, do := range damage {
			t.Run(what, func(t *testing.T) {
				sub := f.pathOf(what)
				check(t, os.Mkdir(sub, 0o755))
				check(t, os.Mkdir(sub+"/folder", 0o755))
				f := New(btrfstest.Open(t, sub+"/folder"), f.log)
				addBackup(t, f, Order{Name: "b"}, func(dir string) { write(t, dir, "file") })
				if l := mustList(t, f); len(l.Backups) != 1 {
					t.Fatalf("got %+v", l)
				}
				check(t, do(f, f.pathOf("b")))
				defer unix.Unmount(f.pathOf("b"), 0)
				if l := mustList(t, f); len(l.Backups) != 0 || !slices.Contains(l.Others, "b") {
					t.Errorf("got %+v", l)
				}
				if w := mustBegin(t, f, Order{Name: "next", Base: "b"}); w.LinkDest != "" || exists(w.Path+"/file") {
					t.Errorf("it was built upon: %+v", w)
				}
				deleted, err := f.Delete(t.Context(), []string{"b"})
				if !errors.Is(err, errNotBackup) || len(deleted) > 0 || !exists(f.pathOf("b")) {
					t.Errorf("deleting: %q, %v", deleted, err)
				}
			})
		}
	})
}

func TestADamagedListOfHiddenDirectoriesProvesNothing(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	w := mustBegin(t, f, Order{Name: "b1", Origin: Origin{Source: "s"}})
	write(t, w.Path, "file")
	for _, content := range []string{"", "null", "[]", `{".b1.incoming": 1}`} {
		check(t, f.state.Write(state.UnfinishedFile, []byte(content)))
		if l := mustList(t, f); len(l.Leftovers) > 0 || !slices.Equal(l.Others, []string{".b1.incoming"}) {
			t.Errorf("with %q: got %+v", content, l)
		}
		unchanged(t, []string{w.Path}, func() {
			check(t, f.discardPartial("b1"))
			check(t, f.SavePartial(t.Context(), "b1"))
			if _, err := f.openPartial("b1"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("opened it: %v", err)
			}
			if w := mustBegin(t, f, Order{Name: "b2", Origin: Origin{Source: "s"}}); w.Resumed {
				t.Error("it was resumed")
			}
			check(t, f.discardPartial("b2"))
		})
	}
}
