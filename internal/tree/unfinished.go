package tree

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
)

// unfinished is what unfinished.json holds: the hidden directories of this package by their names, and nothing else may be
// removed or resumed under a hidden name. An entry is on disk before its directory is there, and until it is gone.
type unfinished map[string]unfinishedEntry

// An unfinishedEntry describes a hidden directory.
type unfinishedEntry struct {
	Origin // of which it is a partial copy; none for a deletion
	// Boot is the boot_id of the kernel under which the oldest of the data was written that may not be on disk.
	Boot   string `json:"boot,omitempty"`
	Synced bool   `json:"synced,omitempty"` // all data is on disk
}

// doubtful tells that copied data need not have arrived on disk.
func (e unfinishedEntry) doubtful(boot string) bool { return !e.Synced && e.Boot != boot }

// unfinished reads the list of hidden directories. A damaged one is as none: without a proof, nothing is ours.
func (f *Folder) unfinished() (unfinished, error) {
	list := make(unfinished)
	content, err := f.state.Read(state.UnfinishedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &list); err != nil || list == nil {
		damaged := &damagedError{f.state.Path(state.UnfinishedFile), fmt.Sprint(err)}
		f.log.Warn(fmt.Sprintf("%v; hidden directories in %s are left alone", damaged, f.dir.Name()))
		return make(unfinished), nil
	}
	return list, nil
}

func (f *Folder) writeUnfinished(list unfinished) error {
	content, err := json.MarshalIndent(list, "", "    ")
	if err != nil {
		return err
	}
	return f.state.Write(state.UnfinishedFile, append(content, '\n'))
}

// noteUnfinished puts an entry on disk.
func (f *Folder) noteUnfinished(hidden string, entry unfinishedEntry) error {
	list, err := f.unfinished()
	if err != nil {
		return err
	}
	list[hidden] = entry
	return f.writeUnfinished(list)
}

// dropUnfinished removes an entry.
func (f *Folder) dropUnfinished(hidden string) error {
	list, err := f.unfinished()
	if err != nil {
		return err
	}
	if _, ok := list[hidden]; !ok {
		return nil
	}
	delete(list, hidden)
	return f.writeUnfinished(list)
}

// bootID is another one after each start of the kernel.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
