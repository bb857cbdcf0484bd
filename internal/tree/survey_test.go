package tree

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/survey"

	"golang.org/x/sys/unix"
)

func TestManifestUponABaseIsThatOfACompleteReading(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(t *testing.T, r *rig) {
		r.populate()
		r.backup("1", "")
		btrfstest.Change(t, r.source, 1)
		check(t, os.Rename(r.source+"/files/large", r.source+"/files/renamed"))
		record := r.backup("2", "1")

		var scratch bytes.Buffer
		unread := func(path string, err error) { t.Errorf("%s: %v", path, err) }
		o := survey.Options{Progress: func(int64) {}, Unread: unread}
		found, err := survey.Tree(t.Context(), btrfstest.Open(t, r.path("2")), o, &scratch)
		check(t, err)
		if record.Files != found.Files || record.Bytes != found.Bytes {
			t.Errorf("%d files with %d bytes are on record, want %d with %d", record.Files, record.Bytes, found.Files, found.Bytes)
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
	t.Parallel()
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

func TestUnreadableContentFailsTheBackupUnlessItIsUnchanged(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

func TestAFileOfSeveralNamesIsReadOnce(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(t *testing.T, r *rig) {
		r.write("a/1", "content")
		check(t, os.Link(r.source+"/a/1", r.source+"/a/2"))
		r.many(300)
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
	t.Parallel()
	r := newRig(t, "ext4")
	r.many(800)
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
		path := r.path(StateDir + "/" + state.ManifestFile("1"))
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
		if !strings.Contains(r.logged.String(), "reading all files") {
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
	t.Parallel()
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
	t.Parallel()
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
