package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"

	"golang.org/x/sys/unix"
)

const imageSize = 320 << 20

var check = btrfstest.Check

// everywhere runs a test on each kind of filesystem, in a new folder.
func everywhere(t *testing.T, test func(t *testing.T, f *Folder)) {
	for _, kind := range []string{"btrfs", "ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if kind == "xfs" { // which is like ext4 where nothing is shared
				btrfstest.OnlyInAll(t)
			}
			test(t, newFolder(t, kind))
		})
	}
}

// newFolder makes a folder on a filesystem of its own.
func newFolder(t *testing.T, kind string) *Folder {
	t.Helper()
	var disk *btrfstest.FS
	if kind == "btrfs" {
		disk = btrfstest.New(t, imageSize)
	} else {
		disk = btrfstest.NewOther(t, kind, imageSize)
	}
	path := filepath.Join(disk.Dir, "folder")
	check(t, os.Mkdir(path, 0o755))
	return New(btrfstest.Open(t, path), slog.New(slog.DiscardHandler))
}

func mustBegin(t *testing.T, f *Folder, o Order) Work {
	t.Helper()
	w, err := f.Begin(t.Context(), o)
	check(t, err)
	return w
}

func mustList(t *testing.T, f *Folder) Listing {
	t.Helper()
	l, err := f.List(t.Context())
	check(t, err)
	return l
}

// addBackup makes a backup; fill puts files into its directory.
func addBackup(t *testing.T, f *Folder, o Order, fill func(dir string)) {
	t.Helper()
	w := mustBegin(t, f, o)
	fill(w.Path)
	record(t, f, o)
	check(t, f.rename(btrfs.Incoming(o.Name), o.Name))
	check(t, f.dropUnfinished(btrfs.Incoming(o.Name)))
}

// record does what comes before a backup gets its name.
func record(t *testing.T, f *Folder, o Order) {
	t.Helper()
	r := Record{Name: o.Name, Origin: Origin{Source: o.Source}, Base: o.Base, Finished: time.Now()}
	dir, err := f.openPartial(o.Name)
	check(t, err)
	defer dir.Close()
	if mustList(t, f).Btrfs {
		check(t, btrfs.SetReadOnly(f.dir, btrfs.Incoming(o.Name), true))
		info, err := btrfs.Info(dir)
		check(t, err)
		r.Subvolume = info.UUID.String()
	}
	check(t, f.state.Write(state.ManifestFile(o.Name), []byte("manifest")))
	check(t, f.writeRecord(r))
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

// linkFrom gives each file below from a link below to, as rsync --link-dest does.
func linkFrom(t *testing.T, from, to string) {
	t.Helper()
	check(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		return os.Link(path, target)
	}))
}

// facts describes all that is below a path: what a file is and holds, but for the number of its names.
func facts(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		var content []byte
		switch d.Type() {
		case 0:
			content, err = os.ReadFile(path)
		case fs.ModeSymlink:
			var target string
			target, err = os.Readlink(path)
			content = []byte(target)
		}
		lines = append(lines, fmt.Sprintf("%q inode %d mode %o owner %d:%d time %v content %x", strings.TrimPrefix(path, root),
			st.Ino, st.Mode, st.Uid, st.Gid, st.Mtim, sha256.Sum256(content)))
		return err
	}))
	return lines
}

// unchanged fails the test if do changes anything below the paths.
func unchanged(t *testing.T, paths []string, do func()) {
	t.Helper()
	var before [][]string
	for _, path := range paths {
		before = append(before, facts(t, path))
	}
	do()
	for i, path := range paths {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("it is gone: %v", err)
		} else if after := facts(t, path); !slices.Equal(before[i], after) {
			t.Errorf("%s changed from\n%s\nto\n%s", path, strings.Join(before[i], "\n"), strings.Join(after, "\n"))
		}
	}
}

// addForeign puts things of others into the folder, and gives their names.
func addForeign(t *testing.T, f *Folder) []string {
	t.Helper()
	folder := f.dir.Name()
	names := []string{"notes-2017-05-01.txt", "photos-2016-01-01", "20170501-120000", ".20170502-120000.incoming",
		".20170503-120000.deleting", ".hidden", "link"}
	write(t, folder, names[0], names[1]+"/photo", names[2]+"/file", names[5])
	check(t, os.Symlink("photos-2016-01-01", filepath.Join(folder, "link")))
	for _, name := range names[3:5] {
		if onBtrfs, err := f.onBtrfs(); err == nil && onBtrfs {
			check(t, btrfs.Create(f.dir, name))
		}
		write(t, folder, name+"/file")
	}
	slices.Sort(names)
	return names
}

func paths(f *Folder, names []string) []string {
	var all []string
	for _, name := range names {
		all = append(all, f.pathOf(name))
	}
	return all
}

func backupNames(l Listing) []string {
	var names []string
	for _, r := range l.Backups {
		names = append(names, r.Name)
	}
	return names
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// hintOf gives the way forward in an error.
func hintOf(err error) string {
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) {
		return ""
	}
	return hinted.Hint()
}

// ended is a context that has ended.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
