package mirror

import (
	"context"
	"fmt"
	"os"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/rsh"
)

// A copier makes one copy of a source by rsync.
type copier struct {
	Options
	source *Source
	link   *rsh.Link // to the other machine
	reach  []string  // rsync's options for that
	first  []string  // filters before all others
	own    []string  // options that depend on the destination
	to     string    // as rsync takes it, with a slash at the end
	dest   string    // in messages
	name   string    // of the backup, in messages
	atMost int64     // bytes, until more is known

	list      *os.File          // of the files that are to be copied, see listOf; nil: all
	rootAlone bool              // is to be copied, and nothing in it
	tells     func(line string) // is told what rsync tells; may be nil

	mayGo func(files int64) error // refuses a rehearsal after which so many files are gone; nil: none
}

// run copies, and looks at the source again: one that goes away meanwhile looks to rsync as if its files had been deleted.
func (c *copier) run(ctx context.Context) (told *output, missing *IncompleteError, err error) {
	borders, unknown := c.source.borders()
	if unknown != nil {
		c.Log.Debug(fmt.Sprintf("%s: looking for what is mounted in it: %v", c.source, unknown))
	}
	args := c.arguments(c.source, append(borders, c.first...), c.own)
	switch {
	case c.list != nil: // what differs is known, whatever sizes and times say
		args = append(listed(args), "--ignore-times")
	case c.rootAlone:
		args = append(withoutDelete(args), "--exclude=*")
	}
	args = append(args, c.reach...)
	args = append(args, "--", c.source.argument(c.link)+"/", c.to)
	told = &output{shown: c.show(ctx, c.dest+": "+c.name, c.atMost)}
	defer func() { told.shown.Done(err) }()
	rsync := program{log: c.Log, args: args, link: c.link, line: told.line, source: c.source, dest: c.dest, stdin: c.list}
	if c.tells != nil {
		rsync.line = c.tells
	}
	if c.reach == nil {
		rsync.stall = c.StallTimeout
	}
	missing, err = runRsync(ctx, rsync)
	if err != nil {
		return told, nil, err
	}
	if err := c.source.check(ctx); err != nil {
		return told, nil, fmt.Errorf("after the copy: %w", err)
	}
	switch {
	case c.Rsync == nil: // nothing but a device for which rsync does not even try
		for _, name := range told.skipped {
			missing = missing.with(fmt.Sprintf("making the device %q: Operation not permitted (1)", name))
		}
	case len(told.skipped) > 0:
		c.Log.Info(fmt.Sprintf("%s: links and special files are not copied without -l and -D in --rsync-options: %s", c.source, engine.Few(told.skipped)))
	}
	return told, missing, nil
}

// rehearse logs what a copy would do. Nothing is written.
func (c *copier) rehearse(ctx context.Context) (engine.Result, error) {
	c.own = append(c.own, "--dry-run")
	told, missing, err := c.run(ctx)
	if err != nil {
		return engine.Result{}, err
	}
	c.Log.Info(fmt.Sprintf("%s: would copy %d files with %s, and delete %d", c.dest, told.files, progress.Bytes(told.bytes),
		told.deleted))
	if c.mayGo != nil {
		if err := c.mayGo(told.gone); err != nil {
			return engine.Result{}, err
		}
	}
	return told.copied(missing, false), nil
}

// copied sums a copy up.
func (o *output) copied(missing *IncompleteError, remote bool) engine.Result {
	copied := engine.Result{Bytes: o.bytes}
	if remote {
		copied.Wire = o.wire
	}
	if missing != nil {
		copied.Incomplete = missing
	}
	return copied
}

// worded names source and destination in an error, and in the reason why a backup is incomplete.
func worded(s *Source, to fmt.Stringer, name string, r engine.Result, err error) (engine.Result, error) {
	if err != nil {
		err = fmt.Errorf("copying %s to %s: %w", s, to, err)
	}
	if r.Incomplete != nil {
		r.Incomplete = fmt.Errorf("%s is incomplete at %s: %w", name, to, r.Incomplete)
	}
	return r, err
}
