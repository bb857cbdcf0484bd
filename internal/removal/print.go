package removal

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"btrfs-backup/internal/inventory"
	"btrfs-backup/internal/progress"
)

// Deleted tells that any of the items were.
func Deleted(items []Item) bool {
	return slices.ContainsFunc(items, func(i Item) bool { return i.Deleted })
}

// Write tells people what was deleted, or would be.
func Write(w io.Writer, items []Item, dryRun bool) error {
	verb, deleted := "deleted", 0
	if dryRun {
		verb = "would delete"
	}
	var b strings.Builder
	for _, i := range items {
		at := progress.Line(i.Place) + "/" + progress.Name(i.Name)
		if !i.Deleted {
			fmt.Fprintf(&b, "kept %s: %s\n", at, strings.Join(i.Reasons, ", "))
			continue
		}
		deleted++
		if i.Kind == inventory.Set {
			at = "the set " + at
		}
		if i.Freed != nil {
			at += ", which frees " + progress.Bytes(int64(*i.Freed))
		}
		fmt.Fprintf(&b, "%s %s\n", verb, at)
		for _, meaning := range i.Means {
			fmt.Fprintf(&b, "  %s\n", progress.Line(meaning))
		}
	}
	if deleted == 0 {
		b.WriteString("nothing is to be deleted\n")
	} else if deleted > 1 {
		fmt.Fprintf(&b, "%s %d\n", verb, deleted)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
