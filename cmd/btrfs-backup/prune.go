package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/removal"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

type pruneOptions struct {
	inventory.Policy
	config string
	removalOptions
}

func newPrune(env environment) *cobra.Command {
	o := &pruneOptions{}
	c := &cobra.Command{
		Use:   "prune [options] PLACE...",
		Short: "Delete what a policy gives up, without a backup",
		Example: "  btrfs-backup prune --dry-run --keep-backups 14d8w12m /mnt/usb/home\n" +
			"  btrfs-backup prune /mnt/usb/home    by the policy in the configuration",
		Long: `Delete in each PLACE, as "explain" knows them, what a run with the same policy
would delete there, as far as that can be known from this side alone: see
"btrfs-backup explain". Without a policy, it is that of the job in the
configuration which has PLACE as a source or destination, for what is of that
job. Nothing is deleted where the listing or a record leaves a doubt. What a
kept backup in a store builds on stays, and so do two complete copies.`,
		Args: needPlace("PLACE"),
		RunE: func(c *cobra.Command, args []string) error { return o.prune(c.Context(), env, args) },
	}
	f := c.Flags()
	defineKeep(&o.Snapshots, &o.Backups, f)
	defineCompat(&o.Rule, f)
	f.StringVarP(&o.Prefix, "snapshot-prefix", "p", "", "only names that begin with `PREFIX`")
	defineConfig(&o.config, f)
	o.define(f)
	o.defineReading(f)
	return c
}

func (o *pruneOptions) prune(ctx context.Context, env environment, args []string) error {
	outlivePipes()
	if err := checkPolicies(o.Snapshots, o.Backups, o.Rule).Err(); err != nil {
		return err
	}
	places, machines, err := o.look(env, o.config, args)
	if err != nil {
		return err
	}
	defer machines.Close()
	choices := make([]removal.ByPolicy, len(places))
	for i, p := range places {
		if choices[i], err = o.choice(p); err != nil {
			return err
		}
		choices[i].Now = env.now()
	}
	orders, err := machines.InFolders(ctx, places, o.folder, func(i int) removal.Choice { return choices[i] })
	return o.remove(ctx, env, orders, err)
}

// choice gives the policy for a place: the one that is given, or that of the one job which has the place.
func (o *pruneOptions) choice(p job.Place) (choice removal.ByPolicy, err error) {
	if o.Snapshots != (retention.Policy{}) || o.Backups != (retention.Policy{}) {
		return removal.ByPolicy{Policy: o.Policy}, nil
	}
	found, err := lookInto(o.config)
	if err != nil {
		return choice, errors.Join(misused(fmt.Sprintf("%s: there is no policy", p), job.GivePolicy), err)
	}
	j, err := found.JobAt(p)
	if err == nil {
		o.folder = j.Spec.Subvolume.Folder
		choice, err = j.Spec.PolicyAt(p, lock.State{Dir: lock.StateDir()})
	}
	if hint.Of(err) == job.GivePolicy {
		err = misused(err.Error(), job.GivePolicy)
	}
	return choice, err
}
