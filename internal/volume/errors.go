package volume

import (
	"errors"
	"os/exec"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// What an ordinary user lacks, and the two ways to get it.
const (
	needToWrite    = "run as root (sudo), or name a folder that you may write to"
	needToSnapshot = "a snapshot can be taken by the owner of the subvolume who may write to the folder, or with the capability " +
		"CAP_SYS_ADMIN: run as root (sudo), or give it to the program: setcap cap_sys_admin+ep $(command -v btrfs-backup)"
	needToDelete = "deleting a subvolume needs the capability CAP_SYS_ADMIN: run as root (sudo), or mount the filesystem with the " +
		"option user_subvol_rm_allowed and use --convert-rw on subvolumes of your own"
	needToSend = "btrfs send needs the capability CAP_SYS_ADMIN: run as root (sudo), or give it to the program: " +
		"setcap cap_sys_admin+ep $(command -v btrfs)"
	needToReceive = "btrfs receive needs the capabilities to give files to their owners and, for compressed data, CAP_SYS_ADMIN: run " +
		"as root (sudo), or give them to the program: setcap cap_sys_admin,cap_chown,cap_fowner,cap_dac_override,cap_fsetid,cap_mknod,cap_setfcap+ep $(command -v btrfs)"
)

// needThere is what the user of another machine lacks, whatever it is.
const needThere = "the user who logs in there lacks the privilege: log in as root (root@HOST), or use --ssh-sudo"

// lacking gives the hint on a missing privilege.
func (f *folder) lacking(need string) string {
	if f.host.String() != "" {
		return needThere
	}
	return need
}

// withHint adds to an error of this process what is needed to avoid it.
func withHint(err error, need string) error {
	switch {
	case hint.Of(err) != "":
		return err
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return hint.New(err, need)
	case errors.Is(err, unix.EROFS):
		return hint.New(err, "the filesystem is mounted read-only: mount it for writing")
	}
	return err
}

// errnoOf gives the errno that a program stopped at, or 0.
func errnoOf(err error) unix.Errno {
	var exit *transport.ExitError
	if errors.As(err, &exit) {
		return transport.ErrnoIn(exit.Stderr)
	}
	return 0
}

// senderError explains a failure of `btrfs send`. Of the errnos only those that no other snapshot avoids are made known.
func (f *folder) senderError(err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return hint.New(err, "install btrfs-progs")
	}
	switch errnoOf(err) {
	case unix.EPERM, unix.EACCES:
		return hint.New(engine.WithErrno(err, unix.EPERM), f.lacking(needToSend))
	case unix.EIO:
		return hint.New(err, "a file of the snapshot cannot be read: `btrfs scrub start` and the kernel's log tell which")
	}
	return err
}

// receiverError explains a failure of `btrfs receive`.
func (f *folder) receiverError(err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return hint.New(err, "install btrfs-progs")
	}
	errno := errnoOf(err)
	forward := ""
	switch errno {
	case unix.ENOSPC, unix.EDQUOT:
		forward = "make room at " + f.String() + ": delete backups that are not needed, or keep fewer with --num-backups"
	case unix.EROFS:
		forward = f.String() + " is read-only: mount it for writing, and look at the kernel's log for the reason"
	case unix.EPERM, unix.EACCES:
		errno, forward = unix.EPERM, f.lacking(needToReceive)
	case unix.EIO:
		forward = "the disk of " + f.String() + " has a fault: look at the kernel's log and at `btrfs device stats`"
	default:
		return err
	}
	return hint.New(engine.WithErrno(err, errno), forward)
}
