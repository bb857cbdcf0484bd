package verify

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// Line tells a difference to people.
func Line(d tree.Difference) string {
	text := fmt.Sprintf("%-12s %s", d.Kind, progress.Name(d.Path))
	switch {
	case d.Damage != nil:
		text += fmt.Sprintf(" (at %d, %d bytes", d.Damage.Offset, d.Damage.Length)
		if len(d.Damage.Shared) > 0 {
			text += ", as in " + progress.Few(d.Damage.Shared)
		}
		text += ")"
		if d.Got != "" {
			text += " " + d.Got
		}
	case d.Kind == tree.Altered:
		text += " (since it was received; no manifest tells in what)"
	case d.Want == "" && d.Got != "":
		text += fmt.Sprintf(" (%s)", d.Got)
	case d.Want != "" || d.Got != "":
		text += fmt.Sprintf(" (is %s, was %s)", d.Got, d.Want)
	}
	return progress.Line(text)
}

// Summary tells how much of a backup was read, what it was compared with, and how many differences of each kind there are.
func (r Result) Summary() string {
	if r.Stored {
		return r.storedSummary()
	}
	parts := []string{fmt.Sprintf("%d files", r.Files), r.how()}
	switch {
	case r.Against != "":
		parts = append(parts, "compared with "+r.Against)
	case r.Basis == tree.ByMaking:
		parts = append(parts, "manifest made now")
	case r.Basis == tree.ByReading:
		parts = append(parts, "no manifest")
	}
	return progress.Line(fmt.Sprintf("%s: %s: %s", r.Backup, strings.Join(parts, ", "), r.verdict()))
}

// Summary tells what came of it.
func (r Relinked) Summary() string {
	text := "no differences; it would get the Received UUID " + r.UUID.String()
	switch {
	case r.Before:
		text = "is a copy of " + r.Against + " already; nothing was read"
	case r.Linked:
		text = fmt.Sprintf("no differences in %d files; it is a copy of %s again", r.Files, r.Against)
	case len(r.Differences) > 0:
		return r.Result.Summary() + "; nothing was changed"
	}
	return progress.Line(r.Backup + ": " + text)
}

func (r Result) how() string {
	read := progress.Bytes(r.Bytes) + " read"
	switch r.Read {
	case Nothing:
		return "contents not read"
	case Part:
		return read + " (" + r.Part + " of the contents)"
	case Changes:
		if r.Since == path.Base(r.Backup) {
			return "contents were verified before, and not read"
		}
		return read + " (the rest was verified in " + r.Since + ")"
	}
	return read
}

func (r Result) verdict() string {
	if len(r.Differences) == 0 {
		if r.Basis == tree.ByReading || r.Basis == tree.ByMaking {
			if r.Read == Part || r.Read == Changes {
				return "the checksums of that are right"
			}
			return "all checksums are right"
		}
		return "no differences"
	}
	counts := make(map[tree.DifferenceKind]int)
	var kinds []string
	for _, d := range r.Differences {
		if counts[d.Kind]++; counts[d.Kind] == 1 {
			kinds = append(kinds, string(d.Kind))
		}
	}
	slices.Sort(kinds)
	for i, k := range kinds {
		kinds[i] = fmt.Sprintf("%d %s", counts[tree.DifferenceKind(k)], k)
	}
	return "DIFFERS: " + strings.Join(kinds, ", ")
}
