package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/sys/unix"
)

const testSize = 256 << 20

var check, run = btrfstest.Check, btrfstest.Run

var silent = slog.New(slog.DiscardHandler)

// kinds are all kinds of host. Each must pass every test here, on this machine.
var kinds = []struct {
	name string
	make func(testing.TB) host.Host
}{
	{"local", func(testing.TB) host.Host { return local.New(silent) }},
	{"agent", func(t testing.TB) host.Host { return newAgent(t) }},
}

// eachKind runs a test on all kinds of host, each with a directory of its own on btrfs.
func eachKind(t *testing.T, test func(t *testing.T, h host.Host, top string)) {
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			dir := filepath.Join(top, kind.name)
			check(t, os.Mkdir(dir, 0o755))
			test(t, kind.make(t), dir)
		})
	}
}

// oddNames are names of directories that mean something to a shell, or are no text.
var oddNames = []string{
	"plain", " space  s ", "a'b\"c`d", "; exit 1; $HOME * ? ~ #", "line\nbreak", "line\n", "-rf", "not \xff\xfe utf-8", `back\slash`, "${x}$(false)&|",
}

func TestAnOpenDirectoryIsDescribed(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		subvolume := newSubvolume(t, top, "subvolume")
		dirs := []string{subvolume, top, filepath.Dir(top), t.TempDir()}
		for _, name := range oddNames {
			dirs = append(dirs, newDir(t, subvolume, "within", name), newSubvolume(t, top, name))
		}
		for _, dir := range dirs {
			d, err := h.Open(t.Context(), dir)
			if err != nil {
				t.Errorf("opening %q: %v", dir, err)
				continue
			}
			got, want := d.Status(), open(t, local.New(silent), dir).Status()
			got.Subvolume, want.Subvolume = told(got.Subvolume), told(want.Subvolume)
			if got.Subvolume.Name = want.Subvolume.Name; got != want {
				t.Errorf("%q is\n%+v, want\n%+v", dir, got, want)
			}
			check(t, d.Close())
		}
	})
}

func TestWhatIsNoDirectoryIsNotOpened(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		check(t, os.WriteFile(top+"/file", nil, 0o644))
		for name, want := range map[string]error{"missing": fs.ErrNotExist, "miss/ing": fs.ErrNotExist, "file": unix.ENOTDIR} {
			if _, err := h.Open(t.Context(), filepath.Join(top, name)); !errors.Is(err, want) || !strings.Contains(err.Error(), top) {
				t.Errorf("opening %s: %v, want %v", name, err, want)
			}
			if _, _, err := h.List(t.Context(), filepath.Join(top, name)); !errors.Is(err, want) {
				t.Errorf("listing %s: %v, want %v", name, err, want)
			}
		}
	})
}

func TestListsAreThoseOfTheKernel(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		subvolume := newSubvolume(t, top, "subvolume")
		for _, dir := range []string{subvolume, newDir(t, subvolume, "within", "x"), newDir(t, top, "subvolume x")} {
			for _, name := range oddNames {
				newSubvolume(t, dir, name)
				newDir(t, dir, "directory "+name)
				newSubvolume(t, dir, "directory "+name, "below")
			}
			snapshot(t, dir+"/plain", dir+"/snapshot")
			run(t, "sh", "-c", `mkdir "$1/copies" && btrfs send -q "$1/snapshot" | btrfs receive -q "$1/copies"`, "sh", dir)
			copies := btrfstest.Open(t, dir+"/copies")
			check(t, btrfs.SetReadOnly(copies, "snapshot", false))
			check(t, os.WriteFile(dir+"/copies/snapshot/altered", nil, 0o644))
			check(t, btrfs.SetReadOnly(copies, "snapshot", true))
			run(t, "sync", "-f", dir)
			if s := listed(t, copies)[0]; s.AlteredIn == 0 {
				t.Errorf("it is not altered: %+v", s)
			}
		}
		inner := newSubvolume(t, subvolume, "plain", "subvolume")
		newSubvolume(t, inner, "plain")
		for _, dir := range []string{subvolume, top, filepath.Dir(top), inner, subvolume + "/within/x", subvolume + "/within",
			top + "/subvolume x", top + "/subvolume x/copies"} {
			wantList(t, h, dir)
		}
	})
}

func TestListsAreTheSameThroughAnyMount(t *testing.T) {
	btrfstest.RequireRoot(t)
	filesystem := btrfstest.New(t, testSize)
	subvolume := newSubvolume(t, filesystem.Dir, "a")
	within := newDir(t, subvolume, "a", "b")
	for _, dir := range []string{filesystem.Dir, subvolume, subvolume + "/a", within} {
		newSubvolume(t, dir, "x")
		newSubvolume(t, dir, "y")
	}
	mounts := t.TempDir()
	filesystem.Mount(t, mounts+"/subvol", "subvol=a")
	check(t, os.Mkdir(mounts+"/bind", 0o755))
	run(t, "mount", "--bind", subvolume+"/a", mounts+"/bind")
	t.Cleanup(func() { run(t, "umount", mounts+"/bind") })
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			h := kind.make(t)
			for _, dir := range []string{mounts + "/subvol", mounts + "/subvol/a", mounts + "/subvol/a/b", mounts + "/bind", mounts + "/bind/b"} {
				wantList(t, h, dir)
			}
		})
	}
}

func listed(t testing.TB, dir *os.File) []btrfs.Subvolume {
	t.Helper()
	l, err := btrfs.List(dir)
	check(t, err)
	return l.InDirectory
}

// wantList compares a list with that of the kernel.
func TestAListTellsWhichSubvolumeIsTheDefault(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		folder := newDir(t, top, "folder")
		newSubvolume(t, folder, "other")
		btrfstest.Run(t, "btrfs", "subvolume", "set-default", newSubvolume(t, folder, "default"))
		found, err := open(t, h, folder).List(t.Context())
		btrfstest.Check(t, err)
		if got := fmt.Sprint(found.InUse()); got != "map[default:the default subvolume]" {
			t.Error(got)
		}
	})
}

func wantList(t testing.TB, h host.Host, dir string) {
	t.Helper()
	want, err := btrfs.List(btrfstest.Open(t, dir))
	check(t, err)
	_, got, err := h.List(t.Context(), dir)
	if err != nil {
		t.Errorf("listing %q: %v", dir, err)
		return
	}
	again, err := open(t, h, dir).List(t.Context())
	check(t, err)
	for _, list := range []btrfs.Listing{got.Listing, again.Listing} {
		wantSubvolumes(t, dir, list.InDirectory, want.InDirectory)
		wantSubvolumes(t, "all of "+dir, list.All, want.All)
		if list.Top != want.Top || list.Top.IsZero() {
			t.Errorf("%q: the top level is %s, want %s", dir, list.Top, want.Top)
		}
	}
	if got.Free == 0 || got.Free != again.Free {
		t.Errorf("%q has %d and %d bytes free", dir, got.Free, again.Free)
	}
}

func wantSubvolumes(t testing.TB, what string, got, want []btrfs.Subvolume) {
	t.Helper()
	sorted := func(subvolumes []btrfs.Subvolume) (lines []string) {
		for _, s := range subvolumes {
			lines = append(lines, fmt.Sprintf("%+q", fmt.Sprintf("%+v", told(s))))
		}
		slices.Sort(lines)
		return lines
	}
	if g, w := sorted(got), sorted(want); !slices.Equal(g, w) {
		t.Errorf("%q holds\n%s\nwant\n%s", what, strings.Join(g, "\n"), strings.Join(w, "\n"))
	}
	for _, w := range want {
		i := slices.IndexFunc(got, func(g btrfs.Subvolume) bool { return g.ID == w.ID })
		if i >= 0 && got[i].ChangedIn < w.ChangedIn {
			t.Errorf("%q in %s changed in %d, not in %d", w.Name, what, w.ChangedIn, got[i].ChangedIn)
		}
	}
}

// told leaves out what not all kinds tell.
func told(s btrfs.Subvolume) btrfs.Subvolume {
	return btrfs.Subvolume{ID: s.ID, Container: s.Container, Name: s.Name, UUID: s.UUID, ParentUUID: s.ParentUUID,
		ReceivedUUID: s.ReceivedUUID, ReadOnly: s.ReadOnly, CreatedIn: s.CreatedIn,
		SentIn: s.SentIn, ReceivedIn: s.ReceivedIn, AlteredIn: s.AlteredIn}
}

func TestFilesOfOursAreReadAndReplaced(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		dir := newDir(t, top, oddNames[3])
		d := open(t, h, dir)
		binary, large := []byte("\x00 \n binary\x00-\n\n"), bytes.Repeat([]byte("x"), 300_000)
		for _, content := range [][]byte{nil, {}, []byte("{}\n"), binary, large, []byte("shorter\n")} {
			if content != nil {
				check(t, d.WriteLedger(t.Context(), content))
			}
			got, err := d.List(t.Context())
			check(t, err)
			if !bytes.Equal(got.Ledger.Content, content) || (got.Ledger.Content == nil) != (content == nil) || got.Origins.Content != nil {
				t.Errorf("of %d bytes %d are read, %t", len(content), len(got.Ledger.Content), got.Ledger.Content == nil)
			}
		}
		info, err := os.Stat(dir + "/" + lock.LedgerFile)
		check(t, err)
		if wantNames(t, dir, lock.LedgerFile); info.Mode() != 0o644 {
			t.Errorf("mode %v", info.Mode())
		}

		check(t, os.Rename(dir+"/"+lock.LedgerFile, dir+"/elsewhere"))
		check(t, os.Symlink("elsewhere", dir+"/"+lock.LedgerFile))
		newDir(t, dir, "elsewhere.d")
		check(t, os.WriteFile(dir+"/elsewhere.d/origins.json", []byte("{}"), 0o644))
		check(t, os.Symlink("elsewhere.d", dir+"/.btrfs-backup"))
		got, err := d.List(t.Context())
		check(t, err)
		if got.Ledger.Failure == "" || got.Origins.Failure == "" {
			t.Error("a symbolic link was followed")
		}
		check(t, os.Remove(dir+"/.btrfs-backup"))
		newDir(t, dir, ".btrfs-backup")
		check(t, os.Symlink("../elsewhere.d/origins.json", dir+"/.btrfs-backup/origins.json"))
		got, err = d.List(t.Context())
		check(t, err)
		if got.Origins.Failure == "" {
			t.Error("a symbolic link was followed")
		}
		check(t, os.RemoveAll(dir+"/.btrfs-backup"))
		check(t, os.RemoveAll(dir+"/elsewhere.d"))
		check(t, os.Remove(dir+"/"+lock.LedgerFile))
		newDir(t, dir, lock.LedgerFile)
		if err := d.WriteLedger(t.Context(), []byte("content")); err == nil {
			t.Error("a directory was replaced")
		}
		wantNames(t, dir+"/"+lock.LedgerFile)
		wantNames(t, dir, lock.LedgerFile, "elsewhere")
	})
}

func TestALinkReplacesLinksOnly(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		dir := newDir(t, top, "line\nbreak")
		newDir(t, dir, "real")
		d := open(t, h, dir)
		for _, name := range []string{".latest", "-n"} {
			for _, target := range []string{"real", "-x $HOME", "gone\n", "real"} {
				check(t, d.Link(t.Context(), name, target))
				got, err := os.Readlink(filepath.Join(dir, name))
				if err != nil || got != target {
					t.Errorf("%s leads to %q, want %q, %v", name, got, target, err)
				}
			}
		}
		check(t, os.WriteFile(dir+"/file", []byte("theirs"), 0o644))
		for _, name := range []string{"file", "real"} {
			if err := d.Link(t.Context(), name, "x"); err == nil || !strings.Contains(err.Error(), "is not a symbolic link") {
				t.Errorf("a link in place of %s: %v", name, err)
			}
		}
		wantNames(t, dir, "-n", ".latest", "file", "real")
		wantNames(t, dir+"/real")
	})
}

func TestDirectoriesAreMade(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		check(t, os.WriteFile(top+"/file", nil, 0o644))
		for _, name := range oddNames {
			for range 2 {
				check(t, h.MkdirAll(t.Context(), filepath.Join(top, name, "-p", name)))
			}
			if info, err := os.Stat(filepath.Join(top, name, "-p", name)); err != nil || !info.IsDir() {
				t.Errorf("%q: %v", name, err)
			}
		}
		if err := h.MkdirAll(t.Context(), top+"/file/x"); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("below a file: %v", err)
		}
	})
}

func TestNestedSubvolumesAreThoseOfTheSameSubvolume(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		home := newSubvolume(t, top, "home")
		newSubvolume(t, home, "direct")
		newSubvolume(t, home, "direct", "within")
		newDir(t, home, "dir", "deeper")
		newSubvolume(t, home, "dir", "deeper", "below")
		snapshot(t, home, home+"/dir/snapshot")
		for _, dir := range []string{home, home + "/dir"} {
			want, err := open(t, local.New(silent), dir).Nested(t.Context())
			check(t, err)
			got, err := open(t, h, dir).Nested(t.Context())
			check(t, err)
			if len(got) == 0 || len(got) != len(want) {
				t.Errorf("%s holds %+v, want %+v", dir, got, want)
			}
			for _, w := range want {
				i := slices.IndexFunc(got, func(n host.Nested) bool { return n.Path == w.Path })
				if i >= 0 && got[i].ContainerAt == 0 {
					w.ContainerAt = 0
				}
				if i < 0 || got[i] != w {
					t.Errorf("%s holds %+v, want %+v", dir, got, w)
				}
			}
		}
	})
}

func TestWhatIsMountedIsInUse(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		snapshot(t, newSubvolume(t, top, "home"), top+"/free")
		snapshot(t, top+"/home", top+"/used")
		newDir(t, top+"/home", "at")
		btrfstest.Run(t, "mount", "--bind", top+"/used", top+"/home/at")
		defer btrfstest.Run(t, "umount", top+"/home/at")
		found, err := open(t, h, top).List(t.Context())
		check(t, err)
		if got := found.InUse(); len(got) != 1 || got["used"] != "mounted" {
			t.Errorf("in use: %q", got)
		}
	})
}

func TestASourceIsNoReceivedCopyWhenASnapshotWasTaken(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		home := newSubvolume(t, top, "home")
		snapshot(t, home, top+"/sent")
		run(t, "sh", "-c", `mkdir "$1/received" && btrfs send -q "$1/sent" | btrfs receive -q "$1/received"`, "sh", top)
		received := top + "/received/sent"
		check(t, btrfs.SetReadOnly(btrfstest.Open(t, top+"/received"), "sent", false))
		was := info(t, received)
		taken, err := open(t, h, newDir(t, top, "snapshots")).Take(t.Context(), received, was.UUID, "new")
		check(t, err)
		if is := info(t, received); was.ReceivedUUID.IsZero() || !is.ReceivedUUID.IsZero() || !taken.ReceivedUUID.IsZero() {
			t.Errorf("it was %+v, is %+v, the snapshot %+v", was, is, taken)
		}
	})
}

func TestSnapshotsAreTakenOfTheSubvolumeMeant(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		ctx := t.Context()
		home := newSubvolume(t, top, oddNames[3])
		folder := newDir(t, home, "snap shots")
		check(t, os.WriteFile(home+"/file", []byte("content"), 0o644))
		d := open(t, h, folder)
		uuid := info(t, home).UUID
		for _, name := range []string{"20260101-000000", "-odd\n$name"} {
			taken, err := d.Take(ctx, home, uuid, name)
			check(t, err)
			want := info(t, filepath.Join(folder, name))
			if told(taken) != told(want) || !want.ReadOnly || want.ParentUUID != uuid || taken.DirID != want.DirID {
				t.Errorf("took %+v, want %+v", taken, want)
			}
			btrfstest.Equal(t, home, filepath.Join(folder, name), "snap shots", btrfstest.DirTimes)
		}
		newDir(t, folder, "directory")
		check(t, os.Symlink("nowhere", folder+"/link"))
		for _, name := range []string{"20260101-000000", "directory", "link"} {
			if _, err := d.Take(ctx, home, uuid, name); !errors.Is(err, fs.ErrExist) {
				t.Errorf("in place of %s: %v", name, err)
			}
		}
		wantNames(t, folder+"/directory")
		other := newSubvolume(t, top, "other")
		if _, err := d.Take(ctx, other, uuid, "wrong"); err == nil || !strings.Contains(err.Error(), "another subvolume") {
			t.Errorf("of another subvolume: %v", err)
		}
		if _, err := d.Take(ctx, top+"/gone", uuid, "wrong"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of a missing subvolume: %v", err)
		}
		wantNames(t, folder, "-odd\n$name", "20260101-000000", "directory", "link")

		root := filepath.Dir(top) // the top level of the filesystem, which no list holds
		if _, err := d.Take(ctx, root, info(t, root).UUID, "top"); err != nil {
			t.Errorf("of the top level: %v", err)
		}
	})
}

func TestDeletingTellsWhatIsGoneAndEveryFailure(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		for _, convert := range []bool{false, true} {
			dir := newDir(t, top, fmt.Sprintf("con\nvert %t", convert))
			outside := newSubvolume(t, top, fmt.Sprintf("outside %t", convert))
			for _, name := range []string{"a", "-b $x", "full", "c\n", "not asked"} {
				newSubvolume(t, dir, name)
			}
			newSubvolume(t, dir, "full", "inner")
			newDir(t, dir, "directory")
			check(t, os.Symlink(outside, dir+"/link"))
			snapshot(t, dir+"/a", dir+"/read-only")
			check(t, btrfs.SetReadOnly(btrfstest.Open(t, dir), "full", true))
			names := []string{"a", "missing", "full", "link", "-b $x", "directory", "read-only", "c\n"}
			deleted, err := open(t, h, dir).Delete(t.Context(), names, host.DeleteOptions{ConvertRW: convert, Wait: convert})
			if want := []string{"a", "-b $x", "read-only", "c\n"}; !slices.Equal(deleted, want) {
				t.Errorf("deleted %q, want %q", deleted, want)
			}
			for _, want := range []error{fs.ErrNotExist, unix.ENOTEMPTY} {
				if !errors.Is(err, want) {
					t.Errorf("error: %v, want %v", err, want)
				}
			}
			wantNames(t, dir, "directory", "full", "link", "not asked")
			if !info(t, dir+"/full").ReadOnly || info(t, outside).ID == 0 {
				t.Error("what was not deleted was changed")
			}
		}
	})
}

func TestReceivedSubvolumesAreMadeWritableAndDeleted(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		home := newSubvolume(t, top, "home")
		snapshot(t, home, top+"/s")
		copies := newDir(t, top, "copies")
		run(t, "sh", "-c", `btrfs send -q "$1/s" | btrfs receive -q "$1/copies"`, "sh", top)
		deleted, err := open(t, h, copies).Delete(t.Context(), []string{"s"}, host.DeleteOptions{ConvertRW: true})
		if err != nil || len(deleted) != 1 {
			t.Errorf("deleted %q, %v", deleted, err)
		}
	})
}

func TestDeletingManyTakesNoLineTooLong(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		var names []string
		for i := range 350 {
			names = append(names, fmt.Sprintf("%0200d", i)+strings.Repeat("'", 50))
		}
		newSubvolume(t, top, names[349])
		deleted, err := open(t, h, top).Delete(t.Context(), names, host.DeleteOptions{})
		if !slices.Equal(deleted, names[349:]) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("deleted %q", deleted)
		}
	})
}

func TestDeletingEndsWithItsContext(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		newSubvolume(t, top, "a")
		d := open(t, h, top)
		cause := errors.New("the cause")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if deleted, err := d.Delete(ctx, []string{"a"}, host.DeleteOptions{}); len(deleted) > 0 || !errors.Is(err, cause) {
			t.Errorf("deleted %q, error: %v", deleted, err)
		}
		wantNames(t, top, "a")
	})
}

func TestWhyNothingIsSentIsKnown(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		newSubvolume(t, top, "home")
		snapshot(t, top+"/home", top+"/s")
		d := open(t, h, top)
		_, sendErr := d.Send(t.Context(), host.SendOrder{Snapshot: "s", Parent: "none"}, io.Discard)
		_, measureErr := d.Measure(t.Context(), host.SendOrder{Snapshot: "s", Parent: "none"})
		for _, err := range []error{sendErr, measureErr} {
			var refused *btrfs.SendError
			if !errors.As(err, &refused) || refused.Errno != unix.ENOENT || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("upon a parent that is gone: %v", err)
			}
		}
	})
}

func TestFormatsAreThoseOfTheProgram(t *testing.T) {
	btrfstest.RequireRoot(t)
	want, err := local.New(silent).StockFormat(t.Context())
	check(t, err)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			if got, err := kind.make(t).StockFormat(t.Context()); err != nil || got != want {
				t.Errorf("%+v, want %+v, %v", got, want, err)
			}
		})
	}
}

// open opens a directory until the end of the test.
func open(t testing.TB, h host.Host, path string) *host.Dir {
	t.Helper()
	d, err := h.Open(t.Context(), path)
	check(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func newDir(t testing.TB, path ...string) string {
	t.Helper()
	dir := filepath.Join(path...)
	check(t, os.MkdirAll(dir, 0o755))
	return dir
}

func newSubvolume(t testing.TB, path ...string) string {
	t.Helper()
	full := filepath.Join(path...)
	check(t, btrfs.Create(btrfstest.Open(t, filepath.Dir(full)), filepath.Base(full)))
	return full
}

func snapshot(t testing.TB, source, to string) {
	t.Helper()
	// not open until the end of the test: it would never be gone when it is deleted
	from, err := os.Open(source)
	check(t, err)
	defer from.Close()
	check(t, btrfs.Snapshot(from, btrfstest.Open(t, filepath.Dir(to)), filepath.Base(to)))
}

func info(t testing.TB, path string) btrfs.Subvolume {
	t.Helper()
	dir, err := os.Open(path)
	check(t, err)
	defer dir.Close()
	s, err := btrfs.Info(dir)
	check(t, err)
	return s
}

// wantNames compares the names in a directory, which are in order.
func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q holds %q, want %q", dir, got, want)
	}
}

func TestClosingADirectoryGivesItsLockUp(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		d, err := h.Open(t.Context(), top)
		check(t, err)
		_, err = d.Lock(t.Context(), nil)
		check(t, err)
		check(t, d.Close())
		l, err := lock.Acquire(t.Context(), btrfstest.Open(t, top), nil)
		check(t, err)
		check(t, l.Release())
	})
}

func TestWhatIsListedWithALockIsThereWhenItIsLocked(t *testing.T) {
	btrfstest.RequireRoot(t)
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		d, err := h.Open(t.Context(), top)
		check(t, err)
		defer d.Close()
		both, ok := d.Folder.(host.LockLister)
		if !ok {
			return
		}
		folder := btrfstest.Open(t, top)
		other, err := lock.Acquire(t.Context(), folder, nil)
		check(t, err)
		found, release, err := both.LockList(t.Context(), func(*lock.HeldError) {
			check(t, btrfs.Create(folder, "late"))
			check(t, other.Release())
		})
		check(t, err)
		if !slices.ContainsFunc(found.InDirectory, func(s btrfs.Subvolume) bool { return s.Name == "late" }) {
			t.Error("it was listed before it was locked")
		}
		if _, err := lock.Acquire(t.Context(), btrfstest.Open(t, top), nil); !lock.IsHeld(err) {
			t.Errorf("it is not locked: %v", err)
		}
		check(t, release())
	})
}
