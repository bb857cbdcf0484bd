package main

import (
	"cmp"
	"context"

	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/verify"
)

// storedVerify tells how backups in stores are verified.
type storedVerify struct {
	verify.StoredOptions
	readingOptions
}

func (o *storedVerify) define(f *pflag.FlagSet) {
	f.BoolVar(&o.Download, "download", false, "fetch all that a store has, and compare it")
	f.BoolVar(&o.Restore, "restore", false, "restore for a while, compare with snapshots")
	f.StringVar(&o.Scratch, "scratch", "", "let --restore use `DIR`, on a btrfs")
	defineIdentities(&o.identities, f)
	o.defineReading(f)
}

func (o *verifyOptions) verifyStored(ctx context.Context, env environment, m *job.Machines, places []job.Place, told verify.Watcher) error {
	if o.fast || o.all || o.export || o.against != "" {
		return misused("--fast, --all, --export and --against are for backups that are no streams", "leave them out")
	}
	s := o.stored.StoredOptions
	s.Subset, s.Now = o.subset, env.now
	if err := s.Check(len(o.stored.identities) > 0); err != nil {
		return misused(err.Error(), hint.Of(err))
	}
	all, failed := m.VerifyStored(ctx, places, s, told)
	err := o.conclude(ctx, env, all)
	if failed != nil && err != nil {
		complain(env, failed)
		return err
	}
	return cmp.Or(failed, err)
}
