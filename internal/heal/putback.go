package heal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"

	"golang.org/x/sys/unix"
)

// PutBlockBack puts a piece of a file of a backup back to its place on every device that does not hold it, if it has the checksums
// that the filesystem expects there; else the error is ErrWrongSource, and nothing was written. It gives the places that were
// written; none, if nothing is damaged.
//
// No extent that a file has is moved but by what Relocating tells of, nor is its place used for anything else before a transaction
// is on disk that began after it was looked up.
func (f Folder) PutBlockBack(_ context.Context, name string, p Piece) (written []Copy, err error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	backup, err := openBackup(f.dir, name)
	if err != nil {
		return nil, err
	}
	defer backup.Close()
	file, err := openFile(backup, p.File, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	forget(file)
	if _, err := file.ReadAt(make([]byte, 1), p.Offset); err == nil { // healed since, with another file that shares it
		return nil, nil
	}
	d, err := newDoctor(f.dir, name, backup)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	found, sectors, err := d.diagnose(file, p.File, p.Offset)
	if err != nil {
		return nil, err
	}
	if found.Way != PutBack {
		return nil, fmt.Errorf("healing %s at %d: %s", file.Name(), p.Offset, found.Why)
	}
	blocks, err := d.split(p, found, sectors)
	if err != nil {
		return nil, err
	}
	for i, s := range sectors {
		for _, c := range s.bad {
			if err := d.put(blocks[i], s, c); err != nil {
				return written, fmt.Errorf("writing the block of %s at %d to %s: %w", file.Name(), p.Offset, c.Device, err)
			}
			written = append(written, Copy{c.Device, c.Physical, d.geometry.Sector})
			failpoint.Reach("heal: a copy of a block is written")
		}
	}
	return written, d.mustRead(file, found, p)
}

// split gives the block of each sector, when all have the right checksum.
func (d *doctor) split(p Piece, found Damage, sectors []sector) ([][]byte, error) {
	size := int(d.geometry.Sector)
	if p.Encoded != (found.Compressed != "") || len(p.Data) > len(sectors)*size {
		return nil, ErrWrongSource
	}
	data := make([]byte, len(sectors)*size) // behind the end of a file are zeros
	copy(data, p.Data)
	var blocks [][]byte
	for i, s := range sectors {
		block := data[i*size:][:size]
		if d.geometry.Sum(block) != s.sum {
			return nil, ErrWrongSource
		}
		blocks = append(blocks, block)
	}
	return blocks, nil
}

// put writes a block to where a damaged copy of it lies, unless it lies somewhere else by now.
func (d *doctor) put(block []byte, s sector, c btrfs.Copy) error {
	if d.geometry.Sum(block) != s.sum {
		return ErrWrongSource
	}
	device, err := d.device(c)
	if err != nil {
		return err
	}
	if err := mustStay(d.folder); err != nil {
		return err
	}
	if err := d.mustLie(s, c); err != nil {
		return err
	}
	if err := device.write(block, c.Physical); err != nil {
		return err
	}
	if err := errors.Join(d.mustLie(s, c), mustStay(d.folder)); err != nil {
		return err
	}
	again, err := device.read(c.Physical, d.geometry.Sector)
	if err == nil && !bytes.Equal(again, block) {
		err = errors.New("the device gives something else back than was written: replace it")
	}
	return err
}

// mustStay refuses while data is being moved.
func mustStay(folder *os.File) error {
	what, err := btrfs.Relocating(folder)
	if err == nil && what != "" {
		err = fmt.Errorf("%w: %s is running", ErrRelocating, what)
	}
	return err
}

// mustLie fails unless a sector lies where it was found, with the checksum that it had.
func (d *doctor) mustLie(s sector, c btrfs.Copy) error {
	chunk, err := btrfs.Locate(d.folder, s.logical)
	if err != nil {
		return err
	}
	sums, err := d.geometry.Checksums(d.folder, s.logical, d.geometry.Sector)
	if err != nil {
		return err
	}
	for _, now := range chunk.At(s.logical) {
		if now == c && sums[0] == s.sum {
			return nil
		}
	}
	return errors.New("the block was moved meanwhile")
}

// mustRead reads what was healed, past the caches.
func (d *doctor) mustRead(file *os.File, found Damage, p Piece) error {
	forget(file)
	again := make([]byte, found.Length)
	n, err := file.ReadAt(again, found.Offset)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return &fs.PathError{Op: "reading what was healed of", Path: file.Name(), Err: err}
	case !p.Encoded && !bytes.Equal(again[:n], p.Data[:min(n, len(p.Data))]):
		return fmt.Errorf("%s holds something else at %d than was written", file.Name(), found.Offset)
	}
	return nil
}

// ReadPiece reads a piece of a file below a directory, of any filesystem: as it is on the disk, if it is to be encoded and is there.
func (f Folder) ReadPiece(_ context.Context, name string, p Piece) (Piece, error) {
	dir, err := btrfs.OpenDirAt(f.dir, name)
	if err != nil {
		return p, err
	}
	defer dir.Close()
	file, err := openFile(dir, p.File, unix.O_RDONLY)
	if err != nil {
		return p, err
	}
	defer file.Close()
	if p.Length > MaxPiece || p.Length < 0 {
		return p, &fs.PathError{Op: "reading", Path: file.Name(), Err: unix.EINVAL}
	}
	if p.Encoded {
		e, err := btrfs.ReadEncoded(int(file.Fd()), p.Offset, make([]byte, btrfs.LargestEncoded))
		if p.Encoded = err == nil && e.Encoding != 0; p.Encoded {
			p.Data = e.Data
			return p, nil
		}
	}
	p.Data = make([]byte, p.Length)
	n, err := file.ReadAt(p.Data, p.Offset)
	if p.Data = p.Data[:n]; err != nil && !errors.Is(err, io.EOF) {
		return p, err
	}
	return p, nil
}
