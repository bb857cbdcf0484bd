package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

type explainOptions struct {
	listOptions
	snapshots retention.Policy
	backups   retention.Policy
	compat    string
	days      int
	all       bool
}

const mostDays = 3660 // to look ahead

func newExplain(env environment) *cobra.Command {
	o := &explainOptions{listOptions: listOptions{reach: job.Default().Reach}}
	c := &cobra.Command{
		Use:   "explain [options] PLACE...",
		Short: "Show why snapshots and backups stay or go, and when",
		Example: "  btrfs-backup explain --keep-backups 14d8w12m /mnt/usb/home\n" +
			"  btrfs-backup explain -N 7 -n 60 /home nas:/backup/home",
		Long: `Show for each snapshot or backup in each PLACE, as "list" knows them, whether a
policy keeps it now, why, and the day on which a run will delete it, if as many
are made as lately. Nothing is changed. Snapshots are kept by --keep-snapshots,
backups by --keep-backups, those of each source and prefix by themselves.
Without a policy, it is that of the job in the configuration which has PLACE.
What a run knows besides, of both sides, is told by
"btrfs-backup --dry-run SOURCE DEST".`,
		Args: needPlace("PLACE"),
		RunE: func(c *cobra.Command, args []string) error { return o.explain(c.Context(), env, args) },
	}
	o.define(c.Flags())
	return c
}

func (o *explainOptions) define(f *pflag.FlagSet) {
	defineKeep(&o.snapshots, &o.backups, f)
	defineCompat(&o.compat, f)
	f.IntVar(&o.days, "days", 400, "look `N` days ahead")
	f.BoolVar(&o.all, "all", false, "show all lines; --json has all, too")
	o.listOptions.define(f)
	defineConfig(&o.config, f)
	o.defineReading(f)
	defineIdentities(&o.identities, f)
}

func (o *explainOptions) check() (c job.Complaints) {
	c = checkPolicies(o.snapshots, o.backups, o.compat)
	if o.days < 0 || o.days > mostDays {
		c.Add("days", fmt.Sprintf("use 0 to %d", mostDays), "%d is no number of days to look ahead", o.days)
	}
	return c
}

// explain tells of the places, as list does.
func (o *explainOptions) explain(ctx context.Context, env environment, places []string) error {
	if err := o.check().Err(); err != nil {
		return err
	}
	contents, machines, errs, err := o.look(ctx, env, places)
	if err != nil {
		return err
	}
	defer machines.Close()
	asked, _ := job.ParseHoldings(places) // of which look complained
	all := []inventory.Decided{}
	var failures []error
	for i, c := range contents {
		if errs[i] != nil {
			failures = append(failures, errs[i])
			continue
		}
		for _, folder := range c.Folders() {
			folder, err := folder.Whole(ctx)
			if err != nil {
				failures = append(failures, err)
				continue
			}
			policy, told := o.policyFor(asked[i], folder)
			found, err := folder.Decide(policy, env.now())
			if err != nil {
				failures = append(failures, err)
				continue
			}
			all = append(all, found...)
			if !o.json {
				fmt.Fprint(env.stdout, told)
				failures = append(failures, inventory.WriteDecided(env.stdout, folder.Folder, found, o.all))
			}
		}
	}
	if o.json {
		failures = append(failures, report.WriteJSON(env.stdout, all))
	} else if len(all) > 0 {
		fmt.Fprintln(env.stdout, "Nothing was deleted; a run with the same policy, or prune, deletes what goes.")
	}
	return errors.Join(failures...)
}

// policyFor gives the policy for a folder in a place: what is given or else what the configuration has, of which a line is told.
func (o *explainOptions) policyFor(asked job.Place, folder inventory.Place) (p inventory.Policy, told string) {
	p = inventory.Policy{Prefix: o.prefix, Snapshots: o.snapshots, Backups: o.backups, Rule: o.compat, Days: o.days}
	prune := pruneOptions{Policy: p, config: o.config}
	choice, err := prune.choice(asked)
	if err != nil {
		choice, err = prune.choice(job.FolderOf(asked, folder))
	}
	if err != nil || p.Snapshots != (retention.Policy{}) || p.Backups != (retention.Policy{}) {
		return p, ""
	}
	p.Snapshots, p.Backups, p.Rule, p.Prefix = choice.Snapshots, choice.Backups, choice.Rule, cmp.Or(p.Prefix, choice.Prefix)
	return p, fmt.Sprintf("By the policy of the configuration, %s:\n", cmp.Or(p.Snapshots, p.Backups))
}
