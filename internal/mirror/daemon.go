package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/hint"
	"btrfs-backup/internal/rsh"
	"btrfs-backup/internal/tree"
	"btrfs-backup/lock"
)

// Daemon is an engine.Mirror: a directory of an rsync daemon, which holds the latest copy only. What the daemon's machine makes
// of it is not known here.
type Daemon struct {
	url    string // rsync://[user@]host[:port]/module[/directory]
	tunnel Tunnel
	source *Source
	Options
}

var (
	_ engine.Mirror    = (*Daemon)(nil)
	_ engine.WriteOnly = (*Daemon)(nil)
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

// WriteOnly marks it as an engine.WriteOnly.
func (d *Daemon) WriteOnly() {}

// Open refuses what rsync cannot do; nothing is opened.
func (d *Daemon) Open(context.Context, bool) error {
	if !d.source.isLocal() {
		return hint.New(fmt.Errorf("destination %s: rsync cannot copy from another machine to another one", d),
			"run btrfs-backup on the machine of the source")

	}
	return nil
}

// Lock does nothing: the daemon keeps runs apart if it has `max connections = 1`.
func (d *Daemon) Lock(context.Context, func(*lock.HeldError)) (release func() error, err error) {
	return func() error { return nil }, nil
}

// List gives nothing.
func (d *Daemon) List(context.Context) (engine.Copies, error) { return engine.Copies{}, nil }

// Link does nothing.
func (d *Daemon) Link(context.Context, string, string) error { return nil }

// Delete refuses.
func (d *Daemon) Delete(context.Context, []string) ([]string, error) {
	return nil, fmt.Errorf("%s: nothing can be deleted there", d)
}

// Save makes the directory like the source.
func (d *Daemon) Save(ctx context.Context, c engine.Copy) (engine.Copied, error) {
	link, err := d.tunnel.open(ctx)
	if err != nil {
		return engine.Copied{}, err
	}
	defer link.Close()
	copying := copying{Options: d.Options, source: d.source, link: link, reach: append([]string{"--no-motd"}, link.Options...),
		to: d.argument(), dest: d.String(), name: c.Name}
	if c.DryRun {
		return copying.rehearse(ctx)
	}
	copying.own = filling(tree.Work{})
	if d.Rsync == nil {
		copying.own = append(copying.own, sparse, nanoseconds) // at worst, unchanged files are read there to no purpose
	}
	told, missing, err := copying.run(ctx)
	if err != nil && hint.Of(err) == "" && !errors.Is(err, context.Canceled) {
		err = hint.New(err, "what was copied is kept there, and the next run goes on with it")
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
