package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

// Save makes a backup of the source. After a failure, the partial copy stays for the next run to resume.
func (d *Destination) Save(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	d.Log.Info(fmt.Sprintf("%s: copying %s to %s", d, d.source, t.Snapshot.Name))
	r, err := d.copy(ctx, t, d.save)
	if errors.Is(err, tree.ErrUnchanged) {
		d.Log.Info(fmt.Sprintf("%s: nothing changed since %s: no backup is made", d, t.ParentName()))
		return engine.Result{Unchanged: true}, nil
	}
	return worded(d.source, d, t.Snapshot.Name, r, err)
}

// Rehearse lets rsync tell what it would copy into the backup that the transfer builds upon.
func (d *Destination) Rehearse(ctx context.Context, t engine.Transfer) (engine.Result, error) {
	r, err := d.copy(ctx, t, func(ctx context.Context, t engine.Transfer, c copier) (engine.Result, error) {
		base := cmp.Or(t.ParentName(), t.Snapshot.Name) // which is missing, and so empty to rsync
		c.to = d.argument(c.link, d.dir.Status().Path+"/"+base)
		c.mayGo = func(files int64) error { return tree.CheckGone(base, files, d.recorded(base).Files, d.MaxDelete) }
		return c.rehearse(ctx)
	})
	return worded(d.source, d, t.Snapshot.Name, r, err)
}

// copy reaches the other machine, if there is one, and lets do copy.
func (d *Destination) copy(ctx context.Context, t engine.Transfer,
	do func(context.Context, engine.Transfer, copier) (engine.Result, error),
) (engine.Result, error) {
	link, reach, err := d.link(ctx)
	if err != nil {
		return engine.Result{}, err
	}
	defer link.Close()
	if d.within != nil {
		d.Log.Info(fmt.Sprintf("%s lies in the source, and is not copied", d))
	}
	return do(ctx, t, copier{Options: d.Options, source: d.source, link: link, reach: reach, first: d.within,
		dest: d.String(), name: t.Snapshot.Name, atMost: d.recorded(t.ParentName()).Bytes})
}

func (d *Destination) save(ctx context.Context, t engine.Transfer, c copier) (engine.Result, error) {
	order := tree.Order{Name: t.Snapshot.Name, Base: t.ParentName(), Origin: d.source.origin, OnlyChanges: d.source.Frozen}
	if d.source.Frozen {
		order.Snapshot = d.source.path
	}
	filled, err := d.fillAnyhow(ctx, order, c, nil)
	copied, _, err := d.conclude(ctx, t, order, c, filled, err)
	return copied, err
}

// fillAnyhow makes a partial copy also where files have many names.
func (d *Destination) fillAnyhow(ctx context.Context, order tree.Order, c copier, g *tree.Growth) (filling, error) {
	filled, err := d.fill(ctx, order, c, g)
	if errors.Is(err, unix.EMLINK) && filled.work.LinkDest != "" {
		d.Log.Info(fmt.Sprintf("%s: the backups have as many names of a file as the filesystem allows: it is copied anew", d))
		order.Full = true
		filled, err = d.fill(ctx, order, c, nil)
	}
	if errors.Is(err, unix.EMLINK) {
		d.Log.Info(fmt.Sprintf("%s: a file has more names than the filesystem allows: copying each name as a file", d))
		c.own = append(c.own, "--no-hard-links")
		filled, err = d.fill(ctx, order, c, nil)
		filled.missing = filled.missing.with("hard links: a file has more names than the filesystem allows, so each name became a file")
	}
	return filled, err
}

// conclude makes a backup of a partial copy, unless filling it failed.
func (d *Destination) conclude(ctx context.Context, t engine.Transfer, order tree.Order, c copier, filled filling, err error) (
	copied engine.Result, made tree.Record, _ error,
) {
	if filled.told == nil { // nothing was begun
		return copied, made, d.explained(err)
	}
	missing := d.source.missing(filled.missing)
	if err == nil {
		missing, made, err = d.finish(ctx, t, order, filled, missing)
	}
	copied = filled.told.copied(missing, c.reach != nil)
	if err != nil {
		copied, err = d.savePartial(ctx, order.Name, copied, err)
	}
	return copied, made, err
}

// A filling is a partial copy to which all was copied that could be.
type filling struct {
	work    tree.Work
	options []string // of rsync, for that
	grew    bool     // out of its base
	told    *output  // nil if there is no partial copy
	missing *IncompleteError
	began   time.Time // see tree.Original
	of      tree.Version
}

// fill makes a partial copy, or goes on with one. It grows, if it can.
func (d *Destination) fill(ctx context.Context, order tree.Order, c copier, g *tree.Growth) (f filling, err error) {
	if f.work, err = d.dir.BeginTree(ctx, order); err != nil {
		return f, err
	}
	if f.told = new(output); f.work.Filled {
		return f, nil
	}
	if f.work.Resumed && !order.Full {
		d.Log.Info(fmt.Sprintf("%s: resuming the partial copy of an interrupted run", d))
	}
	f.options = fillingOptions(f.work)
	if d.Rsync == nil {
		f.options = append(append(f.options, d.faithful(f.work)...), itemize)
	}
	// with the dot, rsync makes no such directory where it is gone, since its disk was unmounted meanwhile
	c.own, c.to = append(slices.Clone(f.options), c.own...), d.argument(c.link, f.work.Path+"/.")
	if f.work.Resumed && !(f.work.Subvolume && order.Base != "") {
		// without a backup below it, all that is in the directory and not in the source was left by the interrupted run
		c.own = append(c.own, "--delete", "--delete-excluded")
	}
	if !f.work.Nanoseconds && order.Base == "" {
		d.Log.Warn(fmt.Sprintf("%s: the filesystem keeps no nanoseconds of times", d))
	}
	f.began = tree.CopyingBegins()
	if g != nil && !f.work.Resumed {
		if err := d.grow(ctx, g, &f, c); f.grew || err != nil {
			return f, err
		}
	}
	unfollow := d.follow(ctx, order.Name, f.work)
	f.told, f.missing, err = c.run(ctx)
	unfollow()
	if err == nil {
		err = d.repair(ctx, c, f.work, f.told.retouched)
	}
	return f, err
}

// follow has the files of a first copy read while they are still in memory. What it gives ends that.
func (d *Destination) follow(ctx context.Context, name string, w tree.Work) (end func()) {
	if w.InPlace || w.LinkDest != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() {
		if err := d.dir.FollowTree(ctx, name); err != nil && ctx.Err() == nil {
			d.Log.Debug(fmt.Sprintf("%s: not reading files while they are copied, but afterwards: %v", d, err))
		}
	})
	return func() {
		cancel()
		following.Wait()
	}
}

// faithful are the options with which the default ones copy everything to what the folder lies on.
func (d *Destination) faithful(w tree.Work) (options []string) {
	if d.dir.Status().Privileged {
		rules := slices.Clone(asRoot)
		if !w.Subvolume {
			rules = append(rules, withoutProperties)
		}
		options = append(options, rules...)
		if !d.isLocal() { // rsync does not tell the other side its rules for attributes
			for _, option := range rules {
				options = append(options, "--remote-option="+option)
			}
		}
	}
	if !w.InPlace {
		options = append(options, sparse)
	}
	if w.Nanoseconds {
		options = append(options, nanoseconds)
	}
	return options
}

// finish makes a backup of the partial copy, and adds what it turns out to lack to what is missing.
func (d *Destination) finish(ctx context.Context, t engine.Transfer, order tree.Order, f filling, missing *IncompleteError) (
	_ *IncompleteError, record tree.Record, err error,
) {
	name, work, atMost := order.Name, f.work, f.told.bytes
	r := tree.Result{Name: name, Base: order.Base, Origin: order.Origin, OnlyChanges: order.OnlyChanges, Started: t.Started, Of: f.of, Grew: f.grew,
		InPlace: work.InPlace, MaxDelete: d.MaxDelete, Dedup: !work.Subvolume}
	if d.Dedup != nil {
		r.Dedup = *d.Dedup
	}
	if missing != nil {
		r.Incomplete, r.Missing = missing.Messages, missing.Count
	}
	if d.Rsync == nil && d.isLocal() && d.source.isLocal() && !work.Filled {
		r.Original = tree.Original{Path: d.source.path, Began: f.began, Seconds: !work.Nanoseconds}
	}
	d.Log.Info(fmt.Sprintf("%s: %s is copied, finishing it", d, name))
	read := rereading{began: time.Now(), show: func() *progress.Transfer {
		return d.show(ctx, fmt.Sprintf("reading %s: %s", d, name), atMost)
	}}
	record, err = d.dir.FinishTree(ctx, r, read.add)
	read.done()
	if err != nil {
		return missing, record, d.explained(err)
	}
	if record.Missing > r.Missing {
		missing = &IncompleteError{record.Incomplete, record.Missing}
	}
	d.Log.Debug(fmt.Sprintf("%s: %s has %d files with %s, of which %s were there already; %s were read in the end, in %s", d, name,
		record.Files, progress.Bytes(record.Bytes), progress.Bytes(record.Shared), progress.Bytes(read.bytes),
		time.Since(read.began).Round(time.Millisecond)))
	return missing, record, nil
}

// A rereading counts the bytes that are read of the new backup. It is shown if it takes more than a moment.
type rereading struct {
	began time.Time
	show  func() *progress.Transfer
	shown *progress.Transfer // nil: not yet
	bytes int64
}

// aMoment is how long it takes.
const aMoment = time.Second

func (r *rereading) add(n int64) {
	r.bytes += n
	switch {
	case r.shown != nil:
		r.shown.Set(r.bytes)
	case time.Since(r.began) > aMoment:
		r.shown = r.show()
		r.shown.Resume(r.bytes)
	}
}

func (r *rereading) done() {
	if r.shown != nil {
		r.shown.Vanish()
	}
}

// saveTime is how long it may take to put a partial copy on disk.
const saveTime = 20 * time.Second

// savePartial puts the partial copy on disk after a failure, also when the context has ended, and tells so in the hint. A refused
// backup leaves no partial copy.
func (d *Destination) savePartial(ctx context.Context, name string, r engine.Result, failure error) (engine.Result, error) {
	if refused := new(tree.TooManyGoneError); errors.As(failure, &refused) || errors.Is(failure, tree.ErrUnchanged) {
		return r, failure
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancel()
	forward := hint.Of(failure)
	if errors.Is(failure, unix.ENOSPC) || errors.Is(failure, unix.EDQUOT) {
		forward += ", or delete the partial copy " + d.String() + "/" + btrfs.Incoming(name)
	}
	if err := d.dir.SavePartialTree(ctx, name); err != nil {
		d.Log.Warn(fmt.Sprintf("%s: the partial copy of %s may be lost: %v", d, name, err))
		return r, hint.New(failure, forward)
	}
	r.Kept = true
	if forward != "" {
		forward += "; "
	}
	return r, hint.New(failure, forward+"the partial copy stays, and the next run resumes it")
}
