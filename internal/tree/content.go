package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
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
	changed        manifest.Time // if the reading changed the file
	names          uint64        // of the file, that were not seen yet
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
	holes    bool   // make holes of zeros
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
	switch {
	case r.file.Type == manifest.Symlink:
		r.into.target, err = os.Readlink(r.in.path(r.name))
	case r.file.Type == manifest.Regular && r.into.sha256 == manifest.Digest{}:
		err = c.readContent(r, buffer)
	}
	return err
}

func (c *contentReader) readContent(r reading, buffer []byte) (err error) {
	var zeros zeroFinder
	r.into.sha256, err = hashFile(c.ctx, r.in, r.name, r.file, buffer, func(content []byte) {
		c.progress(int64(len(content)))
		if c.holes {
			zeros.add(content)
		}
	})
	if err == nil {
		r.into.changed, err = punch(r.in, r.name, r.file, zeros.found())
	}
	return err
}

// hashFile reads a regular file, which must not change meanwhile, through a buffer. each is told of its content, part by part.
func hashFile(ctx context.Context, in *openDir, name string, e manifest.Entry, buffer []byte, each func(content []byte)) (sum manifest.Digest, err error) {
	fd, err := in.open(name, unix.O_NONBLOCK)
	if err != nil {
		return sum, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return sum, err
	}
	hash := sha256.New()
	for size := int64(0); ; {
		n, err := unix.Read(fd, buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return sum, err
		}
		hash.Write(buffer[:n])
		size += int64(n)
		each(buffer[:n])
		switch {
		case n == len(buffer), n > 0 && size < e.Size:
			if ctx.Err() != nil {
				return sum, context.Cause(ctx)
			}
		case st.Ino == e.Inode && size == e.Size:
			hash.Sum(sum[:0])
			return sum, nil
		default:
			return sum, errors.New("somebody changes it")
		}
	}
}

// isForbidden tells an error of who asks, rather than of the file.
func isForbidden(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}
