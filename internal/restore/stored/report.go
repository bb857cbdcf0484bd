package stored

import (
	"fmt"
	"io"

	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/report"
	"btrfs-backup/internal/restore"
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

func (f *Fetched) price(perGiB float64) {
	if perGiB > 0 {
		cost := float64(f.Bytes) / (1 << 30) * perGiB
		f.Cost = &cost
	}
}

func (f *Fetched) line() string {
	line := fmt.Sprintf("to be fetched: %s of %s, %s, which hold %s", report.Count(f.Objects, "object"), report.Count(f.Backups, "backup"),
		progress.Bytes(f.Bytes), progress.Bytes(f.Stream))
	if f.Cost != nil {
		line += fmt.Sprintf("; that costs %.2f", *f.Cost)
	}
	return line
}

// Write tells people of it.
func (r *Report) Write(w io.Writer) error { return r.Report.Write(w) }
