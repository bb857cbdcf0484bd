package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// recorded is what rsync 3.5 wrote with --info=progress2 --stats, and with its numbers in groups.
const recorded = "\r         32,768   1%    0.00kB/s    0:00:00  \r      1,081,344  36% 1000.98kB/s    0:00:01  " +
	"\r      2,000,000  66%    1.01MB/s    0:00:02 (xfr#1, ir-chk=3/5)" +
	"\r      2,129,920  35%  1000.49kB/s    0:00:00 (xfr#2, to-chk=3/5)" +
	"\r      3,000,003  50%    1.00MB/s    0:00:02 (xfr#3, to-chk=0/5)\n" + `
Number of files: 5 (reg: 2, dir: 3)
Number of created files: 4 (reg: 2, dir: 2)
Number of deleted files: 1,234 (reg: 1,000, dir: 234)
Number of regular files transferred: 2
Total file size: 6,000,003 bytes
Total transferred file size: 3,000,003 bytes
Literal data: 3,000,003 bytes
Total bytes sent: 3,000,976
Total bytes received: 66

sent 3,000,976 bytes  received 66 bytes  857,440.57 bytes/sec
`

func TestProgressAndStatisticsAreRead(t *testing.T) {
	t.Parallel()
	diary, shown := &journal{}, make(chan string, 1000)
	display := progress.NewLines(func(line string) { shown <- line }, 10*time.Millisecond)
	defer display.Close()
	o := output{shown: display.Start(t.Context(), "transfer", nil)}
	var dones []int64
	check(t, readLines(strings.NewReader(recorded), func(line string) {
		if done, _, _, ok := parseProgress(line); ok {
			dones = append(dones, done)
		}
		o.line(line)
	}))
	if len(dones) != 5 || dones[1] != 1081344 {
		t.Errorf("the steps are %v", dones)
	}
	if o.bytes != 3000003 || o.files != 2 || o.deleted != 1234 || o.wire != 3000976+66 {
		t.Errorf("it is read as %+v", &o)
	}
	if o.atMost != 6000006 { // the percentage of what rsync did not know yet counts for nothing
		t.Fatalf("the total is taken for %d", o.atMost)
	}
	late := time.After(5 * time.Minute)
	for !strings.Contains(diary.String(), progress.Bytes(6000006)) || !strings.Contains(diary.String(), progress.Bytes(3000003)) {
		select {
		case line := <-shown:
			fmt.Fprintln(diary, line)
		case <-late:
			t.Fatalf("what is shown is %s", diary)
		}
	}
}

func TestTheTotalIsTakenOnlyOnceRsyncKnowsTheWholeSource(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"      2,000,000  66%    1.01MB/s    0:00:02 (xfr#1, ir-chk=3/5)": false,
		"      1,081,344  36% 1000.98kB/s    0:00:01":                     false,
		"        3000000  99%    1.01MB/s    0:00:02 (xfr#1, to-chk=3/5)": true,
	} {
		if _, _, known, ok := parseProgress(line); !ok || known != want {
			t.Errorf("%q is read as %v, %v", line, known, ok)
		}
	}
	for _, line := range []string{"", "sent 5 bytes", "1 2% x", "a% b% cB/s d", "-5 5% 1B/s x", "99999999999999999999 5% 1B/s x"} {
		if _, _, _, ok := parseProgress(line); ok {
			t.Errorf("%q is taken for progress", line)
		}
	}
}

func TestLongLinesEndNothing(t *testing.T) {
	t.Parallel()
	var got int
	long := strings.Repeat("x", 3*maxLine)
	check(t, readLines(strings.NewReader(long+"\nend"), func(line string) { got += len(line) }))
	if got != len(long)+len("end") {
		t.Errorf("%d bytes are read", got)
	}
}

// saving is a host that tells of partial copies that are saved.
type saving struct {
	*local.Host
	saved chan<- error // the state of the context
}

func (s saving) OpenTrees(ctx context.Context, path string, o tree.OpenOptions) (*host.TreeDir, error) {
	dir, err := s.Host.OpenTrees(ctx, path, o)
	if err == nil {
		dir.TreeWriter = savingWriter{dir.TreeWriter, s.saved}
	}
	return dir, err
}

type savingWriter struct {
	host.TreeWriter
	saved chan<- error
}

func (s savingWriter) SavePartialTree(ctx context.Context, name string) error {
	s.saved <- ctx.Err()
	return s.TreeWriter.SavePartialTree(ctx, name)
}

func TestThereIsTimeToSaveAPartialCopyWhenTheRunIsStopped(t *testing.T) {
	dir := rsyncIs(t, `: >"$dir/began"; exec sleep 100`)
	f := folderFor(t, sourceOf(t, SourceOptions{}, "a"), Options{})
	saved := make(chan error, 1)
	f.host = saving{here(), saved}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, "began")); err == nil {
				stop()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	if _, err := backUp(ctx, f, "1"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-saved; err != nil {
		t.Errorf("it was to be saved in a context of which is said: %v", err)
	}
}

func TestAStoppedCopySavesItsPartialCopy(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	s := sourceOf(t, SourceOptions{}, "small")
	check(t, os.WriteFile(filepath.Join(s.path, "large"), bytes.Repeat([]byte("x"), 64<<20), 0o644))
	f := folderFor(t, s, Options{Limit: 4 << 20})
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	stopped := errors.New("the user stopped it")
	arrived := filepath.Join(f.path, ".1.incoming")
	go func() {
		for ctx.Err() == nil { // until rsync has begun with the large file
			if begun, _ := filepath.Glob(filepath.Join(arrived, ".large.*")); len(begun) > 0 {
				if info, err := os.Stat(begun[0]); err == nil && info.Size() > 1<<20 {
					stop(stopped)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	_, err := backUp(ctx, f, "1")
	if !errors.Is(err, stopped) {
		t.Fatalf("got %v", err)
	}
	if hint := hint.Of(err); !strings.Contains(hint, "the partial copy stays") {
		t.Errorf("the hint is %q", hint)
	}
	info, err := os.Stat(filepath.Join(arrived, "large"))
	if err != nil || info.Size() < 1<<20 {
		t.Errorf("of the large file there is %+v, %v", info, err)
	}
	if rest, _ := filepath.Glob(filepath.Join(arrived, ".large.*")); len(rest) > 0 {
		t.Errorf("rsync had no time to tidy up: %v", rest)
	}
	if _, err := os.Lstat(filepath.Join(f.path, "1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a backup: %v", err)
	}
	f.Limit = 0
	mustBackUp(t, f, "2")
	mustEqual(t, s.path, filepath.Join(f.path, "2"))
}
