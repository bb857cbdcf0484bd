package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/follow"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/walk"

	"golang.org/x/sys/unix"
)

// A partial copy is the directory of a backup that is not complete, under its hidden name: as Begin prepared it, with what was
// copied there since.

// openPartial opens the partial copy of a backup. Its absence is fs.ErrNotExist.
func (f *Folder) openPartial(name string) (*os.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	list, err := f.unfinished()
	if err != nil {
		return nil, err
	}
	if _, ours := list[btrfs.Incoming(name)]; !ours {
		return nil, fmt.Errorf("opening the partial copy for %s: %w", f.pathOf(name), fs.ErrNotExist)
	}
	return btrfs.OpenDirAt(f.dir, btrfs.Incoming(name))
}

// SavePartial puts a partial copy on disk, for a later Begin to resume. It is no error if there is none.
func (f *Folder) SavePartial(_ context.Context, name string) error {
	list, err := f.unfinished()
	if err != nil {
		return err
	}
	hidden := btrfs.Incoming(name)
	entry, ours := list[hidden]
	boot, err := bootID()
	if err != nil || !ours || entry.doubtful(boot) { // what may have been lost before is not found by a sync
		return err
	}
	if err := btrfs.SyncFilesystem(f.dir); err != nil {
		return fmt.Errorf("saving %s: %w", f.pathOf(hidden), err)
	}
	entry.Synced = true
	return f.noteUnfinished(hidden, entry)
}

// discardPartial removes a partial copy. It is no error if there is none.
func (f *Folder) discardPartial(name string) error {
	list, err := f.unfinished()
	if err != nil {
		return err
	}
	hidden := btrfs.Incoming(name)
	if _, ours := list[hidden]; !ours {
		return nil
	}
	err = f.removeHidden(context.Background(), hidden)
	if err == nil {
		err = f.removeRecord(name)
	}
	if err == nil {
		err = f.dropUnfinished(hidden)
	}
	if err != nil {
		return fmt.Errorf("discarding %s: %w", f.pathOf(hidden), err)
	}
	return nil
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// makeRoom removes the partial copies of a source, of which there is nothing that counts as a backup.
func (f *Folder) makeRoom(ctx context.Context, o Origin) (removed bool, err error) {
	list, err := f.unfinished()
	if err != nil {
		return false, err
	}
	for _, hidden := range slices.Sorted(maps.Keys(list)) {
		if _, isIncoming := btrfs.IncomingOf(hidden); !isIncoming || !list[hidden].Same(o) {
			continue
		}
		f.log.Info(fmt.Sprintf("%s left no room, and is removed", f.pathOf(hidden)))
		if err := f.empty(ctx, hidden); err != nil {
			return removed, err
		}
		if err := f.removeHidden(ctx, hidden); err != nil {
			return removed, err
		}
		removed = true
	}
	if !removed {
		return false, nil
	}
	return true, btrfs.SyncFilesystem(f.dir)
}

// empty removes the files in a subvolume. The kernel frees the space of a deleted one at some later time.
func (f *Folder) empty(ctx context.Context, hidden string) error {
	isSubvolume, err := f.isSubvolume(hidden)
	if err != nil || !isSubvolume {
		return err
	}
	if err := btrfs.SetReadOnly(f.dir, hidden, false); err != nil {
		return err
	}
	return walk.RemoveFiles(ctx, f.dir, hidden)
}

// notesFile is where Follow leaves what it read, until the backup is finished. It keeps the name of a draft, which the next Begin
// removes.
func notesFile(name string) string { return state.Manifests + "/" + name + ".notes" }

// Follow reads files of a partial copy while they are copied, and are still in memory, so that Finish need not read them: see
// package follow. It goes on until the context ends, which is no error.
func (f *Folder) Follow(ctx context.Context, name string) error {
	err := f.follow(ctx, name)
	if err != nil {
		err = fmt.Errorf("following the copy of %s: %w", f.pathOf(name), err)
	}
	return err
}

func (f *Folder) follow(ctx context.Context, name string) error {
	root, err := f.openPartial(name)
	if err != nil {
		return err
	}
	defer root.Close()
	notes, err := f.state.Create(notesFile(name))
	if err != nil {
		return err
	}
	defer notes.Close()
	return follow.Copy(ctx, root, notes.File)
}

// notes reads what Follow left; nothing if there is nothing.
func (f *Folder) notes(name string) (follow.Notes, error) {
	file, err := f.state.Open(notesFile(name) + state.TemporaryEnd)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return follow.ReadNotes(file)
}
