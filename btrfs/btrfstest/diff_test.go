package btrfstest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDiffFindsEachDifference(t *testing.T) {
	tests := []struct {
		want   string // the beginning of the only difference
		change func(*tree) error
	}{
		{`"files/large": content`, func(tr *tree) error {
			tr.writeAt("files/large", tr.random(1), 5<<20)
			return nil
		}},
		{`"files/grows": size: want 100000, got 99999`, func(tr *tree) error { return os.Truncate(tr.path("files/grows"), 99_999) }},
		{`"files/empty": missing`, func(tr *tree) error { return os.Remove(tr.path("files/empty")) }},
		{`"move/outer": missing`, func(tr *tree) error { return os.RemoveAll(tr.path("move/outer")) }},
		{`"files/new": unexpected`, func(tr *tree) error { return os.Mkdir(tr.path("files/new"), 0o755) }},
		{`"names/new\nline": missing`, func(tr *tree) error { return os.Remove(tr.path("names/new\nline")) }},
		{`"replace/2": type: want directory, got regular file`, func(tr *tree) error {
			tr.replace("replace/2")
			return nil
		}},
		{`"special/fifo-linked": type: want fifo, got socket`, func(tr *tree) error {
			return renew(tr.path("special/fifo-linked"), func(path string) error { return unix.Mknod(path, unix.S_IFSOCK, 0) })
		}},
		{`"files/inline": mode: want 0644, got 0640`, func(tr *tree) error { return os.Chmod(tr.path("files/inline"), 0o640) }},
		{`"modes/setuid": mode: want 4755, got 0755`, func(tr *tree) error { return os.Chmod(tr.path("modes/setuid"), 0o755) }},
		{`".": mode: `, func(tr *tree) error { return os.Chmod(tr.root, 0o701) }},
		{`"owners/file": owner: want 1234:5678, got 1:5678`, func(tr *tree) error { return os.Chown(tr.path("owners/file"), 1, -1) }},
		{`"owners/symlink": owner: want 1234:5678, got 1234:1`, func(tr *tree) error { return os.Lchown(tr.path("owners/symlink"), -1, 1) }},
		{`"links/relative": target: want "../files/inline", got "/"`, func(tr *tree) error {
			return renew(tr.path("links/relative"), func(path string) error { return os.Symlink("/", path) })
		}},
		{`"special/char": device: want 1:3, got 1:5`, func(tr *tree) error {
			return renew(tr.path("special/char"), func(path string) error {
				return unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5)))
			})
		}},
		{`"links/hard-2": hard link: want "links/elsewhere/hard-3", got none`, func(tr *tree) error {
			return renew(tr.path("links/hard-2"), func(path string) error { return os.WriteFile(path, tr.read("links/hard-1"), 0o644) })
		}},
		{`"files/twin-2": hard link: want none, got "files/twin-1"`, func(tr *tree) error {
			return renew(tr.path("files/twin-2"), func(path string) error { return os.Link(tr.path("files/twin-1"), path) })
		}},
		{`"xattrs/user": xattr "user.text": want "value", got "other"`, func(tr *tree) error {
			return unix.Lsetxattr(tr.path("xattrs/user"), "user.text", []byte("other"), 0)
		}},
		{`"xattrs/user": xattr "user.empty": want "", got none`, func(tr *tree) error {
			return unix.Lremovexattr(tr.path("xattrs/user"), "user.empty")
		}},
		{`"files": xattr "user.new": want none, got ""`, func(tr *tree) error {
			return unix.Lsetxattr(tr.path("files"), "user.new", nil, 0)
		}},
		{`".": xattr "user.root": `, func(tr *tree) error { return unix.Lremovexattr(tr.root, "user.root") }},
		{`"xattrs/acl": xattr "system.posix_acl_access": `, func(tr *tree) error {
			return unix.Lsetxattr(tr.path("xattrs/acl"), aclAccess, namedUserACL(0), 0)
		}},
		{`"xattrs/inherits": xattr "system.posix_acl_default": `, func(tr *tree) error {
			return unix.Lremovexattr(tr.path("xattrs/inherits"), aclDefault)
		}},
		{`"owners/capable": xattr "security.capability": `, func(tr *tree) error {
			return unix.Lremovexattr(tr.path("owners/capable"), capability)
		}},
	}
	want := populated(t)
	for i, test := range tests {
		t.Run(test.want, func(t *testing.T) {
			t.Parallel()
			tr := duplicate(t, want, fmt.Sprintf("%s-%d", want.root, i))
			if err := test.change(tr); err != nil {
				t.Fatal(err)
			}
			copyTimes(t, want.root, tr.root)
			diffs, err := Diff(want.root, tr.root)
			if err != nil {
				t.Fatal(err)
			}
			if len(diffs) != 1 || !strings.HasPrefix(diffs[0], test.want) {
				t.Errorf("got %q", diffs)
			}
		})
	}
}

func TestDiffComparesTimesToTheNanosecond(t *testing.T) {
	want := populated(t)
	got := duplicate(t, want, want.root+"-copy")
	for _, name := range []string{"files/large", "links/dangling", "special/socket", "names", "."} {
		copyTimes(t, want.root, got.root)
		st, err := os.Lstat(got.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := setTime(got.path(name), st.ModTime().Add(time.Nanosecond)); err != nil {
			t.Fatal(err)
		}
		diffs, err := Diff(want.root, got.root)
		if err != nil || len(diffs) != 1 || !strings.HasPrefix(diffs[0], fmt.Sprintf("%q: mtime: ", name)) {
			t.Errorf("mtime of %q: got %q, %v", name, diffs, err)
		}
		for option, applies := range map[string]bool{DirTimes: st.IsDir(), RootTime: name == "."} {
			diffs, err = Diff(want.root, got.root, option)
			if err != nil || (len(diffs) == 0) != applies {
				t.Errorf("mtime of %q, ignoring %q: got %q, %v", name, option, diffs, err)
			}
		}
	}
}

func TestDiffIgnoresPaths(t *testing.T) {
	want := populated(t)
	got := duplicate(t, want, want.root+"-copy")
	if err := os.RemoveAll(got.path("names")); err != nil {
		t.Fatal(err)
	}
	got.write("files/large", nil)
	copyTimes(t, want.root, got.root)
	for _, test := range []struct {
		ignore []string
		want   int
	}{
		{nil, 2},
		{[]string{"names"}, 1},
		{[]string{"files/large", "names"}, 0},
		{[]string{"files", "names"}, 0},
		{[]string{"file", "large", "names"}, 1},
	} {
		diffs, err := Diff(want.root, got.root, test.ignore...)
		if err != nil || len(diffs) != test.want {
			t.Errorf("ignoring %q: got %q, %v", test.ignore, diffs, err)
		}
	}
}

func TestDiffReportsUnreadableTree(t *testing.T) {
	dir := t.TempDir()
	if _, err := Diff(dir, filepath.Join(dir, "absent")); err == nil {
		t.Error("an absent tree is no error")
	}
}

func TestEqualShowsTheFirstDifferences(t *testing.T) {
	want, got := t.TempDir(), t.TempDir()
	SmallFiles(t, want, 30, 1)
	SmallFiles(t, got, 30, 2)
	r := record(t, func(tb testing.TB) { Equal(tb, want, got) })
	if lines := strings.Count(r.output.String(), "\n"); !r.failed || lines != 21 {
		t.Errorf("failed %t with %d lines:\n%s", r.failed, lines, &r.output)
	}
	Equal(t, want, want)
}

// populated returns a populated tree on a btrfs of its own.
func populated(t *testing.T) *tree {
	tr := newTree(t, New(t, testSize).Dir+"/tree", "test", 1)
	tr.mkdir(".")
	tr.write("files/twin-1", []byte("twin"))
	tr.write("files/twin-2", []byte("twin"))
	Populate(t, tr.root, 1)
	for _, name := range []string{"files/twin-1", "files/twin-2"} {
		tr.check(setTime(tr.path(name), time.Unix(1, 2)))
	}
	return tr
}

// duplicate copies a tree, and proves along the way that Diff accepts a copy.
func duplicate(t *testing.T, from *tree, to string) *tree {
	Run(t, "cp", "--archive", "--reflink=always", from.root, to)
	Equal(t, from.root, to)
	return newTree(t, to, "duplicate", 1)
}

// copyTimes undoes what a change did to the times of to.
func copyTimes(t *testing.T, from, to string) {
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := entry.Info()
		if err != nil {
			return err
		}
		err = setTime(to+strings.TrimPrefix(path, from), st.ModTime())
		if os.IsNotExist(err) || err == unix.ENOTDIR {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// renew makes what is at path anew.
func renew(path string, make func(string) error) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return make(path)
}

func (tr *tree) read(name string) []byte {
	data, err := os.ReadFile(tr.path(name))
	tr.check(err)
	return data
}
