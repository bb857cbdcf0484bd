package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/btrfs-backup/btrfs-backup/internal/arguments"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/picture"
	"github.com/btrfs-backup/btrfs-backup/internal/picture/web"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
)

type reportOptions struct {
	config, html, serve string
	patience            time.Duration
	json                bool
}

func newReport(env environment) *cobra.Command {
	o := &reportOptions{patience: defaultPatience}
	c := &cobra.Command{
		Use:   "report [options] [JOB...]",
		Short: "Show a picture of all backups: which, until when, and what is wrong",
		Example: "  btrfs-backup report                            here, in characters\n" +
			"  btrfs-backup report --html backups.html        as a page\n" +
			"  btrfs-backup report --serve 127.0.0.1:8090     live, in a browser",
		Long: `Look at the destinations of each JOB of the configuration, or of all, and show
what is wrong first; then for each a calendar of what is there, and of what the
policy will have left in a year; what was sent, what is free, when runs are due,
when backups go and why, when they were verified, and the last runs. The page
needs nothing else and loads nothing. --serve shows it to this machine, with the
progress of runs; Ctrl-C ends it. Nothing is locked or changed. Whether all is
good, the exit status of "btrfs-backup status" tells.`,
		RunE: func(c *cobra.Command, args []string) error { return o.report(c.Context(), env, args) },
	}
	f := c.Flags()
	f.StringVar(&o.html, "html", "", "write the page to `FILE`; - is standard output")
	f.StringVar(&o.serve, "serve", "", "serve the page at `ADDRESS` of this host: 127.0.0.1:8090")
	f.BoolVar(&o.json, "json", false, "show as JSON")
	f.Var(arguments.Time{Of: &o.patience, Least: time.Second}, "timeout", "wait `TIME` for answers")
	defineConfig(&o.config, f)
	return c
}

// report shows the named jobs, or all.
func (o *reportOptions) report(ctx context.Context, env environment, names []string) error {
	if o.html != "" && o.serve != "" || o.json && o.html+o.serve != "" {
		return misused("--html, --serve and --json are different outputs", "give one of them")
	}
	found, err := lookInto(o.config)
	if err != nil {
		return err
	}
	jobs, err := found.Chosen(names)
	if err != nil {
		return err
	}
	look := func(ctx context.Context) picture.Picture {
		q := withRecord(env, standing.Question{Disks: found.Disks, Patience: o.patience})
		return picture.Question{Question: q, Runtime: env.runtime}.Make(ctx, jobs)
	}
	if o.serve != "" {
		s := &web.Server{Make: look, Now: env.now, Runtime: env.runtime, History: report.History{Dir: env.ofJob(nil, nil).State}}
		err := s.Serve(ctx, o.serve, func(url string) { fmt.Fprintf(env.stdout, "%s shows the backups; Ctrl-C ends this\n", url) })
		if errors.As(err, new(web.AddressError)) {
			return misused("--serve: "+err.Error(), hint.Of(err))
		}
		return err
	}
	switch p := look(ctx); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case o.json:
		return report.WriteJSON(env.stdout, p)
	case o.html == "":
		return p.WriteText(env.stdout)
	case o.html == "-":
		return p.WriteHTML(env.stdout)
	default:
		return p.WriteFile(o.html)
	}
}
