package tree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
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

const verified = "20260102-030405" // name of the backup that is verified

// newVerified makes a folder with a backup, as described by its manifest.
func newVerified(t *testing.T) (f *Folder, backup string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "folder")
	backup = filepath.Join(path, verified)
	write(t, backup, "a/b/file", "a/b/large", "a-b/file", "top", "z")
	check(t, os.WriteFile(filepath.Join(backup, "a/b/large"), bytes.Repeat([]byte("0123456789abcdef"), 100_000), 0o600))
	check(t, os.Mkdir(filepath.Join(backup, "empty"), 0o755))
	check(t, os.Symlink("a/b/file", filepath.Join(backup, "link")))
	check(t, unix.Mkfifo(filepath.Join(backup, "fifo"), 0o600))
	check(t, os.Link(filepath.Join(backup, "top"), filepath.Join(backup, "a/top")))
	check(t, unix.Lsetxattr(filepath.Join(backup, "z"), "user.note", []byte("x"), 0))
	if os.Geteuid() == 0 {
		check(t, unix.Mknod(filepath.Join(backup, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	}
	setTimes(t, backup)
	describeBackup(t, path, verified)
	return New(btrfstest.Open(t, path), slog.New(slog.DiscardHandler)), backup
}

// setTimes makes all times below a path old and different, so that no change goes without a new one.
func setTimes(t *testing.T, root string) {
	t.Helper()
	paths := allPaths(t, root)
	slices.Reverse(paths)
	for i, path := range paths {
		setTime(t, filepath.Join(root, path), unix.Timespec{Sec: 1_500_000_000, Nsec: int64(i) + 1})
	}
}

func setTime(t *testing.T, path string, at unix.Timespec) {
	t.Helper()
	check(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
}

// allPaths gives all below a root, relative to it, in the order of a manifest.
func allPaths(t *testing.T, root string) (paths []string) {
	t.Helper()
	check(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		relative, _ := filepath.Rel(root, path)
		paths = append(paths, relative)
		return err
	}))
	slices.SortFunc(paths, manifest.Compare)
	return paths
}

// describeBackup writes the manifest of what stands under a name in a folder.
func describeBackup(t *testing.T, folder, name string) {
	t.Helper()
	var entries []manifest.Entry
	for _, path := range allPaths(t, filepath.Join(folder, name)) {
		full := filepath.Join(folder, name, path)
		var st unix.Stat_t
		check(t, unix.Lstat(full, &st))
		e := manifest.Describe(path, &st)
		var err error
		switch e.Type {
		case manifest.Symlink:
			e.Target, err = os.Readlink(full)
			check(t, err)
		case manifest.Regular:
			content, err := os.ReadFile(full)
			check(t, err)
			e.SHA256 = sha256.Sum256(content)
		}
		e.Xattrs, err = manifest.Xattrs(full)
		check(t, err)
		entries = append(entries, e)
	}
	writeManifest(t, folder, name, entries)
}

func writeManifest(t *testing.T, folder, name string, entries []manifest.Entry) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Join(folder, StateDir, manifestsDir), 0o755))
	file, err := os.Create(filepath.Join(folder, StateDir, ManifestFile(name)))
	check(t, err)
	defer file.Close()
	w, err := manifest.NewWriter(file)
	check(t, err)
	for _, e := range entries {
		check(t, w.Write(e))
	}
	check(t, w.Close())
}

// mustVerify gives the differences as lines of path and kind.
func mustVerify(t *testing.T, f *Folder, o VerifyOptions) (Verified, []string) {
	t.Helper()
	var lines []string
	v, err := f.Verify(t.Context(), verified, o, func(d Difference) { lines = append(lines, d.Path+" "+string(d.Kind)) }, unwatched)
	check(t, err)
	if v.Differences != int64(len(lines)) {
		t.Errorf("it told %d differences and counts %d", len(lines), v.Differences)
	}
	return v, lines
}

func expectDifferences(t *testing.T, f *Folder, o VerifyOptions, want ...string) {
	t.Helper()
	if _, got := mustVerify(t, f, o); !slices.Equal(got, want) {
		t.Errorf("with %+v\n got %q\nwant %q", o, got, want)
	}
}

func TestVerifyPassesABackupThatIsAsItWas(t *testing.T) {
	btrfstest.RequireRoot(t)
	f, _ := newVerified(t)
	v, differences := mustVerify(t, f, VerifyOptions{})
	const bytes = 1_600_000 + int64(len("content of a/b/file")+len("content of a-b/file")+len("content of top")+len("content of z"))
	if want := (Verified{Files: 9, Bytes: bytes}); v != want || len(differences) > 0 {
		t.Errorf("got %+v, want %+v, differences %q", v, want, differences)
	}
	if v, differences := mustVerify(t, f, VerifyOptions{Fast: true}); v != (Verified{Files: 9}) || len(differences) > 0 {
		t.Errorf("fast: got %+v, differences %q", v, differences)
	}
}

func TestVerifyTellsEachAspectThatDiffers(t *testing.T) {
	btrfstest.RequireRoot(t)
	for _, c := range []struct {
		change func(t *testing.T, dir string)
		want   []string // path and kind, with "fast" if a fast verification tells it too
	}{
		{func(t *testing.T, dir string) { check(t, os.Remove(dir+"/z")) }, []string{"z missing fast"}},
		{func(t *testing.T, dir string) { check(t, os.RemoveAll(dir+"/a/b")) },
			[]string{"a/b missing fast", "a/b/file missing fast", "a/b/large missing fast"}},
		{func(t *testing.T, dir string) { write(t, dir, "a/b-new", "zz/new") },
			[]string{"a/b-new unexpected fast", "zz unexpected fast", "zz/new unexpected fast"}},
		{func(t *testing.T, dir string) { check(t, os.Truncate(dir+"/z", 3)) }, []string{"z size fast"}},
		{func(t *testing.T, dir string) { setTime(t, dir+"/z", unix.Timespec{Sec: 1_500_000_000}) }, []string{"z time fast"}},
		{func(t *testing.T, dir string) { setTime(t, dir+"/link", unix.Timespec{Sec: 1}) }, []string{"link time fast"}},
		{func(t *testing.T, dir string) { setTime(t, dir, unix.Timespec{Sec: 1}) }, []string{". time fast"}},
		{func(t *testing.T, dir string) { check(t, os.Chmod(dir+"/z", 0o640)) }, []string{"z mode fast"}},
		{func(t *testing.T, dir string) { check(t, unix.Chmod(dir+"/empty", 0o1755)) }, []string{"empty mode fast"}},
		{func(t *testing.T, dir string) { check(t, os.Lchown(dir+"/link", 1, -1)) }, []string{"link owner"}},
		{func(t *testing.T, dir string) { check(t, os.Lchown(dir+"/z", -1, 1)) }, []string{"z owner"}},
		{func(t *testing.T, dir string) {
			replace(t, dir+"/link", func(p string) error { return os.Symlink("a/b/fil_", p) })
		},
			[]string{"link target"}},
		{func(t *testing.T, dir string) {
			replace(t, dir+"/device", func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) })
		}, []string{"device device"}},
		{func(t *testing.T, dir string) { check(t, unix.Lsetxattr(dir+"/z", "user.note", []byte("y"), 0)) }, []string{"z xattrs"}},
		{func(t *testing.T, dir string) { check(t, unix.Lremovexattr(dir+"/z", "user.note")) }, []string{"z xattrs"}},
		{func(t *testing.T, dir string) { check(t, unix.Lsetxattr(dir+"/a", "user.new", nil, 0)) }, []string{"a xattrs"}},
		{func(t *testing.T, dir string) { check(t, unix.Lsetxattr(dir, "user.new", nil, 0)) }, []string{". xattrs"}},
		{func(t *testing.T, dir string) { check(t, unix.Lsetxattr(dir+"/link", "trusted.new", nil, 0)) }, []string{"link xattrs"}},
		{func(t *testing.T, dir string) { overwrite(t, dir+"/z") }, []string{"z content"}},
		{func(t *testing.T, dir string) { overwrite(t, dir+"/a/b/large") }, []string{"a/b/large content"}},
		{func(t *testing.T, dir string) { overwrite(t, dir+"/top") }, []string{"a/top content", "top content"}},
		{func(t *testing.T, dir string) {
			replace(t, dir+"/z", func(p string) error { return os.Mkdir(p, 0o600) })
		}, []string{"z type fast"}},
		{func(t *testing.T, dir string) {
			replace(t, dir+"/a", func(p string) error { return os.Symlink("/", p) })
		}, []string{"a type fast", "a/b missing fast", "a/b/file missing fast", "a/b/large missing fast", "a/top missing fast"}},
		{func(t *testing.T, dir string) {
			replace(t, dir+"/fifo", func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o644, 0) })
		}, []string{"fifo type fast"}},
	} {
		f, backup := newVerified(t)
		keepingTimes(t, backup, func() { c.change(t, backup) })
		var all, fast []string
		for _, line := range c.want {
			line, isFast := strings.CutSuffix(line, " fast")
			all = append(all, line)
			if isFast {
				fast = append(fast, line)
			}
		}
		expectDifferences(t, f, VerifyOptions{}, all...)
		expectDifferences(t, f, VerifyOptions{Fast: true}, fast...)
	}
}

// keepingTimes gives files back the times that they had before do, if that does not set them itself.
func keepingTimes(t *testing.T, root string, do func()) {
	t.Helper()
	times := func() map[string]unix.Timespec {
		found := make(map[string]unix.Timespec)
		for _, path := range allPaths(t, root) {
			var st unix.Stat_t
			check(t, unix.Lstat(filepath.Join(root, path), &st))
			found[path] = st.Mtim
		}
		return found
	}
	before := times()
	do()
	for path, now := range times() {
		if had, ok := before[path]; ok && now.Sec > 1_600_000_000 {
			setTime(t, filepath.Join(root, path), had)
		}
	}
}

func replace(t *testing.T, path string, by func(path string) error) {
	t.Helper()
	check(t, os.RemoveAll(path))
	check(t, by(path))
}

// overwrite changes the last byte of a file.
func overwrite(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	check(t, err)
	content[len(content)-1] ^= 1
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	check(t, err)
	_, err = file.WriteAt(content, 0)
	check(t, errors.Join(err, file.Close()))
}

func TestVerifyTellsWhatWasAndWhatIs(t *testing.T) {
	f, backup := newVerified(t)
	check(t, os.Chmod(backup+"/z", 0o600))
	setTime(t, backup+"/z", unix.Timespec{Sec: -2, Nsec: 5e8})
	var got []Difference
	_, err := f.Verify(t.Context(), verified, VerifyOptions{}, func(d Difference) { got = append(got, d) }, unwatched)
	check(t, err)
	want := []Difference{
		{Path: "z", Kind: OtherTime, Want: "2017-07-14T02:40:00.000000001Z", Got: "1969-12-31T23:59:58.500000000Z"},
		{Path: "z", Kind: OtherMode, Want: "0644", Got: "0600"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestVerifyNeverPassesWhatItCannotRead(t *testing.T) {
	btrfstest.RequireRoot(t)
	f, backup := newVerified(t)
	for _, path := range []string{"z", "top", "a/b"} {
		check(t, os.Chmod(filepath.Join(backup, path), 0))
	}
	describeBackup(t, f.dir.Name(), verified)
	check(t, os.Chmod(f.dir.Name(), 0o755))
	defer asOrdinaryUser(t)()
	expectDifferences(t, f, VerifyOptions{},
		"a/b not readable", "a/b/file not readable", "a/b/large not readable", "a/top not readable", "top not readable", "z not readable",
		"z not readable") // its content, and its extended attributes
	expectDifferences(t, f, VerifyOptions{Fast: true}, "a/b not readable", "a/b/file not readable", "a/b/large not readable")
}

func TestAContentThatFailsToBeReadIsNotPassed(t *testing.T) {
	directory, err := os.Open(t.TempDir()) // can be opened, and not read as a file
	check(t, err)
	f := checkedFile{path: "file", content: &rereading{file: directory, ended: make(chan struct{})}}
	f.content.read(t.Context(), make([]byte, readSize), func(int64) {})
	f.judgeContent()
	if want := []Difference{{Path: "file", Kind: NotReadable, Got: "is a directory"}}; !slices.Equal(f.differences, want) {
		t.Errorf("got %+v, want %+v", f.differences, want)
	}
}

// asOrdinaryUser takes this process its privileges until the function that it gives.
func asOrdinaryUser(t *testing.T) (end func()) {
	t.Helper()
	check(t, syscall.Seteuid(65534))
	return func() { check(t, syscall.Seteuid(0)) }
}

func TestVerifyDoesNotLookIntoWhatIsMountedInABackup(t *testing.T) {
	btrfstest.RequireRoot(t)
	for _, bind := range []bool{false, true} {
		f, backup := newVerified(t)
		source, kind, flags := "tmpfs", "tmpfs", uintptr(0)
		if bind {
			source, kind, flags = backup+"/a", "", unix.MS_BIND
		}
		check(t, unix.Mount(source, backup+"/a", kind, flags, ""))
		var got []string
		_, err := f.Verify(t.Context(), verified, VerifyOptions{}, func(d Difference) {
			if d.Kind != OtherTime && d.Kind != OtherMode {
				got = append(got, d.Path+" "+string(d.Kind))
			}
		}, unwatched)
		check(t, unix.Unmount(backup+"/a", 0))
		check(t, err)
		want := []string{"a not readable", "a/b not readable", "a/b/file not readable", "a/b/large not readable", "a/top not readable"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestVerifyDoesNotLookIntoASubvolumeInABackup(t *testing.T) {
	f := newFolder(t, "btrfs")
	backup := f.pathOf(verified)
	check(t, os.Mkdir(backup, 0o755))
	check(t, btrfs.Create(btrfstest.Open(t, backup), "nested"))
	write(t, backup, "nested/file", "file")
	describeBackup(t, f.dir.Name(), verified)
	expectDifferences(t, f, VerifyOptions{}, "nested not readable", "nested/file not readable")
}

func TestVerifyTellsDifferencesInOrderHoweverManyAreReadAtOnce(t *testing.T) {
	f, backup := newVerified(t)
	var want []string
	for i := range 1000 {
		name := fmt.Sprintf("many/%04d", i)
		write(t, backup, name)
		if i%7 == 0 {
			check(t, os.WriteFile(filepath.Join(backup, name), make([]byte, 1<<20), 0o644))
		}
		want = append(want, name+" content")
	}
	setTimes(t, backup)
	describeBackup(t, f.dir.Name(), verified)
	for i := range 1000 {
		keepingTimes(t, fmt.Sprintf("%s/many/%04d", backup, i), func() { overwrite(t, fmt.Sprintf("%s/many/%04d", backup, i)) })
	}
	expectDifferences(t, f, VerifyOptions{}, want...)
}

func TestVerifyReadsAnInodeOnce(t *testing.T) {
	f, backup := newVerified(t)
	before, _ := mustVerify(t, f, VerifyOptions{})
	for i := range 50 {
		check(t, os.Link(backup+"/a/b/large", fmt.Sprintf("%s/large%02d", backup, i)))
	}
	setTimes(t, backup)
	describeBackup(t, f.dir.Name(), verified)
	after, differences := mustVerify(t, f, VerifyOptions{})
	if after.Bytes != before.Bytes || len(differences) > 0 {
		t.Errorf("it read %d bytes, and %d before the links were made; differences %q", after.Bytes, before.Bytes, differences)
	}
}

func TestVerifyIsNotLedOutOfABackupByItsManifest(t *testing.T) {
	f, backup := newVerified(t)
	outside := t.TempDir()
	write(t, outside, "file")
	entries := []manifest.Entry{{Path: ".", Type: manifest.Directory}, {Path: "out/file", Type: manifest.Regular}}
	check(t, os.RemoveAll(backup))
	check(t, os.Mkdir(backup, 0o755))
	check(t, os.Symlink(outside, backup+"/out"))
	writeManifest(t, f.dir.Name(), verified, entries)
	_, got := mustVerify(t, f, VerifyOptions{})
	if want := []string{"out unexpected", "out/file missing"}; len(got) < 2 || !slices.Equal(got[len(got)-2:], want) {
		t.Errorf("got %q, want %q at the end", got, want)
	}
}

func TestVerifyNeedsAManifestThatIsWhole(t *testing.T) {
	f, backup := newVerified(t)
	path := filepath.Join(f.dir.Name(), StateDir, ManifestFile(verified))
	content, err := os.ReadFile(path)
	check(t, err)
	check(t, os.Chmod(backup+"/a", 0o700))
	fail := func(d Difference) { t.Errorf("it told %+v", d) }

	check(t, os.WriteFile(path, content[:len(content)-1], 0o600))
	if _, err := f.Verify(t.Context(), verified, VerifyOptions{}, fail, unwatched); err == nil {
		t.Error("a manifest without its end is taken")
	}
	check(t, os.Remove(path))
	if _, err := f.Verify(t.Context(), verified, VerifyOptions{}, fail, unwatched); !errors.Is(err, ErrNoManifest) || !strings.Contains(err.Error(), verified) {
		t.Errorf("without a manifest: %v", err)
	}
	if err := f.Export(t.Context(), verified, &bytes.Buffer{}); !errors.Is(err, ErrNoManifest) {
		t.Errorf("exporting without a manifest: %v", err)
	}
	check(t, os.WriteFile(path, content, 0o600))
	check(t, os.RemoveAll(backup))
	if _, err := f.Verify(t.Context(), verified, VerifyOptions{}, fail, unwatched); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNoManifest) {
		t.Errorf("without the backup: %v", err)
	}
}

func TestVerifyTakesNothingButTheNameOfABackup(t *testing.T) {
	f, _ := newVerified(t)
	for _, name := range []string{"", ".", "..", "../folder/" + verified, verified + "/a", StateDir} {
		if _, err := f.Verify(t.Context(), name, VerifyOptions{}, func(Difference) {}, unwatched); err == nil || errors.Is(err, ErrNoManifest) {
			t.Errorf("Verify(%q): %v", name, err)
		}
		if err := f.Export(t.Context(), name, &bytes.Buffer{}); err == nil || errors.Is(err, ErrNoManifest) {
			t.Errorf("Export(%q): %v", name, err)
		}
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	f, backup := newVerified(t)
	if _, err := f.Verify(ended(t), verified, VerifyOptions{}, func(Difference) {}, unwatched); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// It ends while the last file, whose content nobody can tell then, is read.
	check(t, os.Chmod(backup+"/a-b", 0o700))
	check(t, os.Truncate(backup+"/z", 1<<40))
	setTime(t, backup+"/z", unix.Timespec{Sec: 1})
	describeSparse(t, f.dir.Name())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := f.Verify(ctx, verified, VerifyOptions{}, func(d Difference) {
		if d.Kind == OtherContent || d.Kind == NotReadable {
			t.Errorf("it told %+v", d)
		}
	}, unwatched)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// describeSparse describes one file that takes long to read.
func describeSparse(t *testing.T, folder string) {
	t.Helper()
	var entries []manifest.Entry
	for _, path := range []string{".", "z"} {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(folder, verified, path), &st))
		entries = append(entries, manifest.Describe(path, &st))
	}
	writeManifest(t, folder, verified, entries)
}

func TestSha256sumSaysTheSameOfAnExportedListAsVerify(t *testing.T) {
	f, backup := newVerified(t)
	write(t, backup, "-", "new\nline", `back\slash`, "\xff", "-c/--help")
	describeBackup(t, f.dir.Name(), verified)
	var list bytes.Buffer
	check(t, f.Export(t.Context(), verified, &list))
	sha256sum := func() []byte {
		cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "--quiet")
		cmd.Dir, cmd.Stdin = backup, bytes.NewReader(list.Bytes())
		out, _ := cmd.CombinedOutput()
		return out
	}
	if out := sha256sum(); len(out) > 0 {
		t.Fatalf("of an untouched backup it says\n%s", out)
	}
	for _, path := range []string{"-", "new\nline", "z", "a/b/large"} {
		keepingTimes(t, backup, func() { overwrite(t, filepath.Join(backup, path)) })
	}
	check(t, os.Remove(backup+"/a-b/file"))
	if out := sha256sum(); bytes.Count(out, []byte("FAILED\n")) != 4 || bytes.Count(out, []byte("FAILED open or read\n")) != 1 {
		t.Errorf("of four changed files and a missing one it says\n%s", out)
	}
	var content, missing int
	_, err := f.Verify(t.Context(), verified, VerifyOptions{}, func(d Difference) {
		switch d.Kind {
		case OtherContent:
			content++
		case Missing:
			missing++
		}
	}, unwatched)
	if err != nil || content != 4 || missing != 1 {
		t.Errorf("it told %d contents and %d missing files, %v", content, missing, err)
	}
}

func TestABackupIsVerifiedByALinkToIt(t *testing.T) {
	f, backup := newVerified(t)
	dir := filepath.Dir(backup)
	check(t, os.Symlink(verified, filepath.Join(dir, ".latest")))
	if v, err := f.Verify(t.Context(), ".latest", VerifyOptions{}, func(d Difference) { t.Error(d) }, unwatched); err != nil || v.Files == 0 {
		t.Errorf("%+v, error: %v", v, err)
	}
	check(t, f.Export(t.Context(), ".latest", &bytes.Buffer{}))
	for _, target := range []string{"../" + verified, dir + "/" + verified} {
		check(t, os.Remove(filepath.Join(dir, ".latest")))
		check(t, os.Symlink(target, filepath.Join(dir, ".latest")))
		if _, err := f.Verify(t.Context(), ".latest", VerifyOptions{}, func(Difference) {}, unwatched); err == nil {
			t.Errorf("a link to %s is followed out of the folder", target)
		}
	}
}

func unwatched(int64, int64) {}

func TestHowFarAVerificationIsIsTold(t *testing.T) {
	r := newRig(t, "ext4")
	r.populate()
	r.backup("1", "")
	var last, want int64
	seen := make(map[uint64]bool)
	for _, e := range r.entries("1") {
		if !seen[e.Inode] {
			want += e.Size
		}
		seen[e.Inode] = true
	}
	watch := func(read, total int64) {
		if read < last || total != want {
			t.Errorf("%d of %d bytes were read, after %d; want %d", read, total, last, want)
		}
		last = read
	}
	v, err := r.folder.Verify(t.Context(), "1", VerifyOptions{}, func(d Difference) { t.Error(d) }, watch)
	check(t, err)
	if last != want || v.Bytes != want {
		t.Errorf("%d bytes were told in the end, %d were read, want %d", last, v.Bytes, want)
	}
}
