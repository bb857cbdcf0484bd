// Package relink makes a read-only subvolume a received copy again, as which the next increment can build on it. Whoever asks for that has
// compared it with the original, and found it equal.
//
// What is under way stands in a state file of the folder, and the subvolume has a hidden name meanwhile. If the program is killed,
// Finish goes on, or leaves the subvolume as it was.
package relink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/received"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
)

// file is the state file that is there meanwhile.
const file = "relink.json"

// An Order tells of what a backup is a copy.
type Order struct {
	Name     string     `json:"name"`
	UUID     btrfs.UUID `json:"uuid"`     // its own
	ReadIn   uint64     `json:"read_in"`  // the transaction in which the comparison began
	Received btrfs.UUID `json:"received"` // UUID by which copies of the original are known
	SentIn   uint64     `json:"sent_in"`  // the original's transaction, on its filesystem
	Origin   btrfs.UUID `json:"origin"`   // of which the original is a snapshot; none: that is on record, or not known
	Equal    string     `json:"equal_to"` // the original, as people know it
	Digest   string     `json:"digest"`   // of all that was compared
}

// A Folder is an open folder of backups, which is locked.
type Folder struct {
	Dir *os.File
	// Record notes of which source the subvolume of a name is.
	Record func(name string, origin btrfs.UUID) error
	// Unnoted is told what could not be put on record of a backup that is a copy again.
	Unnoted func(error)
}

func (f Folder) state() state.Files { return state.In(f.Dir) }

// relinking is the hidden name of a backup that gets its received UUID back.
func relinking(name string) string { return "." + name + ".relinking" }

var errWrittenMeanwhile = errors.New("it was written to since the comparison began")

// Relink makes the subvolume a copy, unless it was written to since it was read.
func (f Folder) Relink(o Order) error {
	if err := f.relink(o); err != nil {
		return fmt.Errorf("relinking %s: %w", filepath.Join(f.Dir.Name(), o.Name), err)
	}
	return nil
}

func (f Folder) relink(o Order) error {
	if err := f.Finish(); err != nil {
		return err
	}
	if err := f.mustBeAsRead(o); err != nil {
		return err
	}
	content, err := json.MarshalIndent(o, "", "    ")
	if err != nil {
		return err
	}
	if err := f.state().Write(file, append(content, '\n')); err != nil {
		return err
	}
	failpoint.Reach("relink noted")
	if err := btrfs.Rename(f.Dir, o.Name, relinking(o.Name)); err != nil {
		return errors.Join(err, f.state().Remove(file))
	}
	if err := btrfs.SyncFilesystem(f.Dir); err != nil {
		return err
	}
	failpoint.Reach("relink hidden")
	if err := btrfs.SetReadOnly(f.Dir, relinking(o.Name), false); err != nil {
		return errors.Join(err, f.Finish())
	}
	failpoint.Reach("relink writable")
	return f.Finish()
}

// mustBeAsRead fails unless the backup is the one that was compared, and as it was then.
func (f Folder) mustBeAsRead(o Order) error {
	backup, err := btrfs.OpenDirAt(f.Dir, o.Name)
	if err != nil {
		return err
	}
	defer backup.Close()
	info, err := btrfs.Info(backup)
	if err != nil {
		return err
	}
	if info.UUID != o.UUID || !info.ReadOnly {
		return errors.New("it is not the read-only subvolume that was compared any more")
	}
	if err := btrfs.SyncFilesystem(f.Dir); err != nil {
		return err
	}
	written, err := btrfs.WrittenAfter(backup, o.ReadIn)
	if err == nil && written {
		err = errWrittenMeanwhile
	}
	return err
}

// Finish goes on with what is under way in the folder, if there is anything: forward if the backup is as it was compared, else back.
func (f Folder) Finish() error {
	content, err := f.state().Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var o Order
	if err := json.Unmarshal(content, &o); err != nil {
		return hint.New(fmt.Errorf("reading %s: %w", f.state().Path(file), err), "move it away")
	}
	hidden := relinking(o.Name)
	info, err := btrfs.InfoAt(f.Dir, hidden)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.UUID != o.UUID { // not begun, done, or deleted
		return f.state().Remove(file)
	}
	if err != nil {
		return err
	}
	done, err := f.settle(hidden, info, o)
	if err != nil {
		return err
	}
	if done {
		f.note(hidden, o)
	}
	if err := btrfs.Rename(f.Dir, hidden, o.Name); err != nil {
		return err
	}
	if err := btrfs.SyncFilesystem(f.Dir); err != nil {
		return err
	}
	failpoint.Reach("relink renamed")
	if err := f.state().Remove(file); err != nil {
		return err
	}
	if !done {
		return errWrittenMeanwhile
	}
	return nil
}

// settle makes the hidden subvolume read-only, as a copy if nobody wrote to it.
func (f Folder) settle(hidden string, info btrfs.Subvolume, o Order) (done bool, err error) {
	backup, err := btrfs.OpenDirAt(f.Dir, hidden)
	if err != nil {
		return false, err
	}
	defer backup.Close()
	isSet := info.ReadOnly && info.ReceivedUUID == o.Received && info.ReceivedIn > o.ReadIn
	if info.ReadOnly && !isSet { // killed before it was writable
		if err := btrfs.SetReadOnly(f.Dir, hidden, false); err != nil {
			return false, err
		}
	}
	if !isSet {
		if err := btrfs.SetReceivedFrom(backup, o.Received, o.SentIn); err != nil {
			return false, err
		}
		failpoint.Reach("relink received")
		if err := btrfs.SetReadOnly(f.Dir, hidden, true); err != nil {
			return false, err
		}
	}
	if err := btrfs.SyncFilesystem(f.Dir); err != nil {
		return false, err
	}
	failpoint.Reach("relink read-only")
	written, err := btrfs.WrittenAfter(backup, o.ReadIn)
	if err != nil || !written {
		return err == nil, err
	}
	return false, errors.Join(btrfs.SetReadOnly(f.Dir, hidden, false), btrfs.SetReceived(backup, btrfs.UUID{}), btrfs.SetReadOnly(f.Dir, hidden, true))
}

// note notes when a backup was found equal to what, and of which source it is. Without these it is a backup all the same.
func (f Folder) note(hidden string, o Order) {
	err := received.In(f.Dir).Note(o.UUID, received.Verification{At: time.Now().Truncate(time.Second), How: "all", Whole: true, Equal: o.Equal, Digest: o.Digest})
	if !o.Origin.IsZero() {
		err = errors.Join(err, f.Record(hidden, o.Origin))
	}
	if err != nil {
		f.Unnoted(fmt.Errorf("%s is relinked, but not all of it is on record: %w", filepath.Join(f.Dir.Name(), o.Name), err))
	}
}
