package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"

	"golang.org/x/sys/unix"
)

// onEachKind runs a test with a new folder on each kind of filesystem.
func onEachKind(t *testing.T, test func(t *testing.T, r *rig)) {
	for _, kind := range []string{"btrfs", "ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if kind == "xfs" { // which is like ext4 where nothing is shared
				btrfstest.OnlyInAll(t)
			}
			test(t, newRig(t, kind))
		})
	}
}

// A rig copies a source into a folder by rsync.
type rig struct {
	t      *testing.T
	source string
	folder *Folder
	kind   string
	fs     *btrfstest.FS
	logged bytes.Buffer
}

func newRig(t *testing.T, kind string) *rig {
	r := &rig{t: t, kind: kind, source: filepath.Join(t.TempDir(), "source")}
	if kind == "btrfs" {
		r.fs = btrfstest.New(t, imageSize)
	} else {
		r.fs = btrfstest.NewOther(t, kind, imageSize)
	}
	check(t, os.Mkdir(r.source, 0o755))
	check(t, os.Mkdir(r.path(""), 0o755))
	r.folder = New(btrfstest.Open(t, r.path("")), slog.New(slog.NewTextHandler(&r.logged, nil)))
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.fs.Dir, "folder", name) }

func (r *rig) write(name, content string) {
	r.t.Helper()
	path := filepath.Join(r.source, name)
	check(r.t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(r.t, os.WriteFile(path, []byte(content), 0o644))
}

// populate fills the source with all that any filesystem can hold.
func (r *rig) populate() {
	r.t.Helper()
	btrfstest.Populate(r.t, r.source, 1)
	check(r.t, os.Remove(r.source+"/links/long"))
	check(r.t, unix.Removexattr(r.source+"/xattrs/user", "user.large"))
}

// many writes n files with a content of their own.
func (r *rig) many(n int) {
	for i := range n {
		r.write(fmt.Sprintf("many/%05d", i), fmt.Sprintf("content %d", i))
	}
}

// copy does what precedes Finish.
func (r *rig) copy(name, base string) Work {
	r.t.Helper()
	w, err := r.folder.Begin(r.t.Context(), Order{Name: name, Base: base, Origin: Origin{Source: "source"}})
	check(r.t, err)
	argv := []string{"rsync", "-aHAX", "--numeric-ids", "--delete", "--modify-window=-1"}
	if w.InPlace {
		argv = append(argv, "--inplace", "--no-whole-file")
	}
	if w.LinkDest != "" {
		argv = append(argv, "--link-dest="+w.LinkDest)
	}
	btrfstest.Run(r.t, append(argv, r.source+"/", w.Path+"/")...)
	return w
}

// result is that of copy.
func result(name, base string) Result {
	return Result{Name: name, Base: base, Origin: Origin{Source: "source"}, Started: time.Unix(1e9, 0), MaxDelete: 50, Dedup: true}
}

func (r *rig) backup(name, base string) Record {
	r.t.Helper()
	r.copy(name, base)
	record, err := r.folder.Finish(r.t.Context(), result(name, base), nil)
	check(r.t, err)
	return record
}

// entries reads the manifest of a backup.
func (r *rig) entries(name string) []manifest.Entry {
	r.t.Helper()
	file, err := r.folder.state.Open(state.ManifestFile(name))
	check(r.t, err)
	defer file.Close()
	return readEntries(r.t, file)
}

func readEntries(t *testing.T, from io.Reader) (entries []manifest.Entry) {
	t.Helper()
	m, err := manifest.NewReader(from)
	check(t, err)
	defer m.Close()
	for {
		e, err := m.Next()
		if err == io.EOF {
			return entries
		}
		check(t, err)
		entries = append(entries, e)
	}
}

func (r *rig) entry(name, path string) manifest.Entry {
	r.t.Helper()
	for _, e := range r.entries(name) {
		if e.Path == path {
			return e
		}
	}
	r.t.Fatalf("the manifest of %s has no %s", name, path)
	panic("unreachable")
}

// listed gives the names of backups and of what is none.
func (r *rig) listed() (backups, others []string) {
	r.t.Helper()
	l, err := r.folder.List(r.t.Context())
	check(r.t, err)
	for _, b := range l.Backups {
		backups = append(backups, b.Name)
	}
	return backups, l.Others
}

// mustNotBe fails the test unless there is no backup of that name, and its partial copy can be resumed or is gone.
func (r *rig) mustNotBe(name string, goneOn bool) {
	r.t.Helper()
	if backups, _ := r.listed(); slices.Contains(backups, name) {
		r.t.Errorf("%s counts as a backup", name)
	}
	if _, err := os.Lstat(r.path(name)); !errors.Is(err, fs.ErrNotExist) {
		r.t.Errorf("the name is taken: %v", err)
	}
	if _, err := os.Lstat(r.path(btrfs.Incoming(name))); goneOn != (err == nil) {
		r.t.Errorf("what was copied is there: %v, want %v", err == nil, goneOn)
	}
	if !goneOn {
		return
	}
	w, err := r.folder.Begin(r.t.Context(), Order{Name: name, Origin: Origin{Source: "source"}})
	check(r.t, err)
	if !w.Resumed {
		r.t.Error("it is not resumed")
	}
}

func stat(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	check(t, unix.Lstat(path, &st))
	return st
}
