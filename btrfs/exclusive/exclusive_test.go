package exclusive_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/exclusive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/reflink"

	"golang.org/x/sys/unix"
)

// dataUsed gives the bytes of all extents of data on a filesystem.
func dataUsed(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	for line := range strings.Lines(btrfstest.Run(t, "btrfs", "filesystem", "df", "-b", dir)) {
		if _, used, ok := strings.Cut(strings.TrimSpace(line), "used="); ok && strings.HasPrefix(line, "Data") {
			n, err := strconv.ParseInt(used, 10, 64)
			btrfstest.Check(t, err)
			bytes += n
		}
	}
	return bytes
}

func noise(t *testing.T, size int) []byte {
	t.Helper()
	content := make([]byte, size)
	_, err := unix.Getrandom(content, 0)
	btrfstest.Check(t, err)
	return content
}

// A shareRig is a filesystem on which subvolumes share data in all the ways that there are.
type shareRig struct {
	*testing.T
	dir string
}

func (r shareRig) write(path string, content []byte) {
	r.Helper()
	btrfstest.Check(r, os.WriteFile(filepath.Join(r.dir, path), content, 0o644))
}

func (r shareRig) overwrite(path string, at int64, size int) {
	r.Helper()
	f, err := os.OpenFile(filepath.Join(r.dir, path), os.O_WRONLY, 0)
	btrfstest.Check(r, err)
	defer f.Close()
	_, err = f.WriteAt(noise(r.T, size), at)
	btrfstest.Check(r, err)
	btrfstest.Check(r, f.Sync())
}

func (r shareRig) run(command string) {
	r.Helper()
	btrfstest.Run(r, "sh", "-ec", "cd '"+r.dir+"'; "+command)
}

// make gives the paths of the subvolumes.
func (r shareRig) make() []string {
	r.run(`btrfs -q subvolume create src; btrfs -q subvolume create other; mkdir b s src/d; btrfs property set src/d compression zstd`)
	for i := range 20 {
		r.write(fmt.Sprintf("src/small%d", i), noise(r.T, 100))
		r.write(fmt.Sprintf("src/block%d", i), noise(r.T, 5000))
		r.write(fmt.Sprintf("src/large%d", i), noise(r.T, 300_000))
		r.write(fmt.Sprintf("src/d/zeros%d", i), []byte(strings.Repeat("compressible ", 20_000)))
	}
	r.run(`fallocate -l 1M src/reserved; truncate -s 1M src/sparse; cp --reflink src/large0 src/copy; cp --reflink src/large1 other/copy`)
	all := []string{"other"}
	base := ""
	for i := range 6 {
		r.overwrite(fmt.Sprintf("src/large%d", i), 100_000, 8192) // a part of an extent: the rest of it stays
		r.overwrite("src/reserved", int64(i)*65536, 4096)
		r.overwrite(fmt.Sprintf("src/d/zeros%d", i), 131_072, 4096)
		r.write(fmt.Sprintf("src/new%d", i), noise(r.T, 200_000))
		r.run(fmt.Sprintf(`rm -f src/new%d src/block%d; truncate -s 150000 src/large%d; sync -f .`, i-2, i, i+10))
		r.run(fmt.Sprintf(`btrfs -q subvolume snapshot -r src s/%d; btrfs send -q %s s/%d 2>/dev/null | btrfs receive -q b`, i, base, i))
		base = fmt.Sprintf("-p s/%d", i)
		all = append(all, fmt.Sprintf("s/%d", i), fmt.Sprintf("b/%d", i))
	}
	// Elsewhere: a clone of a backup that goes its own way, a copy of a file of a backup, and the same content shared later.
	r.run(`mkdir other/in; btrfs -q subvolume snapshot b/3 other/in/clone; rm other/in/clone/large7; cp --reflink b/4/new4 other/new4; cp s/5/large9 other/large9`)
	r.write("other/in/clone/own", noise(r.T, 100_000))
	from, err := os.Open(r.dir + "/s/5/large9")
	btrfstest.Check(r, err)
	defer from.Close()
	to, err := os.Open(r.dir + "/other/large9")
	btrfstest.Check(r, err)
	defer to.Close()
	btrfstest.Check(r, unix.Syncfs(int(to.Fd())))
	if _, err := reflink.Share(r.Context(), from, to, 299_008); err != nil {
		r.Fatal(err)
	}
	// A copy by rsync: a snapshot of the one before it, changed, and read-only then.
	r.run(`btrfs -q subvolume create r0; cp src/large[2-9] r0; btrfs property set r0 ro true; btrfs -q subvolume snapshot r0 r1; rm r1/large2`)
	r.write("r1/large3", noise(r.T, 250_000))
	// A parent that was altered when it had a snapshot.
	r.run(`btrfs property set r1 ro true; btrfs -q subvolume create p0`)
	r.write("p0/gone", noise(r.T, 200_000))
	r.write("p0/kept", noise(r.T, 100_000))
	r.run(`btrfs property set p0 ro true; btrfs -q subvolume snapshot -r p0 p1; btrfs property set p0 ro false; rm p0/gone; btrfs property set p0 ro true; sync -f .`)
	r.delete("b/2", "s/3")
	all = slices.DeleteFunc(all, func(path string) bool { return path == "b/2" || path == "s/3" })
	return append(all, "other/in/clone", "r0", "r1", "p0", "p1", "src")
}

// delete deletes subvolumes, and tells how much data that freed.
func (r shareRig) delete(paths ...string) int64 {
	r.Helper()
	before := dataUsed(r.T, r.dir)
	// btrfs subvolume sync looks once a second only.
	r.run(`btrfs -q subvolume delete ` + strings.Join(paths, " ") + `; btrfs filesystem sync .
		while btrfs subvolume list -d . | grep -q .; do sleep 0.02; done; btrfs filesystem sync .`)
	return before - dataUsed(r.T, r.dir)
}

func (r shareRig) ids(paths ...string) (ids []uint64) {
	for _, path := range paths { // what is open is not freed
		s, err := btrfs.InfoAt(btrfstest.Open(r, r.dir), path)
		btrfstest.Check(r, err)
		ids = append(ids, s.ID)
	}
	return ids
}

func TestWhatASubvolumeHasForItselfIsWhatItsDeletionFrees(t *testing.T) {
	t.Parallel()
	r := shareRig{t, btrfstest.New(t, 512<<20).Dir}
	all := r.make()
	dir := btrfstest.Open(t, r.dir)
	predict := func(paths ...string) int64 {
		t.Helper()
		space, err := exclusive.New(dir)
		btrfstest.Check(t, err)
		n, err := space.Exclusive(t.Context(), r.ids(paths...)...)
		btrfstest.Check(t, err)
		return n
	}
	nonZero := 0
	for _, group := range [][]string{{"b/0"}, {"p1"}, {"b/3"}, {"s/2"}, {"r0"}, {"s/4", "s/5"}, {"b/5"}, {"other/in/clone"}, {"b/1", "b/4"}, {"s/0", "s/1", "src"}, {"other"}} {
		want := predict(group...)
		if got := r.delete(group...); got != want {
			t.Errorf("deleting %s freed %d bytes, foretold were %d", group, got, want)
		}
		if want > 0 {
			nonZero++
		}
		all = slices.DeleteFunc(all, func(path string) bool { return slices.Contains(group, path) })
	}
	if nonZero < 9 {
		t.Errorf("only %d of the groups have anything for themselves", nonZero)
	}
	if want, used := predict(all...), dataUsed(t, r.dir); want != used {
		t.Errorf("%s have %d bytes of %d", all, want, used)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	space, err := exclusive.New(dir)
	btrfstest.Check(t, err)
	if _, err := space.Exclusive(ended, r.ids(all...)...); !errors.Is(err, context.Canceled) {
		t.Errorf("without time left: %v", err)
	}
}
