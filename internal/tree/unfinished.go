package tree

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"btrfs-backup/btrfs"
)

// unfinished reads the list of hidden directories. A damaged one is as none: without a proof, nothing is ours.
func (f *Folder) unfinished() (Unfinished, error) {
	list := make(Unfinished)
	content, err := f.readState(UnfinishedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &list); err != nil || list == nil {
		damaged := &damagedError{f.statePath(UnfinishedFile), fmt.Sprint(err)}
		f.log.Warn(fmt.Sprintf("%v; hidden directories in %s are left alone", damaged, f.dir.Name()))
		return make(Unfinished), nil
	}
	return list, nil
}

func (f *Folder) writeUnfinished(list Unfinished) error {
	content, err := json.MarshalIndent(list, "", "    ")
	if err != nil {
		return err
	}
	return f.writeState(UnfinishedFile, append(content, '\n'))
}

// noteUnfinished puts an entry on disk.
func (f *Folder) noteUnfinished(hidden string, entry UnfinishedEntry) error {
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

// incoming opens the directory that Begin prepared for a backup. Its absence is fs.ErrNotExist.
func (f *Folder) incoming(name string) (*os.File, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	list, err := f.unfinished()
	if err != nil {
		return nil, err
	}
	if _, ours := list[btrfs.Incoming(name)]; !ours {
		return nil, fmt.Errorf("opening what was copied for %s: %w", f.pathOf(name), fs.ErrNotExist)
	}
	return btrfs.OpenDirAt(f.dir, btrfs.Incoming(name))
}

// forget tells that there is no unfinished directory of a backup any more: it was renamed.
func (f *Folder) forget(name string) error { return f.dropUnfinished(btrfs.Incoming(name)) }

// bootID is another one after each start of the kernel.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
