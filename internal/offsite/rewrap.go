package offsite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// A Rewrapping lets other recipients read what a store holds, in place of those until now.
type Rewrapping struct {
	Recipients seal.Recipients
	Identities seal.Identities // that read it until now
	DryRun     bool
	Tell       func(line string)
}

// Do stores each backup once more for the recipients, and deletes the one until now. It tells beforehand what that takes.
func (w Rewrapping) Do(ctx context.Context, f *Found) error {
	in := f.Store
	if in.Trusts == nil || in.Signer.IsZero() {
		return hint.New(errors.New("rewrapped backups must be signed by a machine that is known to those that use them, and this one has no key"),
			"run it on the machine that makes the backups, as root")
	}
	in.Recipients = w.Recipients
	sources := []string{f.Source}
	if f.Source == "" {
		var err error
		if sources, err = in.AllSources(ctx); err != nil {
			return err
		}
	}
	todo, bytes, err := w.todo(ctx, f, sources)
	if err != nil {
		return err
	}
	number := 0
	for _, backups := range todo {
		number += len(backups)
	}
	if number == 0 {
		w.Tell(fmt.Sprintf("%s: nothing is to be stored again: all of it is for the %d public keys of this machine", f, len(w.Recipients)))
	} else {
		w.Tell(fmt.Sprintf("%s: %d backups for %d public keys: %s are read, and stored again", f, number, len(w.Recipients), progress.Bytes(bytes)))
	}
	if w.DryRun {
		return nil
	}
	if there, here := in.OtherRecipients(); f.Source == "" && len(there)+len(here) > 0 {
		if err := in.Announce(ctx); err != nil {
			return err
		}
	}
	left := 0
	for _, source := range sources {
		n, err := w.source(ctx, f, source, todo[source])
		if err != nil {
			return err
		}
		left += n
	}
	if left > 0 {
		w.Tell(fmt.Sprintf("%s: %d backups are there for the keys until now, too, since these credentials may not delete them, or not yet: "+
			"run `btrfs-backup prune` with others, when they are not locked any more", f, left))
	}
	return nil
}

// todo gives the backups of each source that are not for the recipients.
func (w Rewrapping) todo(ctx context.Context, f *Found, sources []string) (todo map[string][]*store.Backup, bytes int64, err error) {
	todo = make(map[string][]*store.Backup)
	for _, source := range sources {
		c, err := f.Store.Catalog(ctx, source)
		if err != nil {
			return nil, 0, err
		}
		for i := range c.Backups {
			b := &c.Backups[i]
			if f.Store.IsFor(b) || f.Name != "" && f.Name != b.Name {
				continue
			}
			if _, err := b.Private(w.Identities); err != nil { // before anything is changed
				return nil, 0, fmt.Errorf("reading %s of %s: %w", b.Name, f.Place, err)
			}
			todo[source] = append(todo[source], b)
			bytes += b.Stored()
		}
	}
	return todo, bytes, nil
}

// source rewraps backups of a source, and tells how many could not be deleted.
func (w Rewrapping) source(ctx context.Context, f *Found, source string, backups []*store.Backup) (left int, err error) {
	release, err := lockSource(ctx, f.Store, source, f.Place.String(), func(held *lock.HeldError) {
		w.Tell("waiting for " + held.Holder())
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, release()) }()
	for _, b := range backups {
		if _, err := f.Store.Rewrap(ctx, source, b, w.Identities); err != nil {
			return left, err
		}
		_, err := f.Store.Delete(ctx, source, []*store.Backup{b})
		switch {
		case errors.Is(err, fs.ErrPermission):
			left++
		case err != nil:
			return left, err
		}
		w.Tell(f.At(source, b.Name) + ": done")
	}
	if left > 0 {
		return left, nil
	}
	return w.deleteSuperseded(ctx, f, source)
}

// deleteSuperseded deletes what an earlier attempt stored once more, and did not delete.
func (w Rewrapping) deleteSuperseded(ctx context.Context, f *Found, source string) (left int, err error) {
	c, err := f.Store.Catalog(ctx, source)
	if err != nil {
		return 0, err
	}
	for _, r := range c.Rest {
		if !r.Superseded || f.Name != "" && r.Name != f.Name {
			continue
		}
		switch err := f.Store.DeleteRest(ctx, r); {
		case errors.Is(err, fs.ErrPermission):
			left++
		case err != nil:
			return left, err
		}
	}
	return left, nil
}
