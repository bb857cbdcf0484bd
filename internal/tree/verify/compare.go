package verify

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// A comparison walks a tree and its manifest side by side: both are in the same order.
type comparison struct {
	linkage
	ctx     context.Context
	reads   func(path string) bool
	entries *manifest.Reader
	next    manifest.Entry // the first one that the walk has not come to
	more    bool           // there is a next one
	files   int64

	known   map[uint64]*rereading // of files that have several paths, by inode
	toRead  chan *rereading
	checked chan checkedFile

	progress func(read, skipped int64) // bytes; is called by several goroutines
}

// A name is one that a file of the tree has.
type name struct {
	path  string
	inode uint64
}

// A checkedFile is what is to be told of a file: its differences, and what its content turns out to be.
type checkedFile struct {
	path        string
	differences []Difference
	content     *rereading // nil if it is not to be judged
	sha256      manifest.Digest
}

func (f *checkedFile) add(kind Kind, want, got string) {
	f.differences = append(f.differences, Difference{Path: f.path, Kind: kind, Want: want, Got: got})
}

// walk compares the whole tree.
func (c *comparison) walk(root *os.File) error {
	if err := c.advance(); err != nil {
		return err
	}
	if err := walk.Tree(c.ctx, root, walk.Visitor{Visit: c.visit, Closed: c.unread, Lost: c.lost}); err != nil {
		return err
	}
	return c.tellWhile(Missing, "", func(string) bool { return true })
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
func (c *comparison) tellWhile(kind Kind, got string, is func(path string) bool) error {
	for c.more && is(c.next.Path) {
		f := checkedFile{path: c.next.Path}
		f.add(kind, "", got)
		if err := c.tell(f); err != nil {
			return err
		}
		if err := c.advance(); err != nil {
			return err
		}
	}
	return nil
}

// tellMissing tells of all entries that come before a path.
func (c *comparison) tellMissing(path string) error {
	return c.tellWhile(Missing, "", func(entry string) bool { return manifest.Compare(entry, path) < 0 })
}

func (c *comparison) tell(f checkedFile) error {
	if len(f.differences) == 0 && f.content == nil {
		return nil
	}
	select {
	case c.checked <- f:
		return nil
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// visit compares a file with its entry.
func (c *comparison) visit(got walk.File) error {
	if err := c.tellMissing(got.Path); err != nil {
		return err
	}
	f := checkedFile{path: got.Path}
	if c.more && c.next.Path == got.Path {
		if err := c.compare(&f, &got); err != nil {
			return err
		}
	} else {
		f.add(Unexpected, "", "")
	}
	return c.tell(f)
}

// lost leaves what is gone since its name was read to be told missing.
func (c *comparison) lost(path string, err error) error {
	if err == unix.ENOENT {
		return nil
	}
	return c.unread(path, err)
}

// unread tells that a file cannot be read, and with it what the manifest has below: it cannot be compared.
func (c *comparison) unread(path string, err error) error {
	if err := c.tellMissing(path); err != nil {
		return err
	}
	f := checkedFile{path: path}
	f.add(NotReadable, "", Reason(err))
	if err := c.tell(f); err != nil {
		return err
	}
	return c.tellWhile(NotReadable, Reason(err), func(entry string) bool {
		return entry == path || path == "." || strings.HasPrefix(entry, path+"/")
	})
}

// compare compares a file with the next entry of the manifest, and takes that.
func (c *comparison) compare(f *checkedFile, got *walk.File) error {
	want := c.next
	if err := c.advance(); err != nil {
		return err
	}
	if want.Type != got.Type {
		f.add(OtherType, string(want.Type), string(got.Type))
		return nil
	}
	f.compareStatus(&want, &got.Entry)
	c.compareLinks(f, &want, &got.Entry)
	f.compareOwner(&want, &got.Entry)
	f.compareUnread(&want, got.NoFollowPath())
	if !c.reads(want.Path) || want.Type != manifest.Regular || want.Size != got.Size {
		return nil
	}
	return c.reread(f, got, &want)
}

// A linkage knows which paths are names of one file.
type linkage struct {
	linked map[uint64]*name  // inodes of the manifest with several paths, and the first of those; nil until it is met
	links  map[uint64]uint64 // inodes of the manifest by those of the tree that may have several names
}

func newLinkage(linked map[uint64]*name) linkage { return linkage{linked, make(map[uint64]uint64)} }

// compareLinks tells whether a path is a name of the same file as other paths.
func (c *linkage) compareLinks(f *checkedFile, want, got *manifest.Entry) {
	first, several := c.linked[want.Inode]
	if want.Type == manifest.Directory || !several && got.Links < 2 {
		return
	}
	was, met := c.links[got.Inode]
	switch {
	case met && was != want.Inode:
		f.add(OtherLinks, "a file of its own", "a name of another file")
	case first != nil && first.inode != got.Inode:
		f.add(OtherLinks, "a name of the file "+first.path, "another file")
	}
	if !met {
		c.links[got.Inode] = want.Inode
	}
	if several && first == nil {
		c.linked[want.Inode] = &name{want.Path, got.Inode}
	}
}

// compareStatus compares what stat(2) tells of all types.
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

func (f *checkedFile) compareOwner(want, got *manifest.Entry) {
	if want.UID != got.UID || want.GID != got.GID {
		f.add(OtherOwner, owner(want), owner(got))
	}
	if want.Device != got.Device {
		f.add(OtherDevice, deviceNumbers(want.Device), deviceNumbers(got.Device))
	}
}

// compareUnread compares what takes further calls, but is no content. A symlink at path is not followed.
func (f *checkedFile) compareUnread(want *manifest.Entry, path string) {
	if want.Type == manifest.Symlink {
		switch target, err := os.Readlink(path); {
		case err != nil:
			f.add(NotReadable, "", Reason(err))
		case target != want.Target:
			f.add(OtherTarget, want.Target, target)
		}
	}
	switch xattrs, err := manifest.Xattrs(path); {
	case err != nil:
		f.add(NotReadable, "", Reason(err))
	case xattrs != want.Xattrs:
		f.add(OtherXattrs, digestText(want.Xattrs), digestText(xattrs))
	}
}

// A rereading is a regular file whose content is read.
type rereading struct {
	file  walk.File     // whose directory is held until it is read
	ended chan struct{} // is closed when what follows is known

	sha256 manifest.Digest
	bad    []Damage
	err    error
}

// reread has the content of a file read, unless it was under another path.
func (c *comparison) reread(f *checkedFile, got *walk.File, want *manifest.Entry) error {
	f.sha256 = want.SHA256
	if f.content = c.known[got.Inode]; f.content != nil {
		return nil
	}
	r := &rereading{file: *got, ended: make(chan struct{})}
	r.file.Sparse = want.Sparse
	got.Dir.Hold()
	select {
	case c.toRead <- r:
	case <-c.ctx.Done():
		got.Dir.Release()
		return context.Cause(c.ctx)
	}
	f.content = r
	if _, several := c.linked[want.Inode]; several {
		c.known[got.Inode] = r
	}
	return nil
}

// read reads the file through a buffer.
func (r *rereading) read(ctx context.Context, buffer []byte, progress func(read, skipped int64)) {
	defer close(r.ended)
	defer r.file.Dir.Release()
	left := r.file.Size
	r.sha256, r.err = r.file.Hash(ctx, buffer, manifest.Watcher{
		Read: func(_ int64, content []byte) {
			left -= int64(len(content))
			progress(int64(len(content)), 0)
		},
		FromDisk: true,
		Bad:      func(at, length int64) { r.bad = append(r.bad, Damage{Offset: at, Length: length}) },
	})
	progress(0, left)
	if r.err != nil && ctx.Err() != nil {
		r.err = ctx.Err() // whatever its cause: nothing is known of the content
	}
}

// judgeContent waits for the content, and adds how it differs.
func (f *checkedFile) judgeContent() {
	r := f.content
	if r == nil {
		return
	}
	<-r.ended
	for i := range r.bad {
		f.differences = append(f.differences, Difference{Path: f.path, Kind: Damaged, Damage: &r.bad[i]})
	}
	switch {
	case errors.Is(r.err, context.Canceled) || errors.Is(r.err, context.DeadlineExceeded):
	case r.err != nil:
		f.add(NotReadable, "", Reason(r.err))
	case len(r.bad) == 0 && r.sha256 != f.sha256:
		f.add(OtherContent, digestText(f.sha256), digestText(r.sha256))
	}
}

// Reason is an error without the path, which the difference has.
func Reason(err error) string {
	var at *fs.PathError
	switch {
	case err == unix.EXDEV:
		return "it is on another filesystem or in another subvolume"
	case errors.As(err, &at):
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
