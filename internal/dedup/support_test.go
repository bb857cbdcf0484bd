package dedup

import (
	"bytes"
	"crypto/sha256"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"

	"golang.org/x/sys/unix"
)

var check = btrfstest.Check

const (
	indexFile = ".btrfs-backup/index"
	newBackup = "new"         // the backup that tests make
	hidden    = ".new.making" // where it stands meanwhile
)

// fixture is a folder of backups on a filesystem of its own.
type fixture struct {
	t      testing.TB
	dir    string
	folder *os.File
	log    bytes.Buffer
	inUse  map[uint64]bool
}

func newFixture(t testing.TB, filesystem string) *fixture {
	t.Helper()
	return newFixtureIn(t, newFilesystem(t, filesystem))
}

func newFixtureIn(t testing.TB, dir string) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: dir, inUse: make(map[uint64]bool)}
	check(t, os.MkdirAll(filepath.Join(f.dir, filepath.Dir(indexFile), state.Manifests), 0o700))
	f.folder = btrfstest.Open(t, f.dir)
	return f
}

func newFilesystem(t testing.TB, filesystem string) string {
	t.Helper()
	const size = 512 << 20
	if filesystem == "btrfs" {
		return btrfstest.New(t, size).Dir
	}
	return btrfstest.NewOther(t, filesystem, size).Dir
}

// open opens the index until the end of the test.
func (f *fixture) open() *Index {
	f.t.Helper()
	x, err := Open(f.folder, indexFile, Options{
		Log:   slog.New(slog.NewTextHandler(&f.log, nil)),
		InUse: func(inode uint64) bool { return f.inUse[inode] },
	})
	check(f.t, err)
	return x
}

// with opens the index for f.
func (f *fixture) with(do func(*Index)) {
	f.t.Helper()
	x := f.open()
	do(x)
	check(f.t, x.Close())
}

// write makes a file of a backup, or of the one in the making.
func (f *fixture) write(root, path string, content []byte) manifest.Entry {
	f.t.Helper()
	full := filepath.Join(f.dir, root, path)
	check(f.t, os.MkdirAll(filepath.Dir(full), 0o755))
	check(f.t, os.WriteFile(full, content, 0o644))
	check(f.t, os.Chtimes(full, time.Time{}, time.Unix(1e9, 123456789)))
	return f.entry(root, path)
}

// entry describes a file as it is.
func (f *fixture) entry(root, path string) manifest.Entry {
	f.t.Helper()
	full := filepath.Join(f.dir, root, path)
	st := f.stat(root, path)
	content, err := os.ReadFile(full)
	check(f.t, err)
	xattrs, err := manifest.Xattrs(full)
	check(f.t, err)
	return manifest.Entry{
		Path: path, Type: manifest.Regular, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Size: st.Size,
		ModTime: manifest.TimeOf(st.Mtim), SHA256: sha256.Sum256(content), Xattrs: xattrs,
		Inode: st.Ino, Links: uint64(st.Nlink), ChangeTime: manifest.TimeOf(st.Ctim),
	}
}

func (f *fixture) stat(root, path string) (st unix.Stat_t) {
	f.t.Helper()
	check(f.t, unix.Lstat(filepath.Join(f.dir, root, path), &st))
	return st
}

// known makes a file of an older backup, and makes it known.
func (f *fixture) known(backup, path string, content []byte) manifest.Entry {
	f.t.Helper()
	e := f.write(backup, path, content)
	f.with(func(x *Index) { check(f.t, x.Add(backup, e)) })
	return e
}

// share shares a file of the backup in the making.
func (f *fixture) share(x *Index, e manifest.Entry) (manifest.Entry, int64) {
	f.t.Helper()
	after, shared, err := x.Share(f.t.Context(), hidden+"/"+e.Path, e)
	check(f.t, err)
	return after, shared
}

// shareOnce is share with an index of its own.
func (f *fixture) shareOnce(e manifest.Entry) (after manifest.Entry, shared int64) {
	f.t.Helper()
	f.with(func(x *Index) { after, shared = f.share(x, e) })
	return after, shared
}

// linked tells that two files are one.
func (f *fixture) linked(rootA, a, rootB, b string) bool {
	f.t.Helper()
	return f.stat(rootA, a).Ino == f.stat(rootB, b).Ino
}

// expectUnlinked fails unless the new file is one of its own with the content, and no name but names stands in its directory.
func (f *fixture) expectUnlinked(e manifest.Entry, content []byte) {
	f.t.Helper()
	st := f.stat(hidden, e.Path)
	if st.Nlink != 1 || st.Ino != e.Inode {
		f.t.Errorf("%s has %d links and the inode %d instead of %d", e.Path, st.Nlink, st.Ino, e.Inode)
	}
	f.expectContent(e, content)
}

func (f *fixture) expectContent(e manifest.Entry, content []byte) {
	f.t.Helper()
	full := filepath.Join(f.dir, hidden, e.Path)
	got, err := os.ReadFile(full)
	check(f.t, err)
	if !bytes.Equal(got, content) {
		f.t.Errorf("%s has another content", e.Path)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(full), ".dedup-*"))
	check(f.t, err)
	if len(left) > 0 {
		f.t.Errorf("left behind: %s", left)
	}
}

func (f *fixture) expectWarning(parts ...string) {
	f.t.Helper()
	for _, part := range append(parts, "level=WARN") {
		if !strings.Contains(f.log.String(), part) {
			f.t.Errorf("no warning says %q:\n%s", part, &f.log)
		}
	}
}

func (f *fixture) expectNoWarning() {
	f.t.Helper()
	if f.log.Len() > 0 {
		f.t.Errorf("unexpected: %s", &f.log)
	}
}

// random gives bytes that depend on the seed alone.
func random(size int, seed uint64) []byte {
	b := make([]byte, size)
	var key [32]byte
	key[0] = byte(seed)
	rand.NewChaCha8(key).Read(b)
	return b
}
