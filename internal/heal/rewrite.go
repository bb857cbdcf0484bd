package heal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// A part of a file is a part of an extent that is to be replaced.
type part struct {
	btrfs.Extent
	subvolume uint64
	inode     uint64
	new       *extent
}

// An extent is to be replaced, by what a file without a name holds.
type extent struct {
	btrfs.Extent
	scratch *os.File
	known   []bool // by sector, uncompressed: what is good in scratch
}

// RewriteExtents replaces the extents of a backup that pieces of good data are for, in all backups on the filesystem that share them.
// The folder must be locked by the caller; others are locked here. Pieces that can be told to be wrong by their checksums are
// ErrWrongSource, and nothing was changed.
//
// A backup is replaced by a snapshot of itself, with the good data, its times and its received UUID. That is made under the hidden name
// of what is received (btrfs.Incoming), takes the name at once, and leaves the old one under the hidden name, which is deleted then:
// whatever is found there beside a complete backup is what a killed run left.
func (f Folder) RewriteExtents(ctx context.Context, name string, pieces []Piece) (done Rewritten, err error) {
	if err := f.check(); err != nil {
		return done, err
	}
	backup, err := openBackup(f.dir, name)
	if err != nil {
		return done, err
	}
	defer backup.Close()
	d, err := newDoctor(f.dir, name, backup)
	if err != nil {
		return done, err
	}
	defer d.Close()
	extents, err := d.extentsOf(pieces)
	defer func() {
		for _, e := range extents {
			e.scratch.Close()
		}
	}()
	if err != nil {
		return done, err
	}
	parts, err := d.fillAll(ctx, extents)
	if err != nil {
		return done, err
	}
	own, err := btrfs.Info(backup)
	if err != nil {
		return done, err
	}
	ids := slices.Sorted(maps.Keys(parts))
	if i := slices.Index(ids, own.ID); i >= 0 { // the named one is the last: while it is damaged, this can be done again
		ids = append(slices.Delete(ids, i, i+1), own.ID)
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		path := d.places.subvolume(id)
		switch why, err := d.replace(ctx, id, parts[id]); {
		case err != nil:
			return done, fmt.Errorf("rewriting extents of %s: %w", path, err)
		case why != "":
			done.Left = append(done.Left, Left{path, why})
		default:
			done.Backups = append(done.Backups, path)
		}
	}
	return done, btrfs.Reclaim(f.dir)
}

// fillAll reads what is not known of extents, and gives the parts that files have of them, by subvolume.
func (d *doctor) fillAll(ctx context.Context, extents map[uint64]*extent) (map[uint64][]part, error) {
	parts := make(map[uint64][]part)
	for _, e := range extents {
		found, err := d.partsOf(e)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			if err := d.fill(ctx, e, p); err != nil {
				return nil, err
			}
			parts[p.subvolume] = append(parts[p.subvolume], p)
		}
		if err := e.scratch.Sync(); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// extentsOf gives the extents that pieces are for, with what these hold.
func (d *doctor) extentsOf(pieces []Piece) (map[uint64]*extent, error) {
	extents := make(map[uint64]*extent)
	for _, p := range pieces {
		file, err := openFile(d.backup, p.File, unix.O_RDONLY)
		if err != nil {
			return extents, err
		}
		err = d.take(extents, file, p)
		file.Close()
		if err != nil {
			return extents, err
		}
	}
	return extents, nil
}

// take puts a piece into the scratch file of its extent.
func (d *doctor) take(extents map[uint64]*extent, file *os.File, p Piece) error {
	found, err := btrfs.Extents(file, p.Offset, 1)
	if err != nil {
		return err
	}
	sector := d.geometry.Sector
	if len(found) != 1 || found[0].Inline || p.Encoded || p.Offset%sector != 0 || len(p.Data) == 0 || p.Offset+int64(len(p.Data)) > found[0].End() {
		return ErrWrongSource
	}
	e := found[0]
	data := make([]byte, (int64(len(p.Data))+sector-1)/sector*sector) // behind the end of a file are zeros
	copy(data, p.Data)
	if e.Compression == btrfs.Uncompressed {
		at, _ := extentOnDisk(e, p.Offset, sector)
		sums, err := d.geometry.Checksums(d.folder, at, int64(len(data)))
		if err != nil {
			return err
		}
		for i, sum := range sums {
			if sum != "" && d.geometry.Sum(data[int64(i)*sector:][:sector]) != sum {
				return ErrWrongSource
			}
		}
	}
	if extents[e.Logical] == nil {
		scratch, err := newScratch(d.folder, e)
		if err != nil {
			return err
		}
		extents[e.Logical] = &extent{e, scratch, make([]bool, (e.RAMLength+sector-1)/sector)}
	}
	return extents[e.Logical].put(data, e.Skip+p.Offset-e.Offset, sector)
}

// newScratch makes a file without a name, which is compressed as an extent is.
func newScratch(folder *os.File, e btrfs.Extent) (*os.File, error) {
	fd, err := unix.Openat(int(folder.Fd()), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "making a temporary file in", Path: folder.Name(), Err: err}
	}
	scratch := os.NewFile(uintptr(fd), folder.Name()+"/(temporary)")
	if e.Compression != btrfs.Uncompressed { // btrfs(5): properties
		err = unix.Fsetxattr(fd, "btrfs.compression", []byte(e.Compression.String()), 0)
	}
	if err = errors.Join(err, scratch.Truncate(e.RAMLength)); err != nil {
		scratch.Close()
		return nil, err
	}
	return scratch, nil
}

// put writes good data into the scratch file.
func (e *extent) put(data []byte, at, sector int64) error {
	if _, err := e.scratch.WriteAt(data, at); err != nil {
		return err
	}
	for i := range int64(len(data)) / sector {
		e.known[at/sector+i] = true
	}
	return nil
}

// partsOf gives what files have of an extent.
func (d *doctor) partsOf(e *extent) (parts []part, err error) {
	owners, err := btrfs.OwnersOfExtent(d.folder, e.Logical)
	if err != nil {
		return nil, err
	}
	type file struct{ subvolume, inode uint64 }
	seen := make(map[file]bool)
	for _, o := range owners {
		f := file{o.Subvolume, o.Inode}
		if seen[f] {
			continue
		}
		seen[f] = true
		extents, err := d.places.roots.FileExtents(f.subvolume, f.inode)
		if errors.Is(err, unix.ENOENT) { // the subvolume was deleted
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, found := range extents {
			if !found.Inline && found.Logical == e.Logical {
				parts = append(parts, part{found, f.subvolume, f.inode, e})
			}
		}
	}
	return parts, nil
}

// fill reads what is not known of an extent, as far as a file gives it.
func (d *doctor) fill(ctx context.Context, e *extent, p part) error {
	sector := d.geometry.Sector
	if p.Unwritten {
		return nil
	}
	var file *os.File
	for at := p.Offset; at < p.End(); at += sector {
		if e.known[(p.Skip+at-p.Offset)/sector] {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if file == nil {
			var err error
			file, err = btrfs.OpenInode(d.folder, p.subvolume, p.inode, unix.O_RDONLY|unix.O_NOATIME, d.places.file(p.subvolume, p.inode))
			if errors.Is(err, unix.ESTALE) { // deleted since
				return nil
			}
			if err != nil {
				return err
			}
			defer file.Close()
			forget(file)
		}
		block := make([]byte, sector)
		if n, err := file.ReadAt(block, at); n == 0 && err != nil {
			continue // damaged there, too, or behind its end
		}
		if err := e.put(block, p.Skip+at-p.Offset, sector); err != nil {
			return err
		}
	}
	return nil
}

// isKnown tells that all of a part is good in the scratch file.
func (p part) isKnown(sector int64) bool {
	if p.Unwritten {
		return true
	}
	known := p.new.known[p.Skip/sector:]
	return !slices.Contains(known[:min(int64(len(known)), (p.Length+sector-1)/sector)], false)
}
