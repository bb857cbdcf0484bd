package files_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

const size = 256 << 20

var check = btrfstest.Check

func newDir(t testing.TB, elements ...string) string {
	t.Helper()
	dir := filepath.Join(elements...)
	check(t, os.MkdirAll(dir, 0o755))
	return dir
}

func write(t testing.TB, content string, elements ...string) string {
	t.Helper()
	file := filepath.Join(elements...)
	newDir(t, filepath.Dir(file))
	check(t, os.WriteFile(file, []byte(content), 0o644))
	return file
}

// order makes an order of chosen paths, each to be written under its last name.
func order(t testing.TB, backup string, paths ...string) files.Order {
	t.Helper()
	found, err := files.Find(btrfstest.Open(t, backup), paths)
	check(t, err)
	o := files.Order{Beside: ".restored-20261128-013000"}
	for _, f := range found {
		o.Items = append(o.Items, files.Item{Path: f.Path, To: filepath.Base(f.Path), Entry: f.Entry})
	}
	return o
}

func inPlace(t testing.TB, backup string, paths ...string) files.Order {
	t.Helper()
	o := order(t, backup, paths...)
	found, err := files.Find(btrfstest.Open(t, backup), paths)
	check(t, err)
	for i := range o.Items {
		o.Items[i].To, o.Items[i].Above = found[i].Path, found[i].Above
	}
	return o
}

// encoded are records that have been another machine's.
type encoded struct{ *files.Unpacker }

func (e encoded) batch(records []files.Record) error {
	for _, r := range records {
		if err := e.Take(r); err != nil {
			return err
		}
	}
	return nil
}

type result struct {
	placed []files.Placed
	packed files.Packed
	files.Report
	err error
}

// restore does what an order says. With far, nothing is shared.
func restore(ctx context.Context, t testing.TB, far bool, backup, to string, o files.Order) (r result) {
	t.Helper()
	from, target := btrfstest.Open(t, backup), btrfstest.Open(t, to)
	r.placed, r.err = files.Place(target, o)
	if r.err != nil {
		return r
	}
	var paths []string
	for _, item := range o.Items {
		paths = append(paths, item.Path)
	}
	u := files.NewUnpacker(target, o, r.placed)
	defer u.Close()
	var sink files.Sink = u
	batches := &files.Batcher{To: encoded{u}.batch}
	if far {
		sink = batches
	}
	r.packed, r.err = files.Pack(ctx, from, paths, sink, nil)
	if r.err == nil {
		r.err = batches.Flush()
	}
	if r.Report = u.Report(); r.err == nil {
		r.Report, r.err = u.Finish()
	}
	return r
}

// complete fails unless all is well.
func (r result) complete(t testing.TB) {
	t.Helper()
	if r.err != nil || r.Failures.Count+r.Lost.Count+r.packed.Failures.Count > 0 || r.Unfinished != "" {
		t.Fatalf("error: %v, not read: %v, not written: %v, lost: %v, unfinished: %q", r.err, r.packed.Failures, r.Failures, r.Lost, r.Unfinished)
	}
}

func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestATreeComesBackWithAllThatItHad(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, size).Dir
	backup := newDir(t, top, "backup")
	btrfstest.Populate(t, newDir(t, backup, "tree"), 1)
	other := btrfstest.NewOther(t, "ext4", size).Dir
	for name, to := range map[string]string{"the same filesystem": newDir(t, top, "to"), "far": newDir(t, top, "far"), "ext4": other} {
		for at, o := range map[string]files.Order{"a": order(t, backup, "tree")} {
			r := restore(t.Context(), t, name == "far", backup, to, o)
			r.complete(t)
			if want := name == "the same filesystem"; want != (r.Shared > 0) || r.Shared > 0 && r.Shared < r.Bytes/2 {
				t.Errorf("%s, %s: %d of %d bytes are shared", name, at, r.Shared, r.Bytes)
			}
			btrfstest.Equal(t, filepath.Join(backup, "tree"), filepath.Join(to, "tree"))
		}
		if left := slices.DeleteFunc(names(t, to), func(n string) bool { return n == "lost+found" }); !slices.Equal(left, []string{"tree"}) {
			t.Errorf("%s: %q are there", name, left)
		}
	}
}

func TestACopyOnOneFilesystemSharesItsExtentsAndOnTwoKeepsItsHoles(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	top, other := btrfstest.New(t, size).Dir, btrfstest.New(t, size).Dir
	file := write(t, "", top, "backup/file")
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteAt(make([]byte, 8<<20), 64<<20)
	check(t, err)
	_, err = f.WriteAt([]byte("end"), 1<<30)
	check(t, err)
	check(t, f.Close())
	btrfstest.Run(t, "sync", "-f", file)
	before := free(t, top)
	restore(t.Context(), t, false, top+"/backup", newDir(t, top, "to"), order(t, top+"/backup", "file")).complete(t)
	if used := before - free(t, top); used > 1<<20 {
		t.Errorf("the copy took %d bytes", used)
	}
	if shown := btrfstest.Run(t, "filefrag", "-v", top+"/to/file"); !strings.Contains(shown, "shared") {
		t.Errorf("nothing is shared:\n%s", shown)
	}
	restore(t.Context(), t, false, top+"/backup", other, order(t, top+"/backup", "file")).complete(t)
	var st unix.Stat_t
	check(t, unix.Stat(other+"/file", &st))
	if st.Size != 1<<30+3 || st.Blocks*512 > 9<<20 {
		t.Errorf("%d bytes take %d", st.Size, st.Blocks*512)
	}
	btrfstest.Run(t, "cmp", file, other+"/file")
}

func free(t testing.TB, dir string) int64 {
	t.Helper()
	btrfstest.Run(t, "sync", "-f", dir)
	var st unix.Statfs_t
	check(t, unix.Statfs(dir, &st))
	return int64(st.Bfree) * int64(st.Bsize)
}

func TestNamesOfEveryByteComeBack(t *testing.T) {
	t.Parallel()
	backup, to := t.TempDir(), t.TempDir()
	var chosen []string
	for c := 1; c < 256; c++ {
		if c != '/' {
			name := string([]byte{'a', byte(c)})
			write(t, name, backup, "d"+name, name)
			chosen = append(chosen, "d"+name)
		}
	}
	long := strings.Repeat("x", 255)
	write(t, long, backup, long, long)
	r := restore(t.Context(), t, true, backup, to, order(t, backup, append(chosen, long)...))
	r.complete(t)
	btrfstest.Equal(t, backup, to, btrfstest.RootTime)
}

func TestNothingIsWrittenOverWithoutOverwrite(t *testing.T) {
	t.Parallel()
	backup, to := t.TempDir(), t.TempDir()
	write(t, "old", backup, "file")
	write(t, "old", backup, "docs/a")
	write(t, "mine", to, "file")
	write(t, "mine", to, "docs/a")
	o := order(t, backup, "file", "docs")
	r := restore(t.Context(), t, false, backup, to, o)
	r.complete(t)
	want := []string{"docs", "docs.restored-20261128-013000", "file", "file.restored-20261128-013000"}
	if got := names(t, to); !slices.Equal(got, want) {
		t.Errorf("%q are there", got)
	}
	for name, content := range map[string]string{want[0] + "/a": "mine", want[1] + "/a": "old", want[2]: "mine", want[3]: "old"} {
		if got, err := os.ReadFile(filepath.Join(to, name)); string(got) != content {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	if r = restore(t.Context(), t, false, backup, to, order(t, backup, "file")); r.Present != 1 || r.Files != 0 || len(names(t, to)) != 4 {
		t.Errorf("what is there already is written again: %+v", r)
	}
	o.Overwrite = true
	was, err := os.Open(to + "/file")
	check(t, err)
	defer was.Close()
	restore(t.Context(), t, false, backup, to, o).complete(t)
	btrfstest.Equal(t, backup+"/docs", to+"/docs")
	got, err := os.ReadFile(to + "/file")
	check(t, err)
	before := make([]byte, 10)
	n, _ := was.Read(before)
	if string(got) != "old" || string(before[:n]) != "mine" {
		t.Errorf("the file holds %q, who has the old one open reads %q", got, before[:n])
	}
}

// A hostile backup is one whose paths, as they are followed, lead elsewhere.
func TestAHostileBackupReachesNothingOutside(t *testing.T) {
	t.Parallel()
	backup, to, outside := t.TempDir(), t.TempDir(), t.TempDir()
	secret := write(t, "secret", outside, "secret")
	check(t, os.Symlink(outside, backup+"/away"))
	check(t, os.Symlink("../../..", backup+"/up"))
	write(t, "evil", backup, "docs/away/secret")
	for _, path := range []string{"away/secret", "up/etc/passwd", "../secret", "docs/../../x", "/../x"} {
		if _, err := files.Find(btrfstest.Open(t, backup), []string{path}); err == nil {
			t.Errorf("%s is found", path)
		}
	}
	// what is a directory in the backup is a symbolic link where it is restored to
	newDir(t, to, "docs")
	check(t, os.Symlink(outside, to+"/docs/away"))
	o := order(t, backup, "docs")
	o.Overwrite = true
	r := restore(t.Context(), t, false, backup, to, o)
	if r.err != nil || r.Failures.Count != 1 || !strings.Contains(fmt.Sprint(r.Failures), "no directory") {
		t.Errorf("%v, %v", r.err, r.Failures)
	}
	o = inPlace(t, backup, "docs/away/secret")
	if r := restore(t.Context(), t, false, backup, to, o); r.err == nil || hint.Of(r.err) == "" || !strings.Contains(r.err.Error(), "symbolic link") {
		t.Errorf("%v", r.err)
	}
	restore(t.Context(), t, false, backup, to, order(t, backup, "away", "up")).complete(t)
	if got, err := os.ReadFile(secret); string(got) != "secret" || len(names(t, outside)) != 1 {
		t.Errorf("it was reached: %q, %v", got, err)
	}
	if target, err := os.Readlink(to + "/away"); target != outside {
		t.Errorf("the link leads to %q, %v", target, err)
	}
}

func TestRecordsOfAnotherMachineReachNothingOutside(t *testing.T) {
	t.Parallel()
	dir := files.Entry{Type: manifest.Directory, Mode: 0o755}
	at := func(depth int, name string, typ manifest.Type) *files.Entry {
		return &files.Entry{Depth: depth, Name: name, Type: typ, Mode: 0o644}
	}
	link := at(1, "link", manifest.Symlink)
	link.Target = "/"
	for name, records := range map[string][]files.Record{
		"up":              {{Entry: at(1, "..", manifest.Regular)}},
		"slash":           {{Entry: at(1, "a/b", manifest.Regular)}},
		"absolute":        {{Entry: at(1, "/etc/passwd", manifest.Regular)}},
		"empty":           {{Entry: at(1, "", manifest.Regular)}},
		"dot":             {{Entry: at(1, ".", manifest.Directory)}},
		"nul":             {{Entry: at(1, "a\x00b", manifest.Regular)}},
		"long":            {{Entry: at(1, strings.Repeat("x", 256), manifest.Regular)}},
		"deep":            {{Entry: at(2, "x", manifest.Regular)}},
		"through a link":  {{Entry: link}, {Entry: at(2, "x", manifest.Regular)}},
		"no type":         {{Entry: at(1, "x", "whiteout")}},
		"too much":        {{Entry: at(1, "x", manifest.Regular)}, {Content: []byte("x")}},
		"content of none": {{Content: []byte("x")}},
		"end of none":     {{End: true}},
		"another item":    {{Entry: at(0, "", manifest.Directory)}},
		"no end":          {{Entry: at(1, "x", manifest.Regular)}},
		"type":            {},
	} {
		to := t.TempDir()
		item := files.Item{Path: "d", To: "d", Entry: dir}
		if name == "type" {
			item.Type = manifest.Regular
		}
		o := files.Order{Items: []files.Item{item}}
		target := btrfstest.Open(t, to)
		placed, err := files.Place(target, o)
		check(t, err)
		u := files.NewUnpacker(target, o, placed)
		err = u.Take(files.Record{Entry: &dir})
		for _, r := range records {
			if err == nil {
				err = u.Take(r)
			}
		}
		if err == nil {
			_, err = u.Finish()
		}
		u.Close()
		if !errors.Is(err, files.ErrMalformed) || slices.Contains(names(t, to), "d") {
			t.Errorf("%s: %v; %q are there", name, err, names(t, to))
		}
	}
}

func TestAnInterruptedRestoreGoesOnAndShowsNothingHalf(t *testing.T) {
	t.Parallel()
	backup, to := t.TempDir(), t.TempDir()
	for i := range 20 {
		write(t, strings.Repeat("x", i), backup, fmt.Sprintf("docs/%02d/%02d", i%4, i))
	}
	o := order(t, backup, "docs")
	ctx, stop := context.WithCancel(t.Context())
	from, target := btrfstest.Open(t, backup), btrfstest.Open(t, to)
	placed, err := files.Place(target, o)
	check(t, err)
	u := files.NewUnpacker(target, o, placed)
	_, err = files.Pack(ctx, from, []string{"docs"}, &stopping{u, 13, stop}, nil)
	u.Close()
	if got := names(t, to); err == nil || !slices.Equal(got, []string{".docs.incoming"}) || u.Report().Unfinished != ".docs.incoming" {
		t.Fatalf("%q are there, %v, %+v", got, err, u.Report())
	}
	r := restore(t.Context(), t, false, backup, to, o)
	r.complete(t)
	if !r.placed[0].Continue || r.Present == 0 || r.Present+r.Files != 20 {
		t.Errorf("%+v", r)
	}
	btrfstest.Equal(t, backup, to, btrfstest.RootTime)
	if got := names(t, to); !slices.Equal(got, []string{"docs"}) {
		t.Errorf("%q are there", got)
	}
}

// stopping ends after some records.
type stopping struct {
	*files.Unpacker
	left int
	stop func()
}

func (s *stopping) Take(r files.Record) error {
	if s.left--; s.left < 0 {
		s.stop()
		return context.Canceled
	}
	return s.Unpacker.Take(r)
}

func (s *stopping) Share(*os.File) (bool, error) { return false, nil }

func TestAFullDiskIsToldAndLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	backup, to := t.TempDir(), btrfstest.NewOther(t, "ext4", 16<<20).Dir
	write(t, strings.Repeat("a", 4000), backup, "first")
	write(t, strings.Repeat("x", 40<<20), backup, "large")
	r := restore(t.Context(), t, false, backup, to, order(t, backup, "first", "large"))
	if !errors.Is(r.err, unix.ENOSPC) || !strings.Contains(r.err.Error(), "large") || !strings.Contains(hint.Of(r.err), "room") {
		t.Errorf("%v, hint: %q", r.err, hint.Of(r.err))
	}
	if got := names(t, to); !slices.Equal(got, []string{"first", "lost+found"}) || r.Files != 1 {
		t.Errorf("%q are there, %+v", got, r.Report)
	}
}

func TestDirectoriesOnTheWayComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	backup, to := t.TempDir(), t.TempDir()
	write(t, "x", backup, "me/docs/2024/a")
	for dir, mode := range map[string]os.FileMode{"me": 0o700, "me/docs": 0o750, "me/docs/2024": os.ModeSetgid | 0o711} {
		check(t, os.Chown(filepath.Join(backup, dir), 1234, 5678))
		check(t, os.Chmod(filepath.Join(backup, dir), mode))
		check(t, os.Chtimes(filepath.Join(backup, dir), time.Unix(1e9, 7), time.Unix(1e9, 7)))
	}
	restore(t.Context(), t, false, backup, to, inPlace(t, backup, "me/docs/2024/a")).complete(t)
	btrfstest.Equal(t, backup, to, btrfstest.RootTime)
}

func TestSubvolumesInABackupAreLeftOutAndNamed(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, size).Dir
	backup := newDir(t, top, "backup")
	write(t, "a", backup, "docs/a")
	check(t, btrfs.Create(btrfstest.Open(t, backup+"/docs"), "nested"))
	write(t, "b", backup, "docs/nested/b")
	r := restore(t.Context(), t, false, backup, newDir(t, top, "to"), order(t, backup, "docs"))
	r.complete(t)
	if want := "docs/nested"; r.packed.Left.Count != 1 || r.packed.Left.First[0].Path != want {
		t.Errorf("left out: %+v, want %s", r.packed.Left, want)
	}
	if got := names(t, top+"/to/docs"); !slices.Equal(got, []string{"a", "nested"}) || len(names(t, top+"/to/docs/nested")) != 0 {
		t.Errorf("%q are there", got)
	}
	_, err := files.Find(btrfstest.Open(t, backup), []string{"docs/nested/b"})
	if err == nil || !strings.Contains(err.Error(), "subvolume of its own") || hint.Of(err) == "" {
		t.Errorf("%v", err)
	}
}

func TestAFileThatCannotBeReadToItsEndIsNotThere(t *testing.T) {
	t.Parallel()
	to := t.TempDir()
	dir := files.Entry{Type: manifest.Directory, Mode: 0o755}
	file := func(name string, link uint32) *files.Entry {
		return &files.Entry{Depth: 1, Name: name, Type: manifest.Regular, Size: 5, Link: link}
	}
	o := files.Order{Items: []files.Item{{Path: "d", To: "d", Entry: dir}}}
	u := files.NewUnpacker(btrfstest.Open(t, to), o, []files.Placed{{To: "d"}})
	defer u.Close()
	for _, r := range []files.Record{{Entry: &dir}, {Entry: file("bad", 1)}, {Content: []byte("abc")}, {Failed: true}, {Entry: file("other", 1)},
		{Entry: file("good", 0)}, {Content: []byte("abcde")}, {End: true}} {
		check(t, u.Take(r))
	}
	r, err := u.Finish()
	if got := names(t, to+"/d"); err != nil || !slices.Equal(got, []string{"good"}) || r.Failures.Count != 1 || r.Failures.First[0].Path != "d/other" {
		t.Errorf("%q are there, %+v, %v", got, r, err)
	}
}

func TestFilesThatExistInADirectoryThatIsFilledStay(t *testing.T) {
	t.Parallel()
	backup, to := t.TempDir(), t.TempDir()
	write(t, "old", backup, "docs/a")
	write(t, "old", backup, "b")
	write(t, "mine", to, "docs/a")
	o := order(t, backup, ".")
	o.Items[0].To = "."
	r := restore(t.Context(), t, true, backup, to, o)
	if r.err != nil || r.Failures.Count != 1 || r.Files != 1 || !strings.Contains(r.Failures.First[0].What, "--overwrite") {
		t.Errorf("%v, %+v", r.err, r.Report)
	}
	if got, err := os.ReadFile(to + "/docs/a"); string(got) != "mine" {
		t.Errorf("it holds %q, %v", got, err)
	}
}

func TestAFileThatIsMadeMeanwhileStays(t *testing.T) {
	t.Parallel()
	backup, to := t.TempDir(), t.TempDir()
	write(t, "old", backup, "file")
	o := order(t, backup, "file")
	u := files.NewUnpacker(btrfstest.Open(t, to), o, []files.Placed{{To: "file"}})
	defer u.Close()
	check(t, u.Take(files.Record{Entry: &o.Items[0].Entry}))
	check(t, u.Take(files.Record{Content: []byte("old")}))
	write(t, "mine", to, "file")
	check(t, u.Take(files.Record{End: true}))
	r, err := u.Finish()
	if got, readErr := os.ReadFile(to + "/file"); err != nil || r.Failures.Count != 1 || string(got) != "mine" {
		t.Errorf("it holds %q, %v; %+v, %v", got, readErr, r, err)
	}
}
