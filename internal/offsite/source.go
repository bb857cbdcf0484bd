package offsite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

// Latest stands for the name of the newest backup.
const Latest = ".latest"

// ChooseSource finds out which source is meant. A store with a single one needs no name of it.
func (f *Found) ChooseSource(ctx context.Context) error {
	all, err := f.Store.Sources(ctx)
	if err != nil {
		return err
	}
	switch {
	case slices.Contains(all, f.Source):
		return nil
	case len(all) == 0:
		return hint.New(fmt.Errorf("there are no backups in %s", f.Place), "is it the right store?")
	case len(all) == 1 && f.Name == "":
		f.Source, f.Name = all[0], f.Source
		return nil
	case f.Source == "":
		return hint.Newf(fmt.Errorf("%s has backups of several sources: %s", f.Place, engine.Few(all)), "name one: %s/%s", f.Place, all[0])
	}
	return hint.Newf(missingError(fmt.Sprintf("%s has no backups of a source %s", f.Place, progress.Name(f.Source))),
		"it has those of %s", engine.Few(all))
}

// Trust tells whose signatures count where backups are read.
type Trust struct {
	Known *seal.Signers
	Named []string // those of them that the user named, which Record makes known for good
	taken string   // the one that signed all backups of a source, where none was known
}

// Catalog lists the backups of the source, of which those count that a known key signed. Where no key is known at all, the one that
// signed all of them does: see Record.
func (f *Found) Catalog(ctx context.Context, t *Trust) (*store.Catalog, error) {
	var others []string
	f.Store.Trusts = func(key string) bool {
		isKnown := t.Known.Trusts(key) || t.taken != "" && key == t.taken
		if !isKnown && !slices.Contains(others, key) {
			others = append(others, key)
		}
		return isKnown
	}
	c, err := f.Store.Catalog(ctx, f.Source)
	if err != nil || len(others) == 0 {
		return c, err
	}
	slices.Sort(others)
	switch {
	case len(c.Backups) > 0:
		f.Store.Log.Warn(fmt.Sprintf("%s: what other keys signed is left out, since this machine does not know them: %s; --signer KEY counts one in",
			f, engine.Few(others)))
		return c, nil
	case len(t.Known.All()) > 0:
		return nil, hint.New(fmt.Errorf("%s: no key that this machine knows signed a backup of it, but %s did", f, engine.Few(others)),
			"if that is the machine that made the backups, as `btrfs-backup key list` shows it there: --signer "+others[0])
	case len(others) > 1:
		return nil, hint.New(fmt.Errorf("%s: its backups were signed by several keys, and this machine knows none of them: %s", f, engine.Few(others)),
			"one may be a thief's: name that of the machine that made the backups: --signer KEY")
	}
	f.Store.Log.Warn(fmt.Sprintf("%s: its backups were signed by the key %s, which this machine does not know; it is taken for that of the machine "+
		"that made them", f, others[0]))
	t.taken = others[0]
	f.Store.Trusts = func(key string) bool { return key == t.taken }
	return f.Store.Catalog(ctx, f.Source)
}

// Record makes the key known that was taken since none was known, and those that the user named.
func (t *Trust) Record(source string) error {
	var errs []error
	for _, key := range append(slices.Clone(t.Named), t.taken) {
		if key != "" {
			errs = append(errs, t.Known.Add(key, "backups of "+source))
		}
	}
	return errors.Join(errs...)
}

// Choose gives the backup that is meant: the named one, or the newest until a time, unless that is zero.
func (f *Found) Choose(c *store.Catalog, until time.Time) (*store.Backup, error) {
	at := f.At(f.Source, "")
	if f.Name != "" && f.Name != Latest && !until.IsZero() {
		return nil, hint.New(fmt.Errorf("%s is a backup, and --at chooses one of a source", f), "leave one of them out")
	}
	if f.Name != "" && f.Name != Latest {
		for i := range c.Backups {
			if b := &c.Backups[i]; b.Name == f.Name {
				return b, nil
			}
		}
		return nil, hint.Newf(missingError(fmt.Sprintf("%s has no backup %s", at, progress.Name(f.Name))), "%s", choices(c))
	}
	for i := len(c.Backups) - 1; i >= 0; i-- {
		if b := &c.Backups[i]; until.IsZero() || !timeOf(b.Manifest).After(until) {
			return b, nil
		}
	}
	if len(c.Backups) == 0 {
		return nil, hint.Newf(fmt.Errorf("%s has no backup", at), "`btrfs-backup list %s` shows what there is", f.Place)
	}
	return nil, hint.Newf(fmt.Errorf("%s has no backup as old as %s", at, until.Format(time.DateTime)), "%s", choices(c))
}

func choices(c *store.Catalog) string {
	if len(c.Backups) == 0 {
		return "it has none at all"
	}
	return fmt.Sprintf("its backups are %s to %s", c.Backups[0].Name, c.Backups[len(c.Backups)-1].Name)
}

// timeOf gives the time of a backup, by its name or else by the clock of the machine that made it.
func timeOf(m store.Manifest) time.Time { return cmp.Or(inventory.TimeIn(m.Name), m.Made) }

// IsLimited tells that the store itself keeps to a rate.
func (f *Found) IsLimited() bool {
	s, ok := f.Place.(Server)
	return ok && s.Limit != nil
}
