package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/time/rate"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/sink"
	"btrfs-backup/internal/volume"
	"btrfs-backup/retention"
	"btrfs-backup/transport"
)

// lineInterval is how often progress is told where there is no terminal.
const lineInterval = 30 * time.Second

// backup is the main command.
func backup(ctx context.Context, env environment, o *backupOptions, f *pflag.FlagSet, texts []string) error {
	if err := o.check(); err != nil {
		return err
	}
	if err := o.priority.set(); err != nil {
		return err
	}
	display, log := o.output(env)
	defer display.Close()
	hosts, err := o.remote.hosts(env, log)
	if err != nil {
		return err
	}
	defer hosts.Close()
	run, err := o.runner(ctx, f, texts, hosts, env, display, log)
	if err != nil {
		return err
	}

	log.Info(heading("Started at " + env.now().Format(time.ANSIC)))
	report, err := run()
	display.Close()
	err = o.conclude(env, log, report, err)
	if err == nil {
		log.Info(heading("Finished at " + env.now().Format(time.ANSIC)))
	}
	return err
}

// conclude tells what a run did, and gives the error that the program ends with.
func (o *backupOptions) conclude(env environment, log *slog.Logger, report *engine.Report, err error) error {
	if printErr := o.print(env, log, report); err == nil {
		err = printErr
	}
	for _, f := range report.AllFailures() {
		complain(env.stderr, f.Err)
	}
	if err != nil {
		return err
	}
	if outcome := report.Outcome(); outcome != engine.Done {
		return outcomeError{outcome}
	}
	return nil
}

// runner gives what is to be run: a backup by snapshots, or one by rsync.
func (o *backupOptions) runner(ctx context.Context, f *pflag.FlagSet, texts []string, hosts *hosts, env environment,
	display *progress.Display, log *slog.Logger) (func() (*engine.Report, error), error) {
	places, err := parsePlaces(texts)
	if err != nil {
		return nil, err
	}
	settings := engine.Settings{NoWait: o.noWait, DryRun: o.dryRun, Log: log, Progress: display, Now: env.now}
	byRsync, err := o.usesRsync(ctx, f, places, hosts)
	if err != nil {
		return nil, err
	}
	if byRsync {
		if err := o.checkForRsync(f, texts[0], places, log); err != nil {
			return nil, err
		}
		job, err := o.copyJob(texts, places, hosts, settings)
		return func() (*engine.Report, error) { return engine.RunCopy(ctx, job) }, err
	}
	job, err := o.job(ctx, texts, places, hosts, settings)
	return func() (*engine.Report, error) { return engine.Run(ctx, job) }, err
}

// output gives the display of transfers and the log, which share the terminal.
func (o *backupOptions) output(env environment) (*progress.Display, *slog.Logger) {
	handler := &logHandler{w: env.stderr, level: levels[o.verbosity], now: env.now}
	log := slog.New(handler)
	display := progress.Silent()
	switch {
	case o.noProgress || o.dryRun:
	case env.terminal != nil:
		display = progress.NewBars(env.terminal)
		handler.w = display.Writer(env.stderr)
	default:
		display = progress.NewLines(func(line string) { log.Info(line) }, lineInterval)
	}
	return display, log
}

// job makes the job out of options and places.
func (o *backupOptions) job(ctx context.Context, texts []string, places []place, hosts *hosts, settings engine.Settings) (engine.Job, error) {
	job := engine.Job{
		Naming:        engine.Naming{Prefix: o.prefix},
		KeepSnapshots: retention.Policy{Last: max(o.numSnapshots, 0)},
		KeepBackups:   retention.Policy{Last: max(o.numBackups, 0)},
		NoSnapshot:    o.noSnapshot, NoTransfer: o.noTransfer, NoIncremental: o.noIncremental,
		RemoveLocks: o.removeLocks, Settings: settings,
	}
	from := places[0]
	if from.command != "" {
		return job, &usageError{msg: texts[0] + ": a command cannot be a source", hint: "name a subvolume"}
	}
	common := volume.Options{Log: settings.Log, Verbose: o.btrfsDebug, ConvertRW: o.convertRW, Sync: o.sync, SkipChecks: o.skipChecks,
		Limit: rate.Limit(o.rateLimit)}
	source := volume.NewSource(hosts.of(from), from.path, o.snapshotFolder, common)
	job.Source = source
	destinations := texts[1:]
	if o.lockedDests {
		destinations = append(slices.Clone(destinations), outstanding(ctx, source, job.Naming)...)
	}
	for _, text := range destinations {
		d, err := o.destination(text, hosts, common)
		if err != nil {
			return job, err
		}
		same := func(other engine.Destination) bool { return other.String() == d.String() }
		if !slices.ContainsFunc(job.Destinations, same) {
			job.Destinations = append(job.Destinations, d)
		}
	}
	return job, nil
}

func (o *backupOptions) destination(text string, hosts *hosts, common volume.Options) (engine.Destination, error) {
	p, err := parsePlace(text)
	if err != nil {
		return nil, err
	}
	if p.command == "" {
		return volume.NewDestination(hosts.of(p), p.path, common), nil
	}
	if o.numBackups > 0 {
		common.Log.Warn(text + ": --num-backups does nothing there, since nobody can list what the command stores")
	}
	var limiter *rate.Limiter
	if common.Limit > 0 {
		limiter = transport.NewLimiter(common.Limit)
	}
	return sink.NewCommand(p.command, limiter, common.Log), nil
}

// outstanding gives the destinations that the ledger has unfinished transfers to. That a ledger cannot be read is told by
// the run, which reads it too.
func outstanding(ctx context.Context, source *volume.Source, naming engine.Naming) []string {
	if err := source.Open(ctx, false); err != nil {
		return nil
	}
	defer source.Close()
	if _, err := source.List(ctx); err != nil {
		return nil
	}
	ledger, err := source.Ledger(ctx, naming.Ours)
	if err != nil {
		return nil
	}
	return ledger.Outstanding()
}

// print tells what was done: as JSON, as a plan, as a table on a terminal, or as lines of the log.
func (o *backupOptions) print(env environment, log *slog.Logger, report *engine.Report) error {
	switch {
	case o.json:
		return printJSON(env.stdout, report)
	case o.dryRun:
		return printPlan(env.stdout, report)
	case o.quiet:
		return nil
	case env.terminal != nil:
		return printTable(env.stderr, report)
	}
	for _, d := range report.Destinations {
		for _, t := range d.Transfers {
			log.Info(describeTransfer(d.Destination, t))
		}
	}
	return nil
}

func describeTransfer(destination string, t engine.Sent) string {
	kind := "complete copy"
	if t.Parent != "" {
		kind = "increment to " + engine.Printable(t.Parent)
	}
	return fmt.Sprintf("%s: %s %s: %s, %s in %s", destination, t.Snapshot, verdict(t), kind, size(t), progress.Duration(t.Duration))
}

func verdict(t engine.Sent) string {
	switch {
	case t.Failure != nil:
		return "FAILED"
	case t.Incomplete != nil:
		return "saved, INCOMPLETE"
	case t.Stored:
		return "stored, not verified"
	default:
		return "saved"
	}
}

// size tells the bytes of a stream, and those that crossed a network if they were more or fewer.
func size(t engine.Sent) string {
	const noticeable = 20 // one part in so many
	if difference := t.Bytes - t.Wire; t.Wire == 0 || max(difference, -difference) < t.Bytes/noticeable {
		return progress.Bytes(t.Bytes)
	}
	return fmt.Sprintf("%s (%s on the wire)", progress.Bytes(t.Bytes), progress.Bytes(t.Wire))
}

// printPlan tells what a dry run found.
func printPlan(w io.Writer, report *engine.Report) error {
	var b strings.Builder
	section := func(place string, verdicts []retention.Verdict) {
		for _, v := range verdicts {
			fmt.Fprintf(&b, "%s: would %s\n", place, v)
		}
	}
	if report.Snapshot != "" {
		fmt.Fprintf(&b, "%s: would take snapshot %s\n", report.Source, report.Snapshot)
	}
	for _, d := range report.Destinations {
		for _, name := range d.Leftovers {
			fmt.Fprintf(&b, "%s: would delete %s: left unfinished by an earlier run\n", d.Destination, name)
		}
		for _, t := range d.Transfers {
			how, verb := "as a complete copy", "send"
			if t.Parent != "" {
				how = "as an increment to " + engine.Printable(t.Parent)
			}
			if report.Copy {
				verb = "copy " + report.Source + " to"
			}
			fmt.Fprintf(&b, "%s: would %s %s %s\n", d.Destination, verb, t.Snapshot, how)
		}
		section(d.Destination, d.Verdicts)
	}
	if report.Latest != "" {
		fmt.Fprintf(&b, "%s: would point the link to the newest snapshot to %s\n", report.Source, report.Latest)
	}
	section(report.Source, report.Verdicts)
	_, err := io.WriteString(w, b.String())
	return err
}

// printTable sums a run up on a terminal.
func printTable(w io.Writer, report *engine.Report) error {
	rows := [][]string{{"DESTINATION", "SNAPSHOT", "PARENT", "SIZE", "TIME", "VERDICT"}}
	for _, d := range report.Destinations {
		for _, t := range d.Transfers {
			parent := engine.Printable(t.Parent)
			if parent == "" {
				parent = "none"
			}
			rows = append(rows, []string{d.Destination, t.Snapshot, parent, size(t), progress.Duration(t.Duration), verdict(t)})
		}
		if len(d.Failures) > 0 {
			rows = append(rows, []string{d.Destination, "", "", "", "", "FAILED"})
		} else if len(d.Transfers) == 0 {
			rows = append(rows, []string{d.Destination, "", "", "", "", "nothing to send"})
		}
	}
	if len(rows) == 1 {
		return nil
	}
	return writeTable(w, rows)
}
