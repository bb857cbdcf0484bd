package btrfstest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// tree makes and changes files below root. Each step ends the test when it
// fails, so that Populate and Change read as lists of what they do.
type tree struct {
	t    testing.TB
	root string
	src  *rand.ChaCha8
	rng  *rand.Rand
}

// newTree returns a tree whose choices depend on seed and purpose alone.
func newTree(t testing.TB, root, purpose string, seed int64) *tree {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], uint64(seed))
	copy(key[8:], purpose)
	src := rand.NewChaCha8(key)
	return &tree{t: t, root: root, src: src, rng: rand.New(src)}
}

func (tr *tree) check(err error) {
	tr.t.Helper()
	if err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) path(name string) string { return filepath.Join(tr.root, name) }

func (tr *tree) exists(name string) bool {
	_, err := os.Lstat(tr.path(name))
	return err == nil
}

// random returns n incompressible bytes.
func (tr *tree) random(n int) []byte {
	data := make([]byte, n)
	tr.src.Read(data)
	return data
}

func (tr *tree) mkdir(name string) {
	tr.t.Helper()
	tr.check(os.MkdirAll(tr.path(name), 0o755))
}

// write makes a file and the directories it needs.
func (tr *tree) write(name string, data []byte) {
	tr.t.Helper()
	tr.mkdir(filepath.Dir(name))
	tr.check(os.WriteFile(tr.path(name), data, 0o644))
}

// edit opens a file, made when it is absent, for the time of do.
func (tr *tree) edit(name string, do func(*os.File) error) {
	tr.t.Helper()
	f, err := os.OpenFile(tr.path(name), os.O_RDWR|os.O_CREATE, 0o644)
	tr.check(err)
	defer f.Close()
	if err := do(f); err != nil {
		tr.t.Fatalf("editing %q: %v", name, err)
	}
}

func (tr *tree) writeAt(name string, data []byte, offset int64) {
	tr.t.Helper()
	tr.edit(name, func(f *os.File) error {
		_, err := f.WriteAt(data, offset)
		return err
	})
}

func (tr *tree) rename(from, to string) {
	tr.t.Helper()
	tr.check(os.Rename(tr.path(from), tr.path(to)))
}

func (tr *tree) link(from, to string) {
	tr.t.Helper()
	tr.check(os.Link(tr.path(from), tr.path(to)))
}

// SmallFiles makes n files of less than 4 KiB, 100 to a directory.
func SmallFiles(t testing.TB, dir string, n int, seed int64) {
	t.Helper()
	tr := newTree(t, dir, "small files", seed)
	for i := range n {
		tr.write(fmt.Sprintf("%04d/%02d", i/100, i%100), tr.random(tr.rng.IntN(4<<10)))
	}
}
