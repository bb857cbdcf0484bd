package files

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// attributes gives an open file those of an entry: owner, mode, extended attributes, times, in this order, since each takes away of what
// comes behind it. What cannot be set is noted.
func (u *Unpacker) attributes(fd int, e *Entry, at string) {
	s := setter{path: fmt.Sprintf("/proc/self/fd/%d", fd), fd: fd, e: e}
	s.drop()
	s.owner()
	s.mode()
	s.xattrs()
	s.flags()
	s.times()
	if len(s.lost) > 0 {
		u.report.Lost.add(at, "%s", strings.Join(s.lost, ", "))
	}
}

// A setter sets attributes of a file, which may be open with O_PATH alone: its path leads to it, and no further if it is a symbolic link.
type setter struct {
	path string
	fd   int
	e    *Entry
	lost []string

	foreign bool // the owner is another one
	group   bool // the group is another one
}

func (s *setter) lose(what string, err error) {
	if errno := unix.Errno(0); errors.As(err, &errno) && errno != unix.EPERM && errno != unix.ENOTSUP {
		what += " (" + errno.Error() + ")"
	}
	s.lost = append(s.lost, what)
}

// flags sets those of chattr, but for the ones that would keep the file from getting its name.
func (s *setter) flags() {
	const pinning = btrfs.ImmutableFlag | btrfs.AppendFlag
	if s.e.Flags&btrfs.KnownFlags == 0 || s.e.Type != manifest.Regular && s.e.Type != manifest.Directory {
		return
	}
	var got btrfs.Flags
	if file, err := os.Open(s.path); err == nil {
		defer file.Close()
		_ = btrfs.SetFlags(file, s.e.Flags&^pinning) // what is set tells
		got, _ = btrfs.FlagsOf(file)
	}
	if missing := s.e.Flags & btrfs.KnownFlags &^ got; missing != 0 {
		s.lost = append(s.lost, "the attribute "+missing.String()+" of chattr")
	}
}

// drop removes what the file has and the entry has not: ACLs that it inherited from its directory.
func (s *setter) drop() {
	names := make([]byte, 64<<10) // linux/limits.h: XATTR_LIST_MAX
	n, err := unix.Listxattr(s.path, names)
	if err != nil || n == 0 {
		return
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		ours := name == accessACL || name == defaultACL || strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.")
		has := func(x manifest.Xattr) bool { return x.Name == name }
		if ours && !slices.ContainsFunc(s.e.Xattrs, has) && unix.Removexattr(s.path, name) != nil {
			s.lost = append(s.lost, "without "+name)
		}
	}
}

func (s *setter) owner() {
	var st unix.Stat_t
	if err := unix.Fstatat(s.fd, "", &st, unix.AT_EMPTY_PATH); err != nil {
		s.lose("owner", err)
		return
	}
	if st.Uid == s.e.UID && st.Gid == s.e.GID {
		return
	}
	err := unix.Fchownat(s.fd, "", int(s.e.UID), int(s.e.GID), unix.AT_EMPTY_PATH)
	if err == nil {
		return
	}
	s.foreign = st.Uid != s.e.UID
	s.group = st.Gid != s.e.GID && unix.Fchownat(s.fd, "", -1, int(s.e.GID), unix.AT_EMPTY_PATH) != nil
	switch {
	case s.foreign:
		s.lose("owner", err)
	case s.group:
		s.lose("group", err)
	}
}

// mode sets the permissions. A file that runs as its owner must not run as another one.
func (s *setter) mode() {
	mode := s.e.Mode
	if s.foreign && mode&unix.S_ISUID != 0 && s.e.Type != manifest.Directory {
		mode &^= unix.S_ISUID
		s.lost = append(s.lost, "set-user-ID")
	}
	if (s.group || s.foreign) && mode&unix.S_ISGID != 0 && s.e.Type != manifest.Directory {
		mode &^= unix.S_ISGID
		s.lost = append(s.lost, "set-group-ID")
	}
	if s.e.Type == manifest.Symlink {
		return
	}
	if err := unix.Chmod(s.path, mode); err != nil {
		s.lose("mode", err)
	}
}

func (s *setter) xattrs() {
	for _, x := range s.e.Xattrs {
		err := unix.Setxattr(s.path, x.Name, x.Value, 0)
		switch {
		case err == nil, errors.Is(err, unix.ENOTSUP) && strings.HasPrefix(x.Name, "btrfs."): // of no use elsewhere
		case x.Name == accessACL || x.Name == defaultACL:
			s.lose("ACL", err)
		case x.Name == "security.capability":
			s.lose("capabilities", err)
		default:
			s.lose(x.Name, err)
		}
	}
}

func (s *setter) times() {
	used, err := timespec(s.e.UseTime)
	if err != nil {
		used = unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	modified, err := timespec(s.e.ModTime)
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, s.path, []unix.Timespec{used, modified}, 0)
	}
	if err != nil {
		s.lose("time", err)
	}
}

// timespec fails on CPUs that know no later time than 2038.
func timespec(t manifest.Time) (unix.Timespec, error) {
	return unix.TimeToTimespec(time.Unix(t.Sec, int64(t.Nsec)))
}
