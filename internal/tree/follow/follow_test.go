package follow

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

var check = btrfstest.Check

// newDir makes a directory on a filesystem of its own.
func newDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(btrfstest.NewOther(t, "ext4", 320<<20).Dir, "copy")
	check(t, os.Mkdir(dir, 0o700))
	return dir
}

// A followed copy is one to a directory.
type followedCopy struct {
	dir, notes string
	end        func() // of following it
}

func follow(t *testing.T, dir string) *followedCopy {
	t.Helper()
	c := &followedCopy{dir: dir, notes: filepath.Join(filepath.Dir(dir), "notes")}
	notes, err := os.Create(c.notes)
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	root := btrfstest.Open(t, dir)
	go func() { ended <- Copy(ctx, root, notes) }()
	c.end = func() {
		t.Helper()
		cancel()
		check(t, <-ended)
		check(t, notes.Close())
	}
	return c
}

// awaitRead waits until so many files were read.
func (c *followedCopy) awaitRead(t *testing.T, n int) {
	t.Helper()
	for range 3000 {
		if c.countRead(t) >= n {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%d files were read in five minutes, want %d", c.countRead(t), n)
}

// countRead tells how many times a file was read.
func (c *followedCopy) countRead(t *testing.T) int {
	t.Helper()
	file, err := os.Open(c.notes)
	check(t, err)
	defer file.Close()
	notes, err := ReadNotes(file)
	check(t, err)
	return len(notes)
}

// A file that changed within the precision of the times of changes would look as it did when it was read.
func TestWhatChangedJustNowIsNotReadDuringTheCopy(t *testing.T) {
	t.Parallel()
	c := follow(t, newDir(t))
	defer c.end()
	file := filepath.Join(c.dir, "growing")
	for longest := settled; longest >= settled; { // until this test was not held up itself
		check(t, os.RemoveAll(file))
		before := c.countRead(t)
		longest = 0
		for start, last := time.Now(), time.Now(); time.Since(start) < 2*settled; time.Sleep(settled / 20) {
			check(t, os.WriteFile(file, []byte(time.Now().String()), 0o644))
			longest, last = max(longest, time.Since(last)), time.Now()
		}
		if n := c.countRead(t) - before; n > 0 && longest < settled {
			t.Errorf("it was read %d times, while it changed every %s", n, longest)
		}
	}
}

func TestRsyncsTemporaryFilesAreNotReadDuringTheCopy(t *testing.T) {
	t.Parallel()
	source, dir := t.TempDir(), newDir(t)
	check(t, os.WriteFile(source+"/large", make([]byte, 1<<20), 0o644))
	rsync := exec.CommandContext(t.Context(), "rsync", "-a", "--bwlimit=10", source+"/", dir+"/")
	check(t, rsync.Start())
	var temporary string
	for temporary == "" {
		found, err := os.ReadDir(dir)
		check(t, err)
		if len(found) > 0 {
			temporary = found[0].Name()
		}
	}
	check(t, rsync.Process.Kill())
	_ = rsync.Wait()
	if !isTemporary(temporary) {
		t.Errorf("rsync's %s is not known to be temporary", temporary)
	}
	for _, name := range []string{".other" + temporary[strings.LastIndex(temporary, "."):], ".bashrc", "name.123456"} {
		check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	}
	c := follow(t, dir)
	c.awaitRead(t, 2)
	c.end()
	if n := c.countRead(t); n != 2 {
		t.Errorf("%d files were read", n)
	}
}

func TestAFilesystemWithAnotherClockIsNotFollowed(t *testing.T) {
	t.Parallel()
	file := btrfstest.Open(t, t.TempDir())
	check(t, checkClock(file, time.Now()))
	for _, off := range []time.Duration{-settled, settled} {
		if err := checkClock(file, time.Now().Add(off)); err == nil {
			t.Errorf("a clock that is off by %s is taken", off)
		}
	}
}
