package grow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"
)

// A rig is a base with a manifest, and an empty directory beside it.
type rig struct {
	t           *testing.T
	base, into  string
	entries     []manifest.Entry
	kept, moved bytes.Buffer
}

func newRig(t *testing.T, script string) *rig {
	t.Helper()
	btrfstest.RequireRoot(t)
	return newRigIn(t, t.TempDir(), script)
}

func newRigIn(t *testing.T, top, script string) *rig {
	t.Helper()
	r := &rig{t: t, base: filepath.Join(top, "base"), into: filepath.Join(top, "into")}
	for _, dir := range []string{r.base, r.into} {
		btrfstest.Check(t, os.Mkdir(dir, 0o700))
	}
	btrfstest.Run(t, "sh", "-ec", "cd '"+r.base+"'; "+script)
	btrfstest.Check(t, filepath.WalkDir(r.base, func(path string, _ fs.DirEntry, err error) error {
		btrfstest.Check(t, err)
		at, err := filepath.Rel(r.base, path)
		btrfstest.Check(t, err)
		r.entries = append(r.entries, r.describe(path, at))
		return nil
	}))
	slices.SortFunc(r.entries, func(a, b manifest.Entry) int { return manifest.Compare(a.Path, b.Path) })
	return r
}

func (r *rig) describe(path, at string) manifest.Entry {
	dir, err := walk.OpenDir(btrfstest.Open(r.t, filepath.Dir(path)))
	btrfstest.Check(r.t, err)
	defer dir.Release()
	f, err := dir.File(filepath.Base(path), at)
	btrfstest.Check(r.t, err)
	if xattrs, err := manifest.ListXattrs(path); err == nil && len(xattrs) > 0 {
		f.Xattrs = manifest.Digest{1}
	}
	if f.Type == manifest.Symlink {
		f.Entry.Target, err = f.Target()
		btrfstest.Check(r.t, err)
	}
	return f.Entry
}

// grow makes a tree.
func (r *rig) grow(c Changes) error {
	r.t.Helper()
	var list bytes.Buffer
	w, err := manifest.NewWriter(&list)
	btrfstest.Check(r.t, err)
	for _, e := range r.entries {
		btrfstest.Check(r.t, w.Write(e))
	}
	btrfstest.Check(r.t, w.Close())
	return Tree(r.t.Context(), Order{Base: btrfstest.Open(r.t, r.base), Manifest: &list, Changes: c, Into: btrfstest.Open(r.t, r.into),
		Kept: &r.kept, Moved: &r.moved})
}

// paths gives those in a manifest.
func paths(t *testing.T, from io.Reader) (all []string) {
	t.Helper()
	entries, err := manifest.NewReader(from)
	btrfstest.Check(t, err)
	defer entries.Close()
	for {
		e, err := entries.Next()
		if err == io.EOF {
			return all
		}
		btrfstest.Check(t, err)
		all = append(all, e.Path)
	}
}

func (r *rig) inode(path string) string {
	r.t.Helper()
	info, err := os.Lstat(path)
	btrfstest.Check(r.t, err)
	return fmt.Sprint(r.describe(path, "x").Inode, " ", info.Mode(), " ", info.ModTime().UnixNano())
}

func TestATreeGrowsByWhatChanged(t *testing.T) {
	r := newRig(t, `mkdir -p a b c/d z; echo 1 >a/one; echo 2 >a/two; echo x >b/x; echo deep >c/d/deep; ln -s nowhere c/link; mkfifo z/pipe
		chmod 2751 c; chown 3:4 c/d; setfattr -n user.a -v b c/d; touch -d 2001-02-03T04:05:06.789 c c/d z`)
	err := r.grow(Changes{Gone: []string{"b", "b/x"}, Moved: []Move{{"a", "n/m/a"}, {"c/d/deep", "n/deep"}, {"a/two", "z/two"}},
		Links: []Move{{"a/one", "z/one"}}, Anew: []string{".", "n", "n/m", "z", "new"}})
	btrfstest.Check(t, err)
	for to, from := range map[string]string{"n/m/a": "", "n/m/a/one": "a/one", "z/one": "a/one", "z/two": "a/two", "n/deep": "c/d/deep",
		"c/link": "c/link", "z/pipe": "z/pipe"} {
		if from == "" {
			continue
		}
		if got, want := r.inode(filepath.Join(r.into, to)), r.inode(filepath.Join(r.base, from)); got != want {
			t.Errorf("%s is %s, want %s", to, got, want)
		}
	}
	for _, dir := range []string{"c", "c/d"} {
		is, was := r.describe(filepath.Join(r.into, dir), dir), r.describe(filepath.Join(r.base, dir), dir)
		if is.Mode != was.Mode || is.UID != was.UID || is.GID != was.GID || is.ModTime != was.ModTime || is.Xattrs != was.Xattrs {
			t.Errorf("%s is %+v, want %+v", dir, is, was)
		}
	}
	for _, dir := range []string{"n", "n/m", "z"} { // nobody may look into what has not got its attributes
		if mode := r.describe(filepath.Join(r.into, dir), dir).Mode; mode != 0o700 {
			t.Errorf("the mode of %s is %o", dir, mode)
		}
	}
	for _, at := range []string{"b", "a", "c/d/deep", "n/m/a/two"} {
		if _, err := os.Lstat(filepath.Join(r.into, at)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", at, err)
		}
	}
	if kept, want := paths(t, &r.kept), []string{"c", "c/d", "c/link", "z/pipe"}; !slices.Equal(kept, want) {
		t.Errorf("kept are %q, want %q", kept, want)
	}
	if moved, want := paths(t, &r.moved), []string{"n/deep", "n/m/a", "n/m/a/one", "z/one", "z/two"}; !slices.Equal(moved, want) {
		t.Errorf("moved are %q, want %q", moved, want)
	}
}

func TestWhatIsNotAsTheManifestSaysIsNotBuiltUpon(t *testing.T) {
	const all = "mkdir -p a/sub; echo 1 >a/one; echo 2 >a/two; chmod 644 a/*o*; touch -d 2001-02-03 a/* a ."
	for name, c := range map[string]struct {
		do string
		Changes
		path, what string
	}{
		"a file that is missing":          {do: "rm a/one; touch -d 2001-02-03 a", path: "a/one", what: "it is missing"},
		"a file that was replaced":        {do: "cp -p a/one t; mv t a/one; touch -d 2001-02-03 a .", path: "a/one", what: "it was replaced"},
		"a directory for a file":          {do: "rm a/one; mkdir a/one; touch -d 2001-02-03 a", path: "a/one", what: "it was replaced"},
		"a link for a directory":          {do: "mv a ../t; ln -s ../t a; touch -d 2001-02-03 .", path: "a", what: "it was replaced"},
		"another size":                    {do: "echo 123 >a/one; touch -d 2001-02-03 a/one", path: "a/one", what: "it was modified"},
		"another time":                    {do: "touch a/one", path: "a/one", what: "it was modified"},
		"something added":                 {do: "touch a/more", path: "a", what: "it was modified"},
		"something added to the root":     {do: "touch more", path: ".", what: "it was modified"},
		"another mode":                    {do: "chmod 4644 a/one", path: "a/one", what: "its mode or owner was changed"},
		"another owner":                   {do: "chown 7 a/one", path: "a/one", what: "its mode or owner was changed"},
		"another group":                   {do: "chown :7 a/one", path: "a/one", what: "its mode or owner was changed"},
		"what is linked and was modified": {do: "touch a/one", Changes: Changes{Gone: []string{"a/one"}, Links: []Move{{"a/one", "b"}}}, path: "a/one", what: "it was modified"},
		"gone, and not in the base":       {Changes: Changes{Gone: []string{"none"}}, path: "none", what: "it is missing in the manifest"},
		"moved, and not in the base":      {Changes: Changes{Moved: []Move{{"../etc", "etc"}}}, path: "../etc", what: "it is missing in the manifest"},
		"linked, and not in the base":     {Changes: Changes{Links: []Move{{"/etc/shadow", "s"}}}, path: "/etc/shadow", what: "it is missing in the manifest"},
		"a further name of a directory":   {Changes: Changes{Links: []Move{{"a/sub", "s"}}}, path: "a/sub", what: "it is missing in the manifest"},
		"the root moved":                  {Changes: Changes{Moved: []Move{{".", "s"}}}, path: ".", what: "it is missing in the manifest"},
		"in what is gone":                 {Changes: Changes{Gone: []string{"a"}}, path: "a/one", what: "its directory is gone, and nothing tells of it"},
		"two directories":                 {Changes: Changes{Moved: []Move{{"a", "b"}, {"a/sub", "b"}}}, path: "b", what: "two directories would have this path"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, all)
			btrfstest.Run(t, "sh", "-ec", "cd '"+r.base+"'; "+c.do)
			var altered *AlteredError
			err := r.grow(c.Changes)
			if !errors.As(err, &altered) || altered.Path != c.path || altered.What != c.what {
				t.Errorf("the error is %v, want that of %s: %s", err, c.path, c.what)
			}
		})
	}
}

func TestAManifestWithoutADirectoryIsRefused(t *testing.T) {
	r := newRig(t, "mkdir -p a/b; echo >a/b/c")
	r.entries = slices.DeleteFunc(r.entries, func(e manifest.Entry) bool { return e.Path == "a" })
	if err := r.grow(Changes{}); err == nil || err.Error() != "a/b: its directory is missing in the manifest" {
		t.Error(err)
	}
}

func TestNoPathLeadsOutOfTheTree(t *testing.T) {
	r := newRig(t, "echo >f; mkdir d")
	for _, at := range []string{"..", "../f", "/f", "", "d/../f", "d//f", "./f", "d/", "x\x00../../f", "d/../../f"} {
		for name, c := range map[string]Changes{"moved": {Moved: []Move{{"f", at}}}, "linked": {Links: []Move{{"f", at}}}, "copied": {Anew: []string{at}}} {
			if err := r.grow(c); err == nil || !strings.Contains(err.Error(), "is no path in a tree") {
				t.Errorf("%q is %s: %v", at, name, err)
			}
		}
	}
	if err := r.grow(Changes{Moved: []Move{{"f", "."}}}); err == nil || !strings.Contains(err.Error(), "root") {
		t.Error(err)
	}
	for _, c := range []Changes{{Moved: []Move{{"d", "x"}}, Links: []Move{{"f", "x"}}}, {Links: []Move{{"f", "x"}, {"f", "x"}}}, {Moved: []Move{{"d", "f/d"}}}} {
		btrfstest.Run(t, "sh", "-ec", "rm -rf '"+r.into+"'; mkdir '"+r.into+"'")
		if err := r.grow(c); err == nil {
			t.Errorf("%+v is a tree", c)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(r.into), "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("there are %q, %v", left, err)
	}
}

func TestMemoryForMovedFilesIsLimited(t *testing.T) {
	most = 3
	defer func() { most = maxMoved }()
	r := newRig(t, "mkdir a; touch a/1 a/2 a/3")
	if err := r.grow(Changes{Moved: []Move{{"a", "b"}}, Anew: []string{"."}}); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
}

// What the folder of backups hands down to new files is no part of what is backed up.
func TestACLsOfTheFolderAreNotInherited(t *testing.T) {
	top := filepath.Join(btrfstest.NewOther(t, "ext4", 64<<20).Dir, "folder")
	btrfstest.Check(t, os.Mkdir(top, 0o700))
	r := newRigIn(t, top, "mkdir plain own; setfacl -m u:7:rwx,d:u:8:r own; echo >own/f")
	btrfstest.Run(t, "sh", "-ec", "cd '"+top+"'; setfacl -m d:u:9:rwx .; rmdir into; mkdir into")
	btrfstest.Check(t, r.grow(Changes{Moved: []Move{{"own", "new/own"}}, Anew: []string{".", "new"}}))
	for _, dir := range []string{".", "plain", "new"} {
		if all, err := manifest.ListXattrs(filepath.Join(r.into, dir)); err != nil || len(all) > 0 {
			t.Errorf("%s has %q, %v", dir, all, err)
		}
	}
	acls := func(dir string) string {
		all, err := manifest.ListXattrs(dir)
		btrfstest.Check(t, err)
		return fmt.Sprint(all)
	}
	if is, was := acls(filepath.Join(r.into, "new/own")), acls(filepath.Join(r.base, "own")); is != was {
		t.Errorf("own has %s, want %s", is, was)
	}
}
