package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/grow"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/survey"
)

const (
	// maxIncomplete is how many messages about missing files a record holds.
	maxIncomplete = 1000
	// minGone is how many files of the base must be gone for a refusal.
	minGone = 100
)

func (e *TooManyGoneError) Error() string {
	return fmt.Sprintf("%d of the %d files in %s are missing in the source, more than %d %%", e.Gone, e.Had, e.Base, e.Percent)
}

// Hint tells what to do.
func (e *TooManyGoneError) Hint() string {
	return "check the source; --max-delete 100 makes the backup anyway"
}

// A making is the way from a directory of copied files to a backup.
type making struct {
	*Folder
	Result
	root      *os.File
	subvolume bool
	progress  func(bytes int64) // is called by one goroutine at a time
	record    Record
}

// Finish makes a backup of a partial copy to which all was copied: puts it on disk with its manifest and its record, and gives it its
// name. progress is told of bytes as they are read, by one goroutine at a time; it may be nil.
//
// After a TooManyGoneError or ErrUnchanged everything is as it was before Begin. After another error, the partial copy is left for a
// later Begin to resume.
func (f *Folder) Finish(ctx context.Context, r Result, progress func(bytes int64)) (Record, error) {
	b := making{Folder: f, Result: r, progress: oneAtATime(progress)}
	if err := b.make(ctx); err != nil {
		return Record{}, fmt.Errorf("finishing %s: %w", f.pathOf(r.Name), err)
	}
	return b.record, nil
}

func oneAtATime(progress func(bytes int64)) func(bytes int64) {
	if progress == nil {
		return func(int64) {}
	}
	var mu sync.Mutex
	return func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		progress(n)
	}
}

func (b *making) make(ctx context.Context) (err error) {
	if b.root, err = b.openPartial(b.Name); err != nil {
		return err
	}
	defer b.root.Close()
	// From here on, writing would replace the record of a backup of that name.
	if err := b.checkFree(b.Name); err != nil {
		return err
	}
	b.record = Record{Name: b.Name, Origin: b.Origin, Version: b.Of, Started: b.Started, Base: b.Base,
		Incomplete: slices.Clip(b.Incomplete[:min(len(b.Incomplete), maxIncomplete)]), Missing: max(b.Missing, len(b.Incomplete))}
	if err := b.identify(); err != nil {
		return err
	}
	if err := b.describe(ctx); err != nil {
		return err
	}
	b.record.Finished = time.Now()
	if b.record.Sequence, err = b.nextSequence(); err != nil {
		return err
	}
	if err := b.writeRecord(b.record); err != nil {
		return err
	}
	if err := b.name(); err != nil {
		return err
	}
	err = errors.Join(b.dropUnfinished(btrfs.Incoming(b.Name)), b.dropFull(ctx), b.endContinuation(b.Origin),
		b.state.Remove(notesFile(b.Name)+state.TemporaryEnd), grow.Forget(b.dir, b.Name))
	if err != nil { // the next Begin will see that there is nothing under the hidden name
		b.log.Warn(err.Error())
	}
	return nil
}

// identify notes the UUID of a subvolume.
func (b *making) identify() (err error) {
	if b.subvolume, err = b.onBtrfs(); err != nil || !b.subvolume {
		return err
	}
	if err := btrfs.CheckSubvolume(b.root); err != nil {
		return err
	}
	info, err := btrfs.Info(b.root)
	b.record.Subvolume = info.UUID.String()
	return err
}

// guard discards the partial copy if too many files of the base are gone.
func (b *making) guard(found survey.Findings) error {
	refusal := CheckGone(b.Base, found.Gone, found.Had, b.MaxDelete)
	if refusal == nil {
		return nil
	}
	return errors.Join(refusal, b.discardPartial(b.Name))
}

// CheckGone gives a TooManyGoneError if too many of the files that a base had are gone.
func CheckGone(base string, gone, had int64, maxDelete int) error {
	if gone < minGone || gone*100 <= had*int64(maxDelete) {
		return nil
	}
	return &TooManyGoneError{Base: base, Gone: gone, Had: had, Percent: maxDelete}
}

// checkChanged discards the partial copy if it equals the base.
func (b *making) checkChanged(found survey.Findings) error {
	if !b.OnlyChanges || found.Changed {
		return nil
	}
	ours, err := b.hasBaseOf(b.Base, b.Origin, b.record.Complete())
	if err != nil || !ours {
		return err
	}
	return errors.Join(ErrUnchanged, b.discardPartial(b.Name))
}

// name gives the backup its name, when all of it is on disk.
func (b *making) name() error {
	if err := btrfs.SyncFilesystem(b.dir); err != nil {
		return err
	}
	failpoint.Reach("synced")
	hidden := btrfs.Incoming(b.Name)
	if b.subvolume {
		if err := errors.Join(btrfs.SetFilled(b.root), btrfs.SetReadOnly(b.dir, hidden, true)); err != nil {
			return err
		}
		failpoint.Reach("read-only")
	}
	err := b.rename(hidden, b.Name)
	if errors.Is(err, fs.ErrExist) { // what took the name just now is not what the record tells of
		err = errors.Join(err, b.removeRecord(b.Name))
	}
	return err
}
