package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

func TestBackupsAreWhatWasCopiedAndStaySo(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(t *testing.T, r *rig) {
		r.populate()
		base := ""
		for generation := range 3 {
			name := fmt.Sprint("generation ", generation)
			w := r.copy(name, base)
			btrfstest.Run(t, "cp", "-a", w.Path, filepath.Join(r.fs.Dir, name))
			record, err := r.folder.Finish(t.Context(), result(name, base), nil)
			check(t, err)
			if record.Base != base || record.Name != name || record.Source != "source" ||
				!record.Started.Equal(time.Unix(1e9, 0)) || record.Finished.IsZero() || !record.Complete() {
				t.Errorf("the record is %+v", record)
			}
			if list, err := r.folder.unfinished(); err != nil || len(list) > 0 {
				t.Errorf("there is more to do: %v, %v", list, err)
			}
			for older := range generation + 1 {
				name := fmt.Sprint("generation ", older)
				btrfstest.Equal(t, filepath.Join(r.fs.Dir, name), r.path(name))
			}
			base = name
			btrfstest.Change(t, r.source, int64(generation))
			check(t, os.Rename(r.source+"/files/large", r.source+"/files/renamed"))
			check(t, os.Rename(r.source+"/files/renamed", r.source+"/links/large"))
			btrfstest.Run(t, "cp", "-a", r.source+"/links/large", r.source+"/files/large")
		}
	})
}

func TestBackupsAreReadOnlySubvolumes(t *testing.T) {
	t.Parallel()
	r := newRig(t, "btrfs")
	r.write("file", "content")
	record := r.backup("1", "")
	info, err := btrfs.InfoAt(r.folder.dir, "1")
	check(t, err)
	if !info.ReadOnly || record.Subvolume != info.UUID.String() {
		t.Errorf("read-only: %v, UUID on record %s, want %s", info.ReadOnly, record.Subvolume, info.UUID)
	}
}

func TestACopyIsAlteredByWhatComesAfterItWasFinished(t *testing.T) {
	t.Parallel()
	r := newRig(t, "btrfs")
	is := func(name string, altered bool) {
		t.Helper()
		btrfstest.Run(t, "sync", "-f", r.fs.Dir)
		listing, err := btrfs.List(r.folder.dir)
		check(t, err)
		for _, s := range listing.InDirectory {
			if s.Name == name && (!s.Filled() || s.AlteredIn != 0 != altered) {
				t.Errorf("%s is altered in %d: %+v", name, s.AlteredIn, s)
			}
		}
	}
	base := ""
	for _, name := range []string{"1", "2", "3"} {
		r.write("file", "content of "+name)
		r.copy(name, base)
		btrfstest.Run(t, "sync", "-f", r.fs.Dir)
		check(t, os.WriteFile(r.path(btrfs.Incoming(name)+"/file"), []byte("copied in another transaction"), 0o644))
		_, err := r.folder.Finish(t.Context(), result(name, base), nil)
		check(t, err)
		base = name
		if name == "2" { // at once, as whoever waits for it can
			check(t, btrfs.SetReadOnly(r.folder.dir, name, false))
			check(t, os.WriteFile(r.path(name+"/file"), []byte("altered"), 0o644))
			check(t, btrfs.SetReadOnly(r.folder.dir, name, true))
		}
	}
	is("1", false)
	is("2", true)
	is("3", false)
}

func TestACopyIsAlteredByWhatComesBeforeItHasItsName(t *testing.T) {
	t.Parallel()
	r := newRig(t, "btrfs")
	r.write("file", "content")
	r.copy("1", "")
	take := func(int64) { check(t, os.MkdirAll(r.path("1"), 0o755)) }
	if _, err := r.folder.Finish(t.Context(), result("1", ""), take); !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	hidden := btrfs.Incoming("1")
	check(t, btrfs.SetReadOnly(r.folder.dir, hidden, false))
	check(t, os.WriteFile(r.path(hidden+"/file"), []byte("altered"), 0o644))
	check(t, btrfs.SetReadOnly(r.folder.dir, hidden, true))
	btrfstest.Run(t, "sync", "-f", r.fs.Dir)
	listing, err := btrfs.List(r.folder.dir)
	check(t, err)
	if got := listing.InDirectory; len(got) != 1 || !got[0].Filled() || got[0].AlteredIn == 0 {
		t.Errorf("%+v", got)
	}
}

func TestTooManyMissingFilesAreRefused(t *testing.T) {
	t.Parallel()
	for i, test := range []struct {
		had, gone, maxDelete int
		refused              bool
	}{
		{had: 200, gone: 100, maxDelete: 50},
		{had: 200, gone: 101, maxDelete: 50, refused: true},
		{had: 99, gone: 99, maxDelete: 50},
		{had: 100, gone: 100, maxDelete: 50, refused: true},
		{had: 100, gone: 100, maxDelete: 99, refused: true},
		{had: 100, gone: 100, maxDelete: 100},
		{had: 200, gone: 100, maxDelete: 0, refused: true},
	} {
		kind := []string{"btrfs", "ext4"}[i%2]
		t.Run(fmt.Sprintf("%+v on %s", test, kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind)
			r.many(test.had)
			r.backup("1", "")
			kept := filepath.Join(t.TempDir(), "1")
			btrfstest.Run(t, "cp", "-a", r.path("1"), kept)
			for i := range test.gone {
				check(t, os.Remove(fmt.Sprintf("%s/many/%05d", r.source, i)))
			}
			r.write("a new file", "is not what is missed")
			r.copy("2", "1")
			order := result("2", "1")
			order.MaxDelete = test.maxDelete
			_, err := r.folder.Finish(t.Context(), order, nil)
			btrfstest.Equal(t, kept, r.path("1"))
			if !test.refused {
				check(t, err)
				return
			}
			var refusal *TooManyGoneError
			want := TooManyGoneError{Base: "1", Gone: int64(test.gone), Had: int64(test.had), Percent: test.maxDelete}
			if !errors.As(err, &refusal) || *refusal != want {
				t.Fatalf("the error is %v", err)
			}
			r.mustNotBe("2", false)
			files, err := r.folder.state.Names()
			if err != nil || !slices.Equal(files, []string{"1.json", "1.zst"}) {
				t.Errorf("there are %q, %v", files, err)
			}
		})
	}
}

func TestADirectoryInPlaceOfAFileIsAMissingFile(t *testing.T) {
	t.Parallel()
	r := newRig(t, "ext4")
	r.many(100)
	r.backup("1", "")
	for i := range 100 {
		path := fmt.Sprintf("%s/many/%05d", r.source, i)
		check(t, errors.Join(os.Remove(path), os.Mkdir(path, 0o755)))
	}
	r.copy("2", "1")
	_, err := r.folder.Finish(t.Context(), result("2", "1"), nil)
	if !errors.As(err, new(*TooManyGoneError)) {
		t.Errorf("the error is %v", err)
	}
}

func TestATakenNameIsLeftAloneWithAllThatIsKnownOfIt(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(t *testing.T, r *rig) {
		r.write("file", "content")
		r.backup("1", "")
		r.write("file", "another content")
		r.copy("2", "1")
		check(t, r.folder.rename("1", "2"))
		check(t, r.folder.state.Write(state.ManifestFile("2"), []byte("known")))
		_, err := r.folder.Finish(t.Context(), result("2", ""), nil)
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("the error is %v", err)
		}
		if content, err := r.folder.state.Read(state.ManifestFile("2")); err != nil || string(content) != "known" {
			t.Errorf("the manifest is %q, %v", content, err)
		}
		if content, err := os.ReadFile(r.path("2/file")); string(content) != "content" {
			t.Errorf("the file is %q, %v", content, err)
		}
		check(t, r.folder.rename("2", "1"))
		r.mustNotBe("2", true)
	})
}

func TestANameThatIsTakenInTheLastMomentIsNoBackup(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(t *testing.T, r *rig) {
		r.write("file", "content")
		r.copy("1", "")
		_, err := r.folder.Finish(t.Context(), result("1", ""), func(int64) { os.Mkdir(r.path("1"), 0o755) })
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("the error is %v", err)
		}
		if backups, others := r.listed(); len(backups) > 0 || !slices.Equal(others, []string{"1"}) {
			t.Errorf("there are the backups %q and %q besides", backups, others)
		}
		check(t, os.Remove(r.path("1")))
		r.mustNotBe("1", true)
	})
}

func TestNothingHasTheNameWithoutManifestAndRecord(t *testing.T) {
	t.Parallel()
	for _, file := range []string{state.ManifestFile("1"), state.RecordFile("1")} {
		t.Run(file, func(t *testing.T) {
			onEachKind(t, func(t *testing.T, r *rig) {
				r.write("file", "content")
				r.copy("1", "")
				obstacle := r.path(StateDir + "/" + file)
				check(t, os.MkdirAll(obstacle+"/full", 0o755))
				if _, err := r.folder.Finish(t.Context(), result("1", ""), nil); err == nil {
					t.Error("no error")
				}
				check(t, os.RemoveAll(obstacle))
				r.mustNotBe("1", true)
			})
		})
	}
}

func TestARecordHoldsTheFirstMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t, "ext4")
	r.copy("1", "")
	order := result("1", "")
	order.Missing = 5000
	for i := range 2000 {
		order.Incomplete = append(order.Incomplete, fmt.Sprint("message ", i))
	}
	_, err := r.folder.Finish(t.Context(), order, nil)
	check(t, err)
	record, err := r.folder.readRecord("1")
	check(t, err)
	if record.Missing != 5000 || !slices.Equal(record.Incomplete, order.Incomplete[:1000]) {
		t.Errorf("%d messages of %d", len(record.Incomplete), record.Missing)
	}
}

func TestACancelledBackupIsResumed(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(t *testing.T, r *rig) {
		r.many(3000)
		r.copy("1", "")
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupted := errors.New("interrupted")
		_, err := r.folder.Finish(ctx, result("1", ""), func(int64) { cancel(interrupted) })
		if !errors.Is(err, interrupted) {
			t.Errorf("the error is %v", err)
		}
		r.mustNotBe("1", true)
		if _, err := r.folder.state.Read(state.ManifestFile("1")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a manifest is left: %v", err)
		}
	})
}

func TestAFileThatVanishesFailsTheBackup(t *testing.T) {
	t.Parallel()
	r := newRig(t, "ext4")
	// More than may wait for the first one, so that the last one was not looked at yet.
	const files = 4000
	r.many(files)
	w := r.copy("1", "")
	last := fmt.Sprintf("%s/many/%05d", w.Path, files-1)
	_, err := r.folder.Finish(t.Context(), result("1", ""), func(int64) { os.Remove(last) })
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	r.mustNotBe("1", true)
}

func TestAFileThatGrowsFailsTheBackup(t *testing.T) {
	t.Parallel()
	r := newRig(t, "ext4")
	r.write("file", strings.Repeat("x", 2*walk.ReadSize))
	w := r.copy("1", "")
	_, err := r.folder.Finish(t.Context(), result("1", ""), func(int64) {
		file, err := os.OpenFile(w.Path+"/file", os.O_WRONLY|os.O_APPEND, 0)
		check(t, err)
		defer file.Close()
		if st := stat(t, w.Path+"/file"); st.Size < 3*walk.ReadSize {
			file.WriteString("more")
		}
	})
	if err == nil {
		t.Error("no error")
	}
}

func TestARenamedFileTakesNoSpaceAndLeavesTheTimeOfItsDirectory(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(t *testing.T, r *rig) {
		content := strings.Repeat("content ", 10_000)
		r.write("old/name", content)
		r.write("new/other", "other")
		r.backup("1", "")
		check(t, os.Rename(r.source+"/old/name", r.source+"/new/name"))
		long := []unix.Timespec{{Sec: 1e9, Nsec: 123456789}, {Sec: 1e9, Nsec: 987654321}}
		check(t, unix.UtimesNanoAt(unix.AT_FDCWD, r.source+"/new", long, 0))
		record := r.backup("2", "1")

		if record.Shared < int64(len(content))/4096*4096 { // whole blocks, where extents are shared
			t.Errorf("%d bytes are shared", record.Shared)
		}
		if got := stat(t, r.path("2/new")).Mtim; got != long[1] {
			t.Errorf("the directory has the time %v", got)
		}
		got := stat(t, r.path("2/new/name")).Ino
		if same := got == stat(t, r.path("1/old/name")).Ino; r.kind == "ext4" && !same {
			t.Error("it is no link")
		}
		if e := r.entry("2", "new/name"); e.Inode != got || e.SHA256 != r.entry("1", "old/name").SHA256 {
			t.Errorf("the manifest has %+v", e)
		}
	})
}

func TestTwoFilesOfTheSourceStayTwo(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(t *testing.T, r *rig) {
		content := strings.Repeat("content ", 10_000)
		r.write("z", content)
		r.backup("1", "")
		btrfstest.Run(t, "cp", "-a", r.source+"/z", r.source+"/a") // comes before the file that is linked to the older backup
		btrfstest.Run(t, "cp", "-a", r.source+"/z", r.source+"/zz")
		r.backup("2", "1")
		inodes := map[uint64]string{}
		for _, name := range []string{"a", "z", "zz"} {
			inode := stat(t, r.path("2/"+name)).Ino
			if other, ok := inodes[inode]; ok {
				t.Errorf("%s is %s", name, other)
			}
			inodes[inode] = name
		}
	})
}
