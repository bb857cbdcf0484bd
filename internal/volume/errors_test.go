package volume

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

func exited(stderr string) error {
	return fmt.Errorf("sending: %w", &transport.ExitError{Program: "btrfs", State: "exit status 1", Stderr: stderr})
}

func refused(errno unix.Errno) error {
	return fmt.Errorf("sending: %w", &btrfs.SendError{What: "the kernel's send", Errno: errno})
}

func TestFailuresOfTheReceiverAreExplained(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  error
		want error
		hint string
	}{
		{exited("write to f failed: No space left on device"), unix.ENOSPC, "make room at /folder"},
		{exited("writing to f failed: Disk quota exceeded; second line"), unix.EDQUOT, "make room at /folder"},
		{exited("creating subvolume x failed: Read-only file system"), unix.EROFS, "mount it for writing"},
		{exited("chown f failed: Operation not permitted"), unix.EPERM, "sudo"},
		{exited("cannot open: Permission denied"), unix.EPERM, "setcap"},
		{exited("write to f failed: Input/output error"), unix.EIO, "device stats"},
		{exited("cannot find parent subvolume"), nil, ""},
		{exited("link a -> b failed: File exists"), nil, ""},
		{exited("lsetxattr f system.posix_acl_access failed: Operation not supported"), unix.EOPNOTSUPP, "without the option noacl"},
		{exited("lsetxattr f user.x failed: Operation not supported"), unix.EOPNOTSUPP, "setfattr -x"},
		{exited("lsetxattr f user.x failed: Invalid argument"), unix.EINVAL, "setfattr -x"},
		{exited("lsetxattr f user.x failed: No space left on device"), unix.E2BIG, "make room at /folder; if there is room"},
		{exited("lsetxattr f user.x failed: Disk quota exceeded"), unix.EDQUOT, "make room at /folder"},
		{exited("mkdir d failed: File name too long"), unix.ENAMETOOLONG, "shorten the path"},
		{exited("fallocate f failed: Operation not supported"), unix.EOPNOTSUPP, "kernel of /folder"},
		{exited("failed to clone extents to f: Operation not supported"), nil, ""},
		{exited("failed to clone extents to f: Invalid argument"), nil, ""},
		{exited("utimes f failed: Permission denied; write to f failed: No space left on device"), unix.ENOSPC, "make room at /folder"},
		{exited("x: No space left on device; chown f failed: Operation not permitted"), unix.EPERM, "sudo"},
		{exited(""), nil, ""},
		{fmt.Errorf("starting btrfs: %w", &exec.Error{Name: "btrfs", Err: exec.ErrNotFound}), exec.ErrNotFound, "install btrfs-progs"},
		{errors.New("No space left on device"), nil, ""},                                 // not said by a program
		{os.NewSyscallError("syncfs", unix.ENOSPC), unix.ENOSPC, "make room at /folder"}, // what was written, but not to the disk yet
	}
	for _, test := range tests {
		checkExplained(t, at("/folder").receiverError(test.err), test.err, test.want, test.hint)
	}
}

func TestFailuresOfTheSenderAreExplained(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  error
		want error
		hint string
	}{
		{refused(unix.EPERM), unix.EPERM, "setcap cap_sys_admin+ep $(command -v btrfs-backup)"},
		{refused(unix.EACCES), unix.EPERM, "sudo"},
		{refused(unix.EIO), nil, "scrub"},
		{refused(unix.ENOENT), nil, ""},
		{refused(0), nil, ""},
		{refused(unix.ENAMETOOLONG), unix.ENAMETOOLONG, "/folder/SNAPSHOT && find"},
		{errors.New("operation not permitted"), nil, ""}, // not told by the kernel
	}
	for _, test := range tests {
		checkExplained(t, at("/folder").senderError(test.err), test.err, test.want, test.hint)
	}
	if err := at("/folder").senderError(nil); err != nil {
		t.Errorf("nothing failed, but %v", err)
	}
}

// checkExplained wants got to be err, with errno added if one is wanted, and a hint that holds the text, or none.
func checkExplained(t testing.TB, got, err, errno error, forward string) {
	t.Helper()
	if !errors.Is(got, err) || errno != nil && !errors.Is(got, errno) {
		t.Errorf("%v is explained as %v, want %v", err, got, errno)
	}
	for _, known := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EPERM, unix.EACCES, unix.EIO, unix.EEXIST,
		unix.EOPNOTSUPP, unix.EINVAL, unix.E2BIG, unix.ENAMETOOLONG} {
		if known != errno && errors.Is(got, known) {
			t.Errorf("%v is taken for %v", got, known)
		}
	}
	if told := hint.Of(got); !strings.Contains(told, forward) || forward == "" && told != "" {
		t.Errorf("the hint for %v is %q, want %q", err, told, forward)
	}
}

func TestMissingPrivilegesAreNamed(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{unix.EPERM: true, unix.EACCES: true, unix.ENOENT: false, unix.ENOTEMPTY: false} {
		got := withHint(fmt.Errorf("deleting: %w", err), needToDelete)
		if hinted := hint.Of(got) == needToDelete; hinted != want || !errors.Is(got, err) {
			t.Errorf("%v: hint %q", err, hint.Of(got))
		}
	}
	if withHint(nil, needToDelete) != nil {
		t.Error("nothing failed, but there is an error")
	}
	for _, need := range []string{needToSnapshot, needToDelete, needToSend, needToReceive} {
		if !strings.Contains(need, "sudo") || !strings.Contains(need, "CAP_SYS_ADMIN") {
			t.Errorf("the hint lacks the capability or the way to get it: %q", need)
		}
	}
}

func at(path string) *folder { return &folder{host: local.New(silent.Log), path: path} }

// elsewhere is another machine.
type elsewhere struct{ host.Host }

func (elsewhere) String() string { return "ssh://nas" }

func TestPrivilegesOnOtherMachinesAreGotInOtherWays(t *testing.T) {
	t.Parallel()
	f := at("/folder")
	f.host = elsewhere{}
	err := f.receiverError(exited("ERROR: chown x failed: Operation not permitted"))
	if hint := hint.Of(err); hint != needThere {
		t.Errorf("hint: %q", hint)
	}
}
