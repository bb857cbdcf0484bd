package handoff

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Notice tells in a file where a process is found. Only the same user can read it, and it means something only while that process
// lives: what a killed one left is an address where nobody is.
type Notice struct {
	Name    string // of the file
	Address string
	posted  time.Time
	dir     *os.File
	file    *os.File // locked by the process that posted it
}

// ErrTaken is the error of a notice whose name another living process has.
var ErrTaken = errors.New("another process has it")

// Post puts a notice into a directory, which it borrows until Remove.
func Post(dir *os.File, name, address string) (*Notice, error) {
	const attempts = 10 // at what others remove in the same moment
	for range attempts {
		file, err := openNotice(dir, name, unix.O_RDWR|unix.O_CREAT)
		if err != nil {
			return nil, err
		}
		n := &Notice{Name: name, Address: address, dir: dir, file: file}
		written, err := n.write()
		if err == nil && written {
			return n, nil
		}
		file.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, ErrTaken
}

// write locks the file and writes the address, unless the file is gone or another user's.
func (n *Notice) write() (written bool, err error) {
	fd := int(n.file.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	if int(st.Uid) != os.Geteuid() {
		return false, os.NewSyscallError("unlink", unix.Unlinkat(int(n.dir.Fd()), n.Name, 0))
	}
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return false, ErrTaken
	}
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil || st.Nlink == 0 {
		return false, os.NewSyscallError("flock", err)
	}
	if err := n.file.Truncate(0); err != nil {
		return false, err
	}
	_, err = n.file.WriteString(n.Address)
	return true, err
}

// Remove takes the notice away.
func (n *Notice) Remove() {
	_ = unix.Unlinkat(int(n.dir.Fd()), n.Name, 0) // what stays does no harm
	_ = n.file.Close()
}

// Noticed gives the address in a notice, or "" where there is none.
func Noticed(dir *os.File, name string) string {
	n, _ := readNotice(dir, name)
	return n.Address
}

// Notices gives those of living processes whose names begin with start, the oldest first.
func Notices(dir *os.File, start string) ([]Notice, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return nil, err
	}
	var notices []Notice
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), start) {
			continue
		}
		if n, err := readNotice(dir, e.Name()); err == nil && IsTaken(n.Address) {
			notices = append(notices, n)
		}
	}
	slices.SortStableFunc(notices, func(a, b Notice) int { return a.posted.Compare(b.posted) })
	return notices, nil
}

func readNotice(dir *os.File, name string) (Notice, error) {
	file, err := openNotice(dir, name, unix.O_RDONLY)
	if err != nil {
		return Notice{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Notice{}, err
	}
	const longest = 100
	address, err := io.ReadAll(io.LimitReader(file, longest))
	if err == nil && !IsAddress(string(address)) {
		err = errors.New("it holds no address")
	}
	if err != nil {
		return Notice{}, fmt.Errorf("reading %s: %w", file.Name(), err)
	}
	return Notice{Name: name, Address: string(address), posted: info.ModTime()}, nil
}

func openNotice(dir *os.File, name string, flags uint64) (*os.File, error) {
	full := dir.Name() + "/" + name
	how := &unix.OpenHow{Flags: flags | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	if flags&unix.O_CREAT != 0 {
		how.Mode = 0o600
	}
	fd, err := unix.Openat2(int(dir.Fd()), name, how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: full, Err: err}
	}
	return os.NewFile(uintptr(fd), full), nil
}
