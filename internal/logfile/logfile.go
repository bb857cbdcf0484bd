// Package logfile writes lines to a file that stays small: before a line would make it larger than its limit, the file becomes
// PATH.1, in the place of the one before, and a new one begins. Several processes may write to one file.
//
// Only its owner reads it. A symbolic link in its place is refused. A line that cannot be written is lost, and what follows it
// has lines of its own.
package logfile

import (
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// A File takes a line with each Write.
type File struct {
	path  string
	limit int64

	mu     sync.Mutex
	f      *os.File
	broken bool // the last line is only there in part
}

// Open opens a file, and makes it and its directory if they are missing. Its limit is in bytes.
func Open(path string, limit int64) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	l := &File{path: path, limit: limit}
	return l, l.open()
}

func (l *File) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if l.f != nil {
		l.f.Close()
	}
	l.f, l.broken = f, false
	return nil
}

// Close closes the file.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}

// Write appends a line.
func (l *File) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hasRoom(len(line)) {
		if err := l.turn(len(line)); err != nil {
			return 0, err
		}
	}
	if l.broken {
		line = append([]byte{'\n'}, line...)
	}
	n, err := l.f.Write(line)
	if n > 0 {
		l.broken = n < len(line)
	}
	return n, err
}

// hasRoom tells that the file is the one at the path, and that a line fits.
func (l *File) hasRoom(length int) bool {
	info, err := l.f.Stat()
	return err == nil && l.isThere(info) && info.Size()+int64(length) <= l.limit
}

func (l *File) isThere(info os.FileInfo) bool {
	there, err := os.Lstat(l.path)
	return err == nil && os.SameFile(info, there)
}

// turn gives the path a file with room for a line. Whoever renames a file holds its lock.
func (l *File) turn(length int) error {
	for {
		if err := l.open(); err != nil || l.hasRoom(length) {
			return err
		}
		if err := unix.Flock(int(l.f.Fd()), unix.LOCK_EX); err != nil {
			return os.NewSyscallError("flock", err)
		}
		info, err := l.f.Stat()
		if err != nil {
			return err
		}
		if !l.isThere(info) { // another process renamed it meanwhile
			continue
		}
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return err
		}
		return l.open()
	}
}
