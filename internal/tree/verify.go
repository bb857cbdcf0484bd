package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/received"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/verify"

	"golang.org/x/sys/unix"
)

// Verify compares a backup with its manifest; see verify.Tree. A backup without a manifest is ErrNoManifest. The name may be that of
// a link to a backup, such as .latest.
func (f *Folder) Verify(ctx context.Context, name string, o VerifyOptions, found func(Difference), progress func(read, total int64)) (Verified, error) {
	v, err := f.verify(ctx, name, o, found, progress)
	if err != nil {
		return v, fmt.Errorf("verifying %s: %w", f.pathOf(name), err)
	}
	return v, nil
}

func (f *Folder) verify(ctx context.Context, name string, o VerifyOptions, found func(Difference), progress func(read, total int64)) (v Verified, err error) {
	if name, err = f.Resolve(name); err != nil {
		return v, err
	}
	root, err := btrfs.OpenDirAt(f.dir, name)
	if err != nil {
		return v, err
	}
	defer root.Close()
	info, isReceived, err := f.received(name, root)
	if err != nil {
		return v, err
	}
	if isReceived {
		o.ReadAlso()
		return received.In(f.dir).Verify(ctx, root, info, o, found, progress)
	}
	file, err := f.openManifest(state.ManifestFile(name))
	if err != nil {
		return v, err
	}
	defer file.Close()
	if o.Only = nil; o.Since != "" {
		if o.Only, err = f.unshared(ctx, name, root, o.Since); err != nil {
			return v, err
		}
		o.ReadAlso()
	}
	v, err = verify.Tree(ctx, root, file, o, found, progress)
	if o.Only != nil {
		v.Since = o.Since
	}
	return v, err
}

// unshared gives the files of a backup whose contents another one does not have in the same place on disk; nil: that cannot be told.
func (f *Folder) unshared(ctx context.Context, name string, root *os.File, since string) (map[string]struct{}, error) {
	var files [2]*os.File
	for i, name := range []string{name, since} {
		file, err := f.openManifest(state.ManifestFile(name))
		if errors.Is(err, ErrNoManifest) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		defer file.Close()
		files[i] = file
	}
	other, err := btrfs.OpenDirAt(f.dir, since)
	if err != nil {
		return nil, err
	}
	defer other.Close()
	if err := btrfs.SyncFilesystem(f.dir); err != nil { // or extents that are new are not seen
		return nil, err
	}
	return verify.Unshared(ctx, files[0], files[1], func(path string) bool { return inSamePlace(path, root, other) })
}

// inSamePlace tells that what both trees have under a path is one file, or, on btrfs, lies in the same extents.
func inSamePlace(path string, trees ...*os.File) bool {
	var stats [2]unix.Stat_t
	var extents [2][]btrfs.Extent
	for i, tree := range trees {
		file, err := btrfs.OpenUnmounted(tree, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME)
		if err != nil {
			return false
		}
		defer file.Close()
		if unix.Fstat(int(file.Fd()), &stats[i]) != nil {
			return false
		}
		extents[i], _ = btrfs.Extents(file, 0, max(stats[i].Size, 1)) // elsewhere than on btrfs there are none
	}
	inline := func(e btrfs.Extent) bool { return e.Inline }
	isSame := stats[0].Dev == stats[1].Dev && stats[0].Ino == stats[1].Ino
	return isSame || len(extents[0]) > 0 && slices.Equal(extents[0], extents[1]) && !slices.ContainsFunc(extents[0], inline)
}

// received tells that an entry is a subvolume that came by a stream, or a snapshot: something else than what has a record.
func (f *Folder) received(name string, root *os.File) (info btrfs.Subvolume, is bool, err error) {
	if info, err = subvolume(root); err != nil || info.UUID.IsZero() {
		return info, false, err
	}
	if !info.ReceivedUUID.IsZero() {
		return info, true, nil
	}
	record, err := f.readRecord(name)
	if err == nil {
		return info, record.Subvolume != info.UUID.String(), nil
	}
	file, err := f.openManifest(state.ManifestFile(name))
	if err == nil {
		return info, false, file.Close()
	}
	return info, errors.Is(err, ErrNoManifest), nil
}

// Export writes a list of the regular files of a backup with their SHA-256, as on record in its manifest. "sha256sum --check",
// run in the backup, reads it. With an error, the list is incomplete.
func (f *Folder) Export(ctx context.Context, name string, w io.Writer) error {
	if err := f.export(ctx, name, w); err != nil {
		return fmt.Errorf("exporting the checksums of %s: %w", f.pathOf(name), err)
	}
	return nil
}

func (f *Folder) export(ctx context.Context, name string, w io.Writer) (err error) {
	if name, err = f.Resolve(name); err != nil {
		return err
	}
	root, err := btrfs.OpenDirAt(f.dir, name)
	if err != nil {
		return err
	}
	defer root.Close()
	info, isReceived, err := f.received(name, root)
	if err != nil {
		return err
	}
	manifest := state.ManifestFile(name)
	if isReceived {
		manifest = state.SubvolumeFile(info.UUID)
	}
	file, err := f.openManifest(manifest)
	if errors.Is(err, ErrNoManifest) && isReceived {
		err = hint.New(err, "`btrfs-backup verify BACKUP` makes one")
	}
	if err != nil {
		return err
	}
	defer file.Close()
	return verify.Export(ctx, root, file, w)
}

// openManifest opens a manifest. Its absence is ErrNoManifest.
func (f *Folder) openManifest(manifest string) (*os.File, error) {
	file, err := f.state.Open(manifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoManifest
	}
	return file, err
}

// Resolve gives the name of a backup, which a link in the folder may point to.
func (f *Folder) Resolve(name string) (string, error) {
	if !strings.Contains(name, "/") {
		target := make([]byte, unix.PathMax)
		if n, err := unix.Readlinkat(int(f.dir.Fd()), name, target); err == nil {
			name = string(target[:n])
		}
	}
	return name, checkName(name)
}

// CopyManifest writes the manifest of a backup as it is on the disk: that of a copy, or of the received subvolume of that UUID. Its
// absence is ErrNoManifest.
func (f *Folder) CopyManifest(name string, received btrfs.UUID, w io.Writer) error {
	if err := checkName(name); err != nil {
		return err
	}
	file, err := f.openManifest(state.ManifestFile(name))
	if errors.Is(err, ErrNoManifest) && !received.IsZero() {
		file, err = f.openManifest(state.SubvolumeFile(received))
	}
	if err != nil {
		return fmt.Errorf("reading the manifest of %s: %w", f.pathOf(name), err)
	}
	defer file.Close()
	_, err = io.Copy(w, file)
	return err
}
