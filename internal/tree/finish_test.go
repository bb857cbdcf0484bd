package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

func TestBackupsAreWhatWasCopiedAndStaySo(t *testing.T) {
	onEachKind(t, func(t *testing.T, r *rig) {
		r.populate()
		base := ""
		for generation := range 3 {
			name := fmt.Sprint("generation ", generation)
			w := r.copy(name, base)
			btrfstest.Run(t, "cp", "-a", w.Path, filepath.Join(r.fs.Dir, name))
			record, err := r.folder.Finish(t.Context(), result(name, base), nil)
			check(t, err)
			if record.Base != base || record.Name != name || record.Source != "source" || !record.Started.Equal(time.Unix(1e9, 0)) ||
				record.Finished.IsZero() || !record.Complete() {
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

func TestManifestUponABaseIsThatOfACompleteReading(t *testing.T) {
	onEachKind(t, func(t *testing.T, r *rig) {
		r.populate()
		r.backup("1", "")
		btrfstest.Change(t, r.source, 1)
		check(t, os.Rename(r.source+"/files/large", r.source+"/files/renamed"))
		record := r.backup("2", "1")

		var scratch bytes.Buffer
		s := survey{root: btrfstest.Open(t, r.path("2")), base: &baseline{}, progress: func(int64) {}, unread: func(path string, err error) {
			t.Errorf("%s: %v", path, err)
		}}
		found, err := s.run(t.Context(), &scratch)
		check(t, err)
		if record.Files != found.files || record.Bytes != found.bytes {
			t.Errorf("%d files with %d bytes are on record, want %d with %d", record.Files, record.Bytes, found.files, found.bytes)
		}
		want, got := readEntries(t, &scratch), r.entries("2")
		if len(want) != len(got) {
			t.Fatalf("%d entries, want %d", len(got), len(want))
		}
		for i, w := range want {
			g := got[i]
			if r.kind != "btrfs" || w.Path == "." { // links and the last rename change it
				w.ChangeTime, g.ChangeTime = manifest.Time{}, manifest.Time{}
			}
			if w != g {
				t.Errorf("got  %+v\nwant %+v", g, w)
			}
		}
	})
}

func TestUnchangedFilesAreNotRead(t *testing.T) {
	r := newRig(t, "ext4")
	r.write("unchanged", "what is on record")
	r.write("changed", "what will change")
	r.backup("1", "")
	want := r.entry("1", "unchanged").SHA256

	st := stat(t, r.path("1/unchanged"))
	check(t, os.WriteFile(r.path("1/unchanged"), []byte("what is not read!"), 0o644))
	check(t, unix.UtimesNanoAt(unix.AT_FDCWD, r.path("1/unchanged"), []unix.Timespec{st.Atim, st.Mtim}, 0))
	r.write("changed", "changed")
	r.copy("2", "1")
	var read int64
	_, err := r.folder.Finish(t.Context(), result("2", "1"), func(n int64) { read += n })
	check(t, err)
	if got := r.entry("2", "unchanged").SHA256; got != want {
		t.Error("the unchanged file was read")
	}
	if read != int64(len("changed")) {
		t.Errorf("%d bytes were read", read)
	}
}

func TestAFileIsUnchangedOnlyIfNothingSpeaksAgainstIt(t *testing.T) {
	old := manifest.Entry{Path: "file", Type: manifest.Regular, Mode: 0o644, UID: 1, GID: 2, Size: 3, ModTime: manifest.Time{Sec: 4, Nsec: 5},
		SHA256: manifest.Digest{6}, Inode: 7, Links: 2, ChangeTime: manifest.Time{Sec: 8, Nsec: 9}}
	for _, test := range []struct {
		name             string
		change           func(old, e *manifest.Entry)
		links, subvolume bool // whether it is unchanged
	}{
		{"nothing", func(_, e *manifest.Entry) {}, true, true},
		{"another link", func(_, e *manifest.Entry) { e.Links++ }, true, true},
		{"time of change", func(_, e *manifest.Entry) { e.ChangeTime.Nsec++ }, true, false},
		{"no link to the older one", func(_, e *manifest.Entry) { e.Links = 1 }, false, true},
		{"inode", func(_, e *manifest.Entry) { e.Inode++ }, false, false},
		{"type", func(_, e *manifest.Entry) { e.Type = manifest.FIFO }, false, false},
		{"size", func(_, e *manifest.Entry) { e.Size++ }, false, false},
		{"time", func(_, e *manifest.Entry) { e.ModTime.Nsec++ }, false, false},
		{"mode", func(_, e *manifest.Entry) { e.Mode = 0o600 }, false, false},
		{"user", func(_, e *manifest.Entry) { e.UID++ }, false, false},
		{"group", func(_, e *manifest.Entry) { e.GID++ }, false, false},
		{"content not known", func(old, _ *manifest.Entry) { old.SHA256 = manifest.Digest{} }, false, false},
		{"directory", func(old, e *manifest.Entry) { old.Type, e.Type = manifest.Directory, manifest.Directory }, false, true},
	} {
		before, e := old, old
		e.SHA256 = manifest.Digest{}
		test.change(&before, &e)
		if got := (&survey{}).unchanged(&before, &e); got != test.links {
			t.Errorf("%s: with links: %v", test.name, got)
		}
		if got := (&survey{subvolume: true}).unchanged(&before, &e); got != test.subvolume {
			t.Errorf("%s: in a subvolume: %v", test.name, got)
		}
	}
}

func TestUnreadableContentFailsTheBackupUnlessItIsUnchanged(t *testing.T) {
	r := newRig(t, "btrfs")
	marker := strings.Repeat("the content that is going to be damaged ", 1000)
	r.write("file", marker)
	r.write("other", "other")
	r.backup("1", "")
	damage(t, r.fs, marker)
	dropCache(t, r.path("1/file"))
	if _, err := os.ReadFile(r.path("1/file")); !errors.Is(err, unix.EIO) {
		t.Fatalf("the test could not damage the file: %v", err)
	}
	r.write("other", "changed")
	r.backup("2", "1")
	if r.entry("1", "file") != r.entry("2", "file") {
		t.Error("the unchanged file has another entry")
	}

	r.copy("3", "2")
	check(t, os.Chmod(r.path(btrfs.Incoming("3")+"/file"), 0o600))
	_, err := r.folder.Finish(t.Context(), result("3", "2"), nil)
	if !errors.Is(err, unix.EIO) {
		t.Errorf("the error is %v, want EIO", err)
	}
	r.mustNotBe("3", true)
}

// damage changes one byte of the only place on disk that holds the content.
func damage(t *testing.T, fs *btrfstest.FS, content string) {
	t.Helper()
	btrfstest.Run(t, "sync", "--file-system", fs.Dir)
	all, err := os.ReadFile(fs.Image)
	check(t, err)
	image, err := os.OpenFile(fs.Image, os.O_WRONLY, 0)
	check(t, err)
	defer image.Close()
	at := bytes.Index(all, []byte(content))
	if at < 0 {
		t.Fatal("the content is not on disk")
	}
	_, err = image.WriteAt([]byte{'!'}, int64(at))
	check(t, err)
}

func dropCache(t *testing.T, path string) {
	t.Helper()
	file, err := os.Open(path)
	check(t, err)
	defer file.Close()
	check(t, unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED))
}

func TestTimesOfChangeRevealAWriteToASubvolume(t *testing.T) {
	r := newRig(t, "btrfs")
	r.write("file", "before")
	r.backup("1", "")
	r.copy("2", "1")
	path := r.path(btrfs.Incoming("2") + "/file")
	st := stat(t, path)
	check(t, os.WriteFile(path, []byte("after!"), 0o644))
	check(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, 0))
	_, err := r.folder.Finish(t.Context(), result("2", "1"), nil)
	check(t, err)
	before, after := r.entry("1", "file"), r.entry("2", "file")
	if before.ModTime != after.ModTime || before.Size != after.Size || before.Inode != after.Inode {
		t.Fatal("the test changed more than the content")
	}
	if before.SHA256 == after.SHA256 {
		t.Error("the manifest has the content from before")
	}
}

func TestBackupsAreReadOnlySubvolumes(t *testing.T) {
	r := newRig(t, "btrfs")
	r.write("file", "content")
	record := r.backup("1", "")
	info, err := btrfs.InfoAt(r.folder.dir, "1")
	check(t, err)
	if !info.ReadOnly || record.Subvolume != info.UUID.String() {
		t.Errorf("read-only: %v, UUID on record %s, want %s", info.ReadOnly, record.Subvolume, info.UUID)
	}
}

func TestTooManyMissingFilesAreRefused(t *testing.T) {
	for _, test := range []struct {
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
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			onEachKind(t, func(t *testing.T, r *rig) {
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
				files, err := readNames(r.folder.dir, StateDir+"/"+manifestsDir)
				if err != nil || !slices.Equal(files, []string{"1.json", "1.zst"}) {
					t.Errorf("there are %q, %v", files, err)
				}
			})
		})
	}
}

func TestADirectoryInPlaceOfAFileIsAMissingFile(t *testing.T) {
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
	onEachKind(t, func(t *testing.T, r *rig) {
		r.write("file", "content")
		r.backup("1", "")
		r.write("file", "another content")
		r.copy("2", "1")
		check(t, r.folder.rename("1", "2"))
		check(t, r.folder.writeState(manifestFile("2"), []byte("known")))
		_, err := r.folder.Finish(t.Context(), result("2", ""), nil)
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("the error is %v", err)
		}
		if content, err := r.folder.readState(manifestFile("2")); err != nil || string(content) != "known" {
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
	for _, file := range []string{manifestFile("1"), recordFile("1")} {
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

func TestACancelledBackupIsGoneOnWith(t *testing.T) {
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
		if _, err := r.folder.readState(manifestFile("1")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a manifest is left: %v", err)
		}
	})
}

func TestAFileThatVanishesFailsTheBackup(t *testing.T) {
	r := newRig(t, "ext4")
	// More than may wait for the first one, so that the last one was not looked at yet.
	const files = (surveyAhead + 4) * surveyBatch
	r.many(files)
	w := r.copy("1", "")
	_, err := r.folder.Finish(t.Context(), result("1", ""), func(int64) { os.Remove(fmt.Sprintf("%s/many/%05d", w.Path, files-1)) })
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	r.mustNotBe("1", true)
}

func TestAFileThatGrowsFailsTheBackup(t *testing.T) {
	r := newRig(t, "ext4")
	r.write("file", strings.Repeat("x", 2*readSize))
	w := r.copy("1", "")
	_, err := r.folder.Finish(t.Context(), result("1", ""), func(int64) {
		file, err := os.OpenFile(w.Path+"/file", os.O_WRONLY|os.O_APPEND, 0)
		check(t, err)
		defer file.Close()
		if st := stat(t, w.Path+"/file"); st.Size < 3*readSize {
			file.WriteString("more")
		}
	})
	if err == nil {
		t.Error("no error")
	}
}

func TestARenamedFileTakesNoSpaceAndLeavesTheTimeOfItsDirectory(t *testing.T) {
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

func TestAFileOfSeveralNamesIsReadOnce(t *testing.T) {
	onEachKind(t, func(t *testing.T, r *rig) {
		r.write("a/1", "content")
		check(t, os.Link(r.source+"/a/1", r.source+"/a/2"))
		r.many(surveyBatch)
		check(t, os.Link(r.source+"/a/1", r.source+"/z"))
		r.copy("1", "")
		var read int64
		record, err := r.folder.Finish(t.Context(), result("1", ""), func(n int64) { read += n })
		check(t, err)
		if want := record.Bytes - 2*int64(len("content")); read != want {
			t.Errorf("%d bytes were read, want %d", read, want)
		}
		for _, name := range []string{"a/2", "z"} {
			if r.entry("1", "a/1").SHA256 != r.entry("1", name).SHA256 {
				t.Errorf("%s has another content", name)
			}
		}
	})
}

func TestADamagedManifestOfTheBaseIsNotReliedOn(t *testing.T) {
	r := newRig(t, "ext4")
	r.many(3 * baselineBatch)
	r.backup("1", "")
	want := r.entries("1")
	for _, harm := range []struct {
		name string
		do   func(path string) error
	}{
		{"missing", os.Remove},
		{"empty", func(path string) error { return os.Truncate(path, 0) }},
		{"cut off", func(path string) error { return os.Truncate(path, stat(t, path).Size-10) }},
		{"checksum", func(path string) error {
			content, err := os.ReadFile(path)
			content[len(content)-1] ^= 1
			return errors.Join(err, os.WriteFile(path, content, 0o600))
		}},
	} {
		path := r.path(StateDir + "/" + manifestFile("1"))
		kept, err := os.ReadFile(path)
		check(t, err)
		check(t, harm.do(path))
		r.copy("2", "1")
		var read int64
		record, err := r.folder.Finish(t.Context(), result("2", "1"), func(n int64) { read += n })
		check(t, err)
		if read != record.Bytes {
			t.Errorf("%s: %d bytes of %d were read", harm.name, read, record.Bytes)
		}
		if !strings.Contains(r.logged.String(), "have to be read") {
			t.Errorf("%s: it is not told", harm.name)
		}
		for i, e := range r.entries("2") {
			if e.Path != want[i].Path || e.SHA256 != want[i].SHA256 {
				t.Fatalf("%s: the entry is %+v, want %+v", harm.name, e, want[i])
			}
		}
		r.logged.Reset()
		check(t, os.WriteFile(path, kept, 0o600))
		_, err = r.folder.Delete(t.Context(), []string{"2"})
		check(t, err)
	}
}

func TestWhatIsMountedInATreeIsNotEntered(t *testing.T) {
	r := newRig(t, "ext4")
	r.write("dir/file", "content")
	r.write("other/file", "content of the other")
	w := r.copy("1", "")
	check(t, unix.Mount(w.Path+"/other", w.Path+"/dir", "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(r.path("1/dir"), 0) })
	_, err := r.folder.Finish(t.Context(), result("1", ""), nil)
	check(t, err)
	for _, e := range r.entries("1") {
		if e.Path == "dir/file" {
			t.Error("the manifest has what is mounted")
		}
	}
}

func TestASubvolumeInATreeIsNotEntered(t *testing.T) {
	r := newRig(t, "btrfs")
	w := r.copy("1", "")
	check(t, btrfs.Create(btrfstest.Open(t, w.Path), "nested"))
	check(t, os.WriteFile(w.Path+"/nested/file", nil, 0o644))
	_, err := r.folder.Finish(t.Context(), result("1", ""), nil)
	check(t, err)
	for _, e := range r.entries("1") {
		if e.Path == "nested/file" {
			t.Error("the manifest has what is in the subvolume")
		}
	}
}

func TestWhatItsOwnerMayNotReadIsPartOfTheBackup(t *testing.T) {
	r := newRig(t, "ext4")
	r.many(minGone)
	r.write("secret", "content")
	r.backup("1", "")
	check(t, os.WriteFile(r.source+"/secret", []byte("new"), 0o644))
	w := r.copy("2", "1")
	check(t, os.Chmod(w.Path+"/secret", 0))
	check(t, os.Chmod(w.Path+"/many", 0))
	btrfstest.Run(t, "chown", "-R", "65534:65534", r.path(""))
	asNobody(t, func() {
		_, err := r.folder.Finish(t.Context(), result("2", "1"), nil)
		check(t, err)
	})
	if e := r.entry("2", "secret"); e.SHA256 != (manifest.Digest{}) || e.Size != 3 {
		t.Errorf("the entry is %+v", e)
	}
	if strings.Count(r.logged.String(), "cannot be verified") != 2 {
		t.Errorf("what is told is %s", &r.logged)
	}
}

// asNobody does something as an ordinary user.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	check(t, syscall.Setresuid(-1, 65534, -1))
	defer func() { check(t, syscall.Setresuid(-1, 0, -1)) }()
	// A process that changed its user may not look into its own /proc.
	check(t, unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0))
	do()
}
