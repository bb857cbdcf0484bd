package dedup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/manifest"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// batch is how many contents are kept in memory before they are written: many at once, in order, touch fewer pages each.
const batch = 20_000

// lockPatience is how long another process may keep the file. Whoever uses an index holds the lock of the folder.
const lockPatience = time.Second

// contentsBucket holds places by key. Its name changes with the format.
var contentsBucket = []byte("contents 1")

// key is a content: its size (8 bytes, big endian) and SHA-256.
type key [8 + len(manifest.Digest{})]byte

func keyOf(e manifest.Entry) (k key) {
	binary.BigEndian.PutUint64(k[:], uint64(e.Size))
	copy(k[8:], e.SHA256[:])
	return k
}

// place is where a content stands.
type place struct {
	Backup   string
	Path     string // in the backup
	ModTime  manifest.Time
	Verified time.Time // when it was read, to the second
}

// store keeps places in a file. What is in the way of that is told once; from then on it knows nothing.
type store struct {
	dir   *os.File // that holds the file
	name  string
	log   *slog.Logger
	file  *os.File // the file that db has open
	db    *bbolt.DB
	added map[key]place // not yet written
}

// openStore opens a file of the folder. A damaged one is replaced by an empty one: what it knew is no more than a hint.
func openStore(folder *os.File, file string, log *slog.Logger) (*store, error) {
	dir, err := btrfs.OpenDirAt(folder, path.Dir(file))
	if err != nil {
		return nil, err
	}
	s := &store{dir: dir, name: path.Base(file), log: log, added: make(map[key]place)}
	err = s.open()
	if damaged := (*damagedError)(nil); errors.As(err, &damaged) {
		log.Warn(fmt.Sprintf("%v; the index begins anew, and `btrfs-backup index %s` fills it", err, folder.Name()))
		if err = s.remove(); err == nil {
			err = s.open()
		}
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("opening the index %s: %w", s.path(), err)
	}
	return s, nil
}

func (s *store) path() string { return s.dir.Name() + "/" + s.name }

func (s *store) open() error {
	return s.guard(func() (err error) {
		s.db, err = bbolt.Open(s.path(), 0o600, &bbolt.Options{
			Timeout:      lockPatience,
			FreelistType: bbolt.FreelistMapType,
			OpenFile:     s.openFile,
		})
		if err != nil {
			return s.damage(err)
		}
		err = s.db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(contentsBucket)
			return err
		})
		if err != nil {
			s.db.Close()
			return s.damage(err)
		}
		return nil
	})
}

// damage tells errors in what the file holds from those of getting at it.
func (s *store) damage(err error) error {
	var errno unix.Errno
	if errors.Is(err, bbolt.ErrTimeout) || errors.As(err, &errno) && errno != unix.ELOOP && errno != unix.EIO {
		return err
	}
	return &damagedError{s.path(), err}
}

func (s *store) openFile(_ string, flags int, mode os.FileMode) (*os.File, error) {
	fd, err := unix.Openat(int(s.dir.Fd()), s.name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, uint32(mode))
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: s.path(), Err: err}
	}
	s.file = os.NewFile(uintptr(fd), s.path())
	if info, err := s.file.Stat(); err == nil && !info.Mode().IsRegular() {
		s.file.Close()
		return nil, errors.New("not a regular file")
	}
	return s.file, nil
}

// guard calls f. When the file is damaged, bbolt panics, or reads from where no memory is: then db is of no use, and cannot
// even be closed, since it may hold a lock.
func (s *store) guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			s.db = nil
			s.file.Close()
			err = &damagedError{s.path(), fmt.Errorf("%v", r)}
		}
	}()
	return f()
}

func (s *store) remove() error {
	err := unix.Unlinkat(int(s.dir.Fd()), s.name, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", s.path(), err)
	}
	return nil
}

// get finds where a content stands.
func (s *store) get(k key) (p place, ok bool) {
	if p, ok = s.added[k]; ok || s.db == nil {
		return p, ok
	}
	err := s.guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) (err error) {
			value := tx.Bucket(contentsBucket).Get(k[:])
			if value == nil {
				return nil
			}
			if p, err = decode(value); err != nil {
				return &damagedError{s.path(), err}
			}
			ok = true
			return nil
		})
	})
	if err != nil {
		s.giveUp(err)
		return place{}, false
	}
	return p, ok
}

// put replaces what is known of a content.
func (s *store) put(k key, p place) error {
	if s.db == nil {
		return nil
	}
	s.added[k] = p
	if len(s.added) < batch {
		return nil
	}
	return s.flush()
}

// flush writes what was added. Each time it is on disk when flush returns: a crash loses what came after, and no more.
func (s *store) flush() error {
	if s.db == nil || len(s.added) == 0 {
		return nil
	}
	keys := slices.SortedFunc(maps.Keys(s.added), func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	err := s.guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket(contentsBucket)
			for _, k := range keys {
				if err := bucket.Put(k[:], encode(s.added[k])); err != nil {
					return err
				}
			}
			return nil
		})
	})
	clear(s.added)
	if err != nil {
		s.giveUp(err)
		return fmt.Errorf("writing the index %s: %w", s.path(), err)
	}
	return nil
}

// giveUp knows nothing from now on, since the file cannot be used. One that is damaged goes.
func (s *store) giveUp(err error) {
	s.log.Warn(fmt.Sprintf("%v; until the next run, equal contents are not shared", err))
	if damaged := (*damagedError)(nil); errors.As(err, &damaged) {
		if err := s.remove(); err != nil {
			s.log.Warn(err.Error())
		}
	}
	if s.db != nil {
		s.db.Close()
	}
	s.db = nil
	clear(s.added)
}

func (s *store) close() error {
	err := s.flush()
	if s.db != nil {
		err = s.guard(s.db.Close)
	}
	return errors.Join(err, s.dir.Close())
}

// A damagedError tells that an index holds what cannot be.
type damagedError struct {
	file  string
	cause error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("the index %s is damaged: %v", e.file, e.cause)
}
func (e *damagedError) Unwrap() error { return e.cause }

// encode gives the form of a place in the file: Verified, ModTime, the length of the backup's name, the name, the path. Numbers
// are varints as of encoding/binary.
func encode(p place) []byte {
	b := make([]byte, 0, 2*binary.MaxVarintLen64+2*binary.MaxVarintLen32+len(p.Backup)+len(p.Path))
	b = binary.AppendVarint(b, p.Verified.Unix())
	b = binary.AppendVarint(b, p.ModTime.Sec)
	b = binary.AppendUvarint(b, uint64(p.ModTime.Nsec))
	b = binary.AppendUvarint(b, uint64(len(p.Backup)))
	return append(append(b, p.Backup...), p.Path...)
}

func decode(b []byte) (p place, err error) {
	r := bytes.NewReader(b)
	verified, err1 := binary.ReadVarint(r)
	sec, err2 := binary.ReadVarint(r)
	nsec, err3 := binary.ReadUvarint(r)
	length, err4 := binary.ReadUvarint(r)
	if err := errors.Join(err1, err2, err3, err4); err != nil || length > uint64(r.Len()) || nsec >= 1e9 {
		return place{}, errors.New("an entry is malformed")
	}
	rest := b[len(b)-r.Len():]
	return place{
		Backup: string(rest[:length]), Path: string(rest[length:]),
		ModTime: manifest.Time{Sec: sec, Nsec: int32(nsec)}, Verified: time.Unix(verified, 0),
	}, nil
}
