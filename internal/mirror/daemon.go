package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/rsh"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// Daemon is an engine.Destination: a directory of an rsync daemon, which holds the latest copy only. What the daemon's machine
// makes of it is not known here. The daemon keeps runs apart if it has `max connections = 1`.
type Daemon struct {
	url    string // rsync://[user@]host[:port]/module[/directory]
	tunnel Tunnel
	source *Source
	Options
}

var (
	_ engine.Destination = (*Daemon)(nil)
	_ engine.Opener      = (*Daemon)(nil)
	_ engine.Rehearser   = (*Daemon)(nil)
)

// A Tunnel reaches a daemon through another machine; nil reaches it directly.
type Tunnel func(context.Context) (*rsh.Link, error)

func (t Tunnel) open(ctx context.Context) (*rsh.Link, error) {
	if t == nil {
		return &rsh.Link{}, nil
	}
	return t(ctx)
}

// NewDaemon names a directory of an rsync daemon, rsync://[user@]host[:port]/module[/directory].
func NewDaemon(url string, tunnel Tunnel, s *Source, o Options) *Daemon {
	return &Daemon{url: strings.TrimRight(url, "/"), tunnel: tunnel, source: s, Options: o}
}

func (d *Daemon) String() string { return engine.PlaceName(d.url) }

// Open refuses what rsync cannot do; nothing is opened.
func (d *Daemon) Open(context.Context) error {
	if !d.source.isLocal() {
		return fmt.Errorf("destination %s: %w", d, errTwoOthers)
	}
	return nil
}

// Create is never needed: rsync makes the directory.
func (d *Daemon) Create(context.Context) error { return nil }

// Save makes the directory like the source.
func (d *Daemon) Save(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	d.Log.Info(fmt.Sprintf("%s: copying %s to %s", d, d.source, t.Snapshot.Name))
	r, err := d.copy(ctx, t, (*copier).fill)
	return worded(d.source, d, t.Snapshot.Name, r, err)
}

// Rehearse tells what Save would do.
func (d *Daemon) Rehearse(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	r, err := d.copy(ctx, t, (*copier).rehearse)
	return worded(d.source, d, t.Snapshot.Name, r, err)
}

func (d *Daemon) copy(ctx context.Context, t engine.Transfer, do func(*copier, context.Context) (engine.Result, error)) (engine.Result, error) {
	link, err := d.tunnel.open(ctx)
	if err != nil {
		return engine.Result{}, err
	}
	defer link.Close()
	return do(&copier{Options: d.Options, source: d.source, link: link, reach: append([]string{"--no-motd"}, link.Options...),
		to: d.argument(), dest: d.String(), name: t.Snapshot.Name}, ctx)
}

// fill copies into a directory of a daemon.
func (c *copier) fill(ctx context.Context) (engine.Result, error) {
	c.own = fillingOptions(tree.Work{})
	if c.Rsync == nil {
		c.own = append(c.own, sparse, nanoseconds) // at worst, unchanged files are read there to no purpose
	}
	told, missing, err := c.run(ctx)
	if err != nil && hint.Of(err) == "" && !errors.Is(err, context.Canceled) {
		err = hint.New(err, "the partial copy stays there, and the next run resumes it")
	}
	return told.copied(missing, true), err
}

// argument names the directory as rsync takes it.
func (d *Daemon) argument() string {
	daemon, rest := cutDaemon(d.url)
	module, dir, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	if dir != "" {
		module += "/" + undashed(dir)
	}
	return daemon + "/" + module + "/"
}
