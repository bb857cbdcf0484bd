package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func open(t testing.TB, path string, limit int64) *File {
	t.Helper()
	l, err := Open(path, limit)
	btrfstest.Check(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func write(t testing.TB, l *File, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if n, err := l.Write([]byte(line + "\n")); err != nil || n == 0 {
			t.Fatalf("%d bytes of %q were written: %v", n, line, err)
		}
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	btrfstest.Check(t, err)
	return string(text)
}

func TestOnlyTheOwnerReadsWhatIsLogged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a/b/log")
	write(t, open(t, path, 100), "one", "two")
	write(t, open(t, path, 100), "three")
	if text := read(t, path); text != "one\ntwo\nthree\n" {
		t.Errorf("the file holds %q", text)
	}
	for name, want := range map[string]os.FileMode{filepath.Dir(path): 0o700 | os.ModeDir, path: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestAFileThatIsFullMakesRoomForTheNext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path, 10)
	write(t, l, "1234", "6789")
	write(t, l, "next")
	if now, before := read(t, path), read(t, path+".1"); now != "next\n" || before != "1234\n6789\n" {
		t.Errorf("%q, and before that %q", now, before)
	}
	l.Close()
	write(t, open(t, path, 5), "last")
	if now, before := read(t, path), read(t, path+".1"); now != "last\n" || before != "next\n" {
		t.Errorf("when it was opened anew: %q, and before that %q", now, before)
	}
}

func TestAFileThatIsTakenAwayIsMadeAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path, 100)
	write(t, l, "one")
	btrfstest.Check(t, os.Rename(path, path+".old"))
	write(t, l, "two")
	if now, before := read(t, path), read(t, path+".old"); now != "two\n" || before != "one\n" {
		t.Errorf("%q, and before that %q", now, before)
	}
}

// writeAtOnce has each of several writers write lines of seven bytes: its number, and that of the line.
func writeAtOnce(t testing.TB, path string, limit int64, writers, lines int) {
	t.Helper()
	var writing sync.WaitGroup
	for w := range writers {
		l := open(t, path, limit)
		writing.Go(func() {
			for i := range lines {
				if _, err := fmt.Fprintf(l, "%d %04d\n", w, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
}

func TestWritersAtTheSameTimeLoseNothing(t *testing.T) {
	t.Parallel()
	const rounds, writers, lines, limit = 50, 4, 20, 400 // is passed once
	for range rounds {
		path := filepath.Join(t.TempDir(), "log")
		writeAtOnce(t, path, limit, writers, lines)
		next := make([]int, writers)
		for line := range strings.Lines(read(t, path+".1") + read(t, path)) {
			var w, i int
			if n, err := fmt.Sscanf(line, "%d %d\n", &w, &i); n != 2 || err != nil || i != next[w] {
				t.Fatalf("%q stands where line %d of each should: %v", line, next, err)
			}
			next[w]++
		}
		if left := slices.Min(next); left != lines {
			t.Fatalf("%d lines of each writer are left", next)
		}
	}
}

func TestWritersAtTheSameTimeKeepTheLimit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	const writers, lines, limit = 4, 300, 1000
	writeAtOnce(t, path, limit, writers, lines)
	now, before := read(t, path), read(t, path+".1")
	if len(now) > limit+writers*7 || len(before) > limit+writers*7 || len(before) < limit-7 { // each may have looked before the others wrote
		t.Errorf("%d bytes, and before that %d", len(now), len(before))
	}
	for line := range strings.Lines(before + now) {
		if len(line) != 7 {
			t.Errorf("a broken line: %q", line)
		}
	}
}

func TestAFullDiskLosesLinesAndBreaksNoneAfterThem(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	dir := t.TempDir()
	btrfstest.Run(t, "mount", "-t", "tmpfs", "-o", "size=64k", "none", dir)
	t.Cleanup(func() { btrfstest.Unmount(t, dir) })
	path := filepath.Join(dir, "log")
	l := open(t, path, 1<<20)
	defer l.Close() // before it is unmounted
	ballast := filepath.Join(dir, "ballast")
	btrfstest.Check(t, os.WriteFile(ballast, make([]byte, 40<<10), 0o600))
	long := strings.Repeat("x", 999)
	for err := error(nil); err == nil; {
		_, err = fmt.Fprintln(l, long)
	}
	btrfstest.Check(t, os.Remove(ballast))
	write(t, l, "after")
	text := read(t, path)
	if !strings.HasSuffix(text, "x\nafter\n") || strings.Contains(text, "xafter") {
		t.Errorf("the file ends with %q", text[len(text)-20:])
	}
}

func TestALinkInThePlaceOfALogIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	btrfstest.Check(t, os.Symlink(victim, filepath.Join(dir, "log")))
	if _, err := Open(filepath.Join(dir, "log"), 100); err == nil {
		t.Error("it was followed")
	}
	if _, err := os.Lstat(victim); err == nil {
		t.Error("its target was made")
	}
}
