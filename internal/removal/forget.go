package removal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// A Parting tells which destinations of a source are to be forgotten.
type Parting struct {
	Host         host.Host
	Source       string     // absolute
	Folder       string     // of its snapshots, relative to it or absolute
	Destinations []Forsaken // each must be on record
	NeverReached bool       // all that never got a backup
	State        lock.State
	DryRun       bool
	Log          *slog.Logger
}

// Forsaken is a destination to be forgotten.
type Forsaken struct {
	Text  string   // as the user named it
	Names []string // under which it may be on record
}

// Forgotten tells what was forgotten.
type Forgotten struct {
	Source       string   `json:"source"`
	Destinations []string `json:"forgotten"`
	Free         []string `json:"free"` // snapshots that nothing holds any more
	DryRun       bool     `json:"dry_run"`
}

// Forget drops what is on record of destinations: in the ledger of the source's snapshots, and on this machine, which knows what was
// used. No destination is looked at. Of one that is not on record the error tells which are; then nothing is changed.
func Forget(ctx context.Context, p Parting) (did Forgotten, err error) {
	did = Forgotten{Source: engine.PlaceName(p.Host.String() + p.Source), Destinations: []string{}, Free: []string{}, DryRun: p.DryRun}
	if !path.IsAbs(p.Folder) {
		p.Folder = path.Join(p.Source, p.Folder)
	}
	used, err := p.State.Used()
	if err != nil {
		return did, err
	}
	dir, ledger, names, err := p.open(ctx)
	if err != nil {
		return did, err
	}
	if dir != nil {
		defer dir.Close()
	}
	if did.Destinations, err = p.choose(ledger, used); err != nil {
		return did, err
	}
	held := func(name string) bool { return len(ledger.Holds(name)) > 0 }
	names = slices.DeleteFunc(names, func(name string) bool { return !held(name) })
	for _, d := range did.Destinations {
		ledger.Forget(d)
	}
	did.Free = append(did.Free, slices.DeleteFunc(names, held)...)
	if p.DryRun || len(did.Destinations) == 0 {
		return did, nil
	}
	if dir != nil {
		if err := dir.WriteLedger(ctx, ledger.Marshal()); err != nil {
			return did, err
		}
	}
	for _, d := range did.Destinations {
		if err := p.State.ForgetUsed(ctx, d); err != nil {
			return did, err
		}
	}
	return did, nil
}

// open locks and lists the folder of the snapshots. A source that has none has an empty ledger.
func (p Parting) open(ctx context.Context) (dir *host.Dir, ledger *lock.Ledger, names []string, err error) {
	none, _ := lock.ParseLedger(nil, nil)
	source, err := p.Host.Open(ctx, p.Source)
	if err != nil {
		return nil, nil, nil, hint.New(err, "name a source, here or on another machine")
	}
	if err := source.Close(); err != nil {
		return nil, nil, nil, err
	}
	dir, err = p.Host.Open(ctx, p.Folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, none, nil, nil
	}
	if err != nil {
		return nil, nil, nil, err
	}
	fail := func(err error) (*host.Dir, *lock.Ledger, []string, error) {
		_ = dir.Close() // nothing was changed
		return nil, nil, nil, err
	}
	if !p.DryRun {
		_, err = dir.Lock(ctx, func(held *lock.HeldError) { p.Log.Info(fmt.Sprintf("%s: waiting for %s", p.Folder, held.Holder())) })
		if err != nil {
			return fail(err)
		}
	}
	content, err := dir.List(ctx)
	if err != nil {
		return fail(err)
	}
	ledger, err = host.ParseLedger(p.Host.String()+p.Folder, content.Ledger, nil)
	if err != nil {
		return fail(err)
	}
	for _, s := range content.InDirectory {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	if content.Ledger.Content == nil { // there is nothing to be written
		return nil, none, names, dir.Close()
	}
	return dir, ledger, names, nil
}

// choose gives the names under which the destinations are on record.
func (p Parting) choose(ledger *lock.Ledger, used lock.Used) (chosen []string, err error) {
	known := ledger.Destinations()
	if len(known) == 0 { // of a directory, or a source that was never sent anywhere
		known = slices.Sorted(maps.Keys(used))
	}
	chosen = []string{}
	if p.NeverReached {
		for _, d := range ledger.Destinations() {
			if !ledger.Knows(d) && !used.Knows(d) {
				chosen = append(chosen, d)
			}
		}
	}
	var errs []error
	for _, d := range p.Destinations {
		i := slices.IndexFunc(d.Names, func(name string) bool { return slices.Contains(ledger.Destinations(), name) || used.Knows(name) })
		switch {
		case i < 0 && len(known) == 0:
			errs = append(errs, hint.New(fmt.Errorf("%s: there is no record of it", d.Text), "no destination is on record"))
		case i < 0:
			errs = append(errs, hint.Newf(fmt.Errorf("%s: there is no record of it", d.Text), "on record %s: %s",
				map[bool]string{true: "is", false: "are"}[len(known) == 1], strings.Join(known, ", ")))
		case !slices.Contains(chosen, d.Names[i]):
			chosen = append(chosen, d.Names[i])
		}
	}
	return chosen, errors.Join(errs...)
}

// String tells it to people.
func (f Forgotten) String() string {
	verb, free := "forgot", "are free"
	if f.DryRun {
		verb, free = "would forget", "would be free"
	} else if len(f.Free) == 1 {
		free = "is free"
	}
	return fmt.Sprintf("%s %s; %s %s to be deleted", verb, report.Count(len(f.Destinations), "destination"), report.Count(len(f.Free), "snapshot"), free)
}
