package job

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/mirror"
	"github.com/btrfs-backup/btrfs-backup/internal/mirror/options"
	"github.com/btrfs-backup/btrfs-backup/internal/rsh"
	"github.com/btrfs-backup/btrfs-backup/internal/sink"
	"github.com/btrfs-backup/btrfs-backup/internal/stream"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/internal/volume"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/retention"

	"golang.org/x/time/rate"
)

// builder makes the parts of one job.
type builder struct {
	*Spec
	*Machines
	Environment
}

// Build makes the parts of a job of which Check has nothing to say. It looks at the source if the engine depends on that; what
// is wrong with the job then is an error of type Complaints.
func (s *Spec) Build(ctx context.Context, m *Machines, e Environment) (engine.Job, error) {
	job, _, err := s.buildAs(ctx, m, e, false)
	return job, err
}

// buildAs tells the engine, too. What a member of a set has of settings for the other engine does not count.
func (s *Spec) buildAs(ctx context.Context, m *Machines, e Environment, member bool) (_ engine.Job, use Engine, _ error) {
	b := builder{s, m, e}
	use, known := s.engine()
	if b.Copy.Frozen {
		if h, path := b.At(b.Source); holdsBackups(ctx, h, path) {
			var c Complaints
			c.Add("", "name the directory that the daemon's module takes files into", "%s: is a folder of backups", b.Source)
			return engine.Job{}, use, c.Err()
		}
	}
	if !known {
		var c Complaints
		use = b.find(ctx, &c)
		if member {
			s.only(use)
		}
		if err := slices.Concat(c, s.checkFor(use)).Err(); err != nil {
			return engine.Job{}, use, err
		}
	} else if member {
		s.only(use)
	}
	job := engine.Job{
		Naming: b.naming(), KeepSnapshots: b.ruled(b.KeepSnapshots), KeepBackups: b.ruled(b.KeepBackups),
		KeepAt:        make(map[string]retention.Policy),
		NoIncremental: b.Subvolume.NoIncremental, NewDestination: b.NewDestination,
		SameFilesystem: b.SameFilesystem || b.Copy.Frozen, // which makes backups of a folder beside it
		Settings:       b.settings(),
	}
	for name, to := range b.To {
		if to.KeepBackups != (retention.Policy{}) {
			job.KeepAt[name] = b.ruled(to.KeepBackups)
		}
	}
	if use == Rsync {
		b.addCopies(&job)
		return job, use, nil
	}
	err := b.addVolumes(ctx, &job)
	return job, use, err
}

func (b *builder) settings() engine.Settings {
	return engine.Settings{NoWait: b.NoWait, DryRun: b.DryRun, Log: b.Log, Now: b.Now, State: lock.State{Dir: b.State},
		Around: b.Around}
}

// ruled gives a policy under the job's rule.
func (b *builder) ruled(p retention.Policy) retention.Policy {
	p, _ = p.As(b.Compat) // which was checked
	return p
}

// find gives the engine for what the source is. What cannot be opened is for the engine to tell. A folder of backups is hardly
// meant to be a source.
func (b *builder) find(ctx context.Context, c *Complaints) (found Engine) {
	h, path := b.At(b.Source)
	dir, err := h.Open(ctx, path)
	if err != nil {
		return Btrfs
	}
	defer dir.Close()
	found = Rsync
	if dir.Status().Btrfs && dir.Status().IsRoot {
		found = Btrfs
	}
	if holdsBackups(ctx, h, path) {
		c.Add("", "were SOURCE and DEST exchanged? --relay sends the backups in it on; --engine "+string(found)+" backs up the folder itself", "source %s: is a folder of backups", b.Source)
	}
	return found
}

// holdsBackups tells that there are backups in a directory that are on record.
func holdsBackups(ctx context.Context, h host.Trees, path string) bool {
	if state, err := h.Open(ctx, filepath.Join(path, tree.StateDir)); err != nil || state.Close() != nil {
		return false
	}
	folder, err := h.OpenTrees(ctx, path, tree.OpenOptions{})
	if err != nil {
		return false
	}
	defer folder.Close()
	if trees, err := folder.ListTrees(ctx); err != nil || len(trees.Backups) > 0 {
		return err == nil
	}
	content, err := folder.List(ctx)
	if err != nil {
		return false
	}
	origins, err := host.ParseOrigins(content.Origins)
	return err == nil && slices.ContainsFunc(content.InDirectory, func(s btrfs.Subvolume) bool {
		_, recorded := origins[s.ReceivedUUID]
		return recorded
	})
}

// addVolumes makes the parts for a source that is a subvolume, or a folder of backups that are sent on.
func (b *builder) addVolumes(ctx context.Context, job *engine.Job) error {
	o := b.Subvolume
	h, path := b.At(b.Source)
	job.NoSnapshot, job.NoTransfer, job.Forget = o.NoSnapshot, o.NoTransfer, o.RemoveLocks
	job.OnlyChanged, job.Manifests = o.OnlyChanged, o.Manifest
	job.CleanPartial = o.CleanPartial
	if o.Relay {
		source := volume.NewRelay(h, path, lock.State{Dir: b.State}, b.volumeOptions())
		job.Source, job.NoSnapshot, job.KeepSnapshots = source, true, retention.Policy{}
		return b.addStreams(job, source, b.Destinations)
	}
	source := volume.NewSource(h, path, o.Folder, b.volumeOptions())
	job.Source = source
	destinations := b.Destinations
	if o.LockedDests {
		more, err := ParsePlaces(outstanding(ctx, source, job.Naming))
		if err != nil {
			return err
		}
		destinations = slices.Concat(destinations, more)
	}
	if b.Engine == Mirror {
		b.addMirrors(job, source, destinations)
		return nil
	}
	return b.addStreams(job, source, destinations)
}

// addMirrors adds folders of directories that are copies of snapshots.
func (b *builder) addMirrors(job *engine.Job, source *volume.Source, destinations []Place) {
	h, _ := b.At(b.Source)
	job.Manifests = false // each copy has one
	options, of := b.mirrorOptions(), b.directory()
	for _, p := range destinations {
		to := b.copyTo(p, of, options)
		if d, ok := to.(*mirror.Destination); ok {
			to = mirror.Follow(d, source, h, cmp.Or(b.Copy.FullEvery, defaultFull))
		}
		job.Destinations = addOnce(job.Destinations, to)
	}
}

// addStreams adds destinations of the streams of a source.
func (b *builder) addStreams(job *engine.Job, source stream.Sender, destinations []Place) error {
	for _, p := range destinations {
		to, err := b.streamTo(p, source)
		if err != nil {
			return err
		}
		job.Destinations = addOnce(job.Destinations, to)
	}
	return nil
}

func (b *builder) volumeOptions() volume.Options {
	o := b.Subvolume
	return volume.Options{Log: b.Log, Verbose: o.Verbose, ConvertRW: o.ConvertRW, Sync: o.Sync, SkipChecks: o.SkipChecks, Stock: o.Receiver == Stock,
		Progress: b.Progress}
}

// streamTo gives a destination of send streams.
func (b *builder) streamTo(p Place, source stream.Sender) (engine.Destination, error) {
	if why := b.Absent(p); why != "" {
		return engine.Absent(p.String(), why), nil
	}
	if s, ok := p.(Store); ok {
		return b.storeTo(s, source)
	}
	command, ok := p.(Command)
	if !ok {
		h, path := b.At(p)
		o := b.volumeOptions()
		o.Limit = b.limitTo(p)
		return volume.NewDestination(h, path, source, o), nil
	}
	if b.keepAt(p) != (retention.Policy{}) {
		b.Log.Warn(fmt.Sprintf("%s: the retention of backups has no effect there: the store of a command cannot be listed", p))
	}
	return sink.NewCommand(command.Line, source, sink.Options{Log: b.Log, Progress: b.Progress, Limit: b.limitTo(p)}), nil
}

func (b *builder) keepAt(p Place) retention.Policy {
	return cmp.Or(b.To[p.String()].KeepBackups, b.KeepBackups)
}

func (b *builder) limitTo(p Place) rate.Limit { return cmp.Or(b.To[p.String()].RateLimit, b.RateLimit) }

// outstanding gives the destinations that the ledger has unfinished transfers to. That a ledger cannot be read is told by
// the run, which reads it too.
func outstanding(ctx context.Context, source *volume.Source, naming engine.Naming) []string {
	if err := source.Open(ctx); err != nil {
		return nil
	}
	defer source.Close()
	found, err := source.List(ctx, naming.Ours)
	if err != nil || found.Ledger == nil {
		return nil
	}
	return found.Ledger.Outstanding()
}

// addOnce appends a destination unless it is there.
func addOnce(all []engine.Destination, d engine.Destination) []engine.Destination {
	if slices.ContainsFunc(all, func(other engine.Destination) bool { return other.String() == d.String() }) {
		return all
	}
	return append(all, d)
}

// addCopies makes the parts for a source that is copied by rsync.
func (b *builder) addCopies(job *engine.Job) {
	for _, o := range b.idleForRsync() {
		if b.isGiven(o) {
			b.Log.Info(fmt.Sprintf("--%s has no effect: %s is copied by rsync", o.name, b.Source))
		}
	}
	_, fromDaemon := b.Source.(Daemon)
	job.Automatic = b.Engine == Automatic && !fromDaemon
	options, source := b.mirrorOptions(), b.directory()
	job.Source = source
	for _, p := range b.Destinations {
		job.Destinations = addOnce(job.Destinations, b.copyTo(p, source, options))
	}
}

// filterRules give the options of rsync.
var filterRules = map[string]func(value string) string{
	"exclude":      func(pattern string) string { return "--exclude=" + pattern },
	"exclude-from": func(file string) string { return "--exclude-from=" + file },
	"include":      func(pattern string) string { return "--include=" + pattern },
	"skip":         options.Skip,
	"skip-dir":     options.SkipDir,
}

func (b *builder) mirrorOptions() mirror.Options {
	o := b.Copy
	m := mirror.Options{Log: b.Log, Progress: b.Progress, MaxDelete: o.MaxDelete,
		Dedup: o.Dedup, MountPoint: o.MountPoint, StallTimeout: o.StallTimeout}
	for _, f := range o.Filters {
		m.Filters = append(m.Filters, filterRules[f.Rule](f.Value))
	}
	if o.Options != "" {
		m.Rsync, _ = options.Split(o.Options) // which was checked
	}
	return m
}

// directory gives the source of copies.
func (b *builder) directory() *mirror.Source {
	words, _ := options.Split(b.Copy.Options) // which was checked
	options := mirror.SourceOptions{Log: b.Log, Marker: b.Copy.Marker, Frozen: b.Copy.Frozen, Incomplete: b.Copy.Incomplete,
		MultiFS: b.Copy.MultiFS || len(words) > 0 && !options.OneFileSystem(words)}
	if d, ok := b.Source.(Daemon); ok {
		options.Tunnel = b.tunnel(d)
		return mirror.NewModule(d.URL, options)
	}
	h, path := b.At(b.Source)
	return mirror.NewSource(h, path, options)
}

// copyTo gives a destination of copies.
func (b *builder) copyTo(p Place, source *mirror.Source, o mirror.Options) engine.Destination {
	if why := b.Absent(p); why != "" {
		return engine.Absent(p.String(), why)
	}
	o.Limit, o.MountPoint = b.limitTo(p), cmp.Or(b.To[p.String()].MountPoint, o.MountPoint)
	d, ok := p.(Daemon)
	if !ok {
		h, path := b.At(p)
		return mirror.NewDestination(h, path, source, o)
	}
	if b.keepAt(p) != (retention.Policy{}) {
		b.Log.Warn(fmt.Sprintf("%s: the retention of backups has no effect there: "+
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
