package inventory

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

// A Listed is what a list tells of a place.
type Listed struct {
	Entries []Entry
	Below   []Entry           // those of the folders of backups in it
	Freed   map[string]uint64 // what deleting all backups of such a folder would free, where it is known
	Short   bool              // of time: more would be known without a limit
}

// Survey gives all that is known of a place and the folders of backups in it, what deleting would free as far as that is found out in
// the time. What cannot be read is missing, and an error.
func (p Place) Survey(ctx context.Context, prefix string, within time.Duration) (l Listed, err error) {
	begin := time.Now()
	left := func() time.Duration {
		if within == 0 {
			return 0
		}
		return max(within-time.Since(begin), 1)
	}
	var errs []error
	if l.Entries, err = p.Noted(prefix); err != nil {
		errs = append(errs, err)
	}
	if l.Short, err = p.weigh(ctx, l.Entries, left()); err != nil {
		errs = append(errs, err)
	}
	l.Freed = make(map[string]uint64)
	for _, below := range p.Below {
		entries, err := below.Noted(prefix)
		errs = append(errs, err)
		l.Below = append(l.Below, entries...)
		var names []string
		for _, e := range entries {
			if e.Kind == Backup {
				names = append(names, e.Name)
			}
		}
		freed, short, err := below.freed(ctx, [][]string{names}, left())
		errs, l.Short = append(errs, err), l.Short || short
		if err == nil && freed[0] != host.UnknownSpace {
			l.Freed[below.Folder] = uint64(freed[0])
		}
	}
	return l, errors.Join(errs...)
}

// weigh sets what deleting each of the entries alone would free, the newest first. With a limit of time it may not be known of all, and
// short tells that it would be without; what cannot be asked for is as what is not known.
func (p Place) weigh(ctx context.Context, entries []Entry, within time.Duration) (short bool, err error) {
	var groups [][]string
	var of []int
	for i := range entries {
		if e := entries[i]; e.Kind != Set && e.Kind != Deleting && e.Place == p.Folder {
			groups, of = append(groups, []string{e.Name}), append(of, i)
		}
	}
	slices.Reverse(groups)
	slices.Reverse(of)
	freed, short, err := p.freed(ctx, groups, within)
	for i, bytes := range freed {
		if bytes != host.UnknownSpace {
			size := uint64(bytes)
			entries[of[i]].Freed = &size
		}
	}
	return short, err
}

// freed is Freed that tells whether the time was too short.
func (p Place) freed(ctx context.Context, groups [][]string, within time.Duration) (freed []int64, short bool, err error) {
	begin := time.Now()
	freed, err = p.Freed(ctx, groups, within)
	linked := p.InDirectory == nil && len(p.Trees.Backups) > 0
	return freed, within > 0 && slices.Contains(freed, host.UnknownSpace) && (linked || time.Since(begin) >= within), err
}

// Freed tells for each group of names in the folder what deleting all of them together would free; see space.Freed. With a limit of time,
// it is unknown also where this machine may not ask for it.
func (p Place) Freed(ctx context.Context, groups [][]string, within time.Duration) (freed []int64, err error) {
	switch {
	case len(groups) == 0:
		return nil, nil
	case p.Streams != nil:
		return p.Streams.freed(groups), nil
	case p.Stored: // as a whole, which has nothing but what is below
		return make([]int64, len(groups)), nil
	}
	dir, err := p.Host.Open(ctx, p.Path)
	if err == nil {
		defer dir.Close()
		freed, err = dir.Freed(ctx, groups, within)
	}
	if err != nil && within > 0 && ctx.Err() == nil {
		return slices.Repeat([]int64{host.UnknownSpace}, len(groups)), nil
	}
	return freed, err
}
