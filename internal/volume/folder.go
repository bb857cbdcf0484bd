// Package volume makes btrfs subvolumes the sources and destinations of the engine, on whatever host they lie.
//
// What the kernel or the btrfs program refuses is translated into errors that say what to do.
package volume

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// Options are common to sources and destinations.
type Options struct {
	Log        *slog.Logger
	Verbose    bool       // tell what is sent, and what btrfs receive tells
	ConvertRW  bool       // make subvolumes writable before deleting them
	Sync       bool       // wait until deleted subvolumes are gone from the disk
	SkipChecks bool       // do not check that directories are on btrfs
	Stock      bool       // receive by the program btrfs receive
	Limit      rate.Limit // bytes per second to a destination; 0: as many as go

	Progress *progress.Display // of transfers; nil if nobody sees it
}

// folder is a directory of subvolumes: the snapshots of a source, or the backups at a destination.
type folder struct {
	host host.Host
	path string      // absolute and clean; symbolic links are kept, since it stands in the ledger
	dir  *host.Dir   // nil: missing
	near host.Status // of the folder or, while that is missing, of the directory above in which it would be made
	Options
}

func (f *folder) String() string { return engine.PlaceName(f.host.String() + f.path) }

// At tells where the folder lies.
func (f *folder) At() engine.Position {
	at := engine.Position{Machine: f.host.String(), Empty: f.near.Empty, DirID: f.near.DirID}
	if f.dir == nil {
		at.Subvolume, at.Inode = 0, 0
	}
	return at
}

// open opens the folder, which must pass check. If it is missing, the nearest directory above it must pass, and the error is
// fs.ErrNotExist.
func (f *folder) open(ctx context.Context, check func(host.Status) error) error {
	dir, err := f.host.Open(ctx, f.path)
	if errors.Is(err, fs.ErrNotExist) {
		var aboveErr error
		if f.near, aboveErr = host.Above(ctx, f.host, f.path); aboveErr == nil {
			aboveErr = check(f.near)
		}
		if aboveErr != nil {
			return engine.Unmakeable(aboveErr)
		}
	}
	if err != nil {
		return err
	}
	if err := check(dir.Status()); err != nil {
		dir.Close()
		return err
	}
	f.dir, f.near = dir, dir.Status()
	return nil
}

// create makes the folder that open found missing, and opens it.
func (f *folder) create(ctx context.Context, check func(host.Status) error) error {
	f.Log.Info("creating folder " + f.String())
	if err := f.host.MkdirAll(ctx, f.path); err != nil {
		return withHint(err, f.lacking(needToWrite))
	}
	return f.open(ctx, check)
}

// Close closes the folder, if it was opened.
func (f *folder) Close() error {
	if f.dir == nil {
		return nil
	}
	return f.dir.Close()
}

func (f *folder) Lock(ctx context.Context, waiting func(*lock.HeldError)) (release func() error, err error) {
	if f.dir == nil { // a missing folder counts as an empty one
		return func() error { return nil }, nil
	}
	return f.dir.Lock(ctx, waiting)
}

func (f *folder) Delete(ctx context.Context, names []string) (deleted []string, err error) {
	deleted, err = f.dir.Delete(ctx, names, host.DeleteOptions{ConvertRW: f.ConvertRW, Wait: f.Sync, Verbose: f.Verbose})
	if errors.Is(err, unix.EROFS) && !f.dir.Status().Privileged {
		// a read-only subvolume that user_subvol_rm_allowed does not cover
		return deleted, hint.New(err, f.lacking(needToDelete))
	}
	return deleted, withHint(err, f.lacking(needToDelete))
}
