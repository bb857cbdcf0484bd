package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
)

type usageOptions struct {
	listOptions
	prune pruneOptions // of which the policy is taken
}

func newUsage(env environment) *cobra.Command {
	o := &usageOptions{listOptions: listOptions{reach: job.Default().Reach}}
	c := &cobra.Command{
		Use:   "usage [options] PLACE...",
		Short: "Show what backups take, and when a disk is full",
		Example: "  btrfs-backup usage /mnt/usb\n" +
			"  btrfs-backup usage --keep-backups 14d8w12m nas:/backup/home",
		Long: `Show for each source with backups in each PLACE, or in folders below it, how
many there are, what data they have for themselves, how many of them a policy
gives up in the next 30 days, and what that frees: data that no other one has.
Then tell when the disk is full if it goes on as in the last 30 days. What
cannot be told is unknown. Without a policy, it is that of the job in the
configuration which has the folder as a destination. Nothing is changed.`,
		Args: needPlace("PLACE"),
		RunE: func(c *cobra.Command, args []string) error { return o.usage(c.Context(), env, args) },
	}
	f := c.Flags()
	defineKeep(&o.prune.Snapshots, &o.prune.Backups, f)
	defineCompat(&o.prune.Rule, f)
	defineConfig(&o.prune.config, f)
	o.define(f)
	o.defineReading(f)
	defineIdentities(&o.identities, f)
	return c
}

func (o *usageOptions) usage(ctx context.Context, env environment, texts []string) error {
	if err := checkPolicies(o.prune.Snapshots, o.prune.Backups, o.prune.Rule).Err(); err != nil {
		return err
	}
	places, machines, errs, err := o.look(ctx, env, texts)
	if err != nil {
		return err
	}
	defer machines.Close()
	asked, _ := job.ParsePlaces(texts) // which look understood
	all := []inventory.Usage{}
	for i, place := range places {
		if errs[i] != nil {
			continue
		}
		u, err := place.Usage(ctx, func(folder inventory.Place) inventory.Policy { return o.policyAt(asked[i], folder) }, env.now())
		if errs[i] = err; err != nil {
			continue
		}
		all = append(all, u)
		if !o.json {
			errs = append(errs, u.Write(env.stdout))
		}
	}
	if o.json {
		errs = append(errs, report.WriteJSON(env.stdout, all))
	}
	return errors.Join(errs...)
}

// policyAt gives the policy for a folder on the machine of a place; none if that is not known.
func (o *usageOptions) policyAt(asked job.Place, folder inventory.Place) inventory.Policy {
	prune := o.prune
	prune.Prefix = o.prefix
	choice, err := prune.choice(job.FolderOf(asked, folder))
	if err != nil {
		return inventory.Policy{Prefix: o.prefix}
	}
	return choice.Policy
}
