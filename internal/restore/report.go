package restore

import (
	"cmp"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/replace"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// A Report tells what was done, or with DryRun what would be.
type Report struct {
	DryRun   bool           `json:"dry_run"`
	Backup   string         `json:"backup"`
	Target   string         `json:"target"`
	Snapshot string         `json:"snapshot"`          // the read-only copy, of which the target is a writable snapshot
	Kept     bool           `json:"kept"`              // where backups of the target find it
	Present  bool           `json:"present,omitempty"` // it was on the target's filesystem already
	Parent   string         `json:"parent,omitempty"`  // what the stream builds on; none: it is complete
	Bytes    int64          `json:"bytes"`             // of the stream
	AtMost   bool           `json:"at_most,omitempty"` // it may be less
	Wire     int64          `json:"wire_bytes,omitempty"`
	Resumed  int            `json:"resumed,omitempty"`
	Duration time.Duration  `json:"nanoseconds"`
	Lives    string         `json:"source_lives,omitempty"` // the source of the backup is there, too
	Replace  replace.Report `json:"replace"`
	Streams  []Received     `json:"streams,omitempty"` // in place of a backup

	target string // path on its machine
	folder string // of the backup, as a place
	option string // that names the snapshot folder
	holder string // the folder that holds the snapshot, if it is no copy of what was asked for
	copied bool   // the backup is a copy by rsync
	only   bool   // the snapshots are what was wanted
}

// planned notes what is there already, or will be sent.
func (r *Report) planned(present, bases []btrfs.Subvolume) {
	r.Present, r.Parent = len(present) > 0, ""
	if !r.Present && len(bases) > 0 {
		r.Parent = bases[0].Name
	}
}

// Write tells people of it.
func (r *Report) Write(w io.Writer) error {
	for _, line := range r.lines() {
		if _, err := fmt.Fprintln(w, progress.Line(line)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) lines() (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	would := map[bool]string{true: "would be", false: "is"}[r.DryRun]
	switch {
	case r.Streams != nil:
		lines = r.streams()
	case r.Present:
		add("%s is on the filesystem of %s already: nothing %s sent", r.Snapshot, r.Target, would)
	case r.DryRun:
		add("%s would be sent to %s as %s, %s%s", r.Snapshot, r.Target, r.how(), map[bool]string{true: "at most "}[r.AtMost], progress.Bytes(r.Bytes))
	default:
		add("%s was received as %s, %s in %s", r.Snapshot, r.how(), progress.Bytes(r.Bytes), progress.Duration(r.Duration))
	}
	if r.only {
		return lines
	}
	if r.DryRun && r.Replace.Pending {
		add("an earlier restore to %s was interrupted: what it began would be finished or removed first", r.Target)
	}
	add("%s %s a writable snapshot of it", r.Target, would)
	p := r.Replace
	for name, paths := range map[string][]string{"moved into it": p.Moved, "left in the old one": p.Left} {
		if len(paths) > 0 {
			are := map[bool]string{true: would, false: strings.Replace(would, "is", "are", 1)}[len(paths) == 1]
			add("%s %s %s: %s", report.Count(len(paths), "subvolume"), are, name, few(paths))
		}
	}
	lines = append(lines, p.Attributes.Lines()...)
	for _, w := range p.Warnings {
		add("warning: %s", w)
	}
	lines = append(lines, r.aside(would)...)
	if r.Lives != "" {
		add("%s, of which the backup is, is still there: %s is a source of its own", r.Lives, r.Target)
	}
	if !r.DryRun && r.folder != "" {
		switch {
		case !r.Kept:
			add("The next backup is an increment only with the --snapshot-folder that holds %s:", r.Snapshot)
		case r.copied:
			add("The next backup is an increment, by a snapshot and no more by rsync, in a history of its own:")
		default:
			add("The next backup is an increment:")
		}
		add("  btrfs-backup %s", r.next())
	}
	return lines
}

// streams tells what was received.
func (r *Report) streams() (lines []string) {
	for _, s := range r.Streams {
		how := "a complete copy"
		if s.Parent != "" {
			how = "an increment to " + progress.Name(s.Parent)
		}
		if r.DryRun {
			lines = append(lines, fmt.Sprintf("%s would be received%s as %s", progress.Name(s.Snapshot), s.from(), how))
			continue
		}
		lines = append(lines, fmt.Sprintf("%s was received%s as %s, %s in %s", progress.Name(s.Snapshot), s.from(), how, progress.Bytes(s.Bytes), progress.Duration(s.Duration)))
	}
	return lines
}

// from tells the input, unless that is known by the snapshot alone.
func (s Received) from() string {
	if s.From == s.Snapshot {
		return ""
	}
	return " from " + progress.Name(s.From)
}

// aside tells what becomes of the old subvolume.
func (r *Report) aside(would string) (lines []string) {
	p := r.Replace
	if p.Way != replace.Exchange && p.Way != replace.Default {
		return nil
	}
	kept := path.Base(p.Aside)
	if p.Way == replace.Default {
		kept = p.Aside
	}
	lines = append(lines, fmt.Sprintf("the old one %s kept as %s", would, kept))
	if p.Default {
		lines = append(lines, "the new one is mounted by default")
	}
	for _, at := range p.Mounts {
		if !p.Running {
			lines = append(lines, fmt.Sprintf("%s shows the old one until it is mounted anew, which must be before the next backup: "+
				"umount %[1]s && mount %[1]s", transport.Quote(at)))
		}
	}
	if p.Running {
		lines = append(lines, "the running system goes on with the old one: reboot now, and write nothing before that you want to keep")
	}
	if !r.DryRun && p.AsideID != 0 {
		lines = append(lines, r.removal())
	}
	return lines
}

// removal gives the command that deletes the old one, with what is left in it, the innermost first.
func (r *Report) removal() string {
	p, at := r.Replace, transport.Quote(r.target)
	if len(p.LeftIDs) == 0 {
		return fmt.Sprintf("When nobody needs the old one, whose ID is %d, this deletes it: btrfs subvolume delete --subvolid %[1]d %s", p.AsideID, at)
	}
	var ids strings.Builder
	for _, id := range append(slices.Clone(p.LeftIDs), p.AsideID) {
		fmt.Fprintf(&ids, " %d", id)
	}
	return fmt.Sprintf("When nobody needs the old one, nor the %s in it, this deletes them by their IDs: for id in%s; do btrfs subvolume delete --subvolid $id %s; done",
		report.Count(len(p.LeftIDs), "subvolume"), ids.String(), at)
}

func (r *Report) how() string {
	if r.Parent == "" {
		return "a complete copy"
	}
	return "an increment to " + r.Parent
}

func (r *Report) next() string {
	words := []string{r.Target, r.folder}
	switch {
	case !r.Kept:
		words = append([]string{"--snapshot-folder", cmp.Or(r.holder, "FOLDER")}, words...)
	case r.option != "":
		words = append([]string{"--snapshot-folder", r.option}, words...)
	}
	return transport.Quote(words...)
}

// few names some of many.
func few(paths []string) string {
	const most = 4
	if len(paths) > most {
		return strings.Join(paths[:most], " ") + " ..."
	}
	return strings.Join(paths, " ")
}
