// Package records writes what is on record of the backups in a folder: of which sources they are, and what is known of both. The caller
// has the folder locked.
package records

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/attributes"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

// A Folder is an open folder of backups.
type Folder struct {
	Dir   *os.File
	Path  string // for messages
	Read  func(name string) host.File
	Write func(name string, content []byte) error // on disk, too
	Log   *slog.Logger
}

// Add notes of what a backup is. A record that cannot be read is left alone: whoever lists the directory is told, and prunes nothing.
// That a backup has an origin on record tells that all of it is. Of how many files attributes are on record may be unknown.
func (f Folder) Add(name string, of host.Origin, attributes *int64) error {
	listing, err := btrfs.List(f.Dir)
	if err != nil {
		return err
	}
	origins, err := host.ParseOrigins(f.Read(host.OriginsFile))
	if err != nil {
		f.Log.Debug(fmt.Sprintf("of which source %s is was not recorded: %v", name, host.BadOrigins(f.Path, err)))
		return nil
	}
	added, changed := origins.Add(name, of.Subvolume, listing)
	if err := f.describe(name, of, attributes, listing, added); err != nil || !changed {
		return err
	}
	return f.writeOrigins(added)
}

func (f Folder) writeOrigins(origins host.Origins) error {
	content, err := origins.Marshal()
	if err != nil {
		return err
	}
	return f.Write(host.OriginsFile, content)
}

func (f Folder) writeAbout(about host.About) error {
	content, err := about.Marshal()
	if err != nil {
		return err
	}
	return f.Write(host.AboutFile, content)
}

// describe notes what is known of a backup and its source besides.
func (f Folder) describe(name string, of host.Origin, attributes *int64, listing btrfs.Listing, origins host.Origins) error {
	about, err := host.ParseAbout(f.Read(host.AboutFile))
	if err != nil {
		f.Log.Debug(fmt.Sprintf("nothing more was recorded: %v", host.BadAbout(f.Path, err)))
		return nil
	}
	for _, s := range listing.InDirectory {
		if s.Name == name {
			about.Add(s.ReceivedUUID, of, attributes, time.Now().UTC().Truncate(time.Second))
		}
	}
	about.Tidy(listing, origins)
	return f.writeAbout(about)
}

// Continue writes what is on record of backups before what is of sources: each alone is true.
func (f Folder) Continue(c host.Continuation) error {
	if c.Source.Subvolume.IsZero() || slices.Contains(c.Older, btrfs.UUID{}) {
		return fmt.Errorf("recording what a source continues in %s: its UUID is not known", f.Path)
	}
	origins, err := host.ParseOrigins(f.Read(host.OriginsFile))
	if err != nil {
		return host.BadOrigins(f.Path, err)
	}
	about, err := host.ParseAbout(f.Read(host.AboutFile))
	if err != nil {
		return host.BadAbout(f.Path, err)
	}
	listing, err := btrfs.List(f.Dir)
	if err != nil {
		return err
	}
	if len(c.Backups) > 0 {
		if origins, err = origins.Claim(c.Backups, c.Source.Subvolume); err != nil {
			return fmt.Errorf("recording what a source continues in %s: %w", f.Path, err)
		}
		if err := f.writeOrigins(origins); err != nil {
			return err
		}
		failpoint.Reach("backups claimed")
	}
	for _, older := range c.Older {
		about.Continue(c, older, origins)
	}
	about.Tidy(listing, origins)
	return f.writeAbout(about)
}

// KeepAttributes puts those of a received subvolume on record, and gives of how many files; nil if that is not known. Without them, it
// is a backup nevertheless.
func (f Folder) KeepAttributes(name string, encoded []byte) *int64 {
	if encoded == nil {
		return nil
	}
	about, err := host.ParseAbout(f.Read(host.AboutFile))
	var files int64
	if err == nil {
		files, err = attributes.In(f.Dir).Keep(name, encoded, about.Attributes)
	}
	if err != nil {
		f.Log.Info(fmt.Sprintf("%s: what chattr set of files in %s is not on record: %v", f.Path, name, err))
		return nil
	}
	return &files
}
