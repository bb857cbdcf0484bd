package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/config"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/inventory"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/removal"
	"btrfs-backup/internal/tree"
	"btrfs-backup/lock"
	"btrfs-backup/retention"
)

type pruneOptions struct {
	prefix    string
	snapshots retention.Policy
	backups   retention.Policy
	compat    string
	config    string
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
job. Nothing is deleted where the listing or a record leaves a doubt.`,
		Args: needPlace("PLACE"),
		RunE: func(c *cobra.Command, args []string) error { return o.prune(c.Context(), env, args) },
	}
	f := c.Flags()
	defineKeep(&o.snapshots, &o.backups, f)
	defineCompat(&o.compat, f)
	f.StringVarP(&o.prefix, "snapshot-prefix", "p", "", "only names that begin with `PREFIX`")
	f.StringVarP(&o.folder, "snapshot-folder", "f", job.Default().Subvolume.Folder, "`FOLDER` in a source")
	defineConfig(&o.config, f)
	o.removalOptions.define(f)
	return c
}

func (o *pruneOptions) isGiven() bool {
	return o.snapshots != (retention.Policy{}) || o.backups != (retention.Policy{})
}

func (o *pruneOptions) prune(ctx context.Context, env environment, args []string) error {
	outlivePipes()
	var c job.Complaints
	job.CheckNumber("num-snapshots", o.snapshots.Last, &c)
	job.CheckNumber("num-backups", o.backups.Last, &c)
	job.CheckCompat(o.compat, o.snapshots, []retention.Policy{o.backups}, &c)
	if err := c.Err(); err != nil {
		return err
	}
	log := env.newLog(slog.LevelInfo)
	places, machines, err := look(env, log, o.reach, args)
	if err != nil {
		return err
	}
	defer machines.Close()
	choices := make(map[string]removal.ByPolicy)
	for _, p := range places {
		choice := removal.ByPolicy{Policy: inventory.Policy{Prefix: o.prefix, Snapshots: o.snapshots, Backups: o.backups, Rule: o.compat}}
		if !o.isGiven() {
			if choice, err = o.configured(p, lock.State{Dir: machineState()}); err != nil {
				return err
			}
		}
		choice.Now = env.now()
		choices[p.String()] = choice
	}
	orders, failed := o.inFolders(ctx, machines, places, func(p job.Place, _ inventory.Place) (removal.Choice, error) {
		return choices[p.String()], nil
	})
	items, err := removal.Run(ctx, orders, removal.Options{Log: log, DryRun: o.dryRun})
	return o.tell(env, items, errors.Join(failed, err))
}

// configured gives the policy of the job that has a place as a source or a destination.
func (o *pruneOptions) configured(p job.Place, known lock.State) (choice removal.ByPolicy, err error) {
	found, err := lookInto(o.config)
	if err != nil {
		return choice, errors.Join(misused(fmt.Sprintf("%s: no policy is given", p), "--keep-backups 14d8w12m, --keep-snapshots 24h7d"), err)
	}
	var jobs []*config.Job
	for _, j := range found.Jobs {
		same := func(other job.Place) bool { return other != nil && other.String() == p.String() }
		if same(j.Spec.Source) || slices.ContainsFunc(j.Spec.Members, func(m job.Member) bool { return same(m.Source) }) ||
			slices.ContainsFunc(j.Spec.Destinations, same) {
			jobs = append(jobs, j)
		}
	}
	switch {
	case len(jobs) == 0:
		return choice, misused(fmt.Sprintf("%s: no policy is given, and no job of the configuration has it as a source or destination", p),
			"--keep-backups 14d8w12m, --keep-snapshots 24h7d")
	case len(jobs) > 1:
		var names []string
		for _, j := range jobs {
			names = append(names, j.Name)
		}
		return choice, misused(fmt.Sprintf("%s: several jobs have it: %s", p, strings.Join(names, ", ")), "give the policy: --keep-backups, --keep-snapshots")
	}
	return o.of(p, &jobs[0].Spec, known)
}

// of gives the policy of a job at one of its places.
func (o *pruneOptions) of(p job.Place, s *job.Spec, known lock.State) (choice removal.ByPolicy, err error) {
	choice = removal.ByPolicy{Naming: &engine.Naming{Prefix: s.Prefix, Scheme: s.Scheme}, Of: []inventory.Owner{},
		Policy: inventory.Policy{Prefix: s.Prefix, Snapshots: s.KeepSnapshots, Backups: s.KeepBackups, Rule: s.Compat}}
	o.folder = s.Subvolume.Folder
	if at, differs := s.To[p.String()]; differs && at.KeepBackups != (retention.Policy{}) {
		choice.Backups = at.KeepBackups
	}
	for _, d := range s.Destinations {
		if s := d.String(); s != p.String() {
			choice.Destinations = append(choice.Destinations, engine.PlaceName(s))
		}
	}
	sources := []job.Place{s.Source}
	if s.Source == nil {
		sources = nil
	}
	for _, m := range s.Members {
		sources = append(sources, m.Source)
	}
	for _, source := range sources {
		owner, err := ownerOf(source, known)
		if err != nil {
			return choice, err
		}
		choice.Of = append(choice.Of, owner)
	}
	if slices.ContainsFunc(sources, func(source job.Place) bool { return source.String() == p.String() }) {
		choice.Backups = retention.Policy{}
	} else {
		choice.Snapshots = retention.Policy{}
	}
	if choice.Snapshots == (retention.Policy{}) && choice.Backups == (retention.Policy{}) {
		return choice, misused(fmt.Sprintf("%s: its job keeps all", p), "--keep-backups 14d8w12m, --keep-snapshots 24h7d")
	}
	return choice, nil
}

// ownerOf tells how backups of a source are known.
func ownerOf(source job.Place, known lock.State) (owner inventory.Owner, err error) {
	name := engine.PlaceName(source.String())
	owner.Origin = tree.Origin{Source: name}
	if local, ok := source.(job.Local); ok {
		owner.Origin = tree.Origin{Source: engine.PlaceName(host.Name() + ":" + local.Path), Machine: host.Machine()}
	}
	texts, err := known.Source(name)
	for _, text := range texts {
		var uuid btrfs.UUID
		if uuid.UnmarshalText([]byte(text)) == nil {
			owner.UUIDs = append(owner.UUIDs, uuid)
		}
	}
	return owner, err
}
