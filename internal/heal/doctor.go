package heal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"

	"golang.org/x/sys/unix"
)

// A doctor knows the filesystem of a backup.
type doctor struct {
	folder   *os.File
	name     string // of the backup
	backup   *os.File
	geometry btrfs.Geometry
	places   places
	devices  map[btrfs.UUID]*device
}

func newDoctor(folder *os.File, name string, backup *os.File) (*doctor, error) {
	g, err := btrfs.ReadGeometry(folder)
	if err != nil {
		return nil, err
	}
	p, err := newPlaces(folder)
	return &doctor{folder, name, backup, g, p, make(map[btrfs.UUID]*device)}, err
}

// Close closes the devices.
func (d *doctor) Close() {
	for _, device := range d.devices {
		device.Close()
	}
}

// A sector is what a device should hold at the places of its copies.
type sector struct {
	logical uint64
	sum     string
	bad     []btrfs.Copy
}

// diagnose tells what is wrong with a place of a file that cannot be read, and what of the disk that is.
func (d *doctor) diagnose(file *os.File, at string, offset int64) (Damage, []sector, error) {
	found := Damage{File: at, Offset: offset, Length: d.geometry.Sector}
	extents, err := btrfs.Extents(file, offset, 1)
	switch {
	case errors.Is(err, unix.EIO), err == nil && len(extents) == 1 && extents[0].Inline:
		found.Metadata, found.Why = true, metadataDamaged
		return found, nil, nil
	case err != nil:
		return found, nil, err
	case len(extents) == 0 || extents[0].Unwritten:
		found.Why = "it holds no data, which should be readable: is the disk about to fail?"
		return found, nil, nil
	}
	e := extents[0]
	logical, length := extentOnDisk(e, offset, d.geometry.Sector)
	if e.Compression != btrfs.Uncompressed {
		found.Compressed, found.Offset, found.Length = e.Compression.String(), e.Offset, e.Length
	}
	if info, err := file.Stat(); err == nil {
		found.Length = min(found.Length, max(1, info.Size()-found.Offset))
	}
	if found.Shared, err = d.places.sharers(file, offset); err != nil {
		return found, nil, err
	}
	sectors, err := d.look(&found, logical, length)
	return found, sectors, err
}

// extentOnDisk gives where what lies at an offset of a file is on the disk: a sector, or all of a compressed extent.
func extentOnDisk(e btrfs.Extent, offset, sector int64) (logical uint64, length int64) {
	if e.Compression != btrfs.Uncompressed {
		return e.Logical, e.DiskLength
	}
	return e.Logical + uint64(e.Skip+offset-e.Offset), sector
}

// look compares what the devices hold with the checksums, and finds the way to heal it.
func (d *doctor) look(found *Damage, logical uint64, length int64) ([]sector, error) {
	sums, err := d.geometry.Checksums(d.folder, logical, length)
	if err != nil {
		return nil, err
	}
	if slices.Contains(sums, "") {
		found.Why = "it has no checksum, so that nobody can tell what would be good"
		return nil, nil
	}
	found.Way = PutBack
	chunk, err := btrfs.Locate(d.folder, logical)
	if errors.Is(err, btrfs.ErrUnsupported) {
		found.Way, found.Why = Rewrite, err.Error()
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var sectors []sector
	for i, sum := range sums {
		s := sector{logical: logical + uint64(int64(i)*d.geometry.Sector), sum: sum}
		for _, c := range chunk.At(s.logical) {
			if c.Device == "" { // missing: what replaces it gets a copy of what the others hold
				continue
			}
			if d.isGood(c, sum) {
				continue
			}
			s.bad = append(s.bad, c)
			found.Copies = append(found.Copies, Copy{c.Device, c.Physical, d.geometry.Sector})
			if _, err := d.device(c); err != nil {
				found.Way, found.Why = Rewrite, err.Error()
			}
		}
		sectors = append(sectors, s)
	}
	if len(found.Copies) == 0 {
		found.Way, found.Why = Rewrite, "what the devices hold has the right checksums, but it cannot be read"
	}
	return sectors, nil
}

// isGood tells that a device holds what it should.
func (d *doctor) isGood(c btrfs.Copy, sum string) bool {
	device, err := d.device(c)
	if device == nil || err != nil && !errors.Is(err, ErrNoDeviceWrite) {
		return false
	}
	block, err := device.read(c.Physical, d.geometry.Sector)
	return err == nil && d.geometry.Sum(block) == sum
}

// places finds the paths under which what lies on a filesystem is seen.
type places struct {
	roots  btrfs.Roots
	inside string // path of a directory from the top level
	seen   string // and where that is mounted
}

func newPlaces(folder *os.File) (places, error) {
	roots, err := btrfs.ReadRoots(folder)
	if err != nil {
		return places{}, err
	}
	inside, err := btrfs.Path(folder)
	if err != nil {
		return places{}, err
	}
	p := places{roots, "/" + strings.Trim(inside, "/"), filepath.Clean(folder.Name())}
	for p.inside != "/" && filepath.Base(p.inside) == filepath.Base(p.seen) {
		p.inside, p.seen = filepath.Dir(p.inside), filepath.Dir(p.seen)
	}
	return p, nil
}

// path gives the path of what lies at a path from the top level.
func (p places) path(fromTop string) string {
	full := "/" + strings.Trim(fromTop, "/")
	if rest, ok := strings.CutPrefix(full, strings.TrimSuffix(p.inside, "/")+"/"); ok || full == p.inside {
		return filepath.Join(p.seen, rest)
	}
	return fmt.Sprintf("%s (not mounted here)", strings.TrimPrefix(full, "/"))
}

// subvolume gives the path of a subvolume.
func (p places) subvolume(id uint64) string {
	path, err := p.roots.Path(id)
	if err != nil {
		return fmt.Sprintf("subvolume %d", id)
	}
	return p.path(path)
}

// file gives a path of a file or directory of a subvolume.
func (p places) file(subvolume, inode uint64) string {
	path, err := p.roots.FilePath(subvolume, inode)
	if err != nil {
		path = fmt.Sprintf("inode %d", inode)
	}
	return filepath.Join(p.subvolume(subvolume), path)
}

// sharers gives the paths of the other files that have the block at an offset of a file.
func (p places) sharers(file *os.File, offset int64) (paths []string, err error) {
	sharers, err := btrfs.Sharers(file, offset)
	if err != nil {
		return nil, err
	}
	for _, s := range sharers {
		paths = append(paths, p.path(s.Subvolume+"/"+s.File))
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}
