package tree

import (
	"fmt"
	"strings"

	"btrfs-backup/btrfs"
)

// What a folder of trees looks like on disk stands in this file, for those too that keep one by other means.

// State files, in StateDir.
const (
	IDFile         = "id"
	UnfinishedFile = "unfinished.json" // Unfinished
	RecordEnd      = ".json"           // of the name of a RecordFile

	manifestsDir = "manifests"
	manifestEnd  = ".zst"
	temporaryEnd = ".tmp" // of a file that is being written
)

// ManifestFile is the state file that says what a backup holds.
func ManifestFile(name string) string { return manifestsDir + "/" + name + manifestEnd }

// RecordFile is the state file with the Record of a backup.
func RecordFile(name string) string { return manifestsDir + "/" + name + RecordEnd }

const deletingEnd = ".deleting"

// Deleting is the hidden name of a backup that is being deleted.
func Deleting(name string) string { return "." + name + deletingEnd }

// DeletingOf gives the name that a backup had before it was deleted, and false for any other name.
func DeletingOf(hidden string) (name string, ok bool) {
	name, ok = strings.CutPrefix(hidden, ".")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, deletingEnd)
}

// Unfinished is what unfinished.json holds: the hidden directories of this package by their names, and nothing else may be
// removed or gone on with under a hidden name. An entry is on disk before its directory is there, and until it is gone.
type Unfinished map[string]UnfinishedEntry

// An UnfinishedEntry tells what is in a hidden directory.
type UnfinishedEntry struct {
	Source string `json:"source,omitempty"` // what is copied, in an unfinished backup
	// Boot is the boot_id of the kernel under which the oldest of the data was written that may not be on disk.
	Boot   string `json:"boot,omitempty"`
	Synced bool   `json:"synced,omitempty"` // all data is on disk
}

// Doubtful tells that what was copied need not have arrived on disk.
func (e UnfinishedEntry) Doubtful(boot string) bool { return !e.Synced && e.Boot != boot }

// CheckName refuses what cannot be the name of a backup.
func CheckName(name string) error {
	_, isIncoming := btrfs.IncomingOf(name)
	_, isDeleting := DeletingOf(name)
	if name == "" || name == "." || name == ".." || name == StateDir || isIncoming || isDeleting ||
		strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot be the name of a backup", name)
	}
	return nil
}
