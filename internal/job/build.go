package job

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/mirror"
	"btrfs-backup/internal/progress"
	"btrfs-backup/internal/rsh"
	"btrfs-backup/internal/sink"
	"btrfs-backup/internal/volume"
	"btrfs-backup/transport"

	"golang.org/x/time/rate"
)

// A Run does a job. What failed stands in the report, which is never nil; see engine.Run.
type Run func(ctx context.Context) (*engine.Report, error)

// builder makes the parts of one job.
type builder struct {
	*Spec
	*Machines
	Environment
}

// Build makes the parts of a job of which Check has nothing to say. It looks at the source if the engine depends on that; what
// is wrong with the job then is an error of type Complaints.
func (s *Spec) Build(ctx context.Context, m *Machines, e Environment) (Run, error) {
	b := builder{s, m, e}
	use, known := s.engine()
	if !known {
		use = b.find(ctx)
		if err := s.checkFor(use).Err(); err != nil {
			return nil, err
		}
	}
	if use == Rsync {
		job := b.copyJob()
		return func(ctx context.Context) (*engine.Report, error) { return engine.RunCopy(ctx, job) }, nil
	}
	job, err := b.volumeJob(ctx)
	return func(ctx context.Context) (*engine.Report, error) { return engine.Run(ctx, job) }, err
}

// find gives the engine for what the source is. What cannot be opened is for the engine to tell.
func (b *builder) find(ctx context.Context) Engine {
	h, path := b.At(b.Source)
	dir, err := h.Open(ctx, path)
	if err != nil {
		return Btrfs
	}
	defer dir.Close()
	if dir.Status().Btrfs && dir.Status().IsRoot {
		return Btrfs
	}
	return Rsync
}

func (b *builder) settings() engine.Settings {
	return engine.Settings{NoWait: b.NoWait, DryRun: b.DryRun, Log: b.Log, Progress: cmp.Or(b.Progress, progress.Silent()), Now: b.Now}
}

func (b *builder) naming() engine.Naming { return engine.Naming{Prefix: b.Prefix} }

// volumeJob makes the job of a source that is a subvolume.
func (b *builder) volumeJob(ctx context.Context) (engine.Job, error) {
	o := b.Subvolume
	h, path := b.At(b.Source)
	source := volume.NewSource(h, path, o.Folder, b.volumeOptions())
	destinations := b.Destinations
	if o.LockedDests {
		more, err := ParsePlaces(outstanding(ctx, source, b.naming()))
		if err != nil {
			return engine.Job{}, err
		}
		destinations = slices.Concat(destinations, more)
	}
	job := engine.Job{
		Source: source, Naming: b.naming(), KeepSnapshots: b.KeepSnapshots, KeepBackups: b.KeepBackups,
		NoSnapshot: o.NoSnapshot, NoTransfer: o.NoTransfer, NoIncremental: o.NoIncremental,
		RemoveLocks: o.RemoveLocks || b.NewDestination, Settings: b.settings(),
	}
	for _, p := range destinations {
		job.Destinations = addOnce(job.Destinations, b.streamTo(p))
	}
	return job, nil
}

func (b *builder) volumeOptions() volume.Options {
	o := b.Subvolume
	return volume.Options{Log: b.Log, Verbose: o.Verbose, ConvertRW: o.ConvertRW, Sync: o.Sync, SkipChecks: o.SkipChecks,
		Limit: b.RateLimit}
}

// streamTo gives a destination of send streams.
func (b *builder) streamTo(p Place) engine.Destination {
	command, ok := p.(Command)
	if !ok {
		h, path := b.At(p)
		return volume.NewDestination(h, path, b.volumeOptions())
	}
	if b.KeepBackups.Last > 0 {
		b.Log.Warn(fmt.Sprintf("%s: --num-backups does nothing there, since nobody can list what the command stores", p))
	}
	var limiter *rate.Limiter
	if b.RateLimit > 0 {
		limiter = transport.NewLimiter(b.RateLimit)
	}
	return sink.NewCommand(command.Line, limiter, b.Log)
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

// addOnce appends a destination unless it is there.
func addOnce[D fmt.Stringer](all []D, d D) []D {
	if slices.ContainsFunc(all, func(other D) bool { return other.String() == d.String() }) {
		return all
	}
	return append(all, d)
}

// copyJob makes the job of a source that is copied by rsync.
func (b *builder) copyJob() engine.CopyJob {
	for _, o := range b.idleForRsync() {
		if o.given {
			b.Log.Warn(fmt.Sprintf("--%s has nothing to do: %s is copied by rsync", o.name, b.Source))
		}
	}
	job := engine.CopyJob{Naming: b.naming(), Keep: b.KeepBackups, Settings: b.settings()}
	_, fromDaemon := b.Source.(Daemon)
	job.Automatic = b.Engine == Automatic && !fromDaemon
	options, source := b.mirrorOptions(), b.tree()
	job.Tree = source
	for _, p := range b.Destinations {
		job.Mirrors = addOnce(job.Mirrors, b.copyTo(p, source, options))
	}
	return job
}

// filterRules give the options of rsync.
var filterRules = map[string]func(value string) string{
	"exclude":      func(pattern string) string { return "--exclude=" + pattern },
	"exclude-from": func(file string) string { return "--exclude-from=" + file },
	"include":      func(pattern string) string { return "--include=" + pattern },
	"skip":         mirror.Skip,
	"skip-dir":     mirror.SkipDir,
}

func (b *builder) mirrorOptions() mirror.Options {
	o := b.Copy
	m := mirror.Options{Log: b.Log, Progress: b.Progress, Limit: b.RateLimit, MultiFS: o.MultiFS, MaxDelete: o.MaxDelete,
		Dedup: o.Dedup, MountPoint: o.MountPoint, NewDestination: b.NewDestination, State: b.State}
	for _, f := range o.Filters {
		m.Filters = append(m.Filters, filterRules[f.Rule](f.Value))
	}
	if o.Options != "" {
		m.Rsync, _ = mirror.SplitOptions(o.Options) // which was checked
	}
	return m
}

// tree gives the source of a copy.
func (b *builder) tree() *mirror.Source {
	options := mirror.SourceOptions{Log: b.Log, Marker: b.Copy.Marker, Frozen: b.Copy.Frozen, Incomplete: b.Copy.Incomplete}
	if d, ok := b.Source.(Daemon); ok {
		options.Tunnel = b.tunnel(d)
		return mirror.NewModule(d.URL, options)
	}
	h, path := b.At(b.Source)
	return mirror.NewSource(h, path, options)
}

// copyTo gives a destination of copies.
func (b *builder) copyTo(p Place, source *mirror.Source, o mirror.Options) engine.Mirror {
	d, ok := p.(Daemon)
	if !ok {
		h, path := b.At(p)
		return mirror.NewFolder(h, path, source, o)
	}
	if b.KeepBackups.Last > 0 {
		b.Log.Warn(fmt.Sprintf("%s: --num-backups does nothing there: "+
			"the daemon's machine keeps as many as its `btrfs-backup freeze` says", p))
	}
	return mirror.NewDaemon(d.URL, b.tunnel(d), source, o)
}

// tunnel gives the way to a daemon through another machine, nil if none is asked for.
func (b *builder) tunnel(d Daemon) mirror.Tunnel {
	if b.Copy.Tunnel == "" {
		return nil
	}
	target, _ := parseTarget(b.Copy.Tunnel, b.Copy.Tunnel) // which was checked
	return func(ctx context.Context) (*rsh.Link, error) {
		return rsh.Tunnel(ctx, b.through(target), daemonSeenFrom(target, d))
	}
}
