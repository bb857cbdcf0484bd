package retrieval

import (
	"context"
	"fmt"

	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
)

// An Ask is an order as people give it.
type Ask struct {
	Order            // To may be missing: files go to where they were
	As    Target     // the path that what is wanted had; no Host: Paths name it
	Here  host.Trees // this machine
}

// A MeantError tells that files are certainly meant, and not a whole subvolume, but that they cannot be restored.
type MeantError struct{ error }

func (e MeantError) Unwrap() error { return e.error }

// Resolve finds out what is wanted, and where it goes.
func (a Ask) Resolve(ctx context.Context) (Order, error) {
	o := a.Order
	if err := CheckBackup(o.Backup); err != nil {
		return o, MeantError{err}
	}
	if a.As.Host != nil && o.Backup.Within != "" {
		err := fmt.Errorf("%s is a file or directory in a backup, which goes to no second one", o.Backup)
		return o, MeantError{hint.New(err, "name where it is to be written: --to DIR")}
	}
	was := Target{Host: a.Here, InPlace: true}
	if a.As.Host != nil {
		dir, below, err := meant(ctx, o.Backup, a.As.Host, a.As.Dir)
		if err != nil {
			return o, err
		}
		was.Host, was.Dir, o.Paths = a.As.Host, dir, []string{below}
	}
	if len(o.Paths) == 0 {
		o.Paths = []string{"."}
	}
	if o.To.Host != nil {
		return o, nil
	}
	if was.Dir == "" {
		var err error
		if was.Dir, err = home(ctx, o.Backup); err != nil {
			return o, err
		}
	}
	o.To = was
	return o, nil
}
