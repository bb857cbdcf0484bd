package host_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/changes"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

func changed(t testing.TB, h host.Host, folder, from, name string) []changes.Change {
	t.Helper()
	if from != "" {
		from = filepath.Join(folder, from)
	}
	var all []changes.Change
	check(t, open(t, h, folder).Changes(t.Context(), host.ChangesOrder{Name: name, From: from}, func(c changes.Change) { all = append(all, c) }))
	return all
}

func TestChangesBetweenSnapshotsAreTold(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		live := newSubvolume(t, top, "live")
		at := func(name string) string { return filepath.Join(live, name) }
		for name, size := range map[string]int{"edited": 9000, "saved": 10, "moved": 5000, "gone": 70_000, "mode": 1, "same": 1, "dir/a": 1, "dir/b": 2, "old/x": 3} {
			check(t, os.MkdirAll(path.Dir(at(name)), 0o755))
			check(t, os.WriteFile(at(name), make([]byte, size), 0o644))
		}
		check(t, os.Link(at("edited"), at("dir/link\nof it")))
		snapshot(t, live, top+"/1")
		check(t, os.WriteFile(at("edited"), []byte("x"), 0o644))
		check(t, os.WriteFile(at("saved~"), make([]byte, 20), 0o644))
		check(t, os.Rename(at("saved~"), at("saved")))
		check(t, os.Rename(at("dir"), at("renamed")))
		check(t, os.Rename(at("moved"), at("renamed/moved")))
		check(t, os.RemoveAll(at("old")))
		check(t, os.Remove(at("gone")))
		check(t, os.Chmod(at("mode"), 0o600))
		check(t, os.Mkdir(at("new"), 0o755))
		check(t, os.WriteFile(at("new/file"), make([]byte, 7), 0o644))
		snapshot(t, live, top+"/2")
		var got []string
		for _, c := range changed(t, h, top, "1", "2") {
			if !c.IsNoise() {
				got = append(got, fmt.Sprintf("%s %q %q %t %t %d %d", c.Kind, c.From, c.Path, c.Content, c.Metadata, c.Was, c.Is))
			}
		}
		want := []string{
			`modified "" "edited" true false 9000 1`,
			`deleted "" "gone" false false 70000 0`,
			`modified "" "mode" false true 1 1`,
			`created "" "new" false false 0 0`,
			`created "" "new/file" false false 0 7`,
			`deleted "" "old" false false 0 0`,
			`deleted "" "old/x" false false 3 0`,
			`renamed "dir" "renamed" false false 0 0`,
			`modified "dir/link\nof it" "renamed/link\nof it" true false 9000 1`,
			`renamed "moved" "renamed/moved" false false 5000 5000`,
			`modified "" "saved" true false 10 20`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if n := len(changed(t, h, top, "2", "2")); n != 0 {
			t.Errorf("%d changes between a snapshot and itself", n)
		}
		for _, c := range changed(t, h, top, "", "2") {
			if c.Kind != changes.Created && c.Path != "." {
				t.Errorf("without an older one: %+v", c)
			}
		}
		if err := open(t, h, top).Changes(t.Context(), host.ChangesOrder{Name: "live"}, func(changes.Change) {}); err == nil {
			t.Error("what can be written to was compared")
		}
		elsewhere := newSubvolume(t, btrfstest.New(t, testSize).Dir, "x")
		snapshot(t, elsewhere, elsewhere+".s")
		err := open(t, h, top).Changes(t.Context(), host.ChangesOrder{Name: "2", From: elsewhere + ".s"}, func(changes.Change) {})
		if !errors.Is(err, unix.EXDEV) {
			t.Errorf("on two filesystems: %v", err)
		}
	})
}

// What is told is compared with what walks of both snapshots find, after operations by chance. In some rounds the order is reversed.
func TestChangesAreThoseThatWalksFind(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, testSize).Dir
	h := local.New(silent)
	for seed := range uint64(6) {
		live := newSubvolume(t, top, fmt.Sprint("live", seed))
		user := &user{t: t, root: live, rng: rand.New(rand.NewPCG(seed, 7))}
		for range 80 {
			user.act()
		}
		for round := range 6 {
			before, after := fmt.Sprintf("%d-%d", seed, round), fmt.Sprintf("%d-%d", seed, round+1)
			if round == 0 {
				snapshot(t, live, filepath.Join(top, before))
			}
			for range 5 + user.rng.IntN(60) {
				user.act()
			}
			snapshot(t, live, filepath.Join(top, after))
			if round%3 == 2 {
				before, after = after, before
			}
			wantChanges(t, filepath.Join(top, before), filepath.Join(top, after), changed(t, h, top, before, after))
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestChangesOfATreeOfEverythingAreThoseThatWalksFind(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	top := btrfstest.New(t, 512<<20).Dir
	live := newSubvolume(t, top, "live")
	btrfstest.Populate(t, live, 1)
	snapshot(t, live, top+"/0")
	for day := range 3 {
		btrfstest.Change(t, live, int64(day))
		before, after := fmt.Sprint(day), fmt.Sprint(day+1)
		snapshot(t, live, filepath.Join(top, after))
		wantChanges(t, filepath.Join(top, before), filepath.Join(top, after), changed(t, local.New(silent), top, before, after))
	}
}

// A user does things to a tree by chance.
type user struct {
	t     testing.TB
	root  string
	rng   *rand.Rand
	names int
}

func (u *user) all() (files, dirs []string) {
	dirs = []string{u.root}
	check(u.t, filepath.WalkDir(u.root, func(p string, d fs.DirEntry, err error) error {
		if p == u.root {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, p)
		} else {
			files = append(files, p)
		}
		return err
	}))
	return files, dirs
}

func (u *user) bytes() []byte {
	b := make([]byte, 1+u.rng.IntN(9000))
	for i := range b {
		b[i] = byte(1 + u.rng.IntN(255))
	}
	return b
}

func (u *user) act() {
	files, dirs := u.all()
	pick := func(of []string) string { return of[u.rng.IntN(len(of))] }
	free := func() string {
		if u.rng.IntN(3) == 0 { // a name that may have been there before
			name := filepath.Join(pick(dirs), fmt.Sprintf("n%d", u.rng.IntN(12)))
			if _, err := os.Lstat(name); err != nil {
				return name
			}
		}
		u.names++
		return filepath.Join(pick(dirs), fmt.Sprintf("f%d", u.names))
	}
	dir := pick(dirs)
	if len(files) < 5 {
		check(u.t, os.WriteFile(free(), u.bytes(), 0o644))
		return
	}
	file := pick(files)
	info, err := os.Lstat(file)
	check(u.t, err)
	regular := info.Mode().IsRegular()
	switch n := u.rng.IntN(19); {
	case n < 3:
		check(u.t, os.WriteFile(free(), u.bytes(), 0o644))
	case n == 3:
		check(u.t, os.Mkdir(free(), 0o755))
	case n == 4 && regular:
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		check(u.t, err)
		_, err = f.WriteAt(u.bytes(), u.rng.Int64N(20_000))
		check(u.t, errors.Join(err, f.Close()))
	case n == 5 && regular:
		check(u.t, os.Truncate(file, u.rng.Int64N(info.Size()+1)))
	case n == 6:
		check(u.t, os.Remove(file))
	case n == 7 && dir != u.root && u.rng.IntN(3) == 0:
		check(u.t, os.RemoveAll(dir))
	case n == 8:
		check(u.t, os.Rename(file, free()))
	case n == 9 || n == 10:
		if to := free(); dir != u.root && !strings.HasPrefix(to, dir+"/") {
			check(u.t, os.Rename(dir, to))
		}
	case n == 11:
		check(u.t, os.Link(file, free()))
	case n == 12:
		check(u.t, os.Chmod(dir, 0o700|os.FileMode(u.rng.IntN(0o77))))
	case n == 13 && regular:
		check(u.t, unix.Lsetxattr(file, "user.x", u.bytes()[:1], 0))
	case n == 14:
		check(u.t, os.Symlink(fmt.Sprint("to", u.rng.IntN(100)), free()))
	case n == 15 && regular: // as editors save
		check(u.t, os.WriteFile(file+"~", u.bytes(), 0o644))
		check(u.t, os.Rename(file+"~", file))
	case n == 16:
		check(u.t, os.Rename(file, pick(files)))
	case n == 17:
		if a, b := dir, pick(dirs); !strings.HasPrefix(a+"/", b+"/") && !strings.HasPrefix(b+"/", a+"/") {
			check(u.t, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
		}
	case n == 18:
		check(u.t, os.Lchown(file, 1000+u.rng.IntN(5), 5))
	}
}

// seen is what a walk finds.
type seen struct {
	manifest.Entry
	content, metadata string
}

func walked(t testing.TB, root string) map[string]seen {
	t.Helper()
	found := make(map[string]seen)
	check(t, filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		check(t, err)
		rel, err := filepath.Rel(root, p)
		check(t, err)
		var st unix.Stat_t
		check(t, unix.Lstat(p, &st))
		s := seen{Entry: manifest.Describe(rel, &st)}
		switch s.Type {
		case manifest.Regular:
			content, err := os.ReadFile(p)
			check(t, err)
			s.content = fmt.Sprintf("%x", sha256.Sum256(content))
		case manifest.Symlink:
			s.content, err = os.Readlink(p)
		}
		s.metadata = fmt.Sprint(s.Mode, s.UID, s.GID, s.Device, xattrs(t, p))
		found[rel] = s
		return err
	}))
	return found
}

func xattrs(t testing.TB, p string) (all []string) {
	buffer := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, buffer)
	check(t, err)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buffer[:n]), "\x00"), "\x00") {
		if name != "" {
			value := make([]byte, 64<<10)
			n, err := unix.Lgetxattr(p, name, value)
			check(t, err)
			all = append(all, fmt.Sprintf("%q=%x", name, value[:n]))
		}
	}
	slices.Sort(all)
	return all
}

// wantChanges fails unless the changes make one tree of the other, tell what differs of each file, and nothing else.
func wantChanges(t testing.TB, before, after string, all []changes.Change) {
	t.Helper()
	old, now := walked(t, before), walked(t, after)
	told, deleted := make(map[string]changes.Change), make(map[string]bool)
	for _, c := range all {
		if c.Kind == changes.Deleted {
			deleted[c.Path] = true
			if was := old[c.Path]; was.Type != c.Type || was.Size != c.Was {
				t.Errorf("%+v, but it was %+v", c, was.Entry)
			}
			continue
		}
		if _, twice := told[c.Path]; twice {
			t.Errorf("%q is told twice", c.Path)
		}
		told[c.Path] = c
	}
	inodes := make(map[uint64]bool)
	for _, s := range old {
		inodes[s.Inode] = true
	}
	var oldPath func(p string) string
	oldPath = func(p string) string {
		if c, ok := told[p]; ok {
			return c.Old()
		}
		if p == "." {
			return p
		}
		return path.Join(oldPath(path.Dir(p)), path.Base(p))
	}
	reached, rest := make(map[string]bool), maps.Clone(told)
	for p, is := range now {
		c, isTold := told[p]
		delete(rest, p)
		if isTold && (c.Type != is.Type || c.Is != is.Size) {
			t.Errorf("%+v, but it is %+v", c, is.Entry)
		}
		if isTold && c.Kind == changes.Created {
			if inodes[is.Inode] && is.Links < 2 {
				t.Errorf("%q is told to be created, but it was there", p)
			}
			continue
		}
		from := oldPath(p)
		was, there := old[from]
		if !there || was.Type != is.Type {
			t.Errorf("%q is not told to be created, but was not at %q: %+v", p, from, c)
			continue
		}
		reached[from] = true
		wantChange(t, c, was, is, old[path.Dir(from)].Inode, now[path.Dir(p)].Inode)
	}
	for p := range rest {
		t.Errorf("%q is told of, but is not there", p)
	}
	for p := range old {
		if reached[p] == deleted[p] {
			t.Errorf("%q: deleted %t, still there %t", p, deleted[p], reached[p])
		}
	}
}

// wantChange compares what is told of a file that is in both trees with what it was and is.
func wantChange(t testing.TB, c changes.Change, was, is seen, dirWas, dirIs uint64) {
	t.Helper()
	if was.Inode != is.Inode { // made anew
		if c.Kind != changes.Modified || was.Path != is.Path || inodeElsewhere(was, is) {
			t.Errorf("%q is another file than %q: %+v", is.Path, was.Path, c)
		}
		if was.content != is.content && !c.Content {
			t.Errorf("%q has another content: %+v", is.Path, c)
		}
		return
	}
	renamed := path.Base(was.Path) != path.Base(is.Path) || dirWas != dirIs
	if renamed != (c.Kind == changes.Renamed) && was.Path != is.Path {
		t.Errorf("%q was %q: %+v", is.Path, was.Path, c)
	}
	if c.Content != (was.content != is.content) || c.Metadata != (was.metadata != is.metadata) ||
		c.Times != (was.ModTime != is.ModTime) {
		t.Errorf("%q: %+v, but\nit was %+v\nit is  %+v", is.Path, c, was, is)
	}
}

func inodeElsewhere(was, is seen) bool { return was.Type != is.Type }
