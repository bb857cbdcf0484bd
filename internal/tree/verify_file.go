package tree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// readersAtOnce is how many files are read at a time: while one waits for a disk, another one is hashed.
const readersAtOnce = 4

// compare compares a file with the next entry of the manifest, and takes that.
func (c *comparison) compare(ctx context.Context, f *checkedFile, dir *openDir, name string, got *manifest.Entry, device uint64) error {
	want := c.next
	if err := c.advance(); err != nil {
		return err
	}
	if want.Type != got.Type {
		f.add(OtherType, string(want.Type), string(got.Type))
		return nil
	}
	f.compareStatus(&want, got)
	if c.fast {
		return nil
	}
	if want.UID != got.UID || want.GID != got.GID {
		f.add(OtherOwner, owner(&want), owner(got))
	}
	if want.Device != got.Device {
		f.add(OtherDevice, deviceNumbers(want.Device), deviceNumbers(got.Device))
	}
	f.compareUnread(&want, dir.path(name))
	if want.Type != manifest.Regular || want.Size != got.Size {
		return nil
	}
	return c.reread(ctx, f, dir, name, &want, inode{device, got.Inode})
}

// compareStatus compares what a fast verification looks at.
func (f *checkedFile) compareStatus(want, got *manifest.Entry) {
	if want.Size != got.Size {
		f.add(OtherSize, strconv.FormatInt(want.Size, 10), strconv.FormatInt(got.Size, 10))
	}
	if want.ModTime != got.ModTime {
		f.add(OtherTime, timeText(want.ModTime), timeText(got.ModTime))
	}
	if want.Mode != got.Mode {
		f.add(OtherMode, fmt.Sprintf("%04o", want.Mode), fmt.Sprintf("%04o", got.Mode))
	}
}

// compareUnread compares what takes further calls, but is no content. A symlink at path is not followed.
func (f *checkedFile) compareUnread(want *manifest.Entry, path string) {
	if want.Type == manifest.Symlink {
		switch target, err := os.Readlink(path); {
		case err != nil:
			f.add(NotReadable, "", reason(err))
		case target != want.Target:
			f.add(OtherTarget, want.Target, target)
		}
	}
	switch xattrs, err := manifest.Xattrs(path); {
	case err != nil:
		f.add(NotReadable, "", reason(err))
	case xattrs != want.Xattrs:
		f.add(OtherXattrs, digestText(want.Xattrs), digestText(xattrs))
	}
}

// A rereading is a regular file whose content is read.
type rereading struct {
	file  *os.File
	ended chan struct{} // is closed when what follows is known

	sha256 manifest.Digest
	err    error
}

// reread has the content of a file read, unless it was under another path.
func (c *comparison) reread(ctx context.Context, f *checkedFile, dir *openDir, name string, want *manifest.Entry, id inode) error {
	f.sha256 = want.SHA256
	if f.content = c.known[id]; f.content != nil {
		return nil
	}
	fd, err := dir.open(name, unix.O_NONBLOCK)
	if err != nil {
		f.add(NotReadable, "", reason(err))
		return nil
	}
	r := &rereading{file: os.NewFile(uintptr(fd), name), ended: make(chan struct{})}
	select {
	case c.toRead <- r:
	case <-ctx.Done():
		r.file.Close()
		return context.Cause(ctx)
	}
	f.content = r
	if c.linked[want.Inode] {
		c.known[id] = r
	}
	return nil
}

// read reads the file through a buffer and closes it.
func (r *rereading) read(ctx context.Context, buffer []byte, progress func(bytes int64)) {
	defer close(r.ended)
	defer r.file.Close()
	hash := sha256.New()
	for r.err == nil {
		var n int
		n, r.err = r.file.Read(buffer)
		hash.Write(buffer[:n])
		progress(int64(n))
		if r.err == nil {
			r.err = ctx.Err()
		}
	}
	if r.err == io.EOF {
		r.err = nil
		r.sha256 = manifest.Digest(hash.Sum(nil))
	}
}

// judgeContent waits for the content, and adds how it differs.
func (f *checkedFile) judgeContent() {
	r := f.content
	if r == nil {
		return
	}
	<-r.ended
	switch {
	case errors.Is(r.err, context.Canceled) || errors.Is(r.err, context.DeadlineExceeded):
	case r.err != nil:
		f.add(NotReadable, "", reason(r.err))
	case r.sha256 != f.sha256:
		f.add(OtherContent, digestText(f.sha256), digestText(r.sha256))
	}
}

// reason is an error without the path, which the difference has.
func reason(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err.Error()
	}
	return err.Error()
}

func owner(e *manifest.Entry) string { return fmt.Sprintf("%d:%d", e.UID, e.GID) }

func deviceNumbers(device uint64) string {
	return fmt.Sprintf("%d,%d", unix.Major(device), unix.Minor(device))
}

func timeText(t manifest.Time) string {
	return time.Unix(t.Sec, int64(t.Nsec)).UTC().Format("2006-01-02T15:04:05.000000000Z")
}

// digestText gives "" for none.
func digestText(d manifest.Digest) string {
	if d == (manifest.Digest{}) {
		return ""
	}
	return hex.EncodeToString(d[:])
}
