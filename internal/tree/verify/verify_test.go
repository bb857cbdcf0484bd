package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

var check = btrfstest.Check

// A described tree has a manifest.
type described struct{ path, manifest string }

// verify verifies the tree.
func (d described) verify(ctx context.Context, o Options, found func(Difference), progress func(read, total int64)) (Verified, error) {
	root, err := os.Open(d.path)
	if err != nil {
		return Verified{}, err
	}
	defer root.Close()
	file, err := os.Open(d.manifest)
	if err != nil {
		return Verified{}, err
	}
	defer file.Close()
	return Tree(ctx, root, file, o, found, progress)
}

// newDescribed makes a tree with some of everything, and gives its path too.
func newDescribed(t *testing.T) (d described, backup string) {
	t.Helper()
	backup = filepath.Join(t.TempDir(), "tree")
	d = described{backup, filepath.Join(t.TempDir(), "manifest")}
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
	d.describe(t)
	return d, backup
}

// write makes files below a directory, and the directories above them.
func write(t *testing.T, dir string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		full := filepath.Join(dir, path)
		check(t, os.MkdirAll(filepath.Dir(full), 0o755))
		check(t, os.WriteFile(full, []byte("content of "+path), 0o644))
	}
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

// describe writes the manifest of the tree as it is.
func (d described) describe(t *testing.T) {
	t.Helper()
	var entries []manifest.Entry
	for _, path := range allPaths(t, d.path) {
		full := filepath.Join(d.path, path)
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
	d.writeManifest(t, entries)
}

func (d described) writeManifest(t *testing.T, entries []manifest.Entry) {
	t.Helper()
	file, err := os.Create(d.manifest)
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
func mustVerify(t *testing.T, f described, o Options) (Verified, []string) {
	t.Helper()
	var lines []string
	v, err := f.verify(t.Context(), o, func(d Difference) { lines = append(lines, d.Path+" "+string(d.Kind)) }, unwatched)
	check(t, err)
	if v.Differences != int64(len(lines)) {
		t.Errorf("it told %d differences and counts %d", len(lines), v.Differences)
	}
	return v, lines
}

func expectDifferences(t *testing.T, f described, o Options, want ...string) {
	t.Helper()
	if _, got := mustVerify(t, f, o); !slices.Equal(got, want) {
		t.Errorf("with %+v\n got %q\nwant %q", o, got, want)
	}
}

func TestVerifyPassesABackupThatIsAsItWas(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	f, _ := newDescribed(t)
	v, differences := mustVerify(t, f, Options{})
	const bytes = 1_600_000 + int64(len("content of a/b/file")+len("content of a-b/file")+len("content of top")+len("content of z"))
	if want := (Verified{Files: 9, Bytes: bytes}); v != want || len(differences) > 0 {
		t.Errorf("got %+v, want %+v, differences %q", v, want, differences)
	}
	if v, differences := mustVerify(t, f, Options{Fast: true}); v != (Verified{Files: 9}) || len(differences) > 0 {
		t.Errorf("fast: got %+v, differences %q", v, differences)
	}
}

func TestVerifyTellsEachAspectThatDiffers(t *testing.T) {
	t.Parallel()
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
		{func(t *testing.T, dir string) { check(t, os.Lchown(dir+"/link", 1, -1)) }, []string{"link owner fast"}},
		{func(t *testing.T, dir string) { check(t, os.Lchown(dir+"/z", -1, 1)) }, []string{"z owner fast"}},
		{func(t *testing.T, dir string) {
			replace(t, dir+"/link", func(p string) error { return os.Symlink("a/b/fil_", p) })
		},
			[]string{"link target fast"}},
		{func(t *testing.T, dir string) {
			replace(t, dir+"/device", func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) })
		}, []string{"device device fast"}},
		{func(t *testing.T, dir string) { check(t, unix.Lsetxattr(dir+"/z", "user.note", []byte("y"), 0)) }, []string{"z xattrs fast"}},
		{func(t *testing.T, dir string) { check(t, unix.Lremovexattr(dir+"/z", "user.note")) }, []string{"z xattrs fast"}},
		{func(t *testing.T, dir string) { check(t, unix.Lsetxattr(dir+"/a", "user.new", nil, 0)) }, []string{"a xattrs fast"}},
		{func(t *testing.T, dir string) { check(t, unix.Lsetxattr(dir, "user.new", nil, 0)) }, []string{". xattrs fast"}},
		{func(t *testing.T, dir string) { check(t, unix.Lsetxattr(dir+"/link", "trusted.new", nil, 0)) }, []string{"link xattrs fast"}},
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
		f, backup := newDescribed(t)
		keepingTimes(t, backup, func() { c.change(t, backup) })
		var all, fast []string
		for _, line := range c.want {
			line, isFast := strings.CutSuffix(line, " fast")
			all = append(all, line)
			if isFast {
				fast = append(fast, line)
			}
		}
		expectDifferences(t, f, Options{}, all...)
		expectDifferences(t, f, Options{Fast: true}, fast...)
	}
}

func TestVerifySeesWhichNamesAreOneFile(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T)
		want   []string
	}{
		"nothing":                  {func(*testing.T) {}, nil},
		"one name became a file":   {func(t *testing.T) { relink(t, "../spare", "a2") }, []string{"a2 links"}},
		"two files became one":     {func(t *testing.T) { relink(t, "b", "c") }, []string{"c links"}},
		"a name of another file":   {func(t *testing.T) { relink(t, "b", "a1") }, []string{"a2 links", "b links"}},
		"other inodes, same names": {func(t *testing.T) { relink(t, "../spare", "a1"); relink(t, "../spare", "a2") }, nil},
		"a further name elsewhere": {func(t *testing.T) { relink(t, "b", "../spare") }, nil},
		"a fifo": {func(t *testing.T) {
			replace(t, "fifo2", func(p string) error { return unix.Mkfifo(p, 0o644) })
		}, []string{"fifo2 links"}},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			f := described{filepath.Join(top, "tree"), filepath.Join(top, "manifest")}
			check(t, os.Mkdir(f.path, 0o755))
			for _, path := range []string{"a1", "b", "c", "../spare"} {
				check(t, os.WriteFile(filepath.Join(f.path, path), []byte("content"), 0o644))
			}
			check(t, unix.Mkfifo(filepath.Join(f.path, "fifo1"), 0o644))
			t.Chdir(f.path)
			relink(t, "a1", "a2")
			relink(t, "fifo1", "fifo2")
			same := func() {
				for _, path := range append(allPaths(t, "."), "../spare") {
					setTime(t, path, unix.Timespec{Sec: 1})
				}
			}
			same()
			f.describe(t)
			c.change(t)
			same()
			expectDifferences(t, f, Options{}, c.want...)
			expectDifferences(t, f, Options{Fast: true}, c.want...)
		})
	}
}

// relink makes a path a name of the file at another one.
func relink(t *testing.T, from, to string) {
	t.Helper()
	check(t, os.RemoveAll(to))
	check(t, os.Link(from, to))
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
	t.Parallel()
	f, backup := newDescribed(t)
	check(t, os.Chmod(backup+"/z", 0o600))
	setTime(t, backup+"/z", unix.Timespec{Sec: -2, Nsec: 5e8})
	var got []Difference
	_, err := f.verify(t.Context(), Options{}, func(d Difference) { got = append(got, d) }, unwatched)
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
	f, backup := newDescribed(t)
	for _, path := range []string{"z", "top", "a/b"} {
		check(t, os.Chmod(filepath.Join(backup, path), 0))
	}
	f.describe(t)
	check(t, os.Chmod(filepath.Dir(f.path), 0o755))
	check(t, os.Chmod(filepath.Dir(filepath.Dir(f.path)), 0o755))
	check(t, os.Chmod(filepath.Dir(f.manifest), 0o755))
	defer asOrdinaryUser(t)()
	expectDifferences(t, f, Options{},
		"a/b not readable", "a/b/file not readable", "a/b/large not readable", "a/top not readable", "top not readable", "z not readable",
		"z not readable") // its content, and its extended attributes
	expectDifferences(t, f, Options{Fast: true}, "a/b not readable", "a/b/file not readable", "a/b/large not readable", "z not readable")
}

func TestAContentThatFailsToBeReadIsNotPassed(t *testing.T) {
	t.Parallel()
	dir, err := walk.OpenDir(btrfstest.Open(t, t.TempDir()))
	check(t, err)
	directory, err := dir.File(".", "file") // can be opened, and not read as a file
	check(t, err)
	f := checkedFile{path: "file", content: &rereading{file: directory, ended: make(chan struct{})}}
	f.content.read(t.Context(), make([]byte, walk.ReadSize), func(int64, int64) {})
	f.judgeContent()
	if want := []Difference{{Path: "file", Kind: NotReadable, Got: "it changes while it is read"}}; !slices.Equal(f.differences, want) {
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
	t.Parallel()
	btrfstest.RequireRoot(t)
	for _, bind := range []bool{false, true} {
		f, backup := newDescribed(t)
		source, kind, flags := "tmpfs", "tmpfs", uintptr(0)
		if bind {
			source, kind, flags = backup+"/a", "", unix.MS_BIND
		}
		check(t, unix.Mount(source, backup+"/a", kind, flags, ""))
		var got []string
		_, err := f.verify(t.Context(), Options{}, func(d Difference) {
			if d.Kind != OtherTime && d.Kind != OtherMode {
				got = append(got, d.Path+" "+string(d.Kind))
			}
		}, unwatched)
		btrfstest.Unmount(t, backup+"/a")
		check(t, err)
		want := []string{"a not readable", "a/b not readable", "a/b/file not readable", "a/b/large not readable", "a/top not readable"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestVerifyDoesNotLookIntoASubvolumeInABackup(t *testing.T) {
	t.Parallel()
	backup := filepath.Join(btrfstest.New(t, 320<<20).Dir, "tree")
	f := described{backup, filepath.Join(t.TempDir(), "manifest")}
	check(t, os.Mkdir(backup, 0o755))
	check(t, btrfs.Create(btrfstest.Open(t, backup), "nested"))
	write(t, backup, "nested/file", "file")
	f.describe(t)
	expectDifferences(t, f, Options{}, "nested not readable", "nested/file not readable")
}

func TestVerifyTellsDifferencesInOrderHoweverManyAreReadAtOnce(t *testing.T) {
	t.Parallel()
	f, backup := newDescribed(t)
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
	f.describe(t)
	for i := range 1000 {
		keepingTimes(t, fmt.Sprintf("%s/many/%04d", backup, i), func() { overwrite(t, fmt.Sprintf("%s/many/%04d", backup, i)) })
	}
	expectDifferences(t, f, Options{}, want...)
}

func TestVerifyReadsAnInodeOnce(t *testing.T) {
	t.Parallel()
	f, backup := newDescribed(t)
	before, _ := mustVerify(t, f, Options{})
	for i := range 50 {
		check(t, os.Link(backup+"/a/b/large", fmt.Sprintf("%s/large%02d", backup, i)))
	}
	setTimes(t, backup)
	f.describe(t)
	after, differences := mustVerify(t, f, Options{})
	if after.Bytes != before.Bytes || len(differences) > 0 {
		t.Errorf("it read %d bytes, and %d before the links were made; differences %q", after.Bytes, before.Bytes, differences)
	}
}

func TestVerifyIsNotLedOutOfABackupByItsManifest(t *testing.T) {
	t.Parallel()
	f, backup := newDescribed(t)
	outside := t.TempDir()
	write(t, outside, "file")
	entries := []manifest.Entry{{Path: ".", Type: manifest.Directory}, {Path: "out/file", Type: manifest.Regular}}
	check(t, os.RemoveAll(backup))
	check(t, os.Mkdir(backup, 0o755))
	check(t, os.Symlink(outside, backup+"/out"))
	f.writeManifest(t, entries)
	_, got := mustVerify(t, f, Options{})
	if want := []string{"out unexpected", "out/file missing"}; len(got) < 2 || !slices.Equal(got[len(got)-2:], want) {
		t.Errorf("got %q, want %q at the end", got, want)
	}
}

func TestVerifyNeedsAManifestThatIsWhole(t *testing.T) {
	t.Parallel()
	f, backup := newDescribed(t)
	content, err := os.ReadFile(f.manifest)
	check(t, err)
	check(t, os.Chmod(backup+"/a", 0o700))
	check(t, os.WriteFile(f.manifest, content[:len(content)-1], 0o600))
	if _, err := f.verify(t.Context(), Options{}, func(d Difference) { t.Errorf("it told %+v", d) }, unwatched); err == nil {
		t.Error("a manifest without its end is taken")
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f, backup := newDescribed(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.verify(ended, Options{}, func(Difference) {}, unwatched); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// It ends while the last file, whose content nobody can tell then, is read.
	check(t, os.Chmod(backup+"/a-b", 0o700))
	check(t, os.Truncate(backup+"/z", 1<<40))
	setTime(t, backup+"/z", unix.Timespec{Sec: 1})
	f.describeSparse(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := f.verify(ctx, Options{}, func(d Difference) {
		if d.Kind == OtherContent || d.Kind == NotReadable {
			t.Errorf("it told %+v", d)
		}
	}, unwatched)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// describeSparse describes one file that takes long to read.
func (d described) describeSparse(t *testing.T) {
	t.Helper()
	var entries []manifest.Entry
	for _, path := range []string{".", "z"} {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(d.path, path), &st))
		entries = append(entries, manifest.Describe(path, &st))
	}
	d.writeManifest(t, entries)
}

func TestSha256sumSaysTheSameOfAnExportedListAsVerify(t *testing.T) {
	t.Parallel()
	f, backup := newDescribed(t)
	write(t, backup, "-", "new\nline", `back\slash`, "\xff", "-c/--help")
	f.describe(t)
	file, err := os.Open(f.manifest)
	check(t, err)
	defer file.Close()
	var list bytes.Buffer
	check(t, Export(t.Context(), btrfstest.Open(t, backup), file, &list))
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
	_, err = f.verify(t.Context(), Options{}, func(d Difference) {
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

func unwatched(int64, int64) {}
