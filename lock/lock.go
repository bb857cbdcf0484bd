// Package lock keeps runs apart, and remembers between runs what each destination holds.
//
// A lock is a flock(2) on the directory itself: it needs no file, is the same under every path and mount of the directory,
// and ends with the process that holds it. It keeps out other runs, not other programs.
package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// A Lock is held until Release or the end of the process.
type Lock struct{ flock *flock.Flock }

// Release gives the lock up.
func (l *Lock) Release() error { return l.flock.Unlock() }

// HeldError tells that another process holds the lock.
type HeldError struct {
	Dir     string
	PID     int    // 0 when it cannot be found out
	Command string // its command line
}

func (e *HeldError) Error() string { return fmt.Sprintf("%s is in use by %s", e.Dir, e.Holder()) }

// Holder describes the process that holds the lock.
func (e *HeldError) Holder() string {
	if e.PID == 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d (%s)", e.PID, e.Command)
}

const pollInterval = 100 * time.Millisecond

// Acquire locks dir. While another process holds the lock, it calls waiting once and waits; with a nil waiting it returns a
// HeldError at once.
func Acquire(ctx context.Context, dir *os.File, waiting func(*HeldError)) (*Lock, error) {
	// opened once more: a lock belongs to one opening of the directory
	f := flock.New(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), flock.SetFlag(os.O_RDONLY|unix.O_DIRECTORY))
	locked, err := f.TryLock()
	if err == nil && !locked {
		held := findHolder(dir)
		if waiting == nil {
			return nil, held
		}
		waiting(held)
		_, err = f.TryLockContext(ctx, pollInterval)
	}
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir.Name(), cmp.Or(context.Cause(ctx), Cause(err)))
	}
	return &Lock{f}, nil
}

// InDir makes a private directory of files that programs change, if it is missing, and keeps others of them out meanwhile.
func InDir(ctx context.Context, path string, change func() error) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	held, err := Acquire(ctx, dir, func(*HeldError) {})
	if err != nil {
		return err
	}
	defer held.Release()
	return change()
}

// Cause leaves out of an error of the system the name by which a file was reached: that of a descriptor, or a temporary one.
func Cause(err error) error {
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}

// findHolder looks for the process that holds the lock on dir in the kernel's table of locks.
func findHolder(dir *os.File) *HeldError {
	held := &HeldError{Dir: dir.Name()}
	var want unix.Stat_t
	if unix.Fstat(int(dir.Fd()), &want) != nil {
		return held
	}
	table, _ := os.ReadFile("/proc/locks")
	for line := range strings.Lines(string(table)) {
		// 1: FLOCK  ADVISORY  WRITE 4711 00:2a:257 0 EOF
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || !strings.HasSuffix(fields[5], fmt.Sprintf(":%d", want.Ino)) {
			continue
		}
		pid, err := strconv.Atoi(fields[4])
		// inode numbers repeat from subvolume to subvolume
		if err == nil && holds(pid, want) {
			held.PID, held.Command = pid, commandLine(pid)
			return held
		}
	}
	return held
}

// holds tells whether a process holds a lock on the directory, which is more than having it open.
func holds(pid int, want unix.Stat_t) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Stat(fd, &st) != nil || st.Dev != want.Dev || st.Ino != want.Ino {
			continue
		}
		info, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, filepath.Base(fd)))
		if strings.Contains(string(info), "FLOCK") {
			return true
		}
	}
	return false
}

func commandLine(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "ended since"
	}
	return strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
}

// IsHeld tells whether err comes from a lock that another process holds.
func IsHeld(err error) bool {
	var held *HeldError
	return errors.As(err, &held)
}
