package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// readSize is how much of a file is read at a time, and how often an end is noticed.
const readSize = 256 << 10

// contents are what cannot be told of a file without reading it. All names of a file have the same.
type contents struct {
	sha256, xattrs manifest.Digest
	target         string
	names          uint64 // of the file, that were not seen yet
}

// A reading is a file that is to be read.
type reading struct {
	in   *openDir // held until it is done
	name string
	file manifest.Entry
	into *contents
	done *sync.WaitGroup
}

// A contentReader reads files.
type contentReader struct {
	ctx      context.Context
	fail     context.CancelCauseFunc
	root     string // in messages
	progress func(bytes int64)
	unread   func(path string, err error)
}

// work reads until the channel is closed, however early the context ends.
func (c *contentReader) work(readings <-chan reading) {
	buffer := make([]byte, readSize)
	for r := range readings {
		if c.ctx.Err() == nil {
			if err := c.read(r, buffer); isForbidden(err) {
				c.unread(r.file.Path, err)
			} else if err != nil {
				c.fail(fmt.Errorf("reading %s: %w", filepath.Join(c.root, r.file.Path), err))
			}
		}
		r.in.release()
		r.done.Done()
	}
}

func (c *contentReader) read(r reading, buffer []byte) (err error) {
	if r.into.xattrs, err = manifest.Xattrs(r.in.path(r.name)); err != nil {
		return err
	}
	switch r.file.Type {
	case manifest.Symlink:
		r.into.target, err = os.Readlink(r.in.path(r.name))
	case manifest.Regular:
		r.into.sha256, err = c.hash(r, buffer)
	}
	return err
}

// hash reads a regular file, which must not change meanwhile.
func (c *contentReader) hash(r reading, buffer []byte) (manifest.Digest, error) {
	fd, err := r.in.open(r.name, unix.O_NONBLOCK)
	if err != nil {
		return manifest.Digest{}, err
	}
	file := os.NewFile(uintptr(fd), r.name)
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return manifest.Digest{}, err
	}
	hash := sha256.New()
	var size int64
	for {
		n, err := file.Read(buffer)
		hash.Write(buffer[:n])
		size += int64(n)
		c.progress(int64(n))
		switch {
		case err == io.EOF && st.Ino == r.file.Inode && size == r.file.Size:
			return manifest.Digest(hash.Sum(nil)), nil
		case err == io.EOF:
			return manifest.Digest{}, errors.New("somebody changes it")
		case err != nil:
			return manifest.Digest{}, errors.Unwrap(err) // the path in it is known better here
		case c.ctx.Err() != nil:
			return manifest.Digest{}, context.Cause(c.ctx)
		}
	}
}

// isForbidden tells an error of who asks, rather than of the file.
func isForbidden(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}
