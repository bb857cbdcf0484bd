package host

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/files"
)

// Loose files come out of backups in a directory, and into a directory; see package files for what its methods promise.
type Loose interface {
	// FindFiles tells what paths are in a backup. One that is missing is fs.ErrNotExist.
	FindFiles(ctx context.Context, s files.Selection) ([]files.Found, error)
	// PackFiles reads them. total is told how many bytes there are, then take gets all records in order; its error ends the reading.
	// It must not itself call this host.
	PackFiles(ctx context.Context, s files.Selection, total func(bytes int64), take func([]files.Record) error) (files.Packed, error)
	// PlaceFiles tells where an order would write them. It changes nothing.
	PlaceFiles(ctx context.Context, o files.Order) ([]files.Placed, error)
	// UnpackFiles begins to write them; placed is what PlaceFiles gave.
	UnpackFiles(ctx context.Context, o files.Order, placed []files.Placed) (Unpacking, error)
	// CopyFiles does both on this machine. progress is told how much was done, and of how many bytes.
	CopyFiles(ctx context.Context, s files.Selection, to FilesTarget, progress func(done, total int64)) (files.Packed, files.Report, error)
}

// A FilesTarget is where files are to be written on the same machine.
type FilesTarget struct {
	Directory Status // of the open directory
	files.Order
	Placed []files.Placed
}

// An Unpacking is under way. It must be ended.
type Unpacking interface {
	// Take writes what records tell, which must come in order. An error ends it, and may come late.
	Take(ctx context.Context, records []files.Record) error
	// End gives up what is not complete, unless all is, and tells what was written, also beside an error.
	End(ctx context.Context, complete bool) (files.Report, error)
}
