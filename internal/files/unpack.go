package files

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs/reflink"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// A Report is what was written.
type Report struct {
	Files    int64    // all but directories
	Bytes    int64    // of regular files
	Shared   int64    // of these: on extents that are shared with the backup
	Present  int64    // files that were there already, as far as size and time tell
	Failures Problems // what could not be written
	Lost     Problems // attributes that could not be set
	// Unfinished is the hidden name, beneath the directory, of a tree that is not complete; "": none. The same order goes on with it.
	Unfinished string
}

// An Unpacker writes what records tell beneath a directory. It is a Sink and a Sharer. It must be closed.
type Unpacker struct {
	root   *os.File
	o      Order
	placed []Placed
	report Report

	next    int         // the first item that may come
	item    *tree       // that is being written; nil: none
	file    *newFile    // that is being written; nil: none
	passing bool        // what comes is content that nobody wants
	skip    int         // entries that lie deeper are left out; -1: none are
	links   linked      // files that may get further names
	path    []string    // names from the item to the directory that is being written
	dirs    []directory // the same directories; the first is the item
}

// A directory is one that is being filled.
type directory struct {
	Entry
	keep bool // its own attributes stay as they are
}

// NewUnpacker begins an order beneath a directory, which it borrows; placed is what Place gave for it.
func NewUnpacker(root *os.File, o Order, placed []Placed) *Unpacker {
	return &Unpacker{root: root, o: o, placed: placed, skip: -1, links: linked{names: make(map[uint32]otherName)}}
}

// Take writes what a record tells. What cannot be written of one file is noted in the report; an error ends the restore.
func (u *Unpacker) Take(r Record) error {
	switch {
	case r.Entry != nil:
		if u.file != nil || u.passing {
			return malformed("a file without its end")
		}
		return u.entry(r.Entry)
	case u.passing:
		u.passing = !r.End && !r.Failed
		return nil
	case u.file == nil:
		return malformed("content of no file")
	case r.Failed:
		u.drop()
		return nil
	case r.End:
		return u.complete()
	}
	return u.fatal(u.file.write(r.At, r.Content))
}

// Share lets the file that began last have the content of another, if they lie on the same filesystem.
func (u *Unpacker) Share(from *os.File) (done bool, err error) {
	if u.passing {
		u.passing = false
		return true, nil
	}
	if u.file == nil {
		return false, malformed("content of no file")
	}
	err = reflink.Clone(from, u.file.File)
	switch {
	case errors.Is(err, reflink.ErrCannotShare):
		return false, nil
	case err != nil:
		return false, u.fatal(err)
	}
	u.file.written = u.file.e.Size
	u.report.Shared += u.file.e.Size
	return true, u.complete()
}

// Finish ends the order: what was written is on disk.
func (u *Unpacker) Finish() (Report, error) {
	if u.file != nil || u.passing {
		return u.report, malformed("a file without its end")
	}
	if err := u.endItem(); err != nil {
		return u.report, err
	}
	if err := unix.Syncfs(int(u.root.Fd())); err != nil {
		return u.report, u.explain(os.NewSyscallError("syncfs", err), u.root.Name())
	}
	return u.report, nil
}

// Report is what was written so far.
func (u *Unpacker) Report() Report { return u.report }

// Close gives up what is not complete.
func (u *Unpacker) Close() {
	if u.file != nil {
		u.file.discard()
		u.file = nil
	}
	if u.item != nil {
		u.item.close()
		u.item = nil
	}
}

// entry begins a file or directory.
func (u *Unpacker) entry(e *Entry) error {
	if err := cmp.Or(e.check(), u.links.check(e)); err != nil {
		return err
	}
	if e.Depth == 0 {
		if e.Item < u.next || e.Item >= len(u.placed) {
			return malformed("there is no chosen path %d", e.Item)
		}
		if err := u.endItem(); err != nil {
			return err
		}
		return u.beginItem(e)
	}
	if u.skip >= 0 && e.Depth > u.skip {
		u.pass(e)
		return nil
	}
	u.skip = -1
	if u.item == nil || e.Depth > len(u.dirs) {
		return malformed("an entry in no directory")
	}
	if err := u.up(e.Depth); err != nil {
		return err
	}
	return u.write(e, e.Name, u.o.Overwrite)
}

// pass leaves an entry out.
func (u *Unpacker) pass(e *Entry) {
	u.passing = u.hasContent(e)
	u.links.lose(e)
	if e.Type == manifest.Directory && u.skip < 0 {
		u.skip = e.Depth
	}
}

// hasContent tells that content follows an entry.
func (u *Unpacker) hasContent(e *Entry) bool {
	return e.Type == manifest.Regular && !u.links.knows(e.Link)
}

// fail notes that an entry could not be written, and leaves it out with all that is in it. An error of the whole filesystem ends the
// restore.
func (u *Unpacker) fail(e *Entry, name string, err error) error {
	at := u.at(name)
	if isFatal(err) {
		return u.explain(err, at)
	}
	u.report.Failures.add(at, "%v", hint.WithoutPath(err, at))
	u.pass(e)
	return nil
}

// at names what is being written, beneath the directory.
func (u *Unpacker) at(name string) string {
	if u.item == nil {
		return name
	}
	if len(u.dirs) == 0 {
		return u.item.to
	}
	return path.Join(u.item.to, path.Join(u.path...), name)
}

// write writes an entry, or begins it, in the directory that the trail leads to.
func (u *Unpacker) write(e *Entry, name string, overwrite bool) error {
	in := u.item.trail.Last()
	is, err := standingAt(in.Descriptor(), name)
	exists := err == nil
	switch {
	case err != nil && !errors.Is(err, unix.ENOENT):
		return u.fail(e, name, err)
	case e.Type == manifest.Directory:
		return u.directory(e, name, exists)
	case exists && !overwrite && is.like(e, in.Descriptor(), name):
		u.report.Present++
		u.passing = u.hasContent(e)
		u.links.note(e, u.item, u.below(name), is.Ino)
		return nil
	case exists && !overwrite:
		return u.fail(e, name, errExists)
	case exists && is.Mode&unix.S_IFMT == unix.S_IFDIR:
		return u.fail(e, name, fmt.Errorf("it is a directory there, which is not replaced by a %s", words[e.Type]))
	case u.links.knows(e.Link):
		return u.link(e, name, exists)
	case e.Type == manifest.Regular:
		u.file, err = createFile(in, name, e, exists)
		if err != nil {
			return u.fail(e, name, err)
		}
		return nil
	}
	return u.special(e, name, exists)
}

var errExists = errors.New("it exists already and differs; --overwrite replaces it")

// words are what people call the types of files.
var words = map[manifest.Type]string{manifest.Regular: "file", manifest.Directory: "directory", manifest.Symlink: "symbolic link",
	manifest.BlockDevice: "device", manifest.CharDevice: "device", manifest.FIFO: "pipe", manifest.Socket: "socket"}

// below gives the path of a name from the item.
func (u *Unpacker) below(name string) string {
	if len(u.dirs) == 0 {
		return "."
	}
	return path.Join(path.Join(u.path...), name)
}

// directory makes a directory, or takes one that is there, and goes down to it.
func (u *Unpacker) directory(e *Entry, name string, exists bool) error {
	in := u.item.trail.Last()
	if !exists {
		if err := unix.Mkdirat(in.Descriptor(), name, 0o700); err != nil {
			return u.fail(e, name, err)
		}
	}
	dir, err := in.Dir(name)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return u.fail(e, name, errors.New("it is no directory there, and nothing is written in its place"))
	case errors.Is(err, unix.EXDEV):
		return u.fail(e, name, errors.New("something is mounted there"))
	case err != nil:
		return u.fail(e, name, err)
	}
	if exists && u.item.isHidden {
		sweep(dir)
	}
	return u.down(e, name, dir, exists && !u.o.Overwrite && !u.item.isHidden)
}

func (u *Unpacker) down(e *Entry, name string, dir *walk.Dir, keep bool) error {
	if len(u.dirs) > 0 {
		u.path = append(u.path, name)
	}
	u.dirs = append(u.dirs, directory{*e, keep})
	return u.item.trail.Down(dir)
}

// up goes back until so many directories are open, and sets the attributes of those that are filled.
func (u *Unpacker) up(depth int) error {
	for len(u.dirs) > depth {
		last := u.dirs[len(u.dirs)-1]
		at := path.Join(u.item.to, path.Join(u.path...))
		if !last.keep {
			u.attributes(u.item.trail.Last().Descriptor(), &last.Entry, at)
		}
		u.dirs = u.dirs[:len(u.dirs)-1]
		u.path = u.path[:max(len(u.path)-1, 0)]
		if err := u.item.trail.Up(); err != nil {
			return &os.PathError{Op: "leaving", Path: path.Join(u.root.Name(), at), Err: err}
		}
	}
	return nil
}

// complete gives the file that was written its attributes and its name.
func (u *Unpacker) complete() error {
	f := u.file
	u.file = nil
	defer f.discard()
	at := u.at(f.name)
	if err := f.extend(); err != nil {
		return u.failed(at, err)
	}
	u.attributes(int(f.Fd()), f.e, at)
	inode, err := f.place()
	if err != nil {
		return u.failed(at, err)
	}
	u.links.note(f.e, u.item, u.below(f.name), inode)
	u.report.Files++
	u.report.Bytes += f.e.Size
	return nil
}

// failed is fail for an entry of which all has come.
func (u *Unpacker) failed(at string, err error) error {
	if isFatal(err) {
		return u.explain(err, at)
	}
	u.report.Failures.add(at, "%v", err)
	return nil
}

// drop takes back the file that was being written.
func (u *Unpacker) drop() {
	u.links.lose(u.file.e)
	u.file.discard()
	u.file = nil
}

// fatal tells which file an error of writing is about.
func (u *Unpacker) fatal(err error) error {
	if err == nil || errors.Is(err, ErrMalformed) {
		return err
	}
	f := u.file
	at := u.at(f.name)
	u.drop()
	if isFatal(err) {
		return u.explain(err, at)
	}
	u.report.Failures.add(at, "%v", err)
	u.passing = true
	return nil
}

// isFatal tells an error of the filesystem rather than of a file.
func isFatal(err error) bool {
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, unix.ESTALE, unix.ENODEV, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// explain tells what ended the restore, and what to do.
func (u *Unpacker) explain(err error, at string) error {
	full := path.Join(u.root.Name(), at)
	err = fmt.Errorf("writing %s: %w", full, hint.WithoutPath(err, full))
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return hint.Newf(err, "make room at %s, or restore to another place with --to; the same command goes on", u.root.Name())
	case errors.Is(err, unix.EROFS):
		return hint.New(err, "restore to another place with --to DIR")
	}
	return err
}
