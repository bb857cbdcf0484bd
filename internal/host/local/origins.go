package local

import (
	"fmt"
	"os"
	"path"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/host"
)

// record notes of what a backup is. A record that cannot be read is left alone: whoever lists the directory is told, and prunes
// nothing. That a backup has an origin on record tells that all of it is.
func (d *Dir) record(name string, of host.Origin) error {
	listing, err := btrfs.List(d.dir)
	if err != nil {
		return err
	}
	origins, err := host.ParseOrigins(d.file(host.OriginsFile))
	if err != nil {
		d.host.log.Debug(fmt.Sprintf("of which source %s is was not recorded: %v", name, host.BadOrigins(d.status.Path, err)))
		return nil
	}
	content, changed, err := origins.Add(name, of.Subvolume, listing)
	if err != nil {
		return err
	}
	state, err := openState(d.dir, true)
	if err != nil {
		return err
	}
	defer state.Close()
	if err := d.describe(state, name, of, listing, content); err != nil {
		return err
	}
	if changed {
		if err := replaceFile(state, path.Base(host.OriginsFile), content); err != nil {
			return err
		}
	}
	return state.Sync()
}

// describe notes what is known of a backup and its source besides. The origins are those that are about to be written; nil if they
// stay.
func (d *Dir) describe(state *os.File, name string, of host.Origin, listing btrfs.Listing, origins []byte) error {
	return d.changeAbout(state, func(about *host.About) error {
		file := host.File{Content: origins}
		if origins == nil {
			file = d.file(host.OriginsFile)
		}
		recorded, err := host.ParseOrigins(file)
		if err != nil {
			return err
		}
		for _, s := range listing.InDirectory {
			if s.Name == name {
				about.Add(s.ReceivedUUID, of, time.Now().UTC().Truncate(time.Second))
			}
		}
		about.Tidy(listing, recorded)
		return nil
	})
}

// changeAbout replaces the record, unless it cannot be read.
func (d *Dir) changeAbout(state *os.File, change func(*host.About) error) error {
	about, err := host.ParseAbout(d.file(host.AboutFile))
	if err != nil {
		d.host.log.Debug(fmt.Sprintf("nothing more was recorded: %v", host.BadAbout(d.status.Path, err)))
		return nil
	}
	if err := change(&about); err != nil {
		return err
	}
	content, err := about.Marshal()
	if err != nil {
		return err
	}
	return replaceFile(state, path.Base(host.AboutFile), content)
}
