package job

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/offsite"
	"github.com/btrfs-backup/btrfs-backup/internal/restore/stored"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
	"github.com/btrfs-backup/btrfs-backup/internal/verify"
	"github.com/btrfs-backup/btrfs-backup/lock"

	"golang.org/x/time/rate"
)

// Reading tells how stores are looked at.
type Reading struct {
	Stores  Stores            // how they are reached
	Of      map[string]Stores // how single ones are, by their places, unless Stores has credentials
	Folders []string          // where snapshots of what is in them may be
	Signers []string          // public keys whose signatures count, beside those on record
	Limit   rate.Limit        // bytes a second from a server; 0: as many as go
	// Identities gives secret keys. It is nil if none are given: few things need one.
	Identities func(ctx context.Context) (seal.Identities, error)
}

// Look lists a place that is looked at, as inventory.Look does.
func (m *Machines) Look(ctx context.Context, p Place, snapshotFolder string) (inventory.Place, error) {
	s, ok := p.(Store)
	if !ok {
		h, path := m.At(p)
		found, err := inventory.Look(ctx, h, path, snapshotFolder)
		if here, ok := p.(Local); ok && errors.Is(err, btrfs.ErrNotBtrfs) && isStore(here.Path) {
			err = hint.New(fmt.Errorf("%s is a store in a folder", path), "name it "+Store{Path: path}.String())
		}
		return found, err
	}
	r, err := m.reader(ctx)
	if err != nil {
		return inventory.Place{}, err
	}
	place, found, err := r.Look(ctx, m.place(s))
	if err == nil {
		m.keep(found)
	}
	return place, err
}

// isStore tells whether a folder of this machine looks like a store.
func isStore(folder string) bool {
	info, err := os.Lstat(filepath.Join(folder, object.FormatKey))
	return err == nil && info.Mode().IsRegular()
}

// FindStored tells what the place of a store means.
func (m *Machines) FindStored(ctx context.Context, s Store) (offsite.Reader, *offsite.Found, error) {
	r, err := m.reader(ctx)
	if err != nil {
		return r, nil, err
	}
	found, err := offsite.Find(ctx, m.place(s), r.Options)
	if err == nil {
		m.keep(found)
	}
	return r, found, err
}

// Trees gives places that are looked into as directories, to be verified.
func (m *Machines) Trees(places []Place) []verify.Place {
	all := make([]verify.Place, len(places))
	for i, p := range places {
		all[i].Host, all[i].Path = m.At(p)
	}
	return all
}

// FolderOf gives a folder that was found in a place, as a place.
func FolderOf(p Place, found inventory.Place) Place {
	switch p := p.(type) {
	case Machine:
		return Machine{Target: p.Target, Path: found.Path}
	case Store:
		if in, err := parseStore(found.Folder); err == nil {
			return in
		}
		return p
	}
	return Local{Path: found.Path}
}

// AreStores tells that all places are stores, and fails if only some are.
func AreStores(places []Place) (bool, error) {
	stores := 0
	for _, p := range places {
		if _, ok := p.(Store); ok {
			stores++
		}
	}
	if stores > 0 && stores < len(places) {
		return false, hint.New(errors.New("some of these are in stores, and some are not"), "name them one after the other")
	}
	return stores > 0, nil
}

// VerifyStored verifies what is in stores: all sources, those of one, or one backup. Each place may fail alone.
func (m *Machines) VerifyStored(ctx context.Context, places []Place, o verify.StoredOptions, w verify.Watcher) (all []verify.Result, err error) {
	all = []verify.Result{}
	var ids seal.Identities
	if o.Restore {
		if ids, err = m.Identities(ctx); err != nil {
			return nil, err
		}
		m.Identities = nil // they are known now
	}
	var errs []error
	for _, p := range places {
		sources, err := m.storedAt(ctx, p.(Store), ids, o.Scratch)
		errs = append(errs, err)
		for _, s := range sources {
			results, err := verify.InStore(ctx, s, o, w)
			all, errs = append(all, results...), append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// storedAt gives the sources, or the backup, that the place of a store means. Scratch is as in stored.ScratchOr.
func (m *Machines) storedAt(ctx context.Context, s Store, ids seal.Identities, scratch string) (all []verify.Stored, err error) {
	_, found, err := m.FindStored(ctx, s)
	if err != nil {
		return nil, err
	}
	sources := []string{found.Source}
	if found.Source == "" {
		if sources, err = found.Store.AllSources(ctx); err != nil {
			return nil, err
		}
	}
	here, at := m.At(Local{scratch})
	bench := stored.BenchOptions{Found: found, Identities: ids, Here: here, Scratch: stored.ScratchOr(at, ""),
		Settings: engine.Settings{Log: m.env.Log, Now: m.env.Now, State: lock.State{Dir: m.env.State}}}
	for _, source := range sources {
		all = append(all, verify.Stored{Store: found.Store, At: found.At(source, ""), Source: source, Name: found.Name, Here: here,
			Folders: m.Folders, Bench: func(ctx context.Context, c *store.Catalog, wanted []*store.Backup) (verify.Bench, error) {
				return stored.NewBench(ctx, c, wanted, bench)
			}})
	}
	return all, nil
}

// place gives where a store lies that is looked at.
func (m *Machines) place(s Store) offsite.Place {
	settings, ok := m.Of[s.String()]
	if !ok || m.Stores.Credentials != "" || m.Stores.CredentialsCommand != "" {
		settings = m.Stores
	}
	return settings.placeOf(s, m, m.env.Log, m.Limit)
}

// Canary reads what secret keys are tried with in a store.
func (m *Machines) Canary(ctx context.Context, s Store) (content []byte, err error) {
	found, err := offsite.Find(ctx, m.place(s), store.Options{Log: m.env.Log})
	if err != nil {
		return nil, err
	}
	m.keep(found)
	return found.Store.Canary(ctx)
}

// keep closes what was opened with all else.
func (m *Machines) keep(f *offsite.Found) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened = append(m.opened, f)
}

// reader gives what stores are read with. Where no key is known that signs backups, all count, and are shown as such.
func (m *Machines) reader(ctx context.Context) (r offsite.Reader, err error) {
	r = offsite.Reader{Options: store.Options{Log: m.env.Log, State: m.env.State}, Now: m.env.Now}
	signers, own, err := m.signers()
	if err != nil {
		return r, err
	}
	if r.Signer = own; len(signers.All()) > 0 {
		r.Trusts = signers.Trusts
	}
	if m.Identities != nil {
		r.Identities, err = m.Identities(ctx)
	}
	return r, err
}

// signers gives whose signatures count, and the key of this machine, if it has one. None is made.
func (m *Machines) signers() (signers *seal.Signers, signer seal.Signer, err error) {
	if signers, signer, err = seal.SignersIn(m.env.State); err != nil {
		return nil, signer, err
	}
	for _, key := range m.Signers {
		if err := signers.Count(key); err != nil {
			return nil, signer, hint.New(fmt.Errorf("--signer: %w", err), "`btrfs-backup key list` shows that of a machine")
		}
	}
	return signers, signer, nil
}

// FindTrusted tells what the place of a store means, and whose signatures count there.
func (m *Machines) FindTrusted(ctx context.Context, s Store) (*offsite.Found, *offsite.Trust, error) {
	signers, _, err := m.signers()
	t := &offsite.Trust{Known: signers, Named: m.Signers}
	if err != nil {
		return nil, t, err
	}
	found, err := offsite.Find(ctx, m.place(s), store.Options{Log: m.env.Log, State: m.env.State})
	if err == nil {
		m.keep(found)
	}
	return found, t, err
}

// IsStore tells that a text names a store, or something in one.
func IsStore(text string) bool {
	return slices.ContainsFunc([]string{storeScheme, storeSSHScheme, object.Scheme}, func(scheme string) bool { return strings.HasPrefix(text, scheme) })
}

// WithoutLatest leaves out what means the newest backup, which is meant without a name, too.
func WithoutLatest(text string) string { return strings.TrimSuffix(text, "/"+offsite.Latest) }

// Rewrap lets the recipients read what there is in a store, in place of those until now, whose secret keys are those of Reading.
func (m *Machines) Rewrap(ctx context.Context, p Place, of Stores, dryRun bool, tell func(line string)) error {
	recipients, err := of.recipients()
	if err != nil {
		return err
	}
	s, isStore := p.(Store)
	if !isStore {
		var c Complaints
		c.Add("", "s3://BUCKET/PREFIX, store:/FOLDER or store+ssh://HOST/FOLDER", "%s is no store: only what is in a store is encrypted", p)
		return c.Err()
	}
	reader, found, err := m.FindStored(ctx, s)
	if err != nil {
		return err
	}
	return offsite.Rewrapping{Recipients: recipients, Identities: reader.Identities, DryRun: dryRun, Tell: tell}.Do(ctx, found)
}
