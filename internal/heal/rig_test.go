package heal_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/heal"
)

const testSize = 256 << 20

var check, run = btrfstest.Check, btrfstest.Run

// A ward is a filesystem with a source, snapshots of it, and backups of them that share their data.
type ward struct {
	*btrfstest.FS
	t      testing.TB
	folder *os.File // of the backups "1" and so on, with snapshots "s1" and so on at the top level
	data   []byte   // of the file "dir/file"
}

// fileSize is that of the file: not all of its last block.
const fileSize = 300<<10 + 777

func newWard(t testing.TB, fs *btrfstest.FS, data []byte) *ward {
	t.Helper()
	w := &ward{FS: fs, t: t, data: data}
	run(t, "btrfs", "subvolume", "create", fs.Dir+"/source")
	check(t, os.MkdirAll(fs.Dir+"/source/dir", 0o755))
	check(t, os.Mkdir(fs.Dir+"/backups", 0o755))
	check(t, os.WriteFile(fs.Dir+"/source/dir/file", data, 0o640))
	check(t, os.WriteFile(fs.Dir+"/source/small", []byte("inline"), 0o640))
	for i := 1; i <= 3; i++ {
		check(t, os.WriteFile(fmt.Sprintf("%s/source/new%d", fs.Dir, i), []byte("something"), 0o640))
		w.backUp(i)
	}
	w.folder = btrfstest.Open(t, fs.Dir+"/backups")
	return w
}

// backUp makes the next snapshot, and the backup of it.
func (w *ward) backUp(i int) {
	w.t.Helper()
	parent := ""
	if i > 1 {
		parent = fmt.Sprintf("-p %s/s%d", w.Dir, i-1)
	}
	run(w.t, "btrfs", "subvolume", "snapshot", "-r", w.Dir+"/source", fmt.Sprintf("%s/s%d", w.Dir, i))
	run(w.t, "sh", "-ec", fmt.Sprintf("btrfs send -q %s %s/s%d >%[2]s/../stream; btrfs receive -q -f %[2]s/../stream %[2]s/backups; mv %[2]s/backups/s%[3]d %[2]s/backups/%[3]d",
		parent, w.Dir, i))
}

func (w *ward) path(backup int) string { return fmt.Sprintf("%s/backups/%d/dir/file", w.Dir, backup) }

// random gives bytes that cannot be compressed.
func random(n int) []byte {
	data := make([]byte, n)
	rand.Read(data)
	return data
}

// words gives text, which can be compressed, but not to nothing.
func words(n int) []byte {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%x words and words ", random(5))
	}
	return []byte(b.String()[:n])
}

// find gives the damage of a backup.
func (w *ward) find(backup string) (all []heal.Damage) {
	w.t.Helper()
	_, err := heal.In(w.folder).FindDamage(context.Background(), backup, func(d heal.Damage) { all = append(all, d) }, func(int64) {})
	check(w.t, err)
	return all
}

// good gives what a source holds of a damaged part.
func (w *ward) good(source string, d heal.Damage) heal.Piece {
	w.t.Helper()
	dir := btrfstest.Open(w.t, filepath.Dir(source))
	p, err := heal.In(dir).ReadPiece(context.Background(), filepath.Base(source), heal.Piece{File: d.File, Offset: d.Offset, Length: d.Length, Encoded: d.Compressed != ""})
	check(w.t, err)
	return p
}

// wantWhole fails unless all backups hold what they did, and the disk no error that has no good copy.
func (w *ward) wantWhole() {
	w.t.Helper()
	for i := 1; i <= 3; i++ {
		btrfstest.DropCaches(w.t, w.path(i))
		if got, err := os.ReadFile(w.path(i)); err != nil || string(got) != string(w.data) {
			w.t.Errorf("backup %d is not whole: %v", i, err)
		}
	}
	w.awaitDeleted()
	if errors := btrfstest.Scrub(w.t, w.Dir); strings.Contains(errors, "uncorrectable") {
		w.t.Errorf("scrub finds %s", errors)
	}
}

// awaitDeleted waits until what was deleted is gone from the disk.
func (w *ward) awaitDeleted() {
	w.t.Helper()
	check(w.t, btrfs.Reclaim(w.folder))
	for run(w.t, "btrfs", "subvolume", "list", "-d", w.Dir) != "" {
		time.Sleep(10 * time.Millisecond)
	}
	run(w.t, "sync", "-f", w.Dir)
}
