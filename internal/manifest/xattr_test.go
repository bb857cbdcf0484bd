package manifest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestXattrDigestTellsAttributesApart(t *testing.T) {
	digest := func(pairs ...string) Digest {
		var xattrs []Xattr
		for i := 0; i < len(pairs); i += 2 {
			xattrs = append(xattrs, Xattr{pairs[i], []byte(pairs[i+1])})
		}
		return XattrDigest(xattrs)
	}
	if digest() != (Digest{}) {
		t.Error("no attributes have a digest")
	}
	if digest("user.a", "1", "user.b", "2") != digest("user.b", "2", "user.a", "1") {
		t.Error("the order counts")
	}
	seen := map[Digest]int{{}: -1}
	for i, pairs := range [][]string{
		{"user.a", ""}, {"user.a", "1"}, {"user.b", "1"}, {"user.a", "1", "user.b", "1"}, {"user.a1", ""}, {"user.a", "1user.b1"},
		{"security.selinux", "1"}, {"system.posix_acl_access", "1"}, {"system.posix_acl_default", "1"}, {"trusted.a", "1"}, {"btrfs.compression", "1"},
	} {
		d := digest(pairs...)
		if j, ok := seen[d]; ok {
			t.Errorf("%q has the digest of number %d", pairs, j)
		}
		seen[d] = i
	}
	if digest("system.nfs4_acl", "1", "security.evm", "2") != (Digest{}) {
		t.Error("attributes that the filesystem makes count")
	}
	if digest("system.nfs4_acl", "1", "user.a", "1") != digest("user.a", "1") {
		t.Error("an attribute that the filesystem makes changes the digest")
	}
}

func TestXattrsReadsThoseOfTheFileItself(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Symlink("file", link))
	read := func(path string) Digest {
		t.Helper()
		d, err := Xattrs(path)
		must(t, err)
		return d
	}
	if read(file) != (Digest{}) {
		t.Error("a file without attributes has a digest")
	}
	large := bytes.Repeat([]byte("x"), 2000)
	must(t, unix.Lsetxattr(file, "user.b", large, 0))
	must(t, unix.Lsetxattr(file, "user.a", nil, 0))
	if got, want := read(file), XattrDigest([]Xattr{{"user.a", nil}, {"user.b", large}}); got != want {
		t.Errorf("got %x, want %x", got, want)
	}
	if read(link) != (Digest{}) {
		t.Error("the symlink has the attributes of what it leads to")
	}
	if os.Geteuid() == 0 { // user.* is for files and directories only
		must(t, unix.Lsetxattr(link, "trusted.own", []byte("1"), 0))
		if got, want := read(link), XattrDigest([]Xattr{{"trusted.own", []byte("1")}}); got != want {
			t.Errorf("of the symlink: got %x, want %x", got, want)
		}
	}
	if _, err := Xattrs(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing file has no attributes, rather than an error")
	}
}

func TestXattrsReadsManyLongNames(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	var want []Xattr
	for c := byte('a'); c < 'a'+10; c++ {
		x := Xattr{"user." + string(bytes.Repeat([]byte{c}, 150)), []byte{c}}
		must(t, unix.Lsetxattr(file, x.Name, x.Value, 0))
		want = append(want, x)
	}
	got, err := Xattrs(file)
	if err != nil || got != XattrDigest(want) {
		t.Errorf("got %x, %v", got, err)
	}
}

func TestAFilesystemWithoutAttributesHasNone(t *testing.T) {
	if d, err := Xattrs("/proc/self/status"); err != nil || d != (Digest{}) {
		t.Errorf("got %x, %v", d, err)
	}
}
