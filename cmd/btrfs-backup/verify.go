package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/report"
	"btrfs-backup/internal/set"
	"btrfs-backup/internal/tree"
)

type verifyOptions struct {
	fast   bool
	export bool
	json   bool
	reach  job.Reach
}

func newVerify(env environment) *cobra.Command {
	o := &verifyOptions{reach: job.Default().Reach}
	c := &cobra.Command{
		Use:   "verify [options] BACKUP...",
		Short: "Compare backups that were made by rsync with their manifests",
		Example: `  btrfs-backup verify /mnt/usb/etc/20261121-044803      read all of it
  btrfs-backup verify --fast nas:/backup/etc/.latest    all but contents
  cd /mnt/usb/etc/.latest && btrfs-backup verify --export . | sha256sum -c`,
		Long: `Compare each BACKUP with the manifest that was written when it was made, and
name each difference: files missing or added, types, sizes, times, modes,
owners, symbolic and hard links, extended attributes with ACLs, contents. Only
backups made by rsync have a manifest. A set stands for the backups of all its
members, and a folder of sets for all of them. Exit status 4 tells that
something differs.`,
		Args: needPlace("BACKUP"),
		RunE: func(c *cobra.Command, args []string) error { return verify(c.Context(), env, o, args) },
	}
	f := c.Flags()
	f.BoolVar(&o.fast, "fast", false, "compare all but the contents")
	f.BoolVar(&o.export, "export", false, "print the list that sha256sum -c takes")
	f.BoolVar(&o.json, "json", false, "print JSON")
	defineReach(&o.reach, f)
	defineFurtherReach(&o.reach, f)
	return c
}

// verified is what came of one backup.
type verified struct {
	Backup      string            `json:"backup"`
	Files       int64             `json:"files"`
	Bytes       int64             `json:"bytes_read"`
	Differences []tree.Difference `json:"differences"`
	Failure     *engine.Failure   `json:"failure,omitempty"`
}

func verify(ctx context.Context, env environment, o *verifyOptions, texts []string) error {
	env, display := env.withBars()
	defer display.Close()
	log := env.newLog(slog.LevelWarn)
	places, machines, err := look(env, log, o.reach, texts)
	if err != nil {
		return err
	}
	defer machines.Close()
	var all []verified
	differs := false
	for _, p := range places {
		h, path := machines.At(p)
		backups, err := set.Backups(ctx, h, path)
		if err != nil {
			return err
		}
		for _, backup := range backups {
			if o.export {
				if err := export(ctx, env.data, h, backup); err != nil {
					return err
				}
				continue
			}
			v, err := o.one(ctx, env, display, h, backup)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if errors.Is(err, tree.ErrNoManifest) && hint.Of(err) == "" {
				err = hint.New(err, "only backups made by rsync have one; `btrfs scrub` reads all of a subvolume and compares checksums")
			}
			if err != nil {
				v.Failure = &engine.Failure{Err: err}
			}
			differs = differs || len(v.Differences) > 0
			all = append(all, v)
		}
	}
	if o.json {
		if err := report.WriteJSON(env.stdout, all); err != nil {
			return err
		}
	}
	return verdictOf(env, all, differs)
}

// verdictOf tells every failure, and gives an error unless every backup is as it was made.
func verdictOf(env environment, all []verified, differs bool) error {
	failed := slices.DeleteFunc(slices.Clone(all), func(v verified) bool { return v.Failure == nil })
	for _, v := range failed {
		complain(env, v.Failure.Err)
	}
	switch {
	case differs:
		return statusError(exitDiffer)
	case len(failed) > 0:
		return statusError(exitFailed)
	}
	return nil
}

// one verifies a backup and prints what differs as it is found.
func (o *verifyOptions) one(ctx context.Context, env environment, display *progress.Display, h host.Trees, backup string) (verified, error) {
	v := verified{Backup: h.String() + backup, Differences: []tree.Difference{}}
	dir, name, err := openBackup(ctx, h, backup)
	if err != nil {
		return v, err
	}
	defer dir.Close()
	if o.fast {
		display = progress.Silent()
	}
	shown := display.Start(ctx, "reading "+v.Backup, nil)
	sum, err := dir.VerifyTree(ctx, name, tree.VerifyOptions{Fast: o.fast}, func(d tree.Difference) {
		v.Differences = append(v.Differences, d)
		if !o.json {
			fmt.Fprintln(env.stdout, progress.Line(describeDifference(d)))
		}
	}, func(read, total int64) {
		shown.Set(read)
		shown.SetTotal(progress.Total{Bytes: total})
	})
	shown.Vanish()
	v.Files, v.Bytes = sum.Files, sum.Bytes
	if err != nil || o.json {
		return v, err
	}
	_, err = fmt.Fprintln(env.stdout, progress.Line(summary(v, o.fast)))
	return v, err
}

func describeDifference(d tree.Difference) string {
	text := fmt.Sprintf("%-12s %s", d.Kind, progress.Name(d.Path))
	switch {
	case d.Want == "" && d.Got != "":
		text += fmt.Sprintf(" (%s)", d.Got)
	case d.Want != "" || d.Got != "":
		text += fmt.Sprintf(" (is %s, was %s)", d.Got, d.Want)
	}
	return text
}

// summary tells how many differences of each kind there are.
func summary(v verified, fast bool) string {
	how := progress.Bytes(v.Bytes) + " read"
	if fast {
		how = "contents not read"
	}
	start := fmt.Sprintf("%s: %d files, %s: ", v.Backup, v.Files, how)
	if len(v.Differences) == 0 {
		return start + "no differences"
	}
	counts := make(map[tree.DifferenceKind]int)
	var kinds []string
	for _, d := range v.Differences {
		if counts[d.Kind]++; counts[d.Kind] == 1 {
			kinds = append(kinds, string(d.Kind))
		}
	}
	slices.Sort(kinds)
	for i, k := range kinds {
		kinds[i] = fmt.Sprintf("%d %s", counts[tree.DifferenceKind(k)], k)
	}
	return start + "DIFFERS: " + strings.Join(kinds, ", ")
}

// openBackup opens the folder of a backup.
func openBackup(ctx context.Context, h host.Trees, backup string) (*host.TreeDir, string, error) {
	dir, err := h.OpenTrees(ctx, path.Dir(backup), tree.OpenOptions{})
	if err != nil {
		return nil, "", err
	}
	return dir, path.Base(backup), nil
}

func export(ctx context.Context, w io.Writer, h host.Trees, backup string) error {
	dir, name, err := openBackup(ctx, h, backup)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.ExportTree(ctx, name, w)
}
