package host

import (
	"encoding/json"
	"os"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// AboutFile tells what is known of sources and backups besides OriginsFile, which earlier versions of this program read, too.
const AboutFile = tree.StateDir + "/about.json"

// mostName is how long the name of a source may be: what a client says of itself is not trusted.
const mostName = 4 << 10

// An Origin tells of what a backup is, and what it took to make it. The source's UUID alone must be known.
type Origin struct {
	Subvolume   btrfs.UUID // of which the backup is
	tree.Origin            // the same as people know it; text of whoever sent the backup
	Sent        int64      // bytes of the stream
	Wire        int64      // of them, or of what they became, bytes that crossed a network
	Base        btrfs.UUID // received UUID of what the stream builds on; none: a complete copy
	// Attributes are those of files that no stream holds, see attributes.List; nil if they are not known.
	Attributes []byte
	// Untrusted is whoever tells this: he names a source that has no name yet, but renames none.
	Untrusted bool `cbor:"-"`
	// Via names the folder of backups from which it was sent on, as people know it; "" if the source itself was.
	Via string `cbor:"-"`
}

// About is what is known of sources, by the UUIDs of their subvolumes, and of backups, by their received UUIDs.
type About struct {
	Sources map[btrfs.UUID]AboutSource `json:"sources,omitempty"`
	Backups map[btrfs.UUID]AboutBackup `json:"backups,omitempty"`
}

// AboutSource is what is known of a source.
type AboutSource struct {
	tree.Origin
	Continues btrfs.UUID `json:"continues,omitzero"` // the source that it was before
	// MayLive tells that this one may live, too: it was restored to another place. So it counts as the same once there is a backup of
	// the new one, and its newest backup stays.
	MayLive bool         `json:"may_live,omitempty"`
	Apart   []btrfs.UUID `json:"apart,omitempty"` // sources that began with its history, while it lives
}

// AboutBackup is what is known of a backup.
type AboutBackup struct {
	Sent int64      `json:"sent,omitempty"` // bytes of its stream
	Wire int64      `json:"wire,omitempty"` // bytes that crossed a network
	When time.Time  `json:"when,omitzero"`  // it was complete, by the clock of the machine that it is on
	Base btrfs.UUID `json:"base,omitzero"`  // received UUID of what its stream built on
	// Attributes is how many files have attributes that no stream holds, which are on record beside; nil if that is not known.
	Attributes *int64 `json:"attributes,omitempty"`
}

// ParseAbout reads the record; without the file it is empty.
func ParseAbout(f File) (a About, err error) {
	content, err := f.Read()
	if content == nil || err != nil {
		return a, err
	}
	err = json.Unmarshal(content, &a)
	return a, err
}

// BadAbout explains why the record of a directory cannot be read.
func BadAbout(dir string, err error) error {
	return hint.New(&os.PathError{Op: "reading", Path: dir + "/" + AboutFile, Err: err},
		"repair the file or move it away; it tells which sources are one, and until then nothing is deleted there")
}

// Marshal gives what the file holds.
func (a About) Marshal() ([]byte, error) {
	content, err := json.MarshalIndent(a, "", "    ")
	return append(content, '\n'), err
}

// Recorded gives what is on record of the content of a directory: the source of each received UUID, as which a later source that
// continues it counts, and the rest. The error explains itself; without About, it is BadAbout's.
func (c Content) Recorded(dir string) (Origins, About, error) {
	origins, about, err := c.RecordedOwn(dir)
	return about.Resolve(origins), about, err
}

// RecordedOwn is Recorded, but each source is the one that the backup was made of.
func (c Content) RecordedOwn(dir string) (Origins, About, error) {
	origins, err := ParseOrigins(c.Origins)
	if err != nil {
		return nil, About{}, BadOrigins(dir, err)
	}
	about, err := ParseAbout(c.About)
	if err != nil {
		return origins, About{}, BadAbout(dir, err)
	}
	return origins, about, nil
}

// Resolve gives the origins with each source as the newest that continues it.
func (a About) Resolve(origins Origins) Origins {
	later := a.later(origins)
	if origins == nil || len(later) == 0 {
		return origins
	}
	resolved := make(Origins, len(origins))
	for received, source := range origins {
		resolved[received] = newest(later, source)
	}
	return resolved
}

// Newest gives the newest source that continues one: itself, if none does.
func (a About) Newest(source btrfs.UUID, origins Origins) btrfs.UUID {
	return newest(a.later(origins), source)
}

// later gives for each source that another one continues that other one, unless several do: which of these is it cannot be told. What
// was restored to another place may be for a look only: it counts once there is a backup of it, or of what continues it.
func (a About) later(origins Origins) map[btrfs.UUID]btrfs.UUID {
	used := make(map[btrfs.UUID]bool)
	for _, source := range origins {
		for range a.Sources {
			used[source] = true
			if source = a.Sources[source].Continues; source.IsZero() || used[source] {
				break
			}
		}
	}
	later, several := make(map[btrfs.UUID]btrfs.UUID), make(map[btrfs.UUID]bool)
	for source, about := range a.Sources {
		if about.Continues.IsZero() || about.MayLive && !used[source] {
			continue
		}
		_, twice := later[about.Continues]
		several[about.Continues] = twice || several[about.Continues]
		later[about.Continues] = source
	}
	for source, is := range several {
		if is {
			delete(later, source)
		}
	}
	return later
}

// newest follows the links to their end. In a circle, which this program does not make, each stays what it is.
func newest(later map[btrfs.UUID]btrfs.UUID, source btrfs.UUID) btrfs.UUID {
	at := source
	for range len(later) {
		next, ok := later[at]
		if !ok {
			return at
		}
		at = next
	}
	if _, on := later[at]; on {
		return source
	}
	return at
}

// Sent gives how many bytes the stream of a backup had, by its received UUID; 0 if that is not known.
func (a About) Sent(received btrfs.UUID) int64 { return a.Backups[received].Sent }

// Attributes gives how many files of a backup, by its received UUID, have attributes that no stream holds. Those are on record.
func (a About) Attributes(received btrfs.UUID) (files int64, known bool) {
	if n := a.Backups[received].Attributes; n != nil {
		return *n, true
	}
	return 0, false
}

// Name gives a source as people know it; "" if that is not known. It is text of whoever sent the backups.
func (a About) Name(source btrfs.UUID) string { return a.Sources[source].Source }

// Add notes a backup, of a received UUID, that is made just now. A source that is backed up again is nobody's past. Of how many files
// attributes are on record may be unknown.
func (a *About) Add(received btrfs.UUID, of Origin, attributes *int64, now time.Time) {
	if a.Backups == nil {
		a.Backups = make(map[btrfs.UUID]AboutBackup)
	}
	_, there := a.Backups[received]
	if there && of.Untrusted { // it may be another client's
		return
	}
	if !there || of.Sent > 0 { // else it is known anew
		a.Backups[received] = AboutBackup{Sent: max(0, of.Sent), Wire: max(0, of.Wire), When: now, Base: of.Base, Attributes: attributes}
	}
	if of.Subvolume.IsZero() {
		return
	}
	if of.Sent > 0 {
		a.part(of.Subvolume)
	}
	about := a.Sources[of.Subvolume]
	if of.Source != "" && (about.Source == "" || !of.Untrusted) {
		about.Origin = tree.Origin{Source: limited(of.Source), Machine: limited(of.Machine)}
		a.set(of.Subvolume, about)
	}
}

func limited(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), mostName)], "?")
}

func (a *About) set(source btrfs.UUID, about AboutSource) {
	if a.Sources == nil {
		a.Sources = make(map[btrfs.UUID]AboutSource)
	}
	a.Sources[source] = about
}

// Tidy drops the backups that are gone, and the sources of which there are no backups: but for those in whose history there are some.
func (a *About) Tidy(listing btrfs.Listing, origins Origins) {
	here := make(map[btrfs.UUID]bool)
	used := make(map[btrfs.UUID]bool)
	for _, s := range listing.InDirectory {
		here[s.ReceivedUUID] = true
		if from, ok := origins[s.ReceivedUUID]; ok {
			used[from] = true
		}
	}
	for received := range a.Backups {
		if !here[received] {
			delete(a.Backups, received)
		}
	}
	for range a.Sources {
		for source, about := range a.Sources {
			used[source] = used[source] || !about.Continues.IsZero() && used[about.Continues]
		}
	}
	for source := range a.Sources {
		if !used[source] {
			delete(a.Sources, source)
		}
	}
}
