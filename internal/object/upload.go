package object

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"golang.org/x/sys/unix"
)

// An Upload is an object that comes to a Folder in pieces. Either End or Abort must be called. Nobody sees it before End.
type Upload struct {
	folder    *Folder
	key       string
	temporary string // name of the file until it is complete
	size      int64
	replace   bool

	mu   sync.RWMutex // read-locked by whoever writes
	file *os.File     // nil: it is at its end
}

// Begin begins to write an object of a size. One that is in the way, and is not to be replaced, is told at once.
func (f *Folder) Begin(key string, size int64, o PutOptions) (*Upload, error) {
	u, err := f.begin(key, size, o)
	return u, f.named("storing", key, err)
}

func (f *Folder) begin(key string, size int64, o PutOptions) (*Upload, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if size < 0 {
		return nil, fmt.Errorf("%w: it cannot have %d bytes", ErrBadContent, size)
	}
	if _, err := f.root.Lstat(key); err == nil && !o.Replace {
		return nil, fs.ErrExist
	}
	dir := path.Dir(key)
	u := &Upload{folder: f, key: key, size: size, replace: o.Replace, temporary: path.Join(dir, hidden+rand.Text())}
	const attempts = 10 // who deletes the last object of a directory removes that, too
	for attempt := 1; ; attempt++ {
		err := f.mkdirAll(dir)
		if err == nil {
			u.file, err = f.root.OpenFile(u.temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		}
		if err == nil {
			_ = unix.Flock(int(u.file.Fd()), unix.LOCK_SH) // what is held is not removed with its directory
			if _, err = f.root.Lstat(u.temporary); err == nil {
				return u, nil
			}
			_ = u.file.Close() // nothing is in it
		}
		if !errors.Is(err, fs.ErrNotExist) || attempt == attempts {
			return nil, err
		}
	}
}

var errEnded = errors.New("it is not being stored any more")

// Write writes a piece where it belongs. Pieces may come in any order, and at the same time.
func (u *Upload) Write(piece []byte, offset int64) error {
	return u.folder.named("storing", u.key, u.write(piece, offset))
}

func (u *Upload) write(piece []byte, offset int64) error {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if u.file == nil {
		return errEnded
	}
	if offset < 0 || offset > u.size-int64(len(piece)) {
		return fmt.Errorf("%w: %d bytes at %d are beyond its %d bytes", ErrBadContent, len(piece), offset, u.size)
	}
	_, err := u.file.WriteAt(piece, offset)
	return err
}

// End gives the object its key when it is on disk. If it does not have the SHA-256, it is ErrBadContent, and nothing is left.
func (u *Upload) End(sum []byte) error {
	return u.folder.named("storing", u.key, u.end(sum))
}

func (u *Upload) end(sum []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.file == nil {
		return errEnded
	}
	if err := u.check(sum); err != nil {
		return errors.Join(err, u.drop())
	}
	return u.commit()
}

// check reads what was written.
func (u *Upload) check(sum []byte) error {
	written, err := u.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if written != u.size {
		return fmt.Errorf("%w: it has %d bytes of %d", ErrBadContent, written, u.size)
	}
	found, err := sumOf(io.NewSectionReader(u.file, 0, u.size))
	if err == nil && !bytes.Equal(found, sum) {
		err = fmt.Errorf("%w: its SHA-256 is %x instead of %x", ErrBadContent, found, sum)
	}
	return err
}

// commit puts the file on disk and gives it its name. It is held until then.
func (u *Upload) commit() error {
	root := u.folder.root
	err := u.file.Sync()
	switch {
	case err != nil:
		return errors.Join(err, u.drop())
	case u.replace:
		if err = root.Rename(u.temporary, u.key); err != nil {
			err = errors.Join(err, root.Remove(u.temporary))
		}
	default:
		err = errors.Join(root.Link(u.temporary, u.key), root.Remove(u.temporary))
	}
	err = errors.Join(err, u.file.Close())
	u.file = nil
	if err != nil {
		return err
	}
	return u.folder.sync(path.Dir(u.key))
}

// Abort removes what was written, unless it is at its end.
func (u *Upload) Abort() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.file == nil {
		return nil
	}
	return u.folder.named("giving up", u.key, u.drop())
}

func (u *Upload) drop() error {
	err := errors.Join(u.file.Close(), u.folder.root.Remove(u.temporary))
	u.file = nil
	return err
}
