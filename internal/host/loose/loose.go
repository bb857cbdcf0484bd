// Package loose takes single files out of backups in a directory of this machine, and writes them beneath one.
package loose

import (
	"context"
	"fmt"
	"os"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

// A Dir is a directory, open as long as it is used.
type Dir struct {
	Root *os.File
	Open Opener // of others on this machine
}

// An Opener opens a directory by its path.
type Opener func(path string) (*os.File, host.Status, error)

var _ host.Loose = Dir{}

// FindFiles tells what paths are in a backup.
func (d Dir) FindFiles(_ context.Context, s files.Selection) ([]files.Found, error) {
	root, err := d.backup(s)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return files.Find(root, s.Paths)
}

func (d Dir) backup(s files.Selection) (*os.File, error) { return btrfs.OpenDirAt(d.Root, s.Backup) }

// PackFiles reads files of a backup.
func (d Dir) PackFiles(ctx context.Context, s files.Selection, total func(int64), take func([]files.Record) error) (files.Packed, error) {
	root, err := d.backup(s)
	if err != nil {
		return files.Packed{}, err
	}
	defer root.Close()
	batches := &files.Batcher{To: take}
	packed, err := files.Pack(ctx, root, s.Paths, batches, total)
	if err == nil {
		err = batches.Flush()
	}
	return packed, err
}

// PlaceFiles tells where an order would write files.
func (d Dir) PlaceFiles(_ context.Context, o files.Order) ([]files.Placed, error) {
	return files.Place(d.Root, o)
}

// UnpackFiles begins to write files beneath the directory, which stays open until the end.
func (d Dir) UnpackFiles(_ context.Context, o files.Order, placed []files.Placed) (host.Unpacking, error) {
	return &unpacking{files.NewUnpacker(d.Root, o, placed)}, nil
}

type unpacking struct{ *files.Unpacker }

func (u *unpacking) Take(ctx context.Context, records []files.Record) error {
	for _, r := range records {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := u.Unpacker.Take(r); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacking) End(_ context.Context, complete bool) (files.Report, error) {
	defer u.Close()
	if !complete {
		return u.Report(), nil
	}
	return u.Finish()
}

// CopyFiles writes files of a backup beneath another directory of this machine.
func (d Dir) CopyFiles(ctx context.Context, s files.Selection, to host.FilesTarget, progress func(done, total int64)) (files.Packed, files.Report, error) {
	root, err := d.backup(s)
	if err != nil {
		return files.Packed{}, files.Report{}, err
	}
	defer root.Close()
	target, status, err := d.Open(to.Directory.Path)
	if err != nil {
		return files.Packed{}, files.Report{}, err
	}
	defer target.Close()
	if status.DirID != to.Directory.DirID {
		return files.Packed{}, files.Report{}, fmt.Errorf("%s is another directory than before: was a filesystem mounted or unmounted?", to.Directory.Path)
	}
	u := files.NewUnpacker(target, to.Order, to.Placed)
	defer u.Close()
	shown := &shownUnpacker{Unpacker: u, progress: progress}
	packed, err := files.Pack(ctx, root, s.Paths, shown, func(bytes int64) { shown.total = bytes })
	if err != nil {
		return packed, u.Report(), err
	}
	report, err := u.Finish()
	return packed, report, err
}

// shownUnpacker tells how far it is.
type shownUnpacker struct {
	*files.Unpacker
	progress    func(done, total int64)
	done, total int64
}

func (s *shownUnpacker) Take(r files.Record) error {
	if len(r.Content) > 0 {
		s.add(int64(len(r.Content)))
	}
	return s.Unpacker.Take(r)
}

func (s *shownUnpacker) Share(from *os.File) (done bool, err error) {
	if done, err = s.Unpacker.Share(from); done {
		if info, statErr := from.Stat(); statErr == nil {
			s.add(info.Size())
		}
	}
	return done, err
}

func (s *shownUnpacker) add(bytes int64) {
	s.done += bytes
	if s.progress != nil {
		s.progress(s.done, s.total)
	}
}
