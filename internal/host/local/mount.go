package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/tree/walk"
	"btrfs-backup/transport"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// What a stream makes may be a trap for its receiver, which runs as root: a symbolic link to write through, or a device node.
// So btrfs receive sees the folder through a mount of its own that follows no links and opens no devices, in a mount
// namespace of its own.
const isolated = unix.MS_NOSYMFOLLOW | unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC

// startReceive starts btrfs receive in the folder. whole tells that it sees the whole filesystem, and so each copy of a parent.
func (d *Dir) startReceive(ctx context.Context, verbose bool, stdin *os.File) (p process, whole bool, err error) {
	start := func(path string, here bool) (*transport.Process, error) {
		argv := []string{program, "receive", verbosity(verbose), path}
		return d.host.run(verbose).Start(ctx, transport.Command{Argv: argv, Stdin: stdin, Here: here})
	}
	if err := d.mustBeAt(d.status.Path); err != nil {
		return nil, false, err
	}
	p, whole, err = d.startIsolated(func(path string) (*transport.Process, error) { return start(path, true) })
	var impossible *isolationError
	if !errors.As(err, &impossible) {
		return p, whole, err
	}
	if d.host.confine != nil {
		return nil, false, hint.New(fmt.Errorf("receiving in %s: %w", d.status.Path, err),
			"run the agent as root, on Linux 5.10 or newer: only so can a stream be kept from leaving the folder")

	}
	d.host.log.Debug(fmt.Sprintf("receiving in %s: %v", d.status.Path, err))
	p, err = start(d.status.Path, false)
	return p, false, err
}

// An isolationError tells why a program cannot have a mount of its own.
type isolationError struct{ error }

func (e *isolationError) Unwrap() error { return e.error }

// startIsolated starts a program with the path of the folder in a mount namespace of its own.
//
// A namespace belongs to a thread. This one ends with the program, as a parent's end would kill that.
func (d *Dir) startIsolated(start func(path string) (*transport.Process, error)) (_ process, whole bool, err error) {
	if os.Geteuid() != 0 {
		return nil, false, &isolationError{errors.New("only root can isolate the receiver")}
	}
	var p *transport.Process
	started, over := make(chan struct{}), make(chan struct{})
	onThread(func() {
		var path string
		if path, whole, err = d.isolate(); err != nil {
			err = &isolationError{err}
		} else {
			p, err = start(path)
		}
		failed := err != nil
		close(started)
		if !failed {
			<-over
		}
	})
	<-started
	if err != nil {
		return nil, false, err
	}
	return isolatedProcess{p, sync.OnceFunc(func() { close(over) })}, whole, nil
}

// isolatedProcess is a program whose thread is kept until it ended.
type isolatedProcess struct {
	*transport.Process
	over func()
}

func (p isolatedProcess) Wait() error {
	defer p.over()
	return p.Process.Wait()
}

// isolate puts the calling thread into a mount namespace of its own, with the folder's filesystem mounted once more over the
// folder, and gives the path of the folder in that.
//
// To find a parent, btrfs receive puts the path of the mount and the path of the parent from the top level together. So what
// is mounted is the root of a subvolume: that of the whole filesystem, since a copy of the parent that lies elsewhere may be found
// first.
func (d *Dir) isolate() (path string, whole bool, err error) {
	mount, err := host.MountOf(d.dir)
	if err != nil {
		return "", false, err
	}
	if mount == nil {
		return "", false, errors.New("the kernel does not tell where a directory is mounted")
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return "", false, os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil { // not private: that would hold what is unmounted elsewhere
		return "", false, os.NewSyscallError("mount", err)
	}
	tree, within, err := d.cloneMount(mount)
	if err != nil {
		return "", false, err
	}
	defer tree.Close()
	folder, err := walk.OpenPath(d.status.Path) // in this namespace
	if err != nil {
		return "", false, err
	}
	defer folder.Close()
	if err := d.MustBe(folder); err != nil {
		return "", false, err
	}
	const here = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(int(tree.Fd()), "", int(folder.Fd()), "", here); err != nil {
		return "", false, os.NewSyscallError("move_mount", err)
	}
	if path, err = d.isolatedPath(tree, within); err != nil {
		return "", false, err
	}
	root, err := btrfs.OpenBeneath(tree, ".", unix.O_RDONLY) // the tree is no more than a path
	if err != nil {
		return "", false, err
	}
	defer root.Close()
	at, err := btrfs.Info(root)
	return path, at.IsTop(), err
}

// isolatedPath sets the flags of the mount, and gives the path of the folder in it.
func (d *Dir) isolatedPath(tree *os.File, within string) (string, error) {
	link := fmt.Sprintf("/proc/self/fd/%d", tree.Fd())
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(tree.Fd()), &st); err != nil {
		return "", os.NewSyscallError("fstatfs", err)
	}
	readOnly := uintptr(st.Flags) & unix.ST_RDONLY // the same bit as MS_RDONLY
	if err := unix.Mount("", link, "", unix.MS_REMOUNT|unix.MS_BIND|isolated|readOnly, ""); err != nil {
		return "", os.NewSyscallError("mount", err)
	}
	at, err := os.Readlink(link)
	if err != nil {
		return "", err
	}
	path := filepath.Join(at, within)
	if err := unix.Statfs(path, &st); err != nil {
		return "", os.NewSyscallError("statfs", err)
	}
	const noSymFollow = 0x2000 // linux/statfs.h: ST_NOSYMFOLLOW; older kernels ignore the flag
	if st.Flags&noSymFollow == 0 || st.Flags&unix.ST_NODEV == 0 {
		return "", errors.New("the kernel cannot mount without following symbolic links")
	}
	return path, d.mustBeAt(path)
}

// mustBeAt fails unless the folder is at a path.
func (d *Dir) mustBeAt(path string) error {
	dir, err := walk.OpenPath(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return d.MustBe(dir)
}

// MustBe fails unless the other file is the folder.
func (d *Dir) MustBe(other *os.File) error {
	same, err := SameFile(d.dir, other)
	if err == nil && !same {
		err = fmt.Errorf("%s is another directory than before", other.Name())
	}
	return err
}

// SameFile tells whether two open files are one.
func SameFile(a, b *os.File) (bool, error) {
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	if err := errors.Join(errA, errB); err != nil {
		return false, err
	}
	return os.SameFile(infoA, infoB), nil
}

// cloneMount gives a mount of the folder's filesystem that is nowhere yet, and the path of the folder in it. Where the whole
// filesystem cannot be mounted, it is one of what the folder is seen through.
func (d *Dir) cloneMount(mount *mountinfo.Info) (tree *os.File, within string, err error) {
	tree, within, err = d.mountWhole(mount)
	if err == nil {
		return tree, within, nil
	}
	if !isSubvolumeRoot(mount.Mountpoint) { // a plain directory (mount --bind)
		return nil, "", err
	}
	d.host.log.Debug(fmt.Sprintf("receiving in %s: mounting the whole filesystem: %v", d.status.Path, err))
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", d.dir.Fd()))
	if err != nil {
		return nil, "", err
	}
	within, ok := strings.CutPrefix(path, strings.TrimSuffix(mount.Mountpoint, "/"))
	if !ok {
		return nil, "", fmt.Errorf("%s is not in %s", path, mount.Mountpoint)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, mount.Mountpoint, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, "", os.NewSyscallError("open_tree", err)
	}
	return os.NewFile(uintptr(fd), mount.Mountpoint), within, nil
}

// mountWhole mounts the whole filesystem of the folder, nowhere yet, and gives the path of the folder in it.
func (d *Dir) mountWhole(mount *mountinfo.Info) (tree *os.File, within string, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.dir.Fd()), &st); err != nil {
		return nil, "", os.NewSyscallError("fstatfs", err)
	}
	if st.Flags&unix.ST_RDONLY != 0 { // a mount for writing might make all of them writable
		return nil, "", unix.EROFS
	}
	if within, err = btrfs.Path(d.dir); err != nil {
		return nil, "", err
	}
	if tree, err = mountTop(mount.Source); err != nil {
		return nil, "", err
	}
	folder, err := btrfs.OpenBeneath(tree, filepath.Clean("./"+within), unix.O_RDONLY)
	if err == nil {
		err = d.MustBe(folder)
		folder.Close()
	}
	if err != nil {
		tree.Close()
		return nil, "", err
	}
	return tree, within, nil
}

// mountTop mounts the top level of the filesystem on a device, nowhere yet.
func mountTop(device string) (*os.File, error) {
	fs, err := unix.Fsopen("btrfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	err = unix.FsconfigSetString(fs, "source", device)
	if err == nil {
		err = unix.FsconfigSetString(fs, "subvolid", "5")
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(fd), device), nil
}

// findMounted marks the subvolumes of the directory that are mounted, themselves or a directory in them. The kernel deletes them
// all the same.
func (d *Dir) findMounted(l *btrfs.Listing) error {
	own, err := host.MountOf(d.dir)
	if err != nil || own == nil {
		return err
	}
	mounted := make(map[string]bool)
	_, err = mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		if m.Major == own.Major && m.Minor == own.Minor {
			for option := range strings.SplitSeq(m.VFSOptions, ",") {
				mounted[option] = true
			}
		}
		return true, false
	})
	if err != nil {
		return fmt.Errorf("reading the mount table: %w", err)
	}
	for i := range l.InDirectory {
		l.InDirectory[i].Mounted = mounted[fmt.Sprintf("subvolid=%d", l.InDirectory[i].ID)]
	}
	return nil
}

func isSubvolumeRoot(path string) bool {
	dir, err := os.Open(path)
	if err != nil {
		return false
	}
	defer dir.Close()
	return btrfs.CheckSubvolume(dir) == nil
}
