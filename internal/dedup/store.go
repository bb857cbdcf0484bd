package dedup

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"

	"golang.org/x/sys/unix"
)

// The file begins with magic, which changes with the format. Records follow; of those with one key the last one counts. A record is
// the length of its content and the CRC-32C of that (32 bits each, little endian), and the content: a key and a place.
const (
	magic      = "btrfs-backup contents 2\n"
	headerSize = 4 + 4
	// maxRecord is the longest content: a path of a backup takes 4 KiB, and deeper files are not looked up.
	maxRecord = 16 << 10
	// batch is how many bytes are written at a time.
	batch = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// key is a content: its size (8 bytes, big endian) and SHA-256.
type key [8 + len(manifest.Digest{})]byte

func keyOf(e manifest.Entry) (k key) {
	binary.BigEndian.PutUint64(k[:], uint64(e.Size))
	copy(k[8:], e.SHA256[:])
	return k
}

// short is a part of the SHA-256 that takes little memory. Two contents that have the same hide each other, which costs space alone.
func (k *key) short() uint64 { return binary.LittleEndian.Uint64(k[8:]) }

// place is where a content stands.
type place struct {
	Backup  string
	Path    string // in the backup
	ModTime manifest.Time
}

// store keeps places in a file, and in memory where they stand in it. Whatever is in the way of that is told once; from then on it
// knows nothing.
type store struct {
	dir   *os.File // that holds the file
	name  string
	log   *slog.Logger
	file  *os.File         // nil if it cannot be used
	at    map[uint64]int64 // where records begin, by key.short
	size  int64            // of the file
	added []byte           // what comes behind that
}

// openStore opens a file of the folder. A damaged one is replaced by an empty one: what it knew is no more than a hint.
func openStore(folder *os.File, file string, log *slog.Logger) (*store, error) {
	dir, err := btrfs.OpenDirAt(folder, path.Dir(file))
	if err != nil {
		return nil, err
	}
	s := &store{dir: dir, name: path.Base(file), log: log}
	err = s.open()
	if isDamaged(err) {
		log.Warn(fmt.Sprintf("%v; the index begins anew, and `btrfs-backup index %s` fills it", err, folder.Name()))
		if err = s.remove(s.name); err == nil {
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
	var err error
	if s.file, err = s.create(s.name, unix.O_CREAT); err != nil {
		return s.damage(err)
	}
	records, err := s.load()
	if err == nil && records > 2*len(s.at) {
		err = s.compact()
	}
	if err != nil {
		s.file.Close()
		return s.damage(err)
	}
	return nil
}

// create opens a file beside the index, or the index.
func (s *store) create(name string, flags int) (*os.File, error) {
	flags |= unix.O_RDWR | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Openat(int(s.dir.Fd()), name, flags, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: s.dir.Name() + "/" + name, Err: err}
	}
	file := os.NewFile(uintptr(fd), s.dir.Name()+"/"+name)
	if info, err := file.Stat(); err == nil && !info.Mode().IsRegular() {
		file.Close()
		return nil, errors.New("it is not a regular file")
	}
	return file, nil
}

// load reads where the records stand, and tells how many there are.
func (s *store) load() (records int, err error) {
	s.at, s.size, s.added = make(map[uint64]int64), 0, nil
	in := bufio.NewReaderSize(s.file, batch)
	begin := make([]byte, len(magic))
	switch _, err := io.ReadFull(in, begin); {
	case err == io.EOF:
		s.added = append(s.added, magic...)
		return 0, nil
	case err != nil && err != io.ErrUnexpectedEOF:
		return 0, err
	case string(begin) != magic:
		return 0, errFormat
	}
	s.size = int64(len(magic))
	for content := []byte(nil); ; records++ {
		if content, err = readRecord(in, content); err == io.EOF {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		var k key
		copy(k[:], content)
		s.at[k.short()] = s.size
		s.size += headerSize + int64(len(content))
	}
}

// readRecord reads the content of a record into a buffer, which may grow. At the end it gives io.EOF.
func readRecord(from io.Reader, buffer []byte) ([]byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(from, header[:]); err != nil {
		return buffer, err
	}
	length := binary.LittleEndian.Uint32(header[:])
	if length > maxRecord || int(length) < len(key{}) {
		return buffer, errors.New("a length is out of range")
	}
	buffer = slices.Grow(buffer[:0], int(length))[:length]
	if _, err := io.ReadFull(from, buffer); err != nil {
		return buffer, cmp.Or(notEOF(err), errors.New("it was cut off"))
	}
	if crc32.Checksum(buffer, castagnoli) != binary.LittleEndian.Uint32(header[4:]) {
		return buffer, errors.New("a checksum is wrong")
	}
	return buffer, nil
}

func notEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

// compact leaves out the records that do not count any more.
func (s *store) compact() error {
	temporary := s.name + ".new"
	if err := s.remove(temporary); err != nil {
		return err
	}
	file, err := s.create(temporary, unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	compacted := &store{dir: s.dir, name: temporary, file: file, at: make(map[uint64]int64), added: []byte(magic)}
	for _, at := range s.at {
		k, p, err := s.read(at)
		if err == nil {
			err = compacted.add(k, p)
		}
		if err != nil {
			file.Close()
			return errors.Join(err, s.remove(temporary))
		}
	}
	if err = cmp.Or(compacted.flush(), file.Sync()); err == nil {
		err = unix.Renameat(int(s.dir.Fd()), temporary, int(s.dir.Fd()), s.name)
	}
	if err != nil {
		file.Close()
		return errors.Join(err, s.remove(temporary))
	}
	s.file.Close()
	s.file, s.at, s.size, s.added = file, compacted.at, compacted.size, nil
	return nil
}

// damage tells errors in what the file holds from those of getting at it.
func (s *store) damage(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) && errno != unix.ELOOP && errno != unix.EIO {
		return err
	}
	return &damagedError{s.path(), err}
}

func (s *store) remove(name string) error {
	err := unix.Unlinkat(int(s.dir.Fd()), name, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", s.dir.Name()+"/"+name, err)
	}
	return nil
}

// get finds where a content stands.
func (s *store) get(k key) (p place, ok bool) {
	if s.file == nil {
		return p, false
	}
	at, ok := s.at[k.short()]
	if !ok {
		return p, false
	}
	found, p, err := s.read(at)
	if err != nil {
		s.giveUp(s.damage(err))
		return place{}, false
	}
	return p, found == k
}

// read reads the record that begins there.
func (s *store) read(at int64) (k key, p place, err error) {
	var from io.Reader = io.NewSectionReader(s.file, at, headerSize+maxRecord)
	if at >= s.size {
		from = bytes.NewReader(s.added[at-s.size:])
	}
	content, err := readRecord(from, nil)
	if err != nil {
		return k, p, cmp.Or(notEOF(err), errors.New("it was cut off"))
	}
	copy(k[:], content)
	p, err = decode(content[len(k):])
	return k, p, err
}

// put replaces what is known of a content.
func (s *store) put(k key, p place) error {
	if s.file == nil {
		return nil
	}
	err := s.add(k, p)
	if err != nil {
		s.giveUp(err)
	}
	return err
}

func (s *store) add(k key, p place) error {
	content := appendPlace(k[:], p)
	if len(content) > maxRecord {
		return nil
	}
	s.at[k.short()] = s.size + int64(len(s.added))
	s.added = binary.LittleEndian.AppendUint32(s.added, uint32(len(content)))
	s.added = binary.LittleEndian.AppendUint32(s.added, crc32.Checksum(content, castagnoli))
	s.added = append(s.added, content...)
	if len(s.added) < batch {
		return nil
	}
	return s.flush()
}

// flush writes what was added: all of it or nothing.
func (s *store) flush() error {
	if _, err := s.file.WriteAt(s.added, s.size); err != nil {
		return errors.Join(fmt.Errorf("writing the index %s: %w", s.path(), err), s.file.Truncate(s.size))
	}
	s.size += int64(len(s.added))
	s.added = s.added[:0]
	return nil
}

// giveUp knows nothing from now on, since the file cannot be used. One that is damaged goes.
func (s *store) giveUp(err error) {
	s.log.Warn(fmt.Sprintf("%v; until the next run, equal contents are not shared", err))
	if isDamaged(err) {
		if err := s.remove(s.name); err != nil {
			s.log.Warn(err.Error())
		}
	}
	s.file.Close()
	s.file, s.at, s.added = nil, nil, nil
}

func (s *store) close() error {
	defer s.dir.Close()
	if s.file == nil {
		return nil
	}
	return errors.Join(s.flush(), s.file.Sync(), s.file.Close())
}

// A damagedError tells that an index holds what cannot be.
type damagedError struct {
	file  string
	cause error
}

// errFormat is the cause with an index of an earlier version, which is as good as none.
var errFormat = errors.New("it is not in the format of this version")

func (e *damagedError) Error() string {
	if errors.Is(e.cause, errFormat) {
		return fmt.Sprintf("the index %s is not in the format of this version", e.file)
	}
	return fmt.Sprintf("the index %s is damaged: %v", e.file, e.cause)
}
func (e *damagedError) Unwrap() error { return e.cause }

func isDamaged(err error) bool { return errors.As(err, new(*damagedError)) }

// appendPlace appends the form of a place in the file: its time, the length of the backup's name, the name, the path. Numbers are
// varints as of encoding/binary.
func appendPlace(b []byte, p place) []byte {
	b = binary.AppendVarint(b, p.ModTime.Sec)
	b = binary.AppendUvarint(b, uint64(p.ModTime.Nsec))
	b = binary.AppendUvarint(b, uint64(len(p.Backup)))
	return append(append(b, p.Backup...), p.Path...)
}

func decode(b []byte) (p place, err error) {
	r := bytes.NewReader(b)
	sec, err1 := binary.ReadVarint(r)
	nsec, err2 := binary.ReadUvarint(r)
	length, err3 := binary.ReadUvarint(r)
	if err := errors.Join(err1, err2, err3); err != nil || length > uint64(r.Len()) || nsec >= 1e9 {
		return place{}, errors.New("an entry is malformed")
	}
	rest := b[len(b)-r.Len():]
	return place{
		Backup: string(rest[:length]), Path: string(rest[length:]), ModTime: manifest.Time{Sec: sec, Nsec: int32(nsec)},
	}, nil
}
