package mirror

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// Exit statuses of rsync (rsync/errcode.h) that mean more than a failure.
const (
	exitPartial  = 23
	exitVanished = 24
)

// judge tells from the end of rsync and its messages what became of the copy.
func (c *complaints) judge(ended error, p program) (*IncompleteError, error) {
	var exit *transport.ExitError
	if c.last != "" {
		return nil, forwarded(errors.New(c.last), 0, errnoOf(complaint.FindStringSubmatch(c.last)), c.last, p)
	}
	if ended != nil && !errors.As(ended, &exit) {
		return nil, ended
	}
	status := 0
	if exit != nil {
		if _, err := fmt.Sscanf(exit.State, "exit status %d", &status); err != nil {
			return nil, fmt.Errorf("rsync ended by %s", exit.State)
		}
	}
	switch {
	case status == 0, status == exitVanished && len(c.fatal) == 0:
		return nil, nil
	case status == exitPartial && len(c.fatal) == 0 && c.count > 0:
		return &IncompleteError{c.missing, c.count}, nil
	}
	return nil, c.failure(status, p)
}

// failure is the error of a run that made no backup: the first complaints that leave none, or what rsync said last.
func (c *complaints) failure(status int, p program) error {
	lines := c.fatal
	if len(lines) == 0 {
		lines = c.others
	}
	if len(lines) == 0 {
		lines = []string{"it did not say why"}
	}
	var errno unix.Errno
	for _, line := range lines {
		errno = cmp.Or(errno, errnoOf(complaint.FindStringSubmatch(line)))
	}
	text := strings.Join(lines, "; ")
	return forwarded(fmt.Errorf("rsync ended with status %d: %s", status, text), status, errno, text, p)
}

// forwarded adds to a failure its errno, and what to do about it.
func forwarded(err error, status int, errno unix.Errno, text string, p program) error {
	if errno != 0 {
		err = hint.WithErrno(err, errno)
	}
	if forward := cmp.Or(diskHint(err, p.dest), hintOn(status, text)); forward != "" {
		return hint.New(err, forward)
	}
	return err
}

// diskHint tells what to do about the errno of a disk.
func diskHint(err error, place string) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "make room at " + place + ": delete backups that are not needed, or keep fewer with --num-backups"
	case errors.Is(err, unix.EROFS):
		return "mount the filesystem of " + place + " for writing, and look at the kernel's log for the reason"
	case errors.Is(err, unix.EIO):
		return "a disk has a fault: look at the kernel's log"
	}
	return ""
}

// hintOn tells what to do about a failure with a status of rsync.
func hintOn(status int, text string) string {
	switch status {
	case 1, 2, 4:
		return "see --rsync-options and the versions of rsync on both machines (3.2 or newer)"
	case 5:
		return daemonHint(text)
	case 10, 35:
		return "does an rsync daemon listen there?"
	case 12, 255:
		return "the connection or the rsync at the other end broke off: is rsync installed there, and is the disk full?"
	case 14, 22:
		return "this machine is short of memory or processes"
	case 19, 20:
		return "a signal ended rsync"
	case 30:
		return "the other end sent nothing within --timeout"
	case 126, 127:
		return "install rsync on the other machine"
	}
	return ""
}

// daemonHint tells what to do about what an rsync daemon refused.
func daemonHint(text string) string {
	switch {
	case strings.Contains(text, "auth failed"):
		return "name the user (rsync://USER@HOST/MODULE), and give the password in the variable RSYNC_PASSWORD"
	case strings.Contains(text, "Unknown module"):
		return "`rsync rsync://HOST/` lists the modules"
	case strings.Contains(text, "max connections"):
		return "the daemon is busy: try again later, or allow more `max connections`"
	}
	return "see the daemon's log"
}
