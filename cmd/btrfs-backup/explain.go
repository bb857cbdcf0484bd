package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/report"
	"btrfs-backup/retention"
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
backups by --keep-backups, those of each source and prefix by themselves. What a
run knows besides, of both sides, "btrfs-backup --dry-run SOURCE DEST" tells.`,
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
}

func (o *explainOptions) check() (c job.Complaints) {
	job.CheckNumber("num-snapshots", o.snapshots.Last, &c)
	job.CheckNumber("num-backups", o.backups.Last, &c)
	job.CheckCompat(o.compat, o.snapshots, []retention.Policy{o.backups}, &c)
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
	contents, errs, err := o.contents(ctx, env, places)
	if err != nil {
		return err
	}
	all := []explained{}
	var failures []error
	for i, c := range contents {
		if errs[i] != nil {
			failures = append(failures, errs[i])
			continue
		}
		folders := slices.DeleteFunc(slices.Clone(c.below), c.isMember)
		if len(folders) == 0 || len(c.InDirectory) > 0 || len(c.sets) > 0 {
			folders = append([]content{c}, folders...)
		}
		for _, folder := range folders {
			decide := o.decide
			if len(folder.sets) > 0 {
				decide = o.decideSets
			}
			found, err := decide(folder, env.now())
			if err != nil {
				failures = append(failures, err)
				continue
			}
			all = append(all, found...)
			if !o.json {
				failures = append(failures, explainTable{env.stdout, o.all}.print(folder.Folder, found))
			}
		}
	}
	if o.json {
		failures = append(failures, report.WriteJSON(env.stdout, all))
	} else if len(all) > 0 {
		fmt.Fprintln(env.stdout, "Nothing was deleted; a run with the same policy deletes what goes.")
	}
	return errors.Join(failures...)
}

// explained is what a policy makes of one snapshot or backup.
type explained struct {
	Place string `json:"place"`
	retention.Verdict
	Time   time.Time `json:"time,omitzero"`
	Kind   kind      `json:"kind"`
	Source string    `json:"source,omitempty"` // of a backup made by rsync
	Goes   time.Time `json:"goes,omitzero"`    // when a run will delete what it keeps now
}

// A scope is what a policy is applied to.
type scope struct {
	engine.Naming
	kind
	source string
}

// decide applies the policies to what a place holds, and gives the newest first.
func (o *explainOptions) decide(c content, now time.Time) ([]explained, error) {
	holds, holdsErr := c.Holds()
	source, sourceErr := c.sources()
	if err := errors.Join(holdsErr, sourceErr); err != nil {
		return nil, err
	}
	var all []explained
	candidates := make(map[scope][]retention.Snapshot)
	described := make(map[string]explained)
	for _, l := range describe(c, o.prefix) {
		if l.Kind != snapshotKind && l.Kind != backupKind {
			continue
		}
		e := explained{Place: l.Place, Time: l.Time, Kind: l.Kind, Source: l.Source, Verdict: retention.Verdict{Name: l.Name, Keep: true}}
		naming, dated := engine.NamingOf(l.Name)
		candidate, _ := naming.Snapshot(l.Name)
		switch {
		case l.Altered && l.Kind == snapshotKind:
			e.Reasons = []string{"altered since it was taken"}
		case l.Altered:
			e.Reasons = []string{"altered since it was received"}
		case !dated:
			e.Reasons = []string{"its name has no date"}
		default:
			of := scope{naming, l.Kind, source(l.Name)}
			candidate.Holds = holds[l.Name]
			candidates[of] = append(candidates[of], candidate)
			described[l.Name] = e
			continue
		}
		all = append(all, e)
	}
	for of, candidates := range candidates {
		c.holdComplete(candidates)
		policy := o.backups
		if of.kind == snapshotKind {
			policy = o.snapshots
		}
		policy, _ = policy.As(o.compat) // which was checked
		goes := retention.Forecast(policy, now, candidates, retention.Interval(now, candidates), now.AddDate(0, 0, o.days))
		for _, v := range retention.Decide(policy, now, candidates) {
			e := described[v.Name]
			e.Verdict, e.Goes = v, goes[v.Name]
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b explained) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.Name, b.Name)) })
	return all, nil
}

// isMember tells that a folder below is that of a member of a set.
func (c content) isMember(below content) bool {
	return slices.ContainsFunc(c.sets, func(s host.Set) bool { return slices.Contains(s.Members, path.Base(below.Folder)) })
}

// decideSets applies the policy to the backups of all members as to one.
func (o *explainOptions) decideSets(c content, now time.Time) (all []explained, err error) {
	var candidates []retention.Snapshot
	for _, below := range slices.DeleteFunc(slices.Clone(c.below), func(b content) bool { return !c.isMember(b) }) {
		holds, err := below.Holds()
		if err != nil {
			return nil, err
		}
		own := []retention.Snapshot{}
		for _, l := range describe(below, o.prefix) {
			if naming, dated := engine.NamingOf(l.Name); dated && l.Kind == backupKind && !l.Altered {
				s, _ := naming.Snapshot(l.Name)
				s.Holds = holds[l.Name]
				own = append(own, s)
			}
		}
		below.holdComplete(own)
		candidates = append(candidates, own...)
	}
	for _, s := range slices.Backward(c.sets) {
		if naming, dated := engine.NamingOf(s.Name); dated && len(s.Missing) == 0 {
			newest, _ := naming.Snapshot(s.Name)
			newest.Holds = []string{"the newest complete set"}
			candidates = append(candidates, newest)
			break
		}
	}
	candidates = retention.Merge(candidates)
	policy, _ := o.backups.As(o.compat) // which was checked
	goes := retention.Forecast(policy, now, candidates, retention.Interval(now, candidates), now.AddDate(0, 0, o.days))
	for _, v := range slices.Backward(retention.Decide(policy, now, candidates)) {
		all = append(all, explained{Place: c.Folder, Verdict: v, Time: timeOf(btrfs.Subvolume{Name: v.Name}), Kind: setKind, Goes: goes[v.Name]})
	}
	return all, nil
}

// sources gives the function that identifies the source of what has a name in the place.
func (c content) sources() (func(name string) string, error) {
	sourceOf, err := c.Content.Sources()
	if err != nil {
		return nil, err
	}
	subvolumes := make(map[string]btrfs.Subvolume)
	for _, s := range c.InDirectory {
		subvolumes[s.Name] = s
	}
	return func(name string) string {
		record, ok := c.record(name)
		if !ok {
			return sourceOf(subvolumes[name]).String()
		}
		for _, r := range slices.Backward(c.trees.Backups) { // the newest has the name that the machine has now
			if r.Same(record.Origin) {
				return r.Source
			}
		}
		return record.Source
	}, nil
}

// holdComplete holds the newest complete one among the backups of a directory, however many incomplete ones came after it.
func (c content) holdComplete(candidates []retention.Snapshot) {
	for _, r := range slices.Backward(c.trees.Backups) {
		i := slices.IndexFunc(candidates, func(s retention.Snapshot) bool { return s.Name == r.Name })
		if i >= 0 && r.Complete() {
			candidates[i].Holds = append(candidates[i].Holds, "the newest complete one")
			return
		}
	}
}
