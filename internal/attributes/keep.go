package attributes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"

	"golang.org/x/sys/unix"
)

// ErrUnknownBase is the error of an increment to what nothing is known of.
var ErrUnknownBase = errors.New("the attributes of what it builds on are not known")

const recordMagic = "flags 1\n"

// Keep puts on record, on disk too, what a list tells of a subvolume that was received in the folder. Of an increment, inBase must tell
// how many files of its base have flags, and false if that is not known. It gives how many files have flags, which may be none: then
// nothing is written.
func (f Folder) Keep(name string, encoded []byte, inBase func(received btrfs.UUID) (files int64, known bool)) (files int64, err error) {
	l, err := Decode(encoded)
	if err != nil {
		return 0, err
	}
	s, err := f.open(name)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	kept := make(set)
	if l.Since {
		if kept, err = f.fromBase(s, inBase); err != nil {
			return 0, err
		}
	}
	for _, file := range l.Files {
		i, there, err := s.at(file.Path)
		if err != nil {
			return 0, err
		}
		delete(kept, i.Number)
		if there && file.Flags != 0 {
			kept[i.Number] = flagged{i.Generation, file.Flags}
		}
	}
	if len(kept) == 0 {
		return 0, f.state.Remove(state.FlagsFile(s.UUID))
	}
	return int64(len(kept)), f.write(s.UUID, kept)
}

// at finds what a path leads to, by no link.
func (s subvolume) at(path string) (i btrfs.Inode, there bool, err error) {
	f, err := btrfs.OpenUnmounted(s.File, path, unix.O_PATH|unix.O_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV) {
		return i, false, nil
	}
	if err != nil {
		return i, false, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return i, false, os.NewSyscallError("fstat", err)
	}
	return btrfs.InodeIn(s.File, s.ID, st.Ino)
}

// fromBase gives what is on record of the base, as far as it is in s still.
func (f Folder) fromBase(s subvolume, inBase func(btrfs.UUID) (int64, bool)) (set, error) {
	listing, err := btrfs.List(f.dir)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(listing.InDirectory, func(b btrfs.Subvolume) bool { return b.UUID == s.ParentUUID && !s.ParentUUID.IsZero() })
	if at < 0 {
		return nil, ErrUnknownBase
	}
	base := listing.InDirectory[at]
	kept, err := f.recorded(base.UUID)
	if err != nil {
		return nil, err
	}
	if files, known := inBase(base.ReceivedUUID); !known || files != int64(len(kept)) {
		return nil, ErrUnknownBase
	}
	for number, was := range kept {
		i, there, err := btrfs.InodeIn(s.File, s.ID, number)
		if err != nil {
			return nil, err
		}
		if !there || i.Generation != was.generation {
			delete(kept, number)
		}
	}
	return kept, nil
}

// write makes the state directory one that users may list, as what else is in it says of which sources backups are.
func (f Folder) write(uuid btrfs.UUID, kept set) error {
	if err := unix.Mkdirat(int(f.dir.Fd()), state.Dir, 0o755); err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "mkdir", Path: f.state.Path(""), Err: err}
	}
	b := []byte(recordMagic)
	for _, number := range slices.Sorted(maps.Keys(kept)) {
		b = binary.AppendUvarint(b, number)
		b = binary.AppendUvarint(b, kept[number].generation)
		b = binary.AppendUvarint(b, uint64(kept[number].flags))
	}
	content, err := compress(b)
	if err != nil {
		return err
	}
	return f.state.Write(state.FlagsFile(uuid), content)
}

// recorded reads what is on record of a received subvolume: nothing, if there is no record.
func (f Folder) recorded(uuid btrfs.UUID) (set, error) {
	kept := make(set)
	content, err := f.state.Read(state.FlagsFile(uuid))
	if errors.Is(err, fs.ErrNotExist) {
		return kept, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := decompress(content)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", f.state.Path(state.FlagsFile(uuid)), err)
	}
	rest, ok := bytes.CutPrefix(b, []byte(recordMagic))
	r := bytes.NewReader(rest)
	for ok && r.Len() > 0 {
		var n [3]uint64
		for i := range n {
			if n[i], err = binary.ReadUvarint(r); err != nil {
				ok = false
			}
		}
		kept[n[0]] = flagged{n[1], btrfs.Flags(n[2]) & btrfs.KnownFlags}
	}
	if !ok {
		return nil, fmt.Errorf("reading %s: %w", f.state.Path(state.FlagsFile(uuid)), errMalformed)
	}
	return kept, nil
}

// Beside gives the flags of the files of a backup, the root of which is open, by inode, as they are on record in its folder.
func Beside(root *os.File) (map[uint64]btrfs.Flags, error) {
	info, err := btrfs.Info(root)
	if err != nil || !info.ReadOnly || !info.Received() || btrfs.CheckSubvolume(root) != nil {
		return nil, nil // nothing is on record of anything else
	}
	fd, err := unix.Openat(int(root.Fd()), "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	folder := os.NewFile(uintptr(fd), root.Name()+"/..")
	defer folder.Close()
	kept, err := In(folder).recorded(info.UUID)
	if errors.Is(err, fs.ErrPermission) { // of another user
		return nil, nil
	}
	flags := make(map[uint64]btrfs.Flags, len(kept))
	for number, f := range kept {
		flags[number] = f.flags
	}
	return flags, err
}
