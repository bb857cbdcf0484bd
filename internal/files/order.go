package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// An Order is where chosen paths are to be written beneath a directory, in the order in which they come.
type Order struct {
	Items     []Item
	Overwrite bool // replace what exists
	// Beside is added to the name of what exists already, so that the restored one gets a name beside it.
	Beside string
}

// An Item is one chosen path.
type Item struct {
	Path  string // in the backup, for messages
	To    string // beneath the directory, as Clean gives it; ".": what is in the item is written to the directory itself
	Whole bool   // it becomes what the item is: an empty directory of that name gives way, and "." gets the attributes, too
	Entry
	Above []Entry // what directories on the way are made like, if they are missing; others have the usual rights
}

// A Placed tells where an item is going to be.
type Placed struct {
	To       string `json:"to"` // beneath the directory
	Beside   string `json:"beside,omitempty"`
	Present  bool   `json:"present,omitempty"`  // it is there already, as far as size and time tell
	Replaces bool   `json:"replaces,omitempty"` // something is there, and is replaced, or filled if it is a directory
	Continue bool   `json:"continue,omitempty"` // an earlier restore of it did not come to its end
}

// mostBeside is how many names beside one that is taken are tried.
const mostBeside = 1000

// Place finds out where the items of an order are going to be beneath a directory, which it borrows. It changes nothing. It refuses to go
// through a symbolic link.
func Place(root *os.File, o Order) ([]Placed, error) {
	placed := make([]Placed, len(o.Items))
	taken := make(map[string]string)
	for i := range o.Items {
		item := &o.Items[i]
		if err := item.check(); err != nil {
			return nil, err
		}
		p, err := o.place(root, item)
		if err != nil {
			return nil, err
		}
		if other, ok := taken[p.To]; ok {
			return nil, fmt.Errorf("%s and %s would both be %s: restore one after the other", other, item.Path, path.Join(root.Name(), p.To))
		}
		taken[p.To] = item.Path
		placed[i] = p
	}
	return placed, nil
}

func (i *Item) check() error {
	clean, err := Clean(i.To)
	if err != nil || clean != i.To {
		return malformed("%q is no path beneath a directory", i.To)
	}
	if i.To == "." && i.Type != manifest.Directory {
		return fmt.Errorf("%s is no directory, whose content could be written", i.Path)
	}
	for k := range i.Above {
		i.Above[k].Depth = 0
		if err := i.Above[k].check(); err != nil {
			return err
		}
	}
	i.Depth = 0
	return i.Entry.check()
}

func (o *Order) place(root *os.File, item *Item) (Placed, error) {
	if item.To == "." {
		return Placed{To: ".", Replaces: true}, nil
	}
	name := path.Base(item.To)
	parent, err := openBeneath(root, path.Dir(item.To))
	if errors.Is(err, unix.ENOENT) {
		return Placed{To: item.To}, nil // it will be made
	}
	if err != nil {
		return Placed{}, throughLink(err, root, path.Dir(item.To))
	}
	defer parent.Close()
	p := Placed{To: item.To}
	p.Continue = item.Type == manifest.Directory && isOurs(parent, hidden(name))
	is, err := standing(parent, name)
	switch {
	case errors.Is(err, unix.ENOENT), item.Whole && err == nil && isEmpty(parent, name):
		return p, nil
	case err != nil:
		return p, &os.PathError{Op: "lstat", Path: path.Join(root.Name(), item.To), Err: err}
	case o.Overwrite:
		p.Replaces = true
		return p, nil
	case item.Type != manifest.Directory && is.like(&item.Entry, int(parent.Fd()), name):
		p.Present = true
		return p, nil
	}
	return o.beside(root, parent, item)
}

// isEmpty tells that a directory of that name is there with nothing in it.
func isEmpty(parent *os.File, name string) bool {
	dir, err := openBeneath(parent, name)
	if err != nil {
		return false
	}
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	return errors.Is(err, io.EOF)
}

// beside gives a name that is free, or one of a restore that did not come to its end.
func (o *Order) beside(root, parent *os.File, item *Item) (Placed, error) {
	for n := 1; n < mostBeside; n++ {
		name := path.Base(item.To) + o.Beside
		if n > 1 {
			name += fmt.Sprintf("-%d", n)
		}
		p := Placed{To: path.Join(path.Dir(item.To), name), Beside: item.To}
		is, err := standing(parent, name)
		switch {
		case errors.Is(err, unix.ENOENT):
			p.Continue = item.Type == manifest.Directory && isOurs(parent, hidden(name))
			return p, nil
		case err != nil:
			return p, &os.PathError{Op: "lstat", Path: path.Join(root.Name(), p.To), Err: err}
		case item.Type != manifest.Directory && is.like(&item.Entry, int(parent.Fd()), name):
			p.Present = true
			return p, nil
		}
	}
	return Placed{}, fmt.Errorf("%s: too many names beside it are taken", path.Join(root.Name(), item.To))
}

// openBeneath opens a directory beneath another one, on whatever filesystem. A symbolic link is unix.ELOOP.
func openBeneath(root *os.File, below string) (*os.File, error) {
	dir, err := btrfs.OpenDirAt(root, below)
	var pathError *os.PathError
	if errors.As(err, &pathError) {
		return nil, pathError.Err
	}
	return dir, err
}

// throughLink tells which part of a path is in the way.
func throughLink(err error, root *os.File, below string) error {
	names := strings.Split(below, "/")
	for i := range names {
		at := path.Join(names[:i+1]...)
		if dir, openErr := openBeneath(root, at); openErr == nil {
			dir.Close()
			continue
		}
		full := path.Join(root.Name(), at)
		switch {
		case errors.Is(err, unix.ELOOP):
			return placeElsewhere(fmt.Errorf("%s is a symbolic link, and nothing is restored through one", full))
		case errors.Is(err, unix.ENOTDIR):
			return placeElsewhere(fmt.Errorf("%s is no directory", full))
		}
		return &os.PathError{Op: "opening", Path: full, Err: err}
	}
	return &os.PathError{Op: "opening", Path: path.Join(root.Name(), below), Err: err}
}

func placeElsewhere(err error) error {
	return hint.New(err, "name a directory: --to DIR")
}

// hidden is the name of a tree that is not complete.
func hidden(name string) string {
	if incoming := btrfs.Incoming(name); len(incoming) <= maxName {
		return incoming
	}
	sum := sha256.Sum256([]byte(name))
	return btrfs.Incoming(name[:128] + hex.EncodeToString(sum[:8]))
}

// isOurs tells that a directory of that name is there and belongs to this user.
func isOurs(parent *os.File, name string) bool {
	is, err := standing(parent, name)
	return err == nil && is.Mode&unix.S_IFMT == unix.S_IFDIR && int(is.Uid) == os.Geteuid()
}

// A present is what stands under a name.
type present struct{ unix.Stat_t }

func standing(parent *os.File, name string) (p present, err error) {
	return standingAt(int(parent.Fd()), name)
}

func standingAt(parent int, name string) (p present, err error) {
	err = unix.Fstatat(parent, name, &p.Stat_t, unix.AT_SYMLINK_NOFOLLOW)
	return p, err
}

// like tells that it is the same as an entry, as far as type, size and time tell. A filesystem may keep no nanoseconds.
func (p present) like(e *Entry, parent int, name string) bool {
	is := manifest.Describe(name, &p.Stat_t)
	if is.Type != e.Type || is.Size != e.Size || is.Device != e.Device {
		return false
	}
	if e.Type == manifest.Symlink {
		buffer := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(parent, name, buffer)
		if err != nil || string(buffer[:n]) != e.Target {
			return false
		}
	}
	return is.ModTime.Sec == e.ModTime.Sec && (is.ModTime.Nsec == e.ModTime.Nsec || is.ModTime.Nsec == 0)
}
