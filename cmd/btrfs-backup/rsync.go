package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/time/rate"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/mirror"
	"btrfs-backup/retention"
	"btrfs-backup/transport/ssh"
)

// rsyncOptions are for sources that are copied by rsync.
type rsyncOptions struct {
	engine         string
	arguments      string
	filters        []string // options of rsync, in the order in which they were given
	multiFS        bool
	marker         string
	maxDelete      int
	mountPoint     string
	newDestination bool
	dedup          bool
	noDedup        bool
	tunnel         string
}

const rsyncTitle = "Directories that are not btrfs subvolumes"

func (o *rsyncOptions) define(f *pflag.FlagSet) {
	filter := func(name, usage string, form func(string) string) {
		f.Var(&filterFlag{&o.filters, form}, name, usage)
	}
	f.StringVar(&o.engine, "engine", "auto", "`HOW`: auto, btrfs or rsync")
	filter("exclude", "leave out what matches `PATTERN`, as rsync", option("--exclude"))
	filter("exclude-from", "read patterns from `FILE`", option("--exclude-from"))
	filter("include", "but not `PATTERN`; the first match counts", option("--include"))
	filter("skip-dir", "leave out all directories called `NAME`", mirror.SkipDir)
	filter("skip", "leave out all names that match `GLOB`", mirror.Skip)
	f.BoolVar(&o.multiFS, "multi-fs", false, "copy what is mounted in SOURCE, too")
	f.StringVar(&o.arguments, "rsync-options", "", "`OPTIONS` of rsync in place of the usual")
	f.StringVar(&o.marker, "marker", "", "refuse a SOURCE that does not hold `FILE`")
	f.IntVar(&o.maxDelete, "max-delete", 50, "let `PERCENT` of the files be gone")
	f.StringVar(&o.mountPoint, "mount-point", "", "refuse a DEST that is not on the disk at `DIR`")
	f.BoolVar(&o.newDestination, "new-destination", false, "begin anew where a used DEST is empty")
	f.BoolVar(&o.dedup, "dedup", false, "store equal contents once; default but on btrfs")
	f.BoolVar(&o.noDedup, "no-dedup", false, "do not look for equal contents")
	f.StringVar(&o.tunnel, "tunnel", "", "reach an rsync daemon by SSH to `HOST`")
}

// option makes a value one of rsync's options.
func option(name string) func(string) string {
	return func(value string) string { return name + "=" + value }
}

// filterFlag appends to options of rsync whose order matters.
type filterFlag struct {
	all  *[]string
	form func(string) string
}

func (f *filterFlag) Type() string   { return "filter" }
func (f *filterFlag) String() string { return "" }
func (f *filterFlag) Set(value string) error {
	*f.all = append(*f.all, f.form(value))
	return nil
}

// newRsyncTopic explains the options that the main help leaves out.
func newRsyncTopic() *cobra.Command {
	c := &cobra.Command{
		Use:         "rsync",
		Short:       "Copy directories that are not btrfs subvolumes",
		Annotations: map[string]string{usageAnnotation: "btrfs-backup [options] SOURCE DEST..."},
		Example: `  btrfs-backup /etc /mnt/usb/etc                      any directory
  btrfs-backup -n 60 --skip-dir .cache /home nas:/backup/home
  btrfs-backup --engine rsync /home rsync://nas/home  to an rsync daemon
  btrfs-backup --tunnel me@nas /etc nas::etc          by SSH`,
		Long: `A SOURCE that is not a btrfs subvolume is copied by rsync to each DEST: on btrfs
into a snapshot of the backup before it, elsewhere into a directory in which
unchanged files are hard links. SOURCE may also be HOST::MODULE/DIR or
rsync://HOST/MODULE/DIR of an rsync daemon, and so may DEST; the daemon's
machine makes a backup of what arrived by "btrfs-backup freeze".`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{msg: "rsync is not a command", hint: "use: btrfs-backup --engine rsync SOURCE DEST"}
			}
			return nil
		},
		DisableFlagsInUseLine: true,
		RunE:                  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.Flags().SortFlags = false
	c.Flags().AddFlagSet(rsyncFlags())
	return c
}

func (o *rsyncOptions) check() error {
	switch {
	case !slices.Contains([]string{"auto", "btrfs", "rsync"}, o.engine):
		return &usageError{msg: fmt.Sprintf("--engine %s is unknown", o.engine), hint: "use auto, btrfs or rsync"}
	case o.maxDelete < 0 || o.maxDelete > 100:
		return &usageError{msg: fmt.Sprintf("--max-delete %d is not a percentage", o.maxDelete), hint: "use 0 to 100; 100 allows all"}
	case o.dedup && o.noDedup:
		return &usageError{msg: "--dedup and --no-dedup contradict each other", hint: "use one of them"}
	case filepath.IsAbs(o.marker):
		return &usageError{msg: "--marker " + o.marker + " is absolute", hint: "name a file in SOURCE, from there"}
	}
	return nil
}

// usesRsync tells whether the source is to be copied by rsync, since it is asked for, or since it is not a subvolume.
func (o *backupOptions) usesRsync(ctx context.Context, f *pflag.FlagSet, places []place, hosts *hosts) (bool, error) {
	from := places[0]
	switch {
	case o.rsync.engine == "rsync" || from.isModule() && o.rsync.engine == "auto":
		return true, nil
	case from.command != "":
		return false, nil
	}
	if o.rsync.engine == "auto" && !o.skipChecks && !isSubvolume(ctx, hosts.of(from), from.path) {
		return true, nil
	}
	needsRsync := ""
	rsyncFlags().VisitAll(func(flag *pflag.Flag) {
		if f.Changed(flag.Name) && flag.Name != "engine" {
			needsRsync = "--" + flag.Name
		}
	})
	if slices.ContainsFunc(places, place.isModule) {
		needsRsync = "an rsync daemon"
	}
	if needsRsync != "" {
		return false, &usageError{msg: needsRsync + " is for sources that are copied by rsync, and this one is a btrfs subvolume",
			hint: "--engine rsync copies the subvolume as it stands, without a snapshot"}
	}
	return false, nil
}

func rsyncFlags() *pflag.FlagSet {
	f := newFlagSet()
	new(rsyncOptions).define(f)
	return f
}

// isSubvolume tells false only of a directory that can be opened and is none: the rest is for the engine to tell.
func isSubvolume(ctx context.Context, h host.Host, path string) bool {
	dir, err := h.Open(ctx, path)
	if err != nil {
		return true
	}
	defer dir.Close()
	return dir.Status().Btrfs && dir.Status().IsRoot
}

// checkForRsync refuses options that mean nothing for a source that is copied by rsync.
func (o *backupOptions) checkForRsync(f *pflag.FlagSet, source string, places []place, log *slog.Logger) error {
	if len(places) == 1 {
		return &usageError{msg: "DEST is missing: no snapshot is taken of " + source + ", which is to be copied by rsync",
			hint: "name the folder that it is to be copied to"}
	}
	for _, name := range []string{"no-snapshot", "no-transfer", "locked-dests"} {
		if f.Changed(name) {
			return &usageError{msg: "--" + name + " is about snapshots, and there are none of a source that is copied by rsync",
				hint: "leave it out"}
		}
	}
	if o.rsync.tunnel != "" && !slices.ContainsFunc(places, place.isModule) {
		return &usageError{msg: "--tunnel is for an rsync daemon, and no place is one", hint: "name it as HOST::MODULE"}
	}
	for _, name := range []string{"num-snapshots", "snapshot-folder", "no-incremental", "remove-locks", "latest-only",
		"sync", "convert-rw", "compress", "channels"} {
		if f.Changed(name) {
			log.Warn("--" + name + " has nothing to do: " + source + " is copied by rsync")
		}
	}
	return nil
}

// copyJob makes the job out of options and places.
func (o *backupOptions) copyJob(texts []string, places []place, hosts *hosts, settings engine.Settings) (engine.CopyJob, error) {
	job := engine.CopyJob{Naming: engine.Naming{Prefix: o.prefix}, Keep: retention.Policy{Last: max(o.numBackups, 0)},
		Automatic: o.rsync.engine == "auto" && !places[0].isModule(), Settings: settings}
	options, err := o.mirrorOptions(settings)
	if err != nil {
		return job, err
	}
	source, err := o.tree(texts[0], places[0], hosts, settings.Log)
	if err != nil {
		return job, err
	}
	job.Tree = source
	for i, p := range places[1:] {
		m, err := o.mirror(texts[i+1], p, hosts, source, options)
		if err != nil {
			return job, err
		}
		same := func(other engine.Mirror) bool { return other.String() == m.String() }
		if !slices.ContainsFunc(job.Mirrors, same) {
			job.Mirrors = append(job.Mirrors, m)
		}
	}
	return job, nil
}

func (o *backupOptions) mirrorOptions(s engine.Settings) (mirror.Options, error) {
	m := mirror.Options{Log: s.Log, Limit: rate.Limit(o.rateLimit), Filters: o.rsync.filters, MultiFS: o.rsync.multiFS,
		MaxDelete: o.rsync.maxDelete, MountPoint: o.rsync.mountPoint, NewDestination: o.rsync.newDestination, State: stateDir()}
	if !o.noProgress && !o.dryRun {
		m.Progress = s.Progress
	}
	if o.rsync.dedup || o.rsync.noDedup {
		m.Dedup = &o.rsync.dedup
	}
	if o.rsync.arguments == "" {
		return m, nil
	}
	words, err := mirror.SplitOptions(o.rsync.arguments)
	if err != nil {
		return m, &usageError{msg: fmt.Sprintf("--rsync-options %q: %v", o.rsync.arguments, err), hint: "quote it as for a shell"}
	}
	m.Rsync = words
	return m, nil
}

// stateDir is where this machine remembers what it saw of destinations. $XDG_STATE_HOME counts for root, too.
func stateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "btrfs-backup")
	}
	if home, err := os.UserHomeDir(); err == nil && os.Geteuid() != 0 {
		return filepath.Join(home, ".local/state/btrfs-backup")
	}
	return "/var/lib/btrfs-backup"
}

func (o *backupOptions) tree(text string, p place, hosts *hosts, log *slog.Logger) (*mirror.Source, error) {
	options := mirror.SourceOptions{Log: log, Marker: o.rsync.marker}
	switch {
	case p.command != "":
		return nil, &usageError{msg: text + ": a command cannot be a source", hint: "name a directory"}
	case p.module != "":
		var err error
		options.Tunnel, err = o.rsync.through(p.module, hosts)
		return mirror.NewModule(p.module, options), err
	}
	return mirror.NewSource(hosts.of(p), p.path, options), nil
}

func (o *backupOptions) mirror(text string, p place, hosts *hosts, source *mirror.Source, options mirror.Options) (engine.Mirror, error) {
	switch {
	case p.command != "":
		return nil, &usageError{msg: text + ": a command takes send streams, which only btrfs subvolumes have",
			hint: "copy to a folder on btrfs first, and back that up"}
	case p.module != "":
		if o.numBackups > 0 {
			options.Log.Warn(text + ": --num-backups does nothing there: the daemon's machine keeps as many as its `btrfs-backup freeze` says")
		}
		tunnel, err := o.rsync.through(p.module, hosts)
		if err != nil {
			return nil, err
		}
		return mirror.NewDaemon(p.module, tunnel, source, options), nil
	}
	return mirror.NewFolder(hosts.of(p), p.path, source, options), nil
}

// through gives the tunnel to the daemon of a module, nil if none is asked for.
func (o *rsyncOptions) through(module string, hosts *hosts) (mirror.Tunnel, error) {
	if o.tunnel == "" {
		return nil, nil
	}
	target, err := parseTarget("--tunnel "+o.tunnel, o.tunnel)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (*host.RsyncLink, error) {
		return host.TunnelTo(ctx, hosts.tunnel(target), tunnelEnd(module, target))
	}, nil
}

// tunnelEnd is where the daemon is found from the machine at the end of the tunnel: on that machine, unless another one is named.
func tunnelEnd(module string, through ssh.Target) string {
	machine, _, _ := strings.Cut(strings.TrimPrefix(module, rsyncScheme), "/")
	daemon, err := parseTarget(module, machine)
	if err != nil || daemon.Host == through.Host {
		daemon.Host = "localhost"
	}
	return net.JoinHostPort(daemon.Host, strconv.Itoa(cmp.Or(daemon.Port, rsyncPort)))
}
