package stored

import (
	"fmt"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/restore"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

// A Report tells what was done, or with DryRun what would be.
type Report struct {
	*restore.Report
	Fetched Fetched `json:"fetched"`
}

// Fetched tells what is to be fetched from a store.
type Fetched struct {
	Backups int      `json:"backups"` // of which one builds on the other
	Objects int      `json:"objects"`
	Bytes   int64    `json:"bytes"`        // of the objects
	Stream  int64    `json:"stream_bytes"` // what they hold
	Cost    *float64 `json:"cost,omitempty"`
}

func (f *Fetched) add(p store.Part) {
	f.Objects++
	f.Bytes += p.Size
}

func (f *Fetched) price(perGiB float64) {
	if perGiB > 0 {
		cost := float64(f.Bytes) / (1 << 30) * perGiB
		f.Cost = &cost
	}
}

func (f *Fetched) line() string {
	return fmt.Sprintf("to be fetched: %s of %s, %s, which hold %s", report.Count(f.Objects, "object"), report.Count(f.Backups, "backup"),
		progress.Bytes(f.Bytes), progress.Bytes(f.Stream)) + f.costs()
}

func (f *Fetched) costs() string {
	if f.Cost == nil {
		return ""
	}
	return fmt.Sprintf("; that costs %.2f", *f.Cost)
}
