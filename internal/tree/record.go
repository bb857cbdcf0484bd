package tree

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
)

// writeRecord puts the record of a backup on disk.
func (f *Folder) writeRecord(r Record) error {
	content, err := json.MarshalIndent(r, "", "    ")
	if err != nil {
		return fmt.Errorf("writing the record of %s: %w", r.Name, err)
	}
	return f.state.Write(state.RecordFile(r.Name), append(content, '\n'))
}

// readRecord reads the record of a backup; a missing one is fs.ErrNotExist. One that is not of this name is a
// damagedError.
func (f *Folder) readRecord(name string) (Record, error) {
	content, err := f.state.Read(state.RecordFile(name))
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(content, &r); err != nil {
		return Record{}, &damagedError{f.state.Path(state.RecordFile(name)), err.Error()}
	}
	if r.Name != name {
		return Record{}, &damagedError{f.state.Path(state.RecordFile(name)), fmt.Sprintf("it describes %q", r.Name)}
	}
	return r, nil
}

// nextSequence gives the Sequence of a backup that is finished now.
func (f *Folder) nextSequence() (int64, error) {
	names, err := f.state.Recorded()
	if err != nil {
		return 0, err
	}
	var highest int64
	for _, name := range names {
		r, err := f.readRecord(name)
		if err != nil && !isDamaged(err) {
			return 0, err
		}
		highest = max(highest, r.Sequence)
	}
	return highest + 1, nil
}

// removeRecord removes the record and the manifest of a backup.
func (f *Folder) removeRecord(name string) error {
	if err := f.state.Remove(state.RecordFile(name)); err != nil {
		return err
	}
	return f.state.Remove(state.ManifestFile(name))
}

// A damagedError tells of a state file that cannot be understood.
type damagedError struct{ file, cause string }

func (e *damagedError) Error() string { return fmt.Sprintf("%s is damaged: %s", e.file, e.cause) }

func isDamaged(err error) bool { return errors.As(err, new(*damagedError)) }
