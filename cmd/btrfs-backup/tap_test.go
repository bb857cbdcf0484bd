package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
)

// testOnlyTap is the directory of a tap for the streams that the kernel makes for the program.
const testOnlyTap = "BTRFS_BACKUP_TEST_TAP"

// A tap stands between the kernel and what checks its streams. It does one of these things:
//
//	cut PLACE     the stream ends there
//	flip PLACE    a bit of the byte there is another
//	again         the stream begins once more when three quarters have come
//	other FILE    what begins then is another stream
//	hold PLACE    nothing more comes until the tap is opened
//	kill          the program kills itself
//
// A PLACE is a number of bytes, from the end if it is negative, or a fraction of the stream.
type tap struct{ dir string }

func newTap(t testing.TB, does ...string) tap {
	t.Helper()
	p := tap{t.TempDir()}
	p.write(t, "does", strings.Join(does, " "))
	return p
}

// newTapForOne makes one that does nothing to any stream but the first.
func newTapForOne(t testing.TB, does ...string) tap {
	t.Helper()
	p := newTap(t, does...)
	p.write(t, "once", "")
	return p
}

func (p tap) write(t testing.TB, name, content string) {
	t.Helper()
	btrfstest.Check(t, os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o644))
}

func (p tap) environ() []string { return []string{testOnlyTap + "=" + p.dir} }

// open lets a stream go on that is held.
func (p tap) open(t testing.TB) { t.Helper(); p.write(t, "open", "") }

// passed fails the test unless so many streams were begun.
func (p tap) passed(t testing.TB, streams int) {
	t.Helper()
	if calls, _ := os.ReadFile(filepath.Join(p.dir, "calls")); len(calls) != streams {
		t.Fatalf("%d streams were begun instead of %d", len(calls), streams)
	}
}

// pid waits for the number of the process whose stream is held.
func (p tap) pid(t testing.TB) (pid int) { t.Helper(); return shim(p).pid(t) }

// From here on it runs in the program.

func testOnlyTapStreams(dir string) { failpoint.OnStream(tap{dir}.on) }

func (p tap) on(r io.Reader) io.Reader {
	calls, err := os.OpenFile(filepath.Join(p.dir, "calls"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	mustHold(err)
	defer calls.Close()
	_, err = calls.WriteString(".")
	mustHold(err)
	info, err := calls.Stat()
	mustHold(err)
	content, err := os.ReadFile(filepath.Join(p.dir, "does"))
	mustHold(err)
	does := strings.Fields(string(content))
	switch {
	case len(does) == 0 || exists(filepath.Join(p.dir, "once")) && info.Size() > 1:
		return r
	case does[0] == "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case does[0] == "hold":
		n, err := strconv.ParseInt(does[1], 10, 64)
		mustHold(err)
		return io.MultiReader(io.LimitReader(r, n), gate{r, p.dir}, r)
	}
	all, err := io.ReadAll(r)
	mustHold(err)
	return bytes.NewReader(spoil(all, does))
}

// spoil gives what becomes of a stream.
func spoil(all []byte, does []string) []byte {
	switch does[0] {
	case "cut":
		return all[:place(does[1], len(all))]
	case "flip":
		all[place(does[1], len(all))] ^= 1
		return all
	case "again":
		return slices.Concat(all[:place("3/4", len(all))], all)
	case "other":
		other, err := os.ReadFile(does[1])
		mustHold(err)
		if len(other) != len(all) {
			panic(fmt.Sprintf("the other stream has %d bytes, this one %d", len(other), len(all)))
		}
		return slices.Concat(all[:place("3/4", len(all))], other)
	}
	panic("a tap cannot " + does[0])
}

func place(text string, size int) int {
	if part, whole, isPart := strings.Cut(text, "/"); isPart {
		a, err := strconv.Atoi(part)
		mustHold(err)
		b, err := strconv.Atoi(whole)
		mustHold(err)
		return size * a / b
	}
	n, err := strconv.Atoi(text)
	mustHold(err)
	if n < 0 {
		return size + n
	}
	return n
}

// gate ends when the tap is opened, or fails when nobody reads any more.
type gate struct {
	stream io.Reader
	dir    string
}

func (g gate) Read([]byte) (int, error) {
	number := filepath.Join(g.dir, "pid")
	mustHold(os.WriteFile(number+".new", fmt.Appendf(nil, "%d", os.Getpid()), 0o644))
	mustHold(os.Rename(number+".new", number))
	for !exists(filepath.Join(g.dir, "open")) {
		if _, err := g.stream.Read(nil); err != nil {
			return 0, err
		}
		if !exists(g.dir) {
			return 0, io.ErrUnexpectedEOF
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, io.EOF
}

func mustHold(err error) {
	if err != nil {
		panic(err)
	}
}
