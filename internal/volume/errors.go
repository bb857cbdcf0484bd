package volume

import (
	"errors"
	"os/exec"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// What an ordinary user lacks, and the two ways to get it.
const (
	needToWrite    = "run as root (sudo), or name a folder that you may write to"
	needToSnapshot = "a snapshot can be taken by the owner of the subvolume who may write to the folder, or with the capability " +
		"CAP_SYS_ADMIN: run as root (sudo), or give it to the program: setcap cap_sys_admin+ep $(command -v btrfs-backup)"
	needToDelete = "deleting a subvolume needs the capability CAP_SYS_ADMIN: run as root (sudo), or mount the filesystem with the " +
		"option user_subvol_rm_allowed and use --convert-rw on subvolumes of your own"
	needToSend = "to send subvolumes needs the capability CAP_SYS_ADMIN: run as root (sudo), or give it to the program: " +
		"setcap cap_sys_admin+ep $(command -v btrfs-backup)"
	needToReceive = "receiving needs the capabilities to give files to their owners and, for compressed data, CAP_SYS_ADMIN: run " +
		"as root (sudo), or give them to the program: setcap cap_sys_admin," +
		"cap_chown,cap_fowner,cap_dac_override,cap_dac_read_search,cap_fsetid,cap_mknod,cap_setfcap+ep $(command -v btrfs-backup)"
)

// needThere is what the user of another machine lacks, whatever it is.
const needThere = "the user who logs in there lacks the privilege: log in as root (root@HOST), or use --ssh-sudo"

// refusedRoot is for root, whom nothing of that helps.
const refusedRoot = "the kernel refuses this to root, too: its log (dmesg) may tell why; `lsattr -d` shows an immutable folder " +
	"(chattr -i), and a container may lack capabilities"

// lacking gives the hint on a missing privilege.
func (f *folder) lacking(need string) string {
	if f.dir != nil && f.dir.Status().Privileged {
		return refusedRoot
	}
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

// These delete on a side, saving nothing.
const (
	pruneSnapshots = "btrfs-backup -S -T -N N SOURCE"
	pruneBackups   = "btrfs-backup -S -T -n N SOURCE DEST"
)

// makeRoom gives the hint where the filesystem of the folder is full.
func (f *folder) makeRoom(prune string) string {
	return "make room at " + f.String() + ": `" + prune + "` keeps the newest N there; a run deletes old ones only after it saved"
}

// programMissing gives an error that tells of a program which is not installed, or nil.
func programMissing(err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return hint.New(err, "install btrfs-progs, or leave out --receiver stock")
	}
	return nil
}

// senderError explains why the kernel did not send. Of the errnos only those that no other parent avoids are made known.
func (f *folder) senderError(err error) error {
	failed := new(btrfs.SendError)
	errors.As(err, &failed)
	switch failed.Errno {
	case unix.EPERM, unix.EACCES:
		return hint.New(hint.WithErrno(err, unix.EPERM), f.lacking(needToSend))
	case unix.ENAMETOOLONG:
		return hint.New(hint.WithErrno(err, unix.ENAMETOOLONG), "the kernel sends paths of 4095 bytes at most: `cd "+f.String()+
			"/SNAPSHOT && find . | awk 'length > 4097'` names longer ones; rename a directory above them")
	case unix.EIO:
		return hint.New(err, "a file of the snapshot cannot be read: `btrfs-backup verify` of it tells which, and --repair-from mends "+
			"it from another copy; so do `btrfs scrub start` and the kernel's log tell")
	}
	return err
}

// receiverError explains a failure to receive. Of what the program btrfs receive says, only errnos that no other parent avoids are made
// known.
func (f *folder) receiverError(err error) error {
	if err == nil || hint.Of(err) != "" {
		return err
	}
	if missing := programMissing(err); missing != nil {
		return missing
	}
	if errors.As(err, new(*receive.SourceError)) {
		return hint.New(err, "`btrfs-backup verify` of this snapshot tells what is damaged, and --repair-from mends it from another copy; "+
			"else replace or delete the file before the next snapshot")
	}
	what := failureOf(err)
	errno, forward := f.refusedFile(what)
	if errno == 0 {
		errno, forward = f.refused(what.errno)
	}
	if errno == 0 {
		return err
	}
	return hint.New(hint.WithErrno(err, errno), forward)
}

// A failure is that of one command of a stream.
type failure struct {
	errno                 unix.Errno // 0: something else failed
	acl, attribute, clone bool       // what the command is about
}

func failureOf(err error) (f failure) {
	if exit := new(transport.ExitError); errors.As(err, &exit) {
		said := exit.Stderr
		return failure{transport.ErrnoIn(said), strings.Contains(said, " system.posix_acl_"), strings.HasPrefix(said, "lsetxattr "),
			strings.Contains(said, "clone")}
	}
	if c := new(receive.Error); errors.As(err, &c) {
		f.attribute, f.clone = c.Command == sendstream.CmdSetXattr, c.Command == sendstream.CmdClone
		f.acl = f.attribute && strings.HasPrefix(c.Xattr, "system.posix_acl_")
	}
	errors.As(err, &f.errno)
	return f
}

// refused explains why nothing can be received in the folder.
func (f *folder) refused(why unix.Errno) (errno unix.Errno, forward string) {
	switch why {
	case unix.ENOSPC, unix.EDQUOT:
		return why, f.makeRoom(pruneBackups)
	case unix.EROFS:
		return why, f.String() + " is read-only: mount it for writing, and look at the kernel's log for the reason"
	case unix.EPERM, unix.EACCES:
		return unix.EPERM, f.lacking(needToReceive)
	case unix.EIO:
		return why, "the disk of " + f.String() + " has a fault: look at the kernel's log and at `btrfs device stats`"
	}
	return 0, ""
}

// refusedFile explains why one file, which the receiver names, cannot be stored in the folder.
func (f *folder) refusedFile(what failure) (errno unix.Errno, forward string) {
	errno, attribute := what.errno, what.attribute
	switch {
	case errno == unix.ENAMETOOLONG:
		return errno, "shorten the path of this file, or choose a folder with a shorter path than " + f.String()
	case what.acl && errno == unix.EOPNOTSUPP:
		return errno, f.String() + " stores no ACLs: mount it without the option noacl, or remove the ACLs of this file (setfacl -b) " +
			"before the next snapshot"
	case attribute && (errno == unix.EOPNOTSUPP || errno == unix.EINVAL || errno == unix.ERANGE || errno == unix.E2BIG):
		return errno, f.String() + " cannot store this attribute: remove it (setfattr -x NAME FILE) before the next snapshot"
	case attribute && errno == unix.ENOSPC: // also when there is space: btrfs_setxattr
		return unix.E2BIG, "make room at " + f.String() + "; if there is room, the attribute is too long for that filesystem: remove it " +
			"(setfattr -x NAME FILE) before the next snapshot"
	case errno == unix.EMLINK:
		return errno, f.String() + " cannot store so many hard links of one file"
	case errno == unix.EOPNOTSUPP && !what.clone: // another parent means other clones
		return errno, "the kernel of " + f.String() + " cannot store this file: a newer one may"
	}
	return 0, ""
}
