package removal

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

// Deleted tells that anything was.
func (d Done) Deleted() bool {
	return slices.ContainsFunc(d.Items, func(i Item) bool { return i.Deleted })
}

// Write tells people what was deleted, or would be.
func (d Done) Write(w io.Writer, dryRun bool) error {
	verb, frees, deleted := "deleted", ", which frees ", 0
	if dryRun {
		verb, frees = "would delete", ", which would free "
	}
	var b strings.Builder
	for _, i := range d.Items {
		at := progress.Line(i.Place) + "/" + progress.Name(i.Name)
		if !i.Deleted {
			fmt.Fprintf(&b, "kept %s: %s\n", at, strings.Join(i.Reasons, ", "))
			continue
		}
		deleted++
		if i.Kind == inventory.Set {
			at = "the set " + at
		}
		fmt.Fprintf(&b, "%s %s\n", verb, at)
		for _, meaning := range i.Means {
			fmt.Fprintf(&b, "  %s\n", progress.Line(meaning))
		}
	}
	switch {
	case deleted == 0:
		b.WriteString("nothing is to be deleted\n")
	case d.Freed != nil && *d.Freed > 0:
		fmt.Fprintf(&b, "%s %d%s%s\n", verb, deleted, frees, progress.Bytes(*d.Freed))
	case deleted > 1:
		fmt.Fprintf(&b, "%s %d\n", verb, deleted)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
