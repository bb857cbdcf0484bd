package lock_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// patience is how long a test waits for what must happen.
const patience = 5 * time.Minute

// testOnlyHold names, for a child process that runs this test binary, the directory to lock.
const testOnlyHold = "BTRFS_BACKUP_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(testOnlyHold); dir != "" {
		hold(dir)
	}
	os.Exit(m.Run())
}

// hold locks a directory until the end of standard input.
func hold(path string) {
	dir, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	if _, err := lock.Acquire(context.Background(), dir, nil); err != nil {
		panic(err)
	}
	os.Stdout.WriteString("held\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

var check, open = btrfstest.Check, btrfstest.Open

// holder is another process that holds a lock.
type holder struct {
	*exec.Cmd
	stdin io.Closer
}

func startHolder(t testing.TB, dir string) holder {
	t.Helper()
	cmd := exec.Command(os.Args[0], "an argument of the holder")
	cmd.Env = append(os.Environ(), testOnlyHold+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	check(t, err)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // unless it has ended
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process does not hold the lock: %q, %v", line, err)
	}
	return holder{cmd, stdin}
}

// refused tries to lock dir, which another process must hold.
func refused(t testing.TB, dir *os.File) *lock.HeldError {
	t.Helper()
	l, err := lock.Acquire(t.Context(), dir, nil)
	var held *lock.HeldError
	if !errors.As(err, &held) || !lock.IsHeld(err) {
		t.Fatalf("lock %v, error: %v", l, err)
	}
	return held
}

func acquire(t testing.TB, dir *os.File) *lock.Lock {
	t.Helper()
	l, err := lock.Acquire(t.Context(), dir, nil)
	check(t, err)
	t.Cleanup(func() { check(t, l.Release()) })
	return l
}

func TestAnotherProcessIsKeptOutAndNamed(t *testing.T) {
	dir := open(t, t.TempDir())
	other := startHolder(t, dir.Name())
	held := refused(t, dir)
	if held.PID != other.Process.Pid || !strings.Contains(held.Command, "an argument of the holder") || held.Dir != dir.Name() {
		t.Errorf("held by %+v, want process %d", held, other.Process.Pid)
	}
	for _, part := range []string{dir.Name(), held.Command} {
		if !strings.Contains(held.Error(), part) {
			t.Errorf("%q is not in the message %q", part, held)
		}
	}
}

func TestASecondOpeningInTheSameProcessIsKeptOut(t *testing.T) {
	path := t.TempDir()
	first := open(t, path)
	l := acquire(t, first)
	for _, dir := range []*os.File{first, open(t, path)} {
		if held := refused(t, dir); held.PID != os.Getpid() {
			t.Errorf("held by %+v, want this process", held)
		}
	}
	check(t, l.Release())
	acquire(t, open(t, path))
}

func TestALockEndsWithItsProcess(t *testing.T) {
	for name, end := range map[string]func(holder) error{
		"killed": func(h holder) error { return h.Process.Signal(syscall.SIGKILL) },
		"exits":  func(h holder) error { return h.stdin.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			dir := open(t, t.TempDir())
			other := startHolder(t, dir.Name())
			refused(t, dir)
			check(t, end(other))
			_ = other.Wait() // killed, or 0
			acquire(t, dir)
		})
	}
}

func TestWaitingIsToldOnceAndEndsWithTheHolder(t *testing.T) {
	dir := open(t, t.TempDir())
	other := startHolder(t, dir.Name())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var told []*lock.HeldError
	l, err := lock.Acquire(ctx, dir, func(held *lock.HeldError) {
		told = append(told, held)
		// several rounds of asking for the lock
		time.AfterFunc(350*time.Millisecond, func() { other.stdin.Close() })
	})
	check(t, err)
	defer func() { check(t, l.Release()) }()
	if len(told) != 1 || told[0].PID != other.Process.Pid {
		t.Errorf("told %v", told)
	}
	refused(t, open(t, dir.Name()))
}

func TestWaitingIsNotToldOfAFreeLock(t *testing.T) {
	l, err := lock.Acquire(t.Context(), open(t, t.TempDir()), func(held *lock.HeldError) { t.Errorf("told %v", held) })
	check(t, err)
	check(t, l.Release())
}

func TestTheEndOfTheContextEndsWaiting(t *testing.T) {
	dir := open(t, t.TempDir())
	other := startHolder(t, dir.Name())
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	l, err := lock.Acquire(ctx, dir, func(*lock.HeldError) { cancel(cause) })
	if !errors.Is(err, cause) || lock.IsHeld(err) || l != nil {
		t.Errorf("lock %v, error: %v, want %v", l, err, cause)
	}
	check(t, other.stdin.Close())
	check(t, other.Wait())
	acquire(t, dir)
}

func TestADirectoryIsTheSameUnderEveryPath(t *testing.T) {
	btrfstest.RequireRoot(t)
	dir := filepath.Join(t.TempDir(), "directory")
	link, bound := filepath.Join(t.TempDir(), "link"), t.TempDir()
	check(t, os.Mkdir(dir, 0o755))
	check(t, os.Symlink(dir, link))
	btrfstest.Run(t, "mount", "--bind", dir, bound)
	t.Cleanup(func() { btrfstest.Unmount(t, bound) })
	for _, path := range []string{dir, link, bound} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			other := startHolder(t, path)
			for _, same := range []string{dir, link, bound} {
				if held := refused(t, open(t, same)); held.PID != other.Process.Pid {
					t.Errorf("%s is held by %+v, want process %d", same, held, other.Process.Pid)
				}
			}
		})
	}
}

func TestTheSameInodeNumberInTwoSubvolumesIsTwoLocks(t *testing.T) {
	top := btrfstest.New(t, 128<<20).Dir
	dirs := make([]*os.File, 3)
	holders := make([]holder, len(dirs))
	for i, name := range []string{"a", "b", "c"} {
		check(t, btrfs.Create(open(t, top), name))
		dirs[i] = open(t, filepath.Join(top, name))
		holders[i] = startHolder(t, dirs[i].Name())
	}
	for i, dir := range dirs {
		if held := refused(t, dir); held.PID != holders[i].Process.Pid {
			t.Errorf("%s is held by %+v, want process %d", dir.Name(), held, holders[i].Process.Pid)
		}
	}
}

func TestAProcessThatOnlyHasTheDirectoryOpenIsNotNamed(t *testing.T) {
	top := btrfstest.New(t, 128<<20).Dir
	for _, name := range []string{"ours", "theirs"} {
		check(t, btrfs.Create(open(t, top), name))
	}
	ours, theirs := open(t, filepath.Join(top, "ours")), open(t, filepath.Join(top, "theirs"))
	other := startHolder(t, theirs.Name())
	acquire(t, ours) // this process holds a lock on the same inode number, and has theirs open
	if held := refused(t, theirs); held.PID != other.Process.Pid {
		t.Errorf("held by %+v, want process %d", held, other.Process.Pid)
	}
}

func TestOnlyADirectoryCanBeLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(path, nil, 0o644))
	if l, err := lock.Acquire(t.Context(), open(t, path), nil); err == nil || lock.IsHeld(err) {
		t.Errorf("lock %v, error: %v", l, err)
	}
}

func TestLockingLeavesNothingBehind(t *testing.T) {
	dir := open(t, t.TempDir())
	check(t, acquire(t, dir).Release())
	entries, err := os.ReadDir(dir.Name())
	check(t, err)
	if len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}

func TestErrorsNameTheFolderAndNotADescriptor(t *testing.T) {
	file := t.TempDir() + "/file"
	check(t, os.WriteFile(file, nil, 0o600))
	if _, err := lock.Acquire(t.Context(), open(t, file), nil); err == nil || err.Error() != "locking "+file+": not a directory" {
		t.Errorf("error: %v", err)
	}
}
