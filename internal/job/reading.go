package job

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/inventory"
	"btrfs-backup/internal/offsite"
	"btrfs-backup/internal/seal"
	"btrfs-backup/internal/store"
)

// Reading tells how stores are looked at.
type Reading struct {
	Stores  Stores            // how they are reached
	Of      map[string]Stores // how single ones are, by their places
	Signers []string          // public keys whose signatures count, beside those on record
	// Identities gives secret keys. It is nil if none are given: few things need one.
	Identities func(ctx context.Context) (seal.Identities, error)
}

// Look lists a place that is looked at, as inventory.Look does.
func (m *Machines) Look(ctx context.Context, p Place, snapshotFolder string) (inventory.Place, error) {
	s, ok := p.(Store)
	if !ok {
		h, path := m.At(p)
		return inventory.Look(ctx, h, path, snapshotFolder)
	}
	r, err := m.reader(ctx)
	if err != nil {
		return inventory.Place{}, err
	}
	place, found, err := r.Look(ctx, m.storesOf(s).At(s, m, m.env.Log))
	if err == nil {
		m.keep(found)
	}
	return place, err
}

// FindStored tells what the place of a store means.
func (m *Machines) FindStored(ctx context.Context, s Store) (offsite.Reader, *offsite.Found, error) {
	r, err := m.reader(ctx)
	if err != nil {
		return r, nil, err
	}
	found, err := offsite.Find(ctx, m.storesOf(s).At(s, m, m.env.Log), r.Options)
	if err == nil {
		m.keep(found)
	}
	return r, found, err
}

func (m *Machines) storesOf(s Store) Stores {
	if of, ok := m.Of[s.String()]; ok {
		return of
	}
	return m.Stores
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
	var own []seal.Signer
	signer, err := seal.ReadSigner(filepath.Join(m.env.State, seal.SigningKeyFile))
	if err == nil {
		own, r.Signer = append(own, signer), signer
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return r, err
	}
	signers, err := seal.ReadSigners(filepath.Join(m.env.State, seal.SignersFile), own...)
	if err != nil {
		return r, err
	}
	for _, key := range m.Signers {
		if err := signers.Count(key); err != nil {
			return r, hint.New(fmt.Errorf("--signer: %w", err), "`btrfs-backup key list` shows that of a machine")
		}
	}
	if len(signers.All()) > 0 {
		r.Trusts = signers.Trusts
	}
	if m.Identities != nil {
		r.Identities, err = m.Identities(ctx)
	}
	return r, err
}
