package ladder

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/engine/copies"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

func TestWhatIsWorthAnotherTry(t *testing.T) {
	exit := func(state, stderr string) error {
		return &transport.ExitError{Program: "btrfs receive", State: state, Stderr: stderr}
	}
	failed := exit("exit status 1", "cannot find parent subvolume")
	tests := []struct {
		name                     string
		err                      error
		otherParent, destination bool
	}{
		{name: "a program failed", err: fmt.Errorf("sending: %w", failed), otherParent: true},
		{name: "no stream", err: fmt.Errorf("sending: %w", &btrfs.SendError{Errno: syscall.EIO}), otherParent: true},
		{name: "no stream for want of a right", err: fmt.Errorf("%w (%w)", &btrfs.SendError{Errno: syscall.EPERM}, syscall.EPERM), destination: true},
		{name: "another parent was taken", err: fmt.Errorf("sending: %w 1", copies.ErrWrongParent), otherParent: true},
		{name: "a program was killed", err: exit("signal: killed", "")},
		{name: "disk full", err: fmt.Errorf("%w (%w)", failed, syscall.ENOSPC), destination: true},
		{name: "quota", err: fmt.Errorf("%w (%w)", failed, syscall.EDQUOT), destination: true},
		{name: "mounted read-only", err: fmt.Errorf("%w (%w)", failed, syscall.EROFS), destination: true},
		{name: "not allowed", err: fmt.Errorf("%w (%w)", failed, syscall.EPERM), destination: true},
		{name: "faulty disk", err: fmt.Errorf("%w (%w)", failed, syscall.EIO), destination: true},
		{name: "no ACLs", err: fmt.Errorf("%w (%w)", failed, syscall.EOPNOTSUPP)},
		{name: "a long path", err: fmt.Errorf("%w (%w)", failed, syscall.ENAMETOOLONG)},
		{name: "a bad attribute", err: fmt.Errorf("%w (%w)", failed, syscall.EINVAL)},
		{name: "a long attribute", err: fmt.Errorf("%w (%w)", failed, syscall.E2BIG)},
		{name: "name taken", err: fmt.Errorf("%w (%w)", failed, fs.ErrExist)},
		{name: "a command cannot be applied", err: &receive.Error{Err: syscall.ENOENT}, otherParent: true},
		{name: "a name is there already", err: &receive.Error{Err: syscall.EEXIST}, otherParent: true},
		{name: "no parent", err: fmt.Errorf("sending: %w", receive.ErrNoParent), otherParent: true},
		{name: "disk full when a command was applied", err: &receive.Error{Err: syscall.ENOSPC}, destination: true},
		{name: "an attribute cannot be stored", err: &receive.Error{Err: syscall.EOPNOTSUPP}},
		{name: "faulty source", err: &receive.Error{Err: &receive.SourceError{Err: syscall.EIO}}},
		{name: "no program", err: errors.New("something failed")},
		{name: "bad stream", err: fmt.Errorf("sending: %w", sendstream.ErrCorrupt)},
		{name: "nothing", err: nil},
	}
	for _, test := range tests {
		if got := mayDependOnParent(test.err); got != test.otherParent {
			t.Errorf("%s: another parent: %t", test.name, got)
		}
		if got := IsAboutDestination(test.err); got != test.destination {
			t.Errorf("%s: about the destination: %t", test.name, got)
		}
	}
}
