package heal

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// readAtOnce is how much is read by one call.
const readAtOnce = 1 << 20

// search is one search for damage.
type search struct {
	ctx      context.Context
	doctor   *doctor
	found    func(Damage)
	progress func(bytes int64)
	buffer   []byte
	sum      Searched
	linked   map[uint64]bool // inodes with several names that were read
}

// FindDamage reads all of a backup, past the caches, and tells what of it cannot be read, with the way in which it can be
// healed. It tells progress, in bytes read.
func (f Folder) FindDamage(ctx context.Context, name string, found func(Damage), progress func(bytes int64)) (Searched, error) {
	if err := f.check(); err != nil {
		return Searched{}, err
	}
	backup, err := openBackup(f.dir, name)
	if err != nil {
		return Searched{}, err
	}
	defer backup.Close()
	d, err := newDoctor(f.dir, name, backup)
	if err != nil {
		return Searched{}, err
	}
	defer d.Close()
	s := &search{ctx: ctx, doctor: d, found: found, progress: progress, buffer: make([]byte, readAtOnce), linked: make(map[uint64]bool)}
	err = s.directory(backup, "")
	return s.sum, err
}

// openBackup opens a subvolume of a folder.
func openBackup(folder *os.File, name string) (*os.File, error) {
	backup, err := btrfs.OpenDirAt(folder, name)
	if err != nil {
		return nil, err
	}
	if err := btrfs.CheckSubvolume(backup); err != nil {
		backup.Close()
		return nil, &fs.PathError{Op: "healing", Path: backup.Name(), Err: err}
	}
	return backup, nil
}

func (s *search) directory(dir *os.File, at string) error {
	entries, err := dir.ReadDir(-1)
	if err := s.metadata(at, err); err != nil {
		return err
	}
	for _, e := range entries {
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		file := path.Join(at, e.Name())
		switch {
		case e.IsDir():
			err = s.below(dir, e.Name(), file)
		case e.Type().IsRegular():
			err = s.regular(dir, e.Name(), file)
		default:
			err = nil
		}
		if err := s.metadata(file, err); err != nil {
			return err
		}
	}
	return nil
}

func (s *search) below(dir *os.File, name, file string) error {
	sub, err := btrfs.OpenDirAt(dir, name)
	if err != nil {
		return err
	}
	defer sub.Close()
	if btrfs.CheckSubvolume(sub) == nil { // no part of the backup
		return nil
	}
	return s.directory(sub, file)
}

// metadata tells an error of the disk as damage, and gives any other one.
func (s *search) metadata(file string, err error) error {
	if !errors.Is(err, unix.EIO) {
		return err
	}
	s.found(Damage{File: file, Metadata: true, Why: metadataDamaged})
	return nil
}

const metadataDamaged = "metadata of the filesystem are damaged, which nobody can put right"

func (s *search) regular(dir *os.File, name, at string) error {
	file, err := openFile(dir, name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Nlink > 1 {
		if s.linked[st.Ino] {
			return nil
		}
		s.linked[st.Ino] = true
	}
	s.sum.Files++
	forget(file)
	for offset := int64(0); offset < st.Size; {
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		if offset = nextData(file, offset, st.Size); offset >= st.Size {
			return nil
		}
		n, err := file.ReadAt(s.buffer[:min(readAtOnce, st.Size-offset)], offset)
		s.sum.Bytes += int64(n)
		s.progress(int64(n))
		offset += int64(n)
		switch {
		case errors.Is(err, io.EOF), err == nil && n == 0:
			return nil
		case errors.Is(err, unix.EIO):
			if offset, err = s.damaged(file, at, offset); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
	return nil
}

// nextData leaves a hole out.
func nextData(file *os.File, offset, size int64) int64 {
	data, err := unix.Seek(int(file.Fd()), offset, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size
	case err != nil: // reading shows why
		return offset
	}
	return max(offset, data)
}

// damaged looks at a place that cannot be read, or not all that follows it at once, and gives where to go on.
func (s *search) damaged(file *os.File, at string, offset int64) (next int64, err error) {
	sector := s.doctor.geometry.Sector
	start := offset - offset%sector
	if n, err := file.ReadAt(s.buffer[:sector], start); err == nil || errors.Is(err, io.EOF) {
		return start + int64(n), nil
	} else if !errors.Is(err, unix.EIO) {
		return 0, err
	}
	d, _, err := s.doctor.diagnose(file, at, start)
	if err != nil {
		return 0, err
	}
	s.found(d)
	return max(d.Offset+d.Length, start+sector), nil
}

// openFile opens a regular file below a directory, following no symbolic link.
func openFile(dir *os.File, name string, flags uint64) (*os.File, error) {
	file, err := btrfs.OpenBeneath(dir, name, flags|unix.O_NOATIME|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, &os.PathError{Op: "open", Path: file.Name(), Err: errors.Join(err, errors.New("not a regular file"))}
	}
	return file, nil
}

// forget lets the next read of a file come from the disk.
func forget(file *os.File) { _ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED) }
