package host

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// The kernel does not record of what subvolume a received snapshot was taken, so a file in the directory does. It keeps the
// backups of two sources with the same names apart.
const OriginsFile = tree.StateDir + "/origins.json"

// Origins gives the source subvolume of each received UUID.
type Origins map[btrfs.UUID]btrfs.UUID

// ParseOrigins reads the record; without the file it is empty.
func ParseOrigins(f File) (Origins, error) {
	content, err := f.Read()
	if content == nil || err != nil {
		return nil, err
	}
	var o Origins
	err = json.Unmarshal(content, &o)
	return o, err
}

// Add gives the record with the backup name in it, and without those that are gone. changed is false if it is the same.
func (o Origins) Add(name string, origin btrfs.UUID, listing btrfs.Listing) (here Origins, changed bool) {
	here = make(Origins)
	copies := make(map[btrfs.UUID]int)
	var added btrfs.UUID
	for _, s := range listing.InDirectory {
		copies[s.ReceivedUUID]++
		if from, ok := o[s.ReceivedUUID]; ok {
			here[s.ReceivedUUID] = from
		}
		if s.Name == name {
			added = s.ReceivedUUID
		}
	}
	if copies[added] > 0 {
		if from, ok := here[added]; ok && from != origin && copies[added] > 1 {
			origin = btrfs.UUID{} // which of them it is the source of cannot be told
		}
		here[added] = origin
	}
	return here, !maps.Equal(o, here)
}

// Marshal gives what the file holds.
func (o Origins) Marshal() ([]byte, error) {
	content, err := json.MarshalIndent(o, "", "    ")
	return append(content, '\n'), err
}

// Claim gives the record with backups, of received UUIDs, as those of a source. What is on record as another source's is refused.
func (o Origins) Claim(backups []btrfs.UUID, source btrfs.UUID) (Origins, error) {
	claimed := make(Origins)
	maps.Copy(claimed, o)
	for _, received := range backups {
		if of := o[received]; received.IsZero() || !of.IsZero() && of != source {
			return nil, fmt.Errorf("backup of %s: it is on record as another source's", received)
		}
		claimed[received] = source
	}
	return claimed, nil
}

// BadOrigins explains why the record of a directory cannot be read.
func BadOrigins(dir string, err error) error {
	return hint.New(&os.PathError{Op: "reading", Path: dir + "/" + OriginsFile, Err: err},
		"repair the file or move it away; it tells which source a backup is of, and until then nothing is deleted there")
}
