package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
)

// The kernel does not record of what subvolume a received snapshot was taken, so a file in the destination folder does. It
// keeps the backups of two sources with the same names apart.
const originsFile = ".btrfs-backup/origins.json"

// Origins reads the record: the source subvolume of each received UUID.
func (d *Destination) Origins(context.Context) (map[btrfs.UUID]btrfs.UUID, error) {
	path := filepath.Join(d.path, originsFile)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var origins map[btrfs.UUID]btrfs.UUID
	if err == nil {
		err = json.Unmarshal(content, &origins)
	}
	if err != nil {
		return nil, engine.Hint(fmt.Errorf("reading %s: %w", path, err), "repair the file or move it away; it tells which source a backup is of")
	}
	return origins, nil
}

// recordOrigin adds a backup to the record and drops those that are gone.
func (d *Destination) recordOrigin(ctx context.Context, name string, origin btrfs.UUID) error {
	origins, err := d.Origins(ctx)
	if err != nil {
		return err
	}
	listing, err := btrfs.List(d.dir)
	if err != nil {
		return err
	}
	here := make(map[btrfs.UUID]btrfs.UUID)
	for _, s := range listing.InDirectory {
		if o, ok := origins[s.ReceivedUUID]; ok {
			here[s.ReceivedUUID] = o
		}
		if s.Name == name {
			here[s.ReceivedUUID] = origin
		}
	}
	if maps.Equal(origins, here) {
		return nil
	}
	content, err := json.MarshalIndent(here, "", "    ")
	if err != nil {
		return err
	}
	path := filepath.Join(d.path, originsFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return replaceFile(path, append(content, '\n'))
}
