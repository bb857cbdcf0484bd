package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

// Noted gives the entries as Entries does, with all that is on record of them besides. What cannot be read is missing, and an error.
func (p Place) Noted(prefix string) ([]Entry, error) {
	all := p.Entries(prefix)
	if p.Streams != nil {
		return all, nil // which have their notes
	}
	_, about, aboutErr := p.Recorded(p.Folder)
	ledger, ledgerErr := host.ParseLedger(p.Folder, p.Ledger, func(string) bool { return true })
	judge, judgeErr := p.Judge()
	isNewest := func(Entry) bool { return false }
	if judgeErr == nil {
		isNewest = judge.Newest(all)
	}
	inUse := p.InUse()
	names := make(map[btrfs.UUID]string)
	for _, s := range p.All {
		names[s.UUID] = s.Name
	}
	backups := slices.ContainsFunc(all, func(e Entry) bool { return e.Kind == Backup })
	for i := range all {
		e := &all[i]
		if e.Parent == "" {
			e.Parent = names[e.ParentUUID]
		}
		if sent := about.Sent(e.ReceivedUUID); sent > 0 && e.Kind == Backup {
			e.Sent = &sent
		}
		if e.Complete && (e.Kind == Snapshot || e.Kind == Backup) && isNewest(*e) {
			e.note("newest")
			if e.Kind == Backup {
				e.note("next parent")
			}
		}
		if ledgerErr == nil {
			for _, h := range ledger.Holds(e.Name) {
				switch {
				case h.Outstanding:
					e.note(h.String())
				case h.Older:
					e.note("parent for " + h.Destination)
				default:
					e.note("next parent for " + h.Destination)
				}
			}
		}
		e.noteState(backups)
		p.noteContent(e, about)
		if why, ok := inUse[e.Name]; ok {
			e.note(why)
		}
	}
	if aboutErr != nil { // which the judge would tell once more
		return all, aboutErr
	}
	return all, errors.Join(ledgerErr, judgeErr)
}

func (l *Entry) note(text string) { l.Notes = append(l.Notes, text) }

// noteState tells what is not as it is to be expected of a snapshot or, among backups, of a backup.
func (l *Entry) noteState(amongBackups bool) {
	switch {
	case l.Kind == Unfinished, l.Kind == Deleting, l.Kind == Writable, l.Kind == Snapshot && amongBackups:
		l.note(string(l.Kind))
	case len(l.Lacks) > 0:
		l.note("INCOMPLETE set, without " + strings.Join(l.Lacks, ", "))
	case l.Kind == Set && !l.Complete:
		l.note("INCOMPLETE set, not marked yet")
	case l.Kind == Set:
		l.note("set of " + strings.Join(l.Members, ", "))
	}
	if l.MissingFiles > 0 {
		l.note(fmt.Sprintf("INCOMPLETE: %d missing", l.MissingFiles))
	}
	if l.Altered {
		l.note("altered since")
	}
}

// noteContent tells what is known of what a backup holds.
func (p Place) noteContent(l *Entry, about host.About) {
	if v, ok := p.Verified[l.Name]; ok {
		switch {
		case v.Differences > 0:
			l.Verified, l.Damaged = v.At, true
			l.note("DAMAGED, as verified " + v.At.Local().Format(time.DateOnly))
		case v.Whole:
			l.Verified = v.At
			l.note("verified " + v.At.Local().Format(time.DateOnly))
		}
	}
	if n := about.Backups[l.ReceivedUUID].Attributes; l.Kind == Backup && n != nil && *n > 0 {
		l.note("chattr of " + report.Count(int(*n), "file"))
	}
}

// SourceNames gives the sources of the backups in the place as people know them, sorted; "?" stands for those that are not on record.
func (p Place) SourceNames(prefix string) (names []string) {
	if p.Streams != nil && p.Streams.Source != "" {
		return []string{p.Streams.Source}
	}
	nameOf := p.sourceNames()
	for _, e := range p.Entries(prefix) {
		if name := nameOf(e); e.Kind == Backup && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > 1 {
		names = slices.DeleteFunc(names, func(name string) bool { return name == unnamed })
	}
	slices.Sort(names)
	return names
}

// unnamed stands for a source that is not on record.
const unnamed = "?"

// sourceNames gives the function that names the source of an entry.
func (p Place) sourceNames() func(Entry) string {
	if p.Streams != nil {
		return func(Entry) string { return cmp.Or(p.Streams.Source, unnamed) }
	}
	origins, about, err := p.Recorded(p.Folder)
	sourceOf, sourceErr := p.subvolumeSources()
	return func(e Entry) string {
		if e.Source != "" {
			return e.Source + " (rsync)"
		}
		i := slices.IndexFunc(p.InDirectory, func(s btrfs.Subvolume) bool { return s.UUID == e.UUID })
		if err != nil || sourceErr != nil || i < 0 {
			return unnamed
		}
		source := origins[e.ReceivedUUID]
		if source.IsZero() {
			source = sourceOf(p.InDirectory[i])
		}
		return cmp.Or(about.Name(source), unnamed)
	}
}
