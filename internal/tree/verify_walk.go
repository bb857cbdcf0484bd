package tree

import (
	"context"
	"io"
	"os"
	"strings"

	"btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// A comparison walks a backup and its manifest side by side: both are in the same order.
type comparison struct {
	fast    bool
	entries *manifest.Reader
	next    manifest.Entry // the first one that the walk has not come to
	more    bool           // there is a next one
	files   int64
	device  uint64 // of the backup
	buffer  []byte

	linked  map[uint64]bool      // inodes of the manifest with several paths
	known   map[inode]*rereading // of files that have several paths
	toRead  chan *rereading
	checked chan checkedFile

	progress func(bytes int64) // read; is called by several goroutines
}

type inode struct{ device, number uint64 }

// A checkedFile is what is to be told of a file: its differences, and what its content turns out to be.
type checkedFile struct {
	path        string
	differences []Difference
	content     *rereading // nil if it is not to be judged
	sha256      manifest.Digest
}

func (f *checkedFile) add(kind DifferenceKind, want, got string) {
	f.differences = append(f.differences, Difference{Path: f.path, Kind: kind, Want: want, Got: got})
}

// walk compares the whole backup.
func (c *comparison) walk(ctx context.Context, root *os.File) error {
	fd, err := unix.Openat(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: root.Name(), Err: err}
	}
	dir := newOpenDir(fd)
	defer dir.release()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: root.Name(), Err: err}
	}
	c.device, c.buffer = uint64(st.Dev), make([]byte, 64<<10)
	if err := c.advance(); err != nil {
		return err
	}
	if err := c.file(ctx, dir, ".", "."); err != nil {
		return err
	}
	return c.tellWhile(ctx, Missing, "", func(string) bool { return true })
}

// advance goes to the next entry of the manifest.
func (c *comparison) advance() error {
	e, err := c.entries.Next()
	if err == io.EOF {
		c.more = false
		return nil
	}
	if e.Type != manifest.Directory {
		c.files++
	}
	c.next, c.more = e, err == nil
	return err
}

// tellWhile tells the same of all next entries with such a path.
func (c *comparison) tellWhile(ctx context.Context, kind DifferenceKind, got string, is func(path string) bool) error {
	for c.more && is(c.next.Path) {
		f := checkedFile{path: c.next.Path}
		f.add(kind, "", got)
		if err := c.tell(ctx, f); err != nil {
			return err
		}
		if err := c.advance(); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) tell(ctx context.Context, f checkedFile) error {
	if len(f.differences) == 0 && f.content == nil {
		return nil
	}
	select {
	case c.checked <- f:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// file compares what stands in a directory under a name, with all below it.
func (c *comparison) file(ctx context.Context, dir *openDir, name, path string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	before := func(entry string) bool { return manifest.Compare(entry, path) < 0 }
	if err := c.tellWhile(ctx, Missing, "", before); err != nil {
		return err
	}
	f := checkedFile{path: path}
	var st unix.Stat_t
	switch err := unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
		return nil // gone since the directory was read: an entry of it is told missing
	case err != nil:
		return c.unreadable(ctx, f, err)
	}
	got := manifest.Describe(path, &st)
	isKnown := c.more && c.next.Path == path
	if isKnown {
		if err := c.compare(ctx, &f, dir, name, &got, uint64(st.Dev)); err != nil {
			return err
		}
	} else {
		f.add(Unexpected, "", "")
	}
	if got.Type != manifest.Directory {
		return c.tell(ctx, f)
	}
	return c.directory(ctx, dir, name, f, uint64(st.Dev))
}

// directory tells what was found of a directory, and compares all below it.
func (c *comparison) directory(ctx context.Context, parent *openDir, name string, f checkedFile, device uint64) error {
	if device != c.device {
		return c.unreadable(ctx, f, unix.EXDEV)
	}
	fd, err := parent.open(name, unix.O_DIRECTORY)
	if err != nil {
		return c.unreadable(ctx, f, err)
	}
	dir := newOpenDir(fd)
	defer dir.release()
	names, err := dir.names(c.buffer)
	if err != nil {
		return c.unreadable(ctx, f, err)
	}
	if err := c.tell(ctx, f); err != nil {
		return err
	}
	prefix := f.path + "/"
	if f.path == "." {
		prefix = ""
	}
	for _, name := range names {
		if err := c.file(ctx, dir, name, prefix+name); err != nil {
			return err
		}
	}
	return nil
}

// unreadable tells besides that the file cannot be read, and with it what the manifest has below: it cannot be compared.
func (c *comparison) unreadable(ctx context.Context, f checkedFile, err error) error {
	why := err.Error()
	if err == unix.EXDEV {
		why = "it is on another filesystem or in another subvolume"
	}
	f.add(NotReadable, "", why)
	if err := c.tell(ctx, f); err != nil {
		return err
	}
	return c.tellWhile(ctx, NotReadable, why, func(entry string) bool {
		return entry == f.path || f.path == "." || strings.HasPrefix(entry, f.path+"/")
	})
}
