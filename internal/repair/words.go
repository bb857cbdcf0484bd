package repair

import (
	"fmt"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/heal"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

// String names each place that cannot be read, and what became of it.
func (r Report) String() string {
	var text strings.Builder
	tell := func(format string, args ...any) { text.WriteString(progress.Line(fmt.Sprintf(format, args...)) + "\n") }
	for _, b := range r.Blocks {
		tell("%s: %s", b.place(), b.fate(r.DryRun))
		if len(b.Shared) > 0 {
			tell("  shared with %s", progress.Few(b.Shared))
		}
	}
	if r.Rewritten != nil {
		for _, b := range r.Rewritten.Backups {
			tell("rewritten in %s", progress.Name(b))
		}
		for _, l := range r.Rewritten.Left {
			tell("%s shares the damaged extent still: %s", progress.Name(l.Path), l.Why)
		}
	}
	tell("%s: %d files, %s read: %s", r.Backup, r.Files, progress.Bytes(r.Bytes), r.verdict())
	return text.String()
}

func (b Block) place() string {
	if b.Metadata {
		return progress.Name(b.File)
	}
	text := fmt.Sprintf("%s at %d, %d bytes", progress.Name(b.File), b.Offset, b.Length)
	if b.Compressed != "" {
		text += ", compressed by " + b.Compressed
	}
	return text
}

// fate tells what became of a block, or would.
func (b Block) fate(dryRun bool) string {
	would := ""
	if dryRun {
		would = "would be "
	}
	switch {
	case b.Problem != "":
		return "not healed: " + b.Problem
	case b.Way == heal.Rewrite:
		return would + "rewritten with its extent: " + b.Why
	case dryRun:
		return would + "put back" + devices(b.Copies)
	case len(b.Written) == 0:
		return "healed with another file"
	}
	return "put back" + devices(b.Written)
}

// devices tells where blocks are written.
func devices(copies []heal.Copy) string {
	const most = 2
	var text strings.Builder
	for i, c := range copies {
		switch i {
		case most:
			fmt.Fprintf(&text, " and at %d more places", len(copies)-most)
			return text.String()
		case 0:
			text.WriteString(" on")
		default:
			text.WriteString(",")
		}
		fmt.Fprintf(&text, " %s at %d", progress.Name(c.Device), c.Offset)
	}
	return text.String()
}

func (r Report) verdict() string {
	left := r.Left()
	switch {
	case len(r.Blocks) == 0:
		return "all can be read"
	case r.DryRun:
		return fmt.Sprintf("%d of %d damaged places would be healed", len(r.Blocks)-left, len(r.Blocks))
	}
	return fmt.Sprintf("%d of %d damaged places healed", len(r.Blocks)-left, len(r.Blocks))
}

// WayOn tells what to do about what cannot be healed.
func (r Report) WayOn() string {
	for _, b := range r.Blocks {
		if b.Metadata {
			return "copy what can be read to a new filesystem, and make complete backups there"
		}
	}
	return fmt.Sprintf("a complete copy replaces it, if its snapshot is at the source still: `btrfs-backup delete %s`, and then a run with --no-incremental", r.Backup)
}
