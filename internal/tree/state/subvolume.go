package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// What is known of a received subvolume is bound to its UUID, which no other one gets: neither one of the same name, nor a copy of the
// folder.
const (
	subvolumeEnd = ".subvolume.zst"
	verifiedEnd  = ".verified"
	flagsEnd     = ".flags.zst"
)

// SubvolumeFile says what a received subvolume holds.
func SubvolumeFile(of btrfs.UUID) string { return Manifests + "/" + of.String() + subvolumeEnd }

// VerifiedFile says when a received subvolume was verified, and how.
func VerifiedFile(of btrfs.UUID) string { return Manifests + "/" + of.String() + verifiedEnd }

// FlagsFile says what chattr(1) had set of files in what a received subvolume is a copy of.
func FlagsFile(of btrfs.UUID) string { return Manifests + "/" + of.String() + flagsEnd }

// CreateUnnamed is Create for a file that may take long to write, and that several processes may write at a time, each its own. If they
// are killed nothing is left.
func (s Files) CreateUnnamed(name string) (*Draft, error) {
	if err := s.Make(); err != nil {
		return nil, err
	}
	dir, err := s.dir(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", s.Path(name), err)
	}
	return &Draft{os.NewFile(uintptr(fd), s.Path(name)), s, name, true}, nil
}

// link gives an unnamed draft its temporary name.
func (d *Draft) link() error {
	dir, err := d.files.dir(d.name)
	if err != nil {
		return err
	}
	defer dir.Close()
	temporary := path.Base(d.name) + TemporaryEnd
	if err := unix.Unlinkat(int(dir.Fd()), temporary, 0); err != nil && err != unix.ENOENT {
		return err
	}
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", d.Fd()), int(dir.Fd()), temporary, unix.AT_SYMLINK_FOLLOW)
}

// KnowsSubvolumes tells that something is known of received subvolumes.
func (s Files) KnowsSubvolumes() (bool, error) {
	known := false
	err := s.eachSubvolume(func(string, string) error {
		known = true
		return nil
	})
	return known, err
}

// Verified gives the UUIDs of which there is a VerifiedFile.
func (s Files) Verified() (uuids map[string]bool, err error) {
	uuids = make(map[string]bool)
	names, err := s.Names()
	for _, name := range names {
		if uuid, ok := strings.CutSuffix(name, verifiedEnd); ok {
			uuids[uuid] = true
		}
	}
	return uuids, err
}

// DropSubvolumes removes what is known of received subvolumes that are gone.
func (s Files) DropSubvolumes(isThere func(uuid string) bool) error {
	var failures []error
	err := s.eachSubvolume(func(file, uuid string) error {
		if !isThere(uuid) {
			failures = append(failures, s.Remove(Manifests+"/"+file))
		}
		return nil
	})
	return errors.Join(append(failures, err)...)
}

func (s Files) eachSubvolume(do func(file, uuid string) error) error {
	names, err := s.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		for _, end := range []string{subvolumeEnd, verifiedEnd, flagsEnd} {
			if uuid, ok := strings.CutSuffix(strings.TrimSuffix(name, TemporaryEnd), end); ok {
				if err := do(name, uuid); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// PassOn lets what is known of a received subvolume be known of the one that takes its place, too.
func (s Files) PassOn(from, to btrfs.UUID) error {
	dir, err := s.dir(SubvolumeFile(from))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, end := range []string{subvolumeEnd, verifiedEnd} {
		fd := int(dir.Fd())
		err := unix.Linkat(fd, from.String()+end, fd, to.String()+end, 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keeping what is known of a subvolume in %s: %w", s.Path(Manifests), err)
		}
	}
	return dir.Sync()
}

// Forget removes what is known of a received subvolume.
func (s Files) Forget(of btrfs.UUID) error {
	return errors.Join(s.Remove(SubvolumeFile(of)), s.Remove(VerifiedFile(of)))
}
