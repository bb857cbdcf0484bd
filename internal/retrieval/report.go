package retrieval

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// A Report tells what was done, or with DryRun what would be.
type Report struct {
	DryRun     bool           `json:"dry_run"`
	Backup     string         `json:"backup"`
	Target     string         `json:"target"`
	Items      []Item         `json:"items"`
	Files      int64          `json:"files"` // that were written, all but directories
	Bytes      int64          `json:"bytes"`
	Shared     int64          `json:"shared_bytes"` // of these: on extents that are shared with the backup
	Present    int64          `json:"present"`      // files that were there already, as far as size and time tell
	Unread     files.Problems `json:"unread"`
	Unwritten  files.Problems `json:"unwritten"`
	Lost       files.Problems `json:"lost"` // attributes
	Left       files.Problems `json:"left"` // what lies there, but is no part of the backup
	Unfinished string         `json:"unfinished,omitempty"`

	name    string // of the backup
	inPlace bool   // each is where it was
	backup  string // for a command
	passing bool   // see Order
	placed  []files.Placed
	written int64 // in earlier attempts
}

// An Item is a chosen path.
type Item struct {
	Path     string    `json:"path"`
	Type     string    `json:"type"`
	Bytes    int64     `json:"bytes"`
	Modified time.Time `json:"modified"`
	To       string    `json:"to"`
	Exists   string    `json:"exists,omitempty"` // what has the name that it should have got
	Present  bool      `json:"present,omitempty"`
	Replaces bool      `json:"replaces,omitempty"`
	Continue bool      `json:"continues,omitempty"`
}

func newReport(o Order, found []files.Found, placed []files.Placed) *Report {
	r := &Report{DryRun: o.DryRun, Backup: host.PlaceName(o.Backup.Host.String() + o.Backup.Path()), Target: o.To.String(),
		name: o.Backup.Name, passing: o.Passing, inPlace: o.To.InPlace, placed: placed,
		backup: transport.Quote(host.PlaceName(o.Backup.Host.String() + path.Join(o.Backup.Folder, o.Backup.Name)))}
	for i, f := range found {
		p := placed[i]
		item := Item{Path: host.PlaceName(f.Path), Type: string(f.Type), Bytes: f.Size, Modified: timeOf(f.ModTime),
			To: host.PlaceName(path.Join(o.To.Dir, p.To)), Present: p.Present, Replaces: p.Replaces, Continue: p.Continue}
		if p.Beside != "" {
			item.Exists = host.PlaceName(path.Join(o.To.Dir, p.Beside))
		}
		r.Items = append(r.Items, item)
	}
	return r
}

// add counts what an attempt did. What an earlier one wrote is there in a later one.
func (r *Report) add(packed files.Packed, did files.Report) {
	r.Files += did.Files
	r.Bytes += did.Bytes
	r.Shared += did.Shared
	r.Present = max(0, did.Present-r.written)
	r.written += did.Files
	r.Unread, r.Left, r.Unwritten, r.Lost = packed.Failures, packed.Left, did.Failures, did.Lost
	r.Unfinished = did.Unfinished
}

// Incomplete tells that not all of what was chosen is there as it was.
func (r *Report) Incomplete() bool { return r.Unread.Count+r.Unwritten.Count+r.Lost.Count > 0 }

// Nothing tells that nothing was written, and nothing was there.
func (r *Report) Nothing() bool { return r.Files+r.Present == 0 }

// writeBefore tells people what they are to know before anything is written.
func (r *Report) writeBefore(w io.Writer) {
	for _, line := range r.before() {
		fmt.Fprintln(w, progress.Line(line))
	}
}

func (r *Report) before() (lines []string) {
	for _, item := range r.Items {
		lines = append(lines, fmt.Sprintf("found in %s: %s", r.name, item.describe()))
		switch {
		case item.Present:
			lines = append(lines, fmt.Sprintf("%s is there already, with the same size and time (--overwrite writes it all the same)", item.To))
		case item.Exists != "":
			lines = append(lines, fmt.Sprintf("%s exists: writing %s  (--overwrite replaces it)", item.Exists, item.To))
		case item.Continue:
			lines = append(lines, fmt.Sprintf("going on with %s, which an earlier restore began", item.To))
		case r.DryRun && item.Replaces && item.Type == string(manifest.Directory):
			lines = append(lines, fmt.Sprintf("would write it into %s", item.To))
		case r.DryRun && item.Replaces:
			lines = append(lines, fmt.Sprintf("would replace %s", item.To))
		case r.DryRun:
			lines = append(lines, fmt.Sprintf("would write %s", item.To))
		}
	}
	return lines
}

func (i Item) describe() string {
	name := progress.Name(i.Path)
	switch manifest.Type(i.Type) {
	case manifest.Regular:
		return fmt.Sprintf("%s, %s of %s", name, progress.Bytes(i.Bytes), i.Modified.Format("2006-01-02 15:04"))
	case manifest.Directory:
		if name == "." {
			return "all of it"
		}
		return name + ", a directory"
	case manifest.Symlink:
		return name + ", a symbolic link"
	}
	return fmt.Sprintf("%s, of %s", name, i.Modified.Format("2006-01-02 15:04"))
}

// after tells what was done.
func (r *Report) after() string {
	text := fmt.Sprintf("restored %s%s, %s", count(r.Files, "file"), r.where(), progress.Bytes(r.Bytes))
	var more []string
	if r.Shared > 0 && r.Shared == r.Bytes && !r.passing {
		more = append(more, "which share their space with the backup")
	}
	if r.Present > 0 {
		more = append(more, fmt.Sprintf("%s had been there", count(r.Present, "file")))
	}
	if len(more) > 0 {
		text += ", " + strings.Join(more, "; ")
	}
	return text
}

// where tells where all that was written is, if it is in one place.
func (r *Report) where() string {
	switch {
	case r.Files == 0:
	case len(r.Items) == 1 && r.Items[0].Type == string(manifest.Directory):
		return " to " + r.Items[0].To
	case len(r.Items) == 1:
		return " as " + r.Items[0].To
	case !r.inPlace:
		return " to " + r.Target
	}
	return ""
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Complaints gives a sentence about each file that is not as it was, the first ones, and what is no part of the backup.
func (r *Report) Complaints() (failures, notes []string) {
	const most = 10
	add := func(texts *[]string, p files.Problems, format string) {
		for i, problem := range p.First {
			if i == most {
				break
			}
			*texts = append(*texts, fmt.Sprintf(format, progress.Name(problem.Path), problem.What))
		}
		if more := p.Count - most; more > 0 {
			*texts = append(*texts, fmt.Sprintf("and %d more; --json names them", more))
		}
	}
	add(&failures, r.Unread, "%s: %s")
	add(&failures, r.Unwritten, "%s was not written: %s")
	add(&failures, r.Lost, "%s lost: %s")
	if slices.ContainsFunc(r.Unread.First, func(p files.Problem) bool { return strings.Contains(p.What, syscall.EIO.Error()) }) {
		notes = append(notes, fmt.Sprintf("%s is damaged: `btrfs-backup verify %[1]s` tells all of it, and --repair-from mends it from its original or another copy", r.backup))
	}
	add(&notes, r.Left, "%s was left out: %s")
	return failures, notes
}
